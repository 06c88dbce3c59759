//! One message of every kind, with numbers that are easy to find again in the bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::identity::{ClusterId, Incarnation, PeerId};
use crate::limits::MEMBERS_MAX;
use crate::types::{
    Blob, Entry, LeaderId, LogId, Member, Membership, Payload, RaftId, SnapshotMeta, StoredMembership, Vote,
};
use crate::wire::{
    Answer, Append, Appended, Ballot, Cast, Leader, Mismatch, Profile, Request, Role, Standing, Transfer, Transferred,
};

pub(super) fn id(term: u64, node_id: RaftId, index: u64) -> LogId {
    LogId { leader_id: LeaderId { term, node_id }, index }
}

pub(super) fn vote(term: u64, node_id: RaftId) -> Vote {
    Vote { leader_id: LeaderId { term, node_id }, committed: true }
}

fn candidate(term: u64, node_id: RaftId) -> Vote {
    Vote { leader_id: LeaderId { term, node_id }, committed: false }
}

fn member(number: u128) -> Member {
    Member { peer: PeerId(0xf0 + number), incarnation: Incarnation(0xe0 + number), host: format!("host{number}") }
}

/// Three members, of which two vote by the new set and two by the old one.
fn membership() -> Membership {
    let members: BTreeMap<RaftId, Member> = [(1, member(1)), (22, member(2)), (33, member(3))].into();
    Membership::new(vec![BTreeSet::from([1, 22]), BTreeSet::from([1, 33])], members).unwrap()
}

pub(super) fn meta() -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: Some(id(5, 1, 1000)),
        last_membership: StoredMembership::new(Some(id(4, 1, 900)), membership()),
    }
}

pub(super) fn largest_meta() -> SnapshotMeta {
    let long = |number: usize| Member { host: "h".repeat(253), ..member(number as u128) };
    let members: BTreeMap<RaftId, Member> = (0..MEMBERS_MAX).map(|number| (number as RaftId, long(number))).collect();
    let all: BTreeSet<RaftId> = members.keys().copied().collect();
    let membership = Membership::new(vec![all.clone(), all], members).unwrap();
    SnapshotMeta { last_log_id: None, last_membership: StoredMembership::new(None, membership) }
}

fn append(payload: Option<Payload>) -> Request {
    let entries = payload.into_iter().map(|payload| Entry { log_id: id(5, 1, 1001), payload }).collect();
    Request::Append(Append { vote: vote(5, 1), prev: Some(id(5, 1, 1000)), entries, commit: Some(id(5, 1, 999)) })
}

pub(super) fn requests() -> BTreeMap<&'static str, Request> {
    let command = Bytes::from_static(b"command");
    BTreeMap::from([
        ("request-append-heartbeat", append(None)),
        ("request-append-blank", append(Some(Payload::Blank))),
        ("request-append-command", append(Some(Payload::Normal(Blob(command.clone()))))),
        ("request-append-membership", append(Some(Payload::Membership(membership())))),
        ("request-vote", Request::Vote(Ballot { vote: candidate(6, 22), last: Some(id(5, 1, 1000)), transfer: true })),
        ("request-pre-vote", Request::PreVote(Ballot { vote: candidate(6, 22), last: None, transfer: false })),
        ("request-transfer", Request::Transfer(Transfer { from: vote(5, 1), to: 22, last: Some(id(5, 1, 1000)) })),
        (
            "request-snapshot-offer",
            Request::SnapshotOffer { vote: vote(5, 1), meta: meta(), transfer: 0x77, bytes: 0x123_4567 },
        ),
        (
            "request-snapshot-chunk",
            Request::SnapshotChunk { transfer: 0x77, offset: 0x1234, piece: Bytes::from_static(b"piece") },
        ),
        ("request-snapshot-end", Request::SnapshotEnd { transfer: 0x77, bytes: 0x123_4567 }),
        ("request-propose", Request::Propose { command, deadline: Duration::from_millis(2500) }),
        ("request-read-index", Request::ReadIndex),
        (
            "request-admit",
            Request::Admit {
                peer: PeerId(0xf4),
                incarnation: Incarnation(0xe4),
                host: "host4".to_owned(),
                replaces: Some(33),
            },
        ),
        ("request-standing", Request::Standing),
        ("request-hand", Request::Hand { message: Bytes::from_static(b"for you alone") }),
        ("request-tell", Request::Tell { message: Bytes::from_static(b"message") }),
        (
            "request-enter",
            Request::Enter {
                raft_id: 44,
                peer: PeerId(0xf4),
                incarnation: Incarnation(0xe4),
                host: "host4".to_owned(),
            },
        ),
    ])
}

