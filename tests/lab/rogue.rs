//! Somebody who keeps to no rules but those of QUIC, and not to all of those.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use mgmt_consensus::quic::Credentials;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, VarInt};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use gullible::Gullible;

#[path = "../../consensus/tests/rogues/gullible.rs"]
mod gullible;

/// How members call theirs.
pub(crate) const MEMBER: &[u8] = b"mgmt/1";
/// How those do who want to come in.
pub(crate) const VISITOR: &[u8] = b"mgmt-join/1";
/// No answer by then is none.
const ANSWER: Duration = Duration::from_secs(5);

/// One of them.
pub(crate) struct Rogue {
    endpoint: quinn::Endpoint,
    config: quinn::ClientConfig,
}

impl Rogue {
    /// At an address of this machine, with these papers, as this kind of visitor.
    pub(crate) fn new(from: IpAddr, papers: Option<&Credentials>, protocol: &[u8]) -> Self {
        Self::with_window(from, papers, protocol, 1 << 20)
    }

    /// The same, who lets others send him no more than this before he has read it.
    pub(crate) fn with_window(from: IpAddr, papers: Option<&Credentials>, protocol: &[u8], window: u32) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Gullible));
        let mut tls = match papers {
            Some(Credentials { certificate, key, .. }) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone()));
                builder.with_client_auth_cert(vec![certificate.clone().into()], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![protocol.to_vec()];
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let mut transport = quinn::TransportConfig::default();
        transport.keep_alive_interval(Some(Duration::from_millis(200)));
        transport.stream_receive_window(VarInt::from_u32(window)).receive_window(VarInt::from_u32(window));
        config.transport_config(Arc::new(transport));
        Self { endpoint: quinn::Endpoint::client((from, 0).into()).unwrap(), config }
    }

    pub(crate) fn connect(&self, at: SocketAddr) -> quinn::Connecting {
        self.endpoint.connect_with(self.config.clone(), at, "whoever.mgmt").unwrap()
    }

    pub(crate) async fn connected(&self, at: SocketAddr) -> Connection {
        self.connect(at).await.unwrap()
    }

    /// How it ends when he comes: at once, or after he was let in.
    pub(crate) async fn turned_away(&self, at: SocketAddr) -> ConnectionError {
        match self.connect(at).await {
            Ok(connection) => ended(&connection).await,
            Err(error) => error,
        }
    }

    /// First packets of so many handshakes, none of which has an end.
    pub(crate) async fn first_packets(&self, count: usize) -> Vec<Vec<u8>> {
        let sink = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = sink.local_addr().unwrap();
        let mut packets = Vec::new();
        let mut packet = vec![0; 2048];
        while packets.len() < count {
            let attempt = self.connect(at);
            let bytes = sink.recv(&mut packet).await.unwrap();
            packets.push(packet[..bytes].to_vec());
            drop(attempt);
        }
        packets
    }
}

/// How a connection ends.
pub(crate) async fn ended(connection: &Connection) -> ConnectionError {
    tokio::time::timeout(Duration::from_secs(20), connection.closed()).await.expect("it is closed")
}

/// Whether it was closed by the other's program, with this number.
pub(crate) fn closed_with(error: &ConnectionError, code: u32) -> bool {
    matches!(error, ConnectionError::ApplicationClosed(close) if close.error_code == VarInt::from_u32(code))
}

/// What a stream of a member begins with.
pub(crate) fn hello(lane: u8) -> Vec<u8> {
    [&[lane][..], &7_u64.to_le_bytes()].concat()
}

/// A message of a member.
pub(crate) fn frame(call: u64, body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_le_bytes()[..], &call.to_le_bytes(), body].concat()
}

/// One lane of a member.
pub(crate) struct Talk {
    sender: quinn::SendStream,
    receiver: quinn::RecvStream,
    calls: u64,
}

impl Talk {
    pub(crate) async fn begin(connection: &Connection, lane: u8) -> Self {
        let (mut sender, mut receiver) = connection.open_bi().await.unwrap();
        sender.write_all(&hello(lane)).await.unwrap();
        let mut life = [0; 8];
        receiver.read_exact(&mut life).await.unwrap();
        Self { sender, receiver, calls: 0 }
    }

    /// Whether it went out.
    pub(crate) async fn say(&mut self, body: &[u8]) -> bool {
        self.calls += 1;
        self.sender.write_all(&frame(self.calls, body)).await.is_ok()
    }

    /// The next answer, whatever it is to; `None` if there is none.
    pub(crate) async fn hear(&mut self) -> Option<Vec<u8>> {
        let read = async {
            let mut head = [0; 12];
            self.receiver.read_exact(&mut head).await.ok()?;
            let bytes = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
            let mut body = vec![0; bytes as usize];
            self.receiver.read_exact(&mut body).await.ok()?;
            Some(body)
        };
        tokio::time::timeout(ANSWER, read).await.ok()?
    }

    pub(crate) async fn ask(&mut self, body: &[u8]) -> Option<Vec<u8>> {
        if !self.say(body).await {
            return None;
        }
        self.hear().await
    }
}

/// Numbers that look like chance.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (self.0 >> 56) as u8;
        }
    }
}

/// Sends packets of garbage, half of which look like the beginning of a handshake.
pub(crate) fn garbage(at: SocketAddr, packets: usize) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut noise = Noise(1);
    let mut packet = vec![0; 1500];
    for number in 0..packets {
        noise.fill(&mut packet);
        if number % 2 == 0 {
            packet[..5].copy_from_slice(&[0xc3, 0, 0, 0, 1]);
        }
        let bytes = 1 + (noise.0 >> 33) as usize % packet.len();
        let _dropped = socket.send_to(&packet[..bytes], at);
    }
}
