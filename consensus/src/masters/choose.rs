//! The leader picks masters: facts in, at most one step out.
//!
//! What is wanted is the largest odd number of masters that is wished for and can be had, spread over places, on hosts
//! that work. What is there is left alone as long as it will do: nobody is moved because somebody else is a little
//! better, but for the sake of the spread.

use std::collections::BTreeSet;

use super::census::{Census, Seat};
use super::policy::Policy;
use super::safe::{Unsafe, one_at_a_time, safe};
use super::span::Span;
use super::spread::spread;
use super::standing::{Rank, Trouble, live, near, passed, rank, slow, trouble};
use super::step::{Deed, Step};
use crate::mutant::{self, Mutant};
use crate::types::RaftId;

/// Not fewer masters than this because of the dead alone: two that live of three still keep every write twice.
const SHRUNK_MIN: usize = 3;

/// Why nothing is done now, whatever there would be to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Waits {
    /// It may not lead any more.
    #[error("no quorum was heard from lately")]
    NoQuorum,
    /// It does not know enough.
    #[error("it leads for {} of {}", Span(*.0), Span(*.1))]
    Elected(u64, u64),
    /// The last change may still be settling.
    #[error("the last change was {} of {} ago", Span(*.0), Span(*.1))]
    Changed(u64, u64),
    /// One at a time.
    #[error(transparent)]
    InFlight(#[from] Unsafe),
}

/// The one step to take now, if any.
#[must_use]
pub fn choose(census: &Census, policy: &Policy) -> Option<Step> {
    ready(census, policy).ok()?;
    let choice = Choice::new(census, policy);
    if census.configs.len() > 1 {
        return choice.finish();
    }
    choice
        .hand_over()
        .or_else(|| choice.excess())
        .or_else(|| choice.replace())
        .or_else(|| choice.grow())
        .or_else(|| choice.shrink())
        .or_else(|| choice.move_apart())
        .or_else(|| choice.remove_learners())
}

/// Whether anything may be done now.
///
/// # Errors
/// Why not.
pub fn ready(census: &Census, policy: &Policy) -> Result<(), Waits> {
    if census.quorum_ack_ms.is_none_or(|age| age > policy.quorum_ack_ms_max) {
        return Err(Waits::NoQuorum);
    }
    one_at_a_time(census)?;
    if census.configs.len() > 1 {
        // Ending a change needs no knowledge of anybody.
        return Ok(());
    }
    let voters = census.voters().len();
    let (stable, pause) = (policy.stable(voters), policy.pause(voters));
    if census.led_ms < stable {
        return Err(Waits::Elected(census.led_ms, stable));
    }
    if census.change_ms < pause {
        return Err(Waits::Changed(census.change_ms, pause));
    }
    Ok(())
}

/// How many masters there should be: as many as are wished for, or as can be had, and an odd number. Masters count
/// whether they live or not, so that it does not fall because a host does.
#[must_use]
pub fn target(census: &Census, policy: &Policy) -> usize {
    Choice::new(census, policy).target()
}

/// The largest odd number that is not larger; one at least.
pub(super) const fn odd(n: usize) -> usize {
    if n == 0 { 1 } else { n - 1 + n % 2 }
}

/// What all rules look at.
pub(super) struct Choice<'a> {
    census: &'a Census,
    policy: &'a Policy,
    voters: &'a BTreeSet<RaftId>,
    /// Learners that could become masters now.
    spares: BTreeSet<RaftId>,
    /// Wait for learners that will soon be spares.
    patient: bool,
}

impl<'a> Choice<'a> {
    fn new(census: &'a Census, policy: &'a Policy) -> Self {
        let voters = census.voters();
        let fit = |seat: &Seat| passed(seat, voters.len(), policy).is_none();
        let spares = census.learners().filter(|(_, seat)| fit(seat)).map(|(id, _)| id).collect();
        Self { census, policy, voters, spares, patient: true }
    }

