//! Peers tell each other how they are: with all of them there, with one dead, and without a quorum.

#![allow(clippy::unwrap_used, reason = "a test")]

mod mesh;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh::PATIENCE;
use mesh::peer::{MGMT, Peers, Recipe};
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
    assert!(text.contains("no answer") && text.contains("\n  b: "), "{text}");
}

/// `events --follow` as it goes on. Killed when dropped.
struct Following {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Following {
    fn of(recipe: &Recipe, more: &[&str]) -> Self {
        let mut command = Command::new(MGMT);
        command.args(["events", "--follow", "--json"]).args(more).args(["--hostname", &recipe.host]);
        command.arg("--prefix").arg(&recipe.prefix).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (lines, out) = (Arc::new(Mutex::new(Vec::new())), BufReader::new(child.stdout.take().unwrap()));
        let kept = lines.clone();
        std::thread::spawn(move || {
            for line in out.lines() {
                let Ok(line) = line else { break };
                kept.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, lines }
    }

    fn all(&self) -> Vec<Value> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for lines like this, and says how many milliseconds passed.
    #[track_caller]
    fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> u128 {
        let waited = wait(PATIENCE, || self.all().iter().any(&is));
        waited.unwrap_or_else(|| panic!("in vain: {what}\n{:#?}", self.all())).as_millis()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn events_of_all_hosts_are_followed_from_any() {
    let scratch = tempfile::tempdir().unwrap();
    let mut peers = Peers::default();
    let [a, b, _] = HOSTS.map(|name| peers.start(host(scratch.path(), name, false)).recipe.clone());
    peers.until_formed(3, 0);
    let (all, own) = (Following::of(&a, &[]), Following::of(&a, &["--local"]));
    let changed = |line: &Value, host: &str| line["host"] == host && line["event"] == "changed";
    for name in HOSTS {
        all.until(&format!("what {name} has done is shown"), |line| changed(line, name));
    }
    // What happens on another host is shown here at once, once.
    let text = scratch.path().join("b.txt");
    let repaired = |line: &Value| changed(line, "b") && line["cause"] == "drift";
    fs::write(&text, "drift").unwrap();
    let millis = all.until("b's repair is shown", repaired);
    assert!(millis < 2_000, "it took {millis} ms");
    assert_eq!(all.all().iter().filter(|line| repaired(line)).count(), 1);
    // Who was started again is said to have been, and goes on being followed.
    peers.get("b").kill();
    all.until("b is silent", |line| line["host"] == "b" && line["note"].is_string());
    fs::write(&text, "drift").unwrap();
    peers.get("b").restart();
    all.until("b is back", |line| line["host"] == "b" && line["note"] == "was started again");
    let first = |line: &Value| changed(line, "b") && line["cause"] == "first" && line["drift"] != "missing";
    all.until("and tells of its new run", first);
    let local = own.all();
    assert!(!local.is_empty() && local.iter().all(|line| line["host"] == "a"), "{local:#?}");
    // Without following: those of all, by time, and of the last ones only so many.
    let said = b.verb(["events"]).out;
    let times: Vec<_> = said.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert!(times.is_sorted() && HOSTS.iter().all(|host| said.contains(&format!(" {host}: file[motd]"))), "{said}");
    assert_eq!(b.verb(["events", "--last", "2"]).out.lines().count(), 2);
    assert!(b.verb(["events", "--local"]).out.lines().all(|line| line.contains("Z file[motd]")));
}

#[test]
fn a_run_that_waits_for_the_mesh_ends_when_all_hosts_are_quiet() {
    let scratch = tempfile::tempdir().unwrap();
    let mut peers = Peers::default();
    let [a, b] = ["a", "b"].map(|name| peers.start(host(scratch.path(), name, false)).recipe.clone());
    peers.until(PATIENCE, "a and b", |members| members.is_well() && members.hosts().len() == 2);
    // On b a command runs until it is told to end.
    let (gate, graph) = (scratch.path().join("gate"), scratch.path().join("b.yaml"));
    let waits = format!("until [ -e {} ]; do sleep 0.05; done", gate.display());
    let exec = format!("graph: slow\nresources:\n  exec:\n  - {{name: waits, cmd: '{waits}', shell: /bin/sh}}\n");
    fs::write(&graph, exec).unwrap();
    assert!(wait(PATIENCE, || b.status().is_some_and(|status| status["counts"]["busy"] == 1)).is_some());
    let status = scratch.path().join("status");
    let batch =
        |name: &str| host(scratch.path(), name, false).with(&["--mesh-converged", "--converged-timeout", "0.3"]);
    let first = batch("c").with(&["--converged-status-file", status.to_str().unwrap()]);
    peers.start(first);
    let held = |log: String| log.contains("waiting for the mesh: b is not converged");
    assert!(wait(PATIENCE, || held(peers.get("c").log())).is_some(), "{}", peers.show());
    // Another one that waits for the same, and the two for each other.
    peers.start(batch("d"));
    assert!(wait(PATIENCE, || held(peers.get("d").log())).is_some(), "{}", peers.show());
    assert!(peers.get("c").runs() && !status.exists());
    fs::write(&gate, "").unwrap();
    for name in ["c", "d"] {
        assert_eq!(peers.get(name).ended(), 0, "{}", peers.get(name).tail());
        assert!(peers.get(name).log().contains("the mesh is converged"), "{}", peers.get(name).tail());
    }
    assert_eq!(fs::read_to_string(&status).unwrap(), "true\n");
    drop(a);
}

#[test]
fn two_runs_that_are_a_mesh_of_their_own_wait_for_each_other_and_both_end() {
    let scratch = tempfile::tempdir().unwrap();
    let mut peers = Peers::default();
    for name in ["a", "b"] {
        peers.start(host(scratch.path(), name, false).with(&["--mesh-converged", "--converged-timeout", "2"]));
    }
    // Whoever ends first may have been the only master: the other is alone then, and ends all the same.
    for name in ["a", "b"] {
        assert_eq!(peers.get(name).ended(), 0, "{}", peers.show());
    }
}
