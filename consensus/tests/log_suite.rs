//! openraft's own suite for logs, on every disk and every index there is.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod log_support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{Stream, TryStreamExt as _};
use log_support::{ME, Real, Simulated, options, small};
use mgmt_consensus::Ground;
use mgmt_consensus::disk::files::Files;
use mgmt_consensus::disk::simulated::SimulatedDisk;
use mgmt_consensus::log_store::LogStore;
use mgmt_consensus::log_store::index::lying::Lying;
use mgmt_consensus::log_store::index::memory::InMemory;
use mgmt_consensus::log_store::index::tree::Tree;
use mgmt_consensus::types::{Blob, CommittedLeaderId, Group, LogId, Member, Payload, SnapshotMeta, StoredMembership};
use openraft::impls::TokioRuntime;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{AsyncRuntime, OptionalSend, StorageError};
use openraft_rt_sim::SimRuntime;

type Snapshot = openraft::storage::Snapshot<CommittedLeaderId, u64, Member, ()>;

/// The smallest state machine there can be: it knows what it has applied.
#[derive(Debug, Clone, Default)]
struct Smallest {
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: Option<SnapshotMeta>,
}

/// Shared with its builder.
#[derive(Debug, Clone, Default)]
struct Machine(Arc<std::sync::Mutex<Smallest>>);

impl<G: Ground> RaftSnapshotBuilder<Group<G>> for Machine {
    type SnapshotData = ();
    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let mut machine = self.0.lock().unwrap();
        let meta = SnapshotMeta { last_log_id: machine.applied, last_membership: machine.membership.clone() };
        machine.snapshot = Some(meta.clone());
        Ok(Snapshot { meta, snapshot: () })
    }
}

impl<G: Ground> RaftStateMachine<Group<G>> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let machine = self.0.lock().unwrap();
        Ok((machine.applied, machine.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Group<G>>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let mut machine = self.0.lock().unwrap();
            machine.applied = Some(entry.log_id);
            if let Payload::Membership(membership) = entry.payload {
                machine.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            if let Some(responder) = responder {
                responder.send(Blob::default());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, _: ()) -> Result<(), io::Error> {
        let mut machine = self.0.lock().unwrap();
        machine.applied = meta.last_log_id;
        machine.membership = meta.last_membership.clone();
        machine.snapshot = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let meta = self.0.lock().unwrap().snapshot.clone();
        Ok(meta.map(|meta| Snapshot { meta, snapshot: () }))
    }
}

struct OnFiles {
    in_sled: bool,
}

impl StoreBuilder<Group<Real>, LogStore<Real>, Machine, tempfile::TempDir> for OnFiles {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore<Real>, Machine), StorageError<Group<Real>>> {
        let scratch = tempfile::tempdir().unwrap();
        let disk = Files::open(scratch.path()).unwrap();
        let tree = scratch.path().join("log.sled");
        let options = if self.in_sled { small(Arc::new(Tree::new(tree))) } else { options() };
        Ok((scratch, LogStore::create(disk, ME, options).await.unwrap(), Machine::default()))
    }
}

#[derive(Default)]
struct OnSimulatedDisk {
    lying: bool,
    seed: AtomicU64,
}

impl StoreBuilder<Group<Simulated>, LogStore<Simulated>, Machine> for OnSimulatedDisk {
    async fn build(&self) -> Result<((), LogStore<Simulated>, Machine), StorageError<Group<Simulated>>> {
        let seed = self.seed.fetch_add(1, Ordering::Relaxed);
        let disk = SimulatedDisk::new(seed, 1 << 20);
        let options = if self.lying { small(Arc::new(Lying::new(seed))) } else { small(Arc::new(InMemory)) };
        Ok(((), LogStore::create(disk, ME, options).await.unwrap(), Machine::default()))
    }
}

fn on_tokio(builder: OnFiles) {
    TokioRuntime::new(2).block_on(Suite::test_all(builder)).unwrap();
}

#[test]
fn files_with_sled() {
    on_tokio(OnFiles { in_sled: true });
}

#[test]
fn files_with_an_index_in_memory() {
    on_tokio(OnFiles { in_sled: false });
}

#[test]
fn simulated_disk_with_an_index_in_memory() {
    SimRuntime::with_seed(0).block_on(Suite::test_all(OnSimulatedDisk::default())).unwrap();
}

#[test]
fn simulated_disk_with_an_index_that_lies() {
    let builder = OnSimulatedDisk { lying: true, ..OnSimulatedDisk::default() };
    SimRuntime::with_seed(0).block_on(Suite::test_all(builder)).unwrap();
}
