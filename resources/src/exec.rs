//! `exec`: runs a command when it has to be run.
//!
//! `Exec::verdict` and the guards decide; `run` carries out, on top of `child`, which is one process with its group. Looks
//! at nothing but what its parameters name. Does not know when the engine looks, nor who else runs commands.

mod build;
mod child;
mod command;
mod group;
pub mod identity;
mod mtimes;
mod output;
mod properties;
pub mod reaper;
mod run;
mod scope;
mod setting;
mod watchers;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mgmt_engine::Clock;
use mgmt_engine::resource::{
    Applied, Cause, Check, Drift, Fault, Look, Promises, Purpose, Resource, Signal, Watch, Work,
};

use self::command::Line;
use self::mtimes::Times;
use self::setting::Setting;
use crate::kind::{Field, KindInfo, Shape};

/// The kind's table entry.
pub static INFO: KindInfo = KindInfo {
    name: "exec",
    summary: "runs a command",
    notes: "\
Runs `cmd` once per start of the program, then again on each event of what it watches (`watchcmd`, `watchfiles`), on a \
tick of a timer before it, and on a refresh (a notify edge whose source changed). Guards decide whether it really runs: \
`creates`, `ifcmd`, `nifcmd`, `refreshonly`; they gate refreshes too.

A command runs in a process group of its own, without a terminal and without input. Its environment holds PATH, HOME, \
USER, LANG=C.UTF-8, and `env`. What it prints goes line by line to the log (the first 1,000 lines or 256 KiB), and the \
last lines of a failed command to its error.

When it is stopped or runs longer than `timeout`, its whole group gets TERM, and KILL after 10 seconds: nothing in its \
group survives. What a command that ended by itself has left in the background lives on, and does not delay it; such a \
child should not keep the command's output open, for the pipe is closed.

With `isolate` the command has a transient scope of systemd's to itself, and with `unit` that scope has properties: \
MemoryMax, CPUQuota, TasksMax and others that systemd.resource-control(5) describes; Nice and OOMScoreAdjust are set on the \
command itself. It is in its scope from its first instruction on, and what it starts cannot leave it by any means: a stop or \
a timeout reaches also what has made a session or a group of its own. `donecmd` has a scope of its own; guards and \
`watchcmd` run without. `systemctl status 'mgmt-exec-*.scope'` shows them. Without systemd, which is said once, the command \
runs in its process group as ever, Nice and OOMScoreAdjust included.

If the program crashes between the end of a command and its report, the command may run twice: guards make it safe.",
    example: "\
resources:
  exec:
  - name: reload
    cmd: nginx -s reload
    refreshonly: true
  - name: unpack
    cmd: tar -xf /srv/app.tar -C /opt/app
    creates: /opt/app/bin
",
    fields: FIELDS,
    build: build::build,
};

const FIELDS: &[Field] = &[
    field("cmd", Shape::Text, "", "The command. Without `shell` it is split into words, with quotes as in a shell."),
    field("args", Shape::Texts, "", "More arguments, each taken as it is. Not with `shell`."),
    field("shell", Shape::Text, "", "A shell to run `cmd` with: SHELL -c CMD. May have words: `bash -e`."),
    field("cwd", Shape::Path, "where mgmt was started", "The working directory of all its commands."),
    field("env", Shape::Map, "", "Environment variables besides PATH, HOME, USER and LANG."),
    field("user", Shape::Text, "who mgmt runs as", "The user that all its commands run as. Needs root."),
    field("group", Shape::Text, "the user's", "The group that all its commands run as. Needs root."),
    field("isolate", Shape::Bool, "false", "Run `cmd` and `donecmd` in a scope of systemd's of their own."),
    field(
        "unit",
        Shape::Map,
        "",
        "With `isolate`: properties of the scope, as systemd writes them, such as `MemoryMax: 512M` or `CPUQuota: 50%`.",
    ),
    field("timeout", Shape::Seconds, "0 (none)", "How long `cmd`, and `donecmd`, may each run."),
    field("refreshonly", Shape::Bool, "false", "Run only when refreshed by a notify edge."),
    field(
        "watchcmd",
        Shape::Text,
        "",
        "A command that goes on running: each line it prints is an event. Started again \
         with growing pauses when it fails, left when it exits 0.",
    ),
    field("watchshell", Shape::Text, "", "A shell to run `watchcmd` with."),
    field("watchfiles", Shape::Paths, "", "Files whose changes are events."),
    field(
        "ifcmd",
        Shape::Text,
        "",
        "Run `cmd` only if this exits 0. May be run by `plan`, so it should change nothing.",
    ),
    field("ifshell", Shape::Text, "", "A shell to run `ifcmd` with."),
    field("nifcmd", Shape::Text, "", "Run `cmd` only if this does not exit 0."),
    field("nifshell", Shape::Text, "", "A shell to run `nifcmd` with."),
    field("creates", Shape::Path, "", "Do not run `cmd` if this path exists."),
    field(
        "mtimes",
        Shape::Paths,
        "",
        "Files; run `cmd`, past every guard, when one is newer than at its last success.",
    ),
    field("donecmd", Shape::Text, "", "Run after each success of `cmd`; its failure is the resource's."),
    field("doneshell", Shape::Text, "", "A shell to run `donecmd` with."),
    field("state", Shape::Ignored, "", "Of old files; has no effect."),
    field("pollint", Shape::Ignored, "", "Of old files: the same as `poll` in `meta`."),
];

