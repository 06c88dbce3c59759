//! Keeps this host's entry in the registry right, and knows where everybody else is.
//!
//! Addresses are in the registry, not in the membership. Each peer says its own, and keeps everybody's on disk, so that
//! a mesh that was switched off finds itself again as long as one address still holds.

#[cfg(test)]
#[path = "registrar/tests/forgery.rs"]
mod forgery;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mgmt_consensus::authority::{Badge, Certificate};
use mgmt_consensus::quic::{Caller, Doorkeeper};
use mgmt_consensus::{ClusterId, PeerId};
use mgmt_store::record::{Peer, Versions};
use mgmt_store::{Body, HostName, Revision, Shared};
use serde::{Deserialize, Serialize};

use super::node::Client;
use super::place::{Part, Place};
use super::surroundings::{Surroundings, unix_ms};

/// Between two looks at the registry while it changes.
const LOOK: Duration = Duration::from_millis(200);
/// How often this host looks which addresses it has.
const OWN: Duration = Duration::from_secs(2);
/// How long saying its own addresses may take before it is tried again.
const LIMIT: Duration = Duration::from_secs(5);
/// A certificate of somebody who was removed is refused for so long after he was seen to go; after that it is the
/// membership and the registry alone that refuse him, as they do all the time.
const REMOVED_MS: u64 = 24 * 3600 * 1000;
/// Peers that are remembered as removed.
const REMOVED_MAX: usize = 10_000;
/// Addresses that are tried for one peer.
const ADDRESSES_MAX: usize = mgmt_store::limits::ADDRESSES_MAX;

/// Where everybody is, and who is welcome.
pub struct Book {
    cluster: ClusterId,
    pages: Mutex<Pages>,
    surroundings: Arc<Surroundings>,
}

#[derive(Debug, Default)]
struct Pages {
    peers: BTreeMap<PeerId, Listed>,
    /// Where a peer was last spoken with: by this host's own experience, whatever the registry says by then.
    met: BTreeMap<PeerId, SocketAddr>,
    /// Who was removed, and when that was seen, in milliseconds since 1970.
    removed: BTreeMap<PeerId, u64>,
}

/// A peer as the address book lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name.
    pub host: String,
    /// Where it says it is.
    pub addresses: Vec<SocketAddr>,
}

/// The book as it lies on disk.
#[derive(Debug, Serialize, Deserialize)]
struct OnDisk {
    v: u32,
    peers: BTreeMap<String, Listed>,
}

/// What was in the book when this host ran last. What cannot be read is said, and counts as nothing.
#[must_use]
pub fn remembered(place: &Place) -> BTreeMap<PeerId, Listed> {
    let text = match place.load(Part::Addresses) {
        Ok(Some(text)) => text,
        Ok(None) => return BTreeMap::new(),
        Err(error) => {
            tracing::warn!("cannot read where the others were: {error}");
            return BTreeMap::new();
        }
    };
    match serde_json::from_str::<OnDisk>(&text) {
        Ok(book) => {
            let peer = |(id, listed): (String, Listed)| Some((PeerId(u128::from_str_radix(&id, 16).ok()?), listed));
            book.peers.into_iter().filter_map(peer).collect()
        }
        Err(error) => {
            tracing::warn!("cannot read where the others were: {error}");
            BTreeMap::new()
        }
    }
}

/// Writes down where the others are, for the next run.
///
/// # Errors
/// What the disk says.
pub fn remember(place: &Place, peers: &BTreeMap<PeerId, Listed>) -> std::io::Result<()> {
    let peers = peers.iter().map(|(peer, listed)| (peer.to_string(), listed.clone())).collect();
    place.save(Part::Addresses, &serde_json::to_string(&OnDisk { v: 1, peers })?)
}

