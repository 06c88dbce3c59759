//! What can be asked of the store: a closed set of commands, as they are sent by clients, attested by the leader and
//! kept in the log.
//!
//! A client sends a [`Request`]. The leader decodes it, so that nothing gets into the log that a replica would stop at,
//! and adds who asked, as the transport proved it, and what time it is: the [`Command`] that everybody applies.
//!
//! The forms that are stored and sent are types of their own, in `v1`, with golden bytes. Only this module and those
//! below it know how bytes are made.

mod codec;
mod outcome_v1;
mod record_v1;
mod snapshot_v1;
mod v1;

use std::sync::Arc;

use bytes::Bytes;
use mgmt_consensus::PeerId;

pub use codec::DecodeError;
pub(crate) use record_v1::Stored;
pub(crate) use snapshot_v1::{SectionReader, SectionWriter};

use crate::event::{LeaseId, Value};
use crate::host::HostName;
use crate::key::Key;
use crate::outcome::{Outcome, Refusal, Role, numbered};
use crate::record::{Peer, Token, Versions};
use crate::revision::Revision;

/// What is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Who asked.
    pub origin: Origin,
    /// The leader's time when it was proposed, in milliseconds since 1970. The store's time is the highest seen: it
    /// never goes back, so it must be seen to go on. A leader says the later of its own clock and
    /// [the store's time](crate::Keyspace::now_ms) with what has passed since it took over; otherwise one leader whose
    /// clock was years ahead would make time stand still for those after it, and nobody's share of proposals would grow.
    pub at_ms: u64,
    /// What was asked.
    pub request: Request,
}

/// Who asked, as the leader attests it from the certificate of the connection the request came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The host.
    pub host: HostName,
    /// The peer, which is another one when the host is set up anew.
    pub peer: PeerId,
    /// What its certificate lets it do. The registry may let it do less.
    pub role: Role,
}

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Makes it safe to send the same request again: it is applied once, and has one outcome.
    pub ticket: Option<Ticket>,
    /// What to do.
    pub body: Body,
}

/// A command's number in a session. Numbers grow; gaps are fine; one command of a session is on its way at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The session, as it was opened.
    pub session: u64,
    /// The number.
    pub sequence: u64,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are what their commands need; the types say which")]
pub enum Body {
    /// Writes a key of `k/` or `m/`.
    Put { key: Key, value: Value, lease: Option<LeaseId> },
    /// Deletes a key of `k/` or `m/`.
    Delete { key: Key },
    /// Deletes what begins so, in `k/` or `m/`.
    DeletePrefix { prefix: Prefix },
    /// Compares, then carries out one of two lists, all of it or nothing.
    Txn(Txn),
    /// Opens a lease for the host that asks.
    LeaseGrant { ttl_s: u32 },
    /// Ends a lease: what is on it is deleted.
    LeaseRevoke { lease: LeaseId },
    /// The same for leases that nobody renewed, said by the leader. Those that are gone are passed over.
    LeaseExpire { leases: Vec<LeaseId> },
    /// Takes a lock (a count of 1) or one of `count` places of a semaphore, for as long as a lease lives.
    Acquire { lock: Key, lease: LeaseId, count: u32, wait: bool },
    /// Gives it back, or waits no more.
    Release { lock: Key, lease: LeaseId },
    /// Sets changes of the host's exports aside for their flip. A higher generation drops what a lower one staged.
    ExportStage { generation: u64, changes: Vec<ExportChange> },
    /// Makes the host's exports those that they were at `base` (the revision of its manifest; zero: none) with what was
    /// staged under this generation, in `staged` changes, and with these changes.
    ExportFlip { generation: u64, base: Revision, staged: u32, changes: Vec<ExportChange> },
    /// Removes all exports of a host that will not come back.
    ExportForget { host: HostName },
    /// Takes a peer into the registry. The outcome's revision is its number, never used twice.
    PeerAdmit { host: HostName, peer: Peer, replace: bool },
    /// Changes what a peer says of itself.
    PeerUpdate { host: HostName, addresses: Vec<Arc<str>>, zone: Vec<Arc<str>>, versions: Versions, key_hash: [u8; 32] },
    /// Removes a peer from the registry. Its exports stay.
    PeerRemove { host: HostName },
    /// Makes a token known.
    TokenCreate { id: Arc<str>, token: Token },
    /// Uses a token for a host, if it was used so often before.
    TokenConsume { id: Arc<str>, host: HostName, used: u32 },
    /// Removes a token.
    TokenRevoke { id: Arc<str> },
    /// Sets how many masters there should be: 1, 3, 5 or 7.
    IdealSize { masters: u8 },
    /// Lets the hosts of a pattern write what begins so in `k/`.
    Allow { hosts: Arc<str>, prefix: Arc<str> },
    /// Takes that back.
    Disallow { hosts: Arc<str>, prefix: Arc<str> },
    /// Lets commands be used that need this level.
    FeatureLevel { level: u32 },
    /// Opens a session for the host that asks.
    SessionOpen,
    /// Closes one.
    SessionClose { session: u64 },
}