fn standing(role: Role, whole: bool) -> Answer {
    let some = |index| whole.then(|| id(5, 1, index));
    Answer::Standing(Box::new(Standing {
        raft_id: 22,
        role,
        term: 5,
        leader: whole.then_some(Leader { raft_id: 1, peer: PeerId(0xf1) }),
        last: some(1001),
        committed: some(1000),
        applied: some(999),
        snapshot: some(900),
        fault: (!whole).then(|| "sync failed".to_owned()),
        profile: Profile {
            eligible: whole.then_some(true),
            prefer: false,
            zone: vec!["west".to_owned(), "rack7".to_owned()],
            draining: !whole,
            disk_low: false,
            lost_data: !whole,
            sync_p99_ms: 12,
            uptime_ms: 86_400_000,
        },
    }))
}

pub(super) fn answers() -> BTreeMap<&'static str, Answer> {
    let leader = Leader { raft_id: 1, peer: PeerId(0xf1) };
    let last = Some(id(5, 1, 1000));
    let words = |why: &str| why.to_owned();
    BTreeMap::from([
        ("answer-handed", Answer::Handed { answer: Bytes::from_static(b"on my disk") }),
        ("answer-told", Answer::Told { answer: Bytes::from_static(b"answer") }),
        ("answer-reserved", Answer::Reserved { cluster: ClusterId(0xc1), raft_id: 44 }),
        ("answer-append-all", Answer::Append(Appended::All)),
        ("answer-append-until", Answer::Append(Appended::Until(last))),
        ("answer-append-conflict", Answer::Append(Appended::Conflict)),
        ("answer-append-higher-vote", Answer::Append(Appended::HigherVote(vote(7, 33)))),
        ("answer-vote", Answer::Vote(Cast { vote: candidate(6, 22), granted: true, last })),
        ("answer-pre-vote", Answer::PreVote(Cast { vote: vote(5, 1), granted: false, last: None })),
        ("answer-transfer-accepted", Answer::Transfer(Transferred::Accepted)),
        (
            "answer-transfer-vote-changed",
            Answer::Transfer(Transferred::VoteChanged { expected: vote(5, 1), actual: vote(6, 33) }),
        ),
        (
            "answer-transfer-log-not-flushed",
            Answer::Transfer(Transferred::LogNotFlushed { expected: last, actual: None }),
        ),
        ("answer-snapshot-next", Answer::SnapshotNext { offset: 0x1234 }),
        ("answer-snapshot-done", Answer::SnapshotDone { vote: vote(5, 1) }),
        ("answer-snapshot-unknown", Answer::SnapshotUnknown),
        ("answer-proposed", Answer::Proposed { index: 1001, outcome: Bytes::from_static(b"outcome") }),
        ("answer-read-at", Answer::ReadAt { index: 1001 }),
        (
            "answer-admitted",
            Answer::Admitted {
                cluster: ClusterId(0xc1),
                raft_id: 44,
                members: [(1, member(1)), (44, member(4))].into(),
            },
        ),
        ("answer-standing-learner", standing(Role::Learner, true)),
        ("answer-standing-follower", standing(Role::Follower, true)),
        ("answer-standing-candidate", standing(Role::Candidate, true)),
        ("answer-standing-leader", standing(Role::Leader, true)),
        ("answer-standing-stopped", standing(Role::Stopped, false)),
        ("answer-not-leader", Answer::NotLeader { leader: Some(leader) }),
        ("answer-not-leader-nobody", Answer::NotLeader { leader: None }),
        ("answer-unavailable", Answer::Unavailable { why: words("no quorum") }),
        ("answer-unknown", Answer::Unknown { why: words("leadership was lost") }),
        ("answer-refused", Answer::Refused { why: words("too large") }),
        ("answer-mismatch-cluster", Answer::Mismatch(Mismatch::Cluster(ClusterId(0xc2)))),
        ("answer-mismatch-not-member", Answer::Mismatch(Mismatch::NotMember)),
        ("answer-mismatch-incarnation", Answer::Mismatch(Mismatch::Incarnation)),
        ("answer-mismatch-not-me", Answer::Mismatch(Mismatch::NotMe(33))),
        ("answer-mismatch-not-running", Answer::Mismatch(Mismatch::NotRunning)),
        ("answer-mismatch-unreadable", Answer::Mismatch(Mismatch::Unreadable(words("malformed")))),
    ])
}
