//! One child process in a group of its own: start it, read what it prints until it ends, or end it with all its group.
//!
//! A [`Running`] that is dropped is not left behind: its group gets TERM, and KILL after the grace, by a task that the
//! reaper counts. A run that ended by itself leaves alone what it put into the background.

use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::process::ExitStatus;
use std::task::Poll;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::group::Group;
use super::output::Source;
use super::reaper;
use super::scope::Scope;

/// Between TERM and KILL.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// A command that ended has said everything when its pipes are silent for so long; a child that it left in the
/// background may hold them open for ever.
const SILENCE: Duration = Duration::from_millis(100);
/// A background child that is never silent is listened to for so long.
const DRAIN_MAX: Duration = Duration::from_secs(1);
/// What outlives KILL for so long hangs in the kernel, and is left to it.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// How often it is asked whether a group whose leader has ended is gone; doubles from the first to the second.
const ASK_FIRST: Duration = Duration::from_millis(1);
const ASK_MAX: Duration = Duration::from_millis(50);
/// One read: most commands say little, and who fills it gets a buffer of twice the size, up to what a pipe holds.
const READ_BYTES_FIRST: usize = 4 * 1024;
const READ_BYTES_MAX: usize = 64 * 1024;
/// Pauses before a program is tried again that somebody holds open for writing.
const BUSY_PAUSES_MS: [u64; 4] = [2, 10, 50, 200];

/// Takes what is printed.
pub(super) type Sink<'a> = &'a mut (dyn FnMut(Source, &[u8]) + Send);

/// What becomes of those that a command leaves in the background when it ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// It was meant so.
    Lives,
    /// Nobody would ever end them.
    Dies,
}

/// A child that runs.
#[derive(Debug)]
pub(super) struct Running(Option<Inner>);

#[derive(Debug)]
struct Inner {
    child: Child,
    pipes: Pipes,
    group: Group,
    /// Where it runs apart: then this is what is ended, with all that has left the group.
    scope: Option<Scope>,
    grace: Duration,
    runtime: Handle,
}

impl Running {
    /// Starts `command`, whose output is piped, as the leader of a new group.
    ///
    /// A program that was written a moment ago may still be open for writing in another child, between its clone and its
    /// exec: "text file busy" passes within milliseconds.
    pub(super) async fn start(command: &mut Command, grace: Duration) -> io::Result<Self> {
        for pause in BUSY_PAUSES_MS {
            match Self::try_start(command, grace) {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                    sleep(Duration::from_millis(pause)).await;
                }
                started => return started,
            }
        }
        Self::try_start(command, grace)
    }

    fn try_start(command: &mut Command, grace: Duration) -> io::Result<Self> {
        link_chdir();
        let (mut child, pid, owned) = reaper::start(|| {
            let child = command.process_group(0).spawn()?;
            let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
            Ok((child, pid.expect("a child that nobody has waited for has a number")))
        })?;
        let pipes = Pipes {
            out: child.stdout.take(),
            err: child.stderr.take(),
            turn: false,
            buffer: vec![0; READ_BYTES_FIRST],
        };
        let runtime = Handle::current();
        Ok(Self(Some(Inner { child, pipes, group: Group::new(pid, owned), scope: None, grace, runtime })))
    }

    /// Its number.
    pub(super) fn pid(&self) -> Pid {
        self.0.as_ref().expect("only stop and drop take it").group.pid()
    }

    /// Tells a child that waits for it on its input that it may go on, in the scope that it is in by now.
    pub(super) async fn let_go(&mut self, scope: Scope) -> io::Result<()> {
        let inner = self.0.as_mut().expect("only stop and drop take it");
        inner.scope = Some(scope);
        match inner.child.stdin.take() {
            Some(mut input) => input.write_all(b"\n").await,
            None => Err(io::Error::other("it does not wait")),
        }
    }

    /// Reads what it prints until it has ended. May be dropped at any await, and asked again.
    pub(super) async fn ended(&mut self, rest: Rest, sink: Sink<'_>) -> io::Result<ExitStatus> {
        let inner = self.0.as_mut().expect("only stop and drop take it");
        let status = inner.leader(sink).await?;
        if rest == Rest::Dies {
            inner.signal(Signal::KILL).await;
        }
        inner.release();
        // Past that time only a background child talks.
        timeout(DRAIN_MAX, inner.pipes.drain(sink)).await.ok();
        Ok(status)
    }

    /// Ends it and all of its group: TERM, then KILL after the grace or when `at_once` is ready.
    pub(super) async fn stop(mut self, at_once: impl Future<Output = ()> + Send, sink: Sink<'_>) {
        if let Some(inner) = self.0.take() {
            inner.stop(at_once, sink).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(inner) = self.0.take().filter(|inner| !inner.group.is_released()) {
            let runtime = inner.runtime.clone();
            reaper::finish(&runtime, async move { inner.stop(pending(), &mut |_, _| {}).await });
        }
    }
}

