//! What keeps this host and another one from speaking, found by trying; and what is wrong with this host's own part.
//!
//! [`judge`] decides from what was observed; [`reach`] observes, in bounded time, and changes nothing on either side.

mod own;

use std::net::SocketAddr;
use std::time::Duration;

use mgmt_consensus::authority::token::Token;
use mgmt_consensus::authority::{Certificate, KeyPair};
use mgmt_consensus::quic::{Endpoint, Errand, Options, Pin, VisitError};
use mgmt_consensus::{ClusterId, PeerId};
use serde::Serialize;
use tokio::net::UdpSocket;

use super::messages::HexBytes;
use super::messages::join::{Ask, Kind, Reply, Who, Wish};
use super::papers::Papers;
use super::surroundings::unix_ms;

pub use own::own;

/// How long the visit may take: answers come within milliseconds, lost packets are sent again after 0.1, 0.3, 0.7 s.
const VISIT: Duration = Duration::from_millis(2_500);
/// How long the answer to a small packet is waited for.
const PROBE: Duration = Duration::from_millis(1_500);
/// Small packets that are sent, in case one is lost.
const PROBES: u32 = 3;
/// A packet that any network carries.
const PROBE_BYTES: usize = 100;
/// Clocks that differ by more than this are worth a word: tokens and certificates live by them.
const SKEW_MS: u64 = 30_000;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What: a word.
    pub check: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Finding {
    fn good(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, ok: true, found: found.into(), remedy: None }
    }

    fn bad(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, ok: false, found: found.into(), remedy: Some(remedy.into()) }
    }
}

/// What came back for a small packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Small {
    /// Something: packets go there and come back.
    Answered,
    /// The system there says that nobody listens.
    Closed,
    /// Nothing.
    Silent,
}

/// What trying to reach somebody has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// He has answered.
    Answered {
        /// Who he says he is.
        who: Box<Who>,
        /// The hashes of the keys in the certificates he has shown, his own first.
        chain: Vec<[u8; 32]>,
        /// When his certificate ends, in seconds since 1970.
        until_s: Option<u64>,
        /// Half of how long that took.
        travel_ms: u64,
        /// This host's clock when the answer came.
        now_ms: u64,
    },
    /// There was no handshake, and this is what came back for a small packet.
    NoHandshake(Small),
    /// He has answered, but not what was asked.
    Strange(String),
    /// It cannot be tried from here.
    Impossible(String),
}

/// What this host believes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beliefs {
    /// Its cluster.
    pub cluster: Option<ClusterId>,
    /// The hashes of its authorities' keys.
    pub authorities: Vec<[u8; 32]>,
    /// Who says so: this host, or the token.
    pub whose: &'static str,
}

impl Beliefs {
    /// Those of a member.
    #[must_use]
    pub fn of(papers: &Papers) -> Self {
        let cluster = papers.badge().ok().map(|badge| badge.cluster);
        let authorities = papers.authorities.iter().map(Certificate::key_hash).collect();
        Self { cluster, authorities, whose: "this host" }
    }

    /// Those of somebody with a token.
    #[must_use]
    pub fn of_token(token: &Token) -> Self {
        Self { cluster: Some(token.cluster), authorities: vec![token.authority], whose: "the token" }
    }
}