    /// What it would take for those who are leaving to be masters no more, without waiting for anything.
    pub(super) fn departure(census: &'a Census, policy: &'a Policy) -> Option<Step> {
        let choice = Self { patient: false, ..Self::new(census, policy) };
        choice.replace().or_else(|| choice.shrink())
    }

    fn seat(&self, id: RaftId) -> Option<&Seat> {
        self.census.seats.get(&id)
    }

    fn target(&self) -> usize {
        let stays = |id: &&RaftId| !self.seat(**id).is_some_and(|seat| seat.profile.draining);
        let staying = self.voters.iter().filter(stays).count();
        odd((staying + self.spares.len()).min(self.census.ideal))
    }

    /// The step, if who votes may be changed so.
    fn checked(&self, deed: Deed, voters: BTreeSet<RaftId>, why: String) -> Option<Step> {
        safe(&self.census.configs, &voters, self.census, self.policy).ok()?;
        Some(Step { deed, voters, why })
    }

    fn finish(&self) -> Option<Step> {
        self.checked(Deed::Finish, self.voters.clone(), "a change was left half done".to_owned())
    }

    /// A leader with a bad disk hands over before anything else: whatever it decided would go through that disk.
    fn hand_over(&self) -> Option<Step> {
        let me = self.seat(self.census.me)?;
        let why = match () {
            () if me.profile.disk_low => "the leader's disk is nearly full".to_owned(),
            () if slow(me, self.policy) => {
                format!("the leader's syncs take {} at worst", Span(me.profile.sync_p99_ms))
            }
            () => return None,
        };
        self.transfer(self.heir(self.voters)?, why)
    }

    /// The fittest of these to lead. One that may not be a master may still lead until it is one no more.
    fn heir(&self, of: &BTreeSet<RaftId>) -> Option<RaftId> {
        let fit = |id: &RaftId| {
            let seat = self.seat(*id).filter(|seat| seat.slow_ms.is_none() && !seat.profile.disk_low)?;
            let able = seat.alive_ms.is_some() && near(seat, self.policy);
            match trouble(Some(seat), self.policy).filter(|_| able) {
                None if able => Some((false, *id)),
                Some(Trouble::NotEligible) => Some((true, *id)),
                _ => None,
            }
        };
        let others = self.voters.intersection(of).filter(|id| **id != self.census.me);
        others.filter_map(fit).min_by_key(|(barred, id)| (*barred, rank(self.census, *id))).map(|(_, id)| id)
    }

    fn transfer(&self, to: RaftId, why: String) -> Option<Step> {
        if self.census.transfer_ms.is_some_and(|ago| ago < self.policy.transfer_apart_ms) {
            return None;
        }
        Some(Step { deed: Deed::Transfer { to }, voters: self.voters.clone(), why })
    }

    /// Takes the step; or, if it would make the leader a learner and somebody can lead in its place, hands over first.
    /// If nobody can (there is no other master), the leader leads until it has voted itself out.
    fn step_down(&self, deed: Deed, voters: BTreeSet<RaftId>, why: String) -> Option<Step> {
        let step = self.checked(deed, voters, why)?;
        match self.heir(&step.voters) {
            Some(to) if !step.voters.contains(&self.census.me) => {
                self.transfer(to, format!("the leader is about to be a master no more, since {}", step.why))
            }
            _ => Some(step),
        }
    }

    /// One master in trouble against one spare, in one change: neither the size nor the quorum moves.
    fn replace(&self) -> Option<Step> {
        let mut troubled: Vec<(Trouble, RaftId)> =
            self.voters.iter().filter_map(|id| Some((trouble(self.seat(*id), self.policy)?, *id))).collect();
        troubled.sort_unstable();
        troubled.into_iter().find_map(|(trouble, leave)| {
            let ways = self.spares.iter().map(|enter| (*enter, self.exchanged(leave, *enter)));
            let (enter, voters) = ways.min_by_key(|(_, voters)| self.worth(voters))?;
            let why = format!("{} {}", self.census.name(leave), trouble.of_somebody());
            self.step_down(Deed::Replace { leave, enter }, voters, why)
        })
    }

