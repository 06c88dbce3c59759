//! The serving end of `mgmt kv pipe`: one connection, any number of requests on their way, answers as they are ready.
//!
//! One task a connection and none a line: requests are futures of that task, and all answers that are ready go out in one
//! write. A client that does not read is not read from either, and keeps nobody else waiting.

pub mod line;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use mgmt_store::command::{Compare, Op, Test, Txn};
use mgmt_store::event::Change;
use mgmt_store::replicated::Read;
use mgmt_store::watch::{Batch, Filter, WatchError};
use mgmt_store::{Body, CallError, Client, Done, Key, Proposer, Refusal, Revision, Shared, Value, Watch};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use line::{Answer, Cut, Lines, Request, Word};

/// Requests of one pipe that are on their way.
pub const REQUESTS_MAX: usize = 256;
/// Watches of one pipe.
pub const WATCHES_MAX: usize = 64;
/// Answers that wait to be written; above it nothing more is asked or watched. What is on its way already comes on top.
const ANSWERS_BYTES: usize = 256 << 10;
/// What is read at a time.
const READ_BYTES: usize = 16 << 10;
/// How long a request goes on trying: longer than any change of leaders.
const LIMIT: Duration = Duration::from_secs(10);
/// Where the keys that people name lie.
pub const KEYS: &str = "k/";

/// What pipes stand on.
pub struct Store<P> {
    /// Shared by all pipes of this host, and by nobody else.
    pub client: Client<P>,
    /// The state, as it is here.
    pub shared: Arc<Shared>,
    /// The place of the leader's name among the members' names, in their order; -1: there is none.
    pub leader: Box<dyn Fn() -> i64 + Send + Sync>,
}

impl<P> std::fmt::Debug for Store<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// Something to be done that takes a while.
enum Work {
    Change(Body),
    Read(Key, Read),
}

/// What came of it.
enum Said {
    At(Revision),
    Value(Value),
    Failed(Word, Cow<'static, str>),
}

/// A watch and whose it is.
struct Following {
    id: Box<str>,
    watch: Watch,
}

/// Serves a connection until the client has hung up and everything is answered.
///
/// # Errors
/// The connection breaks.
pub async fn serve<P: Proposer>(
    store: &Store<P>,
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let (mut calls, mut following) = (FuturesUnordered::new(), FuturesUnordered::new());
    let mut pipe = Pipe { store, lines: Lines::default(), out: Vec::new(), watches: BTreeSet::new() };
    let mut open = true;
    loop {
        let mut hungry = false;
        while calls.len() < REQUESTS_MAX && pipe.out.len() < ANSWERS_BYTES {
            match pipe.next() {
                Some(Next::Call(id, work)) => calls.push(call(store, id, work)),
                Some(Next::Watch(watch)) => following.push(follow(watch)),
                Some(Next::Answered) => {}
                None => {
                    hungry = true;
                    break;
                }
            }
        }
        if !open && hungry && calls.is_empty() && pipe.out.is_empty() {
            return Ok(());
        }
        tokio::select! {
            biased;
            Some((id, said)) = calls.next() => pipe.say(&id, &said),
            Some((watch, batch)) = following.next(), if pipe.out.len() < ANSWERS_BYTES => {
                if let Some(watch) = pipe.tell(watch, batch) {
                    following.push(follow(watch));
                }
            }
            written = write.write(&pipe.out), if !pipe.out.is_empty() => {
                pipe.wrote(written?)?;
            }
            count = async { read.read_buf(pipe.lines.room(READ_BYTES)).await }, if open && hungry => {
                open = count? > 0;
                if !open {
                    pipe.ended();
                }
            }
        }
    }
}

async fn call<P: Proposer>(store: &Store<P>, id: Box<str>, work: Work) -> (Box<str>, Said) {
    let said = match work {
        Work::Change(body) => match store.client.call(body, LIMIT).await {
            Ok((_, Done::Txn { held: false, .. })) => Said::Failed(Word::Other, "the value is another".into()),
            Ok((_, Done::Deleted { count: 0 })) => Said::Failed(Word::Missing, "there is no such key".into()),
            Ok((revision, _)) => Said::At(revision),
            Err(error) => failed(error),
        },
        Work::Read(key, read) => match store.client.get(&key, read).await.map(|found| found.value) {
            Ok(Some(entry)) => Said::Value(entry.value),
            Ok(None) => Said::Failed(Word::Missing, "there is no such key".into()),
            Err(error) => failed(error),
        },
    };
    (id, said)
}

fn failed(error: CallError) -> Said {
    let word = match error {
        CallError::Refused(Refusal::Busy { .. }) | CallError::Unavailable | CallError::Stopped => Word::Unavailable,
        CallError::Refused(_) => Word::Refused,
        CallError::Unknown | CallError::Strange => Word::Unknown,
    };
    Said::Failed(word, error.to_string().into())
}

async fn follow(mut following: Following) -> (Following, Result<Batch, WatchError>) {
    let batch = following.watch.next().await;
    (following, batch)
}

/// What is to be done about a line.
enum Next {
    Call(Box<str>, Work),
    Watch(Following),
    Answered,
}

struct Pipe<'a, P> {
    store: &'a Store<P>,
    lines: Lines,
    /// Answers that are not written yet.
    out: Vec<u8>,
    /// Whose watches are open.
    watches: BTreeSet<Box<str>>,
}

