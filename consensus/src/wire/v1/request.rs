//! Requests, version 1.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::WireError;
use super::super::message::{Append, Ballot, Request, Transfer};
use super::super::raw::{Raw, list};
use super::{EntryV1, LogIdV1, SnapshotMetaV1, VoteV1};
use crate::identity::{Incarnation, PeerId};
use crate::limits::DEADLINE_MAX;

/// New ones at the end only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::wire) enum RequestV1 {
    Append {
        vote: VoteV1,
        prev: Option<LogIdV1>,
        #[serde(deserialize_with = "list")]
        entries: Vec<EntryV1>,
        commit: Option<LogIdV1>,
    },
    Vote(BallotV1),
    PreVote(BallotV1),
    Transfer {
        from: VoteV1,
        to: u64,
        last: Option<LogIdV1>,
    },
    SnapshotOffer {
        vote: VoteV1,
        meta: SnapshotMetaV1,
        transfer: u64,
        bytes: u64,
    },
    SnapshotChunk {
        transfer: u64,
        offset: u64,
        piece: Raw,
    },
    SnapshotEnd {
        transfer: u64,
        bytes: u64,
    },
    Propose {
        command: Raw,
        deadline_ms: u64,
    },
    ReadIndex,
    Admit {
        peer: u128,
        incarnation: u128,
        host: String,
        replaces: Option<u64>,
    },
    Standing,
    Enter {
        raft_id: u64,
        peer: u128,
        incarnation: u128,
        host: String,
    },
    Tell {
        message: Raw,
    },
    Hand {
        message: Raw,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::wire) struct BallotV1 {
    vote: VoteV1,
    last: Option<LogIdV1>,
    transfer: bool,
}

impl From<Ballot> for BallotV1 {
    fn from(ballot: Ballot) -> Self {
        let Ballot { vote, last, transfer } = ballot;
        Self { vote: vote.into(), last: last.map(Into::into), transfer }
    }
}

impl From<BallotV1> for Ballot {
    fn from(ballot: BallotV1) -> Self {
        let BallotV1 { vote, last, transfer } = ballot;
        Self { vote: vote.into(), last: last.map(Into::into), transfer }
    }
}

impl From<&Request> for RequestV1 {
    fn from(request: &Request) -> Self {
        match request {
            Request::Append(Append { vote, prev, entries, commit }) => Self::Append {
                vote: (*vote).into(),
                prev: prev.map(Into::into),
                entries: entries.iter().map(Into::into).collect(),
                commit: commit.map(Into::into),
            },
            Request::Vote(ballot) => Self::Vote((*ballot).into()),
            Request::PreVote(ballot) => Self::PreVote((*ballot).into()),
            Request::Transfer(Transfer { from, to, last }) => {
                Self::Transfer { from: (*from).into(), to: *to, last: last.map(Into::into) }
            }
            Request::SnapshotOffer { vote, meta, transfer, bytes } => {
                Self::SnapshotOffer { vote: (*vote).into(), meta: meta.into(), transfer: *transfer, bytes: *bytes }
            }
            Request::SnapshotChunk { transfer, offset, piece } => {
                Self::SnapshotChunk { transfer: *transfer, offset: *offset, piece: Raw(piece.clone()) }
            }
            Request::SnapshotEnd { transfer, bytes } => Self::SnapshotEnd { transfer: *transfer, bytes: *bytes },
            Request::Propose { command, deadline } => Self::Propose {
                command: Raw(command.clone()),
                deadline_ms: u64::try_from((*deadline).min(DEADLINE_MAX).as_millis()).expect("minutes, at most"),
            },
            Request::ReadIndex => Self::ReadIndex,
            Request::Admit { peer, incarnation, host, replaces } => {
                Self::Admit { peer: peer.0, incarnation: incarnation.0, host: host.clone(), replaces: *replaces }
            }
            Request::Standing => Self::Standing,
            Request::Enter { raft_id, peer, incarnation, host } => {
                Self::Enter { raft_id: *raft_id, peer: peer.0, incarnation: incarnation.0, host: host.clone() }
            }
            Request::Tell { message } => Self::Tell { message: Raw(message.clone()) },
            Request::Hand { message } => Self::Hand { message: Raw(message.clone()) },
        }
    }
}

impl TryFrom<RequestV1> for Request {
    type Error = WireError;

    fn try_from(request: RequestV1) -> Result<Self, WireError> {
        Ok(match request {
            RequestV1::Append { vote, prev, entries, commit } => Self::Append(Append {
                vote: vote.into(),
                prev: prev.map(Into::into),
                entries: entries.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
                commit: commit.map(Into::into),
            }),
            RequestV1::Vote(ballot) => Self::Vote(ballot.into()),
            RequestV1::PreVote(ballot) => Self::PreVote(ballot.into()),
            RequestV1::Transfer { from, to, last } => {
                Self::Transfer(Transfer { from: from.into(), to, last: last.map(Into::into) })
            }
            RequestV1::SnapshotOffer { vote, meta, transfer, bytes } => {
                Self::SnapshotOffer { vote: vote.into(), meta: meta.try_into()?, transfer, bytes }
            }
            RequestV1::SnapshotChunk { transfer, offset, piece: Raw(piece) } => {
                Self::SnapshotChunk { transfer, offset, piece }
            }
            RequestV1::SnapshotEnd { transfer, bytes } => Self::SnapshotEnd { transfer, bytes },
            RequestV1::Propose { command: Raw(command), deadline_ms } => {
                Self::Propose { command, deadline: Duration::from_millis(deadline_ms).min(DEADLINE_MAX) }
            }
            RequestV1::ReadIndex => Self::ReadIndex,
            RequestV1::Admit { peer, incarnation, host, replaces } => {
                Self::Admit { peer: PeerId(peer), incarnation: Incarnation(incarnation), host, replaces }
            }
            RequestV1::Standing => Self::Standing,
            RequestV1::Enter { raft_id, peer, incarnation, host } => {
                Self::Enter { raft_id, peer: PeerId(peer), incarnation: Incarnation(incarnation), host }
            }
            RequestV1::Tell { message: Raw(message) } => Self::Tell { message },
            RequestV1::Hand { message: Raw(message) } => Self::Hand { message },
        })
    }
}
