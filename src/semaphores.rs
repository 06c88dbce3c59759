//! Semaphores that all hosts of the mesh share, for the engine: `meta.sema` with ids that begin with `cluster/`.
//!
//! One is a lock of the store, by the name behind `cluster/`: `mgmt lock` takes the same ones. All that a vertex wants is
//! taken with one lease, which lives for as long as this host renews it; a host that dies loses it after `TTL_S` seconds. While
//! there is no mesh or no quorum, whoever wants one waits. Each time costs the log an entry for the lease, one for each
//! semaphore, and one to give them back.
//!
//! Promises: what is given is given back when it is dropped, also at the end of the program, which waits for that; and that
//! it may have been lost is said before anybody else can have it, as far as the clocks of two hosts run alike.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mgmt_engine::grants::{Grant, Grants};
use mgmt_engine::resource::{Boxed, Fault};
use mgmt_engine::runner::Engine;
use mgmt_engine::{Id, Semaphore};
use mgmt_store::outcome::{Clash, Refusal};
use mgmt_store::replicated::{Held, LockError};
use mgmt_store::{CallError, Key};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::mesh::answers::refusals::{self, Asked};
use crate::mesh::errands::Errand;
use crate::mesh::link::Link;
use crate::mesh::node::{Node, Replica};

/// How long a lease lives without its host: a change of leaders takes no more than three seconds, and then there are two
/// more renewals before it ends.
const TTL_S: u32 = 10;
/// How long one place in the queue is kept; then it is asked anew.
const QUEUE: Duration = Duration::from_secs(24 * 3600);
/// Before it is asked again, where the store has refused to queue it, or a lease has ended while it waited.
const PAUSE: Duration = Duration::from_secs(1);

/// Gives an engine those of the mesh that the link leads to.
pub fn serve(engine: &Engine, link: Link, runtime: Handle) {
    engine.share(Box::new(Semaphores { link, runtime }));
}

struct Semaphores {
    link: Link,
    runtime: Handle,
}

/// What was given.
struct Given {
    fence: u64,
    lost: oneshot::Receiver<Fault>,
    /// Whoever keeps it sees that this is gone.
    _held: oneshot::Sender<()>,
}

impl Grant for Given {
    fn fence(&self) -> u64 {
        self.fence
    }

    fn lost(&mut self) -> Pin<Box<dyn Future<Output = Fault> + Send + '_>> {
        Box::pin(async { (&mut self.lost).await.unwrap_or_else(|_| Fault::new("what kept its semaphores has ended")) })
    }
}

impl Grants for Semaphores {
    fn acquire(&self, who: &Id, wanted: Vec<Semaphore>) -> Boxed<Result<Box<dyn Grant>, Fault>> {
        let (give, given) = oneshot::channel();
        let keeper = Keeper { link: self.link.clone(), who: who.clone(), wanted };
        self.runtime.spawn(keeper.keep(give));
        Box::pin(async { given.await.unwrap_or_else(|_| Err(Fault::new("what asks for semaphores has ended"))) })
    }
}

/// Asks for one vertex, and keeps what it is given.
struct Keeper {
    link: Link,
    who: Id,
    wanted: Vec<Semaphore>,
}

/// To whom it is given; gone when it is wanted no more.
type Give = oneshot::Sender<Result<Box<dyn Grant>, Fault>>;

impl Keeper {
    async fn keep(self, mut give: Give) {
        match self.take(&mut give).await {
            Ok(Some((held, _errand))) => self.hold(held, give).await,
            // Nobody may wait for it any more.
            Ok(None) => {}
            Err(fault) => drop(give.send(Err(fault))),
        }
    }

    /// Goes on until all of them are held; `None`: they are wanted no more.
    async fn take(&self, give: &mut Give) -> Result<Option<(Held<Replica>, Option<Errand>)>, Fault> {
        let locks: Vec<_> = self.wanted.iter().filter_map(|sema| Some((sema.of_mesh()?, sema.count.get()))).collect();
        let mut over: Option<Arc<Node>> = None;
        loop {
            let node = tokio::select! {
                biased;
                () = give.closed() => return Ok(None),
                life = self.link.life(over.as_ref()) => life.map_err(|without| {
                    Fault::new(format!("{without}, and {} is shared by its hosts", self.named()))
                })?,
            };
            let errand = self.link.mesh().map(|mesh| mesh.errands().one());
            match node.client.lock_all(&locks, TTL_S, QUEUE, give.closed()).await {
                Ok(held) => return Ok(Some((held, errand))),
                Err(LockError::GivenUp) => return Ok(None),
                Err(LockError::Held) => continue,
                Err(LockError::Call(CallError::Stopped)) => {
                    over = Some(node);
                    continue;
                }
                Err(LockError::Name(error)) => return Err(Fault::new(error.to_string())),
                Err(LockError::Call(error)) if !passes(error) => return Err(self.refused(&node, error)),
                Err(error) => tracing::debug!("{}: {}: {error}; it is asked again", self.who, self.named()),
            }
            drop(errand);
            tokio::select! {
                biased;
                () = give.closed() => return Ok(None),
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Keeps them until they are given back, or lost.
    async fn hold(&self, mut held: Held<Replica>, give: Give) {
        let (say, lost) = oneshot::channel();
        let (hold, mut released) = oneshot::channel();
        let given: Box<dyn Grant> = Box::new(Given { fence: held.fence().0, lost, _held: hold });
        // If nobody waits any more, it is dropped here, and that is seen below.
        drop(give.send(Ok(given)));
        if let Err(lost) = held.during(&mut released).await {
            let why = format!("{} may be held by others by now: {lost}", self.named());
            tracing::error!("{}: {why}", self.who);
            // Whoever held them may be done.
            drop(say.send(Fault::new(why)));
        }
        if let Err(error) = held.release().await {
            tracing::info!("{}: {} was not given back, and ends by itself: {error}", self.who, self.named());
        }
    }

    fn named(&self) -> String {
        let named: Vec<_> = self.wanted.iter().map(|sema| sema.id.as_str()).collect();
        named.join(", ")
    }

    fn refused(&self, node: &Node, error: CallError) -> Fault {
        if error == CallError::Refused(Refusal::Conflict(Clash::LockCount))
            && let Some(fault) = self.other_count(node)
        {
            return fault;
        }
        let asked = Asked { host: node.setup.host.as_str(), role: node.role, key: None };
        Fault::new(format!("{}: {}", self.named(), refusals::failure(error, asked).message))
    }

    /// Who holds one of them with another count.
    fn other_count(&self, node: &Node) -> Option<Fault> {
        self.wanted.iter().find_map(|sema| {
            let key = Key::lock(sema.of_mesh()?).ok()?;
            let lock = node.shared.read(|keyspace| keyspace.lock(&key))?;
            let holder = lock.holders.first().filter(|_| lock.count != sema.count.get())?;
            Some(Fault::new(format!(
                "{} has the count {} here, and {} for {}, which holds it: a semaphore has one count on all hosts",
                sema.id, sema.count, lock.count, holder.host
            )))
        })
    }
}

/// Whether it may be given later without anything else being done.
fn passes(error: CallError) -> bool {
    error.is_transient() || matches!(error, CallError::Refused(Refusal::QuotaExceeded(_)))
}
