//! Certificates are renewed long before they end, and authorities are replaced.
//!
//! A member asks a master for another certificate a month after the last; when its own has ended meanwhile, because it
//! or the masters were away, its key is still known in the registry and is proof enough. A master signs for itself: a
//! mesh that was switched off for a year comes back. Now and then each member also asks whom to believe.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mgmt_consensus::authority::{Certificate, DAY_S, RENEW_AFTER_DAYS, SKEW_S};
use mgmt_consensus::quic::{Endpoint, Quic};
use mgmt_consensus::types::RaftId;

use super::handover::Steward;
use super::joining::{self, Joined};
use super::keyring::Keyring;
use super::messages::HexBytes;
use super::messages::hand::{Hand, Handed};
use super::node::Replica;
use super::papers::Papers;
use super::registrar::Book;
use super::surroundings::unix_ms;

/// Between two looks at the clock, which may be set: and at whom to believe.
const LOOK: Duration = Duration::from_secs(60);
/// The first pause after nobody has renewed it; every further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(5);
/// How long one member may take to answer.
const HAND: Duration = Duration::from_secs(5);
/// How long it is tried from outside.
const KNOCK: Duration = Duration::from_secs(10);
/// Not all at once: hosts that were set up together ask within so many days.
const SPREAD_DAYS: u64 = 3;
/// After an authority was made, members have so long to hear of it before anybody shows a certificate of it.
const SETTLE_S: u64 = 120;
/// And then they are renewed within so long.
const SETTLE_SPREAD_S: u64 = 60;

/// What a member's renewal needs of the world.
pub trait World: Send + Sync {
    /// Seconds since 1970.
    fn now_s(&self) -> u64;

    /// Waits.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send;

    /// The certificate at hand, and whom to believe: who signs now is the first.
    fn papers(&self) -> (Certificate, Vec<Certificate>);

    /// Takes over whom to believe, as the masters say.
    fn believe(&self) -> impl Future<Output = ()> + Send;

    /// Gets another certificate, keeps it, and shows it from now on.
    fn renew(&self) -> impl Future<Output = Result<(), String>> + Send;
}

/// When a certificate is to be renewed, in seconds since 1970.
#[must_use]
pub fn due_s(certificate: &Certificate, authorities: &[Certificate]) -> u64 {
    let [a, b, ..] = certificate.key_hash();
    let share = u64::from(u16::from_be_bytes([a, b]));
    let made_s = certificate.not_before_s() + SKEW_S;
    let of_age_s = made_s + RENEW_AFTER_DAYS * DAY_S - SPREAD_DAYS * DAY_S * share / u64::from(u16::MAX);
    match authorities.first() {
        Some(first) if !certificate.signed_by(first) => {
            let heard_s = first.not_before_s() + SKEW_S + SETTLE_S + SETTLE_SPREAD_S * share / u64::from(u16::MAX);
            of_age_s.min(heard_s)
        }
        _ => of_age_s,
    }
}

/// Keeps a certificate good, for as long as it is polled.
pub async fn keep(world: &impl World) {
    let mut pause = PAUSE_MIN;
    loop {
        let (certificate, authorities) = world.papers();
        if world.now_s() < due_s(&certificate, &authorities) {
            pause = PAUSE_MIN;
            world.sleep(LOOK).await;
            world.believe().await;
            continue;
        }
        match world.renew().await {
            Ok(()) => tracing::info!("mesh: this host's certificate was renewed"),
            Err(why) => {
                let left_days = certificate.not_after_s().saturating_sub(world.now_s()) / DAY_S;
                if left_days < RENEW_AFTER_DAYS {
                    tracing::warn!("mesh: this host's certificate ends in {left_days} days and is not renewed: {why}");
                } else {
                    tracing::debug!(why, "the certificate is not renewed yet");
                }
                world.sleep(pause).await;
                pause = (pause * 2).min(LOOK * 10);
            }
        }
    }
}

