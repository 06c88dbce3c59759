//! Follows a key over all lives of this host in the mesh, and comes back to what could not be written.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use mgmt_engine::resource::{Fault, Signal};
use mgmt_store::replicated::Read;
use mgmt_store::watch::Filter;
use mgmt_store::{CallError, Key, Refusal, Revision, Watch};
use tokio::sync::watch;

use super::Place;
use crate::mesh::link::Link;
use crate::mesh::node::Node;

/// How long one question goes on whether there is a quorum again. It is asked again at once: the store pauses between
/// its tries.
const QUESTION: Duration = Duration::from_secs(10);
/// Before another place for a watch is asked for, where there are too many.
const PAUSE: Duration = Duration::from_secs(1);

/// Why the last write did not come about, if it did not.
#[derive(Debug)]
pub(super) struct Hindrance(watch::Sender<Option<Obstacle>>);

/// What has to go away first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// Nobody takes writes.
    NoQuorum,
    /// No rule allows it, of those there were at this revision.
    NoRule(Revision),
}

impl Default for Hindrance {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Hindrance {
    /// A write has met this, or nothing that goes away by itself.
    pub(super) fn met(&self, obstacle: Option<Obstacle>) {
        self.0.send_replace(obstacle);
    }
}

impl Obstacle {
    /// What stands behind an error, if that is something that goes away; `before` is from before it was asked.
    pub(super) fn of(error: CallError, before: Revision) -> Option<Self> {
        match error {
            CallError::Refused(Refusal::NotAllowed(_)) => Some(Self::NoRule(before)),
            error if error.is_transient() => Some(Self::NoQuorum),
            _ => None,
        }
    }
}

/// Raises the signal whenever the key may be another, whenever this host has come into the mesh anew or will not come
/// there, and when a write that did not come about may come about now.
pub(super) async fn follow(link: Link, hindrance: Arc<Hindrance>, place: Place, signal: Signal) -> Result<(), Fault> {
    let mut node = next_life(&link, None, &signal).await;
    loop {
        let key = place.key(&node)?;
        let next = tokio::select! {
            biased;
            next = next_life(&link, Some(&node), &signal) => next,
            never = attend(&node, &key, &hindrance, &signal) => match never {},
        };
        node = next;
    }
}

/// The next life. That none is on its way is something to look at as well.
async fn next_life(link: &Link, than: Option<&Arc<Node>>, signal: &Signal) -> Arc<Node> {
    if let Ok(node) = link.life(than).await {
        return node;
    }
    signal.raise();
    link.some_life(than).await
}

/// Follows the key in one life.
async fn attend(node: &Node, key: &Key, hindrance: &Hindrance, signal: &Signal) -> Infallible {
    let mut watch = open(node, key).await;
    // What came before is found by this look, and what comes after by the watch.
    signal.raise();
    let mut obstacle = hindrance.0.subscribe();
    loop {
        let met = *obstacle.borrow_and_update();
        tokio::select! {
            biased;
            batch = watch.next() => match batch {
                Ok(batch) if batch.events.is_empty() => {}
                Ok(_) => signal.raise(),
                Err(_) => {
                    watch = open(node, key).await;
                    signal.raise();
                }
            },
            // Whoever could change it lives as long as this.
            _ = obstacle.changed() => {}
            () = gone(node, met) => {
                hindrance.met(None);
                signal.raise();
            }
        }
    }
}

async fn open(node: &Node, key: &Key) -> Watch {
    loop {
        match node.watches.open(Filter::Key(key.as_str().to_owned()), node.shared.revision()) {
            Ok(watch) => return watch,
            Err(error) => {
                tracing::warn!("kv: {} is not followed yet: {error}", key.as_str());
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Waits until what was met has gone; for ever, if nothing was.
async fn gone(node: &Node, met: Option<Obstacle>) {
    match met {
        None => std::future::pending().await,
        Some(Obstacle::NoQuorum) => loop {
            match node.client.read(Read::Latest(QUESTION), |_| ()).await {
                Ok(_) => return,
                // This life is over: the next one looks anew.
                Err(CallError::Stopped) => std::future::pending().await,
                Err(_) => {}
            }
        },
        Some(Obstacle::NoRule(before)) => {
            let Ok(mut rules) = node.watches.open(Filter::Prefix(Key::RULES.to_owned()), before) else {
                return std::future::pending().await;
            };
            // Where history is gone, there may have been one.
            while rules.next().await.is_ok_and(|batch| batch.events.is_empty()) {}
        }
    }
}
