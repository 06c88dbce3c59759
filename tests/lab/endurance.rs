//! What holds for long: calm on a busy machine, and memory and descriptors that do not grow.
//!
//! `MGMT_MINUTES=60 MGMT_LAB=require cargo test --release --test lab -- endurance` is the long form.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::machine::{self, Need};
use crate::mesh::clients::{self, Load};
use crate::mesh::let_pass;
use crate::mesh::peer::Recipe;
use crate::meshes::{Field, judge};
use crate::process::{Holdings, Process};

/// How long each of these goes on, without being told.
const SHORT: Duration = Duration::from_secs(20);
/// Between two looks at what a process holds.
const LOOK: Duration = Duration::from_secs(5);
/// Between the first and the last look, in KiB: histories and tails fill up to their limits.
const GROWTH_KIB_MAX: u64 = 64 << 10;

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
