//! What a message may not exceed, on its way out and on its way in.

use super::message::{Answer, Append, Appended, Mismatch, Request, Standing, Transferred};
use super::{WireError, at_most};
use crate::limits::{
    APPEND_ENTRIES_MAX, COMMAND_BYTES_MAX, CONFIGS_MAX, HOST_NAME_BYTES_MAX, MEMBERS_MAX, NUMBER_MAX,
    SNAPSHOT_CHUNK_BYTES_MAX, WHY_BYTES_MAX, ZONE_BYTES_MAX, ZONE_DEPTH_MAX,
};
use crate::types::{Entry, LogId, Member, Membership, Payload, SnapshotMeta, StoredMembership, Vote};

impl Request {
    /// Is it within all bounds?
    pub(super) fn check(&self) -> Result<(), WireError> {
        match self {
            Self::Append(Append { vote, prev, entries, commit }) => {
                at_most("entries in a message", entries.len(), APPEND_ENTRIES_MAX as usize)?;
                check_vote(vote)?;
                check_ids([prev, commit])?;
                entries.iter().try_for_each(check_entry)
            }
            Self::Vote(ballot) | Self::PreVote(ballot) => {
                check_vote(&ballot.vote)?;
                check_ids([&ballot.last])
            }
            Self::Transfer(transfer) => {
                check_vote(&transfer.from)?;
                check_ids([&transfer.last])
            }
            Self::SnapshotOffer { vote, meta, .. } => {
                check_vote(vote)?;
                check_meta(meta)
            }
            Self::SnapshotChunk { piece, .. } => {
                at_most("bytes in a piece of a snapshot", piece.len(), SNAPSHOT_CHUNK_BYTES_MAX)
            }
            Self::Propose { command, .. } => at_most("bytes in a command", command.len(), COMMAND_BYTES_MAX),
            Self::Tell { message } | Self::Hand { message } => {
                at_most("bytes in a message", message.len(), COMMAND_BYTES_MAX)
            }
            Self::Admit { host, .. } | Self::Enter { host, .. } => check_host(host),
            Self::SnapshotEnd { .. } | Self::ReadIndex | Self::Standing => Ok(()),
        }
    }
}

impl Answer {
    /// Is it within all bounds?
    pub(super) fn check(&self) -> Result<(), WireError> {
        match self {
            Self::Proposed { outcome, .. } => at_most("bytes in an outcome", outcome.len(), COMMAND_BYTES_MAX),
            Self::Told { answer } | Self::Handed { answer } => {
                at_most("bytes in an answer", answer.len(), COMMAND_BYTES_MAX)
            }
            Self::Admitted { members, .. } => check_members(members.values()),
            Self::Standing(standing) => standing.check(),
            Self::Unavailable { why }
            | Self::Unknown { why }
            | Self::Refused { why }
            | Self::Mismatch(Mismatch::Unreadable(why)) => check_why(why),
            Self::Append(appended) => match appended {
                Appended::All | Appended::Conflict => Ok(()),
                Appended::Until(last) => check_ids([last]),
                Appended::HigherVote(vote) => check_vote(vote),
            },
            Self::Vote(cast) | Self::PreVote(cast) => {
                check_vote(&cast.vote)?;
                check_ids([&cast.last])
            }
            Self::Transfer(transferred) => match transferred {
                Transferred::Accepted => Ok(()),
                Transferred::VoteChanged { expected, actual } => check_vote(expected).and(check_vote(actual)),
                Transferred::LogNotFlushed { expected, actual } => check_ids([expected, actual]),
            },
            Self::SnapshotDone { vote } => check_vote(vote),
            Self::ReadAt { index } => below("log index", *index),
            Self::SnapshotNext { .. }
            | Self::SnapshotUnknown
            | Self::NotLeader { .. }
            | Self::Reserved { .. }
            | Self::Mismatch(_) => Ok(()),
        }
    }
}

impl Standing {
    fn check(&self) -> Result<(), WireError> {
        self.fault.iter().try_for_each(|why| check_why(why))?;
        below("term", self.term)?;
        check_ids([&self.last, &self.committed, &self.applied, &self.snapshot])?;
        at_most("parts of a zone", self.profile.zone.len(), ZONE_DEPTH_MAX)?;
        self.profile.zone.iter().try_for_each(|part| at_most("bytes in a zone", part.len(), ZONE_BYTES_MAX))
    }
}

/// Terms and indices are counted on from, so nobody may bring one that has nothing behind it.
fn below(what: &'static str, is: u64) -> Result<(), WireError> {
    if is > NUMBER_MAX { Err(WireError::TooHigh { what, is }) } else { Ok(()) }
}

fn check_vote(vote: &Vote) -> Result<(), WireError> {
    below("term", vote.leader_id.term)
}

fn check_id(id: &LogId) -> Result<(), WireError> {
    below("term", id.leader_id.term)?;
    below("log index", id.index)
}

fn check_ids<'a>(ids: impl IntoIterator<Item = &'a Option<LogId>>) -> Result<(), WireError> {
    ids.into_iter().flatten().try_for_each(check_id)
}

fn check_entry(entry: &Entry) -> Result<(), WireError> {
    check_id(&entry.log_id)?;
    match &entry.payload {
        Payload::Blank => Ok(()),
        Payload::Normal(command) => at_most("bytes in a command", command.0.len(), COMMAND_BYTES_MAX),
        Payload::Membership(membership) => check_membership(membership),
    }
}

pub(super) fn check_meta(meta: &SnapshotMeta) -> Result<(), WireError> {
    check_ids([&meta.last_log_id])?;
    check_stored(&meta.last_membership)
}

pub(super) fn check_stored(membership: &StoredMembership) -> Result<(), WireError> {
    check_ids([membership.log_id()])?;
    check_membership(membership.membership())
}

fn check_membership(membership: &Membership) -> Result<(), WireError> {
    at_most("sets of voters", membership.get_joint_config().len(), CONFIGS_MAX)?;
    check_members(membership.nodes().map(|(_, member)| member))
}

fn check_members<'a>(members: impl Iterator<Item = &'a Member>) -> Result<(), WireError> {
    let mut count = 0;
    for member in members {
        count += 1;
        check_host(&member.host)?;
    }
    at_most("members", count, MEMBERS_MAX)
}

fn check_host(host: &str) -> Result<(), WireError> {
    at_most("bytes in a host's name", host.len(), HOST_NAME_BYTES_MAX)
}

fn check_why(why: &str) -> Result<(), WireError> {
    at_most("bytes in an explanation", why.len(), WHY_BYTES_MAX)
}
