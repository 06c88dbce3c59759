//! What lies in the spaces that are not written by key: peers, tokens, locks, manifests.

use std::sync::Arc;

use mgmt_consensus::PeerId;

use crate::event::LeaseId;
use crate::host::HostName;
use crate::outcome::Role;
use crate::revision::Revision;

/// A peer in the registry, under its host's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who answers there.
    pub peer: PeerId,
    /// What it may do.
    pub role: Role,
    /// Where it can be reached.
    pub addresses: Vec<Arc<str>>,
    /// Where it stands: `a/b/c` in parts.
    pub zone: Vec<Arc<str>>,
    /// What it understands.
    pub versions: Versions,
    /// A hash of its certificate's key.
    pub key_hash: [u8; 32],
    /// The revision of its admission.
    pub admitted: Revision,
}

/// The feature levels that a program understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The lowest.
    pub min: u32,
    /// The highest.
    pub max: u32,
}

impl Versions {
    /// Whatever there is and will be: for whoever only looks at bytes.
    pub const ALL: Self = Self { min: 0, max: u32::MAX };

    /// Whether a program that understands these understands this level.
    #[must_use]
    pub const fn understand(self, level: u32) -> bool {
        self.min <= level && level <= self.max
    }
}

/// A token that lets hosts join. The secret half is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What proves that somebody has the secret half.
    pub public_key: [u8; 32],
    /// What it makes of a host.
    pub role: Role,
    /// The only host that may use it.
    pub host: Option<HostName>,
    /// Whether a host may take over a name that is taken.
    pub replace: bool,
    /// When it ends, by the leaders' time.
    pub expires_ms: u64,
    /// How often it may be used; without a number, until it ends.
    pub uses: Option<u32>,
    /// How often it was used.
    pub used: u32,
}

/// A lock or a semaphore that somebody holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// How many may hold it at once.
    pub count: u32,
    /// Who holds it, the longest first.
    pub holders: Vec<Claim>,
    /// Who waits, the longest first.
    pub waiters: Vec<Claim>,
}

impl Lock {
    /// All parts in it, those who hold it first.
    pub fn claims(self) -> impl Iterator<Item = Claim> {
        self.holders.into_iter().chain(self.waiters)
    }
}

/// A part in a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// For as long as this lease lives.
    pub lease: LeaseId,
    /// Whose lease it is.
    pub host: HostName,
    /// When it was asked for.
    pub asked: Revision,
    /// When it was given; zero while waiting. Grows from holder to holder.
    pub fence: Revision,
}

/// Which exports a host has: written last whenever they change, under the same revision as the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manifest {
    /// The host's own count of its publications.
    pub generation: u64,
    /// How many exports there are.
    pub count: u32,
    /// Their bytes, keys included.
    pub bytes: u64,
}
