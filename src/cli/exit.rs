//! How the program ends: one table of exit codes, and failures that carry theirs.

use std::fmt::Display;

/// An exit code. Values up to 6 are for the outcome of a graph, those from 64 follow `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Some resource failed, or it did not converge.
    Failed = 1,
    /// With `--detailed-exitcode`: changes were made, or are pending.
    Changes = 2,
    /// `--max-runtime` passed.
    Late = 3,
    /// With `--detailed-exitcode`: some resource failed.
    Failures = 4,
    /// With `--detailed-exitcode`: both.
    ChangesAndFailures = 6,
    /// The arguments are wrong.
    Usage = 64,
    /// The graph is wrong.
    Graph = 65,
    /// There is no agent, or no mesh.
    Unavailable = 69,
    /// A bug.
    Bug = 70,
    /// State cannot be created.
    CannotCreate = 73,
    /// The disk failed.
    Disk = 74,
    /// Try again: this host name already runs, or there is no quorum now.
    TryAgain = 75,
    /// The mesh uses a feature level that this program does not understand.
    Outdated = 76,
    /// Not allowed.
    NotAllowed = 77,
}

impl Exit {
    /// From its number, as it is sent.
    pub fn from_number(number: u8) -> Option<Self> {
        use Exit::{Bug, CannotCreate, Changes, ChangesAndFailures, Disk, Done, Failed, Failures, Graph, Late};
        use Exit::{NotAllowed, Outdated, TryAgain, Unavailable, Usage};
        let all = [
            Done,
            Failed,
            Changes,
            Late,
            Failures,
            ChangesAndFailures,
            Usage,
            Graph,
            Unavailable,
            Bug,
            CannotCreate,
            Disk,
            TryAgain,
            Outdated,
            NotAllowed,
        ];
        all.into_iter().find(|exit| *exit as u8 == number)
    }

    /// What a run amounts to. `detailed` distinguishes changes.
    pub const fn of(failed: bool, changed: bool, detailed: bool) -> Self {
        match (detailed, failed, changed) {
            (false, false, _) | (true, false, false) => Self::Done,
            (false, true, _) => Self::Failed,
            (true, false, true) => Self::Changes,
            (true, true, false) => Self::Failures,
            (true, true, true) => Self::ChangesAndFailures,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a verb could not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What went wrong and what to do about it: a lowercase sentence without its full stop.
    pub message: String,
}

impl Failure {
    /// A failure with its exit code.
    pub fn new(exit: Exit, message: impl Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    /// Output could not be written. A closed pipe is what `| head` does, and no failure worth words.
    pub fn output(error: &std::io::Error) -> Self {
        let message = if error.kind() == std::io::ErrorKind::BrokenPipe {
            String::new()
        } else {
            format!("cannot write output: {error}")
        };
        Self { exit: Exit::Disk, message }
    }

    /// Says it on standard error.
    #[expect(clippy::print_stderr, reason = "this is where failures are said")]
    pub fn say(&self) -> Exit {
        if self.message.is_empty() {
            return Exit::Done;
        }
        eprintln!("mgmt: {}", self.message);
        self.exit
    }
}
