//! Commands that misbehave.
//!
//! A clock that is set back: the machine's clock cannot be set in a test without harm to everything else on it; a time
//! namespace shifts the monotonic and the boot-time clock only, and a preloaded library does not reach a static program.
//! The one place where wall-clock times decide anything is `mtimes`, so that is given times that go back.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Signal, kill_process};

use crate::agent::Agent;
use crate::machine::{self, Need};
use crate::process::{Process, any_with, with};
use crate::scratch::{Scratch, strays};
use crate::wait;

/// A graph of commands, each with a name and further fields.
fn commands(list: &[(&str, &str)]) -> String {
    let mut text = "graph: lab\nresources:\n  exec:\n".to_owned();
    for (name, fields) in list {
        text.push_str(&format!("  - {{name: {name}, {fields}}}\n"));
    }
    text
}

/// A number of seconds that no other test sleeps for, to find the sleeper by.
fn unique_seconds(salt: u32) -> String {
    format!("{}.{salt}", 7_000_000 + std::process::id())
}

#[test]
fn commands_that_fail_say_how() {
    needs!(&[Need::Root]);
    let scratch = Scratch::new();
    let graph = scratch.graph(&commands(&[
        ("missing", "cmd: no-such-command-anywhere"),
        ("directory", "cmd: /"),
        ("killed", "cmd: 'kill -KILL $$', shell: /bin/sh"),
        ("failed", "cmd: 'echo it is so >&2; exit 7', shell: /bin/sh"),
        ("late", "cmd: sleep 1000, timeout: 1"),
        ("bytes", r#"cmd: "printf 'a\\377\\376b\\033[2Jc\\n' >&2; exit 3", shell: /bin/sh"#),
    ]));
    let ended = scratch.apply(&graph).expect(1).says("6 failed").says("no-such-command-anywhere' not found");
    let ended =
        ended.says("killed by signal 9").says("exec[failed]: failed: ").says("it is so").says("a\u{fffd}\u{fffd}b");
    assert!(!ended.out.contains('\x1b') && !ended.err.contains('\x1b'), "a command's bytes reach the terminal");
    scratch.plan(&graph).expect(0).says("no-such-command-anywhere");
}

#[test]
fn what_a_command_left_in_the_background_does_not_hold_up_the_rest() {
    needs!(&[Need::Root]);
    let scratch = Scratch::new();
    let seconds = unique_seconds(1);
    let fields = format!("cmd: 'sleep {seconds} & echo started', shell: /bin/sh");
    let graph = scratch.graph(&commands(&[("daemon", &fields)]));
    let start = Instant::now();
    let ended = scratch.apply(&graph);
    let took = start.elapsed();
    let daemons = with(&format!("sleep\0{seconds}"));
    daemons.iter().for_each(|pid| kill_process(*pid, Signal::KILL).unwrap());
    ended.expect(0);
    assert!(took < Duration::from_secs(10), "it has waited {took:?}");
    assert_eq!(daemons.len(), 1, "a daemon that was meant to be started was ended");
}

#[test]
fn a_command_that_ignores_term_is_gone_within_the_grace() {
    needs!(&[Need::Root]);
    let scratch = Scratch::new();
    let seconds = unique_seconds(2);
    let started = scratch.path("started");
    // A shell and a child of it, both deaf.
    let script = format!("trap '' TERM\ntouch {}\nsleep {seconds} &\nwait\nsleep {seconds}\n", started.display());
    fs::write(scratch.path("script"), script).unwrap();
    let fields = format!("cmd: '/bin/sh {}'", scratch.path("script").display());
    let mut agent = Agent::start(&scratch, &scratch.graph(&commands(&[("deaf", &fields)])));
    agent.until("its command runs", || any_with(&seconds));
    agent.signal(Signal::TERM);
    agent.until_said("TERM: finishing what runs");
    let start = Instant::now();
    agent.signal(Signal::TERM);
    agent.ended();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(15), "the grace is 10 s, and it took {took:?}");
    assert!(!any_with(&seconds), "a process of the command's group has survived");
    machine::say(&format!("a deaf command was gone {took:?} after the second TERM"));
}

#[test]
fn a_gigabyte_of_output_takes_no_memory() {
    needs!(&[Need::Root]);
    let scratch = Scratch::new();
    let done = scratch.path("done");
    let fields = format!(
        "cmd: 'yes a line of output that is as long as lines often are, and a little longer | head -c 1G; touch {}', \
         shell: /bin/sh",
        done.display()
    );
    let agent = Agent::start(&scratch, &scratch.graph(&commands(&[("flood", &fields)])));
    agent.until_within(Duration::from_secs(120), "all is said", || done.exists());
    agent.until_converged();
    let peak = Process::new(agent.pid()).memory_peak_kib();
    machine::say(&format!("memory at most {peak} KiB with 1 GiB of output; log of {} bytes", agent.log().len()));
    assert!(peak < 64 << 10, "{peak} KiB");
    assert!(agent.log().len() < 1 << 20, "the log holds {} bytes", agent.log().len());
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_clock_that_goes_back_neither_runs_a_command_again_nor_forgets_it() {
    needs!(&[Need::Root]);
    let scratch = Scratch::new();
    let (input, runs) = (scratch.path("input"), scratch.path("runs"));
    let dated = |ago: u64| {
        let time = SystemTime::now() - Duration::from_secs(ago);
        fs::File::options().create(true).append(true).open(&input).unwrap().set_modified(time).unwrap();
    };
    let count = || fs::read_to_string(&runs).unwrap_or_default().lines().count();
    let fields = format!("cmd: 'echo >> {}', shell: /bin/sh, mtimes: [{input:?}], creates: {runs:?}", runs.display());
    let graph = scratch.graph(&commands(&[("build", &fields)]));
    dated(0);
    scratch.apply(&graph).expect(0);
    assert_eq!(count(), 1);
    // Stamped by a clock that was set back an hour: older than at the last success, so nothing new.
    dated(3600);
    scratch.apply(&graph).expect(0);
    assert_eq!(count(), 1, "an older time is no news");
    // Still an hour behind, but newer than at the last success by nobody's clock but that of the file itself.
    dated(1);
    scratch.apply(&graph).expect(0);
    let before = count();
    dated(0);
    scratch.apply(&graph).expect(0);
    assert_eq!(count(), before + 1, "a newer time is");
    // A clock that was set forward must not keep it running for ever.
    fs::File::options()
        .append(true)
        .open(&input)
        .unwrap()
        .set_modified(SystemTime::now() + Duration::from_secs(3600))
        .unwrap();
    scratch.apply(&graph).expect(0);
    let before = count();
    scratch.apply(&graph).expect(0);
    assert_eq!(count(), before, "a time in the future is news once");
}

#[test]
fn monotonic_time_that_starts_elsewhere_does_no_harm() {
    let shifted = ["-T", "--boottime", "864000", "--monotonic", "864000"];
    needs!(&[Need::Root, Need::Program("unshare")]);
    let scratch = Scratch::new();
    let path = scratch.path("a");
    let inner = scratch.verb("run", &scratch.graph(&crate::scratch::file(&path, "good\n")));
    let mut command = Command::new("unshare");
    command.args(shifted).arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
    let agent = Agent::start_as(&scratch, command, &scratch.prefix());
    agent.until_converged();
    fs::write(&path, "bad\n").unwrap();
    agent.until("it heals", || fs::read_to_string(&path).is_ok_and(|is| is == "good\n"));
    wait::until("nothing is left", || strays(Path::new(path.parent().unwrap())).is_empty());
    assert_eq!(agent.stop(), 0);
}
