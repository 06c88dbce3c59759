//! How hosts that all start empty found exactly one mesh.
//!
//! What is decided is in `promise`; this carries it out: asks, answers, and writes what was promised before it is given.
//! Members go on answering with the mesh they are in, and greet the seeds they were started with, one of which may have
//! been away and know nobody. Must not know how a mesh is founded or joined.

mod ledger;
mod promise;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use mgmt_consensus::authority::proof::{Secret, Side};
use mgmt_engine::Clock;
use tokio::task::JoinSet;

use super::messages::found::{self, Answer, Ask, Mesh, SealError, What, Who};
use super::place::Place;
use super::seeds::{Resolver, Seed};
use promise::{Action, Event, Promise};

pub use ledger::{Ledger, forget, promised};
pub use promise::Settled;

/// How long one question may take; it is asked again.
const ASK: Duration = Duration::from_secs(1);
/// How finely time passes for the decision.
const TICK: Duration = Duration::from_millis(50);
/// Between two look-ups of names that were not found.
const RESOLVE: Duration = Duration::from_secs(5);
/// Questions of others that wait for an answer.
const WAITING_MAX: usize = 64;
/// Between two greetings: at first, and in the end.
const GREET_MIN: Duration = Duration::from_secs(1);
const GREET_MAX: Duration = Duration::from_secs(30);

/// What only the two ends of a connection know.
pub type Exporter = [u8; 32];
/// What is said on a connection.
pub type Say = Box<dyn FnOnce(&Exporter) -> Bytes + Send>;
/// What was heard on one, or why nothing was.
pub type Heard = Result<(Bytes, Exporter), String>;

/// What the hosts that found together were all given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founders {
    /// Where they are.
    pub seeds: Vec<Seed>,
    /// How many they are.
    pub expect: u16,
    /// What they know.
    pub secret: Secret,
}

/// The way to the others.
pub trait Network: Clone + Send + Sync + 'static {
    /// Says one thing at an address, which may depend on the connection, and hears one.
    fn visit(&self, at: SocketAddr, say: Say, limit: Duration) -> impl Future<Output = Heard> + Send;
}

/// Somebody who says one thing and waits for one.
pub struct Visitor {
    /// From where.
    pub from: SocketAddr,
    /// Of this connection.
    pub exporter: Exporter,
    /// What he says.
    pub message: Bytes,
    /// Tells him.
    pub answer: Box<dyn FnOnce(Bytes) + Send>,
}

/// Those who come to this host.
pub trait Visitors: Send {
    /// The next one; none once there is no network. Cancel safe.
    fn next(&mut self) -> impl Future<Output = Option<Visitor>> + Send;
}

/// A host on its way to a mesh that it founds together with others.
pub struct Bootstrap<'a, N, V> {
    /// Its name.
    pub host: &'a str,
    /// What it was given.
    pub founders: &'a Founders,
    /// What it has promised.
    pub ledger: Ledger,
    /// The way to the others.
    pub network: N,
    /// Those who come.
    pub visitors: &'a mut V,
    /// Looks names up.
    pub resolver: Resolver,
    /// Time.
    pub clock: Clock,
}

/// A question that somebody else waits on.
struct Waiting {
    exporter: Exporter,
    answer: Box<dyn FnOnce(Bytes) + Send>,
}

type Asked = (SocketAddr, Result<Answer, SealError>);

impl<N: Network, V: Visitors> Bootstrap<'_, N, V> {
    /// Returns once it is decided, and says how it stands whenever that changes. Dropped, it takes part no longer; what it
    /// has promised stays promised.
    ///
    /// # Errors
    /// The disk, or there is no network any more.
    pub async fn settle(mut self, mut say: impl FnMut(&str)) -> io::Result<Settled> {
        let mut resolved = self.resolver.resolve(&self.founders.seeds).await;
        resolved.missing.iter().for_each(|missing| tracing::warn!("mesh: {missing}"));
        let (me, promised) = (self.ledger.me(self.host), self.ledger.promised());
        let (expect, file) = (self.founders.expect, self.ledger.file());
        let mut promise = Promise::new(me, expect, promised, &resolved.addresses, file, self.clock.now());
        let mut asked = JoinSet::<Asked>::new();
        let mut waiting = BTreeMap::<u64, Waiting>::new();
        let (mut ticket, mut again) = (0, self.clock.now().after(RESOLVE));
        let mut tick = tokio::time::interval(TICK);
        let mut event = Event::Tick;
        loop {
            let mut actions = Vec::new();
            promise.step(event, self.clock.now(), &mut actions);
            event = Event::Tick;
            for action in actions {
                match action {
                    Action::Say(what) => say(&what),
                    Action::Ask { at, ask } => {
                        asked.spawn(visit(self.network.clone(), self.founders.secret.clone(), at, ask));
                    }
                    Action::Answer { ticket, answer } => {
                        if let Some(visitor) = waiting.remove(&ticket) {
                            (visitor.answer)(self.seal(&visitor.exporter, &answer));
                        }
                    }
                    Action::Write(whom) => {
                        self.ledger.write(whom).await?;
                        event = Event::Written;
                    }
                    Action::Settle(settled) => return Ok(settled),
                }
            }
            if matches!(event, Event::Written) {
                continue;
            }
            event = tokio::select! {
                biased;
                Some(answer) = asked.join_next(), if !asked.is_empty() => match answer {
                    Ok((at, answer)) => heard(at, answer),
                    Err(error) => return Err(io::Error::other(error)),
                },
                visitor = self.visitors.next() => {
                    let visitor = visitor.ok_or_else(|| io::Error::other("the network has gone"))?;
                    ticket += 1;
                    // The oldest has waited longest, and for what will not come any more.
                    while waiting.len() >= WAITING_MAX {
                        waiting.pop_first();
                    }
                    self.open(visitor, ticket, &mut waiting)
                }
                _ = tick.tick() => Event::Tick,
            };
            if !resolved.missing.is_empty() && self.clock.now() >= again {
                resolved = self.resolver.resolve(&self.founders.seeds).await;
                again = self.clock.now().after(RESOLVE);
                promise.places(&resolved.addresses, self.clock.now());
            }
        }
    }

    /// Reads what a visitor says, and lets him wait for the answer.
    fn open(&self, visitor: Visitor, ticket: u64, waiting: &mut BTreeMap<u64, Waiting>) -> Event {
        let Visitor { from, exporter, message, answer } = visitor;
        match found::asked(&self.founders.secret, &exporter, &message) {
            Ok(ask) => {
                waiting.insert(ticket, Waiting { exporter, answer });
                Event::Asked { from, ask, ticket }
            }
            Err(SealError::Stranger) => {
                answer(found::stranger());
                Event::Stranger { at: from }
            }
            Err(error) => {
                tracing::debug!(%from, %error, "mesh: a visitor is not understood");
                Event::Tick
            }
        }
    }

    fn seal(&self, exporter: &Exporter, answer: &Answer) -> Bytes {
        seal(&self.founders.secret, exporter, answer)
    }
}

