//! Where, as whom and with which environment the commands of one resource run: the same for all of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use mgmt_engine::resource::{Fault, Stop};
use tokio::process::Command;

use super::child::{GRACE, Running};
use super::command::{Line, locate};
use super::identity::{Before, Identity, Switch};
use super::output::Level;
use super::scope::{Isolation, Scope};
use crate::host::HostRef;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// As `mgmt lock` names it.
const FENCE: &str = "MGMT_FENCE";

/// What all commands of one resource share.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Setting {
    /// `exec[name]`, for the log.
    pub(super) id: String,
    pub(super) cwd: Option<PathBuf>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    /// Output appears nowhere.
    pub(super) sensitive: bool,
    /// `cmd` and `donecmd` run in a scope of their own each.
    pub(super) isolation: Option<Isolation>,
    pub(super) host: HostRef,
    pub(super) tuning: Tuning,
}

/// What tests make quicker than life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tuning {
    /// The program that answers to `__as`. This name is good even after the file has been replaced by a newer one.
    pub(super) ourselves: PathBuf,
    pub(super) grace: Duration,
    /// The first pause before a failed watch is started again.
    pub(super) pause: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { ourselves: PathBuf::from("/proc/self/exe"), grace: GRACE, pause: Duration::from_secs(1) }
    }
}

/// A setting that was found to exist.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    setting: &'a Setting,
    switch: Option<Switch>,
    env: BTreeMap<&'a str, String>,
    directory: PathBuf,
}

impl Setting {
    /// How loud output of this loudness may be here.
    pub(super) const fn loudness(&self, usual: Level) -> Level {
        if self.sensitive { Level::Hidden } else { usual }
    }

    /// Where programs with a relative path are looked for.
    ///
    /// # Errors
    /// Our own working directory is gone.
    pub(super) fn directory(&self) -> Result<PathBuf, Fault> {
        match &self.cwd {
            Some(cwd) => Ok(cwd.clone()),
            None => std::env::current_dir().map_err(|error| Fault::new(format!("no working directory: {error}"))),
        }
    }

    /// The `PATH` that programs are looked up in.
    pub(super) fn path(&self) -> &str {
        self.env.get("PATH").map_or(PATH, String::as_str)
    }

    /// Looks whether all of it exists.
    ///
    /// # Errors
    /// The directory, the user or the group does not, or we may not become them.
    pub(super) async fn stage(&self) -> Result<Stage<'_>, Fault> {
        let Identity { home, name, switch } =
            Identity::find(self.user.as_deref(), self.group.as_deref(), &self.host).await?;
        if let Some(cwd) = &self.cwd {
            match std::fs::metadata(cwd) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Err(Fault::path("run in", cwd, "it is not a directory")),
                Err(error) => return Err(Fault::path("run in", cwd, error)),
            }
        }
        let mut env: BTreeMap<&str, String> = BTreeMap::new();
        env.insert("PATH", PATH.to_owned());
        env.insert("HOME", home);
        env.insert("USER", name);
        env.insert("LANG", "C.UTF-8".to_owned());
        env.extend(self.env.iter().map(|(key, value)| (key.as_str(), value.clone())));
        Ok(Stage { setting: self, switch, env, directory: self.directory()? })
    }
}

impl Stage<'_> {
    /// With what tells this run from those on other hosts that held the same semaphores before.
    pub(super) fn fenced(mut self, fence: Option<u64>) -> Self {
        if let Some(fence) = fence {
            self.env.insert(FENCE, fence.to_string());
        }
        self
    }

    /// The file that `line` would run.
    ///
    /// # Errors
    /// There is none, or it may not be run.
    pub(super) fn locate(&self, line: &Line) -> Result<PathBuf, Fault> {
        locate(line, self.setting.path(), &self.directory)
    }

    /// Starts `line`.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) async fn start(&self, line: &Line) -> Result<Running, Fault> {
        let program = self.locate(line)?;
        let before = Before { switch: self.switch.clone(), ..Before::default() };
        self.spawn(&mut self.command(line, &program, &before), &program).await
    }

    /// Starts `line`, in a scope of its own if that is wanted.
    ///
    /// # Errors
    /// It cannot be started, or no scope can be made for it; then nothing of it has run.
    pub(super) async fn start_apart(&self, line: &Line, stop: &Stop) -> Result<Running, Fault> {
        let Some(isolation) = &self.setting.isolation else { return self.start(line).await };
        let program = self.locate(line)?;
        let manager = isolation.manager(&self.setting.host, &self.setting.id);
        let (nice, oom_score) = (isolation.nice, isolation.oom_score);
        let before = Before { hold: manager.is_some(), nice, oom_score, switch: self.switch.clone() };
        let mut command = self.command(line, &program, &before);
        let Some(manager) = manager else { return self.spawn(&mut command, &program).await };
        let mut running = self.spawn(command.stdin(Stdio::piped()), &program).await?;
        // If this fails, what waits is ended with what is dropped here.
        let grace = self.setting.tuning.grace;
        let scope = Scope::around(running.pid(), isolation, &self.setting.id, manager, grace, stop).await?;
        running.let_go(scope).await.map_err(|error| Fault::path("run", &program, error))?;
        Ok(running)
    }

    async fn spawn(&self, command: &mut Command, program: &Path) -> Result<Running, Fault> {
        let started = Running::start(command, self.setting.tuning.grace).await;
        started.map_err(|error| Fault::path("run", program, error))
    }

    /// Nothing here may need code between fork and exec: no uid, no gid, no `pre_exec`.
    fn command(&self, line: &Line, program: &Path, before: &Before) -> Command {
        let mut command = if before.is_nothing() {
            let mut command = Command::new(program);
            command.arg0(&line.program);
            command
        } else {
            let mut command = Command::new(&self.setting.tuning.ourselves);
            command.args(before.arguments()).arg(program);
            command
        };
        command.args(&line.args).env_clear().envs(&self.env);
        command.stdin(nothing()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(cwd) = &self.setting.cwd {
            command.current_dir(cwd);
        }
        command
    }
}

/// An input with nothing in it. In a root without devices that is a pipe that nobody writes to: a missing `/dev/null`
/// would look as if the program were missing.
fn nothing() -> Stdio {
    if Path::new("/dev/null").exists() {
        return Stdio::null();
    }
    std::io::pipe().map_or_else(|_| Stdio::null(), |(end, _)| end.into())
}

/// How a command ended, for people: `exit status 3`, `killed by signal 9`.
pub(super) fn ending(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal} ({})", signal_name(signal)),
        (None, None) => status.to_string(),
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGHUP => "HUP",
        libc::SIGINT => "INT",
        libc::SIGQUIT => "QUIT",
        libc::SIGILL => "ILL",
        libc::SIGTRAP => "TRAP",
        libc::SIGABRT => "ABRT",
        libc::SIGBUS => "BUS",
        libc::SIGFPE => "FPE",
        libc::SIGKILL => "KILL",
        libc::SIGUSR1 => "USR1",
        libc::SIGSEGV => "SEGV",
        libc::SIGUSR2 => "USR2",
        libc::SIGPIPE => "PIPE",
        libc::SIGALRM => "ALRM",
        libc::SIGTERM => "TERM",
        libc::SIGXCPU => "XCPU",
        libc::SIGXFSZ => "XFSZ",
        libc::SIGSYS => "SYS",
        _ => "unnamed",
    }
}
