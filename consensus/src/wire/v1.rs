//! Version 1 of what is written: the parts that messages have in common. Released types are never edited; see the rules
//! in [`crate::wire`].
//!
//! Every conversion takes its source apart by name, so that a field openraft adds one day is an error here and not lost.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::WireError;
use super::raw::{Raw, list};
use crate::identity::{Incarnation, PeerId};
use crate::types::{Blob, Entry, LeaderId, LogId, Member, Membership, Payload, SnapshotMeta, StoredMembership, Vote};

mod answer;
mod request;

pub(super) use answer::AnswerV1;
pub(super) use request::RequestV1;

/// What lies in files. The variant is the version and the kind in one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum StoredV1 {
    Meta(SnapshotMetaV1),
    Membership(StoredMembershipV1),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogIdV1 {
    term: u64,
    node: u64,
    index: u64,
}

impl From<LogId> for LogIdV1 {
    fn from(id: LogId) -> Self {
        let LogId { leader_id: LeaderId { term, node_id }, index } = id;
        Self { term, node: node_id, index }
    }
}

impl From<LogIdV1> for LogId {
    fn from(id: LogIdV1) -> Self {
        let LogIdV1 { term, node, index } = id;
        Self { leader_id: LeaderId { term, node_id: node }, index }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VoteV1 {
    term: u64,
    node: u64,
    committed: bool,
}

impl From<Vote> for VoteV1 {
    fn from(vote: Vote) -> Self {
        let Vote { leader_id: LeaderId { term, node_id }, committed } = vote;
        Self { term, node: node_id, committed }
    }
}

impl From<VoteV1> for Vote {
    fn from(vote: VoteV1) -> Self {
        let VoteV1 { term, node, committed } = vote;
        Self { leader_id: LeaderId { term, node_id: node }, committed }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MemberV1 {
    peer: u128,
    incarnation: u128,
    host: String,
}

impl From<&Member> for MemberV1 {
    fn from(member: &Member) -> Self {
        let Member { peer, incarnation, host } = member;
        Self { peer: peer.0, incarnation: incarnation.0, host: host.clone() }
    }
}

impl From<MemberV1> for Member {
    fn from(member: MemberV1) -> Self {
        let MemberV1 { peer, incarnation, host } = member;
        Self { peer: PeerId(peer), incarnation: Incarnation(incarnation), host }
    }
}

/// Members under their ids.
pub(super) type MembersV1 = BTreeMap<u64, MemberV1>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MembershipV1 {
    #[serde(deserialize_with = "list")]
    voters: Vec<BTreeSet<u64>>,
    members: MembersV1,
}

impl From<&Membership> for MembershipV1 {
    fn from(membership: &Membership) -> Self {
        Self {
            voters: membership.get_joint_config().clone(),
            members: membership.nodes().map(|(id, member)| (*id, member.into())).collect(),
        }
    }
}

impl TryFrom<MembershipV1> for Membership {
    type Error = WireError;

    fn try_from(membership: MembershipV1) -> Result<Self, WireError> {
        let MembershipV1 { voters, members } = membership;
        let members: BTreeMap<u64, Member> = members.into_iter().map(|(id, member)| (id, member.into())).collect();
        Self::new(voters, members).map_err(|error| WireError::Malformed(error.to_string()))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum PayloadV1 {
    Blank,
    Command(Raw),
    Membership(MembershipV1),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EntryV1 {
    id: LogIdV1,
    payload: PayloadV1,
}

impl From<&Entry> for EntryV1 {
    fn from(entry: &Entry) -> Self {
        let Entry { log_id, payload } = entry;
        let payload = match payload {
            Payload::Blank => PayloadV1::Blank,
            Payload::Normal(Blob(command)) => PayloadV1::Command(Raw(command.clone())),
            Payload::Membership(membership) => PayloadV1::Membership(membership.into()),
        };
        Self { id: (*log_id).into(), payload }
    }
}

impl TryFrom<EntryV1> for Entry {
    type Error = WireError;

    fn try_from(entry: EntryV1) -> Result<Self, WireError> {
        let EntryV1 { id, payload } = entry;
        let payload = match payload {
            PayloadV1::Blank => Payload::Blank,
            PayloadV1::Command(Raw(command)) => Payload::Normal(Blob(command)),
            PayloadV1::Membership(membership) => Payload::Membership(membership.try_into()?),
        };
        Ok(Self { log_id: id.into(), payload })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredMembershipV1 {
    id: Option<LogIdV1>,
    membership: MembershipV1,
}

impl From<&StoredMembership> for StoredMembershipV1 {
    fn from(stored: &StoredMembership) -> Self {
        Self { id: (*stored.log_id()).map(Into::into), membership: stored.membership().into() }
    }
}

impl TryFrom<StoredMembershipV1> for StoredMembership {
    type Error = WireError;

    fn try_from(stored: StoredMembershipV1) -> Result<Self, WireError> {
        let StoredMembershipV1 { id, membership } = stored;
        Ok(Self::new(id.map(Into::into), membership.try_into()?))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SnapshotMetaV1 {
    last: Option<LogIdV1>,
    membership: StoredMembershipV1,
}

impl From<&SnapshotMeta> for SnapshotMetaV1 {
    fn from(meta: &SnapshotMeta) -> Self {
        let SnapshotMeta { last_log_id, last_membership } = meta;
        Self { last: last_log_id.map(Into::into), membership: last_membership.into() }
    }
}

impl TryFrom<SnapshotMetaV1> for SnapshotMeta {
    type Error = WireError;

    fn try_from(meta: SnapshotMetaV1) -> Result<Self, WireError> {
        let SnapshotMetaV1 { last, membership } = meta;
        Ok(Self { last_log_id: last.map(Into::into), last_membership: membership.try_into()? })
    }
}
