//! The bytes of everything that is stored or sent, as they were when they were first released.
//!
//! A line that changes here breaks every host that has not been updated yet, and every disk. It never changes; lines are
//! only added:
//!
//! - **A new command, outcome, record or section** is a new variant at the end of its enumeration, with its sample here.
//!   Older programs stop at it with `Unknown`, rather than pass over it and differ from then on. So it is proposed only
//!   when the feature level says that nobody is older.
//! - **A field more** is another type: `PeerV2` beside `PeerV1`, in a file `record_v2.rs`, with version 2 in the frame.
//!   Readers know both and make the same domain type of them; writers write 2 once the feature level allows. The samples
//!   of version 1 stay, are read, and are no longer written: their test moves to `reads`.
//! - **A limit** is part of what a command means. Another number takes a feature level too.
//!
//! With `UPDATE_EXPECT=1` the files are rewritten: only lines that are added may appear in the difference.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::fmt::Write as _;

use mgmt_consensus::PeerId;
use mgmt_consensus::machine::Frozen;
use mgmt_store::command::{Command, Request};
use mgmt_store::outcome::{Clash, Denied, Large, Missing, Quota};
use mgmt_store::snapshot::FrozenStore;
use mgmt_store::{Body, Done, Keyspace, LeaseId, Origin, Outcome, Refusal, Revision, Role, Ticket};
use support::{admin, bodies, command, host, key};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check(file: &str, lines: &[(String, Vec<u8>)]) {
    let mut text = String::new();
    for (name, bytes) in lines {
        writeln!(text, "{name}: {}", hex(bytes)).unwrap();
    }
    let path = format!("{}/testdata/golden/{file}", env!("CARGO_MANIFEST_DIR"));
    expect_test::expect_file![path].assert_eq(&text);
}

#[test]
fn commands() {
    let mut lines = Vec::new();
    for (at, (name, body)) in bodies().into_iter().enumerate() {
        let ticket = (at % 2 == 1).then_some(Ticket { session: 4, sequence: 5 });
        let request = Request { ticket, body };
        let bytes = request.encode();
        assert_eq!(Request::decode(&bytes).unwrap(), request);
        lines.push((name.to_owned(), bytes.to_vec()));
    }
    let origin = Origin { host: host("web1"), peer: PeerId(0x0102), role: Role::Agent };
    let attested = command(origin, 1_700_000_000_123, Body::SessionOpen);
    let bytes = attested.encode();
    assert_eq!(Command::decode(&bytes).unwrap(), attested);
    lines.push(("a command in the log".into(), bytes.to_vec()));
    check("commands.txt", &lines);
}

#[test]
fn outcomes() {
    let done = [
        Done::Applied,
        Done::Unchanged,
        Done::Put { version: 2 },
        Done::Deleted { count: 3 },
        Done::Txn { held: true, deleted: 4 },
        Done::Leased { lease: LeaseId(5), ttl_s: 6 },
        Done::Expired { through: 7 },
        Done::Held { fence: Revision(8) },
        Done::Waiting { before: 9 },
        Done::Staged { count: 10 },
        Done::TokenUsed { role: Role::Master, replace: true },
        Done::Session { session: 11 },
    ];
    let mut results: Vec<Result<Done, Refusal>> = done.into_iter().map(Ok).collect();
    results.extend([Refusal::Malformed, Refusal::Busy { wait_ms: 12 }, Refusal::NoSpace].map(Err));
    results.extend(Denied::ALL.iter().map(|denied| Err(Refusal::NotAllowed(*denied))));
    results.extend(Large::ALL.iter().map(|large| Err(Refusal::TooLarge(*large))));
    results.extend(Quota::ALL.iter().map(|quota| Err(Refusal::QuotaExceeded(*quota))));
    results.extend(Missing::ALL.iter().map(|missing| Err(Refusal::NotFound(*missing))));
    results.extend(Clash::ALL.iter().map(|clash| Err(Refusal::Conflict(*clash))));
    let lines = results.into_iter().map(|result| {
        let outcome = Outcome { revision: Revision(0x0123_4567_89ab), result };
        let bytes = outcome.encode();
        assert_eq!(Outcome::decode(&bytes).unwrap(), outcome);
        (format!("{:?}", outcome.result), bytes.to_vec())
    });
    check("outcomes.txt", &lines.collect::<Vec<_>>());
}

