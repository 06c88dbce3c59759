//! Whoever holds a semaphore of the mesh dies, or sleeps too long: others go on when its lease has ended, and not before.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use crate::machine::{self, Need};
use crate::mesh::{PATIENCE, wait};
use crate::meshes::Field;

/// A lease lives so long after its host was heard last, which may have been a third of it before.
const LEASE: std::ops::Range<Duration> = Duration::from_secs(5)..Duration::from_secs(16);

/// Three hosts with a command that one at a time may run, for as long as a file of the host's name is there.
struct Turns {
    field: Field,
    log: PathBuf,
}

impl Turns {
    fn new() -> Self {
        let mut field = Field::machine();
        let root = field.scratch.path("");
        let log = root.join("turns");
        for host in ["a", "b", "c"] {
            let (shown, log) = (root.display(), log.display());
            let graph = format!(
                "graph: {host}\nresources:\n  exec:\n  - name: turn\n    shell: /bin/sh\n    \
                 watchfiles: [{shown}/turn-{host}]\n    \
                 cmd: echo begin {host} $MGMT_FENCE >> {log}; while [ -e {shown}/hold-{host} ]; do sleep 0.02; done; \
                 echo end {host} >> {log}\n    meta: {{sema: ['cluster/turn:1']}}\n"
            );
            let graph = field.scratch.graph_named(&format!("{host}.yaml"), &graph);
            let mut recipe = field.local(host).with(&["--zone", "here"]);
            recipe.args[0] = graph.to_str().unwrap().to_owned();
            field.peers.start(recipe);
        }
        field.peers.until_formed(3, 0);
        let turns = Self { field, log };
        for host in ["a", "b", "c"] {
            turns.until(host, "end", 1);
        }
        turns
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn count(&self, host: &str, word: &str) -> usize {
        self.text().lines().filter(|line| line.starts_with(&format!("{word} {host}"))).count()
    }

    /// Waits until a host has begun or ended so often.
    #[track_caller]
    fn until(&self, host: &str, word: &str, times: usize) -> Duration {
        let waited = wait(PATIENCE, || self.count(host, word) >= times);
        waited.unwrap_or_else(|| panic!("{host} has not come to its {word} {times}:\n{}", self.text()))
    }

    /// It is a host's turn, and it does not end: then another one waits.
    fn hold(&self, host: &str, other: &str) {
        let root = self.field.scratch.path("");
        let before = self.count(host, "begin");
        fs::write(root.join(format!("hold-{host}")), "").unwrap();
        fs::write(root.join(format!("turn-{host}")), before.to_string()).unwrap();
        self.until(host, "begin", before + 1);
        fs::write(root.join(format!("turn-{other}")), "now").unwrap();
        let recipe = &self.field.peers.0[other].recipe;
        let waits = || recipe.status().is_some_and(|status| status["resources"][0]["awaits"] == "cluster/turn:1");
        assert!(wait(PATIENCE, waits).is_some(), "{other} does not wait: {:?}", recipe.status());
    }

    fn fences(&self) -> Vec<u64> {
        let text = self.text();
        text.lines()
            .filter(|line| line.starts_with("begin"))
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect()
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        // A command whose agent was killed goes on until then.
        for host in ["a", "b", "c"] {
            fs::remove_file(self.field.scratch.path(&format!("hold-{host}"))).ok();
        }
    }
}

#[test]
fn a_semaphore_of_a_killed_host_goes_to_the_next_when_its_lease_has_ended() {
    needs!(&[Need::Root]);
    let mut turns = Turns::new();
    turns.hold("b", "c");
    turns.field.peers.get("b").kill();
    let took = turns.until("c", "begin", 2);
    machine::say(&format!("killed while it held a semaphore: the next has it {:.1} s later", took.as_secs_f64()));
    assert!(LEASE.contains(&took), "{took:?}");
    assert!(turns.fences().is_sorted_by(|one, next| one < next), "{:?}", turns.fences());
    fs::remove_file(turns.field.scratch.path("hold-b")).unwrap();
    turns.field.peers.get("b").restart();
    turns.until("b", "begin", 3);
}

#[test]
fn whoever_slept_through_its_lease_is_told_and_ends_what_it_ran() {
    needs!(&[Need::Root]);
    let mut turns = Turns::new();
    turns.hold("b", "c");
    turns.field.peers.get("b").signal(Signal::STOP);
    let took = turns.until("c", "begin", 2);
    machine::say(&format!("asleep while it held a semaphore: the next has it {:.1} s later", took.as_secs_f64()));
    assert!(LEASE.contains(&took), "{took:?}");
    let ends = turns.count("b", "end");
    let b = turns.field.peers.get("b");
    b.signal(Signal::CONT);
    for said in ["cluster/turn may be held by others by now", "what ran was ended: cancelled"] {
        assert!(wait(PATIENCE, || b.log().contains(said)).is_some(), "'{said}' was not said:\n{}", b.tail());
    }
    assert_eq!(turns.count("b", "end"), ends, "its command has gone on to its end");
    fs::remove_file(turns.field.scratch.path("hold-b")).unwrap();
    fs::write(turns.field.scratch.path("turn-b"), "again").unwrap();
    turns.until("b", "end", ends + 1);
    assert!(turns.fences().is_sorted_by(|one, next| one < next), "{:?}", turns.fences());
}