impl<P: Proposer> Pipe<'_, P> {
    /// Takes the next line, if one is whole.
    fn next(&mut self) -> Option<Next> {
        let Self { store, lines, out, watches } = self;
        let (id, request) = match lines.take()? {
            Cut::Line(line) => line::parse(line),
            Cut::TooLong(line) => (line::parse(line).0, Err("the line is too long")),
        };
        let mut answer = |answer| {
            line::print(out, id, answer);
            Next::Answered
        };
        let next = match request.and_then(|request| work(&request)) {
            Ok(Todo::Work(work)) => Next::Call(id.into(), work),
            Ok(Todo::Leader) => answer(Answer::Place((store.leader)())),
            Ok(Todo::Unwatch(other)) => match watches.remove(other) {
                true => answer(Answer::Done),
                false => answer(Answer::Failed(Word::Missing, "there is no such watch")),
            },
            Ok(Todo::Watch(prefix, after)) => {
                let after = after.map_or_else(|| store.shared.revision(), Revision);
                match store.client.watch(Filter::Prefix(prefix), after) {
                    _ if watches.contains(id) => answer(Answer::Failed(Word::Usage, "this name has a watch already")),
                    _ if watches.len() >= WATCHES_MAX => {
                        answer(Answer::Failed(Word::Unavailable, "64 watches are open on this connection"))
                    }
                    Ok(watch) => {
                        watches.insert(id.into());
                        answer(Answer::At(after.0));
                        Next::Watch(Following { id: id.into(), watch })
                    }
                    Err(error) => answer(Answer::Failed(Word::Unavailable, &error.to_string())),
                }
            }
            Err(why) => answer(Answer::Failed(Word::Usage, why)),
        };
        Some(next)
    }

    fn say(&mut self, id: &str, said: &Said) {
        let answer = match said {
            Said::At(revision) => Answer::At(revision.0),
            Said::Value(value) => Answer::Value(value),
            Said::Failed(word, text) => Answer::Failed(*word, text),
        };
        line::print(&mut self.out, id, answer);
    }

    /// Tells what a watch has seen; gives it back if it goes on.
    fn tell(&mut self, following: Following, batch: Result<Batch, WatchError>) -> Option<Following> {
        // Ended meanwhile by its owner.
        if !self.watches.contains(&following.id) {
            return None;
        }
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                self.watches.remove(&following.id);
                line::print(&mut self.out, &following.id, Answer::Failed(Word::Compacted, &error.to_string()));
                return None;
            }
        };
        for event in &batch.events {
            let key = event.key.as_str().strip_prefix(KEYS).unwrap_or_default();
            let answer = match &event.change {
                Change::Put(entry) => Answer::Put { key, value: &entry.value },
                Change::Delete => Answer::Deleted { key },
            };
            line::print(&mut self.out, &following.id, answer);
        }
        Some(following)
    }

    fn wrote(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.out.drain(..count);
        Ok(())
    }

    /// Nothing more is asked.
    fn ended(&mut self) {
        if self.lines.is_open() {
            line::print(&mut self.out, "?", Answer::Failed(Word::Usage, "the last line has no end"));
        }
        self.lines = Lines::default();
    }
}

/// A request whose words are understood.
enum Todo<'a> {
    Work(Work),
    Leader,
    Unwatch(&'a str),
    Watch(String, Option<u64>),
}

fn work<'a>(request: &Request<'a>) -> Result<Todo<'a>, &'static str> {
    let key = |key: &str| Key::parse(&format!("{KEYS}{key}")).map_err(|_| "this cannot be a key: see kv --help");
    let value = |value: &[u8]| Value::from(value);
    let work = match *request {
        Request::Put { key: name, value: bytes } => {
            Work::Change(Body::Put { key: key(name)?, value: value(bytes), lease: None })
        }
        Request::Get { key: name } => Work::Read(key(name)?, Read::Latest(LIMIT)),
        Request::Local { key: name } => Work::Read(key(name)?, Read::Local),
        Request::Delete { key: name } => Work::Change(Body::Delete { key: key(name)? }),
        Request::Swap { key: name, old, new } => {
            let key = key(name)?;
            let test = old.map_or(Test::Present(false), |old| Test::Value(true, value(old)));
            let compare = vec![Compare::Key(key.clone(), test)];
            let then = vec![Op::Put { key, value: value(new), lease: None }];
            Work::Change(Body::Txn(Txn { compare, then, otherwise: Vec::new() }))
        }
        Request::Leader => return Ok(Todo::Leader),
        Request::Unwatch { id } => return Ok(Todo::Unwatch(id)),
        Request::Watch { prefix, after } => return Ok(Todo::Watch(format!("{KEYS}{prefix}"), after)),
    };
    Ok(Todo::Work(work))
}
