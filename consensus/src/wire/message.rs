//! What members say to each other.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::identity::{ClusterId, Incarnation, PeerId};
use crate::limits::WHY_BYTES_MAX;
use crate::masters::Profile;
use crate::types::{Entry, LogId, Member, RaftId, SnapshotMeta, Vote};

/// What is asked. Each has its answers beside it; [`Answer::Mismatch`] is one to all of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Entries of the log, or a heartbeat. → [`Answer::Append`]
    Append(Append),
    /// A candidate asks for a vote. → [`Answer::Vote`]
    Vote(Ballot),
    /// Would it get one? Nothing is stored. → [`Answer::PreVote`]
    PreVote(Ballot),
    /// Be the leader now. → [`Answer::Transfer`]
    Transfer(Transfer),
    /// A snapshot comes, if it is wanted. → [`Answer::SnapshotNext`], [`Answer::SnapshotDone`]
    SnapshotOffer {
        /// The leader's vote, for all of this transfer.
        vote: Vote,
        /// What it covers.
        meta: SnapshotMeta,
        /// Names this transfer among all of this sender.
        transfer: u64,
        /// How long it is.
        bytes: u64,
    },
    /// A piece of it, at most [`SNAPSHOT_CHUNK_BYTES_MAX`](crate::limits::SNAPSHOT_CHUNK_BYTES_MAX). → as for the offer, or [`Answer::SnapshotUnknown`]
    SnapshotChunk {
        /// Which transfer.
        transfer: u64,
        /// How many bytes came before this piece.
        offset: u64,
        /// The piece.
        piece: Bytes,
    },
    /// That was all of it: install it. → [`Answer::SnapshotDone`], or [`Answer::SnapshotUnknown`]
    SnapshotEnd {
        /// Which transfer.
        transfer: u64,
        /// How many bytes came.
        bytes: u64,
    },
    /// To the leader: put this into the log. → [`Answer::Proposed`], or one of the four that say why not
    Propose {
        /// What to put there.
        command: Bytes,
        /// How long the caller waits: whole milliseconds, at most [`DEADLINE_MAX`](crate::limits::DEADLINE_MAX).
        deadline: Duration,
    },
    /// To the leader: up to where must a replica have applied, to know all that is committed by now? →
    /// [`Answer::ReadAt`], or one of the four that say why not
    ReadIndex,
    /// To the leader: reserve an id for me. → [`Answer::Reserved`], or one of the four that say why not
    Admit {
        /// Whom the transport calls.
        peer: PeerId,
        /// The life of his directory that the new id shall belong to.
        incarnation: Incarnation,
        /// His name.
        host: String,
        /// The id he had, if this is not his first life.
        replaces: Option<RaftId>,
    },
    /// How are you? → [`Answer::Standing`]
    Standing,
    /// To the leader: the reserved id is on my disk, take me in, as a learner. → [`Answer::Admitted`], or one of the
    /// four that say why not; [`Answer::Unavailable`] also if the reservation is void by now
    Enter {
        /// The reserved id.
        raft_id: RaftId,
        /// As in [`Request::Admit`].
        peer: PeerId,
        /// As in [`Request::Admit`].
        incarnation: Incarnation,
        /// As in [`Request::Admit`].
        host: String,
    },
    /// To the leader: something that is not for the log. → [`Answer::Told`], or one of the four that say why not
    Tell {
        /// What; the machine's own affair.
        message: Bytes,
    },
    /// To any member: something for him alone. → [`Answer::Handed`], or [`Answer::Unavailable`]
    Hand {
        /// What; the clerk's own affair.
        message: Bytes,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To [`Request::Append`].
    Append(Appended),
    /// To [`Request::Vote`].
    Vote(Cast),
    /// To [`Request::PreVote`].
    PreVote(Cast),
    /// To [`Request::Transfer`].
    Transfer(Transferred),
    /// Go on with the snapshot from here.
    SnapshotNext {
        /// How many bytes are there already.
        offset: u64,
    },
    /// The snapshot is installed; or it never will be, because this vote is higher than the sender's.
    SnapshotDone {
        /// The receiver's vote by now.
        vote: Vote,
    },
    /// There is no such transfer (any more): offer it again.
    SnapshotUnknown,
    /// It is committed and applied.
    Proposed {
        /// Where it stands in the log.
        index: u64,
        /// What came of it.
        outcome: Bytes,
    },
    /// A replica that has applied up to here knows all.
    ReadAt {
        /// The log index.
        index: u64,
    },
    /// You are a member, or on your way to be one.
    Admitted {
        /// Of this cluster.
        cluster: ClusterId,
        /// Under this id.
        raft_id: RaftId,
        /// Together with these.
        members: BTreeMap<RaftId, Member>,
    },
    /// How I am.
    Standing(Box<Standing>),
    /// Why not: I do not lead. Surely not done; ask him.
    NotLeader {
        /// Who leads, if that is known.
        leader: Option<Leader>,
    },
    /// Why not: not now (no quorum, stopping, too busy). Surely not done; it may be tried again.
    Unavailable {
        /// In words.
        why: String,
    },
    /// Why not: it may have been done or not (the deadline passed, leadership was lost while it was on its way).
    Unknown {
        /// In words.
        why: String,
    },
    /// Why not: it is against a rule. Surely not done, and trying again changes nothing.
    Refused {
        /// In words.
        why: String,
    },
    /// The request was not looked at: its envelope is wrong, or it cannot be read.
    Mismatch(Mismatch),
    /// This id is yours if you enter with it soon; write it down first. You are no member yet.
    Reserved {
        /// Of this cluster.
        cluster: ClusterId,
        /// The id.
        raft_id: RaftId,
    },
    /// What the leader says to that.
    Told {
        /// The machine's own affair.
        answer: Bytes,
    },
    /// What whoever it was handed to says to that.
    Handed {
        /// The clerk's own affair.
        answer: Bytes,
    },
}

