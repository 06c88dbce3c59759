//! What came and waits to be accepted: the most urgent lane first, each peer no more than his share.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::QuicReply;
use super::complaints::{Complaints, Kind};
use crate::limits::{INBOX_BYTES_MAX, WAITING_BYTES_MAX};
use crate::transport::{CALLS_MAX, INBOX_MAX, Incoming, Lane};

/// What one peer has waiting on one lane. Too much: he is not read until some of it was accepted.
#[derive(Debug, Default)]
pub(super) struct Share {
    messages: AtomicUsize,
    bytes: AtomicUsize,
    less: Notify,
}

impl Share {
    fn is_full(&self) -> bool {
        self.messages.load(Ordering::SeqCst) >= CALLS_MAX || self.bytes.load(Ordering::SeqCst) >= WAITING_BYTES_MAX
    }

    /// Waits until there is room. One waits at a time. Cancel safe.
    pub(super) async fn room(&self) {
        while self.is_full() {
            self.less.notified().await;
        }
    }

    fn put(&self, bytes: usize) {
        self.messages.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    fn take(&self, bytes: usize) {
        let full = self.is_full();
        self.messages.fetch_sub(1, Ordering::SeqCst);
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        if full {
            self.less.notify_one();
        }
    }
}

/// What there is to accept.
enum Look {
    Message(Incoming<QuicReply>),
    Nothing,
    Closed,
}

struct Waiting {
    incoming: Incoming<QuicReply>,
    share: Arc<Share>,
}

#[derive(Default)]
struct Queues {
    closed: bool,
    lanes: [VecDeque<Waiting>; Lane::ALL.len()],
    bytes: [usize; Lane::ALL.len()],
}

/// All that waits.
#[derive(Default)]
pub(super) struct Inbox {
    queues: Mutex<Queues>,
    /// There is something, or never will be.
    arrived: Notify,
}

impl Inbox {
    /// The queues are whole at every moment at which the lock is not held.
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lost, and complained about, if there is too much already.
    pub(super) fn put(
        &self,
        incoming: Incoming<QuicReply>,
        share: &Arc<Share>,
        from: SocketAddr,
        complaints: &Complaints,
    ) {
        let (lane, bytes) = (incoming.lane as usize, incoming.message.len());
        let mut queues = self.lock();
        if queues.closed {
            return;
        }
        if queues.lanes[lane].len() >= INBOX_MAX || queues.bytes[lane] >= INBOX_BYTES_MAX {
            drop(queues);
            complaints.note(Kind::Inbox, from, &incoming.from);
            return;
        }
        share.put(bytes);
        queues.bytes[lane] += bytes;
        queues.lanes[lane].push_back(Waiting { incoming, share: share.clone() });
        drop(queues);
        self.arrived.notify_one();
    }

    /// The next one. Cancel safe.
    pub(super) async fn accept(&self) -> Option<Incoming<QuicReply>> {
        loop {
            match self.look() {
                Look::Message(incoming) => return Some(incoming),
                Look::Closed => return None,
                // Whatever arrives after this look leaves a permit, so that the wait ends at once.
                Look::Nothing => self.arrived.notified().await,
            }
        }
    }

    fn look(&self) -> Look {
        let mut queues = self.lock();
        // Permits do not add up: whoever takes one leaves one if there is something for the next.
        if queues.closed {
            self.arrived.notify_one();
            return Look::Closed;
        }
        let Some(Waiting { incoming, share }) = queues.lanes.iter_mut().find_map(VecDeque::pop_front) else {
            return Look::Nothing;
        };
        queues.bytes[incoming.lane as usize] -= incoming.message.len();
        if queues.lanes.iter().any(|lane| !lane.is_empty()) {
            self.arrived.notify_one();
        }
        drop(queues);
        share.take(incoming.message.len());
        Look::Message(incoming)
    }

    pub(super) fn close(&self) {
        let mut queues = self.lock();
        queues.closed = true;
        let lanes = std::mem::take(&mut queues.lanes);
        drop(queues);
        // Outside of the lock: what is dropped here may have much to say.
        drop(lanes);
        self.arrived.notify_one();
    }
}
