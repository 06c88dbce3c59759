//! A host with a real systemd as its first process, its own bus, network and disk: by the scripts beside this.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::machine::Need;
use super::scratch::{Ended, MGMT};

/// What every test needs that boots a host.
pub(crate) const BOOTED: &[Need] = &[
    Need::Root,
    Need::Program("systemctl"),
    Need::Program("dbus-daemon"),
    Need::Program("unshare"),
    Need::Program("ip"),
];
/// What those need besides that install packages.
pub(crate) const REPOSITORY: &[Need] =
    &[Need::Program("apt-get"), Need::Program("dpkg-scanpackages"), Need::Program("pkcon")];

/// A booted host, which is gone with this.
pub(crate) struct Booted {
    name: String,
    repository: Option<tempfile::TempDir>,
}

impl Booted {
    /// Boots one, with the program under test as `/usr/local/bin/mgmt`.
    pub(crate) fn up() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("m{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let host = Self { name, repository: None };
        script("systemd-host", &["up", &host.name]);
        script("systemd-host", &["put", &host.name, MGMT, "/usr/local/bin/mgmt"]);
        host
    }

    /// Its root directory as seen from here. What is changed through it raises events there.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        let root = script("systemd-host", &["root", &self.name]);
        Path::new(root.trim()).join(path.trim_start_matches('/'))
    }

    /// Writes a file there, with the directories above it.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }

    /// A command there, as root, in all the host's namespaces; ready to run.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(scripts("systemd-host"));
        command.args(["exec", &self.name, "--"]).args(words).stdin(Stdio::null());
        command
    }

    /// Runs a command there, to whatever end.
    pub(crate) fn ended(&self, words: &[&str]) -> Ended {
        Ended::of(&mut self.command(words))
    }

    /// Runs a command there to a good end; what it printed.
    #[track_caller]
    pub(crate) fn run(&self, words: &[&str]) -> String {
        self.ended(words).expect(0).out
    }

    /// What a shell there prints, to whatever end.
    pub(crate) fn shell(&self, line: &str) -> String {
        let Ended { out, err, .. } = self.ended(&["sh", "-c", line]);
        out + &err
    }

    /// Starts an agent there on this graph. What it logs is at `/var/log/mgmt.log`.
    pub(crate) fn agent(&self, graph: &str) -> Agent {
        self.agent_with("", graph)
    }

    /// The same, with shell assignments for its environment.
    pub(crate) fn agent_with(&self, environment: &str, graph: &str) -> Agent {
        self.write("/etc/mgmt/graph.yaml", graph);
        let line = "echo $$ >/run/agent.pid; exec mgmt run --hostname lab --prefix /var/lib/mgmt /etc/mgmt/graph.yaml >>/var/log/mgmt.log 2>&1";
        let line = format!("export LAB=1 {environment}; {line}");
        let child = self.command(&["sh", "-c", &line]).spawn().unwrap();
        Agent { child, host: self.name.clone() }
    }

    /// What an agent there has logged.
    pub(crate) fn log(&self) -> String {
        self.read("/var/log/mgmt.log").unwrap_or_default()
    }

    /// Makes a package in this host's own repository, and has the host know it.
    pub(crate) fn package(&mut self, name: &str, version: &str, options: &[&str]) {
        let at = self.repository();
        let mut words = vec!["add", &at, name, version];
        words.extend(options);
        script("packagekit-repo", &words);
    }

    /// Makes many packages in its repository at once: `PREFIX1`, `PREFIX2`, …
    pub(crate) fn packages(&mut self, prefix: &str, count: u32) {
        let at = self.repository();
        script("packagekit-repo", &["many", &at, prefix, &count.to_string()]);
    }

    fn repository(&mut self) -> String {
        let new = self.repository.is_none();
        let repository = self.repository.get_or_insert_with(|| tempfile::tempdir().unwrap());
        let at = repository.path().to_str().unwrap().to_owned();
        if new {
            script("packagekit-repo", &["new", &at]);
        }
        at
    }

    /// Makes the repository the host's only source of packages, as it stands now.
    pub(crate) fn attach(&self) {
        let at = self.repository.as_ref().expect("there is a package").path().to_str().unwrap();
        script("packagekit-repo", &["attach", &self.name, at]);
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        if std::thread::panicking() {
            super::machine::say(&format!("the agent's log:\n{}", self.log()));
        }
        Command::new(scripts("systemd-host")).args(["down", &self.name]).status().ok();
    }
}

/// A running agent, ended with this.
pub(crate) struct Agent {
    child: Child,
    host: String,
}

impl Agent {
    /// Ends it in order, and waits for that; its exit status.
    pub(crate) fn end(mut self) -> Option<i32> {
        self.signal("TERM");
        self.child.wait().unwrap().code()
    }

    /// Sends a signal: what runs on this side is only a door, which passes none on.
    pub(crate) fn signal(&self, name: &str) {
        let line = format!("kill -{name} $(cat /run/agent.pid)");
        script("systemd-host", &["exec", &self.host, "--", "sh", "-c", &line]);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It has ended already where a test ended it; its host, and what runs there, is about to go.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn scripts(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/scripts").join(name)
}

#[track_caller]
fn script(name: &str, words: &[&str]) -> String {
    // A host's own processes hold what they inherit: not our pipes.
    let log = tempfile::NamedTempFile::new().unwrap();
    let Output { status, stdout, .. } =
        Command::new(scripts(name)).args(words).stdin(Stdio::null()).stderr(log.reopen().unwrap()).output().unwrap();
    let said = fs::read_to_string(log.path()).unwrap();
    assert!(status.success(), "{name} {words:?}: {said}");
    String::from_utf8(stdout).unwrap()
}
