//! Who becomes a voter is caught up: one that lags could not vote for long, and the quorum would hang on the rest.
//! DESIGN §4, "Promote who is caught up (≤ 64 entries behind, twice)"; Raft §4.2.1.

use super::super::{Verdict, broken};
use super::Sighting;

/// DESIGN's 64, and what may have been written and not acknowledged at the moment of the leader's look.
pub(crate) const BEHIND_MAX: u64 = 64 + 64;

#[derive(Debug, Default)]
pub(crate) struct PromotedAreCaughtUp;

impl PromotedAreCaughtUp {
    pub(crate) fn see(&self, sighting: &Sighting) -> Verdict {
        let Sighting::Decided(step) = sighting else { return Ok(()) };
        match step.behind.iter().find(|(_, behind)| **behind > BEHIND_MAX) {
            None => Ok(()),
            Some((id, behind)) => broken("who is promoted is caught up", format!("{id} lacks {behind} in {step:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Step;
    use super::*;

    #[test]
    fn a_voter_that_lags_is_seen() {
        let step = |behind| {
            let (behind, old) = ([(4, behind)].into(), Vec::new());
            Sighting::Decided(Step { leader: 1, old, new: [1].into(), alive: [].into(), behind })
        };
        assert_eq!(PromotedAreCaughtUp.see(&step(60)), Ok(()));
        assert!(PromotedAreCaughtUp.see(&step(1_000)).is_err());
    }
}
