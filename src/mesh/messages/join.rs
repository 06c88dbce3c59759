//! Errand "join": what somebody who is no member asks, and what he is told.

use std::net::SocketAddr;

use bytes::Bytes;
use mgmt_consensus::{ClusterId, PeerId};
use serde::{Deserialize, Serialize};

use super::{HexBytes, HexId, HexText, MessageError, VERSION, read, write};

/// Addresses in one message about one peer.
pub const ADDRESSES_MAX: usize = 16;
/// Members that a joiner is told of: those he begins with. The registry has all of them.
pub const MEMBERS_MAX: usize = 64;
/// What is signed begins so: a signature for this says nothing anywhere else.
const JOIN_CONTEXT: &[u8] = b"mgmt join 1\0";
/// The same of a renewal.
const RENEW_CONTEXT: &[u8] = b"mgmt renew 1\0";

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Who is there? Nothing that is secret.
    Who,
    /// Let me in: a [`Wish`], signed with the token.
    Join(Signed),
    /// Renew my certificate, which has ended: a [`Renewal`], signed with the key that it was made out to.
    Renew(Signed),
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Who is here.
    Who(Who),
    /// Come in.
    Joined(Papers),
    /// This peer cannot sign: ask these.
    Elsewhere {
        /// Where masters are.
        addresses: Vec<SocketAddr>,
    },
    /// No.
    Refused {
        /// In words, with what to do about it.
        why: String,
        /// For programs.
        kind: Kind,
    },
}

/// Why somebody is not let in, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Not now: the same may work a moment later.
    TryAgain,
    /// Too many attempts that failed came from there.
    Slow,
    /// No such token: it was revoked, or never was.
    NoToken,
    /// Its time is over.
    Expired,
    /// It was used as often as it may be.
    UsedUp,
    /// It is for another host.
    OtherHost,
    /// The host's name is taken.
    HostTaken,
    /// The signature is not the token's, or of another connection.
    Signature,
    /// This is another cluster.
    OtherCluster,
    /// Nobody of the registry, or not under this key.
    Unknown,
    /// It is no sensible request.
    Malformed,
    /// He does not understand the feature level of this mesh.
    Level,
    /// One that this version does not know.
    #[serde(other)]
    Other,
}

/// Words, exactly as they were signed, and the signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// JSON, as text: what is signed is what is read.
    pub words: String,
    /// Ed25519, of a context, the connection's exporter and the words.
    pub signature: HexBytes<64>,
}

/// What somebody with a token wishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// The token's name.
    pub token: String,
    /// Where he wants to be let in.
    pub cluster: HexId,
    /// His host's name.
    pub host: String,
    /// Who he will be.
    pub peer: HexId,
    /// His key.
    pub public_key: HexBytes<32>,
    /// He knows that the name may be taken, and wants it.
    #[serde(default)]
    pub replace: bool,
    /// Where he stands.
    #[serde(default)]
    pub zone: Vec<String>,
    /// The lowest feature level that he understands.
    #[serde(default)]
    pub level_min: u32,
    /// The highest.
    pub level_max: u32,
}

/// What somebody wishes whose certificate has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// Where he is a member.
    pub cluster: HexId,
    /// His certificate.
    pub certificate: HexText,
}

/// Who is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Of which cluster.
    pub cluster: HexId,
    /// Which peer.
    pub peer: HexId,
    /// On which host.
    pub host: String,
    /// What its clock says, in milliseconds since 1970.
    pub unix_ms: u64,
    /// Of the program.
    pub version: String,
    /// The lowest feature level that it understands.
    #[serde(default)]
    pub level_min: u32,
    /// The highest.
    #[serde(default)]
    pub level_max: u32,
}

/// What makes somebody a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Papers {
    /// His certificate.
    pub certificate: HexText,
    /// Whom to believe, the one that is signed with first.
    pub authorities: Vec<HexText>,
    /// Some of those who are there, masters first.
    #[serde(default)]
    pub members: Vec<MemberAt>,
}

