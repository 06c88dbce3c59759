//! How it starts, what it holds while nothing happens, and whether it grows.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::agent::Agent;
use crate::kit::{Bench, Contender, VISIBLE, converge, graph, mgmt, millis, program, quantile, scratch, time};

/// So many files that are as they should be, and an agent that sees to it.
fn agent_of(count: usize) -> (TempDir, Agent) {
    let scratch = scratch();
    let (file, directory) = (scratch.path().join("graph.yaml"), scratch.path().join("d"));
    fs::create_dir(&directory).expect("space");
    fs::write(&file, graph(&directory, 0..count, VISIBLE)).expect("space");
    // Converged by another process before, so that the agent has only ever looked.
    time(converge(&file));
    let agent = Agent::start(&file, Stdio::null());
    std::thread::sleep(Duration::from_secs(1));
    (scratch, agent)
}

pub(crate) fn start(bench: &mut Bench) {
    let runs = bench.pick(200, 30);
    let scratch = scratch();
    let file = scratch.path().join("graph.yaml");
    fs::write(&file, graph(scratch.path(), 0..1, "")).expect("space");
    time(converge(&file));
    let nothing = || Box::new(|| time(Command::new("/bin/true")));
    let contenders: Vec<Contender<'_>> = vec![("", Box::new(|| time(mgmt(&["--version"])))), ("/bin/true", nothing())];
    bench.race("start to end of --version", runs, contenders, "-");
    let contenders: Vec<Contender<'_>> = vec![("", Box::new(|| time(converge(&file)))), ("/bin/true", nothing())];
    bench.race("start to end of run, one clean file", runs, contenders, "≤ 5 ms to the first check");
}

pub(crate) fn memory(bench: &mut Bench) {
    let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
    for count in [1, bench.pick(5_000, 500)] {
        let (scratch, agent) = agent_of(count);
        let (rss, pss) = (agent.kib("status", "VmRSS:"), agent.kib("smaps_rollup", "Pss:"));
        let target = if count == 1 { "≤ 12 MiB" } else { "-" };
        bench.figure(
            &format!("idle memory, {count} file{}", if count == 1 { "" } else { "s" }),
            format!("RSS {}, Pss {}", mib(rss), mib(pss)),
            "-".into(),
            target,
        );
        drop(agent);
        bench.keep(scratch);
    }
    let size = fs::metadata(program()).expect("the program").len();
    bench.figure("binary (only that of `dist` is held to it)", mib(size / 1024), "-".into(), "≤ 12 MiB");
}

pub(crate) fn idle(bench: &mut Bench) {
    let (count, seconds) = (bench.pick(5_000, 500), bench.pick(30, 5));
    let (scratch, agent) = agent_of(count);
    let (switches, cpu) = (agent.switches(), agent.cpu());
    std::thread::sleep(Duration::from_secs(seconds));
    let now = agent.switches();
    // What others make, remove and mount on the way to the files is told by the kernel, and looked at.
    let [watching, other] = [0, 1].map(|n| now[n].saturating_sub(switches[n]));
    let cpu = agent.cpu().saturating_sub(cpu);
    bench.figure(
        &format!("{seconds} s with {count} files and nothing to do"),
        format!("{other} wake-ups, {watching} by others beside or above"),
        millis(cpu),
        "no wake-up",
    );
    drop(agent);
    bench.keep(scratch);
}

pub(crate) fn reloads(bench: &mut Bench) {
    let count = bench.pick(1_000, 100);
    let scratch = scratch();
    let (file, new) = (scratch.path().join("graph.yaml"), scratch.path().join("new.yaml"));
    let directory = scratch.path().join("d");
    fs::create_dir(&directory).expect("space");
    // Two graphs that overlap: each replacement keeps some, and lets some come and go.
    let graphs = [graph(&directory, 0..15, VISIBLE), graph(&directory, 5..20, VISIBLE)];
    fs::write(&file, &graphs[0]).expect("space");
    let mut agent = Agent::start(&file, Stdio::piped());
    let log = lines(&mut agent);
    let mut replace = |n: usize| {
        fs::write(&new, &graphs[(n + 1) % 2]).expect("space");
        let began = Instant::now();
        fs::rename(&new, &file).expect("a rename");
        let adopted = wait(&log, "graph replaced");
        wait(&log, "converged after");
        adopted.duration_since(began)
    };
    // What grows at first (pools of memory and threads) is not growth.
    let warm = count / 10;
    for n in 0..warm {
        replace(n);
    }
    let (before, rss, cpu) = (agent.holdings(), agent.kib("status", "VmRSS:"), agent.cpu());
    let times: Vec<_> = (warm..warm + count).map(&mut replace).collect();
    // Threads that lend a hand go after a while.
    std::thread::sleep(Duration::from_secs(1));
    let (after, more, cpu) = (agent.holdings(), agent.kib("status", "VmRSS:"), agent.cpu() - cpu);
    bench.figure(
        &format!("{count} reloads: rename to adopted (settling: 50 ms)"),
        format!("{} ({})", millis(quantile(&times, 0.5)), millis(quantile(&times, 0.0))),
        millis(cpu / u32::try_from(count).expect("few")),
        "-",
    );
    let (b, a) = (before, after);
    bench.figure(
        &format!("{count} reloads: what grew"),
        format!(
            "descriptors {} to {}, watches {} to {}, threads {} to {}, RSS {rss} to {more} KiB",
            b.descriptors, a.descriptors, b.watches, a.watches, b.threads, a.threads
        ),
        "-".into(),
        "nothing",
    );
}

/// What the agent logs, with the time it came.
fn lines(agent: &mut Agent) -> Receiver<(Instant, String)> {
    let log = BufReader::new(agent.child.stderr.take().expect("a pipe"));
    let (send, receive) = channel();
    std::thread::spawn(move || {
        // Nobody listens any more at the end.
        log.lines().map_while(Result::ok).take_while(|line| send.send((Instant::now(), line.clone())).is_ok()).count()
    });
    receive
}

/// When a line with these words came.
fn wait(log: &Receiver<(Instant, String)>, words: &str) -> Instant {
    loop {
        let (at, line) = log.recv_timeout(Duration::from_secs(10)).expect("the agent goes on");
        if line.contains(words) {
            return at;
        }
    }
}
