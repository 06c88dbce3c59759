//! What a host of the simulation stands on, and a store that tells the book what it does.

use std::future::Future;
use std::io;

use bytes::Bytes;
use mgmt_consensus::disk::simulated::SimulatedDisk;
use mgmt_consensus::machine::{Frozen as _, Unknown};
use mgmt_consensus::transport::memory::Memory;
use mgmt_consensus::{Ground, Machine};
use mgmt_store::StoreMachine;
use openraft::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;

use crate::book::Book;
use crate::hosted::Hosted;
use crate::oracle::invariants::Sighting;
use crate::tapped::Tapped;
use crate::trace::sum_of;

/// Virtual time, a disk that forgets, a network in memory. Disk and network belong to no host: they outlive it.
pub(crate) struct Simulated;

/// A host's disk.
pub(crate) type Disk = SimulatedDisk<SimRuntime>;

impl Ground for Simulated {
    type Runtime = Hosted;
    type Disk = Disk;
    type Transport = Tapped<Memory<SimRuntime>>;

    fn aside<F>(_: &'static str, work: F) -> impl Future<Output = Option<F::Output>> + Send + 'static
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let task = Hosted::spawn(work);
        async move { task.await.ok() }
    }
}

/// How often the state of all hosts is compared: at every index that this divides and a command stands at.
const STATE_EVERY: u64 = 8;

/// A store whose every answer is written down.
pub(crate) struct Recorded {
    store: StoreMachine,
    host: usize,
    life: u64,
    book: Book,
    /// Up to where everything is in it.
    at: u64,
}

impl Recorded {
    pub(crate) fn new(store: StoreMachine, host: usize, life: u64, book: Book) -> Self {
        Self { store, host, life, book, at: 0 }
    }

    /// Says which state this is, to be compared with that of others at the same place.
    fn compare(&self) {
        let digest = digest(&self.store);
        self.book.see(&Sighting::State { host: self.host, index: self.at, digest });
    }
}

/// A number for the whole state.
pub(crate) fn digest(store: &StoreMachine) -> u64 {
    let mut frozen = store.freeze();
    let mut sum = 0;
    while let Some(chunk) = frozen.chunk() {
        sum = sum_of(&[&u64::to_le_bytes(sum)[..], &chunk].concat());
    }
    sum
}

impl Machine for Recorded {
    type Frozen = <StoreMachine as Machine>::Frozen;

    fn apply(&mut self, index: u64, command: &[u8]) -> Result<Bytes, Unknown> {
        let outcome = self.store.apply(index, command)?;
        let (host, life) = (self.host, self.life);
        let (entry, said) = (sum_of(command), sum_of(&outcome));
        self.at = index;
        self.book.applied(index, command, &outcome);
        self.book.trace().line(Some(host), format_args!("applied {index} {entry:016x} {said:016x}"));
        self.book.see(&Sighting::Applied { host, life, index, entry, outcome: said });
        if index.is_multiple_of(STATE_EVERY) {
            self.compare();
        }
        Ok(outcome)
    }

    fn settled(&mut self, applied: u64) {
        self.at = applied;
        self.store.settled(applied);
    }

    fn freeze(&self) -> Self::Frozen {
        self.compare();
        self.store.freeze()
    }

    fn restore(&mut self, applied: u64, chunks: &mut dyn Iterator<Item = io::Result<Bytes>>) -> io::Result<()> {
        self.store.restore(applied, chunks)?;
        let (host, life) = (self.host, self.life);
        self.book.trace().line(Some(host), format_args!("restored a snapshot up to {applied}"));
        self.book.see(&Sighting::Installed { host, life, index: applied });
        self.at = applied;
        self.compare();
        Ok(())
    }
}