/// A member, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberAt {
    /// Who.
    pub peer: HexId,
    /// Its host.
    pub host: String,
    /// Where.
    pub addresses: Vec<SocketAddr>,
}

#[derive(Serialize, Deserialize)]
struct Asked {
    v: u32,
    join: Ask,
}

#[derive(Serialize, Deserialize)]
struct Replied {
    v: u32,
    joined: Reply,
}

impl Ask {
    /// As it is sent.
    ///
    /// # Errors
    /// [`MessageError::Long`].
    pub fn write(self) -> Result<Bytes, MessageError> {
        write(&Asked { v: VERSION, join: self })
    }

    /// As it came.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn read(bytes: &[u8]) -> Result<Self, MessageError> {
        read::<Asked>(bytes).map(|asked| asked.join)
    }
}

impl Reply {
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
        write(&Replied { v: VERSION, joined: self })
    }

    /// As it came.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn read(bytes: &[u8]) -> Result<Self, MessageError> {
        read::<Replied>(bytes).map(|replied| replied.joined)
    }
}

impl Wish {
    /// Signed for the connection with this exporter.
    ///
    /// # Errors
    /// Never, in practice: it has no text that JSON cannot hold.
    pub fn sign(&self, exporter: &[u8; 32], sign: impl FnOnce(&[u8]) -> [u8; 64]) -> Result<Signed, MessageError> {
        Signed::of(self, JOIN_CONTEXT, exporter, sign)
    }
}

impl Renewal {
    /// Signed for the connection with this exporter.
    ///
    /// # Errors
    /// As [`Wish::sign`].
    pub fn sign(&self, exporter: &[u8; 32], sign: impl FnOnce(&[u8]) -> [u8; 64]) -> Result<Signed, MessageError> {
        Signed::of(self, RENEW_CONTEXT, exporter, sign)
    }
}

impl Signed {
    fn of<T: Serialize>(
        words: &T,
        context: &[u8],
        exporter: &[u8; 32],
        sign: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> Result<Self, MessageError> {
        let words = serde_json::to_string(words).map_err(|error| MessageError::Strange(error.to_string()))?;
        let signature = HexBytes(sign(&message(context, exporter, &words)));
        Ok(Self { words, signature })
    }

    /// What a wish says. Whether it is signed is another question: see [`Signed::fits_wish`].
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn wish(&self) -> Result<Wish, MessageError> {
        serde_json::from_str(&self.words).map_err(strange)
    }

    /// What a renewal says.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn renewal(&self) -> Result<Renewal, MessageError> {
        serde_json::from_str(&self.words).map_err(strange)
    }

    /// Whether the wish was signed with this key, for this connection.
    #[must_use]
    pub fn fits_wish(&self, key: &[u8; 32], exporter: &[u8; 32]) -> bool {
        self.fits(JOIN_CONTEXT, key, exporter)
    }

    /// Whether the renewal was.
    #[must_use]
    pub fn fits_renewal(&self, key: &[u8; 32], exporter: &[u8; 32]) -> bool {
        self.fits(RENEW_CONTEXT, key, exporter)
    }

    fn fits(&self, context: &[u8], key: &[u8; 32], exporter: &[u8; 32]) -> bool {
        mgmt_consensus::authority::verify(key, &message(context, exporter, &self.words), &self.signature.0)
    }
}

fn strange(error: serde_json::Error) -> MessageError {
    MessageError::Strange(super::printable(&error.to_string()))
}

fn message(context: &[u8], exporter: &[u8; 32], words: &str) -> Vec<u8> {
    [context, exporter, words.as_bytes()].concat()
}

impl From<ClusterId> for HexId {
    fn from(id: ClusterId) -> Self {
        Self(id.0)
    }
}

impl From<PeerId> for HexId {
    fn from(id: PeerId) -> Self {
        Self(id.0)
    }
}

impl From<HexId> for ClusterId {
    fn from(id: HexId) -> Self {
        Self(id.0)
    }
}

impl From<HexId> for PeerId {
    fn from(id: HexId) -> Self {
        Self(id.0)
    }
}
