//! What changed: the values that lie under keys, and the events that say how they came and went.

use std::sync::Arc;

use crate::key::Key;
use crate::revision::Revision;

/// What lies under a key: bytes, shared between the state, the history and whoever watches.
pub type Value = Arc<[u8]>;

/// A lease: the revision that granted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// What lies under a key, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Value,
    /// When the key came into being, after it was deleted last.
    pub create: Revision,
    /// When it was written last.
    pub modify: Revision,
    /// How often it was written since it came into being, from 1.
    pub version: u64,
    /// Whose end deletes it.
    pub lease: Option<LeaseId>,
}

/// One change of one key. Several under one revision come in the order they were made in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub revision: Revision,
    /// Where.
    pub key: Key,
    /// What.
    pub change: Change,
}

/// What became of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It was written.
    Put(Entry),
    /// It is gone. What was there is not kept: history would hold on to all that people delete.
    Delete,
}

impl Event {
    /// What it occupies, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let value = match &self.change {
            Change::Put(entry) => entry.value.len(),
            Change::Delete => 0,
        };
        self.key.as_str().len() + value + size_of::<Self>()
    }
}
