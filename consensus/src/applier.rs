//! Between the log and the machine: applies what is committed, in order, and freezes and restores the state.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::type_config::alias::SnapshotOf;
use openraft::{EntryPayload, RaftSnapshotBuilder};

use crate::ground::Ground;
use crate::limits::APPLY_ENTRIES_MAX;
use crate::machine::Machine;
use crate::snapshots::{Snapshot, Snapshots, Unusable};
use crate::types::{Blob, Group, LogId, SnapshotMeta, StoredMembership};

/// A machine and how far it has come.
pub struct Applier<G: Ground, M: Machine> {
    machine: M,
    snapshots: Snapshots<G>,
    applied: Option<LogId>,
    membership: StoredMembership,
    current: Current<G>,
    commands: Arc<AtomicU64>,
}

/// The newest snapshot, which whoever writes one replaces.
struct Current<G: Ground>(Arc<Mutex<Option<Snapshot<G::Disk>>>>);

impl<G: Ground> Clone for Current<G> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<G: Ground> Current<G> {
    fn get(&self) -> MutexGuard<'_, Option<Snapshot<G::Disk>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one that covers more than the one there was: one that was being written may end after one that came.
    fn replace(&self, snapshot: Snapshot<G::Disk>) {
        let mut current = self.get();
        if current.as_ref().is_none_or(|old| old.meta().last_log_id <= snapshot.meta().last_log_id) {
            *current = Some(snapshot);
        }
    }
}

/// Why the state could not be brought back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// No snapshot to start from.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// Its checksums are right and the machine cannot make sense of it all the same.
    #[error("the snapshot {snapshot} cannot be restored: {source}")]
    Machine {
        /// Which one.
        snapshot: String,
        /// What the machine says.
        source: io::Error,
    },
}

impl RestoreError {
    /// Whether all is whole, and this program is too old for it.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        matches!(self, Self::Machine { source, .. } if source.kind() == io::ErrorKind::Unsupported)
    }
}

impl<G: Ground, M: Machine> Applier<G, M> {
    /// Brings the machine to where the newest snapshot ends; the log does the rest. `purged` is how far the log was cut
    /// off.
    ///
    /// # Errors
    /// [`RestoreError`]: this replica cannot go on under its id.
    pub fn open(snapshots: Snapshots<G>, mut machine: M, purged: Option<&LogId>) -> Result<Self, RestoreError> {
        let newest = snapshots.newest(purged)?;
        let (mut applied, mut membership) = (None, StoredMembership::default());
        if let Some(snapshot) = &newest {
            let index = snapshot.meta().last_log_id.as_ref().map_or(0, |id| id.index);
            let restored = machine.restore(index, &mut snapshot.chunks());
            restored.map_err(|source| RestoreError::Machine { snapshot: format!("{snapshot:?}"), source })?;
            applied = snapshot.meta().last_log_id;
            membership = snapshot.meta().last_membership.clone();
            machine.settled(index);
        }
        let current = Current(Arc::new(Mutex::new(newest)));
        Ok(Self { machine, snapshots, applied, membership, current, commands: Arc::default() })
    }

    /// Bytes of commands applied since a snapshot was begun.
    pub(crate) fn commands(&self) -> Arc<AtomicU64> {
        self.commands.clone()
    }

    fn apply_one(&mut self, entry: crate::types::Entry) -> io::Result<Blob> {
        let outcome = match entry.payload {
            EntryPayload::Blank => Bytes::new(),
            EntryPayload::Normal(command) => {
                self.commands.fetch_add(command.0.len() as u64, Ordering::Relaxed);
                self.machine.apply(entry.log_id.index, &command.0).map_err(io::Error::other)?
            }
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Bytes::new()
            }
        };
        self.applied = Some(entry.log_id);
        Ok(Blob(outcome))
    }

    fn settle(&mut self) {
        self.machine.settled(self.applied.as_ref().map_or(0, |id| id.index));
    }
}

impl<G: Ground, M: Machine> RaftStateMachine<Group<G>> for Applier<G, M> {
    type SnapshotData = Snapshot<G::Disk>;
    type SnapshotBuilder = Builder<G, M>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Group<G>>>> + Unpin + Send,
    {
        // Whoever gets an answer may look at once, so the state is visible before it is given.
        let mut answers = Vec::new();
        let mut applied = 0;
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let outcome = self.apply_one(entry)?;
            answers.extend(responder.map(|responder| (responder, outcome)));
            applied += 1;
            if applied % APPLY_ENTRIES_MAX == 0 {
                self.settle();
                answers.drain(..).for_each(|(responder, outcome)| responder.send(outcome));
            }
        }
        self.settle();
        answers.into_iter().for_each(|(responder, outcome)| responder.send(outcome));
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        self.commands.store(0, Ordering::Relaxed);
        let frozen = Some(self.machine.freeze());
        Builder { meta, frozen, snapshots: self.snapshots.clone(), current: self.current.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Snapshot<G::Disk>) -> io::Result<()> {
        let index = meta.last_log_id.as_ref().map_or(0, |id| id.index);
        self.machine.restore(index, &mut snapshot.chunks())?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.current.replace(snapshot);
        self.settle();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Group<G>, Snapshot<G::Disk>>>> {
        let current = self.current.get().clone();
        Ok(current.map(|snapshot| openraft::storage::Snapshot { meta: snapshot.meta().clone(), snapshot }))
    }
}

/// Writes one frozen state.
pub struct Builder<G: Ground, M: Machine> {
    meta: SnapshotMeta,
    frozen: Option<M::Frozen>,
    snapshots: Snapshots<G>,
    current: Current<G>,
}

impl<G: Ground, M: Machine> RaftSnapshotBuilder<Group<G>> for Builder<G, M> {
    type SnapshotData = Snapshot<G::Disk>;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Group<G>, Snapshot<G::Disk>>> {
        let frozen = self.frozen.take().ok_or_else(|| io::Error::other("a builder builds once"))?;
        let snapshot = self.snapshots.write(self.meta.clone(), frozen).await?;
        self.current.replace(snapshot.clone());
        Ok(openraft::storage::Snapshot { meta: self.meta.clone(), snapshot })
    }
}
