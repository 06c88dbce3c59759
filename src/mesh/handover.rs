//! The key of the authority is on masters alone: handed to a candidate before it is appointed, deleted when it is
//! none.
//!
//! The steward of each member answers what others hand to it or ask of it, gives candidates the key while this host
//! leads, and throws it away once this host neither votes nor is about to. The key is never in the log: whoever reads
//! the log, or a backup of it, signs nothing.

mod judge;
mod rotation;

pub use rotation::rotate;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mgmt_consensus::authority::{Authority, Badge, Certificate, KeyPair};
use mgmt_consensus::types::{Member, RaftId};
use mgmt_store::Shared;
use mgmt_store::replicated::Read;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use self::judge::{May, Needs};
use super::joining::authorities;
use super::keyring::{KeepError, Keyring};
use super::messages::HexText;
use super::messages::hand::{Hand, Handed};
use super::messages::join::{Kind, Papers};
use super::node::{Client, Replica};
use super::porter;
use super::surroundings::unix_ms;

/// Errands that wait for the steward, and that it is on: those of all members of a small mesh at once.
const ERRANDS_MAX: usize = 64;
/// How long handing something to one member may take: its disk, and the network.
const HAND: Duration = Duration::from_secs(5);
/// How long it may take to know everything that was committed.
const LATEST: Duration = Duration::from_secs(3);
/// Between two looks at whether the key is needed here.
const LOOK: Duration = Duration::from_secs(1);
/// A candidate that was not appointed for so long is none.
const CANDIDATE: Duration = Duration::from_secs(60);

/// What the steward is asked.
#[derive(Debug)]
pub enum Errand {
    /// Give these what they need as masters: of whoever leads.
    Prepare(Vec<(RaftId, Member)>, oneshot::Sender<Result<(), String>>),
    /// Answer what a member hands to this one.
    Handed(Member, Bytes, oneshot::Sender<Bytes>),
}

/// The way to the steward of this life.
#[derive(Debug, Clone)]
pub struct Bell(mpsc::Sender<Errand>);

/// Who listens to it.
#[derive(Debug)]
pub struct Rung(mpsc::Receiver<Errand>);

impl Bell {
    /// A bell, and its other end.
    #[must_use]
    pub fn new() -> (Self, Rung) {
        let (sender, receiver) = mpsc::channel(ERRANDS_MAX);
        (Self(sender), Rung(receiver))
    }

    /// Has candidates given what they need.
    ///
    /// # Errors
    /// In words, why one of them has it not.
    pub async fn prepare(&self, newcomers: Vec<(RaftId, Member)>) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(Errand::Prepare(newcomers, reply)).map_err(|_| "too much is handed over at once".to_owned())?;
        answer.await.unwrap_or_else(|_| Err("this host stops".to_owned()))
    }

    /// What is answered to what a member hands over.
    pub async fn handed(&self, from: &Member, message: &[u8]) -> Bytes {
        let (reply, answer) = oneshot::channel();
        let errand = Errand::Handed(from.clone(), Bytes::copy_from_slice(message), reply);
        if self.0.try_send(errand).is_err() {
            return write(Handed::refused(Kind::TryAgain, "too much is handed over at once: try again"));
        }
        answer.await.unwrap_or_else(|_| write(Handed::refused(Kind::TryAgain, "this host stops: try another")))
    }
}

/// Who looks after the authority on a member.
#[derive(Clone)]
pub struct Steward {
    replica: Replica,
    client: Client,
    shared: Arc<Shared>,
    keyring: Arc<Keyring>,
}

impl Steward {
    /// Of a member.
    #[must_use]
    pub fn new(replica: Replica, client: Client, shared: Arc<Shared>, keyring: Arc<Keyring>) -> Self {
        Self { replica, client, shared, keyring }
    }

