//! Whether a member may leave, and if not, what stands in the way.

use super::census::Census;
use super::choose::{Choice, Waits, ready};
use super::policy::Policy;
use super::safe::Unsafe;
use super::standing::live;
use super::step::Step;
use crate::types::RaftId;

/// Why a member may not leave now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such member.
    #[error("there is no member {0}")]
    NotAMember(RaftId),
    /// With it the cluster would end.
    #[error("{0} is the last member, and the cluster would end with it")]
    Last(String),
    /// Nothing can be changed now.
    #[error("{0}: try again")]
    Busy(#[source] Waits),
    /// Who else votes is not enough.
    #[error("without {host} only {live} of {} masters are alive and caught up, and {} are needed", .others, .others / 2 + 1)]
    Quorum {
        /// Who wants to leave.
        host: String,
        /// Masters besides it that would count.
        live: usize,
        /// Masters besides it.
        others: usize,
    },
    /// It is the only master.
    #[error("{0} is the only master, and nobody can take its place yet")]
    NobodyElse(String),
}

/// Whether a member may leave: a learner always; a master if there is a step that makes it one, with a quorum before
/// and after.
///
/// # Errors
/// What stands in the way.
pub fn may_leave(census: &Census, policy: &Policy, id: RaftId) -> Result<(), Refusal> {
    let seat = census.seats.get(&id).ok_or(Refusal::NotAMember(id))?;
    let host = || seat.member.host.clone();
    if census.seats.len() == 1 {
        return Err(Refusal::Last(host()));
    }
    if !census.votes(id) {
        return Ok(());
    }
    match ready(census, policy) {
        // Somebody who asks has thought about it longer than we have.
        Ok(()) | Err(Waits::Elected(..) | Waits::Changed(..)) if census.configs.len() == 1 => {}
        Ok(()) | Err(Waits::Elected(..) | Waits::Changed(..)) => return Err(Refusal::Busy(Unsafe::InFlight.into())),
        Err(waits) => return Err(Refusal::Busy(waits)),
    }
    let mut without = census.clone();
    for (other, seat) in &mut without.seats {
        // Others that are leaving too are another question.
        seat.profile.draining = *other == id;
    }
    // A leader that has just failed to hand over may still try again.
    without.transfer_ms = None;
    let gone = |step: Step| !step.deed.changes_membership() || !step.voters.contains(&id);
    if Choice::departure(&without, policy).is_some_and(gone) {
        return Ok(());
    }
    let others = census.voters().iter().filter(|other| **other != id);
    let live = others.clone().filter(|other| live(census, **other, policy)).count();
    match others.count() {
        0 => Err(Refusal::NobodyElse(host())),
        others => Err(Refusal::Quorum { host: host(), live, others }),
    }
}
