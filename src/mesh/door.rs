//! This host's door to strangers: goes to theirs, and lets the porter answer who comes to its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mgmt_consensus::PeerId;
use mgmt_consensus::quic::{Endpoint, Errand, Pin, Visit, Visits};
use tokio::task::JoinSet;

use super::joining::Knock;
use super::node::Replica;
use super::porter::{Lodge, Porter};
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

/// Has visitors answered, for as long as it is polled.
pub async fn serve(mut visits: Visits, porter: Arc<Porter<Replica>>) {
    let mut present = JoinSet::new();
    loop {
        let visit = tokio::select! {
            biased;
            _ = present.join_next(), if !present.is_empty() => continue,
            visit = visits.next(), if present.len() < VISITORS_MAX => visit,
        };
        let Some(visit) = visit else { return };
        let porter = porter.clone();
        present.spawn(async move { attend(visit, &porter).await });
    }
}

async fn attend(visit: Visit, porter: &Porter<Replica>) {
    let answer = match visit.errand {
        Errand::Join => porter.answer(visit.from, &visit.exporter, &visit.message).await,
        // Whoever founds together with others asks those who have not founded yet.
        Errand::Found => return,
    };
    visit.answer(answer);
}
