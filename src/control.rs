//! The local control socket: lets other verbs ask a running agent, and nobody else.
//!
//! `PREFIX/HOSTNAME/control.sock`, 0600; whoever connects must be the same user, or root. One JSON line is asked, JSON
//! lines answer, and the end of the stream ends the answer. Must not know what an answer means to people.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

use crate::cli::{Exit, Failure};
use crate::events::Happened;
use crate::state::Home;

/// The socket's name in the state directory.
const NAME: &str = "control.sock";
/// Longest question.
const QUESTION_MAX: u64 = 64 * 1024;
/// Longest line of an answer.
const ANSWER_MAX: u64 = 64 << 20;
/// Asked at the same time, followers of events included.
const CONNECTIONS_MAX: usize = 32;
/// A question must be complete by then.
const QUESTION_TIME: Duration = Duration::from_secs(5);
/// `sun_path` holds 107 bytes and a zero: unix(7).
const SOCKET_PATH_MAX: usize = 107;

/// A question to an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// How it stands.
    Status {
        /// Every resource, not only those that are not as wanted.
        all: bool,
    },
    /// What happened.
    Events {
        /// The last so many.
        last: usize,
        /// Go on.
        follow: bool,
    },
}

/// One line of an answer to [`Question::Events`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// An event.
    Event(Happened),
    /// The asker was too slow: so many events are missing here.
    Missed(u64),
}

/// What an agent can be asked for.
pub trait Answers: Send + Sync + 'static {
    /// The status, as one JSON value.
    fn status(&self, all: bool) -> serde_json::Value;
    /// Events.
    fn events(&self) -> &crate::events::Events;
}

/// A listening socket. Dropping it removes the socket and ends all answers.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    listener: UnixListener,
    answering: JoinSet<()>,
}

impl Socket {
    /// Opens the socket in a state directory whose lock we hold: whatever lies there is of a dead process.
    ///
    /// # Errors
    /// If it cannot be bound.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(NAME);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = with_short_path(&path, |short| UnixListener::bind(short))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { path, listener, answering: JoinSet::new() })
    }

    /// Takes the next connection and lets it be answered beside. Cancel safe.
    pub async fn serve_next(&mut self, answers: &Arc<impl Answers>) {
        while self.answering.try_join_next().is_some() {}
        if self.answering.len() >= CONNECTIONS_MAX {
            // Somebody has to hang up first.
            self.answering.join_next().await;
            return;
        }
        let stream = match self.listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("control socket: {error}");
                // Out of descriptors, most likely: do not spin on it.
                tokio::time::sleep(Duration::from_millis(100)).await;
                return;
            }
        };
        let answers = Arc::clone(answers);
        self.answering.spawn(async move {
            if let Err(error) = answer(stream, &*answers).await {
                tracing::debug!("control socket: {error}");
            }
        });
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!("cannot remove {}: {error}", self.path.display());
        }
    }
}

async fn answer(stream: UnixStream, answers: &impl Answers) -> io::Result<()> {
    let (uid, own) = (stream.peer_cred()?.uid(), rustix::process::geteuid().as_raw());
    if uid != own && uid != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("user {uid} may not ask")));
    }
    let (read, mut write) = stream.into_split();
    let mut question = String::new();
    let mut reader = BufReader::new(read.take(QUESTION_MAX));
    tokio::time::timeout(QUESTION_TIME, reader.read_line(&mut question)).await??;
    match serde_json::from_str(&question)? {
        Question::Status { all } => send(&mut write, &answers.status(all)).await,
        Question::Events { last, follow } => {
            let (past, mut future) = answers.events().follow(last);
            for event in past {
                send(&mut write, &Line::Event(event)).await?;
            }
            if !follow {
                return Ok(());
            }
            let mut hung_up = [0_u8; 1];
            loop {
                let line = tokio::select! {
                    biased;
                    // Nothing more is asked, so anything that can be read is the end.
                    _ = reader.read(&mut hung_up) => break,
                    event = future.recv() => match event {
                        Ok(event) => Line::Event(event),
                        Err(RecvError::Lagged(missed)) => Line::Missed(missed),
                        Err(RecvError::Closed) => break,
                    },
                };
                send(&mut write, &line).await?;
            }
            Ok(())
        }
    }
}

