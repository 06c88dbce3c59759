//! The store as the group's state machine, and what readers on this host share of it.
//!
//! The group feeds [`StoreMachine`], one command after the other; everybody else holds an `Arc<Shared>`. A reader sees
//! the state between two commands, never the middle of one. Watches pull from the history at their own pace: one that
//! is slow costs nobody memory, it is told that history has moved on.

use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use mgmt_consensus::Machine;
use mgmt_consensus::machine::Unknown;
use tokio::sync::Notify;

use crate::event::Event;
use crate::history::{Compacted, Events, History};
use crate::keyspace::Keyspace;
use crate::record::Versions;
use crate::revision::Revision;
use crate::snapshot::FrozenStore;

/// What the state machine shares with its readers.
#[derive(Debug, Default)]
pub struct Shared {
    /// State and history, changed together. Held for one command, or one read: never across an await.
    state: RwLock<State>,
    /// Wakes those who wait for a revision, in the order they came.
    settled: Notify,
}

#[derive(Debug, Default)]
struct State {
    keyspace: Keyspace,
    history: History,
    settled: Revision,
    /// The feature level at which the replica has stopped, because this program does not understand it.
    beyond: Option<u32>,
}

impl Shared {
    /// Reads the state between two commands. Commands wait meanwhile: copy out what is needed, quickly.
    pub fn read<T>(&self, reader: impl FnOnce(&Keyspace) -> T) -> T {
        reader(&self.reading().keyspace)
    }

    /// Everything up to this index of the log has been applied, and readers may know.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.reading().settled
    }

    /// The feature level that the mesh uses and this program does not understand, if that is why this replica has stopped.
    #[must_use]
    pub fn beyond(&self) -> Option<u32> {
        self.reading().beyond
    }

    /// Waits until the revision is higher than this one, and gives it. Cancel safe.
    pub async fn changed_since(&self, revision: Revision) -> Revision {
        loop {
            let woken = self.settled.notified();
            tokio::pin!(woken);
            // Enlisted before looking: what settles in between wakes it.
            woken.as_mut().enable();
            let now = self.revision();
            if now > revision {
                return now;
            }
            woken.await;
        }
    }

    /// What happened after a revision, without a gap: about `bytes_max`, in whole revisions, at least one. With no
    /// event in it, [`Events::through`] still says how far this replica has come.
    ///
    /// # Errors
    /// When some of it is forgotten, or was never here because this replica began with a snapshot.
    pub fn events(&self, after: Revision, bytes_max: usize) -> Result<Events, Compacted> {
        let state = self.reading();
        state.history.after(after, state.settled, bytes_max)
    }

    /// Looks at what happened after a revision, event by event and without a copy, up to the revision that is also
    /// given. Commands wait meanwhile: look at a bounded number.
    ///
    /// # Errors
    /// As [`Shared::events`].
    pub fn scan<T>(
        &self,
        after: Revision,
        reader: impl FnOnce(&mut dyn Iterator<Item = &Event>, Revision) -> T,
    ) -> Result<T, Compacted> {
        let state = self.reading();
        let mut events = state.history.iter_after(after, state.settled)?;
        Ok(reader(&mut events, state.settled))
    }

    /// A poisoned lock means that a command panicked half applied. That is a defect, and the thread that had it reports
    /// it and stops the replica; readers go on with what is there, as they do without a quorum.
    fn reading(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The store as a state machine.
#[derive(Debug)]
pub struct StoreMachine {
    shared: Arc<Shared>,
    /// What this program understands: beyond that it does not go on, because it would do something else than others do.
    versions: Versions,
    /// Events of the command at hand; kept for its allocation.
    events: Vec<Event>,
}

impl StoreMachine {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self { shared: Arc::default(), versions: Versions::ALL, events: Vec::new() }
    }

    /// An empty store that remembers at most so many events and bytes for its watches.
    #[must_use]
    pub fn with_history(events_max: usize, bytes_max: usize) -> Self {
        let machine = Self::new();
        machine.shared.writing().history = History::new(events_max, bytes_max);
        machine
    }

    /// An empty store in the place of one that readers hold already: a replica that begins anew. What they followed is
    /// forgotten, and they are told so. It stops at a feature level that is not among `versions`.
    #[must_use]
    pub fn anew(shared: Arc<Shared>, versions: Versions) -> Self {
        {
            let mut state = shared.writing();
            state.keyspace = Keyspace::default();
            state.history.restart(Revision(0));
            state.settled = Revision(0);
            state.beyond = None;
        }
        Self { shared, versions, events: Vec::new() }
    }

    /// What readers hold.
    #[must_use]
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
}

impl Default for StoreMachine {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a program stops that is older than the mesh it is in.
fn outdated(level: u32, versions: Versions) -> String {
    format!("it uses feature level {level}, and this program understands {} to {}", versions.min, versions.max)
}

impl Machine for StoreMachine {
    type Frozen = FrozenStore;

    fn apply(&mut self, index: u64, command: &[u8]) -> Result<Bytes, Unknown> {
        let mut state = self.shared.writing();
        let outcome = state.keyspace.apply_bytes(index, command, &mut self.events)?;
        // Looked for among the events, because it is the rarest of all commands.
        if self.events.iter().any(|event| event.key.is_feature_level()) {
            let level = state.keyspace.feature_level();
            if !self.versions.understand(level) {
                self.events.clear();
                state.beyond = Some(level);
                return Err(Unknown { index, why: outdated(level, self.versions) });
            }
        }
        state.history.extend(self.events.drain(..));
        Ok(outcome)
    }

    fn settled(&mut self, applied: u64) {
        let mut state = self.shared.writing();
        state.settled = state.settled.max(Revision(applied));
        drop(state);
        self.shared.settled.notify_waiters();
    }

    fn freeze(&self) -> FrozenStore {
        FrozenStore::new(&self.shared.reading().keyspace)
    }

    fn restore(&mut self, applied: u64, chunks: &mut dyn Iterator<Item = io::Result<Bytes>>) -> io::Result<()> {
        let keyspace = crate::snapshot::restore(chunks)?;
        let revision = Revision(applied);
        if keyspace.revision() > revision {
            let why = format!("a snapshot at {applied} holds revision {}", keyspace.revision());
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let level = keyspace.feature_level();
        let mut state = self.shared.writing();
        if !self.versions.understand(level) {
            state.beyond = Some(level);
            return Err(io::Error::new(io::ErrorKind::Unsupported, outdated(level, self.versions)));
        }
        state.keyspace = keyspace;
        state.history.restart(revision);
        state.settled = state.settled.max(revision);
        drop(state);
        self.shared.settled.notify_waiters();
        Ok(())
    }
}
