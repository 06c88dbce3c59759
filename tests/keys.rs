//! Keys by graph: two hosts and a guest write, raise, map and repair them.

#![allow(clippy::unwrap_used, reason = "a test")]

mod mesh;

use std::fs;
use std::path::Path;

use mesh::peer::{Peer, Peers, Recipe};
use mesh::{PATIENCE, wait};

/// A peer with a graph of these keys.
fn peer(root: &Path, host: &str, keys: &str) -> Recipe {
    let graph = root.join(format!("{host}.yaml"));
    fs::write(&graph, format!("graph: {host}\nresources:\n  kv:\n{keys}")).unwrap();
    let mut recipe = Recipe::new(&root.join("state"), host);
    // Nothing else says that it is to have a part in a mesh.
    recipe.args = vec![graph.to_str().unwrap().to_owned()];
    recipe
}

/// What lies under a key, seen from a host.
fn value(recipe: &Recipe, key: &str) -> Option<String> {
    recipe.asked(&["kv", "get", key])?["value"].as_str().map(str::to_owned)
}

/// Waits until a key is so, for a host.
#[track_caller]
fn becomes(peer: &Peer, key: &str, wanted: &str) {
    let came = wait(PATIENCE, || value(&peer.recipe, key).as_deref() == Some(wanted));
    assert!(came.is_some(), "{key} is {:?}, not {wanted}\n{}", value(&peer.recipe, key), peer.tail());
}

/// Waits until a host has said so.
#[track_caller]
fn says(peer: &Peer, text: &str) {
    let said = wait(PATIENCE, || peer.log().contains(text));
    assert!(said.is_some(), "{} has not said '{text}':\n{}", peer.host(), peer.tail());
}

#[test]
fn keys_are_written_raised_and_repaired_by_those_who_may() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().canonicalize().unwrap();
    let mut peers = Peers::default();
    let entry = |zone: &str| format!("  - {{name: mine, key: zones, value: {zone}, mapped: true}}\n");
    let level = |level: u32| format!("  - {{name: app/level, value: {level}, skiplessthan: true}}\n");

    // Whoever founds is an admin.
    let keys = format!("  - {{name: greeting, key: app/greeting, value: hello}}\n{}{}", level(3), entry("east"));
    peers.start(peer(&root, "a", &keys));
    let a = peers.get("a");
    becomes(a, "app/greeting", "hello");
    becomes(a, "app/level", "3");
    says(a, "kv[mine]: key is not there, wanted \"east\": written, 4 bytes");

    // It comes back, and that is counted.
    let changes = |peer: &Peer| peer.recipe.status().unwrap()["changes"].as_u64().unwrap();
    let before = changes(a);
    assert_eq!(before, 3, "{}", a.tail());
    assert_eq!(a.recipe.verb(["kv", "delete", "app/greeting"]).code, 0);
    becomes(a, "app/greeting", "hello");
    assert_eq!(changes(a), before + 1, "{}", a.tail());
    says(a, r#"key is not there, wanted "hello""#);

    // Whoever joins here is none: its own entry of a map is all it may write, until it is allowed more.
    peers.start(peer(&root, "b", &format!("{}{}", level(5), entry("west"))));
    says(peers.get("b"), "ask an admin for: mgmt cluster allow b app/level");
    says(peers.get("b"), "kv[mine]: key is not there, wanted \"west\": written, 4 bytes");
    becomes(peers.get("b"), "app/level", "3");
    assert_eq!(peers.get("a").recipe.verb(["cluster", "allow", "b", "app/"]).code, 0);
    // Nobody tells it to try again.
    becomes(peers.get("b"), "app/level", "5");
    becomes(peers.get("a"), "app/level", "5");
    assert_eq!(peers.get("a").recipe.verb(["kv", "put", "app/level", "4"]).code, 0);
    becomes(peers.get("a"), "app/level", "5");
    assert_eq!(peers.get("a").recipe.verb(["kv", "put", "app/level", "9"]).code, 0);
    becomes(peers.get("b"), "app/level", "9");

    // A run with an end waits until it is let in, and until its key is written.
    let guest = peer(&root, "c", &entry("north")).with(&["--converged-timeout", "0"]).start();
    peers.0.insert("c".to_owned(), guest);
    assert_eq!(peers.get("c").ended(), 0, "{}", peers.get("c").tail());
    says(peers.get("c"), "kv[mine]: key is not there, wanted \"north\": written, 5 bytes");
    assert_eq!(value(&peers.get("a").recipe, "app/level").as_deref(), Some("9"), "nobody has lowered it");
}

#[test]
fn without_a_mesh_it_is_said_what_it_takes() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().canonicalize().unwrap();
    let alone = peer(&root, "a", "  - {name: a, value: b}\n");
    let mut run = alone.with(&["--no-network", "--converged-timeout", "0"]).start();
    assert_eq!(run.ended(), 1, "{}", run.tail());
    says(&run, "this run has no part in a mesh, and keys are in the mesh");
}
