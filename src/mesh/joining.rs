//! How this host is let into a mesh by a token.
//!
//! It believes whoever shows the authority that the token names, and nobody else; it shows that it has the token by a
//! signature that is worth nothing on any other connection. Its key is made here and never leaves.

mod knock;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use mgmt_consensus::PeerId;
use mgmt_consensus::authority::token::Token;
use mgmt_consensus::authority::{Certificate, KeyPair};
use mgmt_store::record::Versions;

pub use knock::Knock;

use super::messages::join::{Ask, Kind, MemberAt, Renewal, Reply, Wish};
use super::messages::{self, HexBytes, HexText, printable};
use super::papers::Papers;

/// How long one answer is waited for: a few syncs and an election.
const VISIT: Duration = Duration::from_secs(5);
/// The first pause after everybody was asked in vain; every further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Addresses that others may send this host to.
const ELSEWHERE_MAX: usize = 64;

/// Who wants to be let in.
#[derive(Debug)]
pub struct Applicant<'a> {
    /// His host's name.
    pub host: &'a str,
    /// Who he will be.
    pub peer: PeerId,
    /// His key.
    pub key: &'a KeyPair,
    /// He wants the name even if somebody has it.
    pub replace: bool,
    /// Where he stands.
    pub zone: &'a [std::sync::Arc<str>],
    /// What he understands.
    pub versions: Versions,
}

/// What makes this host a member.
#[derive(Debug)]
pub struct Joined {
    /// Its papers, to be saved.
    pub papers: Papers,
    /// Some of those who are there, masters first.
    pub members: Vec<MemberAt>,
}

/// Why it is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Said by a member; asking again does not help.
    #[error("{why}")]
    Refused {
        /// For programs.
        kind: Kind,
        /// In words, with what to do.
        why: String,
    },
    /// Nobody has let it in in time.
    #[error("nobody has let this host in within {} s: {}", .patience.as_secs(), sentence(.tried))]
    Patience {
        /// How long it was tried.
        patience: Duration,
        /// Who was asked, and what became of it last.
        tried: BTreeMap<SocketAddr, String>,
    },
    /// There is nobody to ask.
    #[error("there is no address of a member to join: give one with --seeds")]
    NoSeeds,
    /// What was answered makes no member of it.
    #[error("a member at {at} has answered with papers that are not for this host: {why}")]
    Strange {
        /// Where.
        at: SocketAddr,
        /// What is wrong with them.
        why: String,
    },
}

fn sentence(tried: &BTreeMap<SocketAddr, String>) -> String {
    let parts: Vec<String> = tried.iter().map(|(at, why)| format!("{at}: {why}")).collect();
    if parts.is_empty() { "nobody was reached".to_owned() } else { parts.join("; ") }
}

/// Joins with a token: asks the seeds, and whom they name, until somebody lets this host in, says no for good, or the
/// patience is over.
///
/// # Errors
/// [`JoinError`].
pub async fn join(
    door: &impl Knock,
    seeds: &[SocketAddr],
    token: &Token,
    who: &Applicant<'_>,
    patience: Duration,
) -> Result<Joined, JoinError> {
    let wish = Wish {
        token: token.id.clone(),
        cluster: token.cluster.into(),
        host: who.host.to_owned(),
        peer: who.peer.into(),
        public_key: HexBytes(who.key.public_key()),
        replace: who.replace,
        zone: who.zone.iter().map(ToString::to_string).collect(),
        level_min: who.versions.min,
        level_max: who.versions.max,
    };
    let say = |exporter: &[u8; 32]| wish.sign(exporter, |message| token.sign(message)).map(Ask::Join)?.write();
    ask(door, seeds, &[token.authority], &say, patience, |papers| {
        let joined = read(papers, who.key, Some(&[token.authority]))?;
        let badge = joined.papers.badge().map_err(|error| error.to_string())?;
        let fits = (badge.cluster, badge.peer, badge.host.as_str()) == (token.cluster, who.peer, who.host);
        if fits { Ok(joined) } else { Err(format!("they are of {} in cluster {}", badge.host, badge.cluster)) }
    })
    .await
}

/// Gets another certificate for one that has ended, as long as the mesh knows this host: without a token, by its key.
///
/// # Errors
/// [`JoinError`].
pub async fn renew(
    door: &impl Knock,
    members: &[SocketAddr],
    papers: &Papers,
    patience: Duration,
) -> Result<Joined, JoinError> {
    let before =
        papers.badge().map_err(|error| JoinError::Refused { kind: Kind::Malformed, why: error.to_string() })?;
    let renewal = Renewal { cluster: before.cluster.into(), certificate: HexText(papers.certificate.der().to_vec()) };
    let say = |exporter: &[u8; 32]| renewal.sign(exporter, |message| papers.key.sign(message)).map(Ask::Renew)?.write();
    let believed: Vec<[u8; 32]> = papers.authorities.iter().map(Certificate::key_hash).collect();
    ask(door, members, &believed, &say, patience, |papers_now| {
        let joined = read(papers_now, &papers.key, Some(&believed))?;
        let badge = joined.papers.badge().map_err(|error| error.to_string())?;
        let same = (badge.cluster, badge.peer, &badge.host) == (before.cluster, before.peer, &before.host);
        if same { Ok(joined) } else { Err(format!("they are of {} in cluster {}", badge.host, badge.cluster)) }
    })
    .await
}

/// What one address has brought.
enum Brought {
    Joined(Box<Joined>),
    Elsewhere(Vec<SocketAddr>),
    Nothing(String),
}