    fn exchanged(&self, leave: RaftId, enter: RaftId) -> BTreeSet<RaftId> {
        self.voters.iter().copied().filter(|id| *id != leave).chain([enter]).collect()
    }

    /// The smaller the better: how they are spread, then who they are.
    fn worth(&self, voters: &BTreeSet<RaftId>) -> (super::spread::Spread, Vec<Rank>) {
        let mut ranks: Vec<_> = voters.iter().map(|id| rank(self.census, *id)).collect();
        ranks.sort_unstable();
        (spread(self.census, voters), ranks)
    }

    /// To the next odd number: two at once, so that there is no rest at an even one.
    fn grow(&self) -> Option<Step> {
        let (now, target) = (self.voters.len(), self.target());
        if now >= target {
            return None;
        }
        let next = odd(now + 2);
        let spares: Vec<_> = self.spares.iter().copied().collect();
        let ways = subsets(&spares, next - now).into_iter();
        let sets = ways.map(|enter| (self.voters | &enter, enter));
        let (voters, enter) = sets.min_by_key(|(voters, _)| self.worth(voters))?;
        let why = numbers(now, target);
        self.checked(Deed::Grow { enter }, voters, why)
    }

    /// More than anybody wants: then nobody needs to be replaced first.
    fn excess(&self) -> Option<Step> {
        if self.voters.len() > odd(self.census.ideal) { self.shrink() } else { None }
    }

    /// To the next odd number below, the worst first.
    fn shrink(&self) -> Option<Step> {
        let now = self.voters.len();
        let (goal, why) = self.fewer()?;
        let next = odd(now - 1).max(goal);
        let voters: Vec<_> = self.voters.iter().copied().collect();
        let leader_stays = self.seat(self.census.me).is_some_and(|me| !me.profile.draining);
        let ways = subsets(&voters, next).into_iter();
        let ways = ways.filter(|stay| stay.contains(&self.census.me) || !leader_stays);
        let voters = ways.min_by_key(|stay| (self.losses(stay), self.worth(stay)))?;
        let leave = self.voters - &voters;
        self.step_down(Deed::Shrink { leave }, voters, why)
    }

    /// How many masters there should be, where there are too many, and why.
    fn fewer(&self) -> Option<(usize, String)> {
        let (now, target) = (self.voters.len(), self.target());
        if now > odd(self.census.ideal) {
            return Some((target, numbers(now, target)));
        }
        if now > target {
            if self.patient && self.someone_is_coming() {
                return None;
            }
            let leaving: Vec<_> =
                self.voters.iter().filter(|id| self.seat(**id).is_some_and(|seat| seat.profile.draining)).collect();
            return Some(match leaving.len() {
                0 => (target, format!("{now} masters tolerate no more failures than {target}")),
                1 => (target, format!("{} is leaving, and nobody can take its place", self.census.names(leaving))),
                _ => (target, format!("{} are leaving, and nobody can take their places", self.census.names(leaving))),
            });
        }
        let silence = |id: &RaftId| self.seat(*id).map_or(u64::MAX, |seat| seat.silent_ms);
        let (dead, rest): (Vec<RaftId>, Vec<RaftId>) =
            self.voters.iter().partition(|id| silence(id) >= self.policy.shrink_ms);
        let healthy = rest.iter().all(|id| live(self.census, *id, self.policy));
        let goal = odd(rest.len()).max(SHRUNK_MIN);
        let hopeless = !dead.is_empty() && healthy && self.spares.is_empty() && goal < now;
        let names = self.census.names(&dead);
        hopeless.then(|| {
            (goal, format!("silent for {}, and nobody can take its place: {names}", Span(self.policy.shrink_ms)))
        })
    }

    /// A learner that has been here for a short time only, and might be a spare soon. Not forever: one that never gets
    /// there must not hold up a leave.
    fn someone_is_coming(&self) -> bool {
        let stable = self.policy.stable(self.voters.len());
        self.census.learners().any(|(_, seat)| {
            let wanted = seat.profile.eligible == Some(true) && !seat.profile.draining && !seat.profile.disk_low;
            wanted && !seat.profile.lost_data && seat.alive_ms.is_some() && seat.known_ms < 2 * stable
        })
    }

