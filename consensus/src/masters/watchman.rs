//! Remembers what a leader saw from one look to the next: who is alive since when, who keeps pace, who was down.
//!
//! It belongs to one term of one leader. A new leader starts with an empty mind and thus gives everybody the full time
//! to answer. So does a leader that was stopped itself: when it wakes, all look silent, and it was its own ears.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::census::{Census, Profile, Seat};
use super::policy::Policy;
use crate::types::{Member, RaftId};

/// Downs remembered of one member: more make nobody less wanted.
const DOWNS_MAX: usize = 16;

/// What the replica says at one moment. Whatever is not known is absent.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// A clock that never goes back, in milliseconds.
    pub now_ms: u64,
    /// Who looks.
    pub me: RaftId,
    /// The term in which it leads.
    pub term: u64,
    /// Age of the newest moment at which a quorum had answered.
    pub quorum_ack_ms: Option<u64>,
    /// Who votes: one set, or two.
    pub configs: Vec<BTreeSet<RaftId>>,
    /// Everybody.
    pub members: BTreeMap<RaftId, Member>,
    /// Where the membership in force stands in the log.
    pub membership_index: u64,
    /// It is committed, and so is an entry of this term.
    pub settled: bool,
    /// A change was proposed and has not ended.
    pub change_in_flight: bool,
    /// The last index that is committed.
    pub committed: u64,
    /// How the others get on. The leader itself need not be in it.
    pub progress: BTreeMap<RaftId, Progress>,
}

/// How a member gets on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last index that it is known to have on disk.
    pub matched: Option<u64>,
    /// Age of its newest answer.
    pub ack_ms: Option<u64>,
}

/// The memory.
#[derive(Debug)]
pub struct Watchman {
    policy: Policy,
    watch: Option<Watch>,
}

/// What belongs to one term.
#[derive(Debug)]
struct Watch {
    me: RaftId,
    term: u64,
    since: u64,
    last: u64,
    membership: (u64, u64),
    transfer: Option<u64>,
    members: BTreeMap<RaftId, Watched>,
}

/// A member, with moments instead of ages.
#[derive(Debug)]
struct Watched {
    first: u64,
    heard: u64,
    alive: Option<u64>,
    near: Option<u64>,
    slow: Option<u64>,
    down: bool,
    downs: VecDeque<u64>,
}

impl Watchman {
    /// One that has seen nothing.
    #[must_use]
    pub const fn new(policy: Policy) -> Self {
        Self { policy, watch: None }
    }

    /// The thresholds it goes by.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Forgets everything: to be called where one does not lead.
    pub fn forget(&mut self) {
        self.watch = None;
    }

    /// Notes that an attempt to hand over was made.
    pub fn transferred(&mut self, now_ms: u64) {
        if let Some(watch) = &mut self.watch {
            watch.transfer = Some(now_ms);
        }
    }

    /// Takes in what is seen now, and says what is known. Two looks are at most [`Policy::gap_ms_max`] apart; silences
    /// shorter than the time between two looks may go unseen.
    pub fn observe(&mut self, seen: &Observation, profiles: &BTreeMap<RaftId, Profile>, ideal: usize) -> Census {
        let now = seen.now_ms;
        let goes_on = |watch: &Watch| {
            let gap = now.saturating_sub(watch.last);
            (watch.me, watch.term) == (seen.me, seen.term) && gap <= self.policy.gap_ms_max && now >= watch.last
        };
        let mut watch = self.watch.take().filter(goes_on).unwrap_or_else(|| Watch {
            me: seen.me,
            term: seen.term,
            since: now,
            last: now,
            membership: (seen.membership_index, now),
            transfer: None,
            members: BTreeMap::new(),
        });
        watch.last = now;
        if watch.membership.0 != seen.membership_index {
            watch.membership = (seen.membership_index, now);
        }
        watch.members.retain(|id, _| seen.members.contains_key(id));
        let mut seats = BTreeMap::new();
        for (id, member) in &seen.members {
            let profile = profiles.get(id).cloned().unwrap_or_default();
            let progress = if *id == seen.me {
                Progress { matched: Some(seen.committed), ack_ms: Some(0) }
            } else {
                seen.progress.get(id).copied().unwrap_or_default()
            };
            let behind = progress.matched.map(|matched| seen.committed.saturating_sub(matched));
            let watched = watch.members.entry(*id).or_insert_with(|| Watched::new(now));
            watched.look(progress.ack_ms, behind, profile.sync_p99_ms, now, &self.policy);
            seats.insert(*id, watched.seat(member.clone(), profile, behind, now, &self.policy));
        }
        let census = Census {
            me: seen.me,
            led_ms: now - watch.since,
            quorum_ack_ms: seen.quorum_ack_ms,
            configs: seen.configs.clone(),
            settled: seen.settled,
            change_in_flight: seen.change_in_flight,
            change_ms: now - watch.membership.1,
            transfer_ms: watch.transfer.map(|at| now.saturating_sub(at)),
            ideal,
            seats,
        };
        self.watch = Some(watch);
        census
    }
}

impl Watched {
    const fn new(now: u64) -> Self {
        Self { first: now, heard: now, alive: None, near: None, slow: None, down: false, downs: VecDeque::new() }
    }

    fn look(&mut self, ack_ms: Option<u64>, behind: Option<u64>, sync_p99_ms: u64, now: u64, policy: &Policy) {
        if let Some(age) = ack_ms {
            // What was heard before this watch began says nothing in it.
            self.heard = self.heard.max(now.saturating_sub(age));
        }
        let alive = ack_ms.is_some_and(|age| age <= policy.alive_ack_ms_max);
        self.alive = if alive { self.alive.or(Some(now)) } else { None };
        // One that is silent may have had everything when it was last heard, which is no news.
        let near = alive && behind.is_some_and(|behind| behind <= policy.lag_entries_max);
        self.near = if near { self.near.or(Some(now)) } else { None };
        self.slow = if sync_p99_ms > policy.sync_p99_ms_max { self.slow.or(Some(now)) } else { None };
        if alive {
            self.down = false;
        } else if !self.down && now - self.heard >= policy.down_ms {
            self.down = true;
            self.downs.push_back(now);
        }
        while self.downs.len() > DOWNS_MAX || self.downs.front().is_some_and(|at| now - at > policy.downs_remembered_ms)
        {
            self.downs.pop_front();
        }
    }

    fn seat(&self, member: Member, profile: Profile, behind: Option<u64>, now: u64, policy: &Policy) -> Seat {
        Seat {
            member,
            known_ms: now - self.first,
            silent_ms: now - self.heard,
            alive_ms: self.alive.map(|since| now - since),
            behind,
            caught_up: self.near.is_some_and(|since| now - since >= policy.caught_up_apart_ms),
            downs: self.downs.len(),
            slow_ms: self.slow.map(|since| now - since),
            profile,
        }
    }
}