/// openraft's append-entries request.
#[derive(Debug, Clone, PartialEq)]
pub struct Append {
    /// The leader's vote.
    pub vote: Vote,
    /// What stands before the first entry.
    pub prev: Option<LogId>,
    /// The entries; none in a heartbeat.
    pub entries: Vec<Entry>,
    /// What the leader knows to be committed.
    pub commit: Option<LogId>,
}

/// openraft's answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// All are there.
    All,
    /// Those up to here are there.
    Until(Option<LogId>),
    /// What stands before the first one differs.
    Conflict,
    /// There is a higher vote.
    HigherVote(Vote),
}

/// openraft's vote request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ballot {
    /// The vote asked for.
    pub vote: Vote,
    /// The end of the candidate's log.
    pub last: Option<LogId>,
    /// The leader himself has asked for this election: who heard of him lately may vote all the same.
    pub transfer: bool,
}

/// openraft's answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cast {
    /// The voter's vote by now.
    pub vote: Vote,
    /// Given?
    pub granted: bool,
    /// The end of the voter's log.
    pub last: Option<LogId>,
}

/// openraft's request to take leadership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// The vote of the leader who hands over.
    pub from: Vote,
    /// To whom.
    pub to: RaftId,
    /// The end of the leader's log, which the other must have.
    pub last: Option<LogId>,
}

/// openraft's answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transferred {
    /// It stands for election.
    Accepted,
    /// The leader it knows is another one.
    VoteChanged {
        /// The vote in the request.
        expected: Vote,
        /// The vote it has.
        actual: Vote,
    },
    /// The end of the leader's log is not on its disk yet.
    LogNotFlushed {
        /// What was asked for.
        expected: Option<LogId>,
        /// What is there.
        actual: Option<LogId>,
    },
}

/// Who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    /// In the log.
    pub raft_id: RaftId,
    /// For the transport.
    pub peer: PeerId,
}

/// What a member says of himself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Who he is.
    pub raft_id: RaftId,
    /// What he is in the group now.
    pub role: Role,
    /// The term he is in.
    pub term: u64,
    /// Whom he takes for the leader.
    pub leader: Option<Leader>,
    /// The end of his log.
    pub last: Option<LogId>,
    /// Up to where it is committed, as far as he knows.
    pub committed: Option<LogId>,
    /// Up to where he has applied it.
    pub applied: Option<LogId>,
    /// Up to where his newest snapshot goes.
    pub snapshot: Option<LogId>,
    /// Why his consensus half has stopped, if it has.
    pub fault: Option<String>,
    /// What speaks for him as a master, and against, as far as he can tell.
    pub profile: Profile,
}

/// What a member is in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Keeps a replica.
    Learner,
    /// Votes.
    Follower,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
    /// None of this any more.
    Stopped,
}

/// Why a request was not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// This is another cluster.
    Cluster(ClusterId),
    /// You are not (or no longer) a member.
    NotMember,
    /// Your id belongs to another life of your directory: it is used up, ask to be admitted.
    Incarnation,
    /// I am somebody else.
    NotMe(RaftId),
    /// I am not a member of anything, or not any more.
    NotRunning,
    /// I cannot read it.
    Unreadable(String),
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// See [`Answer::NotLeader`].
    NotLeader(Option<Leader>),
    /// See [`Answer::Unavailable`].
    Unavailable(String),
    /// See [`Answer::Unknown`].
    Unknown(String),
    /// See [`Answer::Refused`].
    Refused(String),
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotLeader(leader) => Self::NotLeader { leader },
            Refusal::Unavailable(why) => Self::Unavailable { why: shortened(why) },
            Refusal::Unknown(why) => Self::Unknown { why: shortened(why) },
            Refusal::Refused(why) => Self::Refused { why: shortened(why) },
        }
    }
}

/// Cuts words for people to what may be sent.
fn shortened(mut why: String) -> String {
    why.truncate(why.floor_char_boundary(WHY_BYTES_MAX));
    why
}
