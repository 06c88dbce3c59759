//! More events than the kernel keeps, fewer watches than are needed, and a program that wants a file otherwise.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::agent::Agent;
use crate::disk::Mount;
use crate::machine::{self, Need};
use crate::process::Process;
use crate::scratch::{Scratch, file, files};
use crate::wait;

const FILES: usize = 20_000;

/// Overwrites all files of a directory with garbage, in other processes.
fn spoil(directory: &Path) {
    let script = "find \"$1\" -type f -print0 | xargs -0 -n 500 sh -c 'printf garbage | tee \"$@\" >/dev/null' sh";
    assert!(Command::new("sh").args(["-c", script, "sh"]).arg(directory).status().unwrap().success());
}

fn path(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("d{}", number % 100)).join(format!("f{number}"))
}

fn all_right(directory: &Path) -> bool {
    (0..FILES).all(|n| fs::read_to_string(path(directory, n)).is_ok_and(|is| is == format!("file {n}\n")))
}

#[test]
fn twenty_thousand_files_spoilt_at_once_overflow_the_queue_and_are_all_repaired() {
    needs!(&[Need::Root, Need::Program("find"), Need::Program("xargs")]);
    let queue: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let scratch = Scratch::new();
    let memory = Mount::memory(&scratch.path("files"), 512);
    (0..100).for_each(|n| fs::create_dir(memory.path().join(format!("d{n}"))).unwrap());
    let graph = files((0..FILES).map(|n| (path(memory.path(), n), format!("file {n}\n"))));
    let agent = Agent::start(&scratch, &scratch.graph(&graph));
    agent.until_within(Duration::from_secs(90), "all are there", || agent.said("converged after") > 0);
    let long = Duration::from_secs(60);
    let healed = |what: &str, since: Instant| {
        agent.until_within(long, what, || all_right(memory.path()));
        machine::say(&format!("{what} after {:?}", since.elapsed()));
        agent.until_converged();
        // No loop: what it did itself must not keep it busy.
        let process = Process::new(agent.pid());
        wait::until_steady(Duration::from_secs(3), long, "it sleeps", || process.sleeps());
        agent.figure("/changes")
    };
    let start = Instant::now();
    spoil(memory.path());
    let changes = healed("20,000 files repaired as they came", start);
    assert!(changes >= 2 * FILES as u64, "{changes} changes");
    // A program that cannot keep up, as far as the kernel sees: it is stopped while all of it happens.
    let before = agent.figure("/watches/overflows");
    agent.pause();
    (0..=queue / FILES).for_each(|_| spoil(memory.path()));
    let start = Instant::now();
    agent.signal(Signal::CONT);
    healed("20,000 files repaired after an overflow", start);
    let overflows = agent.figure("/watches/overflows") - before;
    machine::say(&format!("{overflows} overflows of a queue of {queue}; {} changes", agent.figure("/changes")));
    assert!(overflows >= 1, "the queue has not overflown");
    assert_eq!(agent.figure("/failures"), 0);
    assert_eq!(agent.stop(), 0);
}

#[test]
fn without_enough_watches_it_says_so_once_and_polls() {
    needs!(&[Need::Root, Need::UserNamespaces]);
    let scratch = Scratch::new();
    let paths: Vec<_> = (0..40).map(|n| scratch.directory(&format!("d{n}")).join("a")).collect();
    let graph = scratch.graph(&files(paths.iter().map(|path| (path.clone(), "good\n"))));
    let inner = scratch.verb("run", &graph);
    let mut command = Command::new("unshare");
    let script = "echo 15 > /proc/sys/user/max_inotify_watches && exec \"$@\"";
    command.args(["-U", "-r", "sh", "-c", script, "sh"]).arg(inner.get_program()).args(inner.get_args());
    command.stdin(Stdio::null());
    let agent = Agent::start_as(&scratch, command, &scratch.prefix());
    agent.until_converged();
    let (polled, watches) = (agent.figure("/watches/polled"), agent.figure("/watches/watches"));
    assert!(polled >= 25 && watches <= 15, "{polled} polled, {watches} watches");
    // Those that are watched heal at once, the others when their time comes.
    let start = Instant::now();
    paths.iter().for_each(|path| fs::write(path, "bad\n").unwrap());
    let good = || paths.iter().filter(|path| fs::read_to_string(path).is_ok_and(|is| is == "good\n")).count();
    agent.until_within(Duration::from_secs(45), "all are repaired", || good() == paths.len());
    machine::say(&format!("{polled} of {} polled: all repaired after {:?}", paths.len(), start.elapsed()));
    assert_eq!(agent.said("out of inotify watches"), 1, "it is said once:\n{}", agent.log());
    assert_eq!(agent.figure("/failures"), 0);
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_fight_over_a_file_is_called_one_and_backed_off_from() {
    needs!(&[Need::Root]);
    let scratch = Scratch::new();
    let path = scratch.path("a");
    let agent = Agent::converged(&scratch, &scratch.graph(&file(&path, "ours\n")));
    let before = agent.figure("/changes");
    let over = AtomicBool::new(false);
    let (ten, more) = std::thread::scope(|threads| {
        threads.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                fs::write(&path, "theirs\n").unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let changes = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // The first ten seconds of the fight are what is measured.
            let start = Instant::now();
            wait::until("ten seconds have passed", || start.elapsed() >= Duration::from_secs(10));
            let ten = agent.figure("/changes") - before;
            wait::until("eight more have", || start.elapsed() >= Duration::from_secs(18));
            (ten, agent.figure("/changes") - before - ten)
        }));
        over.store(true, Ordering::Relaxed);
        changes.unwrap()
    });
    let start = Instant::now();
    machine::say(&format!("a fight: {ten} changes in the first ten seconds, {more} in the next eight"));
    assert!((20..=25).contains(&ten), "{ten} changes in ten seconds");
    assert!(more <= 2, "{more} changes in the next eight seconds");
    agent.until("it has the last word", || fs::read_to_string(&path).is_ok_and(|is| is == "ours\n"));
    machine::say(&format!("the fighter stopped: healed {:?} later", start.elapsed()));
    assert_eq!(agent.said("contested: repaired more than 20 times"), 1, "it is said once");
    agent.until_within(Duration::from_secs(90), "it is settled", || agent.said("contested no more") == 1);
    fs::write(&path, "theirs\n").unwrap();
    agent.until("it heals at once again", || fs::read_to_string(&path).is_ok_and(|is| is == "ours\n"));
    assert_eq!(agent.stop(), 0);
}
