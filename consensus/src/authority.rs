//! Who vouches for whom: what a certificate says of a peer, who signs it, and how a joiner is let in.
//!
//! A certificate says who somebody is and what he may at most be. It authorises nothing: what counts is the membership
//! and the registry.

mod ca;
mod certificate;
mod keys;
mod pem;
pub mod proof;
#[cfg(test)]
mod tests;
mod text;
pub mod token;

use std::fmt;

pub use ca::{
    AUTHORITY_DAYS, Authority, CERTIFICATE_DAYS, DAY_S, GRACE_DAYS, IssueError, RENEW_AFTER_DAYS, SKEW_S, temporary,
};
pub use certificate::{Badge, Certificate, CertificateError, key_hash, server_name};
pub use keys::{KeyError, KeyPair, verify};
pub use pem::{PemError, certificates_from_pem, key_from_pem, pem_of_certificates, pem_of_key};

/// What a peer may do. Each may also do what those before it may. The numbers are stored and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// What a host needs for itself: its exports, its entries in maps, locks, and what an admin allowed it.
    Agent = 1,
    /// To be appointed, and to keep the mesh: admit peers with tokens, end leases.
    Master = 2,
    /// Everything.
    Admin = 3,
}

impl Role {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Agent, Self::Master, Self::Admin];

    /// As it is stored.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// From how it is stored.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Agent),
            2 => Some(Self::Master),
            3 => Some(Self::Admin),
            _ => None,
        }
    }

    /// From how people write it.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|role| role.word() == word)
    }

    /// As people write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Master => "master",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
