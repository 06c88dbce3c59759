//! QUIC does what every transport must do, over real sockets, and what only it does.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mgmt_consensus::PeerId;
use mgmt_consensus::quic::{Caller, Doorkeeper, Endpoint, Errand, Options, Pin, Quic, VisitError};
use mgmt_consensus::transport::suite::{self, Fabric};
use mgmt_consensus::transport::{CallError, Lane, Reply, Transport};
use openraft::impls::TokioRuntime;

mod quic_support;

use quic_support::{Book, CLUSTER, Cuts, Mesh, loopback, name, wire};

const PATIENCE: Duration = Duration::from_secs(20);

/// A network of wires, one for each pair and direction of dialling.
struct Wired {
    mesh: Mesh,
    cuts: Cuts,
    wires: Arc<Mutex<BTreeMap<(PeerId, PeerId, SocketAddr), SocketAddr>>>,
    endpoints: Mutex<Vec<Endpoint>>,
}

/// What one peer sees of it: the near ends of his wires.
struct View {
    me: PeerId,
    book: Arc<Book>,
    cuts: Cuts,
    wires: Arc<Mutex<BTreeMap<(PeerId, PeerId, SocketAddr), SocketAddr>>>,
}

impl Doorkeeper for View {
    fn admits(&self, certificate: &[u8]) -> Result<Caller, String> {
        self.book.admits(certificate)
    }

    fn addresses(&self, peer: PeerId) -> Vec<SocketAddr> {
        let mut wires = self.wires.lock().unwrap();
        let through =
            |at| *wires.entry((self.me, peer, at)).or_insert_with(|| wire(self.me, peer, at, self.cuts.clone()));
        self.book.addresses(peer).into_iter().map(through).collect()
    }
}

impl Fabric<Quic> for Wired {
    async fn join(&self, me: PeerId) -> Quic {
        let endpoint = Endpoint::bind(Options::lan(loopback())).unwrap();
        let (book, cuts, wires) = (self.mesh.book.clone(), self.cuts.clone(), self.wires.clone());
        let view = View { me, book, cuts, wires };
        let quic = endpoint.mesh(CLUSTER, me, self.mesh.credentials(me), Arc::new(view)).unwrap();
        self.mesh.book.list(me, vec![endpoint.local_address()]);
        self.endpoints.lock().unwrap().push(endpoint);
        quic
    }

    fn cut(&self, from: PeerId, to: PeerId) -> bool {
        self.cuts.lock().unwrap().insert((from, to));
        true
    }

    fn mend(&self, from: PeerId, to: PeerId) {
        self.cuts.lock().unwrap().remove(&(from, to));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_does_what_every_transport_does() {
    let fabric = Wired { mesh: Mesh::new(), cuts: Cuts::default(), wires: Arc::default(), endpoints: Mutex::default() };
    let skipped = suite::test_all::<TokioRuntime, Quic, _>(&fabric).await;
    assert!(skipped.is_empty(), "{skipped:?}");
}
