//! What the desk and the choice of masters are told of the world around them: roles from certificates and the registry,
//! health as members tell it, the wishes of admins. In memory, on every peer; it counts on the one that leads.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use mgmt_consensus::appoint::{Prepared, Roster};
use mgmt_consensus::authority::Role;
use mgmt_consensus::clerk::Handed;
use mgmt_consensus::masters::{Census, Policy, Profile, Step, may_leave};
use mgmt_consensus::replica::ChangeError;
use mgmt_consensus::types::{Member, RaftId};
use mgmt_consensus::{Incarnation, PeerId};
use mgmt_engine::Clock;
use mgmt_store::{HostName, Keyspace, Shared, desk};
use serde::{Deserialize, Serialize};

use super::handover::Bell;
use super::inquiry::Inquiries;
use super::messages::inquiry::is_inquiry;

/// What members tell a leader, at most.
const TOLD_BYTES_MAX: usize = 4096;
/// A leader that has heard of no quorum for so long says so. Longer than an election.
pub const QUORUM_MS: u64 = 2_000;
/// Steps that are remembered for people.
const STEPS_MAX: usize = 32;
/// Roles of certificates that are remembered: a role for every peer that ever connected would be without bound.
const ROLES_MAX: usize = 20_000;

/// What a member tells whoever leads. JSON, so that hosts of two versions understand each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Telling {
    /// How it is, every second.
    Health(Health),
    /// May this host leave, as things stand?
    MayLeave {
        /// Its name.
        host: String,
    },
    /// An admin wants somebody else to lead.
    Transfer {
        /// Who; none: whoever fits best.
        to: Option<String>,
    },
    /// How is everybody, as the leader sees it?
    Look {},
}

/// How a member is, as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its name.
    pub host: String,
    /// Since when nothing was heard from it.
    pub silent_ms: u64,
    /// How far it has come.
    pub revision: Option<u64>,
}

/// How a member is, in its own words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Its disk is nearly full.
    pub disk_low: bool,
    /// How long ninety-nine of a hundred of its syncs take at most.
    pub sync_p99_ms: u64,
    /// Since when it runs.
    pub uptime_ms: u64,
    /// It runs to an end: never a master.
    pub transient: bool,
    /// It is about to leave for good.
    pub draining: bool,
    /// It goes away now, and its id with it.
    pub gone: bool,
    /// An admin would like it to be a master.
    pub prefer: bool,
    /// Which authority has signed its certificate: the hash of its key, as hexadecimal digits.
    pub signer: String,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// Yes, or noted.
    Yes,
    /// Noted, by a leader who hears of no quorum himself.
    Alone,
    /// No, and why.
    No(String),
    /// How everybody is.
    Seen(Vec<Seen>),
}

/// What a leader is to do besides looking after the masters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer(pub RaftId);

/// One step of the choice of masters, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What and why.
    pub sentence: String,
    /// How it ended, once it has.
    pub result: Option<Result<(), String>>,
}

/// What is known here of the others.
pub struct Surroundings {
    shared: Arc<Shared>,
    me: PeerId,
    policy: Policy,
    clock: Clock,
    known: Mutex<Known>,
    transfers: tokio::sync::mpsc::Sender<Transfer>,
    /// To who looks after the authority.
    steward: Bell,
    /// Who answers what others only want to know.
    inquiries: Arc<Inquiries>,
}

#[derive(Default)]
struct Known {
    /// What certificates say, of those who have connected.
    roles: BTreeMap<PeerId, Role>,
    health: BTreeMap<(PeerId, Incarnation), Health>,
    census: Option<Census>,
    steps: VecDeque<Noted>,
}

