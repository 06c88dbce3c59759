//! The bytes that are sent, and those that describe a snapshot: our own types, versioned and bounded, converted by
//! hand. The only door to bincode, whose encoding has no names and no versions of its own.
//!
//! A message is one frame, all numbers little-endian:
//!
//! ```text
//! magic "mg" | version u8 | kind u8                          stay where they are for ever
//! cluster u128 | from u64 | incarnation u128 | to u64        the envelope, see [`Envelope`]
//! length of the payload u32 | crc32c of all before it u32
//! payload | crc32c of the payload u32
//! ```
//!
//! What comes in is hostile until it is decoded. Lengths are compared with what is there before anything is allocated,
//! no memory is taken for a number somebody merely claims, and what is decoded is at most a small multiple of what
//! came. Whatever is wrong is a [`WireError`], never a panic. Every other check (who may say this, is it he) is made by
//! whoever receives, against the certificate and the membership.
//!
//! Two layers: [`Request`] and [`Answer`] are what the program works with, free to change; below `v1` lie their twins
//! that are written, which never change once released.
//!
//! # How this evolves
//!
//! Hosts of two versions speak with each other while a mesh is upgraded, and a snapshot file outlives the program that
//! wrote it. The golden files under `testdata/golden` hold the bytes of every type, and the test beside them neither
//! overwrites one nor lets one be forgotten. So:
//!
//! 1. A type below `v1` that was released is never edited: no field added, removed, moved, widened or renamed in
//!    meaning. bincode writes fields one after the other; whatever is inserted shifts all that follows, and the reader
//!    takes one for the other without noticing.
//! 2. A new *message* is a new variant at the **end** of `RequestV1` or `AnswerV1`, with a new golden file. An older
//!    reader refuses it as malformed, and answers so; whoever sends it must have made sure that the other end knows it:
//!    by the feature level of the mesh (the lowest of all members) for what reaches the log, by asking and falling back
//!    for the rest.
//! 3. A new *shape* of a message that exists is a new variant as well (`AppendV2` beside `Append`); its old twin is
//!    still read, and written to those that know no better. Domain types change at once, with a conversion from both.
//! 4. If everything must change, `version` does: a folder `v2` beside `v1`, both read, the lower one written until the
//!    whole mesh knows the higher. The first four bytes of a frame keep their places, so that an old reader can say
//!    [`WireError::Version`] instead of guessing.
//! 5. Before a change, three questions. Can an old reader read new data, or does it refuse it cleanly? Can a new reader
//!    read old data? Does an old *writer* lose anything on the way back, having read something newer?
//! 6. An unknown *command* inside an entry is none of this file's business: it is bytes here.
//! 7. bincode itself is pinned. If it must go, whatever replaces it writes these same bytes: the golden files say which.

use std::fmt;

use bytes::Bytes;

use crate::identity::{ClusterId, Incarnation};
use crate::limits::{FRAME_BYTES_MAX, META_BYTES_MAX};
use crate::types::{RaftId, SnapshotMeta, StoredMembership};

mod bounds;
mod frame;
mod message;
mod raft;
mod raw;
#[cfg(test)]
mod tests;
mod v1;

pub use message::{
    Answer, Append, Appended, Ballot, Cast, Leader, Mismatch, Refusal, Request, Role, Standing, Transfer, Transferred,
};

pub use crate::masters::Profile;

/// The raft id of who has none yet.
pub const NOBODY: RaftId = 0;

/// Who says it to whom: checked against the certificate and the committed membership before the rest is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// The cluster both are in; zero from somebody who does not know it yet.
    pub cluster: ClusterId,
    /// The sender's id, or [`NOBODY`].
    pub from: RaftId,
    /// The life of the sender's directory that this id belongs to.
    pub incarnation: Incarnation,
    /// Whom he means, or [`NOBODY`] for whoever is there.
    pub to: RaftId,
}

/// Bytes that are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It ends before it is complete, or goes on after.
    #[error("{is} bytes where {wanted} are wanted")]
    Length {
        /// How many there should be.
        wanted: usize,
        /// How many there are.
        is: usize,
    },
    /// It does not begin as ours do.
    #[error("not a message of this program")]
    Magic,
    /// From a version of the program that this one cannot read.
    #[error("wire version {0} is unknown here")]
    Version(u8),
    /// Some other kind of frame.
    #[error("not what is expected here (kind {0})")]
    Kind(u8),
    /// Damaged on its way.
    #[error("the checksum of the {0} is wrong")]
    Checksum(Part),
    /// Above a bound of this program.
    #[error("{is} {what}, at most {max} are allowed")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much.
        is: usize,
        /// The bound.
        max: usize,
    },
    /// A number that is counted on from, with nothing behind it.
    #[error("{what} {is}, which is above all that can be")]
    TooHigh {
        /// Which number.
        what: &'static str,
        /// Its value.
        is: u64,
    },
    /// It cannot be read, or cannot be.
    #[error("malformed: {0}")]
    Malformed(String),
}

