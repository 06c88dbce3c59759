//! Messages drawn by chance.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::subsequence;

use crate::identity::{ClusterId, Incarnation, PeerId};
use crate::limits::NUMBER_MAX;
use crate::types::{
    Blob, Entry, LeaderId, LogId, Member, Membership, Payload, RaftId, SnapshotMeta, StoredMembership, Vote,
};
use crate::wire::{
    Answer, Append, Appended, Ballot, Cast, Envelope, Leader, Mismatch, Profile, Request, Role, Standing, Transfer,
    Transferred,
};

pub(super) fn envelope() -> impl Strategy<Value = Envelope> {
    any::<(u128, RaftId, u128, RaftId)>().prop_map(|(cluster, from, incarnation, to)| Envelope {
        cluster: ClusterId(cluster),
        from,
        incarnation: Incarnation(incarnation),
        to,
    })
}

/// A term or an index.
fn number() -> impl Strategy<Value = u64> {
    0..=NUMBER_MAX
}

fn vote() -> impl Strategy<Value = Vote> {
    (number(), any::<RaftId>(), any::<bool>())
        .prop_map(|(term, node_id, committed)| Vote { leader_id: LeaderId { term, node_id }, committed })
}

fn id() -> impl Strategy<Value = LogId> {
    (number(), any::<RaftId>(), number())
        .prop_map(|(term, node_id, index)| LogId { leader_id: LeaderId { term, node_id }, index })
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..100).prop_map(Bytes::from)
}

fn member() -> impl Strategy<Value = Member> {
    (any::<(u128, u128)>(), "[a-z0-9][a-z0-9.-]{0,30}").prop_map(|((peer, incarnation), host)| Member {
        peer: PeerId(peer),
        incarnation: Incarnation(incarnation),
        host,
    })
}

fn members() -> impl Strategy<Value = BTreeMap<RaftId, Member>> {
    btree_map(any::<RaftId>(), member(), 1..9)
}

fn membership() -> impl Strategy<Value = Membership> {
    let with_voters = |members: BTreeMap<RaftId, Member>| {
        let ids: Vec<_> = members.keys().copied().collect();
        let most = ids.len();
        let voters = subsequence(ids, 1..=most).prop_map(BTreeSet::from_iter);
        (Just(members), vec(voters, 0..3))
    };
    members().prop_flat_map(with_voters).prop_map(|(members, voters)| Membership::new(voters, members).unwrap())
}

pub(super) fn stored_membership() -> impl Strategy<Value = StoredMembership> {
    (option::of(id()), membership()).prop_map(|(id, membership)| StoredMembership::new(id, membership))
}

pub(super) fn meta() -> impl Strategy<Value = SnapshotMeta> {
    (option::of(id()), stored_membership())
        .prop_map(|(last_log_id, last_membership)| SnapshotMeta { last_log_id, last_membership })
}

fn entry() -> impl Strategy<Value = Entry> {
    let payload = prop_oneof![
        Just(Payload::Blank),
        bytes().prop_map(|command| Payload::Normal(Blob(command))),
        membership().prop_map(Payload::Membership),
    ];
    (id(), payload).prop_map(|(log_id, payload)| Entry { log_id, payload })
}

fn append() -> impl Strategy<Value = Append> {
    (vote(), option::of(id()), vec(entry(), 0..8), option::of(id())).prop_map(|(vote, prev, entries, commit)| Append {
        vote,
        prev,
        entries,
        commit,
    })
}

fn ballot() -> impl Strategy<Value = Ballot> {
    (vote(), option::of(id()), any::<bool>()).prop_map(|(vote, last, transfer)| Ballot { vote, last, transfer })
}

fn cast() -> impl Strategy<Value = Cast> {
    (vote(), any::<bool>(), option::of(id())).prop_map(|(vote, granted, last)| Cast { vote, granted, last })
}

fn leader() -> impl Strategy<Value = Leader> {
    any::<(RaftId, u128)>().prop_map(|(raft_id, peer)| Leader { raft_id, peer: PeerId(peer) })
}

