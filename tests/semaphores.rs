//! Semaphores of the mesh: commands of three hosts that never overlap, or never more than so many.

#![allow(clippy::unwrap_used, reason = "a test")]

mod mesh;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use mesh::peer::{MGMT, Peers, Recipe};
use mesh::{PATIENCE, wait};
use rustix::process::Signal;

const HOSTS: [&str; 3] = ["a", "b", "c"];
const ROUNDS: usize = 10;

/// A peer whose graph runs a command for each event of a file of its own, twice: alone, and as one of two.
fn peer(root: &Path, host: &str) -> Recipe {
    let shown = root.display();
    let exec = |name: &str, sema: &str| {
        format!(
            "  - name: {name}\n    shell: /bin/sh\n    watchfiles: [{shown}/{name}-{host}]\n    \
             cmd: echo begin {host} $MGMT_FENCE >> {shown}/{name}; sleep 0.01; echo end {host} >> {shown}/{name}\n    \
             meta: {{sema: ['{sema}']}}\n"
        )
    };
    let execs = [exec("one", "cluster/x:1"), exec("two", "cluster/y:2")].concat();
    let graph = root.join(format!("{host}.yaml"));
    fs::write(&graph, format!("graph: {host}\nresources:\n  exec:\n{execs}")).unwrap();
    let mut recipe = Recipe::new(&root.join("state"), host);
    // Nothing else says that it is to have a part in a mesh.
    recipe.args = vec![graph.to_str().unwrap().to_owned()];
    recipe
}

fn touch(root: &Path, name: &str, host: &str, round: usize) {
    fs::write(root.join(format!("{name}-{host}")), round.to_string()).unwrap();
}

/// How often a host has ended its command.
fn ended(root: &Path, name: &str, host: &str) -> usize {
    let log = fs::read_to_string(root.join(name)).unwrap_or_default();
    log.lines().filter(|line| *line == format!("end {host}")).count()
}

/// How many were at it at once, at most; and the fences in their order.
fn overlaps(root: &Path, name: &str) -> (usize, Vec<u64>) {
    let log = fs::read_to_string(root.join(name)).unwrap();
    let (mut inside, mut most, mut fences) = (0_usize, 0, Vec::new());
    for line in log.lines() {
        if let Some(begun) = line.strip_prefix("begin ") {
            inside += 1;
            most = most.max(inside);
            fences.push(begun.split_once(' ').unwrap().1.parse().unwrap());
        } else {
            inside -= 1;
        }
    }
    (most, fences)
}

/// Somebody who holds a lock by the verb; lets go when asked to, or when the test has ended.
struct Holder {
    verb: Child,
    held: PathBuf,
}

impl Holder {
    #[track_caller]
    fn of(recipe: &Recipe, count: &str, root: &Path) -> Self {
        let held = root.join("held");
        let command = format!("touch {0}; while [ -e {0} ]; do sleep 0.02; done", held.display());
        let mut verb = Command::new(MGMT);
        verb.args(["lock", "--hostname", &recipe.host]).arg("--prefix").arg(&recipe.prefix);
        let verb = verb.args(["--count", count, "x", "--", "sh", "-c", &command]).spawn().unwrap();
        let holder = Self { verb, held };
        assert!(wait(PATIENCE, || holder.held.exists()).is_some(), "the lock is not held");
        holder
    }

    fn let_go(mut self) {
        fs::remove_file(&self.held).unwrap();
        assert!(self.verb.wait().unwrap().success());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Gone already is as good.
        let _gone = self.verb.kill();
        let _gone = self.verb.wait();
    }
}

#[test]
fn commands_of_three_hosts_never_overlap_more_than_they_may() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().canonicalize().unwrap();
    let mut peers = Peers::default();
    for host in HOSTS {
        for name in ["one", "two"] {
            touch(&root, name, host, 0);
        }
        peers.start(peer(&root, host));
    }
    for round in 1..=ROUNDS {
        // The first run needs no event.
        let all = || HOSTS.iter().all(|host| ["one", "two"].iter().all(|name| ended(&root, name, host) >= round));
        assert!(wait(PATIENCE, all).is_some(), "round {round}\n{}", peers.show());
        for (host, name) in HOSTS.iter().flat_map(|host| ["one", "two"].map(|name| (host, name))) {
            touch(&root, name, host, round);
        }
    }
    let last = || HOSTS.iter().all(|host| ended(&root, "one", host) > ROUNDS && ended(&root, "two", host) > ROUNDS);
    assert!(wait(PATIENCE, last).is_some(), "{}", peers.show());
    let (most, fences) = overlaps(&root, "one");
    assert_eq!(most, 1, "they have overlapped");
    assert!(fences.is_sorted_by(|one, next| one < next), "{fences:?}");
    assert!((1..=2).contains(&overlaps(&root, "two").0));

    // From here on one of them may go.
    peers.until_formed(3, 0);
    // Whoever has to wait says for what, and takes nothing along when it ends.
    let holder = Holder::of(&peers.0["a"].recipe, "1", &root);
    touch(&root, "one", "b", 99);
    let waits = || {
        let status = peers.0["b"].recipe.status().unwrap_or_default();
        let waits =
            |resource: &serde_json::Value| resource["awaits"] == "cluster/x:1" && resource["standing"] == "waiting";
        status["resources"].as_array().is_some_and(|all| all.iter().any(waits))
    };
    assert!(wait(PATIENCE, waits).is_some(), "{:?}", peers.0["b"].recipe.status());
    let before = ended(&root, "one", "b");
    assert_eq!(peers.get("b").end(Signal::TERM), 0);
    holder.let_go();
    touch(&root, "one", "c", 99);
    let next = wait(PATIENCE, || ended(&root, "one", "c") > ROUNDS + 1);
    let next = next.unwrap_or_else(|| panic!("{:?}\n{}", peers.0["c"].recipe.status(), peers.show()));
    assert!(next.as_secs() < 5, "it has waited for the lease of somebody who has gone: {next:?}");
    assert_eq!(ended(&root, "one", "b"), before, "it never ran without");
}

#[test]
fn two_counts_of_one_semaphore_are_a_fault_that_names_both() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().canonicalize().unwrap();
    let mut peers = Peers::default();
    ["one", "two"].iter().for_each(|name| touch(&root, name, "a", 0));
    let recipe = peer(&root, "a");
    peers.start(recipe.clone());
    assert!(wait(PATIENCE, || ended(&root, "one", "a") > 0).is_some(), "{}", peers.show());
    let holder = Holder::of(&recipe, "5", &root);
    touch(&root, "one", "a", 1);
    let fault = "cluster/x has the count 1 here, and 5 for a, which holds it: a semaphore has one count on all hosts";
    assert!(wait(PATIENCE, || peers.get("a").log().contains(fault)).is_some(), "{}", peers.show());
    holder.let_go();
    touch(&root, "one", "a", 2);
    assert!(wait(PATIENCE, || ended(&root, "one", "a") > 1).is_some(), "{}", peers.show());
}
