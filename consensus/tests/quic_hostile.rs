//! Whoever sends what he should not: refused or bounded, while others are served.
//!
//! One after the other, because each says how much memory it cost. Attacker and attacked are in one process, so that
//! what is said is what both cost together.

#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used, reason = "a test that measures")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mgmt_consensus::PeerId;
use mgmt_consensus::limits::{ANSWERS_BYTES_MAX, FRAME_BYTES_MAX, HANDSHAKES_PER_HOST_MAX};
use mgmt_consensus::quic::{Credentials, Endpoint, Errand, Options, Pin, Quic};
use mgmt_consensus::transport::{CallError, Lane, Reply, Transport};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, VarInt};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::Mutex;

#[path = "rogues/gullible.rs"]
mod gullible;
mod quic_support;

use gullible::Gullible;
use quic_support::{Authority, CLUSTER, Cuts, Mesh, loopback, name, wire};

/// What this process may have resident after any of it, attackers and attacked together. The largest share by far is
/// what waits to be accepted and never is: four lanes of 32 MiB, and what four senders and the system keep of theirs.
const RESIDENT_MIB_MAX: f64 = 256.0;
const PATIENCE: Duration = Duration::from_secs(20);
/// How long an honest call may take in the middle of it.
const SERVED: Duration = Duration::from_secs(5);

const VICTIM: PeerId = PeerId(1);
const HONEST: PeerId = PeerId(2);
const ROGUE: PeerId = PeerId(3);

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Resident memory of this process.
fn memory_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn bounded(what: &str, before: f64) {
    let now = memory_mib();
    println!("{what}: {now:.1} MiB resident, {:+.1} MiB", now - before);
    assert!(now < RESIDENT_MIB_MAX, "{what}: {now} MiB resident");
}

/// Somebody who keeps to no rules but those of QUIC.
struct Rogue {
    endpoint: quinn::Endpoint,
    config: quinn::ClientConfig,
}

impl Rogue {
    fn new(credentials: Option<&Credentials>, protocol: &[u8], window: u32) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Gullible));
        let mut tls = match credentials {
            Some(Credentials { certificate, key, .. }) => builder
                .with_client_auth_cert(
                    vec![certificate.clone().into()],
                    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone())),
                )
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![protocol.to_vec()];
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let mut transport = quinn::TransportConfig::default();
        transport.keep_alive_interval(Some(Duration::from_millis(200)));
        transport.stream_receive_window(VarInt::from_u32(window)).receive_window(VarInt::from_u32(window));
        config.transport_config(Arc::new(transport));
        Self { endpoint: quinn::Endpoint::client(loopback()).unwrap(), config }
    }

    fn connect(&self, at: SocketAddr) -> quinn::Connecting {
        self.endpoint.connect_with(self.config.clone(), at, "whoever.mgmt").unwrap()
    }

    async fn connected(&self, at: SocketAddr) -> Connection {
        self.connect(at).await.unwrap()
    }
}

/// How a connection ends.
async fn end(connection: &Connection) -> ConnectionError {
    tokio::time::timeout(PATIENCE, connection.closed()).await.expect("it is closed")
}

/// What a stream begins with.
fn hello(lane: u8) -> Vec<u8> {
    [&[lane][..], &7u64.to_le_bytes()].concat()
}

fn frame(call: u64, body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_le_bytes()[..], &call.to_le_bytes(), body].concat()
}

/// One who is attacked and answers everybody, and one who needs him.
struct Scene {
    mesh: Mesh,
    victim: (Endpoint, Quic),
    honest: (Endpoint, Quic),
    at: SocketAddr,
    before: f64,
}

impl Scene {
    async fn new() -> Self {
        let mesh = Mesh::new();
        let (victim, honest) = (mesh.join(VICTIM.0), mesh.join(HONEST.0));
        let end = victim.1.clone();
        tokio::spawn(async move {
            while let Some(incoming) = end.accept().await {
                incoming.reply.send(incoming.message);
            }
        });
        let at = victim.0.local_address();
        let scene = Self { mesh, victim, honest, at, before: 0.0 };
        scene.served().await;
        Self { before: memory_mib(), ..scene }
    }

    fn rogue(&self) -> Rogue {
        Rogue::new(Some(&self.mesh.credentials(ROGUE)), b"mgmt/1", 1 << 20)
    }

    /// The honest one is heard on every lane.
    async fn served(&self) {
        for lane in Lane::ALL {
            let began = Instant::now();
            let call = self.honest.1.call(VICTIM, lane, Bytes::from_static(b"there?"), SERVED);
            call.await.unwrap_or_else(|error| panic!("{lane:?} after {:?}: {error}", began.elapsed()));
        }
    }