/// A part of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All before the payload.
    Header,
    /// The payload.
    Payload,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Payload => "payload",
        })
    }
}

/// Writes a request as a frame.
///
/// # Errors
/// [`WireError::TooMuch`]: it is above a bound, the receiver would refuse it.
pub fn encode_request(envelope: &Envelope, request: &Request) -> Result<Bytes, WireError> {
    request.check()?;
    frame::seal(frame::Kind::Request, envelope, &v1::RequestV1::from(request))
}

/// Reads a request.
///
/// # Errors
/// [`WireError`].
pub fn decode_request(bytes: &[u8]) -> Result<(Envelope, Request), WireError> {
    let (envelope, request) = frame::open::<v1::RequestV1>(frame::Kind::Request, bytes)?;
    let request = Request::try_from(request)?;
    request.check()?;
    Ok((envelope, request))
}

/// Writes an answer as a frame.
///
/// # Errors
/// [`WireError::TooMuch`]: it is above a bound, the receiver would refuse it.
pub fn encode_answer(envelope: &Envelope, answer: &Answer) -> Result<Bytes, WireError> {
    answer.check()?;
    frame::seal(frame::Kind::Answer, envelope, &v1::AnswerV1::from(answer))
}

/// Reads an answer.
///
/// # Errors
/// [`WireError`].
pub fn decode_answer(bytes: &[u8]) -> Result<(Envelope, Answer), WireError> {
    let (envelope, answer) = frame::open::<v1::AnswerV1>(frame::Kind::Answer, bytes)?;
    let answer = Answer::from(answer);
    answer.check()?;
    Ok((envelope, answer))
}

/// Writes what a snapshot covers, for the head of its file: version and contents, no checksum.
///
/// # Errors
/// [`WireError::TooMuch`].
pub fn encode_meta(meta: &SnapshotMeta) -> Result<Vec<u8>, WireError> {
    bounds::check_meta(meta)?;
    frame::encode(&v1::StoredV1::Meta(meta.into()), META_BYTES_MAX)
}

/// Reads what a snapshot covers.
///
/// # Errors
/// [`WireError`].
pub fn decode_meta(bytes: &[u8]) -> Result<SnapshotMeta, WireError> {
    match frame::decode(bytes, META_BYTES_MAX)? {
        v1::StoredV1::Meta(meta) => {
            let meta = meta.try_into()?;
            bounds::check_meta(&meta)?;
            Ok(meta)
        }
        v1::StoredV1::Membership(_) => {
            Err(WireError::Malformed("a membership where a snapshot is expected".to_owned()))
        }
    }
}

/// Writes a membership and where it stands: version and contents, no checksum.
///
/// # Errors
/// [`WireError::TooMuch`].
pub fn encode_membership(membership: &StoredMembership) -> Result<Vec<u8>, WireError> {
    bounds::check_stored(membership)?;
    frame::encode(&v1::StoredV1::Membership(membership.into()), META_BYTES_MAX)
}

/// Reads a membership and where it stands.
///
/// # Errors
/// [`WireError`].
pub fn decode_membership(bytes: &[u8]) -> Result<StoredMembership, WireError> {
    match frame::decode(bytes, META_BYTES_MAX)? {
        v1::StoredV1::Membership(membership) => {
            let membership: StoredMembership = membership.try_into()?;
            bounds::check_stored(&membership)?;
            Ok(membership)
        }
        v1::StoredV1::Meta(_) => Err(WireError::Malformed("a snapshot where a membership is expected".to_owned())),
    }
}

/// crc32c, as everything here is checked with. It finds accidents, not intent: intent is the transport's affair.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// crc32c of what has been summed already with more behind it.
#[must_use]
pub fn checksum_on(sum: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(sum, bytes)
}

/// Refuses what is above a bound.
fn at_most(what: &'static str, is: usize, max: usize) -> Result<(), WireError> {
    if is > max { Err(WireError::TooMuch { what, is, max }) } else { Ok(()) }
}

const _: () = assert!(FRAME_BYTES_MAX < u32::MAX as usize, "a length must fit its field");
