//! QUIC does what every transport must do, over real sockets, and what only it does.

#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used, reason = "a test that measures")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use mgmt_consensus::PeerId;
use mgmt_consensus::quic::{Caller, Doorkeeper, Endpoint, Errand, Options, Pin, Quic, VisitError};
use mgmt_consensus::transport::suite::{self, Fabric};
use mgmt_consensus::transport::{CallError, Lane, Reply, Transport};
use openraft::impls::TokioRuntime;

mod quic_support;

use quic_support::{Book, CLUSTER, Cuts, Mesh, loopback, name, wire};

const PATIENCE: Duration = Duration::from_secs(20);

/// Near ends of wires: who dials whom, and where.
type Wires = BTreeMap<(PeerId, PeerId, SocketAddr), SocketAddr>;

/// A network of wires, one for each pair and direction of dialling.
struct Wired {
    mesh: Mesh,
    cuts: Cuts,
    wires: Arc<Mutex<Wires>>,
    endpoints: Mutex<Vec<Endpoint>>,
}

/// What one peer sees of it: the near ends of his wires.
struct View {
    me: PeerId,
    book: Arc<Book>,
    cuts: Cuts,
    wires: Arc<Mutex<Wires>>,
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

/// Answers everything with what it says.
fn echo(end: &Quic) {
    let end = end.clone();
    tokio::spawn(async move {
        while let Some(incoming) = end.accept().await {
            incoming.reply.send(incoming.message);
        }
    });
}

async fn ask(from: &Quic, to: PeerId, deadline: Duration) -> Result<Bytes, CallError> {
    from.call(to, Lane::Control, Bytes::from_static(b"there?"), deadline).await
}

/// Asks until there is an answer; how long that took.
async fn reaches(from: &Quic, to: PeerId) -> Duration {
    let began = Instant::now();
    while ask(from, to, Duration::from_millis(100)).await.is_err() {
        assert!(began.elapsed() < PATIENCE, "not reached");
        tokio::task::yield_now().await;
    }
    began.elapsed()
}

fn dead() -> SocketAddr {
    // Bound and let go again: nobody else gets it so soon.
    std::net::UdpSocket::bind(loopback()).unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn closing_is_heard_at_once() {
    let mesh = Mesh::new();
    let ((_here, a), (there, b)) = (mesh.join(1), mesh.join(2));
    let calling = tokio::spawn({
        let a = a.clone();
        async move { ask(&a, PeerId(2), PATIENCE).await }
    });
    let _held = b.accept().await.unwrap();
    let began = Instant::now();
    there.close().await;
    assert_eq!(calling.await.unwrap(), Err(CallError::Unreachable(PeerId(2))));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

/// A member in a process of its own, as far as others can see: it dies without a word.
struct Mortal {
    runtime: tokio::runtime::Runtime,
    address: SocketAddr,
    quic: Quic,
    _endpoint: Endpoint,
}

impl Mortal {
    fn new(mesh: &Mesh, peer: PeerId, options: Options) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let inside = runtime.enter();
        let (endpoint, quic) = mesh.join_with(peer, options);
        echo(&quic);
        drop(inside);
        Self { runtime, address: endpoint.local_address(), quic, _endpoint: endpoint }
    }

    fn die(self) {
        // The tasks first: what is dropped after them finds nobody who could still send a farewell.
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

#[test]
fn whoever_starts_again_at_the_same_address_is_reached_at_once() {
    let mesh = Mesh::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (_endpoint, a) = runtime.block_on(async { mesh.join(1) });
    let (b, secret) = (PeerId(2), Some([9; 32]));
    let mut listen = loopback();
    for round in 0..5 {
        let mortal = Mortal::new(&mesh, b, Options { reset_secret: secret, ..Options::lan(listen) });
        listen = mortal.address;
        let took = runtime.block_on(reaches(&a, b));
        println!("reached again after {took:?}");
        assert!(round == 0 || took < Duration::from_millis(400), "round {round}: {took:?}");
        mortal.die();
    }
}

#[test]
fn whoever_starts_again_elsewhere_is_reached_once_he_calls() {
    let mesh = Mesh::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (_endpoint, a) = runtime.block_on(async { mesh.join(1) });
    runtime.block_on(async { echo(&a) });
    let b = PeerId(2);
    for round in 0..5 {
        let mortal = Mortal::new(&mesh, b, Options::lan(loopback()));
        let quic = mortal.quic.clone();
        let _called = mortal.runtime.spawn(async move { ask(&quic, PeerId(1), PATIENCE).await });
        let took = runtime.block_on(reaches(&a, b));
        println!("reached elsewhere after {took:?}");
        assert!(round == 0 || took < Duration::from_millis(400), "round {round}: {took:?}");
        mortal.die();
    }
}

#[tokio::test]
async fn addresses_are_tried_in_order_and_soon() {
    let mesh = Mesh::new();
    let ((_here, a), (there, b)) = (mesh.join(1), mesh.join(2));
    echo(&b);
    mesh.book.list(PeerId(2), vec![dead(), dead(), there.local_address()]);
    let began = Instant::now();
    ask(&a, PeerId(2), PATIENCE).await.unwrap();
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(500), "those before it were not tried: {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn both_families_of_addresses() {
    let mesh = Mesh::new();
    let six: SocketAddr = "[::1]:0".parse().unwrap();
    if std::net::UdpSocket::bind(six).is_err() {
        println!("skipped: this machine has no IPv6");
        return;
    }
    let (_one, a) = mesh.join_with(PeerId(1), Options::lan(six));
    let (_two, b) = mesh.join_with(PeerId(2), Options::lan("[::]:0".parse().unwrap()));
    let (_three, c) = mesh.join_with(PeerId(3), Options::lan(loopback()));
    let port = mesh.book.addresses(PeerId(2))[0].port();
    mesh.book.list(PeerId(2), vec![(std::net::Ipv6Addr::LOCALHOST, port).into()]);
    for end in [&a, &b, &c] {
        echo(end);
    }
    ask(&a, PeerId(2), PATIENCE).await.expect("six to both");
    ask(&b, PeerId(1), PATIENCE).await.expect("both to six");
    ask(&b, PeerId(3), PATIENCE).await.expect("both to four");
    mesh.book.list(PeerId(2), vec![(std::net::Ipv4Addr::LOCALHOST, port).into()]);
    ask(&c, PeerId(2), PATIENCE).await.expect("four to both");
}

#[tokio::test]
async fn only_who_is_meant_answers() {
    let mesh = Mesh::new();
    let ((_here, a), (_there, _b), (elsewhere, c)) = (mesh.join(1), mesh.join(2), mesh.join(3));
    mesh.book.list(PeerId(2), vec![elsewhere.local_address()]);
    assert_eq!(ask(&a, PeerId(2), PATIENCE).await, Err(CallError::Unreachable(PeerId(2))));
    let nothing = tokio::time::timeout(Duration::from_millis(100), c.accept()).await;
    assert!(nothing.is_err(), "a message for another");
}

#[tokio::test]
async fn whoever_is_expelled_is_cut_off_on_both_sides() {
    let mesh = Mesh::new();
    let ((_here, a), (_there, b)) = (mesh.join(1), mesh.join(2));
    for end in [&a, &b] {
        echo(end);
    }
    ask(&a, PeerId(2), PATIENCE).await.unwrap();
    ask(&b, PeerId(1), PATIENCE).await.unwrap();
    mesh.book.expel(PeerId(2));
    a.recheck();
    for (from, to) in [(&a, PeerId(2)), (&b, PeerId(1))] {
        let began = Instant::now();
        while ask(from, to, Duration::from_millis(100)).await.is_ok() {
            assert!(began.elapsed() < PATIENCE, "still let in");
        }
    }
}

#[tokio::test]
async fn who_may_lead_is_asked_again() {
    let mesh = Mesh::new();
    let ((_here, a), (_there, b)) = (mesh.join(1), mesh.join(2));
    let calls = |may_lead| {
        mesh.book.callers.lock().unwrap().values_mut().for_each(|caller| caller.may_lead = may_lead);
        b.recheck();
        let a = a.clone();
        tokio::spawn(async move { ask(&a, PeerId(2), PATIENCE).await });
        b.accept()
    };
    for may_lead in [true, false, true] {
        let incoming = calls(may_lead).await.unwrap();
        assert_eq!(incoming.may_lead, may_lead);
        incoming.reply.send(Bytes::new());
    }
}

/// Looks at everybody often.
fn watchful() -> Options {
    Options { recheck: Duration::from_millis(100), ..Options::lan(loopback()) }
}

#[tokio::test]
async fn nobody_outlives_his_certificate() {
    let mesh = Mesh::new();
    let (_here, a) = mesh.join_with(PeerId(1), watchful());
    let expires = SystemTime::now() + Duration::from_secs(3);
    let credentials = mesh.authority.issue_with(&name(PeerId(2)), |params| params.not_after = expires.into());
    mesh.book.admit(&credentials, PeerId(2));
    // The one whose certificate it is does not look.
    let there = Endpoint::bind(Options::lan(loopback())).unwrap();
    let b = there.mesh(CLUSTER, PeerId(2), credentials, mesh.book.clone()).unwrap();
    mesh.book.list(PeerId(2), vec![there.local_address()]);
    for end in [&a, &b] {
        echo(end);
    }
    ask(&a, PeerId(2), PATIENCE).await.unwrap();
    ask(&b, PeerId(1), PATIENCE).await.unwrap();
    for (from, to) in [(&a, PeerId(2)), (&b, PeerId(1))] {
        let began = Instant::now();
        while ask(from, to, Duration::from_millis(100)).await.is_ok() {
            assert!(began.elapsed() < PATIENCE, "still let in with a certificate that has expired");
        }
    }
    assert!(SystemTime::now() + Duration::from_secs(1) > expires, "and no sooner");
    // With a new one all is well again.
    b.renew(mesh.credentials(PeerId(2))).unwrap();
    ask(&b, PeerId(1), PATIENCE).await.unwrap();
    ask(&a, PeerId(2), PATIENCE).await.unwrap();
}

#[tokio::test]
async fn whoever_is_expelled_is_cut_off_even_if_nobody_asks() {
    let mesh = Mesh::new();
    let ((_here, a), (_there, b)) = (mesh.join_with(PeerId(1), watchful()), mesh.join(2));
    for end in [&a, &b] {
        echo(end);
    }
    ask(&a, PeerId(2), PATIENCE).await.unwrap();
    ask(&b, PeerId(1), PATIENCE).await.unwrap();
    mesh.book.expel(PeerId(2));
    for (from, to) in [(&a, PeerId(2)), (&b, PeerId(1))] {
        let began = Instant::now();
        while ask(from, to, Duration::from_millis(100)).await.is_ok() {
            assert!(began.elapsed() < PATIENCE, "still let in");
        }
    }
}

#[tokio::test]
async fn authorities_change_without_a_gap() {
    let mesh = Mesh::new();
    let ((here, a), (_there, b)) = (mesh.join(1), mesh.join(2));
    for end in [&a, &b] {
        echo(end);
    }
    let next = quic_support::Authority::new();
    let both = vec![mesh.authority.certificate.clone(), next.certificate.clone()];
    // Everybody believes both first, and then shows certificates of the new one.
    for (quic, peer) in [(&a, PeerId(1)), (&b, PeerId(2))] {
        let mut credentials = mesh.credentials(peer);
        credentials.authorities = both.clone();
        quic.renew(credentials).unwrap();
    }
    let mut credentials = next.issue(&name(PeerId(1)));
    mesh.book.admit(&credentials, PeerId(1));
    credentials.authorities = both;
    a.renew(credentials).unwrap();
    ask(&a, PeerId(2), PATIENCE).await.unwrap();
    ask(&b, PeerId(1), PATIENCE).await.unwrap();
    // Once nobody believes the old one any more, whoever still shows a certificate of it is cut off.
    let mut credentials = next.issue(&name(PeerId(1)));
    mesh.book.admit(&credentials, PeerId(1));
    credentials.authorities = vec![next.certificate.clone()];
    a.renew(credentials).unwrap();
    a.recheck();
    let began = Instant::now();
    while ask(&a, PeerId(2), Duration::from_millis(100)).await.is_ok() {
        assert!(began.elapsed() < PATIENCE, "the old authority is still believed");
    }
    let mut wrong = mesh.credentials(PeerId(1));
    wrong.key = mesh.credentials(PeerId(1)).key;
    assert!(a.renew(wrong).is_err(), "a key to another certificate");
    // Another mesh on the same endpoint takes its place.
    let again = here.mesh(CLUSTER, PeerId(1), mesh.credentials(PeerId(1)), mesh.book.clone()).unwrap();
    assert_eq!(ask(&a, PeerId(2), PATIENCE).await, Err(CallError::Closed));
    assert!(a.renew(mesh.credentials(PeerId(1))).is_err(), "of a mesh that is closed");
    ask(&again, PeerId(2), PATIENCE).await.unwrap();
}

/// SHA-256 of the public key of an authority, as a token has it.
fn key_hash(certificate: &[u8]) -> [u8; 32] {
    let certificate = rustls::pki_types::CertificateDer::from(certificate.to_vec());
    let key = rustls::server::ParsedCertificate::try_from(&certificate).unwrap().subject_public_key_info();
    ring::digest::digest(&ring::digest::SHA256, &key).as_ref().try_into().unwrap()
}

#[tokio::test]
async fn visits() {
    let mesh = Mesh::new();
    let (host, _quic) = mesh.join(1);
    let mut visits = host.visits();
    tokio::spawn(async move {
        while let Some(visit) = visits.next().await {
            let whole = [&visit.exporter[..], &visit.message].concat();
            match &visit.message[..] {
                b"begone" => drop(visit),
                b"wait" => {
                    tokio::spawn(async move {
                        let _held = visit;
                        std::future::pending::<()>().await;
                    });
                }
                _ => visit.answer(whole.into()),
            }
        }
    });
    let guest = Endpoint::bind(Options::lan(loopback())).unwrap();
    let at = host.local_address();
    let right = Pin::Authority(key_hash(&mesh.authority.certificate));
    let visit = |to, pin, message: &'static [u8], deadline| {
        guest.visit(to, Errand::Join, pin, move |_| Bytes::from_static(message), deadline)
    };
    for (errand, pin) in [(Errand::Join, right), (Errand::Found, Pin::Anybody)] {
        let mut exported = [0; 32];
        let say = |exporter: &[u8; 32]| {
            exported = *exporter;
            Bytes::from_static(b"hello")
        };
        let visited = guest.visit(at, errand, pin, say, PATIENCE).await.unwrap();
        assert_eq!(&visited.answer[..], [&exported[..], b"hello"].concat(), "both ends export the same");
        assert_eq!(visited.exporter, exported);
        assert_eq!(visited.chain.last(), Some(&mesh.authority.certificate));
    }
    let error = visit(at, Pin::Authority([1; 32]), b"", PATIENCE).await.unwrap_err();
    assert!(matches!(error, VisitError::Untrusted(..)), "{error}");
    let error = visit(at, right, b"begone", PATIENCE).await.unwrap_err();
    assert!(matches!(error, VisitError::Refused(..)), "{error}");
    let error = visit(at, right, b"wait", Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, VisitError::Timeout(..)), "{error}");
    let error = visit(dead(), right, b"", Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, VisitError::Silent(..)), "{error}");
    let large = |_: &[u8; 32]| Bytes::from(vec![0; (64 << 10) + 1]);
    let error = guest.visit(at, Errand::Join, right, large, PATIENCE).await.unwrap_err();
    assert!(matches!(error, VisitError::TooLarge(_)), "{error}");
    let largest = |_: &[u8; 32]| Bytes::from(vec![0; (64 << 10) - 32]);
    assert_eq!(guest.visit(at, Errand::Join, right, largest, PATIENCE).await.unwrap().answer.len(), 64 << 10);
    // Before it is a member of anything, it is there for those who found with it.
    let mut visits = guest.visits();
    tokio::spawn(async move {
        while let Some(visit) = visits.next().await {
            visit.answer(Bytes::from_static(b"I found, too"));
        }
    });
    let say = |_: &[u8; 32]| Bytes::from_static(b"?");
    let visited = host.visit(guest.local_address(), Errand::Found, Pin::Anybody, say, PATIENCE).await.unwrap();
    assert_eq!(&visited.answer[..], b"I found, too");
    let credentials = mesh.authority.issue(&name(PeerId(9)));
    let own = credentials.certificate.clone();
    guest.appear(credentials).unwrap();
    let visited = host.visit(guest.local_address(), Errand::Found, right, say, PATIENCE).await.unwrap();
    assert_eq!(visited.chain[0], own);
}