impl Inner {
    async fn leader(&mut self, sink: Sink<'_>) -> io::Result<ExitStatus> {
        loop {
            tokio::select! {
                biased;
                status = self.child.wait() => return status,
                () = self.pipes.read(sink), if self.pipes.is_open() => {}
            }
        }
    }

    async fn stop(mut self, at_once: impl Future<Output = ()> + Send, sink: Sink<'_>) {
        self.signal(Signal::TERM).await;
        let grace = self.grace;
        let orderly = tokio::select! {
            biased;
            () = self.gone(None, sink) => true,
            () = at_once => false,
            () = sleep(grace) => false,
        };
        if !orderly && timeout(KILL_WAIT, self.gone(Some(Signal::KILL), sink)).await.is_err() {
            tracing::warn!(
                "a process outlives KILL, and is left behind: it hangs in the kernel, or escapes by forking"
            );
        }
        self.release();
    }

    /// To everything that is its own.
    async fn signal(&self, signal: Signal) {
        match &self.scope {
            // Once to each: a second TERM means something else to many.
            Some(scope) if scope.signal(signal).await => {}
            _ => self.group.signal(signal),
        }
    }

    /// Whether nothing of it is left, once its leader has ended.
    async fn is_gone(&self) -> bool {
        if !self.group.is_gone() {
            return false;
        }
        match &self.scope {
            Some(scope) => scope.is_gone().await,
            None => true,
        }
    }

    /// What is left of it may live on.
    fn release(&mut self) {
        self.group.release();
        if let Some(scope) = &mut self.scope {
            scope.release();
        }
    }

    /// Waits until nothing of the group is left. It goes on reading: who blocks on a full pipe cannot end in order.
    async fn gone(&mut self, again: Option<Signal>, sink: Sink<'_>) {
        if let Some(signal) = again {
            self.signal(signal).await;
        }
        if let Err(error) = self.leader(sink).await {
            tracing::warn!("cannot wait for a child: {error}");
        }
        let mut pause = ASK_FIRST;
        while !self.is_gone().await {
            if let Some(signal) = again {
                // Who forked in between is caught by the next one.
                self.signal(signal).await;
            }
            let reading = async {
                while self.pipes.is_open() {
                    self.pipes.read(sink).await;
                }
                pending::<()>().await;
            };
            timeout(pause, reading).await.ok();
            pause = (pause * 2).min(ASK_MAX);
        }
    }
}

/// The two pipes of a child. Read in turn, so that a loud one does not drown the other.
#[derive(Debug)]
struct Pipes {
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
    turn: bool,
    buffer: Vec<u8>,
}

impl Pipes {
    const fn is_open(&self) -> bool {
        self.out.is_some() || self.err.is_some()
    }

    /// One read of either; a pipe that has ended is closed. Pending for ever when both are.
    async fn read(&mut self, sink: Sink<'_>) {
        poll_fn(|context| {
            self.turn = !self.turn;
            let order = if self.turn { [Source::Out, Source::Err] } else { [Source::Err, Source::Out] };
            for source in order {
                let pipe: Option<Pin<&mut (dyn AsyncRead + Send)>> = match source {
                    Source::Out => self.out.as_mut().map(|pipe| Pin::new(pipe) as _),
                    Source::Err => self.err.as_mut().map(|pipe| Pin::new(pipe) as _),
                };
                let mut buffer = ReadBuf::new(&mut self.buffer);
                let Some(Poll::Ready(read)) = pipe.map(|pipe| pipe.poll_read(context, &mut buffer)) else { continue };
                // A pipe that cannot be read has nothing more to say either.
                if read.is_ok() && !buffer.filled().is_empty() {
                    sink(source, buffer.filled());
                    if buffer.remaining() == 0 && self.buffer.len() < READ_BYTES_MAX {
                        self.buffer.resize(2 * self.buffer.len(), 0);
                    }
                } else {
                    match source {
                        Source::Out => self.out = None,
                        Source::Err => self.err = None,
                    }
                }
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    async fn drain(&mut self, sink: Sink<'_>) {
        while self.is_open() && timeout(SILENCE, self.read(sink)).await.is_ok() {}
    }
}

/// Makes the linker keep `posix_spawn_file_actions_addchdir_np`.
///
/// The standard library refers to it weakly, and a weak reference takes nothing out of a static archive: without this a
/// child with a working directory would cost a real fork of the whole program.
fn link_chdir() {
    std::hint::black_box(libc::posix_spawn_file_actions_addchdir_np as *const ());
}
