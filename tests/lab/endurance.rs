//! What holds for long: calm on a busy machine, and memory and descriptors that do not grow.
//!
//! `MGMT_MINUTES=60 MGMT_LAB=require cargo test --release --test lab -- endurance` is the long form.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::machine::{self, Need};
use crate::mesh::clients::{self, Load};
use crate::mesh::let_pass;
use crate::mesh::peer::Recipe;
use crate::mesh::pipe::Answer;
use crate::meshes::{Field, expect_done, judge};
use crate::process::{Holdings, Process};
use crate::scratch::MGMT;

/// How long each of these goes on, without being told.
const SHORT: Duration = Duration::from_secs(20);
/// Between two looks at what a process holds.
const LOOK: Duration = Duration::from_secs(5);
/// Between the first and the last look, in KiB: histories and tails fill up to their limits.
const GROWTH_KIB_MAX: u64 = 64 << 10;

/// A store of 100 MiB, in values of this size.
const VALUES: usize = 1_000;
const VALUE_BYTES: usize = 105_000;
/// Changes must go on while the store is copied: an election would take longer.
const GAP: Duration = Duration::from_secs(3);

fn duration() -> Duration {
    let minutes: Option<u64> = std::env::var("MGMT_MINUTES").ok().and_then(|text| text.parse().ok());
    minutes.map_or(SHORT, |minutes| Duration::from_secs(60 * minutes))
}

fn term(recipe: &Recipe) -> u64 {
    recipe.status().expect("it runs")["mesh"]["term"].as_u64().expect("a term")
}

#[test]
fn busy_cores_cause_no_election() {
    needs!(&[Need::Root]);
    let mut field = Field::plain(3, 3);
    let recipe = field.local("p1");
    let before = (term(&recipe), field.leader());
    let busy = AtomicBool::new(true);
    let cores = std::thread::available_parallelism().unwrap().get();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while busy.load(Ordering::Relaxed) {
                    std::hint::spin_loop()
                }
            });
        }
        let_pass(duration());
        busy.store(false, Ordering::Relaxed);
    });
    assert_eq!((term(&recipe), field.leader()), before, "there was an election");
    machine::say(&format!("{cores} busy cores for {:.0} s: no election", start.elapsed().as_secs_f64()));
}

#[test]
fn memory_and_descriptors_stay() {
    needs!(&[Need::Root]);
    let mut field = Field::plain(3, 3);
    let pids: Vec<u32> = field.peers.0.values().map(crate::mesh::peer::Peer::pid).collect();
    let look = || pids.iter().map(|pid| Process::new(*pid).holdings()).collect::<Vec<_>>();
    let (mut first, mut last): (Vec<Holdings>, Vec<Holdings>) = (Vec::new(), Vec::new());
    let outcome = clients::run(&field.all(), Load::light(), |progress| {
        let start = Instant::now();
        while start.elapsed() < duration() {
            let_pass(LOOK);
            last = look();
            if first.is_empty() {
                first.clone_from(&last);
            }
        }
        progress.stop();
    });
    for (first, last) in first.iter().zip(&last) {
        machine::say(&format!("under load: {first:?} first, {last:?} last"));
        assert!(last.memory_kib < first.memory_kib + GROWTH_KIB_MAX, "memory grows: {first:?}, {last:?}");
        assert!(last.descriptors < first.descriptors + 16, "descriptors grow: {first:?}, {last:?}");
    }
    judge("memory and descriptors", &outcome);
    field.peers.until_formed(3, 0);
}

/// Writes the values, from one who may write as fast as he can.
fn fill(field: &mut Field) {
    let mut pipe = field.admin().pipe().expect("it is there");
    let value = "x".repeat(VALUE_BYTES);
    for number in 0..VALUES {
        let answer = pipe.ask(&format!("PUT lab/{number} {value}"));
        assert!(matches!(answer, Answer::Ok(_)), "{answer:?} to value {number}");
    }
}

#[test]
fn a_hundred_mebibytes_are_copied_while_others_write() {
    needs!(&[Need::Root]);
    let mut field = Field::plain(3, 3);
    let begun = Instant::now();
    fill(&mut field);
    machine::say(&format!("100 MiB written in {:.1} s", begun.elapsed().as_secs_f64()));
    let (leader, file) = (field.leader(), field.scratch.path("snapshot"));
    let saver = field.all().into_iter().find(|recipe| recipe.host != leader).expect("three");
    let mut spans = Vec::new();
    let outcome = clients::run(&field.all(), Load::light(), |progress| {
        assert!(progress.until_change(GAP).is_some());
        let (at, begun) = (progress.elapsed(), Instant::now());
        expect_done(&saver.verb(["snapshot", "save", file.to_str().unwrap()]));
        spans.push(("saved to a file of its own", begun.elapsed(), at));
        // Whoever joins now gets all of it over the network, for the log begins later.
        let (at, begun) = (progress.elapsed(), Instant::now());
        let recipe = field.local("p4");
        field.peers.start(recipe.clone());
        crate::wait::until_within(GAP * 20, "the newcomer has all values", || {
            let last = recipe.verb(["kv", "get", &format!("lab/{}", VALUES - 1)]);
            last.code == 0 && last.out.trim_end().len() == VALUE_BYTES
        });
        spans.push(("sent to a newcomer", begun.elapsed(), at));
        progress.stop();
    });
    let sound = Command::new(MGMT).args(["snapshot", "inspect"]).arg(&file).output().unwrap();
    assert!(sound.status.success(), "{sound:?}");
    for (what, took, at) in spans {
        let gap = outcome.longest_gap(at, at + took);
        machine::say(&format!(
            "100 MiB {what} in {:.2} s; the longest time without a change {gap:.0?}",
            took.as_secs_f64()
        ));
        assert!(gap < GAP, "nothing was written for {gap:?}");
    }
    judge("copies of 100 MiB", &outcome);
}
