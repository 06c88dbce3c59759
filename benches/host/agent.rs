//! A running agent, and what the kernel says of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::kit::mgmt;

/// Ends when it is dropped.
pub(crate) struct Agent {
    pub(crate) child: Child,
    state: PathBuf,
}

/// What the kernel holds for a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holdings {
    pub(crate) descriptors: usize,
    pub(crate) watches: usize,
    pub(crate) threads: usize,
}

impl Agent {
    /// Starts it on a graph, and waits until all is as wanted.
    pub(crate) fn start(graph: &Path, log: Stdio) -> Self {
        let state = graph.with_file_name("agent");
        let mut command = mgmt(&["run", "--hostname=bench", "--prefix"]);
        let child = command.arg(&state).arg(graph).stderr(log).spawn().expect("it can be started");
        let agent = Self { child, state };
        agent.until_quiet();
        agent
    }

    /// Waits until it says that it has converged.
    pub(crate) fn until_quiet(&self) {
        let end = Instant::now() + Duration::from_secs(120);
        while self.ask().is_none_or(|status| status["converged"] != true) {
            assert!(Instant::now() < end, "the agent does not converge");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn status(&self) -> Value {
        self.ask().expect("the agent answers")
    }

    fn ask(&self) -> Option<Value> {
        let out = self.output(&["status", "--json", "--hostname=bench", "--prefix"])?;
        serde_json::from_slice(&out).ok()
    }

    /// From each event of drift to the end of its repair, the last so many.
    pub(crate) fn repairs(&self, last: usize) -> Vec<Duration> {
        let out = self.output(&["events", "--json", "--hostname=bench", "--prefix"]).expect("the agent answers");
        let lines = out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let events = lines.map(|line| serde_json::from_slice::<Value>(line).expect("an event a line"));
        let repairs = events.filter(|event| event["event"] == "changed" && event["cause"] == "drift");
        let times: Vec<_> = repairs
            .filter_map(|event| event["since_event_ms"].as_f64())
            .map(|ms| Duration::from_secs_f64(ms / 1e3))
            .collect();
        times[times.len().saturating_sub(last)..].to_vec()
    }

    fn output(&self, words: &[&str]) -> Option<Vec<u8>> {
        let out = mgmt(words).arg(&self.state).stdout(Stdio::piped()).output().expect("it can be started");
        out.status.success().then_some(out.stdout)
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.child.id())).join(name)
    }

    /// A field of `status` or `smaps_rollup`, in KiB.
    pub(crate) fn kib(&self, file: &str, field: &str) -> u64 {
        number(&fs::read_to_string(self.proc(file)).expect("it runs"), field)
    }

    /// CPU time of all its threads so far.
    pub(crate) fn cpu(&self) -> Duration {
        let nanos = self.tasks("schedstat").into_iter().map(|text| {
            text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).expect("schedstat has numbers")
        });
        Duration::from_nanos(nanos.sum())
    }

    /// How often its threads went to sleep: the one that watches, and all others.
    pub(crate) fn switches(&self) -> [u64; 2] {
        let mut counts = [0, 0];
        for text in self.tasks("status") {
            let watches = text.lines().next().is_some_and(|name| name.ends_with("\twatches"));
            counts[usize::from(!watches)] += number(&text, "voluntary_ctxt_switches:");
        }
        counts
    }

    /// This file of each of its threads.
    fn tasks(&self, name: &str) -> Vec<String> {
        let tasks = fs::read_dir(self.proc("task")).expect("it runs").flatten();
        tasks.filter_map(|task| fs::read_to_string(task.path().join(name)).ok()).collect()
    }

    pub(crate) fn holdings(&self) -> Holdings {
        let infos = fs::read_dir(self.proc("fdinfo")).expect("it runs").flatten();
        let infos: Vec<_> = infos.filter_map(|info| fs::read_to_string(info.path()).ok()).collect();
        let watches = infos.iter().flat_map(|info| info.lines()).filter(|line| line.starts_with("inotify wd:"));
        Holdings { descriptors: infos.len(), watches: watches.count(), threads: self.tasks("comm").len() }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// Ends a child of ours.
pub(crate) fn stop(child: &mut Child) {
    let pid = Pid::from_child(child);
    // One that has ended already needs no signal.
    let _gone = kill_process(pid, Signal::TERM);
    let end = Instant::now() + Duration::from_secs(5);
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _gone = child.kill();
    let _status = child.wait();
}

/// The number after a word at the start of a line.
fn number(text: &str, field: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("the kernel tells it");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}
