//! Reading the state.

use super::{Derived, Keyspace, Lease, Tables};
use crate::command::{DecodeError, Stored};
use crate::digest::Digest;
use crate::event::{Entry, LeaseId};
use crate::host::HostName;
use crate::key::{Key, Space};
use crate::limits::STORE_BYTES_SOFT;
use crate::record::{Lock, Manifest, Peer, Token};
use crate::revision::Revision;

/// How many masters there should be, until somebody says otherwise.
const IDEAL_SIZE: u8 = 5;
/// The feature level of a mesh that never raised it.
const FEATURE_LEVEL: u32 = 1;

impl Keyspace {
    /// The index of the last command that was applied.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.tables.revision
    }

    /// The highest of the leaders' times, in milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.tables.now_ms
    }

    /// What lies under a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.tables.keys.get(key)
    }

    /// What lies under keys that begin so, in the order of the keys.
    pub fn prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a Key, &'a Entry)> {
        self.tables.keys.from(prefix).take_while(move |(key, _)| key.as_str().starts_with(prefix))
    }

    /// What lies under keys from `start` on and before `end`, in the order of the keys.
    pub fn range<'a>(&'a self, start: &'a str, end: &'a str) -> impl Iterator<Item = (&'a Key, &'a Entry)> {
        self.tables.keys.from(start).take_while(move |(key, _)| key.as_str() < end)
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tables.keys.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What all of it occupies, as the quota counts it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.derived.bytes
    }

    /// Whether people should be told that the store fills up.
    #[must_use]
    pub fn is_filling(&self) -> bool {
        self.bytes() > STORE_BYTES_SOFT
    }

    /// The registry, in the order of the hosts.
    pub fn peers(&self) -> impl Iterator<Item = (HostName, Peer)> {
        let hosts = self.derived.members.keys();
        hosts.filter_map(|host| Some((host.clone(), self.tables.peer(host)?)))
    }

    /// A peer in the registry.
    #[must_use]
    pub fn peer(&self, host: &HostName) -> Option<Peer> {
        self.tables.peer(host)
    }

    /// Tokens with their names; some may have expired.
    pub fn tokens(&self) -> impl Iterator<Item = (&str, Token)> {
        self.prefix(Key::TOKENS).map(|(key, entry)| (key.mesh().1, load(entry)))
    }

    /// Rules: which hosts may write what in `k/`.
    pub fn rules(&self) -> impl Iterator<Item = (&str, &str)> {
        self.prefix(Key::RULES).filter_map(|(key, _)| key.mesh().1.split_once('/'))
    }

    /// How many masters there should be.
    #[must_use]
    pub fn ideal_size(&self) -> u8 {
        self.tables.ideal_size()
    }

    /// What everybody in the mesh understands.
    #[must_use]
    pub fn feature_level(&self) -> u32 {
        self.tables.feature_level()
    }

    /// Which exports a host has, and at which revision they became so.
    #[must_use]
    pub fn manifest(&self, host: &HostName) -> Option<(Revision, Manifest)> {
        self.get(Key::manifest_of(host).as_str()).map(|entry| (entry.modify, load(entry)))
    }

    /// Who holds a lock, and who waits.
    #[must_use]
    pub fn lock(&self, key: &Key) -> Option<Lock> {
        self.get(key.as_str()).filter(|_| key.space() == Space::Locks).map(load)
    }

    /// A lease that lives.
    #[must_use]
    pub fn lease(&self, lease: LeaseId) -> Option<&Lease> {
        self.tables.leases.get(&lease.0)
    }

    /// All leases that live.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.tables.leases.iter().map(|(id, lease)| (LeaseId(*id), lease))
    }

    /// The number of the last command of a session; 0 before the first. `None`: there is no such session.
    #[must_use]
    pub fn session(&self, session: u64) -> Option<u64> {
        let session = self.tables.sessions.get(&session)?;
        Some(session.last.as_ref().map_or(0, |(sequence, _)| *sequence))
    }

    /// A hash of the whole state: equal on replicas of the same revision, or one of them is wrong. Costs as much as
    /// there are leases and sessions; keys are summed up as they are written.
    #[must_use]
    pub fn digest(&self) -> u64 {
        Digest::of(&self.tables, self.derived.digest)
    }

    /// Whether what is derived is what would be derived now.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn adds_up(&self) -> bool {
        Derived::of(&self.tables).is_ok_and(|derived| derived == self.derived)
    }

    /// The tables, for a snapshot.
    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// A state from the tables of a snapshot.
    ///
    /// # Errors
    /// When something in them is not what it should be.
    pub(crate) fn restored(tables: Tables) -> Result<Self, DecodeError> {
        let derived = Derived::of(&tables)?;
        Ok(Self { tables, derived })
    }
}

impl Tables {
    pub(super) fn peer(&self, host: &HostName) -> Option<Peer> {
        self.keys.get(Key::peer(host).as_str()).map(load)
    }

    pub(super) fn ideal_size(&self) -> u8 {
        let stored: Option<u32> = self.keys.get(Key::ideal_size().as_str()).map(load);
        stored.and_then(|size| u8::try_from(size).ok()).unwrap_or(IDEAL_SIZE)
    }

    pub(super) fn feature_level(&self) -> u32 {
        self.keys.get(Key::feature_level().as_str()).map_or(FEATURE_LEVEL, load)
    }
}

/// A record that is known to be there.
pub(super) fn load<T: Stored>(entry: &Entry) -> T {
    T::load(&entry.value).expect("records are written by this crate and checked when they are restored")
}