fn seal(secret: &Secret, exporter: &Exporter, answer: &Answer) -> Bytes {
    found::seal(secret, Side::Answers, exporter, answer).unwrap_or_else(|error| {
        tracing::error!(%error, "mesh: a visitor gets no answer");
        Bytes::new()
    })
}

/// Asks one thing at one place.
async fn visit<N: Network>(network: N, secret: Secret, at: SocketAddr, ask: Ask) -> Asked {
    let sealing = secret.clone();
    let say = move |exporter: &Exporter| found::seal(&sealing, Side::Asks, exporter, &ask).unwrap_or_default();
    let heard = match network.visit(at, Box::new(say), ASK).await {
        Ok((answer, exporter)) => found::answered(&secret, &exporter, &answer),
        Err(error) => {
            tracing::debug!(%at, error, "mesh: not reached");
            Err(SealError::Nonsense("not reached"))
        }
    };
    (at, heard)
}

fn heard(at: SocketAddr, answer: Result<Answer, SealError>) -> Event {
    match answer {
        Ok(answer) => Event::Answered { at, answer },
        Err(SealError::Stranger) => Event::Stranger { at },
        Err(error) => {
            tracing::debug!(%at, %error, "mesh: no answer");
            Event::Silent { at }
        }
    }
}

/// What a member answers to who founds together with others, or to a member who greets.
#[must_use]
pub fn by_member(secret: &Secret, from: SocketAddr, exporter: &Exporter, message: &[u8], mesh: Mesh) -> Bytes {
    match found::asked(secret, exporter, message) {
        Ok(ask) => {
            if let What::Come(other) = &ask.what {
                one_mesh(&mesh, other, from, &mut BTreeSet::new());
            }
            seal(secret, exporter, &Answer::Member(mesh))
        }
        Err(SealError::Stranger) => found::stranger(),
        Err(error) => seal(secret, exporter, &Answer::Refused { why: error.to_string() }),
    }
}

/// Greets the seeds, for as long as it is polled. `mesh` is what to say of this member's mesh now.
pub async fn greet<N: Network>(network: N, founders: Founders, me: Who, listen: SocketAddr, mesh: impl Fn() -> Mesh) {
    let (mut pause, mut said) = (GREET_MIN, BTreeSet::new());
    let resolver = Resolver::new();
    loop {
        let mut asked = JoinSet::new();
        for at in resolver.resolve(&founders.seeds).await.addresses.into_iter().filter(|at| *at != listen) {
            let what = What::Come(mesh());
            let ask = Ask { from: me.clone(), expect: founders.expect, what, seen: Vec::new() };
            asked.spawn(visit(network.clone(), founders.secret.clone(), at, ask));
        }
        while let Some(answer) = asked.join_next().await {
            if let Ok((at, Ok(Answer::Member(other)))) = answer {
                one_mesh(&mesh(), &other, at, &mut said);
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(GREET_MAX);
    }
}

/// Two clusters never merge; that there are two of them under one secret is a fault, and is said.
fn one_mesh(own: &Mesh, other: &Mesh, at: SocketAddr, said: &mut BTreeSet<SocketAddr>) {
    if own.cluster != other.cluster && said.insert(at) {
        tracing::error!(
            "mesh: {at} was given the same secret and is in another cluster ({}) than this host ({}): they never merge; \
             let the hosts of one of them leave and join the other",
            mgmt_consensus::ClusterId(other.cluster.0),
            mgmt_consensus::ClusterId(own.cluster.0)
        );
    }
}

impl Ledger {
    /// What this host has promised before, or nothing yet.
    ///
    /// # Errors
    /// The disk, or what lies there cannot be read: it may be a promise.
    pub async fn open(place: &Place, secret: &Secret) -> io::Result<Self> {
        let (place, mark) = (place.clone(), secret.mark());
        tokio::task::spawn_blocking(move || Self::load(place, mark)).await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests;