impl Book {
    /// Of this cluster, with what is known from before.
    #[must_use]
    pub fn new(cluster: ClusterId, peers: BTreeMap<PeerId, Listed>, surroundings: Arc<Surroundings>) -> Self {
        Self { cluster, pages: Mutex::new(Pages { peers, ..Pages::default() }), surroundings }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everybody in it.
    #[must_use]
    pub fn peers(&self) -> BTreeMap<PeerId, Listed> {
        self.pages().peers.clone()
    }

    /// Takes over what the registry says now. Whether anything is other than before, and whether somebody is gone.
    fn follow(&self, registry: &BTreeMap<PeerId, Listed>) -> (bool, bool) {
        let mut pages = self.pages();
        let now_ms = unix_ms();
        let gone: Vec<PeerId> = pages.peers.keys().filter(|peer| !registry.contains_key(peer)).copied().collect();
        for peer in &gone {
            pages.peers.remove(peer);
            pages.met.remove(peer);
            pages.removed.insert(*peer, now_ms);
        }
        pages.removed.retain(|peer, at_ms| !registry.contains_key(peer) && now_ms.saturating_sub(*at_ms) < REMOVED_MS);
        while pages.removed.len() > REMOVED_MAX {
            pages.removed.pop_first();
        }
        let mut other = !gone.is_empty();
        for (peer, listed) in registry {
            let before = pages.peers.entry(*peer).or_default();
            other |= *before != *listed;
            *before = listed.clone();
        }
        (other, !gone.is_empty())
    }

    fn save(&self, place: &Place) {
        if let Err(error) = remember(place, &self.peers()) {
            tracing::warn!("cannot remember where the others are: {error}");
        }
    }
}

impl Doorkeeper for Book {
    fn admits(&self, certificate: &[u8]) -> Result<Caller, String> {
        let certificate = Certificate::from_der(certificate.to_vec()).map_err(|error| error.to_string())?;
        let Badge { cluster, peer, role, host } = certificate.badge().map_err(|error| error.to_string())?;
        if cluster != self.cluster {
            return Err(format!("{host} is of cluster {cluster}, this is {}", self.cluster));
        }
        // What is not in the registry here may have been let in since by those who know more: a host that was away for
        // a day must listen to a leader it has never heard of. Who was seen to be removed is refused, though.
        if self.pages().removed.contains_key(&peer) {
            return Err(format!("{host} was removed from the mesh"));
        }
        self.surroundings.certified(peer, role);
        Ok(Caller { peer, may_lead: role >= mgmt_store::Role::Master })
    }

    fn addresses(&self, peer: PeerId) -> Vec<SocketAddr> {
        let listed = self.pages().peers.get(&peer).map(|listed| listed.addresses.clone());
        // The book follows the registry a little late. Whoever was let in just now is to be fed at once: a leader that
        // cannot reach him tries again only 200 ms later.
        let listed = listed.unwrap_or_else(|| self.surroundings.addresses(peer));
        let pages = self.pages();
        let met = pages.met.get(&peer).copied();
        let others = listed.iter().copied().filter(|address| Some(*address) != met);
        met.into_iter().chain(others).take(ADDRESSES_MAX).collect()
    }

