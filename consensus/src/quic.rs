//! The network of the program: QUIC with TLS 1.3 on both sides. The only door to quinn and rustls.
//!
//! One [`Endpoint`] is one UDP socket. Over it come and go members, who know each other by certificates of one authority
//! ([`Quic`], a [`Transport`](crate::transport::Transport)), and visitors, who have none yet: whoever wants to join, and
//! whoever founds with others ([`Visit`]).
//!
//! * Who somebody is says the certificate, never an address: the name in the handshake is the peer that is meant, so
//!   that nobody else can answer. Whether he is let in says the [`Doorkeeper`], at every handshake and when asked again.
//! * A peer opens one connection to each peer it calls, and on it one standing stream for each lane. What comes the
//!   other way comes on the other peer's connection.
//! * Everything has a bound ([`crate::limits`]): handshakes, visits, streams, windows, frames, what waits on either side.
//!   A flood is answered by closing, by not reading, or by losing what is too much; one line a minute says so.
//!
//! It knows nothing of Raft, of tokens, or of what the messages say.

use std::net::SocketAddr;
use std::time::Duration;

use crate::identity::PeerId;
use crate::limits::RECHECK;

mod answers;
mod backoff;
mod calls;
mod clock;
mod complaints;
mod configs;
mod dial;
mod endpoint;
mod frame;
mod guests;
mod inbox;
mod mesh;
mod peer;
mod sources;
mod stranger;
mod verify;
mod visits;

pub use answers::QuicReply;
pub use endpoint::Endpoint;
pub use mesh::Quic;
pub use visits::{Visit, VisitError, Visited, Visits};

/// How an endpoint behaves.
#[derive(Clone)]
pub struct Options {
    /// Where it listens, with UDP. Port 0: any that is free.
    pub listen: SocketAddr,
    /// A connection on which nothing was heard for so long is dead.
    pub idle: Duration,
    /// How often something is said on a connection that has nothing to say.
    pub keep_alive: Duration,
    /// What a round trip is taken to be before one was measured: a first loss costs three of these.
    pub initial_rtt: Duration,
    /// Whether the kernel may cut packets. Some virtual network cards do it wrong.
    pub segmentation_offload: bool,
    /// From this come the tokens by which others see at once that this endpoint was started again at the same address:
    /// it must then be the same as before, and nobody else may know it. `None`: they see it once they hear from it, or
    /// after [`Self::idle`].
    pub reset_secret: Option<[u8; 32]>,
    /// How often everybody who is connected is looked at again, as by [`Quic::recheck`]: so long may a connection outlive
    /// its certificate.
    pub recheck: Duration,
}

impl Options {
    /// For hosts that are near each other.
    #[must_use]
    pub fn lan(listen: SocketAddr) -> Self {
        Self {
            listen,
            idle: Duration::from_secs(2),
            keep_alive: Duration::from_millis(500),
            initial_rtt: Duration::from_millis(30),
            segmentation_offload: true,
            reset_secret: None,
            recheck: RECHECK,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("listen", &self.listen).field("idle", &self.idle).finish_non_exhaustive()
    }
}

/// What a peer shows of itself, and whom it believes. All of it DER.
#[derive(Clone)]
pub struct Credentials {
    /// Its own certificate.
    pub certificate: Vec<u8>,
    /// The key to it, as PKCS #8.
    pub key: Vec<u8>,
    /// The certificates of the authorities whose word counts; more than one while they change.
    pub authorities: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("authorities", &self.authorities.len()).finish_non_exhaustive()
    }
}

/// Whom a certificate belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Who it is.
    pub peer: PeerId,
    /// Whether he may be appointed, and hence speak as a leader or a candidate.
    pub may_lead: bool,
}

/// Says who is let in, and where others are. It is asked on the threads that carry messages, and must not block.
pub trait Doorkeeper: Send + Sync + 'static {
    /// Whose certificate is this, and is he let in? An authority of ours has signed it, and it has not expired. Asked at
    /// each handshake, of either side, and again by [`Quic::recheck`].
    ///
    /// # Errors
    /// In words, which are logged here and told to him.
    fn admits(&self, certificate: &[u8]) -> Result<Caller, String>;

    /// Where a peer may be reached, the best first. Asked before each attempt.
    fn addresses(&self, peer: PeerId) -> Vec<SocketAddr>;

    /// A peer was reached at an address.
    fn reached(&self, peer: PeerId, at: SocketAddr) {
        let _ = (peer, at);
    }
}

/// What a visitor wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Errand {
    /// To be taken in.
    Join,
    /// To found a cluster together.
    Found,
}

impl Errand {
    /// How it is called in the handshake.
    const fn protocol(self) -> &'static [u8] {
        match self {
            Self::Join => b"mgmt-join/1",
            Self::Found => b"mgmt-found/1",
        }
    }
}

/// How members call theirs.
const MESH: &[u8] = b"mgmt/1";

/// Whom a visitor is ready to believe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// Only who shows a certificate signed by the authority whose public key (SubjectPublicKeyInfo) has this SHA-256.
    Authority([u8; 32]),
    /// Whoever answers: the messages prove themselves, by the exporter.
    Anybody,
}

/// Why a connection is closed, as the other end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Close {
    /// This end stops.
    Stopping = 0,
    /// All was said.
    Done = 1,
    /// It does not let the other in.
    Refused = 2,
    /// The other broke the rules.
    Misbehaved = 3,
    /// Too many at once.
    Busy = 4,
    /// There is a newer connection.
    Replaced = 5,
    /// Nobody has anything to say.
    Idle = 6,
}

impl Close {
    fn say(self, connection: &quinn::Connection, why: &str) {
        let why = &why.as_bytes()[..why.len().min(crate::limits::WHY_BYTES_MAX / 4)];
        connection.close((self as u32).into(), why);
    }
}

/// What the TLS session exports: both ends have it, and nobody between them.
type Exporter = [u8; 32];

fn exporter(connection: &quinn::Connection) -> Exporter {
    let mut secret = [0; 32];
    let exported = connection.export_keying_material(&mut secret, b"mgmt visit", b"");
    exported.expect("32 bytes are not too many");
    secret
}

/// Chance that others cannot guess.
fn chance<const BYTES: usize>() -> [u8; BYTES] {
    let mut drawn = [0; BYTES];
    let filled = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut drawn);
    filled.expect("the system has chance to give");
    drawn
}