impl Surroundings {
    /// On the peer `me`, whose certificate says `role`. What an admin wants of the leader goes to `transfers`.
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        (me, role): (PeerId, Role),
        policy: Policy,
        clock: Clock,
        transfers: tokio::sync::mpsc::Sender<Transfer>,
        (steward, inquiries): (Bell, Arc<Inquiries>),
    ) -> Self {
        let known = Known { roles: BTreeMap::from([(me, role)]), ..Known::default() };
        Self { shared, me, policy, clock, known: Mutex::new(known), transfers, steward, inquiries }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A peer has shown a certificate with this role.
    pub fn certified(&self, peer: PeerId, role: Role) {
        let mut known = self.known();
        if known.roles.len() >= ROLES_MAX && !known.roles.contains_key(&peer) {
            known.roles.retain(|other, _| *other == self.me);
        }
        known.roles.insert(peer, role);
    }

    /// Where the registry says that a peer is.
    #[must_use]
    pub fn addresses(&self, peer: PeerId) -> Vec<SocketAddr> {
        self.shared.read(|keyspace| {
            let entry = keyspace.peers().map(|(_, entry)| entry).find(|entry| entry.peer == peer);
            let addresses = entry.iter().flat_map(|entry| entry.addresses.iter());
            addresses.filter_map(|address| address.parse().ok()).collect()
        })
    }

    /// The latest look of this peer as the leader, if it leads.
    #[must_use]
    pub fn census(&self) -> Option<Census> {
        self.known().census.clone()
    }

    /// Whether a peer has said that its certificate was signed by the authority with this key hash.
    #[must_use]
    pub fn is_signed_by(&self, peer: PeerId, key_hash: &[u8; 32]) -> bool {
        let signer = hex(key_hash);
        self.known().health.iter().any(|((of, _), health)| *of == peer && health.signer == signer)
    }

    /// This peer leads no more: what it saw is of yesterday.
    pub fn step_down(&self) {
        self.known().census = None;
    }

    /// The last steps of the choice of masters that were taken here.
    #[must_use]
    pub fn steps(&self) -> Vec<Noted> {
        self.known().steps.iter().cloned().collect()
    }

    /// What the registry says of a member: nothing, if it knows it under another peer or not at all.
    fn registered(&self, member: &Member) -> Option<mgmt_store::record::Peer> {
        let host = HostName::parse(&member.host).ok()?;
        self.shared.read(|keyspace| keyspace.peer(&host)).filter(|peer| peer.peer == member.peer)
    }

    fn note(&self, from: &Member, health: Health) -> Told {
        let mut known = self.known();
        known.health.insert((from.peer, from.incarnation), health);
        let alone = |census: &Census| census.quorum_ack_ms.is_none_or(|ms| ms > QUORUM_MS) && census.led_ms > QUORUM_MS;
        if known.census.as_ref().is_some_and(alone) { Told::Alone } else { Told::Yes }
    }

    fn answer(&self, from: &Member, telling: Telling) -> Told {
        match telling {
            Telling::Health(health) => self.note(from, health),
            Telling::MayLeave { host } => {
                let Some(census) = self.census() else { return Told::No("this peer has not looked around yet".into()) };
                let of_host =
                    |(id, seat): (&RaftId, &mgmt_consensus::masters::Seat)| (seat.member.host == host).then_some(*id);
                match census.seats.iter().find_map(of_host) {
                    Some(id) => may_leave(&census, &self.policy, id)
                        .map_or_else(|why| Told::No(why.to_string()), |()| Told::Yes),
                    None => Told::Yes,
                }
            }
            Telling::Transfer { to } => self.transfer(from, to.as_deref()),
            Telling::Look {} => self.seen(),
        }
    }

    fn seen(&self) -> Told {
        let Some(census) = self.census() else { return Told::No("this peer has not looked around yet".into()) };
        let revision = self.shared.revision().0;
        let seen = census.seats.values().map(|seat| Seen {
            host: seat.member.host.clone(),
            silent_ms: seat.silent_ms,
            revision: seat.behind.map(|behind| revision.saturating_sub(behind)),
        });
        Told::Seen(seen.collect())
    }

    fn transfer(&self, from: &Member, to: Option<&str>) -> Told {
        if desk::Surroundings::role(self, from) < Role::Admin {
            return Told::No("only an admin may say who leads".into());
        }
        let Some(census) = self.census() else { return Told::No("this peer has not looked around yet".into()) };
        let fit = |id: &&RaftId| {
            let seat = &census.seats[*id];
            **id != census.me && seat.alive_ms.is_some() && to.is_none_or(|to| seat.member.host == to)
        };
        let voters = census.voters();
        let best = voters.iter().filter(fit).min_by_key(|id| census.seats[*id].behind);
        match (best, to) {
            (Some(best), _) => match self.transfers.try_send(Transfer(*best)) {
                Ok(()) => Told::Yes,
                Err(_) => Told::No("another transfer is under way".into()),
            },
            (None, Some(to)) if census.seats.get(&census.me).is_some_and(|seat| seat.member.host == to) => Told::Yes,
            (None, Some(to)) => Told::No(format!("{to} is no master that is alive")),
            (None, None) => Told::No("there is no other master that is alive".into()),
        }
    }
}

impl desk::Surroundings for Surroundings {
    fn role(&self, member: &Member) -> Role {
        // Whoever was never seen with a certificate may do the least; the registry may allow less still.
        self.known().roles.get(&member.peer).copied().unwrap_or(Role::Agent)
    }

    fn unix_ms(&self) -> u64 {
        unix_ms()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.now().since(mgmt_engine::Moment::default()).as_millis()).unwrap_or(u64::MAX)
    }

    fn told(&self, from: &Member, message: &[u8]) -> Bytes {
        let told = match serde_json::from_slice(message) {
            _ if message.len() > TOLD_BYTES_MAX => Told::No("that is too long".into()),
            Ok(telling) => self.answer(from, telling),
            Err(error) => Told::No(format!("this peer does not understand that: {error}")),
        };
        serde_json::to_vec(&told).map_or_else(|_| Bytes::new(), Bytes::from)
    }

    fn handed<'a>(&'a self, from: &'a Member, message: &'a [u8]) -> Handed<'a> {
        // Told apart before anybody's queue: questions must not keep the steward from the authority's key.
        if is_inquiry(message) {
            return Box::pin(self.inquiries.answer(from, message));
        }
        Box::pin(self.steward.handed(from, message))
    }
}

