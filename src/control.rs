//! The local control socket: lets other verbs ask a running agent, and nobody else.
//!
//! `PREFIX/HOSTNAME/control.sock`, 0600; whoever connects must be the same user, or root. One JSON line is asked, JSON
//! lines answer, and the end of the stream ends the answer. One question turns the connection into a pipe of lines, both
//! ways. Questions that are answered at once and those that stand (followers, locks, pipes) have places of their own, so
//! that the latter never keep anybody from asking. Must not know what an answer means to people.

mod client;
pub mod mesh;

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

use crate::cli::{Exit, Failure};
use crate::events::Happened;
use crate::mesh::following::Stream;
pub use client::{Client, Talk, find};
use mesh::{Ask, Reply};

/// The socket's name in the state directory.
const NAME: &str = "control.sock";
/// Longest question: the largest value of the store, in digits, and its key.
const QUESTION_MAX: u64 = 1 << 20;
/// Longest line of an answer.
const ANSWER_MAX: u64 = 64 << 20;
/// Questions that are answered at the same time. Others wait for their turn.
const QUESTIONS_MAX: usize = 32;
/// Connections that stand: followers of events and keys, locks, pipes. More are refused.
const STANDING_MAX: usize = 1024;
/// Connections of any kind, those included that have not asked yet, or wait for their turn.
const CONNECTIONS_MAX: usize = STANDING_MAX + 4 * QUESTIONS_MAX;
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
        /// Nothing that other hosts would have to be asked for.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        local: bool,
    },
    /// What happened.
    Events {
        /// The last so many.
        last: usize,
        /// Go on.
        follow: bool,
        /// Only on this host.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        local: bool,
    },
    /// To this host's part in the mesh.
    Mesh {
        /// What.
        question: Ask,
    },
}

impl Question {
    /// Whether its answer goes on until the asker hangs up.
    fn stands(&self) -> bool {
        match self {
            Self::Status { .. } => false,
            Self::Events { follow, .. } => *follow,
            Self::Mesh { question } => matches!(question, Ask::Watch { .. } | Ask::Pipe | Ask::Lock { .. }),
        }
    }
}

/// One line of an answer to [`Question::Events`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// An event.
    Event(Happened),
    /// The asker was too slow: so many events are missing here.
    Missed(u64),
    /// An event of one of the hosts of a mesh, to be shown with its name.
    Told(Happened),
    /// So many events of a host are missing here.
    Lost {
        /// Which host.
        host: String,
        /// How many.
        missed: u64,
    },
    /// Something about a host that is followed.
    Note {
        /// Which host.
        host: String,
        /// What, in words.
        note: String,
    },
}

/// What an agent can be asked for.
pub trait Answers: Send + Sync + 'static {
    /// The status, as one JSON value.
    fn status(&self, all: bool, local: bool) -> impl Future<Output = serde_json::Value> + Send;
    /// This host's name.
    fn hostname(&self) -> &str;
    /// Events.
    fn events(&self) -> &crate::events::Events;
    /// Events of all hosts, the last so many, and if that is wished all that come; `None` without a mesh.
    fn everywhere(&self, last: usize, follow: bool) -> Option<Stream>;
    /// Answers what is asked of the mesh.
    ///
    /// # Errors
    /// The connection breaks; whatever else goes wrong is part of the answer.
    fn mesh(&self, asked: Ask, talk: Conversation) -> impl Future<Output = io::Result<()>> + Send;
}

/// A connection whose question was read.
#[derive(Debug)]
pub struct Conversation {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Conversation {
    /// Sends a line of the answer.
    ///
    /// # Errors
    /// The asker has gone.
    pub async fn reply(&mut self, answer: Result<serde_json::Value, Failure>) -> io::Result<()> {
        send(&mut self.write, &answer.map_or_else(Reply::failed, Reply::Ok)).await
    }

    /// Returns when the asker has hung up. Nothing more is asked, so anything that can be read is the end. Cancel safe.
    pub async fn hung_up(&mut self) {
        // An error is the end as well.
        self.read.fill_buf().await.ok();
    }

