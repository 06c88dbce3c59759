//! A place to run the real program in: a directory of its own, bounded waiting, and no process left behind.

#![allow(dead_code, reason = "each test program uses its part")]

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mgmt_engine::{Clock, Moment};
use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take that takes milliseconds on a machine with nothing else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks. The only sleep there is: nobody tells of what another process does.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `done`.
pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let clock = Clock::start();
    while !done() {
        assert!(clock.now().since(Moment::START) < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(PAUSE);
    }
}

/// A directory in which the program runs.
pub(crate) struct Bench {
    directory: tempfile::TempDir,
    pub(crate) root: PathBuf,
}

/// What a finished process left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir(root.join("tmp")).unwrap();
        Self { directory, root }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// A copy of a shipped example, with its paths moved into this directory.
    pub(crate) fn example(&self, folder: &str, moved: &str) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(folder);
        for entry in fs::read_dir(&from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
            let entry = entry.unwrap();
            let text = fs::read_to_string(entry.path()).unwrap();
            let text = if moved.is_empty() { text } else { text.replace(moved, self.path("mgmt").to_str().unwrap()) };
            fs::write(self.path(entry.file_name().to_str().unwrap()), text).unwrap();
        }
    }

    /// The program, with this directory for its state, its temporary files and its relative paths.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mgmt"));
        command.args(args).current_dir(&self.root).env_clear().stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command.env("STATE_DIRECTORY", self.path("state")).env("TMPDIR", self.path("tmp"));
        command
    }

    /// Runs the program to its end.
    pub(crate) fn mgmt<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ended {
        finish(self.command(args))
    }

    /// Starts the program as an agent.
    pub(crate) fn agent<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Agent {
        let mut child = self.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (log, stderr) = (Arc::new(Mutex::new(String::new())), child.stderr.take().unwrap());
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let Ok(line) = line else { break };
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Agent { child, log }
    }
}

/// Runs a command to its end.
pub(crate) fn finish(mut command: Command) -> Ended {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let reader = |mut from: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let (out, err) = (reader(Box::new(child.stdout.take().unwrap())), reader(Box::new(child.stderr.take().unwrap())));
    let mut agent = Agent { child, log: Arc::default() };
    let code = agent.ended();
    Ended { code, out: out.join().unwrap(), err: err.join().unwrap() }
}

/// A running process, killed when dropped.
pub(crate) struct Agent {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Agent {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log has this text, so many times.
    pub(crate) fn logged(&self, text: &str, times: usize) {
        let clock = Clock::start();
        while self.log().matches(text).count() < times {
            let late = clock.now().since(Moment::START) >= PATIENCE;
            assert!(!late, "'{text}' was not logged {times} times:\n{}", self.log());
            std::thread::sleep(PAUSE);
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap(), signal).unwrap();
    }

    /// Waits for its end; 128 + N if a signal ended it.
    pub(crate) fn ended(&mut self) -> i32 {
        let mut ended = None;
        wait_for("the program ends", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        let ended = ended.unwrap();
        ended.code().unwrap_or_else(|| 128 + ended.signal().unwrap())
    }

    /// Ends it in order.
    pub(crate) fn term(mut self) -> i32 {
        self.signal(Signal::TERM);
        self.ended()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Already gone is what was wanted.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
