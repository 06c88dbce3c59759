//! Lets others in: answers whoever knocks with a token, or with a certificate that has ended.
//!
//! What is said is judged by a pure function against the store; then it is done, in this order: everything that was
//! committed is known here, the verdict, the token is used in the log, the peer is in the registry, and only then is
//! there a certificate. Whoever asks again because the answer was lost is told the same again, and uses the token once.

mod attempts;
mod judge;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mgmt_consensus::authority::{Authority, Badge, Certificate, key_hash};
use mgmt_consensus::{ClusterId, PeerId};
use mgmt_store::Proposer;
use mgmt_store::outcome::Clash;
use mgmt_store::record::Peer;
use mgmt_store::replicated::Read;
use mgmt_store::{Body, CallError, Client, HostName, Refusal, Revision, Role, Shared};

use self::attempts::Attempts;
pub(super) use self::judge::registered;
pub use self::judge::{Verdict, judge, judge_renewal};
use super::keyring::Keyring;
use super::messages::join::{ADDRESSES_MAX, Ask, Kind, MEMBERS_MAX, MemberAt, Papers, Reply, Signed, Who, Wish};
use super::messages::{HexText, MESSAGE_BYTES_MAX};

/// How long each step may take: longer than it takes to elect a leader, and with all of them shorter than a visit.
const LIMIT: Duration = Duration::from_secs(2);
/// Tokens that were used here and whose peers are not in the registry yet.
const USED_MAX: usize = 256;

/// How often a token may be used by somebody else between the verdict and its use.
const RACES_MAX: usize = 16;

/// What a porter needs to know of the world.
pub trait Lodge: Send + Sync + 'static {
    /// Milliseconds since 1970.
    fn unix_ms(&self) -> u64;

    /// Who the masters are.
    fn masters(&self) -> Vec<PeerId>;
}

/// Who this host is, and what it understands.
#[derive(Debug, Clone)]
pub struct Own {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its peer.
    pub peer: PeerId,
    /// Its name.
    pub host: HostName,
    /// The feature levels that it understands.
    pub versions: mgmt_store::record::Versions,
}

/// The porter of one member.
pub struct Porter<P> {
    own: Own,
    client: Client<P>,
    shared: Arc<Shared>,
    keyring: Arc<Keyring>,
    lodge: Arc<dyn Lodge>,
    attempts: Mutex<Attempts>,
    /// One at a time: many who come at once with one token would only get in each other's way.
    admitting: tokio::sync::Mutex<()>,
    /// Whose token was used here, under which key.
    used: Mutex<BTreeMap<ByToken, (PeerId, [u8; 32])>>,
}

/// A token, and the host it was used for.
type ByToken = (String, String);

/// Whether only somebody who has a token's secret, or a certificate's key, is told this. He guesses nothing, and it may be
/// `doctor` who asks, which must not keep out whoever joins a moment later.
const fn has_the_secret(kind: Kind) -> bool {
    matches!(kind, Kind::Level | Kind::OtherHost | Kind::Expired | Kind::UsedUp)
}

impl<P: Proposer> Porter<P> {
    /// At the door of a member.
    #[must_use]
    pub fn new(own: Own, client: Client<P>, shared: Arc<Shared>, keyring: Arc<Keyring>, lodge: Arc<dyn Lodge>) -> Self {
        let (attempts, admitting, used) = Default::default();
        Self { own, client, shared, keyring, lodge, attempts, admitting, used }
    }

    /// What somebody is told who comes from there and says this on a connection with this exporter.
    pub async fn answer(&self, from: SocketAddr, exporter: &[u8; 32], message: &[u8]) -> Bytes {
        let reply = match Ask::read(message) {
            Ok(Ask::Who) => Reply::Who(self.who()),
            Ok(Ask::Join(signed)) => self.guarded(from, self.join(from, exporter, &signed)).await,
            Ok(Ask::Renew(signed)) => self.guarded(from, self.renew(exporter, &signed)).await,
            Err(error) => Reply::refused(Kind::Malformed, error.to_string()),
        };
        reply.write().unwrap_or_else(|error| {
            tracing::error!(%error, "a visitor gets no answer");
            Bytes::new()
        })
    }

