//! One end of the network: what waits there to be accepted, and who waits there for an answer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::switch::{Packet, Request};
use super::{CALLS_MAX, Lane, Semaphore};
use crate::identity::PeerId;
use crate::transport::INBOX_MAX;

/// What the owner of an end holds of it.
#[derive(Debug)]
pub(super) struct End {
    pub(super) peer: PeerId,
    /// One peer may come back: his former ends are other lives.
    pub(super) life: u64,
    /// There is something to accept, or never will be.
    pub(super) arrived: Notify,
    permits: Mutex<Permits>,
}

#[derive(Debug, Default)]
struct Permits {
    closed: bool,
    by_way: BTreeMap<(PeerId, Lane), Arc<Semaphore>>,
}

impl End {
    pub(super) fn new(peer: PeerId, life: u64) -> Self {
        Self { peer, life, arrived: Notify::new(), permits: Mutex::default() }
    }

    /// What a call must have one of.
    pub(super) fn permits(&self, to: PeerId, lane: Lane) -> Arc<Semaphore> {
        let mut permits = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = permits.closed;
        let way = permits.by_way.entry((to, lane)).or_insert_with(|| Arc::new(Semaphore::new(CALLS_MAX)));
        if closed {
            way.close();
        }
        Arc::clone(way)
    }

    /// Ends the waiting of all who wait for their turn, and for something to accept.
    pub(super) fn close(&self) {
        let mut permits = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
        permits.closed = true;
        permits.by_way.values().for_each(|way| way.close());
        drop(permits);
        self.arrived.notify_one();
    }
}

/// What the network holds of an end that is open.
#[derive(Debug)]
pub(super) struct Station {
    pub(super) end: Arc<End>,
    /// By lane.
    inbox: [VecDeque<Request>; Lane::ALL.len()],
    /// Calls under way: to whom, and where the answer is waited for. `None` there: he is gone.
    pub(super) calls: BTreeMap<u64, Waiting>,
    /// While it stands still: what it has sent, and what has come for it.
    pub(super) held: Option<Held>,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) to: PeerId,
    pub(super) lane: Lane,
    pub(super) answer: oneshot::Sender<Option<Bytes>>,
}

#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) sent: VecDeque<Packet>,
    pub(super) come: VecDeque<Packet>,
}

/// What there is to accept.
#[derive(Debug)]
pub(super) enum Look {
    Message(Request),
    Nothing,
    Closed,
}

impl Station {
    pub(super) fn new(end: Arc<End>) -> Self {
        Self { end, inbox: Default::default(), calls: BTreeMap::new(), held: None }
    }

    /// Puts a message where it is accepted; `false` if there is no room.
    pub(super) fn put(&mut self, request: Request) -> bool {
        let inbox = &mut self.inbox[request.lane as usize];
        if inbox.len() >= INBOX_MAX {
            return false;
        }
        inbox.push_back(request);
        self.end.arrived.notify_one();
        true
    }

    /// The most urgent message, if it may be had now.
    pub(super) fn accept(&mut self) -> Look {
        if self.held.is_some() {
            return Look::Nothing;
        }
        let Some(request) = self.inbox.iter_mut().find_map(VecDeque::pop_front) else { return Look::Nothing };
        if self.inbox.iter().any(|inbox| !inbox.is_empty()) {
            // For somebody else who accepts: permits do not add up.
            self.end.arrived.notify_one();
        }
        Look::Message(request)
    }
}
