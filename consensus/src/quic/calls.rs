//! The calls of this peer to another one on one lane: which wait for their turn, which for an answer. It decides only;
//! who writes and reads is in [`super::peer`].

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::frame::Batch;
use crate::transport::CALLS_MAX;

/// Why there will be no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// The other cannot be reached.
    Unreachable,
    /// This end is closed.
    Closed,
}

type Answer = Result<Bytes, Gone>;

/// A call that was begun and not yet answered.
#[derive(Debug)]
struct Call {
    /// Until it is sent.
    message: Option<Bytes>,
    answer: oneshot::Sender<Answer>,
}

/// All of them, by their numbers, which are in the order in which they were begun.
#[derive(Debug, Default)]
pub(super) struct Calls {
    last: u64,
    open: BTreeMap<u64, Call>,
    /// Those not sent.
    waiting: BTreeSet<u64>,
    sent: usize,
    closed: bool,
}

impl Calls {
    /// Begins one. `None`: this end is closed.
    pub(super) fn begin(&mut self, message: Bytes) -> Option<(u64, oneshot::Receiver<Answer>)> {
        if self.closed {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        self.last += 1;
        self.open.insert(self.last, Call { message: Some(message), answer });
        self.waiting.insert(self.last);
        Some((self.last, answered))
    }

    /// Takes what may be sent now, in order.
    pub(super) fn send(&mut self, batch: &mut Batch) {
        while self.sent < CALLS_MAX && !batch.is_full() {
            let Some(number) = self.waiting.pop_first() else { return };
            let Some(message) = self.open.get_mut(&number).and_then(|call| call.message.take()) else { continue };
            self.sent += 1;
            batch.push(number, message);
        }
    }

    /// Whether there is anything to send, now or when an answer came.
    pub(super) fn any_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// An answer came. Whether one that waits may go now.
    pub(super) fn answered(&mut self, number: u64, answer: Bytes) -> bool {
        // Nobody is asked whether he still listens. An answer to what was not asked, or asked by nobody any more, or
        // not yet sent, goes nowhere.
        if self.open.get(&number).is_none_or(|call| call.message.is_some()) {
            return false;
        }
        if let Some(call) = self.open.remove(&number) {
            self.sent -= 1;
            let _gone_by_now = call.answer.send(Ok(answer));
        }
        self.sent + 1 == CALLS_MAX && !self.waiting.is_empty()
    }

    /// Nobody waits for it any more. Whether one that waits may go now.
    pub(super) fn forget(&mut self, number: u64) -> bool {
        if self.open.remove(&number).is_none() || self.waiting.remove(&number) {
            return false;
        }
        self.sent -= 1;
        self.sent + 1 == CALLS_MAX && !self.waiting.is_empty()
    }

    /// What was sent will not be answered.
    pub(super) fn fail_sent(&mut self, why: Gone) {
        self.sent = 0;
        for (_, call) in self.open.extract_if(.., |_, call| call.message.is_none()) {
            let _gone_by_now = call.answer.send(Err(why));
        }
    }

    /// Nothing will be answered.
    pub(super) fn fail_all(&mut self, why: Gone) {
        self.sent = 0;
        self.waiting.clear();
        for (_, call) in std::mem::take(&mut self.open) {
            let _gone_by_now = call.answer.send(Err(why));
        }
    }

    /// There will be no more.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.fail_all(Gone::Closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(calls: &mut Calls, count: usize) -> Vec<oneshot::Receiver<Answer>> {
        (0..count).map(|_| calls.begin(Bytes::from_static(b"x")).unwrap().1).collect()
    }

    fn send(calls: &mut Calls) -> usize {
        let mut batch = Batch::default();
        calls.send(&mut batch);
        batch.take().concat().len() / 13
    }

    #[test]
    fn so_many_at_once_and_the_next_when_one_is_done() {
        let mut calls = Calls::default();
        let _receivers = begun(&mut calls, CALLS_MAX + 2);
        assert_eq!(send(&mut calls), CALLS_MAX);
        assert_eq!(send(&mut calls), 0);
        assert!(!calls.answered(CALLS_MAX as u64 + 1, Bytes::new()), "not sent, hence no answer");
        assert!(calls.answered(7, Bytes::new()), "one may go");
        assert!(!calls.answered(7, Bytes::new()), "an answer to an answer");
        assert_eq!(send(&mut calls), 1);
        assert!(calls.forget(8));
        assert_eq!(send(&mut calls), 1);
        assert!(!calls.any_waiting());
    }

    #[test]
    fn what_is_forgotten_is_not_sent_and_takes_no_room() {
        let mut calls = Calls::default();
        let _receivers = begun(&mut calls, 3);
        calls.forget(1);
        calls.forget(3);
        assert_eq!(send(&mut calls), 1);
        for _ in 0..10 {
            let number = calls.begin(Bytes::new()).unwrap().0;
            calls.forget(number);
        }
        assert!(calls.waiting.is_empty(), "{:?}", calls.waiting);
    }

    #[test]
    fn what_was_sent_fails_alone() {
        let mut calls = Calls::default();
        let mut sent = begun(&mut calls, 1);
        assert_eq!(send(&mut calls), 1);
        let mut waits = begun(&mut calls, 1);
        calls.fail_sent(Gone::Unreachable);
        assert_eq!(sent[0].try_recv(), Ok(Err(Gone::Unreachable)));
        assert!(waits[0].try_recv().is_err());
        assert!(calls.any_waiting());
        calls.close();
        assert_eq!(waits[0].try_recv(), Ok(Err(Gone::Closed)));
        assert!(calls.begin(Bytes::new()).is_none() && calls.is_empty());
    }
}