    /// Whoever has failed too often waits; whoever fails now is counted.
    async fn guarded(&self, from: SocketAddr, answer: impl Future<Output = Reply>) -> Reply {
        let attempts = || self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wait) = attempts().must_wait(from.ip(), self.lodge.unix_ms()) {
            let why =
                format!("too many attempts from {} have failed: try again in {} s", from.ip(), wait.as_secs() + 1);
            return Reply::refused(Kind::Slow, why);
        }
        let reply = answer.await;
        if let Reply::Refused { why, kind } = &reply
            && *kind != Kind::TryAgain
        {
            tracing::info!(%from, "mesh: not let in: {why}");
            if !has_the_secret(*kind) {
                attempts().failed(from.ip(), self.lodge.unix_ms());
            }
        }
        reply
    }

    fn who(&self) -> Who {
        Who {
            cluster: self.own.cluster.into(),
            peer: self.own.peer.into(),
            host: self.own.host.to_string(),
            unix_ms: self.lodge.unix_ms(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            level_min: self.own.versions.min,
            level_max: self.own.versions.max,
        }
    }

    async fn join(&self, from: SocketAddr, exporter: &[u8; 32], signed: &Signed) -> Reply {
        let wish = match signed.wish() {
            Ok(wish) => wish,
            Err(error) => return Reply::refused(Kind::Malformed, error.to_string()),
        };
        let Some(authority) = self.keyring.authority() else { return self.elsewhere() };
        let Ok(_turn) = tokio::time::timeout(LIMIT, self.admitting.lock()).await else {
            return Reply::refused(Kind::TryAgain, "many others are being let in: try again");
        };
        for _ in 0..RACES_MAX {
            let read = self.client.read(Read::Latest(LIMIT), |store| {
                judge(store, (self.own.cluster, self.lodge.unix_ms()), &wish, signed, exporter, self.begun(&wish))
            });
            let (host, role) = match read.await.map(|found| found.value) {
                Ok(Verdict::Refuse(kind, why)) => return Reply::refused(kind, why),
                Ok(Verdict::Known { host, role }) => (host, role),
                Ok(Verdict::Admit { host, role, replace, used }) => {
                    match self.admit(from, &wish, &host, (role, replace, used)).await {
                        Ok(()) => tracing::info!(%host, %role, %from, token = wish.token, "mesh: let in"),
                        Err(CallError::Refused(Refusal::Conflict(Clash::TokenUsed))) => continue,
                        Err(error) => return judge::refused(error, &wish),
                    }
                    (host, role)
                }
                Err(error) => return judge::refused(error, &wish),
            };
            let badge = Badge { cluster: self.own.cluster, peer: wish.peer.into(), host: host.to_string(), role };
            return self.papers(&authority, &badge, &wish.public_key.0);
        }
        Reply::refused(Kind::TryAgain, "others used the token at the same moment: try again")
    }

    /// Uses the token and enters the peer into the registry.
    async fn admit(
        &self,
        from: SocketAddr,
        wish: &Wish,
        host: &HostName,
        (role, replace, used): (Role, bool, Option<u32>),
    ) -> Result<(), CallError> {
        if let Some(used) = used {
            let consume = Body::TokenConsume { id: wish.token.as_str().into(), host: host.clone(), used };
            self.client.call(consume, LIMIT).await?;
            self.begin(wish);
        }
        let peer = Peer {
            peer: wish.peer.into(),
            role,
            addresses: vec![from.to_string().into()],
            zone: wish.zone.iter().map(|part| part.as_str().into()).collect(),
            versions: mgmt_store::record::Versions { min: wish.level_min, max: wish.level_max },
            key_hash: key_hash(&wish.public_key.0),
            admitted: Revision(0),
        };
        let admit = Body::PeerAdmit { host: host.clone(), peer, replace };
        self.client.call(admit, LIMIT).await?;
        self.used.lock().unwrap_or_else(PoisonError::into_inner).remove(&by_token(wish));
        Ok(())
    }

    /// Whether this wish has used its token here already, and got no further.
    fn begun(&self, wish: &Wish) -> bool {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.get(&by_token(wish)) == Some(&(wish.peer.into(), wish.public_key.0))
    }

    fn begin(&self, wish: &Wish) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= USED_MAX {
            used.pop_first();
        }
        used.insert(by_token(wish), (wish.peer.into(), wish.public_key.0));
    }

    async fn renew(&self, exporter: &[u8; 32], signed: &Signed) -> Reply {
        let certificate = match signed.renewal() {
            Ok(renewal) => Certificate::from_der(renewal.certificate.0),
            Err(error) => return Reply::refused(Kind::Malformed, error.to_string()),
        };
        let certificate = match certificate {
            Ok(certificate) => certificate,
            Err(error) => return Reply::refused(Kind::Malformed, error.to_string()),
        };
        let Some(authority) = self.keyring.authority() else { return self.elsewhere() };
        let believed = self.keyring.papers().authorities;
        let now_s = self.lodge.unix_ms() / 1000;
        let read = self.client.read(Read::Latest(LIMIT), |store| {
            judge_renewal(store, self.own.cluster, (&certificate, &believed), signed, exporter, now_s)
        });
        match read.await {
            Ok(found) => match found.value {
                Ok(badge) => self.papers(&authority, &badge, certificate.public_key()),
                Err((kind, why)) => Reply::refused(kind, why),
            },
            Err(error) => judge::not_now(error),
        }
    }

    /// A certificate and what else makes a member, for somebody who is in the registry.
    fn papers(&self, authority: &Authority, badge: &Badge, public_key: &[u8; 32]) -> Reply {
        let certificate = match authority.issue(badge, public_key, self.lodge.unix_ms() / 1000) {
            Ok(certificate) => certificate,
            Err(error) => return Reply::refused(Kind::Other, format!("no certificate can be made: {error}")),
        };
        let authorities = self.keyring.papers().authorities;
        let papers = Papers {
            certificate: HexText(certificate.der().to_vec()),
            authorities: authorities.iter().map(|authority| HexText(authority.der().to_vec())).collect(),
            members: self.members(),
        };
        Reply::Joined(papers)
    }

    fn elsewhere(&self) -> Reply {
        let masters = self.lodge.masters();
        let at = self.places(|peer| masters.contains(&peer) && peer != self.own.peer);
        let addresses: Vec<SocketAddr> =
            at.into_iter().flat_map(|member| member.addresses).take(ADDRESSES_MAX).collect();
        if addresses.is_empty() {
            return Reply::refused(Kind::TryAgain, "no master can be reached from here just now: try again");
        }
        Reply::Elsewhere { addresses }
    }

    /// Masters first; not more than fit into an answer.
    fn members(&self) -> Vec<MemberAt> {
        let masters = self.lodge.masters();
        let mut members = self.places(|peer| masters.contains(&peer));
        members.extend(self.places(|peer| !masters.contains(&peer)));
        let mut bytes = 0;
        let fits = |member: &MemberAt| {
            bytes += 100 + member.host.len() + member.addresses.len() * 60;
            bytes < MESSAGE_BYTES_MAX / 2
        };
        members.into_iter().take_while(fits).collect()
    }

    /// Where these peers are, as far as the registry says; not too many.
    fn places(&self, which: impl Fn(PeerId) -> bool) -> Vec<MemberAt> {
        self.shared.read(|store| {
            let chosen = store.peers().filter(|(_, peer)| which(peer.peer));
            let at = |(host, peer): (HostName, Peer)| MemberAt {
                peer: peer.peer.into(),
                host: host.to_string(),
                addresses: peer.addresses.iter().filter_map(|address| address.parse().ok()).collect(),
            };
            chosen.map(at).take(MEMBERS_MAX).collect()
        })
    }
}

fn by_token(wish: &Wish) -> ByToken {
    (wish.token.clone(), wish.host.clone())
}
