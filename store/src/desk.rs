//! The leader's half of the store: attests who asked and when, hears renewals of leases, ends those that nobody renews.
//! Every peer has a desk; it has something to do while that peer leads.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mgmt_consensus::clerk::{Clerk, Declined, Handed};
use mgmt_consensus::{Ground, Machine, Member, PeerId, Replica};

use crate::command::{Body, Command, Origin, Request};
use crate::event::LeaseId;
use crate::host::HostName;
use crate::keyspace::Keyspace;
use crate::level::Rising;
use crate::machine::Shared;
use crate::outcome::{Denied, Outcome, Refusal, Role};
use crate::presence::Presence;

/// Between two looks at the leases.
const LOOK: Duration = Duration::from_millis(250);
/// The registry is read for the feature level at every so many looks: it may be long.
const LOOKS_A_LEVEL: u64 = 4;
/// How long a proposal of expiries, or the look before the first one, may take.
const LIMIT: Duration = Duration::from_secs(2);
/// A renewal is a lease's id. A message of JSON is longer than that, or begins differently.
const RENEWAL_BYTES: usize = size_of::<u64>();
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

    /// Answers what a member tells the leader beyond the store: a JSON object.
    fn told(&self, _from: &Member, _message: &[u8]) -> Bytes {
        Bytes::new()
    }

    /// Answers what a member hands to this one, leader or not. What the answer promises is on disk.
    fn handed<'a>(&'a self, _from: &'a Member, _message: &'a [u8]) -> Handed<'a> {
        Box::pin(async { Bytes::new() })
    }
}

/// The desk.
pub struct Desk {
    surroundings: Arc<dyn Surroundings>,
    shared: Arc<Shared>,
    presence: Mutex<Presence>,
    said: Mutex<Said>,
    /// Who sits here, once somebody does.
    sitter: OnceLock<PeerId>,
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
        Self { surroundings, shared, presence: Mutex::default(), said: Mutex::default(), sitter: OnceLock::new() }
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