    /// Works for as long as it is polled.
    pub async fn work(self, mut rung: Rung) {
        let mut errands = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                _ = errands.join_next(), if !errands.is_empty() => {}
                errand = rung.0.recv(), if errands.len() < ERRANDS_MAX => match errand {
                    None => return,
                    Some(errand) => {
                        let steward = self.clone();
                        errands.spawn(async move { steward.run(errand).await });
                    }
                },
            }
        }
    }

    async fn run(&self, errand: Errand) {
        // Whoever asked may have gone since; nothing is promised to him then.
        match errand {
            Errand::Prepare(newcomers, reply) => drop(reply.send(self.prepare(newcomers).await)),
            Errand::Handed(from, message, reply) => drop(reply.send(write(self.answer(&from, &message).await))),
        }
    }

    /// Hands the authority to all of these.
    async fn prepare(&self, newcomers: Vec<(RaftId, Member)>) -> Result<(), String> {
        let authority = self.keyring.authority().ok_or("this host has no key of the authority to hand over")?;
        let message = hand_over(&authority, &self.keyring.papers().authorities);
        let message = message.write().map_err(|error| error.to_string())?;
        let mut handing = JoinSet::new();
        for (id, member) in newcomers {
            let (replica, message) = (self.replica.clone(), message.clone());
            handing.spawn(async move {
                let answer = replica.hand(id, message, HAND).await;
                match answer.map_err(|error| error.to_string()).and_then(|answer| kept(&answer)) {
                    Ok(()) => {
                        tracing::info!(host = member.host, "mesh: the authority's key was handed over");
                        Ok(())
                    }
                    Err(why) => Err(format!("{} has not taken the authority's key: {why}", member.host)),
                }
            });
        }
        while let Some(handed) = handing.join_next().await {
            handed.unwrap_or_else(|error| Err(error.to_string()))?;
        }
        Ok(())
    }

    /// What a member is told that hands something over or asks for something.
    async fn answer(&self, from: &Member, message: &[u8]) -> Handed {
        let hand = match Hand::read(message) {
            Ok(hand) => hand,
            Err(error) => return Handed::refused(Kind::Malformed, error.to_string()),
        };
        if let Err(why) = judge::may(&May::of(&self.replica.standing(), from), &hand) {
            tracing::warn!(host = from.host, ?hand, "mesh: refused: {why}");
            return Handed::refused(Kind::Other, why);
        }
        match hand {
            Hand::Authority { authorities, key } => self.keep(authorities, key).await,
            Hand::Fetch => match self.keyring.authority() {
                Some(authority) => match hand_over(&authority, &self.keyring.papers().authorities) {
                    Hand::Authority { authorities, key } => Handed::Authority { authorities, key },
                    _ => Handed::refused(Kind::Other, "there is none"),
                },
                None => Handed::refused(Kind::TryAgain, "this host has no key of the authority either"),
            },
            Hand::Renew { public_key } => self.sign(from, &public_key.0).await,
            Hand::Authorities => Handed::Authorities { authorities: sent(&self.keyring.papers().authorities) },
            Hand::Rotate => match self.rotate(from).await {
                Ok(()) => Handed::Kept,
                Err(why) => Handed::refused(Kind::Other, why),
            },
        }
    }

    async fn keep(&self, sent: Vec<HexText>, key: HexText) -> Handed {
        let (authorities, key) = match (authorities(&sent), KeyPair::from_pkcs8(&key.0)) {
            (Ok(authorities), Ok(key)) => (authorities, key),
            (Err(why), _) => return Handed::refused(Kind::Malformed, why),
            (_, Err(error)) => return Handed::refused(Kind::Malformed, error.to_string()),
        };
        let keyring = self.keyring.clone();
        match aside(move || keyring.keep(authorities, key)).await {
            Ok(()) => Handed::Kept,
            Err(why) => Handed::refused(Kind::Other, why),
        }
    }

    /// A certificate for a member with the key that the registry has of it.
    async fn sign(&self, from: &Member, public_key: &[u8; 32]) -> Handed {
        let Some(authority) = self.keyring.authority() else {
            return Handed::refused(Kind::TryAgain, "this host has no key of the authority: ask another master");
        };
        let (host, peer) = (from.host.clone(), from.peer);
        let badge = self.client.read(Read::Latest(LATEST), |store| {
            porter::registered(store, (authority.cluster(), peer, &host), public_key)
        });
        let badge = match badge.await {
            Ok(found) => found.value,
            Err(error) => return Handed::refused(Kind::TryAgain, format!("there is no quorum here just now: {error}")),
        };
        match badge.and_then(|badge| self.made(&authority, &badge, public_key).map_err(|why| (Kind::Other, why))) {
            Ok(papers) => Handed::Papers(papers),
            Err((kind, why)) => Handed::refused(kind, why),
        }
    }

    /// A certificate for this host itself, if it can sign. Without a quorum too: nobody could renew the masters of a mesh
    /// whose certificates have all ended, and whoever has the key can sign what he likes.
    pub(super) fn own(&self, public_key: &[u8; 32]) -> Option<Result<Papers, String>> {
        let authority = self.keyring.authority()?;
        let me = self.replica.identity();
        let who = (authority.cluster(), me.peer, me.host.as_str());
        let badge = self.shared.read(|store| porter::registered(store, who, public_key));
        Some(badge.map_err(|(_, why)| why).and_then(|badge| self.made(&authority, &badge, public_key)))
    }

    fn made(&self, authority: &Authority, badge: &Badge, public_key: &[u8; 32]) -> Result<Papers, String> {
        let certificate = authority.issue(badge, public_key, unix_ms() / 1000).map_err(|error| error.to_string())?;
        Ok(Papers {
            certificate: HexText(certificate.der().to_vec()),
            authorities: sent(&self.keyring.papers().authorities),
            members: Vec::new(),
        })
    }

    /// Keeps the key where it is needed and nowhere else, for as long as it is polled.
    pub async fn watch(self) {
        let mut needs = Needs::new(CANDIDATE);
        loop {
            let standing = self.replica.standing();
            let votes = standing.voters().iter().any(|set| set.contains(&standing.id));
            let has = self.keyring.authority().is_some();
            match needs.look(votes, has, self.replica.now_ms()) {
                judge::Deed::Nothing => {}
                judge::Deed::Fetch => self.fetch().await,
                judge::Deed::Forget => self.forget().await,
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn forget(&self) {
        let keyring = self.keyring.clone();
        match aside(move || keyring.forget().map_err(KeepError::from)).await {
            Ok(_) => tracing::info!("mesh: this host is no master: the authority's key was deleted here"),
            Err(why) => tracing::error!("mesh: the authority's key cannot be deleted: {why}"),
        }
    }

    /// A master without the key, because its file was lost, asks the others.
    async fn fetch(&self) {
        let standing = self.replica.standing();
        let others: Vec<RaftId> = standing.voters().into_iter().flatten().filter(|id| *id != standing.id).collect();
        self.fetch_from(&others).await;
    }

    async fn fetch_from(&self, others: &[RaftId]) {
        for id in others.iter().copied() {
            let Ok(message) = Hand::Fetch.write() else { return };
            let Ok(answer) = self.replica.hand(id, message, HAND).await else { continue };
            if let Ok(Handed::Authority { authorities, key }) = Handed::read(&answer) {
                match self.keep(authorities, key).await {
                    Handed::Kept => {
                        tracing::info!("mesh: another master has given this one the authority's key");
                        return;
                    }
                    other => tracing::warn!(?other, "mesh: the authority's key of another master is not kept"),
                }
            }
        }
    }
}

/// The authority, to be handed to somebody.
fn hand_over(authority: &Authority, believed: &[Certificate]) -> Hand {
    let first = authority.certificate();
    let others = believed.iter().filter(|other| *other != first);
    let all: Vec<Certificate> = std::iter::once(first).chain(others).cloned().collect();
    Hand::Authority { authorities: sent(&all), key: HexText(authority.key().pkcs8().to_vec()) }
}

fn sent(certificates: &[Certificate]) -> Vec<HexText> {
    certificates.iter().map(|certificate| HexText(certificate.der().to_vec())).collect()
}

/// Whether it was kept.
fn kept(answer: &[u8]) -> Result<(), String> {
    match Handed::read(answer) {
        Ok(Handed::Kept) => Ok(()),
        Ok(Handed::Refused { why, .. }) => Err(super::messages::printable(&why)),
        Ok(_) => Err("it has answered something else".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn write(handed: Handed) -> Bytes {
    handed.write().unwrap_or_else(|error| {
        tracing::error!(%error, "a member gets no answer");
        Bytes::new()
    })
}

/// Does what waits for the disk, where nobody else waits for it.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeepError> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
