//! What decoding allocates is bounded by what comes in: 64 KiB and eight bytes for each byte of the input, whatever its
//! lengths claim.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use mgmt_store::command::{Command, ExportChange, Op, Request, Txn};
use mgmt_store::limits::{LEASES_EXPIRED_MAX, STAGED_MAX, TXN_OPS_MAX};
use mgmt_store::{Body, LeaseId, Outcome, snapshot};
use proptest::prelude::*;
use support::{admin, bodies, key};

/// The most that was allocated at once.
fn most(work: impl FnOnce()) -> u64 {
    allocation_counter::measure(work).bytes_max
}

fn check(bytes: &[u8]) {
    let allowed = (64 << 10) + 8 * bytes.len() as u64;
    let took = [
        most(|| drop(Request::decode(bytes))),
        most(|| drop(Command::decode(bytes))),
        most(|| drop(Outcome::decode(bytes))),
        most(|| drop(snapshot::restore(&mut std::iter::once(Ok(bytes.to_vec().into()))))),
    ];
    assert!(took.iter().all(|took| *took <= allowed), "{took:?} for {} bytes", bytes.len());
}

/// The frame again, with a checksum that is right.
fn reseal(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(bytes.len() - 10).unwrap();
    bytes[2..6].copy_from_slice(&length.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..6]), &bytes[10..]);
    bytes[6..10].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Every eight bytes of every command in turn claim to be a length.
#[test]
fn lengths_that_lie() {
    for (name, body) in bodies() {
        let bytes = Request::plain(body).encode();
        for at in 10..bytes.len().saturating_sub(8) {
            for claimed in [1 << 9, 1 << 20, 1 << 40, u64::MAX] {
                let mut bent = bytes.to_vec();
                bent[at..at + 8].copy_from_slice(&u64::to_le_bytes(claimed));
                check(&reseal(bent));
            }
        }
        assert!(Request::decode(&bytes).is_ok(), "{name}");
    }
}

/// The most items for the fewest bytes.
#[test]
fn many_small_items() {
    let delete = || Op::Delete { key: key("k/a") };
    let then: Vec<Op> = (0..TXN_OPS_MAX).map(|_| delete()).collect();
    let change = |_| ExportChange { kind: "".into(), name: "".into(), value: None };
    let worst = [
        Body::Txn(Txn { compare: Vec::new(), otherwise: then.clone(), then }),
        Body::LeaseExpire { leases: vec![LeaseId(1); LEASES_EXPIRED_MAX] },
        Body::ExportStage { generation: 1, changes: (0..STAGED_MAX).map(change).collect() },
    ];
    for body in worst {
        let request = Request::plain(body);
        check(&request.encode());
        check(&support::command(admin(), 1, request.body).encode());
    }
}

proptest! {
    #[test]
    fn anything(bytes in prop::collection::vec(any::<u8>(), 0..4_000), kind in 1u8..40) {
        let mut bytes = bytes;
        check(&bytes);
        bytes.splice(0..0, [kind, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        check(&reseal(bytes));
    }
}
