//! A directory of one test, and the program run in it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The program under test.
pub(crate) const MGMT: &str = env!("CARGO_BIN_EXE_mgmt");
/// The host name everything runs under.
pub(crate) const HOST: &str = "lab";

/// A directory that is removed in the end. Everybody may enter: some tests run the program as nobody.
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("mgmt-lab-").tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self(directory)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A new directory in it.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        path
    }

    /// Where state is kept, unless a test says otherwise.
    pub(crate) fn prefix(&self) -> PathBuf {
        self.path("state")
    }

    /// Puts a graph file in place, by rename, as a careful editor would.
    pub(crate) fn graph(&self, text: &str) -> PathBuf {
        self.graph_named("graph.yaml", text)
    }

    pub(crate) fn graph_named(&self, name: &str, text: &str) -> PathBuf {
        let (path, new) = (self.path(name), self.path(&format!("{name}.new")));
        fs::write(&new, text).unwrap();
        fs::rename(&new, &path).unwrap();
        path
    }

    /// A verb that reads a graph, ready to run.
    pub(crate) fn verb(&self, verb: &str, graph: &Path) -> Command {
        let mut command = Command::new(MGMT);
        command.arg(verb).args(["--hostname", HOST]).arg("--prefix").arg(self.prefix()).arg(graph).stdin(Stdio::null());
        command
    }

    pub(crate) fn apply(&self, graph: &Path) -> Ended {
        Ended::of(&mut self.verb("apply", graph))
    }

    pub(crate) fn plan(&self, graph: &Path) -> Ended {
        Ended::of(&mut self.verb("plan", graph))
    }
}

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None`: by a signal.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("what the program says is text");
        Self { code: status.code(), out: text(stdout), err: text(stderr) }
    }

    /// Panics unless it ended with this code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        self
    }

    /// Panics unless it said this.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.out.contains(text) || self.err.contains(text), "no '{text}' in:\n{}{}", self.out, self.err);
        self
    }
}

/// A graph of files with these paths and contents.
pub(crate) fn files<C: AsRef<str>>(files: impl IntoIterator<Item = (PathBuf, C)>) -> String {
    let mut text = "graph: lab\nresources:\n  file:\n".to_owned();
    for (path, content) in files {
        let path = path.display().to_string();
        writeln!(text, "  - {{name: {path:?}, path: {path:?}, content: {:?}, state: exists}}", content.as_ref())
            .unwrap();
    }
    text
}

/// A graph of one file.
pub(crate) fn file(path: &Path, content: &str) -> String {
    files([(path.to_owned(), content)])
}

/// Temporary files of the program at or below a directory.
pub(crate) fn strays(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with(".mgmt~") {
            found.push(entry.path());
        }
        if entry.file_type().unwrap().is_dir() {
            found.append(&mut strays(&entry.path()));
        }
    }
    found
}