/// Says what is wrong, and what to do.
#[must_use]
pub fn judge(to: SocketAddr, seen: &Seen, beliefs: &Beliefs) -> Vec<Finding> {
    let port = to.port();
    match seen {
        Seen::NoHandshake(Small::Silent) => vec![Finding::bad(
            "network",
            format!("nothing comes back from {to}: UDP is blocked on the way, or the host is down"),
            format!("let UDP port {port} through, both ways, and look whether mgmt runs there: mgmt status"),
        )],
        Seen::NoHandshake(Small::Closed) => vec![Finding::bad(
            "network",
            format!("{} answers, and nobody listens on UDP port {port} there", to.ip()),
            "start mgmt there, or name the port it listens on: mgmt status says it there".to_owned(),
        )],
        Seen::NoHandshake(Small::Answered) => vec![
            Finding::good("network", format!("small packets go to {to} and come back")),
            Finding::bad(
                "mtu",
                "packets of 1,200 bytes are lost: the network carries only small ones".to_owned(),
                "raise the MTU of the links or tunnels between the two to 1,280 or more".to_owned(),
            ),
        ],
        Seen::Strange(why) => vec![Finding::bad(
            "mesh",
            format!("{to} answers, but not as a member of a mesh does: {why}"),
            "look at mgmt status there".to_owned(),
        )],
        Seen::Impossible(why) => vec![Finding::bad(
            "network",
            format!("{to} cannot be tried from here: {why}"),
            "look at the routes of this host: ip route".to_owned(),
        )],
        Seen::Answered { who, chain, until_s, travel_ms, now_ms } => {
            let mut findings = vec![Finding::good(
                "network",
                format!("{to} answers after {} ms: {} with mgmt {}", 2 * travel_ms, who.host, who.version),
            )];
            findings.push(authority(who, chain, beliefs));
            findings.push(clocks(who.unix_ms.saturating_sub(*travel_ms), *now_ms, &who.host));
            if let Some(until_s) = until_s.filter(|until_s| until_s.saturating_mul(1000) < *now_ms) {
                findings.push(Finding::bad(
                    "certificate",
                    format!(
                        "the certificate of {} has ended {} days ago",
                        who.host,
                        (now_ms / 1000 - until_s) / 86_400
                    ),
                    "look at mgmt doctor there; if only the clock here is wrong, set it".to_owned(),
                ));
            }
            findings
        }
    }
}

fn authority(who: &Who, chain: &[[u8; 32]], beliefs: &Beliefs) -> Finding {
    let (theirs, whose) = (ClusterId::from(who.cluster), beliefs.whose);
    let known = chain.iter().any(|hash| beliefs.authorities.contains(hash));
    match beliefs.cluster {
        None => Finding::good("authority", format!("{} is of cluster {theirs}; this host is of none", who.host)),
        Some(ours) if ours != theirs => Finding::bad(
            "authority",
            format!("{} is of cluster {theirs}, and {whose} is of {ours}: two clusters never merge", who.host),
            format!(
                "let one of the two leave its mesh, and join the other: mgmt join --help; or name another host than {}",
                who.host
            ),
        ),
        Some(_) if known => Finding::good("authority", format!("{} and {whose} believe the same authority", who.host)),
        Some(_) => Finding::bad(
            "authority",
            format!(
                "{} says it is of the same cluster, but its authority is another one than {whose} believes",
                who.host
            ),
            "make another token there and join again; if nobody has changed the authority, somebody pretends to be it"
                .to_owned(),
        ),
    }
}

fn clocks(theirs_ms: u64, ours_ms: u64, host: &str) -> Finding {
    let apart_ms = theirs_ms.abs_diff(ours_ms);
    let apart = Duration::from_millis(apart_ms).as_secs_f64();
    if apart_ms <= SKEW_MS {
        return Finding::good("clock", format!("the clocks differ by {apart:.1} s"));
    }
    let ahead = if theirs_ms > ours_ms { "ahead of" } else { "behind" };
    let found = format!("the clock of {host} is {apart:.0} s {ahead} this host's");
    Finding::bad("clock", found, "set both by NTP: timedatectl set-ntp true; tokens and certificates live by them")
}

/// Tries to reach somebody. A member there is not disturbed; a token is shown to nobody.
pub async fn reach(to: SocketAddr) -> Seen {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let endpoint = match Endpoint::bind(Options::lan(any)) {
        Ok(endpoint) => endpoint,
        Err(error) => return Seen::Impossible(error.to_string()),
    };
    // Beside each other: together they must not take longer than people wait.
    let (seen, small) = tokio::join!(visit(&endpoint, to), small(to));
    endpoint.close().await;
    match seen {
        Ok(seen) => seen,
        Err(VisitError::Silent(_)) => Seen::NoHandshake(small),
        Err(VisitError::Impossible(_, why)) => Seen::Impossible(why),
        Err(error) => Seen::Strange(error.to_string()),
    }
}

async fn visit(endpoint: &Endpoint, to: SocketAddr) -> Result<Seen, VisitError> {
    let before = tokio::time::Instant::now();
    let question = Ask::Who.write().map_err(|e| VisitError::Impossible(to, e.to_string()))?;
    let visited = endpoint.visit(to, Errand::Join, Pin::Anybody, |_| question, VISIT).await?;
    let travel_ms = u64::try_from(before.elapsed().as_millis() / 2).unwrap_or(u64::MAX);
    let certificates: Vec<_> = visited.chain.iter().filter_map(|der| Certificate::from_der(der.clone()).ok()).collect();
    Ok(match Reply::read(&visited.answer) {
        Ok(Reply::Who(who)) => Seen::Answered {
            who: Box::new(who),
            chain: certificates.iter().map(Certificate::key_hash).collect(),
            until_s: certificates.first().map(Certificate::not_after_s),
            travel_ms,
            now_ms: unix_ms(),
        },
        Ok(_) => Seen::Strange("it has answered something else than was asked".to_owned()),
        Err(error) => Seen::Strange(error.to_string()),
    })
}