/// How keys of one space begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(Arc<str>);

impl Prefix {
    /// Checks a prefix: it lies in one space, and no longer than a key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = text.len() <= crate::limits::KEY_BYTES_MAX && crate::key::Space::of(text).is_some();
        (fits && !text.chars().any(char::is_control)).then(|| Self(text.into()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    /// What must hold, all of it.
    pub compare: Vec<Compare>,
    /// What is done if it holds.
    pub then: Vec<Op>,
    /// What is done if it does not.
    pub otherwise: Vec<Op>,
}

/// One thing that must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// A key is as said. One that is not there has the version, revisions and lease 0, and no value.
    Key(Key, Test),
    /// No key begins so.
    Empty(Prefix),
}

/// How a key must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// Its value is, or is not, this.
    Value(bool, Value),
    /// Its [version](crate::event::Entry::version).
    Version(Relation, u64),
    /// When it was written last.
    Modify(Relation, Revision),
    /// When it came into being.
    Create(Relation, Revision),
    /// Its lease; 0 is none.
    Lease(Relation, u64),
    /// It is there, or it is not.
    Present(bool),
}

numbered! {
    /// How what is there must compare to what is given.
    Relation {
        /// The same.
        Equal = 1 "=",
        /// Not the same.
        NotEqual = 2 "!=",
        /// Less than what is given.
        Less = 3 "<",
        /// More than what is given.
        Greater = 4 ">",
    }
}

impl Relation {
    /// Whether it holds.
    #[must_use]
    pub fn holds(self, there: u64, given: u64) -> bool {
        match self {
            Self::Equal => there == given,
            Self::NotEqual => there != given,
            Self::Less => there < given,
            Self::Greater => there > given,
        }
    }
}

/// One change of a transaction. They are made in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in `Body`")]
pub enum Op {
    /// As [`Body::Put`].
    Put { key: Key, value: Value, lease: Option<LeaseId> },
    /// As [`Body::Delete`].
    Delete { key: Key },
    /// As [`Body::DeletePrefix`].
    DeletePrefix { prefix: Prefix },
}

/// One export that is new, other than before, or withdrawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportChange {
    /// The kind of resource.
    pub kind: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// What it says; none withdraws it.
    pub value: Option<Value>,
}

impl Command {
    /// As it is stored in the log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        v1::encode_command(&self.origin, self.at_ms, &self.request.encode())
    }

    /// From the log.
    ///
    /// # Errors
    /// [`DecodeError::Unknown`] stops a replica; [`DecodeError::Refused`] is the outcome.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        v1::decode_command(bytes)
    }

    /// What a leader makes of a request before it proposes it: checked as far as bytes can be, and attested.
    ///
    /// # Errors
    /// What would be refused, or is of a version that this program does not know, does not get into the log.
    pub fn attest(request: &[u8], origin: &Origin, at_ms: u64) -> Result<Bytes, Refusal> {
        match Request::decode(request) {
            Ok(_) => Ok(v1::encode_command(origin, at_ms, request)),
            Err(DecodeError::Refused(refusal)) => Err(refusal),
            Err(DecodeError::Unknown(_)) => Err(Refusal::Malformed),
        }
    }
}

impl Request {
    /// A command that is not safe to be sent again.
    #[must_use]
    pub fn plain(body: Body) -> Self {
        Self { ticket: None, body }
    }

    /// As it is sent.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        v1::encode_request(self)
    }

    /// As it came.
    ///
    /// # Errors
    /// As [`Command::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        v1::decode_request(bytes)
    }
}

impl Outcome {
    /// As it is sent.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        outcome_v1::encode(self)
    }

    /// As it came.
    ///
    /// # Errors
    /// When it is none, or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        outcome_v1::decode(bytes)
    }
}