async fn ask(
    door: &impl Knock,
    seeds: &[SocketAddr],
    believed: &[[u8; 32]],
    say: &(impl Fn(&[u8; 32]) -> Result<Bytes, messages::MessageError> + Sync),
    patience: Duration,
    check: impl Fn(&super::messages::join::Papers) -> Result<Joined, String>,
) -> Result<Joined, JoinError> {
    if seeds.is_empty() {
        return Err(JoinError::NoSeeds);
    }
    let until = tokio::time::Instant::now() + patience;
    let mut tried = BTreeMap::new();
    let mut pause = PAUSE_MIN;
    loop {
        // From the back; whom a seed names is asked before the next seed, because he can sign.
        let mut next: Vec<SocketAddr> = seeds.iter().rev().copied().collect();
        let mut named = 0;
        let mut asked = std::collections::BTreeSet::new();
        while let Some(at) = next.pop() {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() || !asked.insert(at) {
                continue;
            }
            match one(door, at, believed, say, left.min(VISIT), &check).await? {
                Brought::Joined(joined) => return Ok(*joined),
                Brought::Elsewhere(addresses) => {
                    tried.insert(at, "it is no master, and has named others".to_owned());
                    for address in addresses.into_iter().rev().filter(|address| !asked.contains(address)) {
                        named += 1;
                        if named <= ELSEWHERE_MAX {
                            next.push(address);
                        }
                    }
                }
                Brought::Nothing(why) => {
                    tried.insert(at, why);
                }
            }
        }
        if until <= tokio::time::Instant::now() + pause {
            return Err(JoinError::Patience { patience, tried });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn one(
    door: &impl Knock,
    at: SocketAddr,
    believed: &[[u8; 32]],
    say: &(impl Fn(&[u8; 32]) -> Result<Bytes, messages::MessageError> + Sync),
    limit: Duration,
    check: &impl Fn(&super::messages::join::Papers) -> Result<Joined, String>,
) -> Result<Brought, JoinError> {
    let mut why = String::new();
    for authority in believed {
        let said = |exporter: &[u8; 32]| {
            say(exporter).unwrap_or_else(|error| {
                tracing::error!(%error, "nothing can be asked of a member");
                Bytes::new()
            })
        };
        match door.knock(at, *authority, said, limit).await {
            Ok(answer) => return judge(at, &answer, check),
            Err(error) => why = error,
        }
    }
    Ok(Brought::Nothing(why))
}

/// What an answer means.
fn judge(
    at: SocketAddr,
    answer: &[u8],
    check: &impl Fn(&super::messages::join::Papers) -> Result<Joined, String>,
) -> Result<Brought, JoinError> {
    match Reply::read(answer) {
        Ok(Reply::Joined(papers)) => match check(&papers) {
            Ok(joined) => Ok(Brought::Joined(Box::new(joined))),
            Err(why) => Err(JoinError::Strange { at, why }),
        },
        Ok(Reply::Elsewhere { addresses }) => Ok(Brought::Elsewhere(addresses)),
        Ok(Reply::Refused { why, kind: Kind::TryAgain | Kind::Slow }) => Ok(Brought::Nothing(printable(&why))),
        Ok(Reply::Refused { why, kind }) => Err(JoinError::Refused { kind, why: printable(&why) }),
        Ok(Reply::Who(_)) => Ok(Brought::Nothing("it has answered something else".to_owned())),
        Err(error) => Ok(Brought::Nothing(error.to_string())),
    }
}

/// Papers as they were sent, for the owner of this key. `believed`: an authority with one of these keys must have signed
/// the certificate, because whoever sent it might be any member; none, if it is known to be a master.
pub(super) fn read(
    papers: &super::messages::join::Papers,
    key: &KeyPair,
    believed: Option<&[[u8; 32]]>,
) -> Result<Joined, String> {
    let own = certificate(&papers.certificate)?;
    let authorities = authorities(&papers.authorities)?;
    if *own.public_key() != key.public_key() {
        return Err("they are of another key".to_owned());
    }
    let cluster = own.badge().map_err(|error| error.to_string())?.cluster;
    if authorities.iter().any(|authority| authority.authority_of() != Ok(cluster)) {
        return Err("an authority is of another cluster".to_owned());
    }
    let known = |hash: [u8; 32]| believed.is_none_or(|believed| believed.contains(&hash));
    // One that takes the place of a known one has a certificate that the known one has signed.
    let vouched = |hash: [u8; 32]| {
        let of_hash = authorities.iter().filter(|bridge| bridge.key_hash() == hash);
        let mut pairs = of_hash.flat_map(|bridge| authorities.iter().map(move |former| (bridge, former)));
        pairs.any(|(bridge, former)| known(former.key_hash()) && bridge.signed_by(former))
    };
    let counts = |authority: &&Certificate| known(authority.key_hash()) || vouched(authority.key_hash());
    if !authorities.iter().filter(counts).any(|authority| own.signed_by(authority)) {
        return Err("no authority that is believed here has signed the certificate".to_owned());
    }
    let papers_now = Papers { key: key.clone(), certificate: own, authorities };
    Ok(Joined { papers: papers_now, members: papers.members.clone() })
}

/// Authorities as they were sent.
pub(super) fn authorities(sent: &[HexText]) -> Result<Vec<Certificate>, String> {
    if sent.len() > mgmt_consensus::limits::AUTHORITIES_MAX {
        return Err(format!("{} authorities at once", sent.len()));
    }
    sent.iter().map(certificate).collect()
}

fn certificate(sent: &HexText) -> Result<Certificate, String> {
    Certificate::from_der(sent.0.clone()).map_err(|error| error.to_string())
}
