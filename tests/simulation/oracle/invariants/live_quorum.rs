//! No step of the membership without a live quorum of the old and of the new voters. DESIGN §4, "Never a step whose old
//! and new sets do not both have a live quorum"; reliability.md §4.2 (5).

use std::collections::BTreeSet;

use super::super::{Verdict, broken};
use super::{Id, Sighting};

#[derive(Debug, Default)]
pub(crate) struct LiveQuorum;

impl LiveQuorum {
    pub(crate) fn see(&self, sighting: &Sighting) -> Verdict {
        let Sighting::Decided(step) = sighting else { return Ok(()) };
        // What was begun is ended, whoever lives.
        if step.old.len() > 1 || step.old[..] == [step.new.clone()] {
            return Ok(());
        }
        let lives = |set: &BTreeSet<Id>| 2 * set.intersection(&step.alive).count() > set.len();
        match step.old.iter().chain([&step.new]).find(|set| !lives(set)) {
            None => Ok(()),
            Some(dead) => broken("a live quorum at every step", format!("{dead:?} has none in {step:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Step;
    use super::*;

    fn step(old: &[&[Id]], new: &[Id], alive: &[Id]) -> Sighting {
        let set = |set: &[Id]| set.iter().copied().collect();
        let old = old.iter().map(|ids| set(ids)).collect();
        Sighting::Decided(Step { leader: 1, old, new: set(new), alive: set(alive), behind: [].into() })
    }

    #[test]
    fn a_step_into_the_dark_is_seen() {
        let see = |sighting| LiveQuorum.see(&sighting);
        assert_eq!(see(step(&[&[1, 2, 3]], &[1, 2, 4], &[1, 2])), Ok(()));
        assert!(see(step(&[&[1, 2, 3]], &[1, 3, 4], &[1, 2])).is_err());
        assert!(see(step(&[&[1, 2, 3]], &[1], &[1])).is_err());
        assert!(see(step(&[&[1]], &[1, 2], &[1])).is_err(), "half is no quorum");
        assert_eq!(see(step(&[&[1, 2], &[1]], &[1], &[2])), Ok(()), "what was begun is ended");
        assert_eq!(see(step(&[&[1, 2, 3]], &[1, 2, 3], &[1])), Ok(()), "nobody else is to vote");
    }
}
