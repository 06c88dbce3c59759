//! A group in one place: a state machine that leads, and one behind it that clients read. What is on its way is lost,
//! delayed and doubled as a seed has it.

use std::sync::MutexGuard;

use bytes::Bytes;
use mgmt_consensus::{Machine, PeerId};
use tokio::time::Instant;

use super::*;
use crate::command::{Command, Origin, Request};
use crate::machine::StoreMachine;
use crate::outcome::{Outcome, Role};
use crate::presence::Presence;

/// How often something goes wrong, in thousandths.
#[derive(Debug, Clone, Copy)]
pub(super) struct Faults {
    no_leader: u64,
    request_lost: u64,
    /// It arrives when nobody waits any more.
    request_late: u64,
    request_twice: u64,
    answer_lost: u64,
}

impl Faults {
    pub(super) const NONE: Self =
        Self { no_leader: 0, request_lost: 0, request_late: 0, request_twice: 0, answer_lost: 0 };
    pub(super) const SOME: Self =
        Self { no_leader: 50, request_lost: 20, request_late: 30, request_twice: 50, answer_lost: 50 };
    pub(super) const HEAVY: Self =
        Self { no_leader: 150, request_lost: 100, request_late: 200, request_twice: 150, answer_lost: 200 };
    pub(super) const NO_LEADER: Self = Self { no_leader: 1000, ..Self::NONE };
}

#[derive(Clone)]
pub(super) struct Fake {
    group: Arc<Mutex<Group>>,
    start: Instant,
}

struct Group {
    chance: u64,
    faults: Faults,
    leader: StoreMachine,
    presence: Presence,
    index: u64,
    log: Vec<(u64, Bytes)>,
    replica: StoreMachine,
    watches: Watches,
    applied: usize,
    late: Vec<(Origin, Bytes)>,
}

/// One host's way to the group.
pub(super) struct Way {
    fake: Fake,
    origin: Origin,
}

fn origin(host: &str) -> Origin {
    Origin { host: HostName::parse(host).unwrap(), peer: PeerId(1), role: Role::Admin }
}

impl Group {
    /// A number below a bound.
    fn below(&mut self, bound: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        (self.chance >> 11) % bound
    }

    fn strikes(&mut self, thousandths: u64) -> bool {
        self.below(1000) < thousandths
    }

    fn apply(&mut self, origin: &Origin, request: &[u8], now_ms: u64) -> (Revision, Bytes) {
        // Not every entry of the log is a command.
        self.index += 1 + u64::from(self.strikes(100));
        let command = Command::attest(request, origin, 1_000_000 + now_ms).unwrap();
        let outcome = self.leader.apply(self.index, &command).unwrap();
        self.leader.settled(self.index);
        self.log.push((self.index, command));
        self.leader.shared().read(|keyspace| {
            self.presence.sync(now_ms, keyspace.leases().map(|(id, lease)| (id, u64::from(lease.ttl_s) * 1000)));
        });
        (Revision(self.index), outcome)
    }

    /// Time passes: the replica goes on, what is late arrives, leases expire.
    fn tick(&mut self, now_ms: u64) {
        while !self.late.is_empty() && self.strikes(200) {
            let at = self.below(self.late.len() as u64);
            let (origin, request) = self.late.swap_remove(usize::try_from(at).unwrap());
            self.apply(&origin, &request, now_ms);
        }
        let expired = self.presence.expired(now_ms);
        if !expired.is_empty() {
            let expire = Request::plain(Presence::expire(expired)).encode();
            self.apply(&origin("leader"), &expire, now_ms);
        }
        let behind = (self.log.len() - self.applied) as u64;
        for _ in 0..self.below(behind + 2).min(behind) {
            let (index, command) = self.log[self.applied].clone();
            self.replica.apply(index, &command).unwrap();
            self.replica.settled(index);
            self.applied += 1;
        }
    }
}

