//! The leader's half of the store: attests who asked and when, hears renewals of leases, ends those that nobody renews.
//! Every peer has a desk; it has something to do while that peer leads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mgmt_consensus::clerk::Clerk;
use mgmt_consensus::{Ground, Machine, Member, Replica};

use crate::command::{Command, Origin, Request};
use crate::event::LeaseId;
use crate::host::HostName;
use crate::keyspace::Keyspace;
use crate::machine::Shared;
use crate::outcome::Role;
use crate::presence::Presence;

/// Between two looks at the leases.
const LOOK: Duration = Duration::from_millis(250);
/// How long a proposal of expiries, or the look before the first one, may take.
const LIMIT: Duration = Duration::from_secs(2);
/// What is told of a renewal.
const RENEWED: u8 = 1;

/// What a desk is told of the world around it. Both are asked at any moment, from any thread.
pub trait Surroundings: Send + Sync + 'static {
    /// What a member's certificate lets it do.
    fn role(&self, member: &Member) -> Role;

    /// Milliseconds since 1970, for display and for what lasts for hours. It may go back; the store's time does not.
    fn unix_ms(&self) -> u64;

    /// Milliseconds of a clock that never goes back.
    fn now_ms(&self) -> u64;
}

/// The desk.
pub struct Desk {
    surroundings: Arc<dyn Surroundings>,
    shared: Arc<Shared>,
    presence: Mutex<Presence>,
    said: Mutex<Said>,
}

/// The time that was said last, and when.
#[derive(Debug, Default)]
struct Said {
    at_ms: u64,
    now_ms: u64,
}

impl Said {
    /// The store's time never goes back, so it has to be seen to go on: behind a leader whose clock was years ahead it
    /// would stand still otherwise, and with it everybody's share of proposals.
    fn next(&mut self, unix_ms: u64, store_ms: u64, now_ms: u64) -> u64 {
        let on = self.at_ms.saturating_add(now_ms.saturating_sub(self.now_ms));
        let at_ms = unix_ms.max(store_ms).max(on);
        *self = Self { at_ms, now_ms };
        at_ms
    }
}

impl Desk {
    /// An empty one, on the peer whose replica shares this state.
    #[must_use]
    pub fn new(surroundings: Arc<dyn Surroundings>, shared: Arc<Shared>) -> Self {
        Self { surroundings, shared, presence: Mutex::default(), said: Mutex::default() }
    }

    /// The time that goes with a command.
    fn at_ms(&self) -> u64 {
        let (unix_ms, now_ms) = (self.surroundings.unix_ms(), self.surroundings.now_ms());
        let store_ms = self.shared.read(Keyspace::now_ms);
        self.said.lock().unwrap_or_else(PoisonError::into_inner).next(unix_ms, store_ms, now_ms)
    }

    fn presence(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sits at it for as long as the replica lives: while it leads, leases that nobody renews are ended.
    pub async fn sit<G: Ground, M: Machine>(self: Arc<Self>, replica: Replica<G, M>) {
        let mut term = None;
        while !replica.has_stopped() {
            let leads = replica.leads();
            if leads != term {
                term = self.change_hands(&replica, leads).await;
            }
            if term.is_some() {
                self.end_leases(&replica).await;
            }
            replica.sleep(LOOK).await;
        }
    }

    /// Takes the desk over, or leaves it; gives the term it was taken over for.
    async fn change_hands<G: Ground, M: Machine>(&self, replica: &Replica<G, M>, leads: Option<u64>) -> Option<u64> {
        self.presence().demote();
        let term = leads?;
        // What earlier leaders have proposed must be applied first: an expiry among it would end a lease that is
        // renewed here.
        replica.barrier(LIMIT).await.ok()?;
        let leases = leases(&self.shared);
        self.presence().promote(self.surroundings.now_ms(), leases);
        Some(term)
    }

    async fn end_leases<G: Ground, M: Machine>(&self, replica: &Replica<G, M>) {
        let leases = leases(&self.shared);
        let expired = {
            let mut presence = self.presence();
            let now_ms = self.surroundings.now_ms();
            presence.sync(now_ms, leases);
            presence.expired(now_ms)
        };
        if expired.is_empty() {
            return;
        }
        let request = Request::plain(Presence::expire(expired)).encode();
        if let Err(error) = replica.propose(request, LIMIT).await {
            // They are called expired again after a while.
            tracing::info!(%error, "leases were not ended");
        }
    }
}

fn leases(shared: &Shared) -> Vec<(LeaseId, u64)> {
    shared.read(|keyspace| keyspace.leases().map(|(id, lease)| (id, u64::from(lease.ttl_s) * 1000)).collect())
}

impl Clerk for Desk {
    fn attest(&self, from: &Member, request: Bytes) -> Result<Bytes, String> {
        let host = HostName::parse(&from.host).map_err(|error| error.to_string())?;
        let origin = Origin { host, peer: from.peer, role: self.surroundings.role(from) };
        Command::attest(&request, &origin, self.at_ms()).map_err(|refusal| refusal.to_string())
    }

    fn told(&self, from: &Member, message: &[u8]) -> Bytes {
        let theirs = |lease: &LeaseId| {
            self.shared.read(|keyspace| keyspace.lease(*lease).is_some_and(|held| held.host.as_str() == from.host))
        };
        let renewed = renewal(message).filter(theirs).is_some_and(|lease| {
            let mut presence = self.presence();
            presence.renew(self.surroundings.now_ms(), lease)
        });
        Bytes::copy_from_slice(if renewed { &[RENEWED] } else { &[] })
    }
}

/// A renewal as it is told.
pub(crate) fn renew(lease: LeaseId) -> Bytes {
    Bytes::copy_from_slice(&lease.0.to_le_bytes())
}

fn renewal(message: &[u8]) -> Option<LeaseId> {
    Some(LeaseId(u64::from_le_bytes(message.try_into().ok()?)))
}

/// What a leader said to it.
pub(crate) fn renewed(answer: &[u8]) -> bool {
    answer == [RENEWED]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_behind_a_clock_that_was_ahead() {
        let mut said = Said::default();
        assert_eq!(said.next(1_000, 0, 50), 1_000);
        assert_eq!(said.next(1_010, 1_000, 60), 1_010);
        assert_eq!(said.next(400, 1_010, 70), 1_020, "its own clock was set back");
        assert_eq!(said.next(2_000, 1_020, 80), 2_000, "or forward");
        let mut next = Said::default();
        assert_eq!(next.next(500, 2_000, 7), 2_000, "taken over from one that was ahead");
        assert_eq!(next.next(510, 2_000, 17), 2_010);
    }
}
