//! Whether a change of who votes may be begun now, whatever it is good for. Asked by `choose` of everything it finds,
//! and to be asked again by whoever carries a step out.

use std::collections::BTreeSet;

use super::census::Census;
use super::policy::Policy;
use super::standing::{Passed, live, passed};
use crate::mutant::{self, Mutant};
use crate::types::RaftId;

/// Fewer live masters than this are not made of more, unless somebody who may has asked for it.
const LIVE_MIN: usize = 2;

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsafe {
    /// One change at a time.
    #[error("another change is under way")]
    InFlight,
    /// A group has masters.
    #[error("nobody would vote")]
    Nobody,
    /// It needs a quorum of each set, before and after.
    #[error("of {} masters only {live} are alive and caught up, and {needed} are needed", .set.len())]
    NoQuorum {
        /// The set that has none.
        set: BTreeSet<RaftId>,
        /// How many of it would count.
        live: usize,
        /// How many would have to.
        needed: usize,
    },
    /// A new master is not fit to be one.
    #[error("{host} cannot become a master: {why}")]
    Unfit {
        /// Its name.
        host: String,
        /// Why.
        why: Passed,
    },
    /// Nobody asked for so few.
    #[error("only {live} live masters would be left")]
    TooFew {
        /// How many.
        live: usize,
    },
}

/// One change at a time.
///
/// # Errors
/// If one is under way.
pub(super) fn one_at_a_time(census: &Census) -> Result<(), Unsafe> {
    let under_way = census.change_in_flight || !census.settled;
    if under_way && !mutant::is(Mutant::TwoStepsInFlight) { Err(Unsafe::InFlight) } else { Ok(()) }
}

/// Whether who votes may become `new` where it is `old`: one set, or two that are left of a change.
///
/// # Errors
/// Why not.
pub fn safe(old: &[BTreeSet<RaftId>], new: &BTreeSet<RaftId>, census: &Census, policy: &Policy) -> Result<(), Unsafe> {
    one_at_a_time(census)?;
    if new.is_empty() {
        return Err(Unsafe::Nobody);
    }
    let live_of = |set: &BTreeSet<RaftId>| set.iter().filter(|id| live(census, **id, policy)).count();
    for set in old.iter().chain([new]) {
        let (live, needed) = (live_of(set), set.len() / 2 + 1);
        if live < needed && !mutant::is(Mutant::QuorumCheckSkipped) {
            return Err(Unsafe::NoQuorum { set: set.clone(), live, needed });
        }
    }
    let voters = census.voters().len();
    for id in new.iter().filter(|id| !old.iter().any(|set| set.contains(id))) {
        let why = census.seats.get(id).map_or(Some(Passed::LostData), |seat| passed(seat, voters, policy));
        if let Some(why) = why {
            return Err(Unsafe::Unfit { host: census.name(*id), why });
        }
    }
    let left = live_of(new);
    if left < LIVE_MIN && asked_for(old, census) > new.len() && !mutant::is(Mutant::QuorumCheckSkipped) {
        return Err(Unsafe::TooFew { live: left });
    }
    Ok(())
}

/// How many masters there would be if nothing but wishes counted: those that are not leaving, at most as many as are
/// wished for, and an odd number.
fn asked_for(old: &[BTreeSet<RaftId>], census: &Census) -> usize {
    let stays = |id: &&RaftId| !census.seats.get(id).is_some_and(|seat| seat.profile.draining);
    let staying = old.last().map_or(0, |set| set.iter().filter(stays).count());
    super::choose::odd(staying.min(census.ideal))
}
