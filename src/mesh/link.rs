//! A hold on this host's part in a mesh for whoever is there before it: resources, the exchange, semaphores.
//!
//! A run may begin without a part in a mesh, and come by one at a reload; and one life there follows the other. Whoever
//! has a [`Link`] waits for the next life, and does not know how it comes about.

use std::sync::Arc;

use mgmt_resources::Host;
use tokio::sync::watch;

use super::node::Node;
use super::{Mesh, Stage};

/// A hold on the mesh that may come later. Clones are the same.
#[derive(Clone)]
pub struct Link(Arc<watch::Sender<Hope>>);

/// What there is to hope for.
#[derive(Clone, Default)]
enum Hope {
    /// Nobody has said anything yet.
    #[default]
    Open,
    /// There is none, unless that is said anew.
    None,
    /// There it is.
    Mesh(Mesh),
}

/// There will be no life in a mesh, as far as one knows; in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Without(pub String);

impl Without {
    fn never() -> Self {
        Self("this run has no part in a mesh".to_owned())
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Link")
    }
}

impl Link {
    /// One of which nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Hope::Open)))
    }

    /// The one of this process; a fresh one, of which nothing will ever be known, where a host was made without.
    #[must_use]
    pub fn of(host: &Host) -> Self {
        host.lent.get::<Self>().cloned().unwrap_or_default()
    }

    /// Says that this is the part that this host has; `None`: that it has none for now.
    pub fn set(&self, mesh: Option<&Mesh>) {
        self.0.send_replace(mesh.map_or(Hope::None, |mesh| Hope::Mesh(mesh.clone())));
    }

    /// The part that this host has, if any.
    #[must_use]
    pub fn mesh(&self) -> Option<Mesh> {
        if let Hope::Mesh(mesh) = &*self.0.borrow() { Some(mesh.clone()) } else { None }
    }

    /// The present life, if there is one.
    #[must_use]
    pub fn node(&self) -> Option<Arc<Node>> {
        self.mesh()?.node()
    }

    /// The present life; `None` if it is on its way, or may come.
    ///
    /// # Errors
    /// None is on its way.
    pub fn now(&self) -> Result<Option<Arc<Node>>, Without> {
        match &*self.0.borrow() {
            Hope::Open => Ok(None),
            Hope::None => Err(Without::never()),
            Hope::Mesh(mesh) => present(mesh, &mesh.stage()),
        }
    }

    /// Waits until another part than the present one is set. Cancel safe.
    pub async fn changed(&self) {
        // The sender lives as long as this.
        drop(self.0.subscribe().changed().await);
    }

    /// Waits for a life other than `than`. Cancel safe.
    ///
    /// # Errors
    /// None is on its way.
    pub async fn life(&self, than: Option<&Arc<Node>>) -> Result<Arc<Node>, Without> {
        let mut hope = self.0.subscribe();
        loop {
            let now = hope.borrow_and_update().clone();
            match now {
                Hope::Mesh(mesh) => tokio::select! {
                    biased;
                    next = next(&mesh, than) => return next,
                    _ = hope.changed() => {}
                },
                Hope::None => return Err(Without::never()),
                // The sender lives as long as this.
                Hope::Open => drop(hope.changed().await),
            }
        }
    }

    /// Waits for a life other than `than`, also while none is on its way. Cancel safe.
    pub async fn some_life(&self, than: Option<&Arc<Node>>) -> Arc<Node> {
        // From before it is asked for: what is set meanwhile is not missed.
        let mut hope = self.0.subscribe();
        loop {
            match self.life(than).await {
                Ok(node) => return node,
                // The sender lives as long as this.
                Err(_) => drop(hope.changed().await),
            }
        }
    }
}

/// The life of a mesh that stands so, if there is one.
fn present(mesh: &Mesh, stage: &Stage) -> Result<Option<Arc<Node>>, Without> {
    match (mesh.node(), stage) {
        (Some(node), _) => Ok(Some(node)),
        (None, Stage::Coming(_) | Stage::Member) => Ok(None),
        (None, Stage::Left) => Err(Without("this host has left the mesh".to_owned())),
        (None, Stage::Stopped(why) | Stage::Outdated(why)) => Err(Without(why.clone())),
    }
}

/// The next life of a mesh other than `than`.
async fn next(mesh: &Mesh, than: Option<&Arc<Node>>) -> Result<Arc<Node>, Without> {
    let mut stages = mesh.stages();
    loop {
        // Seen before looking: what comes after it wakes this.
        let stage = stages.borrow_and_update().clone();
        if let Some(node) = present(mesh, &stage)?.filter(|node| than.is_none_or(|than| !Arc::ptr_eq(node, than))) {
            return Ok(node);
        }
        // The sender lives as long as the mesh.
        drop(stages.changed().await);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn what_is_not_decided_is_waited_for_and_what_is_not_there_is_said() {
        let link = Link::new();
        let mut life = pin!(link.life(None));
        let mut some = pin!(link.some_life(None));
        let mut context = Context::from_waker(Waker::noop());
        assert!(life.as_mut().poll(&mut context).is_pending(), "nobody has said anything");
        link.set(None);
        let Poll::Ready(Err(without)) = life.as_mut().poll(&mut context) else { panic!("there is none") };
        assert_eq!(without.to_string(), "this run has no part in a mesh");
        assert!(some.as_mut().poll(&mut context).is_pending(), "a reload may bring one");
        assert!(link.mesh().is_none() && link.node().is_none());
    }
}