    fn reached(&self, peer: PeerId, at: SocketAddr) {
        let mut pages = self.pages();
        // Whoever is in no book is in no hurry, and the book is bounded by the registry.
        if pages.peers.contains_key(&peer) {
            pages.met.insert(peer, at);
        }
    }
}

/// Everybody in the registry.
fn registry(shared: &Shared) -> BTreeMap<PeerId, Listed> {
    shared.read(|keyspace| {
        let listed = |(host, peer): (HostName, Peer)| {
            let addresses = peer.addresses.iter().filter_map(|address| address.parse().ok()).collect();
            (peer.peer, Listed { host: host.as_str().to_owned(), addresses })
        };
        keyspace.peers().map(listed).collect()
    })
}

/// What this host says of itself.
#[derive(Debug, Clone)]
pub struct Own {
    /// Its name.
    pub host: HostName,
    /// Where it listens; of an address that means all of them, those that others may use are found out.
    pub listen: SocketAddr,
    /// Where it stands.
    pub zone: Vec<Arc<str>>,
    /// What it understands.
    pub versions: Versions,
    /// Of its certificate's key.
    pub key_hash: [u8; 32],
}

/// Follows the registry into the book, for as long as it is polled. `expel` is called when somebody is gone.
pub async fn follow(book: Arc<Book>, shared: Arc<Shared>, place: Place, expel: impl Fn()) {
    let mut seen = Revision(0);
    loop {
        let registry = registry(&shared);
        // Before anything is applied the registry says nothing.
        if !registry.is_empty() {
            let (other, gone) = book.follow(&registry);
            if other {
                let (book, place) = (book.clone(), place.clone());
                // Beside: a disk may be slow.
                if let Err(error) = tokio::task::spawn_blocking(move || book.save(&place)).await {
                    tracing::warn!("remembering where the others are has failed: {error}");
                }
            }
            if gone {
                expel();
            }
        }
        seen = shared.changed_since(seen).await;
        tokio::time::sleep(LOOK).await;
    }
}

/// Keeps this host's entry right, for as long as it is polled.
pub async fn say(own: Own, book: Arc<Book>, shared: Arc<Shared>, client: Client) {
    loop {
        let others: Vec<SocketAddr> = book.peers().into_values().flat_map(|listed| listed.addresses).collect();
        let addresses: Vec<Arc<str>> = reachable(own.listen, &others).iter().map(|a| a.to_string().into()).collect();
        let entry = shared.read(|keyspace| keyspace.peer(&own.host));
        let right = entry.as_ref().is_none_or(|entry| {
            (&entry.addresses, &entry.zone, entry.versions, entry.key_hash)
                == (&addresses, &own.zone, own.versions, own.key_hash)
        });
        if !right {
            let Own { host, zone, versions, key_hash, .. } = own.clone();
            let update = Body::PeerUpdate { host, addresses, zone, versions, key_hash };
            if let Err(error) = client.call(update, LIMIT).await {
                tracing::debug!(%error, "the registry does not have this host's addresses yet");
            }
        }
        tokio::time::sleep(OWN).await;
    }
}

/// The addresses at which others may reach a socket: its own, or for one that listens everywhere those from which the
/// system would speak to `others`, and to the world.
#[must_use]
pub fn reachable(listen: SocketAddr, others: &[SocketAddr]) -> Vec<SocketAddr> {
    if !listen.ip().is_unspecified() {
        return vec![listen];
    }
    // From the ranges for documentation (RFC 5737, RFC 3849): nothing is sent there, only the route is looked up.
    let world = [SocketAddr::from(([192, 0, 2, 1], 9)), SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9))];
    let mut found = Vec::new();
    for other in others.iter().chain(&world) {
        let Some(ip) = route(*other) else { continue };
        let usable = !ip.is_unspecified() && (!ip.is_loopback() || other.ip().is_loopback());
        let address = SocketAddr::new(ip, listen.port());
        if usable && !found.contains(&address) {
            found.push(address);
        }
    }
    if found.is_empty() {
        found.push(SocketAddr::from(([127, 0, 0, 1], listen.port())));
    }
    found.truncate(ADDRESSES_MAX);
    found
}

/// From which address the system would speak to another one.
fn route(to: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_at_one_address_is_reached_there() {
        let listen = SocketAddr::from(([127, 0, 0, 1], 7));
        assert_eq!(reachable(listen, &[]), [listen]);
    }

    #[test]
    fn who_listens_everywhere_is_reached_where_the_system_speaks_from() {
        let listen = SocketAddr::from(([0, 0, 0, 0], 7));
        let found = reachable(listen, &[SocketAddr::from(([127, 0, 0, 1], 9))]);
        assert_eq!(found[0], SocketAddr::from(([127, 0, 0, 1], 7)));
        assert!(found.iter().all(|address| address.port() == 7 && !address.ip().is_unspecified()));
    }
}
