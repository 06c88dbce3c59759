//! Peers tell each other how they are: with all of them there, with one dead, and without a quorum.

#![allow(clippy::unwrap_used, reason = "a test")]

mod mesh;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use mesh::PATIENCE;
use mesh::peer::{Peers, Recipe};
use mesh::wait;
use serde_json::Value;

const HOSTS: [&str; 3] = ["a", "b", "c"];

/// A host with a graph of one file, and something that fails if that is wished.
fn host(scratch: &Path, name: &str, fails: bool) -> Recipe {
    let graph = scratch.join(format!("{name}.yaml"));
    let file = scratch.join(format!("{name}.txt"));
    let exec = if fails { "  exec:\n  - {name: broken, cmd: 'false'}\n" } else { "" };
    let file = format!("  file:\n  - {{name: motd, path: {}, content: hello, state: exists}}\n", file.display());
    fs::write(&graph, format!("graph: of-{name}\nresources:\n{file}{exec}")).unwrap();
    let mut recipe = Recipe::new(&scratch.join("state"), name);
    recipe.args = vec![graph.to_str().unwrap().to_owned(), "--listen".to_owned(), "127.0.0.1:0".to_owned()];
    recipe
}

/// The peers by name, as one of them shows them.
fn peers_of(recipe: &Recipe) -> BTreeMap<String, Value> {
    let status = recipe.status().unwrap_or_default();
    let peers = status["peers"].as_array().cloned().unwrap_or_default();
    peers.into_iter().map(|peer| (peer["host"].as_str().unwrap().to_owned(), peer)).collect()
}

#[test]
fn status_shows_all_peers_in_their_own_words_and_needs_no_quorum() {
    let scratch = tempfile::tempdir().unwrap();
    let mut peers = Peers::default();
    for name in HOSTS {
        peers.start(host(scratch.path(), name, name == "c"));
    }
    peers.until_formed(3, 0);
    let recipe = peers.get("a").recipe.clone();
    let mut seen = BTreeMap::new();
    let waited = wait(PATIENCE, || {
        seen = peers_of(&recipe);
        seen.len() == 3 && seen.values().all(|peer| peer["answered"] == true && peer["converged"] == true)
    });
    assert!(waited.is_some(), "{seen:#?}\n{}", peers.show());
    let (b, c) = (&seen["b"], &seen["c"]);
    assert_eq!((&b["graph"]["name"], &b["changes"], &b["role"]), (&"of-b".into(), &1.into(), &"master".into()));
    assert!(b["revision"].as_u64() > Some(0) && b["converged_since"].is_string(), "{b}");
    assert_eq!((&c["resources"][0]["resource"], &c["counts"]["failed"]), (&"exec[broken]".into(), &1.into()), "{c}");
    let text = recipe.verb(["status"]).out;
    assert!(text.contains("HOST  ROLE") && text.contains("\n  c: failed exec[broken]"), "{text}");
    assert!(recipe.asked(&["status", "--local"]).unwrap().get("peers").is_none());
    // Two of three are gone: nobody leads, and the third still says what it knows, soon.
    ["b", "c"].iter().for_each(|host| peers.get(host).kill());
    let mut gone = BTreeMap::new();
    let waited = wait(Duration::from_secs(10), || {
        gone = peers_of(&recipe);
        gone.get("a").is_some_and(|peer| peer["leads"] == false)
    });
    assert!(waited.is_some() && gone.len() == 3, "{gone:#?}\n{}", peers.show());
    assert_eq!((&gone["a"]["answered"], &gone["b"]["answered"]), (&true.into(), &false.into()), "{gone:#?}");
    assert_eq!(gone["b"]["graph"], Value::Null);
    let text = recipe.verb(["status"]).out;
    assert!(text.contains("no answer") && text.contains("\n  b: no answer: "), "{text}");
}