    /// Sits at it for as long as the replica lives: while it leads, leases that nobody renews are
    /// ended, and the feature level follows what all understand.
    pub async fn sit<G: Ground, M: Machine>(self: Arc<Self>, replica: Replica<G, M>) {
        self.sitter.get_or_init(|| replica.identity().peer);
        let (mut term, mut rising, mut looks) = (None, Rising::default(), 0_u64);
        while !replica.has_stopped() {
            let leads = replica.leads();
            if leads != term {
                term = self.change_hands(&replica, leads).await;
                rising = Rising::default();
            }
            if term.is_some() {
                self.end_leases(&replica).await;
                looks += 1;
                if looks % LOOKS_A_LEVEL == 0 {
                    self.raise_level(&replica, &mut rising).await;
                }
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

    async fn raise_level<G: Ground, M: Machine>(&self, replica: &Replica<G, M>, rising: &mut Rising) {
        let now_ms = self.surroundings.now_ms();
        let Some(level) = self.shared.read(|keyspace| rising.due(now_ms, keyspace)) else { return };
        match replica.propose(Request::plain(Body::FeatureLevel { level }).encode(), LIMIT).await {
            Ok(_) => tracing::info!(level, "all of the mesh understands this feature level: it is in force"),
            Err(error) => tracing::info!(%error, level, "the feature level was not raised"),
        }
        // Whatever became of it, it is looked at anew.
        *rising = Rising::default();
    }
}

fn leases(shared: &Shared) -> Vec<(LeaseId, u64)> {
    shared.read(|keyspace| keyspace.leases().map(|(id, lease)| (id, u64::from(lease.ttl_s) * 1000)).collect())
}

impl Clerk for Desk {
    fn attest(&self, from: &Member, request: Bytes) -> Result<Bytes, Declined> {
        let host = HostName::parse(&from.host).map_err(|error| Declined::Because(error.to_string()))?;
        let origin = Origin { host, peer: from.peer, role: self.surroundings.role(from) };
        let at_ms = self.at_ms();
        let command = Command::attest(&request, &origin, at_ms);
        let command = command.map_err(|refusal| Declined::Because(refusal.to_string()))?;
        self.foresees(&origin, at_ms, &request).map_or(Ok(command), Err)
    }

    fn names(&self, newcomer: &Member) -> bool {
        self.admits(newcomer).is_ok()
    }

    fn admits(&self, newcomer: &Member) -> Result<(), String> {
        let host = HostName::parse(&newcomer.host).map_err(|error| error.to_string())?;
        let known = self.shared.read(|keyspace| keyspace.peer(&host).map(|peer| peer.peer));
        match known {
            Some(peer) if peer == newcomer.peer => Ok(()),
            Some(_) => Err(format!("{host} is another peer's name in the registry: join again with a token")),
            None => Err(format!("{host} is not in the registry, it was removed: join again with a token")),
        }
    }

    fn told(&self, from: &Member, message: &[u8]) -> Bytes {
        if message.first() == Some(&b'{') && message.len() != RENEWAL_BYTES {
            return self.surroundings.told(from, message);
        }
        let theirs = |lease: &LeaseId| {
            self.shared.read(|keyspace| keyspace.lease(*lease).is_some_and(|held| held.host.as_str() == from.host))
        };
        let renewed = renewal(message).filter(theirs).is_some_and(|lease| {
            let mut presence = self.presence();
            presence.renew(self.surroundings.now_ms(), lease)
        });
        Bytes::copy_from_slice(if renewed { &[RENEWED] } else { &[] })
    }

    fn handed<'a>(&'a self, from: &'a Member, message: &'a [u8]) -> Handed<'a> {
        self.surroundings.handed(from, message)
    }
}

impl Desk {
    /// What the machine would say to a request that it would refuse, as far as that can be foreseen.
    fn foresees(&self, origin: &Origin, at_ms: u64, request: &[u8]) -> Option<Declined> {
        let request = Request::decode(request).ok()?;
        // Only who sits at the desk knows which leases nobody renews.
        let foreign = matches!(request.body, Body::LeaseExpire { .. }) && self.sitter.get() != Some(&origin.peer);
        // Before the desk is taken over, what earlier leaders have committed may not be known here.
        let knows = self.presence().leads();
        self.shared.read(|keyspace| {
            let foreseen = if knows { keyspace.foresees(origin, at_ms, &request) } else { None };
            let refusal = if foreign { Some(Refusal::NotAllowed(Denied::Role)) } else { foreseen }?;
            let outcome = Outcome { revision: keyspace.revision(), result: Err(refusal) };
            Some(Declined::Outcome(outcome.encode()))
        })
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

    struct Around;

    impl Surroundings for Around {
        fn role(&self, _: &Member) -> Role {
            Role::Master
        }

        fn unix_ms(&self) -> u64 {
            1_000
        }

        fn now_ms(&self) -> u64 {
            0
        }

        fn told(&self, from: &Member, message: &[u8]) -> Bytes {
            Bytes::from([from.host.as_bytes(), message].concat())
        }
    }

    fn member(number: u128) -> Member {
        let incarnation = mgmt_consensus::Incarnation(number);
        Member { peer: PeerId(number), incarnation, host: format!("h{number}") }
    }

    #[test]
    fn only_who_sits_there_says_which_leases_are_over() {
        let desk = Desk::new(Arc::new(Around), Arc::default());
        desk.sitter.set(PeerId(1)).unwrap();
        let expire = Request::plain(Presence::expire(vec![LeaseId(7)])).encode();
        assert!(desk.attest(&member(1), expire.clone()).is_ok());
        let Err(Declined::Outcome(outcome)) = desk.attest(&member(2), expire) else { panic!("it must be declined") };
        assert_eq!(Outcome::decode(&outcome).unwrap().result, Err(Refusal::NotAllowed(Denied::Role)));
    }

    #[test]
    fn what_would_be_refused_stays_out_of_the_log_once_the_desk_is_taken_over() {
        let desk = Desk::new(Arc::new(Around), Arc::default());
        let admin = Request::plain(Body::IdealSize { masters: 3 }).encode();
        assert!(desk.attest(&member(2), admin.clone()).is_ok(), "the state may be old, so nothing is foreseen");
        desk.presence().promote(0, []);
        let Err(Declined::Outcome(outcome)) = desk.attest(&member(2), admin) else { panic!("it must be declined") };
        assert!(matches!(Outcome::decode(&outcome).unwrap().result, Err(Refusal::NotAllowed(_))));
    }

    #[test]
    fn json_goes_to_the_surroundings_and_renewals_do_not() {
        let desk = Desk::new(Arc::new(Around), Arc::default());
        assert_eq!(desk.told(&member(2), b"{\"v\":1,\"x\":2}"), "h2{\"v\":1,\"x\":2}");
        let lease = LeaseId(u64::from_le_bytes(*b"{\"v\":1}\0"));
        assert!(desk.told(&member(2), &renew(lease)).is_empty(), "a lease whose id looks like it");
    }
}
