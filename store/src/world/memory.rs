//! Exchange within one process: for a host without a mesh, and for tests.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Exports, Published, World};
use crate::event::Value;
use crate::key::Key;
use crate::revision::Revision;
use crate::view::{Interest, View};

/// Hosts that share what they export, without any log between them.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Held for one operation, never across an await.
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Key, Value>,
    revision: Revision,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way: what a poisoned lock guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// Nobody exports anything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One of its hosts.
    #[must_use]
    pub fn host(&self) -> MemoryHost {
        MemoryHost { shared: Arc::clone(&self.shared), interest: Mutex::default() }
    }
}

/// A host's part of a [`Memory`].
#[derive(Debug)]
pub struct MemoryHost {
    shared: Arc<Shared>,
    interest: Mutex<Interest>,
}

impl World for MemoryHost {
    type Error = Infallible;

    async fn publish(&self, exports: &Exports) -> Result<Published, Infallible> {
        let mut state = self.shared.lock();
        let own = |key: &Key| key.host() == Some(exports.host().as_str());
        if state.entries.iter().filter(|(key, _)| own(key)).eq(exports.items()) {
            return Ok(Published::Unchanged);
        }
        state.entries.retain(|key, _| !own(key));
        state.entries.extend(exports.items().iter().map(|(key, value)| (key.clone(), Arc::clone(value))));
        state.revision = state.revision.next();
        let revision = state.revision;
        drop(state);
        self.shared.changed.notify_waiters();
        Ok(Published::Changed(revision))
    }

    fn follow(&self, interest: Interest) {
        *self.interest.lock().unwrap_or_else(PoisonError::into_inner) = interest;
        self.shared.changed.notify_waiters();
    }

    fn view(&self) -> View {
        let interest = self.interest.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.shared.lock();
        let wanted = state.entries.iter().filter(|(key, _)| interest.matches(key));
        View::remembered(state.revision, wanted.map(|(key, value)| (key.clone(), Arc::clone(value))))
    }

    async fn changed(&self, from: &View) -> View {
        loop {
            let woken = self.shared.changed.notified();
            tokio::pin!(woken);
            // Enlisted before looking: what changes in between wakes it.
            woken.as_mut().enable();
            let view = self.view();
            if view != *from {
                return view;
            }
            woken.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests as suite;
    use super::*;

    #[tokio::test]
    async fn passes_the_suite() {
        let memory = Memory::new();
        suite::passes(|_| memory.host()).await;
    }
}