pub(super) fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        3 => append().prop_map(Request::Append),
        1 => ballot().prop_map(Request::Vote),
        1 => ballot().prop_map(Request::PreVote),
        1 => (vote(), any::<RaftId>(), option::of(id()))
            .prop_map(|(from, to, last)| Request::Transfer(Transfer { from, to, last })),
        1 => (vote(), meta(), any::<(u64, u64)>())
            .prop_map(|(vote, meta, (transfer, bytes))| Request::SnapshotOffer { vote, meta, transfer, bytes }),
        1 => (any::<(u64, u64)>(), bytes())
            .prop_map(|((transfer, offset), piece)| Request::SnapshotChunk { transfer, offset, piece }),
        1 => any::<(u64, u64)>().prop_map(|(transfer, bytes)| Request::SnapshotEnd { transfer, bytes }),
        1 => (bytes(), 0..=600_000_u64)
            .prop_map(|(command, ms)| Request::Propose { command, deadline: Duration::from_millis(ms) }),
        1 => Just(Request::ReadIndex),
        1 => (member(), any::<Option<RaftId>>()).prop_map(|(Member { peer, incarnation, host }, replaces)| {
            Request::Admit { peer, incarnation, host, replaces }
        }),
        1 => Just(Request::Standing),
        1 => bytes().prop_map(|message| Request::Tell { message }),
        1 => bytes().prop_map(|message| Request::Hand { message }),
        1 => (member(), any::<RaftId>()).prop_map(|(Member { peer, incarnation, host }, raft_id)| {
            Request::Enter { raft_id, peer, incarnation, host }
        }),
    ]
}

fn appended() -> impl Strategy<Value = Appended> {
    prop_oneof![
        Just(Appended::All),
        option::of(id()).prop_map(Appended::Until),
        Just(Appended::Conflict),
        vote().prop_map(Appended::HigherVote),
    ]
}

fn transferred() -> impl Strategy<Value = Transferred> {
    prop_oneof![
        Just(Transferred::Accepted),
        (vote(), vote()).prop_map(|(expected, actual)| Transferred::VoteChanged { expected, actual }),
        (option::of(id()), option::of(id()))
            .prop_map(|(expected, actual)| Transferred::LogNotFlushed { expected, actual }),
    ]
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![
        Just(Role::Learner),
        Just(Role::Follower),
        Just(Role::Candidate),
        Just(Role::Leader),
        Just(Role::Stopped)
    ]
}

fn profile() -> impl Strategy<Value = Profile> {
    (any::<(Option<bool>, [bool; 4], u64, u64)>(), vec("[a-z]{0,9}", 0..4)).prop_map(
        |((eligible, flags, sync_p99_ms, uptime_ms), zone)| {
            let [prefer, draining, disk_low, lost_data] = flags;
            Profile { eligible, prefer, zone, draining, disk_low, lost_data, sync_p99_ms, uptime_ms }
        },
    )
}

fn standing() -> impl Strategy<Value = Standing> {
    let ids = (option::of(id()), option::of(id()), option::of(id()), option::of(id()));
    let (id_and_term, fault) = ((any::<RaftId>(), number()), option::of(".{0,20}"));
    (id_and_term, role(), option::of(leader()), ids, fault, profile()).prop_map(
        |((raft_id, term), role, leader, (last, committed, applied, snapshot), fault, profile)| Standing {
            raft_id,
            role,
            term,
            leader,
            last,
            committed,
            applied,
            snapshot,
            fault,
            profile,
        },
    )
}

fn mismatch() -> impl Strategy<Value = Mismatch> {
    prop_oneof![
        any::<u128>().prop_map(|id| Mismatch::Cluster(ClusterId(id))),
        Just(Mismatch::NotMember),
        Just(Mismatch::Incarnation),
        any::<RaftId>().prop_map(Mismatch::NotMe),
        Just(Mismatch::NotRunning),
        ".{0,20}".prop_map(Mismatch::Unreadable),
    ]
}

pub(super) fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        appended().prop_map(Answer::Append),
        cast().prop_map(Answer::Vote),
        cast().prop_map(Answer::PreVote),
        transferred().prop_map(Answer::Transfer),
        any::<u64>().prop_map(|offset| Answer::SnapshotNext { offset }),
        vote().prop_map(|vote| Answer::SnapshotDone { vote }),
        Just(Answer::SnapshotUnknown),
        (any::<u64>(), bytes()).prop_map(|(index, outcome)| Answer::Proposed { index, outcome }),
        number().prop_map(|index| Answer::ReadAt { index }),
        bytes().prop_map(|answer| Answer::Told { answer }),
        bytes().prop_map(|answer| Answer::Handed { answer }),
        any::<(u128, RaftId)>()
            .prop_map(|(cluster, raft_id)| Answer::Reserved { cluster: ClusterId(cluster), raft_id }),
        (any::<(u128, RaftId)>(), members()).prop_map(|((cluster, raft_id), members)| Answer::Admitted {
            cluster: ClusterId(cluster),
            raft_id,
            members
        }),
        standing().prop_map(|standing| Answer::Standing(Box::new(standing))),
        option::of(leader()).prop_map(|leader| Answer::NotLeader { leader }),
        ".{0,20}".prop_map(|why| Answer::Unavailable { why }),
        ".{0,20}".prop_map(|why| Answer::Unknown { why }),
        ".{0,20}".prop_map(|why| Answer::Refused { why }),
        mismatch().prop_map(Answer::Mismatch),
    ]
}