    /// What would be wrong with these masters: gone or going, not here now, not wanted.
    fn losses(&self, masters: &BTreeSet<RaftId>) -> (usize, usize, usize) {
        if mutant::is(Mutant::QuorumCheckSkipped) {
            return (0, 0, 0);
        }
        let count = |is: &dyn Fn(RaftId, &Seat) -> bool| {
            masters.iter().filter(|id| self.seat(**id).is_none_or(|seat| is(**id, seat))).count()
        };
        (
            count(&|_, seat| seat.profile.draining || seat.profile.lost_data),
            count(&|id, _| !live(self.census, id, self.policy)),
            count(&|_, seat| seat.profile.eligible == Some(false) || seat.profile.disk_low || slow(seat, self.policy)),
        )
    }

    /// When all has been calm for long: one master against one spare that stands elsewhere, if that is truly better.
    fn move_apart(&self) -> Option<Step> {
        let calm = |id: &RaftId| {
            self.seat(*id).and_then(|seat| seat.alive_ms).is_some_and(|alive| alive >= self.policy.spread_quiet_ms)
        };
        if self.census.change_ms < self.policy.spread_apart_ms || !self.voters.iter().all(calm) {
            return None;
        }
        let now = spread(self.census, self.voters);
        let spares = self.spares.iter().copied().filter(calm);
        // Nor does it have to be the leader: whoever shares its place would do as well.
        let movable = self.voters.iter().copied().filter(|id| *id != self.census.me);
        let ways = spares.flat_map(|enter| movable.clone().map(move |leave| (leave, enter)));
        let better = ways.map(|(leave, enter)| (leave, enter, self.exchanged(leave, enter)));
        let better = better.filter(|(.., voters)| spread(self.census, voters) < now);
        let (leave, enter, voters) = better.min_by_key(|(.., voters)| self.worth(voters))?;
        self.checked(Deed::Spread { leave, enter }, voters, "masters should not stand in one place".to_owned())
    }

    /// Who is gone for good costs every write its share.
    fn remove_learners(&self) -> Option<Step> {
        if self.census.change_ms < self.policy.removal_apart_ms {
            return None;
        }
        let gone = |seat: &Seat| seat.profile.lost_data || seat.silent_ms >= self.policy.learner_dead_ms;
        let leave: BTreeSet<_> = self.census.learners().filter(|(_, seat)| gone(seat)).map(|(id, _)| id).collect();
        let leave: BTreeSet<_> = leave.into_iter().take(self.policy.learners_removed_max).collect();
        if leave.is_empty() {
            return None;
        }
        let why = format!("silent for {}, or without their log", Span(self.policy.learner_dead_ms));
        self.checked(Deed::RemoveLearners { leave }, self.voters.clone(), why)
    }
}

impl Trouble {
    /// The words behind somebody's name.
    fn of_somebody(self) -> String {
        match self {
            Self::Draining => "is leaving".to_owned(),
            Self::LostData => "has lost its log".to_owned(),
            Self::Failed(silent) => format!("is silent for {}", Span(silent.0)),
            Self::NotEligible => "may not be one".to_owned(),
        }
    }
}

fn numbers(now: usize, target: usize) -> String {
    let there_are = if now == 1 { "there is 1 master".to_owned() } else { format!("there are {now} masters") };
    format!("{there_are}, and there should be {target}")
}

/// All subsets of so many. Few: masters are at most seven, and of the many learners at most two enter at once.
fn subsets(of: &[RaftId], size: usize) -> Vec<BTreeSet<RaftId>> {
    let Some(rest_max) = of.len().checked_sub(size) else { return Vec::new() };
    if size == 0 {
        return vec![BTreeSet::new()];
    }
    let firsts = of.iter().enumerate().take(rest_max + 1);
    let with = firsts.flat_map(|(at, first)| {
        subsets(&of[at + 1..], size - 1).into_iter().map(move |mut rest| {
            rest.insert(*first);
            rest
        })
    });
    with.collect()
}
