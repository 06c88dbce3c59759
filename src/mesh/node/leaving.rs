//! How a life ends for good: by leaving, and by the end of a run that was only a guest, or all there was.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mgmt_consensus::authority::token::Token;
use mgmt_store::{Body, Role};

use super::{HANDOVER, LEAVE, LOOK, Node};
use crate::mesh::inquiry::{Asked, ask_all};
use crate::mesh::messages::inquiry::Inquiry;
use crate::mesh::place::Part;
use crate::mesh::surroundings::{Telling, Told};

/// How long others may take to be told that a run ends: a round trip, and some more.
const FAREWELL: Duration = Duration::from_millis(300);
/// Keys that people and programs write.
const KEYS: &str = "k/";

/// Why a host has not left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaveError {
    /// The mesh would end with it.
    #[error(
        "{0} is the last host of this mesh, which ends when it leaves, with all that it holds: say --yes if that is \
         meant, and mgmt snapshot save before that to keep it"
    )]
    Last(String),
    /// Nobody could administer what stays.
    #[error(
        "{0} is the only admin of this mesh, and others stay: make one of them an admin first, which joins again with a \
         token of mgmt token create --role admin --replace --host NAME"
    )]
    OnlyAdmin(String),
    /// Not now, or not at all; in words.
    #[error("{0}")]
    No(String),
}

impl Node {
    /// Whether it has left for good.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// Leaves for good: is made no master first, then taken out of the registry, and so out of the group. The last one
    /// has nobody to ask; it leaves if that is meant, and the mesh is no more.
    ///
    /// # Errors
    /// Why it may not, or has not.
    pub async fn leave(&self, even_last: bool) -> Result<(), LeaveError> {
        let host = self.identity.host.clone();
        if self.is_last() {
            if !even_last {
                return Err(LeaveError::Last(host));
            }
            tracing::warn!("mesh: {host} is the last host of cluster {}, which ends", self.identity.cluster);
            self.left.store(true, Ordering::Relaxed);
            return Ok(());
        }
        if self.is_only_admin() {
            return Err(LeaveError::OnlyAdmin(host));
        }
        let asked = self.tell(&Telling::MayLeave { host }).await;
        if let Told::No(why) = asked {
            return Err(LeaveError::No(why));
        }
        self.draining.store(true, Ordering::Relaxed);
        let left = tokio::time::timeout(LEAVE, async {
            while self.votes() {
                self.tell_health(false).await;
                tokio::time::sleep(LOOK * 10).await;
            }
            self.unregister(LEAVE).await
        });
        match left.await {
            Ok(Ok(())) => {
                self.left.store(true, Ordering::Relaxed);
                Ok(())
            }
            Ok(Err(why)) => Err(LeaveError::No(why)),
            Err(_) => {
                let seconds = LEAVE.as_secs();
                let why = format!("it is still a master after {seconds} seconds: see the masters in mgmt status");
                Err(LeaveError::No(why))
            }
        }
        .inspect_err(|_| self.draining.store(false, Ordering::Relaxed))
    }

    async fn unregister(&self, limit: Duration) -> Result<(), String> {
        let remove = Body::PeerRemove { host: self.setup.host.clone() };
        self.client.call(remove, limit).await.map(drop).map_err(|error| error.to_string())
    }

    /// Whether there is nobody else: in the registry, or in the group, whatever the registry says of those who have long
    /// been away.
    fn is_last(&self) -> bool {
        let me = self.identity.peer;
        let alone = self.shared.read(|keyspace| keyspace.peers().all(|(_, peer)| peer.peer == me));
        alone || self.replica.standing().members().count() == 1
    }

    fn is_only_admin(&self) -> bool {
        let me = self.identity.peer;
        self.shared.read(|keyspace| {
            let mut admins = keyspace.peers().filter(|(_, peer)| peer.role == Role::Admin).map(|(_, peer)| peer.peer);
            admins.next() == Some(me) && admins.next().is_none()
        })
    }

    /// A run with an end tells everybody that it ends now: whoever waits for the whole mesh waits for it no more, also if
    /// nobody is left who could say that it is down.
    pub(super) async fn farewell(&self) {
        self.setup.inquiries.end();
        let on = tokio::runtime::Handle::current();
        let told = ask_all(&on, &self.replica, &Inquiry::Farewell {}, FAREWELL).await;
        for Asked { member, answer, .. } in told.into_iter().filter(|told| told.id != self.replica.id()) {
            if let Err(error) = answer {
                tracing::debug!(%error, host = member.host, "mesh: it was not told that this run ends");
            }
        }
    }

    /// A run with an end gives back what it was given: its place in the registry if it has come by this very run, and
    /// its id in any case. One that has founded a mesh and is all there is of it takes it along.
    pub(super) async fn give_back(&self) {
        if self.votes() {
            if self.was_all_there_is() {
                tracing::info!("mesh: nobody else has come to the mesh that this run has founded: it ends with it");
                self.left.store(true, Ordering::Relaxed);
            }
            return;
        }
        if self.guest.load(Ordering::Relaxed) {
            match self.unregister(HANDOVER).await {
                Ok(()) => return self.left.store(true, Ordering::Relaxed),
                Err(error) => tracing::info!(%error, "mesh: this run stays in the registry"),
            }
        }
        self.tell_health(true).await;
    }

    /// Whether this run, which has an end, has founded a mesh that is of no use without it: nobody has come, nobody was
    /// invited but those of this house, who see that it is gone, and nobody has written a key that should stay.
    fn was_all_there_is(&self) -> bool {
        if !self.founder.load(Ordering::Relaxed) || self.setup.founders.is_some() {
            return false;
        }
        let house = self.setup.place.load(Part::HouseToken).ok().flatten();
        let house = house.and_then(|text| text.trim().parse::<Token>().ok()).map(|token| token.id);
        let others = self.shared.read(|keyspace| {
            keyspace.peers().any(|(_, peer)| peer.peer != self.identity.peer)
                || keyspace.tokens().any(|(id, _)| house.as_deref() != Some(id))
                || keyspace.prefix(KEYS).next().is_some()
        });
        !others && self.replica.standing().members().count() == 1
    }
}
