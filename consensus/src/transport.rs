//! How members reach each other: whole messages out, whole answers back. Two of them will do it, QUIC and the memory of
//! one process, and one suite tries both.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use crate::identity::PeerId;

pub mod memory;
#[cfg(feature = "testing")]
pub mod suite;

/// What must not stand behind what. Messages of one lane between one pair arrive in the order they were sent, those
/// that arrive; lanes do not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Heartbeats, votes, transfers: first of all.
    Control,
    /// Entries of the log.
    Append,
    /// Proposals, reads, admissions.
    Client,
    /// Pieces of snapshots: last of all.
    Snapshot,
}

impl Lane {
    /// All of them, the most urgent one first.
    pub const ALL: [Self; 4] = [Self::Control, Self::Append, Self::Client, Self::Snapshot];
}

/// Why a call has no answer. None of them says whether the message arrived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The peer cannot be reached now.
    #[error("{0} cannot be reached")]
    Unreachable(PeerId),
    /// No answer within the time given.
    #[error("no answer from {0} within {1:?}")]
    Timeout(PeerId, Duration),
    /// Larger than [`crate::limits::FRAME_BYTES_MAX`]; nothing was sent.
    #[error("a message of {0} bytes is too large")]
    TooLarge(usize),
    /// This end is closed.
    #[error("the transport is closed")]
    Closed,
}

/// This peer's end of the network.
pub trait Transport: Clone + Debug + Send + Sync + 'static {
    /// The way back to whoever called.
    type Reply: Reply;

    /// Who this end is. The other end knows it too, from the transport and not from the message.
    fn me(&self) -> PeerId;

    /// Sends a message and waits for its answer, at most `deadline`.
    ///
    /// The message is on its way once this was polled for the first time, so that calls go out in the order in which
    /// they were begun. At most one answer, and only to this message. Dropped: the message may have arrived, its answer
    /// goes nowhere. At most [`CALLS_MAX`] calls are in flight to one peer on one lane; further ones wait, in order and
    /// within their deadline. A deadline above [`DEADLINE_MAX`](crate::limits::DEADLINE_MAX) is taken for that.
    ///
    /// A peer that is gone is [`CallError::Unreachable`] as soon as that can be known; one that is silent is
    /// [`CallError::Timeout`].
    fn call(
        &self,
        to: PeerId,
        lane: Lane,
        message: Bytes,
        deadline: Duration,
    ) -> impl Future<Output = Result<Bytes, CallError>> + Send;

    /// The next message for this peer, of the most urgent lane that has one; `None` once closed. Cancel safe. At most
    /// [`INBOX_MAX`] messages of a lane wait to be accepted; further ones are lost like on a network, and their callers
    /// time out.
    fn accept(&self) -> impl Future<Output = Option<Incoming<Self::Reply>>> + Send;

    /// Ends it: calls end with [`CallError::Closed`], accepting with `None`.
    fn close(&self);
}

/// A message that came.
#[derive(Debug)]
pub struct Incoming<R> {
    /// Who sent it.
    pub from: PeerId,
    /// Whether he may be appointed, and hence speak as a leader or a candidate: the transport has asked who he is.
    pub may_lead: bool,
    /// On which lane.
    pub lane: Lane,
    /// What it says; at most [`crate::limits::FRAME_BYTES_MAX`].
    pub message: Bytes,
    /// The way back.
    pub reply: R,
}

/// The way back to whoever called. Dropped without an answer: the caller hears nothing and times out, or finds the peer
/// unreachable.
pub trait Reply: Debug + Send + 'static {
    /// Answers.
    fn send(self, answer: Bytes);
}

/// Calls in flight from one peer to another on one lane. A lane of its own for each, or proposals that wait for a quorum
/// would hold up the votes that bring it about.
pub const CALLS_MAX: usize = 256;
/// Messages of one lane that wait to be accepted: from sixteen peers as many as they may have in flight.
pub const INBOX_MAX: usize = 4096;
