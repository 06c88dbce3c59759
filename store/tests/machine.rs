//! The state machine as the group drives it and as readers see it, and limits that take too much for a script.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use mgmt_consensus::Machine;
use mgmt_consensus::machine::Frozen;
use mgmt_store::command::{Command, Prefix, Request};
use mgmt_store::limits::{CHANGES_MAX, LEASE_KEYS_MAX, REQUEST_BYTES_MAX, STORE_BYTES_MAX};
use mgmt_store::outcome::{Large, Quota};
use mgmt_store::record::Versions;
use mgmt_store::{Body, Compacted, Done, Keyspace, LeaseId, Outcome, Refusal, Revision, Shared, StoreMachine, Value};
use support::{admin, command, key, prefix, value};

fn put(machine: &mut StoreMachine, index: u64) {
    let body = Body::Put { key: key("k/a"), value: value("1"), lease: None };
    machine.apply(index, &command(admin(), 0, body).encode()).unwrap();
}

fn revisions(shared: &Shared, after: u64) -> Result<Vec<u64>, Compacted> {
    let events = shared.events(Revision(after), usize::MAX)?;
    Ok(events.items.iter().map(|event| event.revision.0).collect())
}

#[test]
fn readers_learn_what_has_settled() {
    let mut machine = StoreMachine::new();
    let shared = machine.shared();
    let mut context = Context::from_waker(Waker::noop());
    let mut early = pin!(shared.changed_since(Revision(0)));
    let mut late = pin!(shared.changed_since(Revision(3)));
    assert!(early.as_mut().poll(&mut context).is_pending() && late.as_mut().poll(&mut context).is_pending());
    put(&mut machine, 2);
    assert!(early.as_mut().poll(&mut context).is_pending(), "applied, and not settled");
    assert_eq!(revisions(&shared, 0).unwrap(), [] as [u64; 0]);
    machine.settled(3);
    assert_eq!(early.poll(&mut context), Poll::Ready(Revision(3)));
    assert!(late.as_mut().poll(&mut context).is_pending());
    assert_eq!(shared.events(Revision(0), 9).unwrap().through, Revision(3), "also of entries without a command");
    assert_eq!(revisions(&shared, 0).unwrap(), [2]);
    put(&mut machine, 4);
    machine.settled(4);
    assert_eq!(late.poll(&mut context), Poll::Ready(Revision(4)));
    assert_eq!(pin!(shared.changed_since(Revision(1))).poll(&mut context), Poll::Ready(Revision(4)), "long past");
}

#[test]
fn a_program_stops_where_the_mesh_begins_to_use_what_it_does_not_understand() {
    let raise = command(admin(), 0, Body::FeatureLevel { level: 2 }).encode();
    let old = Versions { min: 0, max: 1 };
    let mut machine = StoreMachine::anew(Arc::default(), old);
    put(&mut machine, 1);
    machine.settled(1);
    let error = machine.apply(2, &raise).unwrap_err();
    assert_eq!(error.why, "it uses feature level 2, and this program understands 0 to 1");
    let shared = machine.shared();
    assert_eq!((shared.beyond(), shared.revision()), (Some(2), Revision(1)));
    assert_eq!(revisions(&shared, 0).unwrap(), [1], "nobody was told of it");
    // From a snapshot likewise: the old state stays.
    let mut newer = StoreMachine::new();
    newer.apply(1, &raise).unwrap();
    let mut frozen = newer.freeze();
    let chunks: Vec<Bytes> = std::iter::from_fn(|| frozen.chunk()).collect();
    let mut machine = StoreMachine::anew(Arc::default(), old);
    put(&mut machine, 1);
    let error = machine.restore(9, &mut chunks.iter().cloned().map(Ok)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported, "which is no damage");
    let shared = machine.shared();
    assert_eq!(shared.beyond(), Some(2));
    assert!(shared.read(|store| store.get("k/a").is_some()));
    // Another program in its place goes on.
    let mut machine = StoreMachine::anew(shared, Versions { min: 1, max: 2 });
    machine.restore(9, &mut chunks.into_iter().map(Ok)).unwrap();
    assert_eq!((machine.shared().beyond(), machine.shared().read(Keyspace::feature_level)), (None, 2));
}

#[test]
fn a_snapshot_replaces_all_or_nothing() {
    let (mut machine, mut other) = (StoreMachine::new(), StoreMachine::new());
    (1..=9).for_each(|index| put(&mut machine, index));
    machine.settled(9);
    let mut frozen = machine.freeze();
    let chunks: Vec<Bytes> = std::iter::from_fn(|| frozen.chunk()).collect();
    (1..=3).for_each(|index| put(&mut other, index));
    other.settled(3);
    let shared: Arc<Shared> = other.shared();
    let mut torn = vec![Ok(chunks[0].slice(..chunks[0].len() / 2)), Err(std::io::Error::other("torn"))].into_iter();
    assert!(other.restore(9, &mut torn).is_err());
    assert!(other.restore(8, &mut chunks.iter().cloned().map(Ok)).is_err(), "it holds what came after that");
    assert_eq!((shared.revision(), shared.read(|k| k.get("k/a").unwrap().version)), (Revision(3), 3));
    assert_eq!(revisions(&shared, 0).unwrap(), [1, 2, 3], "the old state is still there, with its history");
    // Entries without a command follow the last one.
    other.restore(10, &mut chunks.iter().cloned().map(Ok)).unwrap();
    assert_eq!((shared.revision(), shared.read(|k| k.get("k/a").unwrap().version)), (Revision(10), 9));
    assert_eq!(revisions(&shared, 3), Err(Compacted { oldest: Revision(11) }));
    put(&mut other, 11);
    other.settled(11);
    assert_eq!(revisions(&shared, 10).unwrap(), [11]);
}

