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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Incarnation, PeerId};

    /// A watchman, and a world of one leader (1) and some others that all keep up unless told otherwise.
    struct World {
        watchman: Watchman,
        seen: Observation,
        profiles: BTreeMap<RaftId, Profile>,
    }

    impl World {
        fn new(members: RaftId) -> Self {
            let member = |id: RaftId| Member {
                peer: PeerId(u128::from(id)),
                incarnation: Incarnation(u128::from(id)),
                host: format!("h{id}"),
            };
            let seen = Observation {
                now_ms: 1_000_000,
                me: 1,
                term: 1,
                quorum_ack_ms: Some(0),
                configs: vec![BTreeSet::from([1])],
                members: (1..=members).map(|id| (id, member(id))).collect(),
                membership_index: 1,
                settled: true,
                change_in_flight: false,
                committed: 1_000,
                progress: (2..=members).map(|id| (id, Progress { matched: Some(1_000), ack_ms: Some(50) })).collect(),
            };
            Self { watchman: Watchman::new(Policy::LAN), seen, profiles: BTreeMap::new() }
        }

        fn after(&mut self, ms: u64) -> Census {
            self.seen.now_ms += ms;
            self.watchman.observe(&self.seen, &self.profiles, 5)
        }

        /// Looks every two seconds, and gives what is known at the end.
        fn through(&mut self, ms: u64) -> Census {
            let mut last = None;
            for _ in 0..ms / 2_000 {
                last = Some(self.after(2_000));
            }
            last.expect("some time")
        }

        fn two(&mut self) -> &mut Progress {
            self.seen.progress.get_mut(&2).expect("the world has it")
        }
    }

    #[test]
    fn a_new_leader_knows_nothing_and_waits() {
        let mut world = World::new(2);
        world.two().ack_ms = None;
        let first = world.after(0);
        assert_eq!((first.led_ms, first.change_ms, first.transfer_ms), (0, 0, None));
        assert_eq!((first.seats[&2].silent_ms, first.seats[&2].alive_ms), (0, None));
        assert_eq!((first.seats[&1].silent_ms, first.seats[&1].alive_ms), (0, Some(0)));
        let later = world.through(30_000);
        assert_eq!((later.led_ms, later.seats[&2].silent_ms), (30_000, 30_000));
        world.seen.term = 2;
        assert_eq!(world.after(2_000).seats[&2].silent_ms, 0, "another term, another life");
        world.watchman.forget();
        assert_eq!(world.after(2_000).led_ms, 0);
    }

    #[test]
    fn what_was_heard_by_another_leader_is_not_held_against_anybody() {
        let mut world = World::new(2);
        world.two().ack_ms = Some(60_000);
        assert_eq!(world.after(0).seats[&2].silent_ms, 0);
        assert_eq!(world.after(500).seats[&2].silent_ms, 500);
    }

    #[test]
    fn a_break_begins_the_count_anew() {
        let mut world = World::new(2);
        world.after(0);
        assert_eq!(world.through(10_000).seats[&2].alive_ms, Some(10_000));
        world.two().ack_ms = Some(1_001);
        let silent = world.after(2_000);
        assert_eq!((silent.seats[&2].silent_ms, silent.seats[&2].alive_ms), (1_001, None));
        assert!(!silent.seats[&2].caught_up, "what it had when it was last heard is no news");
        world.two().ack_ms = Some(1_000);
        assert_eq!(world.after(2_000).seats[&2].alive_ms, Some(0));
    }

    #[test]
    fn near_must_be_seen_twice_and_always_in_between() {
        let mut world = World::new(2);
        world.two().matched = Some(1_000 - 64);
        assert!(!world.after(0).seats[&2].caught_up);
        assert!(!world.after(999).seats[&2].caught_up, "too soon");
        assert!(world.after(1).seats[&2].caught_up);
        world.two().matched = Some(1_000 - 65);
        assert!(!world.after(2_000).seats[&2].caught_up);
        world.two().matched = Some(1_000 - 64);
        assert!(!world.after(2_000).seats[&2].caught_up, "only once again");
        world.two().matched = None;
        assert_eq!(world.after(2_000).seats[&2].behind, None);
        assert_eq!(world.after(2_000).seats[&1].behind, Some(0), "a leader has what it has committed");
    }

    #[test]
    fn a_leader_that_stood_still_does_not_blame_the_others() {
        let mut world = World::new(2);
        world.after(0);
        world.through(60_000);
        world.two().ack_ms = Some(60_000);
        let woken = world.after(60_000);
        assert_eq!((woken.led_ms, woken.seats[&2].silent_ms), (0, 0));
        world.seen.now_ms -= 1;
        assert_eq!(world.after(0).led_ms, 0, "nor one whose clock went back");
    }

    #[test]
    fn downs_are_counted_and_forgotten() {
        let mut world = World::new(2);
        world.after(0);
        for down in 1..=2 {
            for age in [2_000, 4_000, 6_000, 8_000, 10_000, 12_000] {
                world.two().ack_ms = Some(age);
                world.after(2_000);
            }
            world.two().ack_ms = Some(0);
            assert_eq!(world.after(2_000).seats[&2].downs, down);
        }
        assert_eq!(world.through(3_590_000).seats[&2].downs, 1, "an hour ago is long ago");
        assert_eq!(world.through(60_000).seats[&2].downs, 0);
        for _ in 0..100 {
            world.two().ack_ms = None;
            world.through(12_000);
            world.two().ack_ms = Some(0);
            world.after(2_000);
        }
        assert_eq!(world.after(2_000).seats[&2].downs, DOWNS_MAX);
    }

    #[test]
    fn slow_disks_and_changes_and_transfers_have_ages() {
        let mut world = World::new(2);
        world.profiles.insert(2, Profile { sync_p99_ms: 501, ..Profile::default() });
        assert_eq!(world.after(0).seats[&2].slow_ms, Some(0));
        world.seen.membership_index = 7;
        world.watchman.transferred(world.seen.now_ms);
        let census = world.through(4_000);
        assert_eq!((census.seats[&2].slow_ms, census.change_ms, census.transfer_ms), (Some(4_000), 2_000, Some(4_000)));
        world.profiles.insert(2, Profile { sync_p99_ms: 500, ..Profile::default() });
        assert_eq!(world.after(2_000).seats[&2].slow_ms, None);
        world.seen.members.remove(&2);
        assert!(!world.after(2_000).seats.contains_key(&2));
        assert_eq!(world.watchman.watch.as_ref().map(|watch| watch.members.len()), Some(1), "nobody is kept for ever");
    }
}
