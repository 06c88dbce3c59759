//! What an agent takes when it runs for long: nothing more with every reload, and no time at all while nothing happens.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::agent::Agent;
use crate::machine::{self, Need};
use crate::process::Process;
use crate::scratch::{Scratch, files};
use crate::wait;

const RELOADS: usize = 1_000;
/// Reloads before that. The last 4,096 events are remembered, and each reload makes 21: only then is that full.
const WARM: usize = 250;
const GROWTH_KIB_MAX: u64 = 2 << 10;

/// A graph that differs from the one before in half of its resources, and in one file that tells which it is.
fn version(scratch: &Scratch, number: usize) -> String {
    let marker = (scratch.path("marker"), format!("{number}"));
    let stays = (0..20).map(|n| (scratch.path(&format!("stay{n}")), "stays\n".to_owned()));
    let swaps = (0..20).map(|n| (scratch.path(&format!("d{}", (n + number) % 40)).join("swap"), format!("{number}\n")));
    files([marker].into_iter().chain(stays).chain(swaps))
}

/// Lets an agent have a new graph again and again, and looks at what it holds.
fn reload(scratch: &Scratch, agent: &Agent, mut replace: impl FnMut(usize)) {
    let process = Process::new(agent.pid());
    (1..=WARM).for_each(&mut replace);
    agent.until_converged();
    let warm = process.holdings();
    let start = Instant::now();
    (WARM + 1..=WARM + RELOADS).for_each(&mut replace);
    let took = start.elapsed();
    agent.until_converged();
    let marker = fs::read_to_string(scratch.path("marker")).unwrap();
    assert_eq!(marker, (WARM + RELOADS).to_string());
    // Threads for what blocks come and go with the work.
    agent.until("it holds no more than before", || {
        let now = process.holdings();
        now.descriptors <= warm.descriptors && now.watches <= warm.watches && now.threads <= warm.threads
    });
    let now = process.holdings();
    machine::say(&format!("{RELOADS} replacements in {took:?}: {warm:?} before, {now:?} after"));
    let growth = now.memory_kib.saturating_sub(warm.memory_kib);
    assert!(growth <= GROWTH_KIB_MAX, "memory grew by {growth} KiB");
}

fn directories(scratch: &Scratch) {
    (0..40).for_each(|n| drop(scratch.directory(&format!("d{n}"))));
}

fn marked(scratch: &Scratch, agent: &Agent, number: usize) {
    let (marker, wanted) = (scratch.path("marker"), number.to_string());
    agent.until("the graph runs", || fs::read_to_string(&marker).is_ok_and(|is| is == wanted));
}

#[test]
fn a_thousand_replacements_of_the_graph_file_grow_nothing() {
    needs!(&[Need::Root]);
    let scratch = Scratch::new();
    directories(&scratch);
    let agent = Agent::converged(&scratch, &scratch.graph(&version(&scratch, 0)));
    reload(&scratch, &agent, |number| {
        scratch.graph(&version(&scratch, number));
        // An edit is read a moment after the last event of it, so five in a row are one reload, or a few.
        if number <= WARM || number % 5 == 0 {
            marked(&scratch, &agent, number);
        }
    });
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_thousand_hangups_grow_nothing() {
    needs!(&[Need::Root]);
    let scratch = Scratch::new();
    directories(&scratch);
    let graph = scratch.graph(&version(&scratch, 0));
    let mut command = scratch.verb("run", &graph);
    command.arg("--no-watch");
    let agent = Agent::start_as(&scratch, command, &scratch.prefix());
    agent.until_converged();
    reload(&scratch, &agent, |number| {
        scratch.graph(&version(&scratch, number));
        agent.signal(Signal::HUP);
        marked(&scratch, &agent, number);
    });
    assert_eq!(agent.said("HUP: reading the graph file again"), WARM + RELOADS);
    assert_eq!(agent.stop(), 0);
}

/// Where the quiet tree lies: a directory that every machine has, in a mount namespace of the agent's own. Elsewhere,
/// what others mount, and what they make in directories on the way, is news to the agent as well.
const QUIET: &str = "/mnt";

#[test]
fn five_thousand_watched_files_cost_no_wake_up() {
    /// How often all threads together may be woken in half a minute. None is measured; a few are for the kernel.
    const WAKE_UPS_MAX: u64 = 2;
    needs!(&[Need::Root, Need::Program("unshare")]);
    let scratch = Scratch::new();
    let path = |n: usize| Path::new(QUIET).join(format!("d{}", n % 50)).join(format!("f{n}"));
    scratch.graph(&files((0..5_000).map(|n| (path(n), format!("{n}\n")))));
    let inner = scratch.verb("run", &Path::new(QUIET).join("graph.yaml"));
    let script = format!(
        "mount -t tmpfs -o mode=755,size=256m mgmt-lab {QUIET} && cp \"$1\" {QUIET} && shift && cd {QUIET} && \
         mkdir $(seq -f d%g 0 49) && exec \"$@\""
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]).arg(scratch.path("graph.yaml"));
    command.arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
    let agent = Agent::start_as(&scratch, command, &scratch.prefix());
    agent.until_within(Duration::from_secs(60), "all are there", || agent.said("converged after") > 0);
    assert!(agent.figure("/watches/subscriptions") >= 5_000);
    let process = Process::new(agent.pid());
    // The socket has been asked, and threads that blocked go away after ten seconds.
    let before = wait::until_steady(Duration::from_secs(11), Duration::from_secs(60), "it sleeps", || process.sleeps());
    let start = Instant::now();
    wait::until_within(Duration::from_secs(60), "half a minute has passed", || {
        start.elapsed() >= Duration::from_secs(30)
    });
    let after = process.sleeps();
    let woken: u64 = after.iter().map(|(task, sleeps)| sleeps - before.get(task).copied().unwrap_or_default()).sum();
    machine::say(&format!("5,000 files watched for half a minute by {} threads: {woken} wake-ups", after.len()));
    assert!(woken <= WAKE_UPS_MAX, "{woken} wake-ups: {before:?}, {after:?}");
    // And yet it is awake when something happens.
    let seen = format!("/proc/{}/root{}", agent.pid(), path(1).display());
    fs::write(&seen, "bad\n").unwrap();
    agent.until("it heals", || fs::read_to_string(&seen).is_ok_and(|is| is == "1\n"));
    assert_eq!(agent.stop(), 0);
}
