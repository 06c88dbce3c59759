//! A running agent, which does not outlive its test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::scratch::{HOST, MGMT, Scratch};
use crate::wait;

/// `mgmt run` in the background.
pub(crate) struct Agent {
    child: Child,
    prefix: PathBuf,
    log: PathBuf,
}

impl Agent {
    /// Starts one and waits until it has converged.
    pub(crate) fn converged(scratch: &Scratch, graph: &Path) -> Self {
        let agent = Self::start(scratch, graph);
        agent.until_converged();
        agent
    }

    /// Starts one.
    pub(crate) fn start(scratch: &Scratch, graph: &Path) -> Self {
        Self::start_as(scratch, scratch.verb("run", graph), &scratch.prefix())
    }

    /// Starts one by a command of the test's own, with its state in `prefix`.
    pub(crate) fn start_as(scratch: &Scratch, mut command: Command, prefix: &Path) -> Self {
        let log = (0..).map(|n| scratch.path(&format!("agent-{n}.log"))).find(|path| !path.exists()).unwrap();
        let file = fs::File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self { child: command.spawn().unwrap(), prefix: prefix.to_owned(), log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// How many lines of the log have this in them.
    pub(crate) fn said(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    #[track_caller]
    pub(crate) fn until_said(&self, text: &str) {
        self.until(&format!("it says '{text}'"), || self.said(text) > 0);
    }

    /// What it answers; `None` while it cannot be reached.
    pub(crate) fn status(&self) -> Option<Value> {
        let mut command = Command::new(MGMT);
        command.args(["status", "--json", "--hostname", HOST]).arg("--prefix").arg(&self.prefix);
        let output = command.output().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// A figure of its status, by JSON pointer.
    pub(crate) fn figure(&self, pointer: &str) -> u64 {
        let status = self.status().expect("it runs");
        status.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
    }

    /// The fault of a resource that is not as wanted.
    pub(crate) fn fault(&self) -> Option<String> {
        let status = self.status()?;
        status["resources"].as_array()?.iter().find_map(|resource| Some(resource["fault"].as_str()?.to_owned()))
    }

    #[track_caller]
    pub(crate) fn until_converged(&self) {
        self.until("it has converged", || self.status().is_some_and(|status| status["converged"] == true));
    }

    /// Waits for a condition, and shows the log if it does not come.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, condition: impl FnMut() -> bool) {
        self.until_within(wait::GENEROUS, what, condition);
    }

    #[track_caller]
    pub(crate) fn until_within(&self, most: Duration, what: &str, mut condition: impl FnMut() -> bool) {
        let mut held = false;
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait::until_within(most, what, || {
                held = condition();
                held
            });
        }));
        assert!(waited.is_ok() && held, "in vain: {what}; status: {:#?}; log:\n{}", self.status(), self.tail());
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it where it stands, and returns when all its threads have. A thread on another processor runs on for an
    /// instant after the signal: what happens in that instant it would still see.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.child.id());
        let stopped = |status: String| status.lines().any(|line| line.starts_with("State:\tT"));
        wait::until("all its threads stand still", || {
            let mut tasks = std::fs::read_dir(&tasks).unwrap();
            // A thread that ended in between has nothing to stop.
            tasks.all(|task| std::fs::read_to_string(task.unwrap().path().join("status")).map_or(true, stopped))
        });
    }

    /// Asks it to end, and gives its exit code.
    pub(crate) fn stop(mut self) -> i32 {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Waits until it has ended by itself, and gives its exit code.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> i32 {
        wait::until("the agent has ended", || self.child.try_wait().unwrap().is_some());
        let status = self.child.try_wait().unwrap().unwrap();
        status.code().unwrap_or_else(|| panic!("{status}; log:\n{}", self.tail()))
    }

    /// Ends it without a chance to do anything about it.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Fails if it has ended, which is as good.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