/// A member.
pub struct Here {
    /// Its part of the group.
    pub replica: Replica,
    /// Who signs, if it can.
    pub steward: Steward,
    /// Its papers.
    pub keyring: Arc<Keyring>,
    /// Where the others are.
    pub book: Arc<Book>,
    /// Its end of the network.
    pub quic: Quic,
    /// The way to others without a certificate that counts.
    pub endpoint: Endpoint,
    /// What others are shown.
    pub shown: Mutex<Papers>,
}

impl Here {
    /// The leader first, then the other masters.
    fn masters(&self) -> Vec<RaftId> {
        let standing = self.replica.standing();
        let voters = standing.voters().into_iter().flatten();
        let others = voters.filter(|id| *id != standing.id && Some(*id) != standing.leader);
        standing.leader.into_iter().filter(|id| *id != standing.id).chain(others).collect()
    }

    async fn ask(&self, hand: &Hand) -> Result<Handed, String> {
        let mut why = "no master is known".to_owned();
        for id in self.masters() {
            let message = hand.clone().write().map_err(|error| error.to_string())?;
            match self.replica.hand(id, message, HAND).await {
                Ok(answer) => match Handed::read(&answer) {
                    Ok(Handed::Refused { why: no, .. }) => why = super::messages::printable(&no),
                    Ok(handed) => return Ok(handed),
                    Err(error) => why = error.to_string(),
                },
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }

    async fn another(&self) -> Result<Joined, String> {
        let papers = self.keyring.papers();
        if let Some(own) = self.steward.own(&papers.key.public_key()) {
            return own.and_then(|sent| joining::read(&sent, &papers.key, None));
        }
        let renew = Hand::Renew { public_key: HexBytes(papers.key.public_key()) };
        let why = match self.ask(&renew).await {
            // It comes from a master, as the transport has proved.
            Ok(Handed::Papers(sent)) => return joining::read(&sent, &papers.key, None),
            Ok(_) => "a master has answered something else".to_owned(),
            Err(why) => why,
        };
        if papers.certificate.counts_at(unix_ms() / 1000) {
            return Err(why);
        }
        let addresses: Vec<SocketAddr> = self.book.peers().into_values().flat_map(|listed| listed.addresses).collect();
        let joined = joining::renew(&self.endpoint, &addresses, &papers, KNOCK).await;
        joined.map_err(|error| error.to_string())
    }

    /// From now on others are shown what the keyring has.
    fn show(&self) {
        let papers = self.keyring.papers();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if (&shown.certificate, &shown.authorities) == (&papers.certificate, &papers.authorities) {
            return;
        }
        match self.quic.renew(papers.credentials()) {
            Ok(()) => {
                *shown = papers;
                if let Err(error) = self.keyring.readdress() {
                    tracing::warn!("mesh: the token of this house still names a former authority: {error}");
                }
            }
            Err(error) => tracing::error!(%error, "mesh: others are still shown this host's former certificate"),
        }
    }
}

impl World for Here {
    fn now_s(&self) -> u64 {
        unix_ms() / 1000
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    fn papers(&self) -> (Certificate, Vec<Certificate>) {
        let papers = self.keyring.papers();
        (papers.certificate, papers.authorities)
    }

    async fn believe(&self) {
        // Masters go along with the leader, key and all: see `handover`.
        if self.keyring.authority().is_none()
            && let Ok(Handed::Authorities { authorities }) = self.ask(&Hand::Authorities).await
        {
            let keyring = self.keyring.clone();
            let believed = match joining::authorities(&authorities) {
                Ok(sent) => super::handover::aside(move || keyring.believe(sent)).await,
                Err(why) => Err(why),
            };
            match believed {
                Ok(true) => tracing::info!("mesh: the authorities that are believed have changed"),
                Ok(false) => {}
                Err(why) => tracing::warn!("mesh: the authorities that a master has named are not believed: {why}"),
            }
        }
        self.show();
    }

    async fn renew(&self) -> Result<(), String> {
        let joined = self.another().await?;
        let keyring = self.keyring.clone();
        let papers = joined.papers;
        super::handover::aside(move || keyring.renew(papers.certificate, papers.authorities)).await?;
        self.show();
        Ok(())
    }
}
