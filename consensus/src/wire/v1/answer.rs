//! Answers, version 1.

use serde::{Deserialize, Serialize};

use super::super::message::{Answer, Appended, Cast, Leader, Mismatch, Role, Standing, Transferred};
use super::super::raw::{Raw, list};
use super::{LogIdV1, MembersV1, VoteV1};
use crate::identity::{ClusterId, PeerId};
use crate::masters::Profile;

/// New ones at the end only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::wire) enum AnswerV1 {
    Append(AppendedV1),
    Vote(CastV1),
    PreVote(CastV1),
    Transfer(TransferredV1),
    SnapshotNext { offset: u64 },
    SnapshotDone { vote: VoteV1 },
    SnapshotUnknown,
    Proposed { index: u64, outcome: Raw },
    ReadAt { index: u64 },
    Admitted { cluster: u128, raft_id: u64, members: MembersV1 },
    Standing(Box<StandingV1>),
    NotLeader { leader: Option<LeaderV1> },
    Unavailable { why: String },
    Unknown { why: String },
    Refused { why: String },
    Mismatch(MismatchV1),
    Reserved { cluster: u128, raft_id: u64 },
    Told { answer: Raw },
    Handed { answer: Raw },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::wire) enum AppendedV1 {
    All,
    Until(Option<LogIdV1>),
    Conflict,
    HigherVote(VoteV1),
}

