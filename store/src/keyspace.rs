//! The state: what lies under which key. Commands change it, one after the other; see `Command`.

use bytes::Bytes;
use mgmt_consensus::machine::Unknown;

use crate::event::{Entry, Event};
use crate::key::Key;
use crate::pages::Pages;
use crate::revision::Revision;

/// The whole replicated state.
#[derive(Debug, Clone, Default)]
pub struct Keyspace {
    keys: Pages<Key, Entry>,
    revision: Revision,
}

impl Keyspace {
    /// The index of the last command that was applied.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// What lies under a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.keys.get(key)
    }

    /// What lies under keys that begin so, in the order of the keys.
    pub fn prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a Key, &'a Entry)> {
        self.keys.from(prefix).take_while(move |(key, _)| key.as_str().starts_with(prefix))
    }

    /// What lies under keys from `start` on and before `end`, in the order of the keys.
    pub fn range<'a>(&'a self, start: &'a str, end: &'a str) -> impl Iterator<Item = (&'a Key, &'a Entry)> {
        self.keys.from(start).take_while(move |(key, _)| key.as_str() < end)
    }

    /// Applies a command as it is in the log.
    pub(crate) fn apply_bytes(&mut self, index: u64, _: &[u8], _: &mut Vec<Event>) -> Result<Bytes, Unknown> {
        self.revision = Revision(index);
        Ok(Bytes::new())
    }
}
