//! A network within one process: a transport like any other, with faults that can be turned on and off while it runs.
//!
//! Everything that happens by chance comes from the network's own seed, and what is due at the same moment arrives in
//! the order in which it was sent: on a runtime with a virtual clock the same seed gives the same deliveries.
//!
//! How a fault looks to a caller:
//!
//! * lost, cut off, unplugged, paused: silence, thus [`CallError::Timeout`]. What is on its way when its path is cut is
//!   lost, also if the cut heals before it would have arrived.
//! * closed or crashed, or never seen: [`CallError::Unreachable`], one way there and one back later, as far as both
//!   are open. For a crash that nobody is told of (the power is gone), unplug first.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::{AsyncRuntime, Instant as _};
use tokio::sync::{Notify, Semaphore, oneshot};

use super::{CALLS_MAX, CallError, Incoming, Lane, Reply, Transport};
use crate::identity::PeerId;
use crate::limits::{DEADLINE_MAX, FRAME_BYTES_MAX};

mod chance;
mod paths;
mod station;
mod switch;
#[cfg(test)]
mod tests;

pub use paths::Path;
pub use switch::Counts;

use station::End;
use switch::{Cargo, Packet, Switch};

/// All that is shared by the ends, and the controls.
pub struct Network<R: AsyncRuntime> {
    shared: Arc<Shared<R>>,
}

struct Shared<R: AsyncRuntime> {
    switch: Mutex<Switch<R::Instant>>,
    /// Something is due earlier than anything before, or there is nobody any more who could send.
    wake: Arc<Notify>,
    runtime: PhantomData<fn() -> R>,
}

impl<R: AsyncRuntime> Shared<R> {
    /// The state is whole at every moment at which the lock is not held, also after a panic elsewhere.
    fn lock(&self) -> MutexGuard<'_, Switch<R::Instant>> {
        self.switch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the switch, then sees to it that what is due is delivered.
    fn with<T>(&self, act: impl FnOnce(&mut Switch<R::Instant>, R::Instant) -> T) -> T {
        let mut switch = self.lock();
        let now = R::Instant::now();
        let before = switch.next_due();
        let result = act(&mut switch, now);
        switch.deliver_until(now);
        let earlier = match (before, switch.next_due()) {
            (Some(before), Some(after)) => after < before,
            (None, after) => after.is_some(),
            (Some(_), None) => false,
        };
        drop(switch);
        if earlier {
            self.wake.notify_one();
        }
        result
    }
}

impl<R: AsyncRuntime> Drop for Shared<R> {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

impl<R: AsyncRuntime> Clone for Network<R> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<R: AsyncRuntime> fmt::Debug for Network<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

impl<R: AsyncRuntime> Network<R> {
    /// A network without faults or delay, on the runtime that this is called on. Its task ends with the last of its
    /// ends and controls.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let wake = Arc::new(Notify::new());
        let shared = Shared { switch: Mutex::new(Switch::new(seed)), wake: Arc::clone(&wake), runtime: PhantomData };
        let shared = Arc::new(shared);
        drop(R::spawn(deliver::<R>(Arc::downgrade(&shared), wake)));
        Self { shared }
    }

    /// A peer comes, for the first time or back again. An end he had before is closed.
    #[must_use]
    pub fn join(&self, peer: PeerId) -> Memory<R> {
        let end = self.shared.with(|switch, now| switch.join(peer, now));
        Memory { end, shared: Arc::clone(&self.shared) }
    }

    /// A peer's process ends from one moment to the next: as if it had closed its end.
    pub fn crash(&self, peer: PeerId) {
        self.shared.with(|switch, now| switch.crash(peer, now));
    }

    /// How all paths are that have no values of their own.
    pub fn set_paths(&self, path: Path) {
        self.shared.with(|switch, _| switch.paths.every = path);
    }

    /// How the path from one peer to another is; `None`: like all others.
    pub fn set_path(&self, from: PeerId, to: PeerId, path: Option<Path>) {
        self.shared.with(|switch, _| switch.paths.set(from, to, path));
    }

    /// Nothing from the one reaches the other any more. The way back is another one.
    pub fn cut(&self, from: PeerId, to: PeerId) {
        self.shared.with(|switch, _| switch.change_paths(|paths| paths.cut(from, to)));
    }

    /// Takes back a [`Self::cut`].
    pub fn mend(&self, from: PeerId, to: PeerId) {
        self.shared.with(|switch, _| switch.change_paths(|paths| paths.mend(from, to)));
    }

    /// Only peers of the same group reach each other; all that are in none are one more group. Replaces the groups there
    /// were; no groups: everybody reaches everybody.
    pub fn partition(&self, groups: &[&[PeerId]]) {
        self.shared.with(|switch, _| switch.change_paths(|paths| paths.partition(groups)));
    }

    /// Pulls a peer's cable: silence in both directions.
    pub fn unplug(&self, peer: PeerId) {
        self.shared.with(|switch, _| switch.change_paths(|paths| paths.unplug(peer)));
    }

    /// Puts it back.
    pub fn replug(&self, peer: PeerId) {
        self.shared.with(|switch, _| switch.change_paths(|paths| paths.replug(peer)));
    }

