//! What is answered about the mesh on the control socket: from the state of the store as it is here, from this host's
//! part in the group, and where it must be from the leader.
//!
//! With the rights of this host, whoever asks: the socket lets nobody ask but its owner. Must not know how an answer is
//! shown.

mod cluster;
mod exports;
mod keys;
mod members;
mod peers;
pub(crate) mod refusals;
mod status;
mod tokens;

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use mgmt_store::Shared;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::following::Stream;
use super::inquiry::Respondent;
use super::link::Link;
use super::node::{Node, Replica};
use super::surroundings::QUORUM_MS;
use super::{Mesh, Stage, pipe};
use crate::cli::{Exit, Failure};
use crate::control::Conversation;
use crate::control::mesh::Ask;
use crate::events::Events;

pub(super) use members::DOWN_MS;
pub use status::status;
pub(crate) use tokens::create as create_token;

/// How long something that an admin wants may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What all pipes share, and the life it belongs to.
type Pipes = Option<(Weak<Node>, Arc<pipe::Store<Replica>>)>;

/// Answers for one run of the program.
pub struct Desk {
    link: Link,
    pipes: Mutex<Pipes>,
}

impl Desk {
    /// Of a run with this link to a part in a mesh, which may come yet.
    #[must_use]
    pub fn new(link: Link) -> Self {
        Self { link, pipes: Mutex::default() }
    }

    /// From now on this one answers what other hosts ask.
    pub fn attend(&self, respondent: Weak<dyn Respondent>) {
        if let Some(mesh) = self.link.mesh() {
            mesh.inquiries().attend(respondent);
        }
    }

    /// What happens on all hosts; `None` without a mesh.
    #[must_use]
    pub fn follow(&self, events: &Arc<Events>, last: usize, follow: bool) -> Option<Stream> {
        self.link.mesh().as_ref().map(|mesh| Stream::open(mesh, events, last, follow))
    }

    /// How the mesh stands, seen from here; null without one.
    #[must_use]
    pub fn status(&self) -> Value {
        self.link.mesh().as_ref().map_or(Value::Null, status)
    }

    /// How every peer is, by asking all of them; nobody without a mesh.
    pub async fn peers(&self) -> Value {
        match self.link.mesh() {
            Some(mesh) => peers::peers(&mesh).await,
            None => json!([]),
        }
    }

    /// What this host is in the mesh: its role, or nothing; whether it leads, and is followed; and the revision it has.
    #[must_use]
    pub fn place(&self) -> (&'static str, bool, u64) {
        let Some(mesh) = self.link.mesh() else { return ("", false, 0) };
        let revision = mesh.shared().revision().0;
        mesh.node().map_or(("", false, revision), |node| {
            let is_heard = status::age_ms(&node).is_some_and(|ms| ms <= QUORUM_MS);
            let leads = node.replica.leads().is_some() && is_heard;
            (if node.votes() { "master" } else { "learner" }, leads, revision)
        })
    }

    /// Answers a question.
    ///
    /// # Errors
    /// The asker has gone.
    pub async fn answer(&self, asked: Ask, mut talk: Conversation) -> io::Result<()> {
        let answer = match asked {
            Ask::Watch { start, after } => return keys::watch(self.shared(), self.node(), &start, after, talk).await,
            Ask::List { start, latest_ms, values } => {
                return keys::list(self.mesh(), self.node().ok(), &start, latest_ms, values, talk).await;
            }
            Ask::Lock { name, count, ttl_s, wait_ms } => {
                return match self.node() {
                    Ok(node) => keys::lock(&node, &name, count, ttl_s, Duration::from_millis(wait_ms), talk).await,
                    Err(failure) => talk.reply(Err(failure)).await,
                };
            }
            Ask::Pipe => return self.pipe(talk).await,
            other => self.one(other).await,
        };
        talk.reply(answer).await
    }