const fn field(name: &'static str, shape: Shape, default: &'static str, doc: &'static str) -> Field {
    Field { name, shape, default, doc }
}

/// A command, when to run it, and in which setting.
#[derive(Debug, PartialEq)]
struct Exec {
    name: String,
    setting: Arc<Setting>,
    command: Line,
    timeout: Option<Duration>,
    refreshonly: bool,
    watchcmd: Option<Line>,
    watchfiles: Vec<PathBuf>,
    ifcmd: Option<Line>,
    nifcmd: Option<Line>,
    creates: Option<PathBuf>,
    mtimes: Vec<PathBuf>,
    donecmd: Option<Line>,
}

/// Why the command has to run.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Due {
    NotRun,
    Refreshed,
    Event,
    Tick,
    Poll,
    Newer(PathBuf),
}

impl fmt::Display for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRun => f.write_str("has not run"),
            Self::Refreshed => f.write_str("runs again: refreshed"),
            Self::Event => f.write_str("runs again: something it watches changed"),
            Self::Tick => f.write_str("runs again: its timer ticked"),
            Self::Poll => f.write_str("runs again: its poll is due"),
            Self::Newer(path) => write!(f, "runs again: {} is newer than at its last success", path.display()),
        }
    }
}

/// A command may change anything, which is the default promise.
impl Drift for Due {}

/// What the facts that cost no process say.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Converged,
    /// Past every guard.
    Due(Due),
    /// If the guards agree.
    AskGuards,
}

impl Exec {
    /// Everything it may run.
    fn lines(&self) -> impl Iterator<Item = &Line> {
        let others = [&self.watchcmd, &self.ifcmd, &self.nifcmd, &self.donecmd];
        std::iter::once(&self.command).chain(others.into_iter().flatten())
    }

    fn guarded(&self) -> bool {
        self.ifcmd.is_some() || self.nifcmd.is_some()
    }

    fn verdict(&self) -> Result<Verdict, Fault> {
        if !self.mtimes.is_empty()
            && let Some(then) = Times::remembered(&self.setting.host.memory, &self.name)?
            && let Some(path) = Times::seen(&self.mtimes)?.newer_than(&then)
        {
            return Ok(Verdict::Due(Due::Newer(path.to_path_buf())));
        }
        match &self.creates {
            Some(path) if exists(path)? => Ok(Verdict::Converged),
            _ => Ok(Verdict::AskGuards),
        }
    }

