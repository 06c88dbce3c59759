//! The names that openraft's types have here.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ground::Ground;
use crate::identity::{Incarnation, PeerId};

/// Who somebody is in the log: 1 for the founder, the log index of his admission for everybody else. Never used twice.
pub type RaftId = u64;

/// A member as the membership records him. There is no address in it: addresses change, members do not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
// openraft's own suite makes members out of nothing.
#[cfg_attr(feature = "testing", derive(Default))]
pub struct Member {
    /// Whom the transport calls.
    pub peer: PeerId,
    /// Which life of his directory this id belongs to.
    pub incarnation: Incarnation,
    /// His name, for people.
    pub host: String,
}

/// A command or an outcome: bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Bytes);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The group on this ground, as openraft wants its types named.
pub struct Group<G>(PhantomData<fn() -> G>);

/// `PhantomData` derives nothing for a `G` that derives nothing, and there is nothing in it to look at.
macro_rules! a_name_and_nothing_else {
    ($($Trait:ident: $body:item)*) => { $(impl<G: Ground> $Trait for Group<G> { $body })* };
}

use std::cmp::Ordering;
use std::fmt::Debug;

a_name_and_nothing_else! {
    Debug: fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str("Group") }
    Clone: fn clone(&self) -> Self { *self }
    Default: fn default() -> Self { Self(PhantomData) }
    PartialEq: fn eq(&self, _: &Self) -> bool { true }
    PartialOrd: fn partial_cmp(&self, other: &Self) -> Option<Ordering> { Some(self.cmp(other)) }
    Ord: fn cmp(&self, _: &Self) -> Ordering { Ordering::Equal }
}
impl<G: Ground> Copy for Group<G> {}
impl<G: Ground> Eq for Group<G> {}

impl<G: Ground> openraft::RaftTypeConfig for Group<G> {
    type D = Blob;
    type R = Blob;
    type NodeId = RaftId;
    type Node = Member;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = G::Runtime;
    type Responder<T>
        = openraft::impls::OneshotResponder<Self, T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// A term and who leads in it.
pub type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, RaftId>;
/// The same, of a leader that a quorum has confirmed.
pub type CommittedLeaderId = <LeaderId as openraft::vote::RaftLeaderId>::Committed;
/// A vote.
pub type Vote = openraft::impls::Vote<LeaderId>;
/// Where an entry stands: leader and index.
pub type LogId = openraft::LogId<CommittedLeaderId>;
/// What an entry carries: nothing, a command, or a membership.
pub type Payload = openraft::EntryPayload<Blob, RaftId, Member>;
/// An entry of the log.
pub type Entry = openraft::impls::Entry<CommittedLeaderId, Payload>;
/// Voters (one set, or two while they change) and learners.
pub type Membership = openraft::Membership<RaftId, Member>;
/// A membership and where in the log it stands.
pub type StoredMembership = openraft::StoredMembership<CommittedLeaderId, RaftId, Member>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, RaftId, Member>;