    /// A peer's process stands still: what it sends and what comes for it waits, as far as there is room.
    pub fn pause(&self, peer: PeerId) {
        self.shared.with(|switch, _| switch.pause(peer));
    }

    /// It goes on.
    pub fn resume(&self, peer: PeerId) {
        self.shared.with(|switch, now| switch.resume(peer, now));
    }

    /// All faults off: no cuts, groups, unplugged or paused peers, and paths without loss and duplicates. Delays stay.
    pub fn calm(&self) {
        self.shared.with(|switch, now| switch.calm(now));
    }

    /// What a lane has carried so far.
    #[must_use]
    pub fn counts(&self, lane: Lane) -> Counts {
        self.shared.lock().counts(lane)
    }
}

/// The one task of a network: delivers what is due.
async fn deliver<R: AsyncRuntime>(shared: Weak<Shared<R>>, wake: Arc<Notify>) {
    loop {
        let Some(network) = shared.upgrade() else { return };
        let next = network.with(|switch, now| {
            switch.deliver_until(now);
            switch.next_due()
        });
        drop(network);
        match next {
            Some(due) => drop(R::select2(wake.notified(), R::sleep_until(due)).await),
            None => wake.notified().await,
        }
    }
}

/// A peer's end.
pub struct Memory<R: AsyncRuntime> {
    end: Arc<End>,
    shared: Arc<Shared<R>>,
}

impl<R: AsyncRuntime> Clone for Memory<R> {
    fn clone(&self) -> Self {
        Self { end: Arc::clone(&self.end), shared: Arc::clone(&self.shared) }
    }
}

impl<R: AsyncRuntime> fmt::Debug for Memory<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("me", &self.end.peer).finish_non_exhaustive()
    }
}

impl<R: AsyncRuntime> Memory<R> {
    /// Sends a message and waits, without a deadline.
    async fn exchange(&self, to: PeerId, lane: Lane, message: Bytes) -> Result<Bytes, CallError> {
        let permits = self.end.permits(to, lane);
        let _one_of_few = permits.acquire().await.map_err(|_closed| CallError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let Some(call) = self.shared.with(|switch, now| switch.call(&self.end, to, lane, message, answer, now)) else {
            return Err(CallError::Closed);
        };
        let _forget = Forget { call, memory: self };
        match answered.await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(CallError::Unreachable(to)),
            Err(_closed) => Err(CallError::Closed),
        }
    }
}

/// A call that nobody waits for any more: its answer goes nowhere.
struct Forget<'a, R: AsyncRuntime> {
    call: u64,
    memory: &'a Memory<R>,
}

impl<R: AsyncRuntime> Drop for Forget<'_, R> {
    fn drop(&mut self) {
        self.memory.shared.lock().forget(&self.memory.end, self.call);
    }
}

impl<R: AsyncRuntime> Transport for Memory<R> {
    type Reply = MemoryReply<R>;

    fn me(&self) -> PeerId {
        self.end.peer
    }

    async fn call(&self, to: PeerId, lane: Lane, message: Bytes, deadline: Duration) -> Result<Bytes, CallError> {
        if message.len() > FRAME_BYTES_MAX {
            return Err(CallError::TooLarge(message.len()));
        }
        let exchange = self.exchange(to, lane, message);
        match R::timeout(deadline.min(DEADLINE_MAX), exchange).await {
            Ok(result) => result,
            Err(_elapsed) => Err(CallError::Timeout(to, deadline)),
        }
    }

    async fn accept(&self) -> Option<Incoming<Self::Reply>> {
        loop {
            // Whatever arrives after this look leaves a permit, so that the wait below ends at once.
            let looked = self.shared.lock().accept(&self.end);
            match looked {
                station::Look::Closed => {
                    self.end.arrived.notify_one();
                    return None;
                }
                station::Look::Message(request) => {
                    let switch::Request { from, lane, message, call, caller_life } = request;
                    let reply = MemoryReply { memory: self.clone(), to: from, lane, call, caller_life };
                    return Some(Incoming { from, may_lead: true, lane, message, reply });
                }
                station::Look::Nothing => self.end.arrived.notified().await,
            }
        }
    }

    fn close(&self) {
        self.shared.with(|switch, now| switch.close(&self.end, now));
    }
}

/// The way back to whoever called.
pub struct MemoryReply<R: AsyncRuntime> {
    memory: Memory<R>,
    to: PeerId,
    lane: Lane,
    call: u64,
    caller_life: u64,
}

impl<R: AsyncRuntime> fmt::Debug for MemoryReply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryReply").field("to", &self.to).field("call", &self.call).finish_non_exhaustive()
    }
}

impl<R: AsyncRuntime> Reply for MemoryReply<R> {
    fn send(self, answer: Bytes) {
        let Self { memory, to, lane, call, caller_life } = self;
        let packet = Packet {
            from: memory.end.peer,
            to,
            lane,
            cargo: Cargo::Answer { call, caller_life, answer: Some(answer) },
        };
        memory.shared.with(|switch, now| switch.answer(&memory.end, packet, now));
    }
}
