//! No step of the membership without a live quorum of the old and of the new voters. DESIGN §4, "Never a step whose old
//! and new sets do not both have a live quorum"; reliability.md §4.2 (5).

use std::collections::BTreeSet;

use super::super::{Verdict, broken};
use super::{Id, Sighting};

#[derive(Debug, Default)]
pub(crate) struct LiveQuorum;

impl LiveQuorum {
    pub(crate) fn see(&self, sighting: &Sighting) -> Verdict {
        let Sighting::Step(step) = sighting else { return Ok(()) };
        // The end of a joint change, and learners that come and go, ask nothing of anybody who votes.
        if step.old == step.new || step.old.len() > 1 {
            return Ok(());
        }
        let lives = |set: &BTreeSet<Id>| 2 * set.intersection(&step.alive).count() > set.len();
        match step.old.iter().chain(&step.new).find(|set| !lives(set)) {
            None => Ok(()),
            Some(dead) => broken("a live quorum at every step", format!("{dead:?} has none in {step:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Step;
    use super::*;

    fn step(old: &[&[Id]], new: &[&[Id]], alive: &[Id]) -> Sighting {
        let sets = |sets: &[&[Id]]| sets.iter().map(|set| set.iter().copied().collect()).collect();
        Sighting::Step(Step {
            index: 1,
            term: 1,
            old: sets(old),
            new: sets(new),
            alive: alive.iter().copied().collect(),
            behind: [].into(),
        })
    }

    #[test]
    fn a_step_into_the_dark_is_seen() {
        let see = |sighting| LiveQuorum.see(&sighting);
        assert_eq!(see(step(&[&[1, 2, 3]], &[&[1, 2, 3], &[1, 2, 4]], &[1, 2])), Ok(()));
        assert!(see(step(&[&[1, 2, 3]], &[&[1, 2, 3], &[1, 3, 4]], &[1, 2])).is_err());
        assert!(see(step(&[&[1, 2, 3]], &[&[1, 2, 3], &[1]], &[1])).is_err());
        assert!(see(step(&[&[1]], &[&[1], &[1, 2]], &[1])).is_err(), "half is no quorum");
        assert_eq!(see(step(&[&[1, 2], &[1]], &[&[1]], &[2])), Ok(()), "what was begun is ended");
    }
}
