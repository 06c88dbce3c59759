//! Who is what, and why not something else: the questions that [`crate::masters::choose()`] asks of each member, with
//! answers that people can read.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use super::census::{Census, Seat};
use super::policy::Policy;
use super::span::Span;
use crate::mutant::{self, Mutant};
use crate::types::RaftId;

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It votes, and leads.
    Leader(Option<Trouble>),
    /// It votes.
    Master(Option<Trouble>),
    /// It could be made a master at once.
    Spare,
    /// It could not, for this reason.
    Learner(Passed),
}

/// Why a learner is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// Its log is gone.
    LostData,
    /// It is leaving.
    Draining,
    /// It may not be a master.
    NotEligible,
    /// Its disk is nearly full.
    DiskLow,
    /// Its disk is slow.
    DiskSlow,
    /// Nothing is heard from it, for so many milliseconds.
    Silent(u64),
    /// It is alive for the first so many milliseconds, of the second so many.
    Young(u64, u64),
    /// It is so many entries behind, or nobody knows how many.
    Behind(Option<u64>),
    /// It was near once, and that may have been chance.
    NearOnce,
}

/// Why a master should be another one. The order is that in which it is dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// It is leaving.
    Draining,
    /// Its log is gone, and it with it.
    LostData,
    /// Nothing is heard from it for so long. The longest silence comes first.
    Failed(Reverse<u64>),
    /// It may not be a master: a batch run that founded the group.
    NotEligible,
}

/// What makes one preferable, the smaller the better: wished for, fewer downs, quicker syncs, longer up, older. The
/// figures are coarse, so that two hosts that are alike are told apart by what does not change.
pub(super) type Rank = (bool, usize, usize, Reverse<usize>, RaftId);

/// Marks between quick and slow syncs.
const SYNC_MS: [u64; 3] = [10, 50, 200];
/// Marks between young and old: an hour, a day, a week.
const UPTIME_MS: [u64; 3] = [3_600_000, 86_400_000, 604_800_000];

pub(super) fn rank(census: &Census, id: RaftId) -> Rank {
    let Some(seat) = census.seats.get(&id) else { return (true, usize::MAX, usize::MAX, Reverse(0), id) };
    let bucket = |value: u64, marks: &[u64]| marks.iter().filter(|mark| value > **mark).count();
    (
        !seat.profile.prefer,
        seat.downs,
        bucket(seat.profile.sync_p99_ms, &SYNC_MS),
        Reverse(bucket(seat.profile.uptime_ms, &UPTIME_MS)),
        id,
    )
}

/// Why this member cannot be made a master now; `None` if it can.
pub(super) fn passed(seat: &Seat, voters: usize, policy: &Policy) -> Option<Passed> {
    let wanted = policy.stable(voters);
    Some(match seat.alive_ms {
        _ if seat.profile.lost_data => Passed::LostData,
        _ if seat.profile.draining => Passed::Draining,
        _ if seat.profile.eligible != Some(true) => Passed::NotEligible,
        _ if seat.profile.disk_low => Passed::DiskLow,
        _ if slow(seat, policy) => Passed::DiskSlow,
        None => Passed::Silent(seat.silent_ms),
        Some(alive) if alive < wanted => Passed::Young(alive, wanted),
        _ if mutant::is(Mutant::LaggingLearnerPromoted) => return None,
        _ if !near(seat, policy) => Passed::Behind(seat.behind),
        _ if !seat.caught_up => Passed::NearOnce,
        _ => return None,
    })
}

/// Why this master should be another one.
pub(super) fn trouble(seat: Option<&Seat>, policy: &Policy) -> Option<Trouble> {
    let Some(seat) = seat else { return Some(Trouble::LostData) };
    Some(match seat {
        _ if seat.profile.draining => Trouble::Draining,
        _ if seat.profile.lost_data => Trouble::LostData,
        _ if seat.silent_ms >= policy.failed_ms => Trouble::Failed(Reverse(seat.silent_ms)),
        _ if seat.profile.eligible == Some(false) => Trouble::NotEligible,
        _ => return None,
    })
}

/// It has, as of now, what is committed, or nearly.
pub(super) fn near(seat: &Seat, policy: &Policy) -> bool {
    seat.behind.is_some_and(|behind| behind <= policy.lag_entries_max)
}

/// It would be counted on in a vote: here, and with the log.
pub(super) fn live(census: &Census, id: RaftId, policy: &Policy) -> bool {
    let lagging_is_fine = mutant::is(Mutant::LaggingLearnerPromoted);
    let seat = census.seats.get(&id).filter(|seat| !seat.profile.lost_data && seat.alive_ms.is_some());
    seat.is_some_and(|seat| lagging_is_fine || near(seat, policy))
}

/// Its disk has been slow for longer than a moment.
pub(super) fn slow(seat: &Seat, policy: &Policy) -> bool {
    seat.slow_ms.is_some_and(|slow| slow >= policy.slow_ms)
}

/// Everybody's standing.
#[must_use]
pub fn standings(census: &Census, policy: &Policy) -> BTreeMap<RaftId, Standing> {
    let stand = |id: RaftId, seat: &Seat| match () {
        () if id == census.me => Standing::Leader(trouble(Some(seat), policy)),
        () if census.votes(id) => Standing::Master(trouble(Some(seat), policy)),
        () => passed(seat, census.voters().len(), policy).map_or(Standing::Spare, Standing::Learner),
    };
    census.seats.iter().map(|(id, seat)| (*id, stand(*id, seat))).collect()
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader(None) => f.write_str("leads"),
            Self::Leader(Some(trouble)) => write!(f, "leads; {trouble}"),
            Self::Master(None) => f.write_str("master"),
            Self::Master(Some(trouble)) => write!(f, "master; {trouble}"),
            Self::Spare => f.write_str("could be a master"),
            Self::Learner(passed) => write!(f, "no master: {passed}"),
        }
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LostData => f.write_str("its log is gone"),
            Self::Draining => f.write_str("is leaving"),
            Self::NotEligible => f.write_str("may not be one"),
            Self::DiskLow => f.write_str("its disk is nearly full"),
            Self::DiskSlow => f.write_str("its disk is slow"),
            Self::Silent(ms) => write!(f, "silent for {}", Span(*ms)),
            Self::Young(ms, wanted) => write!(f, "alive for {} of {}", Span(*ms), Span(*wanted)),
            Self::Behind(Some(entries)) => write!(f, "{entries} entries behind"),
            Self::Behind(None) => f.write_str("nobody knows how far it is"),
            Self::NearOnce => f.write_str("has only just caught up"),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draining => f.write_str("is leaving"),
            Self::LostData => f.write_str("its log is gone"),
            Self::Failed(Reverse(ms)) => write!(f, "silent for {}", Span(*ms)),
            Self::NotEligible => f.write_str("may not be one"),
        }
    }
}