impl Roster for Surroundings {
    fn profiles(&self, members: &BTreeMap<RaftId, Member>) -> BTreeMap<RaftId, Profile> {
        let settled = self.shared.revision().0;
        let nobody = self.shared.read(|keyspace| keyspace.peers().next().is_none());
        let mut known = self.known();
        known.health.retain(|life, _| members.values().any(|member| (member.peer, member.incarnation) == *life));
        let health = known.health.clone();
        drop(known);
        let profile = |(id, member): (&RaftId, &Member)| {
            let told = health.get(&(member.peer, member.incarnation));
            let Some(registered) = self.registered(member) else {
                // Whoever was let in stands in the registry before it has an id: here, once this peer has come so far.
                let gone = !nobody && settled >= *id;
                return gone.then(|| (*id, Profile { lost_data: true, eligible: Some(false), ..Profile::default() }));
            };
            let may = registered.role >= Role::Master;
            let Health { disk_low, sync_p99_ms, uptime_ms, transient, draining, gone, prefer, signer: _ } =
                told.cloned().unwrap_or_default();
            let eligible = if may { told.map(|_| !transient) } else { Some(false) };
            let zone = registered.zone.iter().map(|part| part.to_string()).collect();
            let profile =
                Profile { eligible, prefer, zone, draining, disk_low, lost_data: gone, sync_p99_ms, uptime_ms };
            Some((*id, profile))
        };
        members.iter().filter_map(profile).collect()
    }

    fn ideal(&self) -> usize {
        usize::from(self.shared.read(Keyspace::ideal_size))
    }

    fn prepare(&self, newcomers: Vec<(RaftId, Member)>) -> Prepared<'_> {
        Box::pin(self.steward.prepare(newcomers))
    }

    fn looked(&self, census: &Census, step: Option<&Step>) {
        let mut known = self.known();
        if let Some(step) = step {
            let noted = Noted { at_ms: unix_ms(), sentence: step.sentence(census), result: None };
            known.steps.push_back(noted);
            if known.steps.len() > STEPS_MAX {
                known.steps.pop_front();
            }
        }
        known.census = Some(census.clone());
    }

    fn ended(&self, _: &Step, result: &Result<(), ChangeError>) {
        if let Some(last) = self.known().steps.back_mut() {
            last.result = Some(result.clone().map_err(|error| error.to_string()));
        }
    }
}

/// A hash, as it is told.
#[must_use]
pub fn hex(hash: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    hash.iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

/// Milliseconds since 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = Clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Telling {
    /// As it is told.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).expect("it is plain data"))
    }
}

impl Told {
    /// As it came back.
    #[must_use]
    pub fn decode(answer: &[u8]) -> Self {
        serde_json::from_slice(answer)
            .unwrap_or_else(|_| Self::No("the leader does not understand the question".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::hand::Hand;
    use super::super::messages::inquiry::{Answer, Inquiry};
    use super::*;

    #[tokio::test]
    async fn questions_do_not_wait_for_the_steward() {
        let (transfers, _wanted) = tokio::sync::mpsc::channel(1);
        // Nobody works on what the bell rings for, and it rings until no more fits.
        let (bell, _rung) = Bell::new();
        let inquiries = Arc::new(Inquiries::new(Clock::start(), Arc::default()));
        let me = (PeerId(1), Role::Agent);
        let asked = (bell, inquiries);
        let surroundings = Surroundings::new(Arc::default(), me, Policy::LAN, Clock::start(), transfers, asked);
        let from = Member { peer: PeerId(2), incarnation: Incarnation(1), host: "b".to_owned() };
        let (hand, inquiry) = (Hand::Fetch.write().unwrap(), Inquiry::Farewell {}.write().unwrap());
        let handed = |message| desk::Surroundings::handed(&surroundings, &from, message);
        let mut waiting = Vec::new();
        for _ in 0..1000 {
            let mut hand = handed(&hand);
            if futures_util::poll!(&mut hand).is_pending() {
                waiting.push(hand);
            }
        }
        assert!((1..1000).contains(&waiting.len()), "{}", waiting.len());
        assert_eq!(Answer::read(&handed(&inquiry).await), Ok(Answer::Noted {}));
    }

    #[test]
    fn all_that_is_told_is_an_object() {
        let health = Telling::Health(Health::default());
        let host = "a".to_owned();
        for telling in [health, Telling::MayLeave { host }, Telling::Transfer { to: None }, Telling::Look {}] {
            let text = telling.encode();
            assert_eq!(text.first(), Some(&b'{'), "{text:?}");
            assert_eq!(serde_json::from_slice::<Telling>(&text).unwrap(), telling);
        }
    }
}
