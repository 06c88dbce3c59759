//! A member whose directory becomes another cluster's, whole, whatever interrupts it.

use std::collections::BTreeMap;

use mgmt_consensus::PeerId;
use mgmt_consensus::identity::{Stored, load};
use mgmt_store::{Body, Command, HostName, Key, Keyspace, Origin, Request, Role};

use super::*;

/// A state directory of a member of a cluster whose state is what these commands made, at log index 5,000.
pub(in super::super) async fn member(state: &Path, commands: Vec<Body>) {
    let mut keyspace = Keyspace::default();
    let origin = Origin { host: HostName::parse("a").unwrap(), peer: PeerId(7), role: Role::Admin };
    let mut events = Vec::new();
    let mut revision = 10;
    let mut apply = |body: Body| {
        revision += 1;
        let command = Command { origin: origin.clone(), at_ms: 1_000, request: Request::plain(body) };
        keyspace.apply(Revision(revision), command, &mut events).result.unwrap()
    };
    apply(admit("a", 7));
    for body in commands {
        apply(body);
    }
    let place = Place::open(state).unwrap();
    Papers::found(&place, ClusterId(1), PeerId(7), "a").unwrap();
    place.save(Part::Port, "127.0.0.1:4711").unwrap();
    let identity = Identity {
        cluster: ClusterId(1),
        peer: PeerId(7),
        incarnation: Incarnation(3),
        raft: Some(5_000),
        host: "a".to_owned(),
    };
    let frozen = FrozenStore::new(&keyspace);
    let disk = Files::open(state).unwrap();
    recover::begin::<Native>(disk, options(state), &identity, 4, 5_000, frozen).await.unwrap();
}

pub(in super::super) fn admit(host: &str, peer: u128) -> Body {
    let peer = mgmt_store::record::Peer {
        peer: PeerId(peer),
        role: Role::Admin,
        addresses: Vec::new(),
        zone: Vec::new(),
        versions: super::super::levels::VERSIONS,
        key_hash: [0; 32],
        admitted: Revision(0),
    };
    Body::PeerAdmit { host: HostName::parse(host).unwrap(), peer, replace: false }
}

pub(in super::super) fn put(key: &str, value: &str) -> Body {
    Body::Put { key: Key::parse(key).unwrap(), value: value.as_bytes().into(), lease: None }
}

fn token() -> Body {
    let token = mgmt_store::record::Token {
        public_key: [1; 32],
        role: Role::Master,
        host: None,
        replace: false,
        expires_ms: 2_000_000,
        uses: None,
        used: 0,
    };
    Body::TokenCreate { id: "t".into(), token }
}

fn identity(state: &Path) -> Identity {
    match load(&Files::open(state).unwrap()).unwrap() {
        Stored::Sound(identity) => identity,
        other => panic!("{other:?}"),
    }
}

async fn value(state: &Path, key: &str) -> Option<String> {
    let salvage = salvage(state).await.unwrap();
    let value = salvage.machine.shared().read(|keyspace| keyspace.get(key).map(|entry| entry.value.to_vec()));
    value.map(|value| String::from_utf8(value).unwrap())
}

#[tokio::test]
async fn a_survivor_keeps_what_is_everybodys_and_is_another_cluster() {
    let state = tempfile::tempdir().unwrap();
    let state = state.path();
    member(state, vec![put("k/x", "1"), admit("b", 8), token(), Body::IdealSize { masters: 3 }]).await;
    let before = identity(state);
    let recovered = recover(state).await.unwrap();
    let after = identity(state);
    assert_eq!(recovered.old, before.cluster);
    assert_eq!((recovered.new, recovered.at), (after.cluster, after.raft.unwrap()));
    assert!(recovered.at > 5_000 && recovered.last == 5_000 && after.incarnation != before.incarnation);
    assert_eq!((after.peer, recovered.hosts.as_slice()), (before.peer, ["b".to_owned()].as_slice()));
    let salvage = salvage(state).await.unwrap();
    salvage.machine.shared().read(|keyspace| {
        assert_eq!(keyspace.get("k/x").map(|entry| entry.modify), Some(Revision(12)), "as it was");
        assert_eq!((keyspace.revision(), keyspace.ideal_size()), (Revision(recovered.at), 3));
        assert!(keyspace.peers().next().is_none() && keyspace.tokens().next().is_none());
    });
    let place = Place::open(state).unwrap();
    let papers = Papers::load(&place).unwrap().unwrap();
    assert_eq!(papers.badge().unwrap().cluster, after.cluster);
    assert_eq!(place.load(Part::Port).unwrap().as_deref(), Some("127.0.0.1:4711"));
    let old = Papers::load(&Place::open(&recovered.aside).unwrap()).unwrap().unwrap();
    assert_eq!(old.badge().unwrap().cluster, before.cluster, "nothing is deleted");
    let text = recovered.to_string();
    assert!(text.contains("join again, with a new token: b"), "{text}");
    // And once more, beside the first one.
    let again = recover(state).await.unwrap();
    assert!(again.at > recovered.at && again.aside != recovered.aside);
    assert_eq!(value(state, "k/x").await.as_deref(), Some("1"));
}

/// Everything below a directory, by name.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    for (name, bytes) in tree(from) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// What `finish` does, up to one of its steps.
fn interrupted_after(state: &Path, steps: usize) {
    let prepared = state.join(PREPARED);
    let mut done = 0;
    let mut step = |work: &dyn Fn() -> io::Result<()>| {
        if done < steps {
            work().unwrap();
            done += 1;
        }
    };
    let aside = state.join("before-recovery-1");
    step(&|| fs::write(prepared.join("aside.new"), "before-recovery-1"));
    step(&|| fs::rename(prepared.join("aside.new"), prepared.join("aside")));
    step(&|| fs::create_dir(&aside));
    for part in PARTS {
        step(&|| fs::rename(state.join(part), aside.join(part)));
        step(&|| fs::rename(prepared.join(part), state.join(part)));
    }
}

#[tokio::test]
async fn an_interruption_anywhere_leaves_it_as_before_or_done() {
    let original = tempfile::tempdir().unwrap();
    member(original.path(), vec![put("k/x", "1")]).await;
    let before = identity(original.path());
    // Prepared by a recovery of the same directory, caught before it counts.
    let done = tempfile::tempdir().unwrap();
    copy(original.path(), done.path());
    recover(done.path()).await.unwrap();
    for steps in 0..=11 {
        let state = tempfile::tempdir().unwrap();
        let state = state.path();
        copy(original.path(), state);
        fs::create_dir(state.join(PREPARED)).unwrap();
        for part in PARTS {
            let (from, to) = (done.path().join(part), state.join(PREPARED).join(part));
            if from.is_dir() { copy(&from, &to) } else { fs::copy(&from, &to).map(drop).unwrap() }
        }
        interrupted_after(state, steps);
        let aside = finish(state).unwrap().unwrap();
        assert_eq!(identity(state), identity(done.path()), "after {steps} steps");
        assert_eq!(identity(&aside), before);
        assert!(!state.join(PREPARED).exists() && finish(state).unwrap().is_none());
        assert_eq!(value(state, "k/x").await.as_deref(), Some("1"));
    }
    // What was not finished before it counted is no more than a leftover.
    let state = tempfile::tempdir().unwrap();
    copy(original.path(), state.path());
    copy(done.path(), &state.path().join(PREPARING));
    assert!(finish(state.path()).unwrap().is_none());
    assert_eq!(identity(state.path()), before);
    recover(state.path()).await.unwrap();
}