    /// Who would change first what this one depends on. Only plans make promises.
    fn foreseen<'p>(&self, promises: &'p Promises) -> Result<Option<&'p str>, Fault> {
        let root = Path::new("/");
        let anything = promises.of(root).or_else(|| promises.below(root)).map(|(_, _, who)| who);
        if anything.is_none() || self.guarded() {
            return Ok(anything);
        }
        let directory = self.setting.directory()?;
        let mut paths = self.command.candidates(self.setting.path(), &directory);
        paths.extend(self.command.script.clone());
        paths.extend(self.setting.cwd.clone());
        paths.extend(self.creates.clone());
        paths.extend(self.mtimes.iter().chain(&self.watchfiles).cloned());
        Ok(paths.iter().find_map(|path| promises.of(path)).map(|(_, _, who)| who))
    }

    fn due(look: &Look) -> Due {
        match look.cause {
            _ if look.refresh => Due::Refreshed,
            Cause::First | Cause::Reload => Due::NotRun,
            Cause::Refresh => Due::Refreshed,
            Cause::Drift => Due::Event,
            Cause::Tick => Due::Tick,
            Cause::Poll => Due::Poll,
        }
    }

    async fn run(&self, work: &Work) -> Result<(), Fault> {
        // Files that change while it runs are newer than what it saw.
        let seen = Times::seen(&self.mtimes)?;
        let stage = self.setting.stage().await?.fenced(work.fence);
        run::command(&self.setting, &stage, &self.command, self.timeout, &work.stop).await?;
        if let Some(line) = &self.donecmd {
            let done = run::command(&self.setting, &stage, line, self.timeout, &work.stop).await;
            done.map_err(|fault| Fault::new(format!("donecmd: {fault}")))?;
        }
        if self.mtimes.is_empty() {
            return Ok(());
        }
        let (host, name) = (self.setting.host.clone(), self.name.clone());
        // It syncs, which takes milliseconds.
        let kept = tokio::task::spawn_blocking(move || seen.remember(&host.memory, &name)).await;
        kept.map_err(|error| Fault::new(format!("keeping mtimes broke: {error}")))?
    }
}

impl Resource for Exec {
    type Drift = Due;

    fn watch(&self, signal: &Signal) -> Result<Watch, Fault> {
        let paths = self.watchfiles.iter().chain(&self.mtimes);
        let held: Result<Vec<_>, Fault> = paths.map(|path| self.setting.host.watches.path(path, signal)).collect();
        let held = held?;
        let task = self.watchcmd.clone().map(|line| {
            let task = watchers::watch(Arc::clone(&self.setting), line, signal.clone());
            Box::pin(task) as mgmt_engine::resource::Boxed<_>
        });
        Ok(match (held.is_empty(), task) {
            (true, None) => Watch::Nothing,
            (true, Some(task)) => Watch::Task(task),
            (false, None) => Watch::Held(Box::new(held)),
            (false, Some(task)) => Watch::Both(Box::new(held), task),
        })
    }

    async fn check(&self, look: &Look) -> Result<Check<Due>, Fault> {
        if self.refreshonly && !look.refresh {
            return Ok(Check::Converged);
        }
        if let Some(who) = self.foreseen(&look.promises)? {
            return Ok(Check::Unknown(format!("{who} would change first")));
        }
        let verdict = self.verdict()?;
        if verdict == Verdict::Converged {
            return Ok(Check::Converged);
        }
        // What would fail is said before, and in a plan: instead of, running it.
        let stage = self.setting.stage().await?;
        stage.locate(&self.command)?;
        if let Verdict::Due(due) = verdict {
            return Ok(Check::Drifted(due));
        }
        if self.guarded() && look.purpose == Purpose::PlanWithoutGuards {
            return Ok(Check::Unknown("its guard was not run".to_owned()));
        }
        for (line, name, wanted) in [(&self.ifcmd, "ifcmd", true), (&self.nifcmd, "nifcmd", false)] {
            if let Some(line) = line
                && run::guard(&self.setting, &stage, name, line).await? != wanted
            {
                return Ok(Check::Converged);
            }
        }
        Ok(Check::Drifted(Self::due(look)))
    }

    async fn apply(&self, _: Due, work: &Work) -> Result<Applied, Fault> {
        let clock = Clock::start();
        let started = clock.now();
        self.run(work).await?;
        let deed = format!("exit 0, {}", took(clock.now().since(started)));
        Ok(Applied::Changed { deed: deed.into(), refreshed: true })
    }
}

/// Whether something stands at a path, be it a link to nothing.
fn exists(path: &Path) -> Result<bool, Fault> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(Fault::path("look at", path, error)),
    }
}

fn took(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.1} s") }
}

#[cfg(test)]
mod tests;

/// A host for tests, which remembers below `directory`.
#[cfg(test)]
pub(crate) fn test_host(directory: &Path) -> Arc<crate::Host> {
    Arc::new(crate::Host {
        memory: crate::memory::Memory::at(directory.join("memory")),
        ..crate::Host::with(crate::watches::Watches::shared())
    })
}
