//! What is derived from the tables, so that it need not be looked for: kept up with every write, and made anew when a
//! snapshot is restored.

use std::collections::{BTreeMap, BTreeSet};

use mgmt_consensus::PeerId;

use super::Tables;
use crate::command::{DecodeError, Origin, Stored};
use crate::digest::Digest;
use crate::event::{Entry, LeaseId};
use crate::host::HostName;
use crate::key::{Key, Space};
use crate::limits::ENTRY_BYTES;
use crate::outcome::{Denied, Refusal, Role};
use crate::record::{Lock, Manifest, Peer, Token};

/// What is derived.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Derived {
    /// What all entries and staged exports occupy.
    pub(super) bytes: u64,
    /// The sum of the hashes of all entries.
    pub(super) digest: u64,
    /// What the end of a lease deletes, or which locks it gives back. Only of leases that have something.
    pub(super) lease_keys: BTreeMap<LeaseId, BTreeSet<Key>>,
    /// What hosts have of what is counted by host. Only of hosts that have something.
    pub(super) usage: BTreeMap<HostName, Usage>,
    /// Hosts of the registry.
    pub(super) members: BTreeMap<HostName, (PeerId, Role)>,
    /// The same, the other way round.
    pub(super) peers: BTreeMap<PeerId, HostName>,
}

/// What a host has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) leases: u32,
    pub(super) sessions: u32,
}

/// What an entry occupies.
pub(super) fn entry_bytes(key: &Key, value: &[u8]) -> u64 {
    ENTRY_BYTES + (key.as_str().len() + value.len()) as u64
}

impl Derived {
    /// From the tables alone.
    ///
    /// # Errors
    /// When a record is none, or of a version that this program does not know.
    pub(super) fn of(tables: &Tables) -> Result<Self, DecodeError> {
        let mut derived = Self::default();
        for (key, entry) in tables.keys.iter() {
            derived.entered(key, entry);
            derived.index(key, entry)?;
        }
        for (_, lease) in tables.leases.iter() {
            derived.usage.entry(lease.host.clone()).or_default().leases += 1;
        }
        for (_, session) in tables.sessions.iter() {
            derived.usage.entry(session.host.clone()).or_default().sessions += 1;
        }
        derived.bytes += tables.staged.values().map(|staged| staged.bytes).sum::<u64>();
        Ok(derived)
    }

    /// Checks that a record is one, and indexes what it says.
    fn index(&mut self, key: &Key, entry: &Entry) -> Result<(), DecodeError> {
        match key.space() {
            Space::Locks => {
                let lock = Lock::load(&entry.value)?;
                for claim in lock.holders.iter().chain(&lock.waiters) {
                    self.attach(claim.lease, key);
                }
            }
            Space::Exports if key.export().is_none() => {
                Manifest::load(&entry.value)?;
            }
            Space::Mesh => match key.mesh() {
                ("peers", host) => {
                    let peer = Peer::load(&entry.value)?;
                    let host = HostName::parse(host).map_err(|_| Refusal::Malformed)?;
                    self.member(host, peer.peer, peer.role);
                }
                ("tokens", _) => {
                    Token::load(&entry.value)?;
                }
                ("ideal" | "feature", _) => {
                    u32::load(&entry.value)?;
                }
                _ => {}
            },
            Space::Keys | Space::Maps | Space::Exports => {}
        }
        Ok(())
    }

    /// An entry is there now.
    pub(super) fn entered(&mut self, key: &Key, entry: &Entry) {
        self.bytes += entry_bytes(key, &entry.value);
        self.digest = self.digest.wrapping_add(Digest::entry(key, entry));
        if let Some(lease) = entry.lease {
            self.attach(lease, key);
        }
    }

    /// An entry is not there any more.
    pub(super) fn left(&mut self, key: &Key, entry: &Entry) {
        self.bytes -= entry_bytes(key, &entry.value);
        self.digest = self.digest.wrapping_sub(Digest::entry(key, entry));
        if let Some(lease) = entry.lease {
            self.detach(lease, key);
        }
    }

    pub(super) fn attach(&mut self, lease: LeaseId, key: &Key) {
        self.lease_keys.entry(lease).or_default().insert(key.clone());
    }

    pub(super) fn detach(&mut self, lease: LeaseId, key: &Key) {
        if let Some(keys) = self.lease_keys.get_mut(&lease) {
            keys.remove(key);
            if keys.is_empty() {
                self.lease_keys.remove(&lease);
            }
        }
    }

    /// Changes what a host has.
    pub(super) fn count(&mut self, host: &HostName, change: impl FnOnce(&mut Usage)) {
        let usage = self.usage.entry(host.clone()).or_default();
        change(usage);
        if *usage == Usage::default() {
            self.usage.remove(host);
        }
    }

    /// A host is this peer now.
    pub(super) fn member(&mut self, host: HostName, peer: PeerId, role: Role) {
        self.no_member(&host);
        self.peers.insert(peer, host.clone());
        self.members.insert(host, (peer, role));
    }

    /// A host is none any more.
    pub(super) fn no_member(&mut self, host: &HostName) {
        if let Some((peer, _)) = self.members.remove(host) {
            self.peers.remove(&peer);
        }
    }

    /// What somebody may do: what his certificate says, unless the registry says less. Before the founder is in the
    /// registry, the leader's word is all there is.
    pub(super) fn role(&self, origin: &Origin) -> Result<Role, Refusal> {
        if self.members.is_empty() {
            return Ok(origin.role);
        }
        match self.members.get(&origin.host) {
            Some((peer, role)) if *peer == origin.peer => Ok(origin.role.min(*role)),
            _ => Err(Refusal::NotAllowed(Denied::Member)),
        }
    }
}
