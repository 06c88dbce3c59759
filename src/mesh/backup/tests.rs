//! Backups, restored and damaged.

use std::sync::Arc;

use mgmt_consensus::Machine as _;
use mgmt_store::{Body, StoreMachine};

use super::super::recovery::tests::{admit, member, put};
use super::*;

/// A store with so many keys of a thousand bytes, and its machine.
fn filled(keys: u64) -> (StoreMachine, Arc<Shared>) {
    use mgmt_store::{Command, HostName, Origin, Request, Role};
    let mut machine = StoreMachine::new();
    let origin = Origin { host: HostName::parse("a").unwrap(), peer: mgmt_consensus::PeerId(7), role: Role::Admin };
    let mut index = 0;
    let mut apply = |body: Body| {
        index += 1;
        let command = Command { origin: origin.clone(), at_ms: 1_000, request: Request::plain(body) };
        machine.apply(index, &command.encode()).unwrap();
        machine.settled(index);
    };
    apply(admit("a", 7));
    for key in 0..keys {
        apply(put(&format!("k/{key:08}"), &"v".repeat(1_000)));
    }
    let shared = machine.shared();
    (machine, shared)
}

#[tokio::test]
async fn what_was_saved_is_restored_and_revisions_go_on_above_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mesh.backup");
    let (_machine, shared) = filled(1_000);
    let saved = save(&shared, "c", "a", 99, &file).unwrap();
    assert_eq!((saved.revision, saved.keys, saved.exports), (1_001, 1_000, 0));
    assert_eq!(inspect(&file).unwrap(), saved);
    let state = tempfile::tempdir().unwrap();
    member(state.path(), Vec::new()).await;
    let restored = restore(state.path(), &file).await.unwrap();
    assert_eq!(restored.head, saved);
    assert!(restored.at > saved.revision && restored.at > 5_000);
    let salvage = recovery::salvage(state.path()).await.unwrap();
    assert_eq!(salvage.identity.cluster, mgmt_consensus::ClusterId(1), "it stays the mesh it is");
    salvage.machine.shared().read(|keyspace| {
        assert_eq!(Counts::of(keyspace).keys, 1_000);
        assert_eq!(keyspace.revision().0, restored.at);
        assert!(keyspace.peers().next().is_none(), "whoever begins enters it first");
    });
    // It is not empty any more.
    let again = restore(state.path(), &file).await;
    assert!(matches!(again, Err(BackupError::NotEmpty { keys: 1_000, .. })), "{again:?}");
}

#[tokio::test]
async fn a_mesh_with_others_in_it_is_not_restored_into() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mesh.backup");
    save(&filled(1).1, "c", "a", 99, &file).unwrap();
    let state = tempfile::tempdir().unwrap();
    member(state.path(), vec![admit("b", 8)]).await;
    let refused = restore(state.path(), &file).await;
    assert!(matches!(&refused, Err(BackupError::NotAlone(host)) if host == "b"), "{refused:?}");
}

#[test]
fn every_damage_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mesh.backup");
    save(&filled(1).1, "c", "a", 99, &file).unwrap();
    let good = fs::read(&file).unwrap();
    let newer = String::from_utf8_lossy(&good).replacen("\"version\":1", "\"version\":2", 1).into_bytes();
    fs::write(&file, newer).unwrap();
    assert!(matches!(inspect(&file), Err(BackupError::Newer { version: 2, .. })));
    let bad = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        matches!(inspect(&file), Err(BackupError::Damaged { .. } | BackupError::Newer { .. }))
    };
    for at in (0..good.len()).filter(|at| *at < 300 || at % 9 == 0) {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        assert!(bad(&flipped), "byte {at}");
    }
    for length in (0..good.len()).step_by(7) {
        assert!(bad(&good[..length]), "cut at {length}");
    }
    assert!(bad(&[good.as_slice(), b"x"].concat()));
    assert!(!bad(&good));
}
