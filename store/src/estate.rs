//! What of a state outlives the mesh it was in: for backups, and for a mesh that is begun anew from a survivor.
//!
//! Kept are keys, maps, exports, rules, and how the mesh is set up. Gone are leases and everything on them, locks,
//! sessions, what was staged, what hosts had left of their share: all of that belongs to somebody who was there. Gone as
//! well are tokens, which are secrets by half, and the registry: whoever begins anew enters it first.

use crate::command::DecodeError;
use crate::key::{Key, Space};
use crate::keyspace::{Keyspace, Tables};
use crate::pages::Pages;
use crate::revision::Revision;

/// What is kept of a state.
#[derive(Debug)]
pub struct Estate(Tables);

/// What is in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keys of users.
    pub keys: u64,
    /// Entries of hosts' maps.
    pub maps: u64,
    /// Exported resources.
    pub exports: u64,
}

impl Estate {
    /// Freezes a state, quickly; the work comes later.
    #[must_use]
    pub fn of(keyspace: &Keyspace) -> Self {
        Self(keyspace.tables().clone())
    }

    /// The revision it was frozen at.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.0.revision
    }

    /// The state in which a mesh goes on with it, at a revision that is not below its own.
    ///
    /// # Errors
    /// When something in it is not what it should be.
    ///
    /// # Panics
    /// When revisions would go back.
    pub fn at(self, revision: Revision) -> Result<Keyspace, DecodeError> {
        let Tables { revision: before, now_ms, keys, .. } = self.0;
        assert!(revision >= before, "revisions never go back");
        let mut kept = Pages::default();
        for (key, entry) in keys.iter().filter(|(key, entry)| entry.lease.is_none() && stays(key)) {
            kept.insert(key.clone(), entry.clone());
        }
        Keyspace::restored(Tables { revision, now_ms, keys: kept, ..Tables::default() })
    }
}

impl Counts {
    /// Of a state.
    #[must_use]
    pub fn of(keyspace: &Keyspace) -> Self {
        let mut counts = Self::default();
        for (key, _) in keyspace.tables().keys.iter() {
            match key.space() {
                Space::Keys => counts.keys += 1,
                Space::Maps => counts.maps += 1,
                // A manifest is no export.
                Space::Exports => counts.exports += u64::from(key.export().is_some()),
                Space::Locks | Space::Mesh => {}
            }
        }
        counts
    }

    /// Whether there is nothing of anybody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn stays(key: &Key) -> bool {
    match key.space() {
        Space::Keys | Space::Maps | Space::Exports => true,
        Space::Locks => false,
        Space::Mesh => !key.as_str().starts_with(Key::PEERS) && !key.as_str().starts_with(Key::TOKENS),
    }
}
