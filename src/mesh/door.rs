//! This host's door to strangers: goes to theirs, and lets the porter answer who comes to its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mgmt_consensus::quic::{Endpoint, Errand, Pin, Visit, Visits};
use mgmt_consensus::{ClusterId, PeerId};
use tokio::task::JoinSet;

use super::bootstrap::{self, Founders, Heard, Network, Say, Visitor, Visitors};
use super::joining::Knock;
use super::messages::HexId;
use super::messages::found::{self, Mesh as FoundMesh};
use super::messages::join::{Kind, Reply};
use super::node::Replica;
use super::place::{Part, Place};
use super::porter::{Lodge, Porter};
use super::registrar;
use super::surroundings::unix_ms;

/// Visitors that are answered at once.
const VISITORS_MAX: usize = 64;

impl Knock for Endpoint {
    async fn knock(
        &self,
        to: SocketAddr,
        authority: [u8; 32],
        say: impl FnOnce(&[u8; 32]) -> Bytes + Send,
        limit: Duration,
    ) -> Result<Bytes, String> {
        let visited = self.visit(to, Errand::Join, Pin::Authority(authority), say, limit).await;
        visited.map(|visited| visited.answer).map_err(|error| error.to_string())
    }
}

/// What the porter is told of the world.
pub struct World(pub Replica);

impl Lodge for World {
    fn unix_ms(&self) -> u64 {
        unix_ms()
    }

    fn masters(&self) -> Vec<PeerId> {
        let standing = self.0.standing();
        let voters = standing.voters();
        standing
            .members()
            .filter(|(id, _)| voters.iter().any(|set| set.contains(id)))
            .map(|(_, member)| member.peer)
            .collect()
    }
}

impl Network for Endpoint {
    async fn visit(&self, at: SocketAddr, say: Say, limit: Duration) -> Heard {
        let visited = Endpoint::visit(self, at, Errand::Found, Pin::Anybody, say, limit).await;
        visited.map(|visited| (visited.answer, visited.exporter)).map_err(|error| error.to_string())
    }
}

/// Those who come to a host that is no member yet.
impl Visitors for Visits {
    async fn next(&mut self) -> Option<Visitor> {
        loop {
            let visit = Visits::next(self).await?;
            if visit.errand == Errand::Found {
                let (from, exporter, message) = (visit.from, visit.exporter, visit.message.clone());
                return Some(Visitor { from, exporter, message, answer: Box::new(|answer| visit.answer(answer)) });
            }
            let early = Reply::refused(Kind::TryAgain, "this host is no member yet: it is founding a mesh".to_owned());
            match early.write() {
                Ok(answer) => visit.answer(answer),
                Err(error) => tracing::error!(%error, "a visitor gets no answer"),
            }
        }
    }
}

/// What a member says to those who found together with it.
pub struct Founded {
    /// What they were all given.
    pub founders: Founders,
    /// Which mesh it is.
    pub cluster: ClusterId,
    /// Where the token lies that lets them in.
    pub place: Place,
    /// Where it listens.
    pub listen: SocketAddr,
}

impl Founded {
    /// The mesh, as they are told.
    pub fn mesh(&self) -> FoundMesh {
        // Without the token they ask somebody else, or again.
        let token = self.place.load(Part::HouseToken).ok().flatten().map(|token| token.trim().to_owned());
        FoundMesh { cluster: HexId(self.cluster.0), token, addresses: registrar::reachable(self.listen, &[]) }
    }
}

/// Has visitors answered, for as long as it is polled.
pub async fn serve(mut visits: Visits, porter: Arc<Porter<Replica>>, founded: Option<Arc<Founded>>) {
    let mut present = JoinSet::new();
    loop {
        let visit = tokio::select! {
            biased;
            _ = present.join_next(), if !present.is_empty() => continue,
            visit = Visits::next(&mut visits), if present.len() < VISITORS_MAX => visit,
        };
        let Some(visit) = visit else { return };
        let (porter, founded) = (porter.clone(), founded.clone());
        present.spawn(async move { attend(visit, &porter, founded.as_deref()).await });
    }
}

async fn attend(visit: Visit, porter: &Porter<Replica>, founded: Option<&Founded>) {
    let answer = match visit.errand {
        Errand::Join => porter.answer(visit.from, &visit.exporter, &visit.message).await,
        Errand::Found => match founded {
            Some(it) => {
                bootstrap::by_member(&it.founders.secret, visit.from, &visit.exporter, &visit.message, it.mesh())
            }
            // It was given no secret, so it cannot tell a friend from anybody.
            None => found::stranger(),
        },
    };
    visit.answer(answer);
}