/// Sends a small packet of a connection that there is not: a member says that it knows of none. A handshake cannot be
/// tried so: its packets have 1,200 bytes by law.
async fn small(to: SocketAddr) -> Small {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let Ok(socket) = UdpSocket::bind(any).await else { return Small::Silent };
    if socket.connect(to).await.is_err() {
        return Small::Silent;
    }
    // The form of a packet within a connection (RFC 9000, 17.3).
    let mut packet = [0xA5; PROBE_BYTES];
    packet[0] = 0x40;
    let mut heard = [0_u8; 64];
    for _ in 0..PROBES {
        if let Err(error) = socket.send(&packet).await {
            return if error.kind() == std::io::ErrorKind::ConnectionRefused { Small::Closed } else { Small::Silent };
        }
        match tokio::time::timeout(PROBE / PROBES, socket.recv(&mut heard)).await {
            Ok(Ok(_)) => return Small::Answered,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => return Small::Closed,
            Ok(Err(_)) => return Small::Silent,
            Err(_) => {}
        }
    }
    Small::Silent
}

/// Whether a token would let somebody in there. It is not used up: whoever asks says that it understands no feature level
/// that there is, for which nobody is let in; what is wrong with the token is said before that.
pub async fn ask_of_token(to: SocketAddr, token: &Token, member: &str) -> Finding {
    let found = |answer: Result<Kind, String>| match answer {
        Ok(Kind::Level) => Finding::good("token", format!("{member} takes the token")),
        Ok(Kind::Expired) => {
            Finding::bad("token", "the token has expired", "make another on a member: mgmt token create")
        }
        Ok(Kind::UsedUp) => Finding::bad(
            "token",
            "the token was used as often as it may be",
            "make another on a member: mgmt token create",
        ),
        Ok(Kind::NoToken) => Finding::bad(
            "token",
            "the token was revoked, or has long expired",
            "make another on a member: mgmt token create",
        ),
        Ok(Kind::Signature) => {
            Finding::bad("token", "the token was changed on its way", "copy it again from where it was made")
        }
        Ok(Kind::OtherHost) => Finding::good(
            "token",
            "the token is for one host only, by its name; whether it has expired is said to that host alone",
        ),
        Ok(kind) => Finding::bad("token", format!("the token is not taken now: {kind:?}"), "try again in a minute"),
        Err(why) => Finding::bad("token", format!("the token was not taken: {why}"), "look at mgmt status there"),
    };
    found(refusal(to, token, member).await)
}

async fn refusal(to: SocketAddr, token: &Token, member: &str) -> Result<Kind, String> {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let endpoint = Endpoint::bind(Options::lan(any)).map_err(|e| e.to_string())?;
    let key = KeyPair::generate().map_err(|e| e.to_string())?;
    let public_key = key.public_key();
    let (first, _) = public_key.split_first_chunk::<16>().ok_or("a key is too short")?;
    let wish = Wish {
        token: token.id.clone(),
        cluster: token.cluster.into(),
        host: member.to_owned(),
        peer: PeerId(u128::from_be_bytes(*first)).into(),
        public_key: HexBytes(public_key),
        replace: false,
        zone: Vec::new(),
        level_min: u32::MAX,
        level_max: u32::MAX,
    };
    let say = |exporter: &[u8; 32]| {
        let signed = wish.sign(exporter, |message| token.sign(message)).map(Ask::Join);
        // An empty message is refused, which is an answer as well.
        signed.and_then(Ask::write).unwrap_or_default()
    };
    let visited = endpoint.visit(to, Errand::Join, Pin::Authority(token.authority), say, VISIT).await;
    endpoint.close().await;
    match Reply::read(&visited.map_err(|e| e.to_string())?.answer).map_err(|e| e.to_string())? {
        Reply::Refused { kind, .. } => Ok(kind),
        Reply::Elsewhere { .. } => Err("this member is no master and cannot say; ask one of the masters".to_owned()),
        _ => Err("it has answered something else than was asked".to_owned()),
    }
}

#[cfg(test)]
mod tests;
