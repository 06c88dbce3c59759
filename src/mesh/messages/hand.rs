//! What members hand each other, over the group's own connections: who speaks is known by his certificate.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::join::{Kind, Papers};
use super::{HexBytes, HexText, MessageError, VERSION, read, write};

/// What is handed over, or asked for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hand {
    /// The key of the authority, from the leader to who is to become a master.
    Authority {
        /// Whom to believe, the one whose key this is first.
        authorities: Vec<HexText>,
        /// The key, as PKCS#8.
        key: HexText,
    },
    /// Sign another certificate for me, with this key.
    Renew {
        /// The key.
        public_key: HexBytes<32>,
    },
    /// Give me the authority's key: from one master to another.
    Fetch,
    /// Whom do you believe?
    Authorities,
    /// Make another authority: from an admin's host to whoever leads.
    Rotate,
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Handed {
    /// It is here, and survives a power cut.
    Kept,
    /// A certificate, and whom to believe.
    Papers(Papers),
    /// Whom to believe, who signs first.
    Authorities {
        /// Their certificates.
        authorities: Vec<HexText>,
    },
    /// The key of the authority, as in [`Hand::Authority`].
    Authority {
        /// Whom to believe, the one whose key this is first.
        authorities: Vec<HexText>,
        /// The key, as PKCS#8.
        key: HexText,
    },
    /// No.
    Refused {
        /// In words.
        why: String,
        /// For programs.
        kind: Kind,
    },
}

impl std::fmt::Debug for Hand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Authority { .. } => "Authority",
            Self::Renew { .. } => "Renew",
            Self::Fetch => "Fetch",
            Self::Authorities => "Authorities",
            Self::Rotate => "Rotate",
        })
    }
}

impl std::fmt::Debug for Handed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kept => f.write_str("Kept"),
            Self::Papers(_) => f.write_str("Papers"),
            Self::Authorities { .. } => f.write_str("Authorities"),
            Self::Authority { .. } => f.write_str("Authority"),
            Self::Refused { why, kind } => write!(f, "Refused({kind:?}, {why:?})"),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Sent {
    v: u32,
    hand: Hand,
}

#[derive(Serialize, Deserialize)]
struct Answered {
    v: u32,
    handed: Handed,
}

impl Hand {
    /// As it is sent.
    ///
    /// # Errors
    /// [`MessageError::Long`].
    pub fn write(self) -> Result<Bytes, MessageError> {
        write(&Sent { v: VERSION, hand: self })
    }

    /// As it came.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn read(bytes: &[u8]) -> Result<Self, MessageError> {
        read::<Sent>(bytes).map(|sent| sent.hand)
    }
}

impl Handed {
    /// No, and why.
    #[must_use]
    pub fn refused(kind: Kind, why: impl Into<String>) -> Self {
        Self::Refused { why: why.into(), kind }
    }

    /// As it is sent.
    ///
    /// # Errors
    /// [`MessageError::Long`].
    pub fn write(self) -> Result<Bytes, MessageError> {
        write(&Answered { v: VERSION, handed: self })
    }

    /// As it came.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn read(bytes: &[u8]) -> Result<Self, MessageError> {
        read::<Answered>(bytes).map(|answered| answered.handed)
    }
}