async fn send(write: &mut (impl tokio::io::AsyncWrite + Unpin), value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    write.write_all(&line).await
}

/// Calls with the path, or one through the directory's descriptor where the path is too long for a socket.
fn with_short_path<T>(path: &Path, call: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= SOCKET_PATH_MAX {
        return call(path);
    }
    let directory = std::fs::File::open(path.parent().unwrap_or(Path::new("/")))?;
    call(&Path::new(&format!("/proc/self/fd/{}", directory.as_raw_fd())).join(path.file_name().unwrap_or_default()))
}

/// A connection to the agent of a place, found by prefix and host name, or the only one that runs there.
///
/// # Errors
/// There is none, or more than one, or we may not ask it.
pub fn find(place: &crate::cli::args::Place) -> Result<Client, Failure> {
    let home = Home::of(&crate::cli::args::Place {
        // Any valid name will do where only the prefix counts.
        hostname: Some(place.hostname.clone().unwrap_or_else(|| "localhost".into())),
        prefix: place.prefix.clone(),
    })?;
    if place.hostname.is_some() {
        return Client::connect(&home.directory().join(NAME)).map_err(|e| none(&home, &e));
    }
    let mut found = Vec::new();
    let mut refused = io::Error::from(io::ErrorKind::NotFound);
    for entry in std::fs::read_dir(&home.prefix).into_iter().flatten().flatten() {
        match Client::connect(&entry.path().join(NAME)) {
            Ok(client) => found.push((entry.file_name().to_string_lossy().into_owned(), client)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refused = error,
            Err(_) => {}
        }
    }
    if found.len() > 1 {
        let mut names: Vec<_> = found.into_iter().map(|(name, _)| name).collect();
        names.sort();
        let message = format!(
            "several agents run under {}: name one with --hostname: {}",
            home.prefix.display(),
            names.join(", ")
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    found.pop().map(|(_, client)| client).ok_or_else(|| none(&home, &refused))
}

fn none(home: &Home, error: &io::Error) -> Failure {
    let place = home.prefix.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            Failure::new(Exit::NotAllowed, format!("may not ask the agent under {place}: it belongs to another user"))
        }
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Failure::new(Exit::Unavailable, format!("no agent runs under {place}; start one with: mgmt run FILE"))
        }
        _ => Failure::new(Exit::Unavailable, format!("cannot ask the agent under {place}: {error}")),
    }
}

/// Asks one question.
#[derive(Debug)]
pub struct Client(std::os::unix::net::UnixStream);

impl Client {
    fn connect(path: &Path) -> io::Result<Self> {
        with_short_path(path, |short| std::os::unix::net::UnixStream::connect(short)).map(Self)
    }

    /// Asks, and gives each line of the answer to `each` until it says `false`.
    ///
    /// # Errors
    /// The connection breaks, or the answer is not what was asked for.
    pub fn ask<T: for<'de> Deserialize<'de>>(
        mut self,
        question: &Question,
        mut each: impl FnMut(T) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        use std::io::{BufRead as _, Read as _, Write as _};
        let broken =
            |e: &dyn std::fmt::Display| Failure::new(Exit::Unavailable, format!("the agent's answer broke off: {e}"));
        let mut line = serde_json::to_vec(question).map_err(|e| broken(&e))?;
        line.push(b'\n');
        self.0.write_all(&line).map_err(|e| broken(&e))?;
        let mut reader = std::io::BufReader::new(self.0);
        loop {
            let mut line = String::new();
            if reader.by_ref().take(ANSWER_MAX).read_line(&mut line).map_err(|e| broken(&e))? == 0 {
                return Ok(());
            }
            if !each(serde_json::from_str(&line).map_err(|e| broken(&e))?)? {
                return Ok(());
            }
        }
    }
}