    async fn one(&self, asked: Ask) -> Result<Value, Failure> {
        match asked {
            Ask::Members => members::members(&self.mesh()?, self.node().ok()).await,
            Ask::Get { key, latest_ms } => keys::get(&self.mesh()?, self.node().ok(), &key, latest_ms).await,
            Ask::Put { key, value, lease_s, limit_ms } => {
                keys::put(&*self.node()?, &key, value, lease_s, Duration::from_millis(limit_ms)).await
            }
            Ask::Delete { key, all, limit_ms } => {
                keys::delete(&*self.node()?, &key, all, Duration::from_millis(limit_ms)).await
            }
            Ask::Leave { yes } => cluster::leave(&*self.node()?, yes).await,
            Ask::Remove { host } => cluster::remove(&*self.node()?, &host).await,
            Ask::Transfer { host } => cluster::transfer(&*self.node()?, host).await,
            Ask::Size { masters: Some(masters) } => cluster::resize(&*self.node()?, masters).await,
            Ask::Size { masters: None } => Ok(json!({"ideal": self.shared()?.read(mgmt_store::Keyspace::ideal_size)})),
            Ask::Allow { pattern, prefix } => cluster::allow(&*self.node()?, &pattern, &prefix, true).await,
            Ask::Disallow { pattern, prefix } => cluster::allow(&*self.node()?, &pattern, &prefix, false).await,
            Ask::Rules => Ok(cluster::rules(&*self.shared()?)),
            Ask::TokenCreate { role, ttl_s, uses, host, replace } => {
                tokens::create(&*self.node()?, &role, ttl_s, uses, host.as_deref(), replace).await
            }
            Ask::TokenList => Ok(tokens::list(&*self.shared()?)),
            Ask::TokenRevoke { id } => tokens::revoke(&*self.node()?, &id).await,
            Ask::Save { file } => cluster::save(self.node()?, file).await,
            Ask::Exports => Ok(exports::exports(&self.mesh()?).await),
            Ask::Forget { host } => exports::forget(&self.mesh()?, &*self.node()?, &host).await,
            Ask::RotateCa => cluster::rotate(&*self.node()?).await,
            Ask::Watch { .. } | Ask::List { .. } | Ask::Lock { .. } | Ask::Pipe => {
                Err(Failure::new(Exit::Bug, "this is answered in many lines"))
            }
        }
    }

    fn mesh(&self) -> Result<Mesh, Failure> {
        let none =
            "this host is in no mesh: start it with `mgmt run empty`, or with --seeds, or see `mgmt join --help`";
        self.link.mesh().ok_or_else(|| Failure::new(Exit::Unavailable, none))
    }

    fn shared(&self) -> Result<Arc<Shared>, Failure> {
        self.mesh().map(|mesh| mesh.shared().clone())
    }

    fn node(&self) -> Result<Arc<Node>, Failure> {
        let mesh = self.mesh()?;
        mesh.node().ok_or_else(|| match mesh.stage() {
            Stage::Coming(why) => Failure::new(Exit::TryAgain, format!("this host is on its way into the mesh: {why}")),
            Stage::Left => Failure::new(Exit::Unavailable, "this host has left the mesh"),
            Stage::Stopped(why) => Failure::new(Exit::Unavailable, format!("this host has no part in a mesh: {why}")),
            Stage::Outdated(why) => Failure::new(Exit::Outdated, why),
            // Between two lives.
            Stage::Member => Failure::new(Exit::TryAgain, "this host is on its way into the mesh"),
        })
    }

    async fn pipe(&self, mut talk: Conversation) -> io::Result<()> {
        let store = match self.node() {
            Ok(node) => self.store(&node),
            Err(failure) => return talk.reply(Err(failure)).await,
        };
        talk.reply(Ok(Value::Null)).await?;
        // Where the group runs: whatever is asked goes there, and going from thread to thread takes longer than serving.
        let runtime = self.link.mesh().map_or_else(Handle::current, |mesh| mesh.runtime().clone());
        let (ahead, stream) = talk.into_std()?;
        let mut serving = JoinSet::new();
        serving.spawn_on(
            async move {
                let (read, write) = UnixStream::from_std(stream)?.into_split();
                pipe::serve(&*store, ahead.chain(read), write).await
            },
            &runtime,
        );
        // Dropped with the question, it ends there.
        let served = serving.join_next().await.unwrap_or(Ok(Ok(())));
        served.map_err(io::Error::other)?
    }

    /// What pipes stand on in this life.
    fn store(&self, node: &Arc<Node>) -> Arc<pipe::Store<Replica>> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, store)) = &*pipes
            && std::ptr::eq(of.as_ptr(), Arc::as_ptr(node))
        {
            return store.clone();
        }
        let replica = node.replica.clone();
        let leader = Box::new(move || members::leader_place(&replica.standing()));
        let store = Arc::new(pipe::Store { client: node.client.widened(), shared: node.shared.clone(), leader });
        *pipes = Some((Arc::downgrade(node), store.clone()));
        store
    }
}
