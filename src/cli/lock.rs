//! `mgmt lock`: runs a command while a lock of the mesh is held.

use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::kv::{millis, whole_seconds};
use super::{Exit, Failure, args};
use crate::control::mesh::Ask;
use crate::control::{Talk, find};

/// A command that was told to end gets so long before it is killed: others hold the lock by then.
const GRACE: Duration = Duration::from_secs(10);
/// How long giving the lock back is waited for.
const RELEASE: Duration = Duration::from_secs(5);

/// Runs it; the exit code is that of the command.
///
/// # Errors
/// The lock was not to be had, or was lost; the command cannot be started.
pub fn run(args: &args::Lock) -> Result<ExitCode, Failure> {
    let asked = Ask::Lock {
        name: args.name.clone(),
        count: args.count,
        ttl_s: whole_seconds(args.ttl)?,
        wait_ms: args.wait.map_or(0, millis),
    };
    let mut talk = find(&args.place)?.converse(asked)?;
    let held = talk.next()?.ok_or_else(|| Failure::new(Exit::Unavailable, "the agent has ended"))?;
    let fence = held["fence"].to_string();
    let cannot = |what: &str, e: std::io::Error| Failure::new(Exit::Unavailable, format!("cannot {what}: {e}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| cannot("wait for a command", e))?;
    let (program, arguments) = args.command.split_first().expect("clap asks for a command");
    runtime.block_on(async {
        let mut signals = Signals::listen().map_err(|e| cannot("listen for signals", e))?;
        let child = Command::new(program).args(arguments).env("MGMT_FENCE", fence).spawn();
        let shown = program.to_string_lossy();
        let child = child.map_err(|e| Failure::new(Exit::Failed, format!("cannot run '{shown}': {e}")))?;
        let hang_up = talk.hang_up();
        let mut lost = lost(talk);
        let code = attend(child, &mut lost, &mut signals).await?;
        // Whoever asks next finds the lock free: the agent says when it has given it back.
        hang_up();
        if tokio::time::timeout(RELEASE, lost.recv()).await.is_err() {
            tracing::warn!("the lock was not given back in time: it ends by itself");
        }
        Ok(code)
    })
}

/// Says once why the lock is held no more. The agent says nothing as long as it is.
fn lost(mut talk: Talk) -> mpsc::Receiver<String> {
    let (say, lost) = mpsc::channel(1);
    std::thread::spawn(move || {
        let why = match talk.next() {
            Ok(Some(line)) => line["lost"].as_str().unwrap_or("the lock was lost").to_owned(),
            Ok(None) => "the lock may be lost: the agent has ended".to_owned(),
            Err(failure) => format!("the lock may be lost: {}", failure.message),
        };
        // The command has ended, and so has whoever would listen.
        say.blocking_send(why).ok();
    });
    lost
}

struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }
}

/// Waits for the command, which must not go on without the lock.
async fn attend(
    mut child: Child,
    lost: &mut mpsc::Receiver<String>,
    signals: &mut Signals,
) -> Result<ExitCode, Failure> {
    let broken = |e: std::io::Error| Failure::new(Exit::Failed, format!("cannot wait for the command: {e}"));
    loop {
        let why = tokio::select! {
            biased;
            ended = child.wait() => return Ok(code(ended.map_err(broken)?)),
            // A terminal sends ^C to the command as well.
            _ = signals.int.recv() => continue,
            _ = signals.term.recv() => {
                tell(&child, Signal::TERM);
                continue;
            }
            why = lost.recv() => why.unwrap_or_else(|| "the lock may be lost".to_owned()),
        };
        tell(&child, Signal::TERM);
        if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
            tell(&child, Signal::KILL);
            child.wait().await.map_err(broken)?;
        }
        return Err(Failure::new(Exit::TryAgain, format!("{why}; the command was ended")));
    }
}

/// The command is ours until it was waited for, so that the number is nobody else's.
fn tell(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let Some(Ok(handle)) = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else { return };
    if let Err(error) = pidfd_send_signal(handle, signal) {
        tracing::debug!("cannot signal the command: {error}");
    }
}

/// As a shell would say it.
fn code(ended: std::process::ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;
    let code = ended.code().unwrap_or_else(|| 128 + ended.signal().unwrap_or_default());
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