    /// The connection itself, to be served by another runtime and not in lines of JSON, and what was read of it already
    /// behind the question.
    ///
    /// # Errors
    /// What the system says.
    pub fn into_std(self) -> io::Result<(io::Cursor<Vec<u8>>, std::os::unix::net::UnixStream)> {
        let ahead = self.read.buffer().to_vec();
        let stream = self.read.into_inner().reunite(self.write).map_err(io::Error::other)?;
        Ok((io::Cursor::new(ahead), stream.into_std()?))
    }
}

/// A listening socket. Dropping it removes the socket and ends all answers.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    listener: UnixListener,
    answering: JoinSet<()>,
    places: Arc<Places>,
}

/// How many may ask at the same time.
#[derive(Debug)]
struct Places {
    questions: Semaphore,
    standing: Semaphore,
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
        let places = Places { questions: Semaphore::new(QUESTIONS_MAX), standing: Semaphore::new(STANDING_MAX) };
        Ok(Self { path, listener, answering: JoinSet::new(), places: Arc::new(places) })
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
        let (answers, places) = (Arc::clone(answers), Arc::clone(&self.places));
        self.answering.spawn(async move {
            if let Err(error) = answer(stream, &*answers, &places).await {
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

async fn answer(stream: UnixStream, answers: &impl Answers, places: &Places) -> io::Result<()> {
    let (uid, own) = (stream.peer_cred()?.uid(), rustix::process::geteuid().as_raw());
    if uid != own && uid != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("user {uid} may not ask")));
    }
    let (read, write) = stream.into_split();
    let mut talk = Conversation { read: BufReader::new(read), write };
    let mut question = String::new();
    let line = async { (&mut talk.read).take(QUESTION_MAX).read_line(&mut question).await };
    tokio::time::timeout(QUESTION_TIME, line).await??;
    let question: Question = serde_json::from_str(&question)?;
    let _place = if question.stands() {
        let Ok(place) = places.standing.try_acquire() else {
            let many = format!("{STANDING_MAX} pipes, locks and followers are open on this host; close some");
            return talk.reply(Err(Failure::new(Exit::TryAgain, many))).await;
        };
        place
    } else {
        places.questions.acquire().await.map_err(io::Error::other)?
    };
    match question {
        Question::Status { all, local } => send(&mut talk.write, &answers.status(all, local).await).await,
        Question::Events { last, follow, local: true } => tell_events(&mut talk, answers, last, follow).await,
        Question::Events { last, follow, local: false } => match answers.everywhere(last, follow) {
            Some(stream) => tell_everywhere(&mut talk, stream).await,
            None => tell_events(&mut talk, answers, last, follow).await,
        },
        Question::Mesh { question } => answers.mesh(question, talk).await,
    }
}

async fn tell_events(talk: &mut Conversation, answers: &impl Answers, last: usize, follow: bool) -> io::Result<()> {
    let (past, mut future) = answers.events().follow(last);
    let line = |event| Line::Event(Happened { host: Some(answers.hostname().to_owned()), ..event });
    for event in past {
        send(&mut talk.write, &line(event)).await?;
    }
    if !follow {
        return Ok(());
    }
    loop {
        let line = tokio::select! {
            biased;
            () = talk.hung_up() => return Ok(()),
            event = future.recv() => match event {
                Ok(event) => line(event),
                Err(RecvError::Lagged(missed)) => Line::Missed(missed),
                Err(RecvError::Closed) => return Ok(()),
            },
        };
        send(&mut talk.write, &line).await?;
    }
}

async fn tell_everywhere(talk: &mut Conversation, mut stream: Stream) -> io::Result<()> {
    loop {
        let line = tokio::select! {
            biased;
            () = talk.hung_up() => return Ok(()),
            line = stream.next() => line,
        };
        let Some(line) = line else { return Ok(()) };
        send(&mut talk.write, &line).await?;
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