impl From<Appended> for AppendedV1 {
    fn from(appended: Appended) -> Self {
        match appended {
            Appended::All => Self::All,
            Appended::Until(last) => Self::Until(last.map(Into::into)),
            Appended::Conflict => Self::Conflict,
            Appended::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

impl From<AppendedV1> for Appended {
    fn from(appended: AppendedV1) -> Self {
        match appended {
            AppendedV1::All => Self::All,
            AppendedV1::Until(last) => Self::Until(last.map(Into::into)),
            AppendedV1::Conflict => Self::Conflict,
            AppendedV1::HigherVote(vote) => Self::HigherVote(vote.into()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::wire) struct CastV1 {
    vote: VoteV1,
    granted: bool,
    last: Option<LogIdV1>,
}

impl From<Cast> for CastV1 {
    fn from(cast: Cast) -> Self {
        let Cast { vote, granted, last } = cast;
        Self { vote: vote.into(), granted, last: last.map(Into::into) }
    }
}

impl From<CastV1> for Cast {
    fn from(cast: CastV1) -> Self {
        let CastV1 { vote, granted, last } = cast;
        Self { vote: vote.into(), granted, last: last.map(Into::into) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::wire) enum TransferredV1 {
    Accepted,
    VoteChanged { expected: VoteV1, actual: VoteV1 },
    LogNotFlushed { expected: Option<LogIdV1>, actual: Option<LogIdV1> },
}

impl From<Transferred> for TransferredV1 {
    fn from(transferred: Transferred) -> Self {
        match transferred {
            Transferred::Accepted => Self::Accepted,
            Transferred::VoteChanged { expected, actual } => {
                Self::VoteChanged { expected: expected.into(), actual: actual.into() }
            }
            Transferred::LogNotFlushed { expected, actual } => {
                Self::LogNotFlushed { expected: expected.map(Into::into), actual: actual.map(Into::into) }
            }
        }
    }
}

impl From<TransferredV1> for Transferred {
    fn from(transferred: TransferredV1) -> Self {
        match transferred {
            TransferredV1::Accepted => Self::Accepted,
            TransferredV1::VoteChanged { expected, actual } => {
                Self::VoteChanged { expected: expected.into(), actual: actual.into() }
            }
            TransferredV1::LogNotFlushed { expected, actual } => {
                Self::LogNotFlushed { expected: expected.map(Into::into), actual: actual.map(Into::into) }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::wire) struct LeaderV1 {
    raft_id: u64,
    peer: u128,
}

impl From<Leader> for LeaderV1 {
    fn from(leader: Leader) -> Self {
        let Leader { raft_id, peer } = leader;
        Self { raft_id, peer: peer.0 }
    }
}

impl From<LeaderV1> for Leader {
    fn from(leader: LeaderV1) -> Self {
        let LeaderV1 { raft_id, peer } = leader;
        Self { raft_id, peer: PeerId(peer) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::wire) enum RoleV1 {
    Learner,
    Follower,
    Candidate,
    Leader,
    Stopped,
}

impl From<Role> for RoleV1 {
    fn from(role: Role) -> Self {
        match role {
            Role::Learner => Self::Learner,
            Role::Follower => Self::Follower,
            Role::Candidate => Self::Candidate,
            Role::Leader => Self::Leader,
            Role::Stopped => Self::Stopped,
        }
    }
}

impl From<RoleV1> for Role {
    fn from(role: RoleV1) -> Self {
        match role {
            RoleV1::Learner => Self::Learner,
            RoleV1::Follower => Self::Follower,
            RoleV1::Candidate => Self::Candidate,
            RoleV1::Leader => Self::Leader,
            RoleV1::Stopped => Self::Stopped,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::wire) struct StandingV1 {
    raft_id: u64,
    role: RoleV1,
    term: u64,
    leader: Option<LeaderV1>,
    last: Option<LogIdV1>,
    committed: Option<LogIdV1>,
    applied: Option<LogIdV1>,
    snapshot: Option<LogIdV1>,
    fault: Option<String>,
    profile: ProfileV1,
}

impl From<&Standing> for StandingV1 {
    fn from(standing: &Standing) -> Self {
        let Standing { raft_id, role, term, leader, last, committed, applied, snapshot, fault, profile } = standing;
        Self {
            raft_id: *raft_id,
            role: (*role).into(),
            term: *term,
            leader: leader.map(Into::into),
            last: last.map(Into::into),
            committed: committed.map(Into::into),
            applied: applied.map(Into::into),
            snapshot: snapshot.map(Into::into),
            fault: fault.clone(),
            profile: profile.into(),
        }
    }
}

impl From<StandingV1> for Standing {
    fn from(standing: StandingV1) -> Self {
        let StandingV1 { raft_id, role, term, leader, last, committed, applied, snapshot, fault, profile } = standing;
        Self {
            raft_id,
            role: role.into(),
            term,
            leader: leader.map(Into::into),
            last: last.map(Into::into),
            committed: committed.map(Into::into),
            applied: applied.map(Into::into),
            snapshot: snapshot.map(Into::into),
            fault,
            profile: profile.into(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::wire) struct ProfileV1 {
    eligible: Option<bool>,
    prefer: bool,
    #[serde(deserialize_with = "list")]
    zone: Vec<String>,
    draining: bool,
    disk_low: bool,
    lost_data: bool,
    sync_p99_ms: u64,
    uptime_ms: u64,
}

impl From<&Profile> for ProfileV1 {
    fn from(profile: &Profile) -> Self {
        let Profile { eligible, prefer, zone, draining, disk_low, lost_data, sync_p99_ms, uptime_ms } = profile.clone();
        Self { eligible, prefer, zone, draining, disk_low, lost_data, sync_p99_ms, uptime_ms }
    }
}

impl From<ProfileV1> for Profile {
    fn from(profile: ProfileV1) -> Self {
        let ProfileV1 { eligible, prefer, zone, draining, disk_low, lost_data, sync_p99_ms, uptime_ms } = profile;
        Self { eligible, prefer, zone, draining, disk_low, lost_data, sync_p99_ms, uptime_ms }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::wire) enum MismatchV1 {
    Cluster(u128),
    NotMember,
    Incarnation,
    NotMe(u64),
    NotRunning,
    Unreadable(String),
}

impl From<&Mismatch> for MismatchV1 {
    fn from(mismatch: &Mismatch) -> Self {
        match mismatch {
            Mismatch::Cluster(cluster) => Self::Cluster(cluster.0),
            Mismatch::NotMember => Self::NotMember,
            Mismatch::Incarnation => Self::Incarnation,
            Mismatch::NotMe(me) => Self::NotMe(*me),
            Mismatch::NotRunning => Self::NotRunning,
            Mismatch::Unreadable(why) => Self::Unreadable(why.clone()),
        }
    }
}

impl From<MismatchV1> for Mismatch {
    fn from(mismatch: MismatchV1) -> Self {
        match mismatch {
            MismatchV1::Cluster(cluster) => Self::Cluster(ClusterId(cluster)),
            MismatchV1::NotMember => Self::NotMember,
            MismatchV1::Incarnation => Self::Incarnation,
            MismatchV1::NotMe(me) => Self::NotMe(me),
            MismatchV1::NotRunning => Self::NotRunning,
            MismatchV1::Unreadable(why) => Self::Unreadable(why),
        }
    }
}

impl From<&Answer> for AnswerV1 {
    fn from(answer: &Answer) -> Self {
        match answer {
            Answer::Append(appended) => Self::Append((*appended).into()),
            Answer::Vote(cast) => Self::Vote((*cast).into()),
            Answer::PreVote(cast) => Self::PreVote((*cast).into()),
            Answer::Transfer(transferred) => Self::Transfer((*transferred).into()),
            Answer::SnapshotNext { offset } => Self::SnapshotNext { offset: *offset },
            Answer::SnapshotDone { vote } => Self::SnapshotDone { vote: (*vote).into() },
            Answer::SnapshotUnknown => Self::SnapshotUnknown,
            Answer::Proposed { index, outcome } => Self::Proposed { index: *index, outcome: Raw(outcome.clone()) },
            Answer::ReadAt { index } => Self::ReadAt { index: *index },
            Answer::Admitted { cluster, raft_id, members } => Self::Admitted {
                cluster: cluster.0,
                raft_id: *raft_id,
                members: members.iter().map(|(id, member)| (*id, member.into())).collect(),
            },
            Answer::Standing(standing) => Self::Standing(Box::new((&**standing).into())),
            Answer::NotLeader { leader } => Self::NotLeader { leader: leader.map(Into::into) },
            Answer::Unavailable { why } => Self::Unavailable { why: why.clone() },
            Answer::Unknown { why } => Self::Unknown { why: why.clone() },
            Answer::Refused { why } => Self::Refused { why: why.clone() },
            Answer::Mismatch(mismatch) => Self::Mismatch(mismatch.into()),
            Answer::Reserved { cluster, raft_id } => Self::Reserved { cluster: cluster.0, raft_id: *raft_id },
            Answer::Told { answer } => Self::Told { answer: Raw(answer.clone()) },
            Answer::Handed { answer } => Self::Handed { answer: Raw(answer.clone()) },
        }
    }
}

impl From<AnswerV1> for Answer {
    fn from(answer: AnswerV1) -> Self {
        match answer {
            AnswerV1::Append(appended) => Self::Append(appended.into()),
            AnswerV1::Vote(cast) => Self::Vote(cast.into()),
            AnswerV1::PreVote(cast) => Self::PreVote(cast.into()),
            AnswerV1::Transfer(transferred) => Self::Transfer(transferred.into()),
            AnswerV1::SnapshotNext { offset } => Self::SnapshotNext { offset },
            AnswerV1::SnapshotDone { vote } => Self::SnapshotDone { vote: vote.into() },
            AnswerV1::SnapshotUnknown => Self::SnapshotUnknown,
            AnswerV1::Proposed { index, outcome: Raw(outcome) } => Self::Proposed { index, outcome },
            AnswerV1::ReadAt { index } => Self::ReadAt { index },
            AnswerV1::Admitted { cluster, raft_id, members } => Self::Admitted {
                cluster: ClusterId(cluster),
                raft_id,
                members: members.into_iter().map(|(id, member)| (id, member.into())).collect(),
            },
            AnswerV1::Standing(standing) => Self::Standing(Box::new((*standing).into())),
            AnswerV1::NotLeader { leader } => Self::NotLeader { leader: leader.map(Into::into) },
            AnswerV1::Unavailable { why } => Self::Unavailable { why },
            AnswerV1::Unknown { why } => Self::Unknown { why },
            AnswerV1::Refused { why } => Self::Refused { why },
            AnswerV1::Mismatch(mismatch) => Self::Mismatch(mismatch.into()),
            AnswerV1::Reserved { cluster, raft_id } => Self::Reserved { cluster: ClusterId(cluster), raft_id },
            AnswerV1::Told { answer: Raw(answer) } => Self::Told { answer },
            AnswerV1::Handed { answer: Raw(answer) } => Self::Handed { answer },
        }
    }
}