/// A state with something in every table and every kind of record.
fn state() -> Keyspace {
    let mut keyspace = Keyspace::default();
    let (mut index, mut events) = (0, Vec::new());
    let mut apply = |origin: Origin, ticket, body| {
        index += 1;
        let request = Request { ticket, body };
        let outcome = keyspace.apply(Revision(index), Command { origin, at_ms: 1_000, request }, &mut events);
        assert!(outcome.result.is_ok(), "{outcome:?}");
    };
    let web1 = || Origin { host: host("web1"), peer: PeerId(2), role: Role::Agent };
    apply(admin(), None, Body::PeerAdmit { host: host("boss"), peer: support::peer(1, Role::Admin), replace: false });
    apply(admin(), None, Body::PeerAdmit { host: host("web1"), peer: support::peer(2, Role::Agent), replace: false });
    apply(web1(), None, Body::SessionOpen);
    apply(web1(), None, Body::LeaseGrant { ttl_s: 10 });
    let ticket = Some(Ticket { session: 3, sequence: 1 });
    let mine = key("m/ns/web1");
    apply(web1(), ticket, Body::Put { key: mine, value: support::value("1"), lease: Some(LeaseId(4)) });
    apply(web1(), None, Body::Acquire { lock: key("l/deploy"), lease: LeaseId(4), count: 1, wait: true });
    apply(admin(), None, Body::LeaseGrant { ttl_s: 20 });
    apply(admin(), None, Body::Acquire { lock: key("l/deploy"), lease: LeaseId(7), count: 1, wait: true });
    apply(admin(), None, Body::TokenCreate { id: "abc".into(), token: support::token(Role::Master) });
    apply(admin(), None, Body::IdealSize { masters: 3 });
    apply(admin(), None, Body::Allow { hosts: "web*".into(), prefix: "app/".into() });
    apply(admin(), None, Body::FeatureLevel { level: 2 });
    let flip = bodies().into_iter().find_map(|(name, body)| (name == "export stage").then_some(body)).unwrap();
    let Body::ExportStage { changes, .. } = flip.clone() else { panic!("the sample of its name") };
    apply(web1(), None, Body::ExportFlip { generation: 1, base: Revision::ZERO, staged: 0, changes });
    apply(web1(), None, flip);
    keyspace
}

#[test]
fn records() {
    let keyspace = state();
    let lines = keyspace.prefix("").map(|(key, entry)| (key.to_string(), entry.value.to_vec()));
    check("records.txt", &lines.collect::<Vec<_>>());
}

#[test]
fn snapshot() {
    let keyspace = state();
    let mut frozen = FrozenStore::new(&keyspace);
    let bytes: Vec<u8> = std::iter::from_fn(|| frozen.chunk()).flatten().collect();
    let mut rest = &bytes[..];
    let mut lines = Vec::new();
    while !rest.is_empty() {
        let length = 10 + u32::from_le_bytes(rest[2..6].try_into().unwrap()) as usize;
        lines.push((format!("section {}", rest[10]), rest[..length].to_vec()));
        rest = &rest[length..];
    }
    assert_eq!(lines.len(), 8, "one of each section");
    check("snapshot.txt", &lines);
    lines.push(("digest".into(), keyspace.digest().to_le_bytes().to_vec()));
    let restored = mgmt_store::snapshot::restore(&mut [Ok(bytes.into())].into_iter()).unwrap();
    assert_eq!(restored.digest(), keyspace.digest());
}