impl Fake {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        let replica = StoreMachine::new();
        let watches = Watches::new(replica.shared());
        let mut presence = Presence::new();
        presence.promote(0, []);
        let group = Group {
            chance: (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            faults,
            leader: StoreMachine::new(),
            presence,
            index: 0,
            log: Vec::new(),
            replica,
            watches,
            applied: 0,
            late: Vec::new(),
        };
        let fake = Self { group: Arc::new(Mutex::new(group)), start: Instant::now() };
        let (group, start) = (Arc::downgrade(&fake.group), fake.start);
        tokio::spawn(async move {
            while let Some(group) = group.upgrade() {
                let now_ms = start.elapsed().as_millis().try_into().unwrap();
                group.lock().unwrap().tick(now_ms);
                drop(group);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        fake
    }

    pub(super) fn client(&self, host: &str, patience: Duration) -> Client<Way> {
        let way = Way { fake: self.clone(), origin: origin(host) };
        let watches = self.group().watches.clone();
        let shared = self.group().replica.shared();
        Client::new(way, shared, watches, HostName::parse(host).unwrap(), patience)
    }

    /// Nothing goes wrong any more, and what is late arrives.
    pub(super) async fn calm(&self) {
        self.group().faults = Faults::NONE;
        while !self.group().late.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The state of the leader.
    pub(super) fn state<T>(&self, reader: impl FnOnce(&Keyspace) -> T) -> T {
        self.group().leader.shared().read(reader)
    }

    pub(super) fn revision(&self) -> Revision {
        Revision(self.group().index)
    }

    fn group(&self) -> MutexGuard<'_, Group> {
        self.group.lock().unwrap()
    }

    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis().try_into().unwrap()
    }
}

/// What happens to one request.
enum Fate {
    NoLeader,
    Lost,
    Answered(Revision, Bytes),
}

impl Way {
    fn fate(&self, request: Bytes) -> Fate {
        let now_ms = self.fake.now_ms();
        let mut group = self.fake.group();
        let faults = group.faults;
        if group.strikes(faults.no_leader) {
            return Fate::NoLeader;
        }
        if group.strikes(faults.request_lost) {
            return Fate::Lost;
        }
        if group.strikes(faults.request_late) {
            group.late.push((self.origin.clone(), request));
            return Fate::Lost;
        }
        let mut answer = group.apply(&self.origin, &request, now_ms);
        if group.strikes(faults.request_twice) {
            answer = group.apply(&self.origin, &request, now_ms);
        }
        if group.strikes(faults.answer_lost) { Fate::Lost } else { Fate::Answered(answer.0, answer.1) }
    }
}

impl Proposer for Way {
    async fn propose(&self, request: Bytes, limit: Duration) -> Result<(Revision, Bytes), ProposeError> {
        let travel = Duration::from_millis(self.fake.group().below(3));
        self.sleep(travel).await;
        match self.fate(request) {
            Fate::NoLeader => Err(ProposeError::NoLeader),
            Fate::Lost => {
                self.sleep(limit.min(Duration::from_millis(100))).await;
                Err(ProposeError::Unknown)
            }
            Fate::Answered(revision, outcome) => {
                assert!(Outcome::decode(&outcome).is_ok());
                Ok((revision, outcome))
            }
        }
    }

    async fn barrier(&self, _: Duration) -> Result<Revision, ProposeError> {
        let mut group = self.fake.group();
        let faults = group.faults;
        if group.strikes(faults.no_leader) { Err(ProposeError::NoLeader) } else { Ok(Revision(group.index)) }
    }

    async fn renew(&self, lease: LeaseId, _: Duration) -> Result<bool, ProposeError> {
        let now_ms = self.fake.now_ms();
        let mut group = self.fake.group();
        let faults = group.faults;
        if group.strikes(faults.request_lost) {
            Err(ProposeError::Unknown)
        } else {
            Ok(group.presence.renew(now_ms, lease))
        }
    }

    fn now_ms(&self) -> u64 {
        self.fake.now_ms()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