    async fn over(self, what: &str) {
        self.served().await;
        bounded(what, self.before);
        self.honest.0.close().await;
        self.victim.0.close().await;
    }
}

fn is_refused(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::ApplicationClosed(close) if close.error_code == VarInt::from_u32(2))
}

fn has_misbehaved(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::ApplicationClosed(close) if close.error_code == VarInt::from_u32(3))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let scene = Scene::new().await;
    let socket = UdpSocket::bind(loopback()).unwrap();
    let mut chance = 1u64;
    let mut packet = vec![0; 1500];
    for round in 0..20 {
        for _ in 0..500 {
            for byte in &mut packet {
                chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (chance >> 56) as u8;
            }
            // Half of them look like the beginning of a handshake.
            if chance.is_multiple_of(2) {
                packet[..5].copy_from_slice(&[0xc3, 0, 0, 0, 1]);
            }
            let bytes = 1 + (chance >> 33) as usize % packet.len();
            let _dropped = socket.send_to(&packet[..bytes], scene.at);
        }
        if round % 5 == 0 {
            scene.served().await;
        }
    }
    scene.over("10,000 packets of garbage").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_are_none() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let scene = Scene::new().await;
    let other = Authority::new();
    let expired = scene.mesh.authority.issue_with(&name(ROGUE), |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let foreign = other.issue(&name(ROGUE));
    // In the book they are: it is the handshake that must refuse them.
    scene.mesh.book.admit(&expired, ROGUE);
    scene.mesh.book.admit(&foreign, ROGUE);
    for credentials in [&expired, &foreign] {
        let rogue = Rogue::new(Some(credentials), b"mgmt/1", 1 << 20);
        let error = match rogue.connect(scene.at).await {
            Ok(connection) => end(&connection).await,
            Err(error) => error,
        };
        assert!(matches!(error, ConnectionError::ConnectionClosed(_)), "{error}");
    }
    let stranger = scene.mesh.authority.issue(&name(ROGUE));
    for credentials in [None, Some(&stranger)] {
        let rogue = Rogue::new(credentials, b"mgmt/1", 1 << 20);
        let connection = rogue.connected(scene.at).await;
        // What he sends at once is heard by nobody.
        if let Ok((mut sender, _)) = connection.open_bi().await {
            let _lost = sender.write_all(&[hello(0), frame(1, b"hear me")].concat()).await;
        }
        let error = end(&connection).await;
        assert!(is_refused(&error), "{error}");
    }
    let rogue = Rogue::new(Some(&scene.mesh.credentials(ROGUE)), b"something else", 1 << 20);
    let error = rogue.connect(scene.at).await.unwrap_err();
    assert!(matches!(error, ConnectionError::ConnectionClosed(_)), "{error}");
    // And the other way round: whoever is called and is not who was meant.
    for credentials in [expired, foreign, scene.mesh.credentials(PeerId(77))] {
        let endpoint = Endpoint::bind(Options::lan(loopback())).unwrap();
        let false_one = endpoint.mesh(CLUSTER, ROGUE, credentials, scene.mesh.book.clone()).unwrap();
        scene.mesh.book.list(ROGUE, vec![endpoint.local_address()]);
        let call = scene.honest.1.call(ROGUE, Lane::Client, Bytes::from_static(b"a secret"), PATIENCE);
        assert_eq!(call.await, Err(CallError::Unreachable(ROGUE)));
        let heard = tokio::time::timeout(Duration::from_millis(50), false_one.accept()).await;
        assert!(heard.is_err(), "he heard it");
        endpoint.close().await;
    }
    scene.over("wrong certificates").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_and_streams_against_the_rules() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let scene = Scene::new().await;
    let too_long = u32::try_from(FRAME_BYTES_MAX + 1).unwrap();
    let largest = u32::MAX;
    let says: [(&str, Vec<u8>); 3] = [
        ("a byte too long", [&hello(0)[..], &too_long.to_le_bytes(), &[0; 8]].concat()),
        ("the largest number", [&hello(0)[..], &largest.to_le_bytes(), &[0; 8]].concat()),
        ("a lane there is not", hello(9)),
    ];
    for (what, bytes) in says {
        let rogue = scene.rogue();
        let connection = rogue.connected(scene.at).await;
        let (mut sender, _receiver) = connection.open_bi().await.unwrap();
        sender.write_all(&bytes).await.unwrap();
        let error = end(&connection).await;
        assert!(has_misbehaved(&error), "{what}: {error}");
    }
    // The same lane twice, and a lane that ends.
    let rogue = scene.rogue();
    let connection = rogue.connected(scene.at).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = connection.open_bi().await.unwrap();
        stream.0.write_all(&hello(2)).await.unwrap();
        streams.push(stream);
    }
    assert!(has_misbehaved(&end(&connection).await));
    let connection = rogue.connected(scene.at).await;
    let (mut sender, _receiver) = connection.open_bi().await.unwrap();
    sender.write_all(&[hello(2), frame(1, b"x")].concat()).await.unwrap();
    sender.finish().unwrap();
    assert!(has_misbehaved(&end(&connection).await));
    // No more streams than there are lanes.
    let connection = rogue.connected(scene.at).await;
    let mut streams = Vec::new();
    while let Ok(Ok(mut stream)) = tokio::time::timeout(Duration::from_millis(300), connection.open_bi()).await {
        stream.0.write_all(&hello(streams.len() as u8)).await.unwrap();
        streams.push(stream);
        assert!(streams.len() <= Lane::ALL.len(), "as many as he likes");
    }
    let none = tokio::time::timeout(Duration::from_millis(100), connection.open_uni()).await;
    assert!(none.is_err(), "a stream of one direction");
    scene.over("frames and streams against the rules").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn byte_by_byte() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let scene = Scene::new().await;
    let rogue = scene.rogue();
    let connection = rogue.connected(scene.at).await;
    let (mut sender, mut receiver) = connection.open_bi().await.unwrap();
    for byte in [hello(2), frame(5, b"slowly")].concat() {
        sender.write_all(&[byte]).await.unwrap();
        scene.honest.1.call(VICTIM, Lane::Client, Bytes::new(), SERVED).await.unwrap();
    }
    let mut answer = [0; 8 + 12 + 6];
    receiver.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer[8..], frame(5, b"slowly"));
    // Four of the largest, each but the last byte of it.
    let mut streams = vec![(sender, receiver)];
    for lane in [0, 1, 3] {
        let mut stream = connection.open_bi().await.unwrap();
        stream.0.write_all(&hello(lane)).await.unwrap();
        streams.push(stream);
    }
    let large = frame(6, &vec![1; FRAME_BYTES_MAX]);
    for (sender, _) in &mut streams {
        sender.write_all(&large[..large.len() - 1]).await.unwrap();
    }
    scene.over("bytes one by one, and four messages without an end").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let scene = Scene::new().await;
    let rogue = Rogue::new(Some(&scene.mesh.credentials(ROGUE)), b"mgmt/1", 16 << 10);
    let connection = rogue.connected(scene.at).await;
    let (mut sender, _unread) = connection.open_bi().await.unwrap();
    sender.write_all(&hello(2)).await.unwrap();
    let message = frame(1, &vec![7; 256 << 10]);
    // More than is kept, by far.
    for n in 0..3 * ANSWERS_BYTES_MAX / message.len() {
        sender.write_all(&message).await.unwrap();
        if n % 50 == 0 {
            scene.served().await;
        }
    }
    scene.over("answers that nobody reads").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_calls_than_are_accepted() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mesh = Mesh::new();
    let ((endpoint, victim), (_other, honest)) = (mesh.join(VICTIM.0), mesh.join(HONEST.0));
    let before = memory_mib();
    let (mut tasks, sent) = (Vec::new(), Arc::new(AtomicUsize::new(0)));
    for peer in 10..14 {
        let rogue = Rogue::new(Some(&mesh.credentials(PeerId(peer))), b"mgmt/1", 1 << 20);
        let connection = rogue.connected(endpoint.local_address()).await;
        for lane in 0..4 {
            let (mut sender, receiver) = connection.open_bi().await.unwrap();
            let sent = sent.clone();
            tasks.push(tokio::spawn(async move {
                let _unread = receiver;
                sender.write_all(&hello(lane)).await.unwrap();
                let message = frame(1, &vec![7; 32 << 10]);
                // Until he is closed or not read any more.
                while sender.write_all(&message).await.is_ok() {
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
    }
    // Nobody accepts until all of them are stuck.
    let mut before_that = usize::MAX;
    while std::mem::replace(&mut before_that, sent.load(Ordering::Relaxed)) != sent.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    bounded("a flood that nobody accepts, of four members on four lanes each", before);
    let served = tokio::spawn(async move {
        let end = victim.clone();
        while let Some(incoming) = end.accept().await {
            incoming.reply.send(Bytes::new());
        }
    });
    let began = Instant::now();
    loop {
        let call = honest.call(VICTIM, Lane::Client, Bytes::new(), Duration::from_secs(1));
        if call.await.is_ok() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "drowned");
    }
    println!("others were served again after {:?}", began.elapsed());
    for task in tasks {
        task.abort();
    }
    served.abort();
    endpoint.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_are_not_finished() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let scene = Scene::new().await;
    // He is never heard of again: as if his address were not his.
    let cuts = Cuts::default();
    let (rogue_id, at) = (ROGUE, scene.at);
    cuts.lock().unwrap().insert((VICTIM, rogue_id));
    let way = wire(rogue_id, VICTIM, at, cuts);
    let rogue = scene.rogue();
    let attempts: Vec<_> = (0..800).map(|_| rogue.connect(way)).collect();
    let (_late, late) = scene.mesh.join(5);
    let began = Instant::now();
    while late.call(VICTIM, Lane::Client, Bytes::new(), Duration::from_secs(2)).await.is_err() {
        assert!(began.elapsed() < PATIENCE, "nobody else comes in");
    }
    println!("somebody new was let in after {:?}", began.elapsed());
    scene.served().await;
    scene.over("800 handshakes that are not finished").await;
    drop(attempts);
}

/// A member who has been taken over, at an address of his own, begins as many connections as he can and says nothing on
/// any of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_of_one_host() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let scene = Scene::new().await;
    let elsewhere = quinn::Endpoint::client((Ipv4Addr::new(127, 0, 0, 2), 0).into()).unwrap();
    let rogue = Arc::new(Rogue { endpoint: elsewhere, ..scene.rogue() });
    let begun = Arc::new(AtomicUsize::new(0));
    let attempts: Vec<_> = (0..700)
        .map(|_| {
            let (rogue, begun, at) = (rogue.clone(), begun.clone(), scene.at);
            tokio::spawn(async move {
                loop {
                    if let Ok(connection) = rogue.connect(at).await {
                        begun.fetch_add(1, Ordering::Relaxed);
                        connection.closed().await;
                    }
                }
            })
        })
        .collect();
    let began = Instant::now();
    while begun.load(Ordering::Relaxed) < HANDSHAKES_PER_HOST_MAX {
        assert!(began.elapsed() < PATIENCE, "he has his share");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // And now and then somebody else comes, who has to be let in each time.
    for newcomer in 5..10 {
        let (endpoint, late) = scene.mesh.join(newcomer);
        let began = Instant::now();
        let heard = late.call(VICTIM, Lane::Client, Bytes::new(), SERVED).await;
        assert!(heard.is_ok(), "newcomer {newcomer} is not let in after {:?}: {heard:?}", began.elapsed());
        println!("newcomer {newcomer} was let in after {:?}", began.elapsed());
        endpoint.close().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    for attempt in attempts {
        attempt.abort();
    }
    rogue.endpoint.close(VarInt::from_u32(0), b"");
    scene.over("700 connections that one host begins again and again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_who_stay() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let scene = Scene::new().await;
    let mut visits = scene.victim.0.visits();
    tokio::spawn(async move {
        while let Some(visit) = visits.next().await {
            visit.answer(Bytes::from_static(b"welcome"));
        }
    });
    let rogue = Rogue::new(None, b"mgmt-join/1", 1 << 20);
    let mut held = Vec::new();
    for _ in 0..100 {
        let connection = rogue.connected(scene.at).await;
        // All but the first are sent away, before or after this.
        let Ok(mut stream) = connection.open_bi().await else { continue };
        let _sent_away = stream.0.write_all(b"half of it").await;
        held.push((connection, stream));
    }
    // From another address there is room.
    let guest = Endpoint::bind(Options::lan((Ipv4Addr::new(127, 0, 0, 2), 0).into())).unwrap();
    let say = |_: &[u8; 32]| Bytes::from_static(b"hello");
    let visited = guest.visit(scene.at, Errand::Join, Pin::Anybody, say, PATIENCE).await.unwrap();
    assert_eq!(&visited.answer[..], b"welcome");
    // Who says too much is sent away.
    let (connection, mut stream) = {
        let other =
            Rogue { endpoint: quinn::Endpoint::client((Ipv4Addr::new(127, 0, 0, 3), 0).into()).unwrap(), ..rogue };
        let connection = other.connected(scene.at).await;
        let stream = connection.open_bi().await.unwrap();
        (connection, stream)
    };
    let _sent_away = stream.0.write_all(&vec![0; 1 << 20]).await;
    assert!(is_refused(&end(&connection).await));
    drop(held);
    scene.over("100 visitors who stay").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_with_many_connections() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let scene = Scene::new().await;
    let rogue = scene.rogue();
    let mut connections = Vec::new();
    for _ in 0..100 {
        let connection = rogue.connected(scene.at).await;
        let (mut sender, mut receiver) = connection.open_bi().await.unwrap();
        sender.write_all(&[hello(2), frame(1, b"x")].concat()).await.unwrap();
        let mut answer = [0; 8 + 13];
        receiver.read_exact(&mut answer).await.unwrap();
        connections.push((connection, sender, receiver));
    }
    let (last, _sender, _receiver) = connections.pop().unwrap();
    for (connection, _, _) in &connections {
        end(connection).await;
    }
    assert!(last.close_reason().is_none(), "the newest one stays");
    scene.over("one member with 100 connections").await;
}