/// A state that commands are applied to without their bytes, so that large values are shared.
#[derive(Default)]
struct State(Keyspace, u64);

impl State {
    fn apply(&mut self, body: Body) -> Result<Done, Refusal> {
        self.1 += 1;
        self.0.apply(Revision(self.1), command(admin(), 0, body), &mut Vec::new()).result
    }

    fn put(&mut self, name: &str, value: &Value, lease: Option<LeaseId>) -> Result<Done, Refusal> {
        self.apply(Body::Put { key: key(name), value: value.clone(), lease })
    }
}

#[test]
fn a_full_store_only_shrinks() {
    let (mut state, large) = (State::default(), Value::from(vec![0; 256 << 10]));
    let mut filled = 0;
    while state.put(&format!("k/{filled}"), &large, None).is_ok() {
        filled += 1;
    }
    assert!(state.0.bytes() <= STORE_BYTES_MAX && state.0.bytes() > STORE_BYTES_MAX - (257 << 10), "{filled} keys");
    assert!(state.0.is_filling());
    assert_eq!(state.put("k/more", &large, None), Err(Refusal::NoSpace));
    assert_eq!(state.put("k/0", &large, None), Ok(Done::Put { version: 2 }), "as large as before");
    assert_eq!(state.put("k/0", &value("1"), None), Ok(Done::Put { version: 3 }));
    assert_eq!(state.put("k/more", &Value::from(vec![0; 255 << 10]), None), Ok(Done::Put { version: 1 }));
    assert_eq!(state.put("k/0", &large, None), Err(Refusal::NoSpace));
    assert!(state.apply(Body::Delete { key: key("k/1") }).is_ok());
    assert!(state.put("k/0", &large, None).is_ok());
    // What the mesh needs to go on is not refused.
    while state.put(&format!("k/small/{}", state.1), &value(""), None).is_ok() {}
    assert_eq!(state.apply(Body::IdealSize { masters: 3 }), Ok(Done::Applied));
    let admit = Body::PeerAdmit { host: admin().host, peer: support::peer(1, mgmt_store::Role::Admin), replace: false };
    assert_eq!(state.apply(admit), Ok(Done::Applied));
    assert!(state.0.adds_up());
}

#[test]
fn one_command_changes_only_so_much() {
    let mut state = State::default();
    let leases: Vec<LeaseId> = (0..5)
        .map(|_| {
            assert!(state.apply(Body::LeaseGrant { ttl_s: 9 }).is_ok());
            LeaseId(state.1)
        })
        .collect();
    for (at, lease) in leases.iter().enumerate() {
        for n in 0..LEASE_KEYS_MAX {
            state.put(&format!("k/{at}/{n}"), &value(""), Some(*lease)).unwrap();
        }
        let full = Err(Refusal::QuotaExceeded(Quota::LeaseKeys));
        assert_eq!(state.put(&format!("k/{at}/more"), &value(""), Some(*lease)), full);
    }
    let all = Body::DeletePrefix { prefix: Prefix::parse("k/").unwrap() };
    assert_eq!(state.apply(all), Err(Refusal::TooLarge(Large::Changes)));
    let through = u32::try_from(CHANGES_MAX / LEASE_KEYS_MAX).unwrap();
    assert_eq!(state.apply(Body::LeaseExpire { leases: leases.clone() }), Ok(Done::Expired { through }));
    assert_eq!(state.0.len(), LEASE_KEYS_MAX);
    assert_eq!(state.apply(Body::LeaseExpire { leases }), Ok(Done::Expired { through: 5 }));
    assert_eq!(state.0.len(), 0);
    assert!(state.0.adds_up());
}

#[test]
fn a_command_that_is_too_large_is_not_read() {
    let op = |at: u8| mgmt_store::command::Op::Put {
        key: key(&format!("k/{at}")),
        value: vec![0; 256 << 10].into(),
        lease: None,
    };
    let txn = mgmt_store::command::Txn { then: (0..5).map(op).collect(), ..Default::default() };
    let bytes = Request::plain(Body::Txn(txn)).encode();
    assert!(bytes.len() > REQUEST_BYTES_MAX);
    assert_eq!(Command::attest(&bytes, &admin(), 0), Err(Refusal::TooLarge(Large::Command)));
    let mut machine = StoreMachine::new();
    let delete = Body::DeletePrefix { prefix: prefix("k/") };
    let outcome = machine.apply(1, &command(admin(), 0, delete).encode()).unwrap();
    assert_eq!(Outcome::decode(&outcome).unwrap().result, Ok(Done::Deleted { count: 0 }));
}
