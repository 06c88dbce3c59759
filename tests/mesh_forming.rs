//! Plain runs on one machine form a mesh: at once, one after the other, and after all were killed.

#![allow(clippy::unwrap_used, reason = "a test")]

mod mesh;

use std::collections::BTreeSet;
use std::path::Path;

use mesh::PATIENCE;
use mesh::peer::{Peers, Recipe};
use mesh::wait;
use rustix::process::Signal;

const HOSTS: [&str; 3] = ["a", "b", "c"];

/// The clusters that the hosts of a prefix belong to.
fn clusters(prefix: &Path) -> BTreeSet<String> {
    let file = |host: &&str| std::fs::read_to_string(prefix.join(host).join("peer.toml")).ok();
    let line = |text: String| text.lines().find(|line| line.starts_with("cluster = ")).map(str::to_owned);
    HOSTS.iter().filter_map(file).filter_map(line).collect()
}

/// Waits until all three are members of one mesh, and everybody sees it.
#[track_caller]
fn formed(peers: &mut Peers, prefix: &Path) -> String {
    peers.until(PATIENCE, "a mesh of a, b and c", |members| members.is_well() && members.hosts() == HOSTS);
    let clusters = clusters(prefix);
    assert_eq!(clusters.len(), 1, "{clusters:?}");
    clusters.into_iter().next().unwrap()
}

#[test]
fn three_that_start_at_once_are_one_mesh_and_still_are_after_all_were_killed() {
    let scratch = tempfile::tempdir().unwrap();
    let prefix = scratch.path().join("state");
    let mut peers = Peers::default();
    for host in HOSTS {
        peers.start(Recipe::new(&prefix, host));
    }
    let cluster = formed(&mut peers, &prefix);
    HOSTS.iter().for_each(|host| peers.get(host).kill());
    ["c", "a", "b"].iter().for_each(|host| peers.get(host).restart());
    assert_eq!(formed(&mut peers, &prefix), cluster);
}

#[test]
fn one_after_the_other_joins_and_a_newcomer_waits_for_those_who_were_there() {
    let scratch = tempfile::tempdir().unwrap();
    let prefix = scratch.path().join("state");
    let mut peers = Peers::default();
    for host in ["b", "a"] {
        peers.start(Recipe::new(&prefix, host));
        peers.until(PATIENCE, "it is a member", |members| members.is_well() && members.hosts().contains(&host));
    }
    ["a", "b"].iter().for_each(|host| peers.get(host).kill());
    let newcomer = peers.start(Recipe::new(&prefix, "c"));
    let said = wait(PATIENCE, || newcomer.log().contains("waiting for one of them (start mgmt run --hostname a"));
    assert!(said.is_some(), "{}", newcomer.log());
    assert!(!prefix.join("c/peer.toml").exists(), "it has founded another mesh");
    ["a", "b"].iter().for_each(|host| peers.get(host).restart());
    formed(&mut peers, &prefix);
}

#[test]
fn who_joined_by_a_verb_goes_on_in_the_next_run() {
    let scratch = tempfile::tempdir().unwrap();
    // Prefixes of their own: they do not find each other by what lies beside them.
    let [first, second] = ["a", "b"].map(|host| Recipe::new(&scratch.path().join(host), host));
    let founded = first.verb(["cluster", "init", "--listen", "127.0.0.1:0"]);
    assert_eq!(founded.code, 0, "{founded:?}");
    let token = founded.out.split_whitespace().find(|word| word.starts_with("mgmt1_")).unwrap().to_owned();
    let mut peers = Peers::default();
    peers.start(first.clone());
    peers.until(PATIENCE, "the founder goes on", |members| members.is_well());
    let address = first.members().unwrap().members[0].address.clone();
    let joined = second.verb(["join", "--seeds", &address, &token]);
    assert_eq!(joined.code, 0, "{joined:?}");
    peers.start(second);
    peers.until(PATIENCE, "both are members", |members| members.is_well() && members.hosts() == ["a", "b"]);
}

/// What may be left of a host that is a member of nothing.
fn is_bare(home: &Path) -> bool {
    let bare = ["lock", "mesh", "mesh/port", "mesh/reset-secret"];
    let all =
        |folder: &Path| -> Vec<_> { std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect() };
    let mut left = all(home);
    left.extend(all(&home.join("mesh")));
    left.iter().all(|path| bare.iter().any(|name| home.join(name) == *path))
}

#[test]
fn a_run_with_an_end_that_founds_and_stays_alone_leaves_nobody_to_wait_for() {
    let scratch = tempfile::tempdir().unwrap();
    let prefix = scratch.path().join("state");
    let mut peers = Peers::default();
    let batch = Recipe::new(&prefix, "a").with(&["--max-runtime", "600"]);
    let home = batch.home();
    peers.start(batch);
    peers.until_formed(1, 0);
    assert_eq!(peers.get("a").end(Signal::TERM), 0);
    assert!(is_bare(&home), "{:?}", std::fs::read_dir(&home).unwrap().collect::<Vec<_>>());
    // Others found one of their own, and do not wait.
    peers.start(Recipe::new(&prefix, "b"));
    peers.until_formed(1, 0);
    // And whoever founds a mesh in which others live stays what he was.
    assert_eq!(peers.get("b").end(Signal::TERM), 0);
    std::fs::remove_dir_all(prefix.join("b")).unwrap();
    peers.get("a").restart();
    peers.until_formed(1, 0);
    peers.get("b").restart();
    peers.until(PATIENCE, "a and b", |members| members.is_well() && members.hosts() == ["a", "b"]);
    assert_eq!(peers.get("a").end(Signal::TERM), 0);
    assert!(home.join("peer.toml").exists(), "b needs it");
    peers.get("a").restart();
    peers.until(PATIENCE, "a and b again", |members| members.is_well() && members.hosts() == ["a", "b"]);
}

#[test]
fn the_last_one_leaves_if_that_is_meant_and_the_mesh_is_no_more() {
    let scratch = tempfile::tempdir().unwrap();
    let mut peers = Peers::default();
    let recipe = Recipe::new(&scratch.path().join("state"), "a");
    peers.start(recipe.clone());
    peers.until_formed(1, 0);
    let refused = recipe.verb(["cluster", "leave"]);
    assert!(refused.code == 64 && refused.err.contains("a is the last host of this mesh"), "{refused:?}");
    assert!(peers.get("a").runs());
    let left = recipe.verb(["cluster", "leave", "--yes"]);
    assert_eq!(left.code, 0, "{left:?}");
    assert_eq!(peers.get("a").ended(), 0, "{}", peers.get("a").tail());
    assert!(peers.get("a").log().contains("this host has left the mesh"), "{}", peers.get("a").tail());
    assert!(!recipe.home().join("peer.toml").exists() && !recipe.home().join("mesh/authority-key.pem").exists());
}
