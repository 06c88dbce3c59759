//! A change of the membership begins when the one before is committed and is not joint any more, unless it is the end
//! of that one. DESIGN §4, "one change in flight"; openraft may leave a joint configuration behind (consensus.md §1.5).

use std::collections::BTreeSet;

use super::super::history::Index;
use super::super::{Verdict, broken};
use super::{Id, Sighting, Term};

#[derive(Debug, Default)]
pub(crate) struct OneStepAtATime {
    open: Option<(Index, Term, Vec<BTreeSet<Id>>)>,
}

impl OneStepAtATime {
    pub(crate) fn see(&mut self, sighting: &Sighting) -> Verdict {
        match sighting {
            Sighting::Step(step) if step.old == step.new => Ok(()),
            Sighting::Step(step) => {
                let before = self.open.replace((step.index, step.term, step.new.clone()));
                // A step of an older term may have been cut off with its leader.
                let Some((index, _, sets)) = before.filter(|(_, term, _)| *term == step.term) else { return Ok(()) };
                let finishes = sets.len() > 1 && step.new.len() == 1 && sets.contains(&step.new[0]);
                if finishes {
                    return Ok(());
                }
                broken("one step at a time", format!("{step:?} while the one at {index}, {sets:?}, is not done"))
            }
            Sighting::Settled { index } => {
                self.open.take_if(|(open, _, sets)| *open <= *index && sets.len() == 1);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Step;
    use super::*;

    fn step(index: Index, new: &[&[Id]]) -> Sighting {
        let new = new.iter().map(|set| set.iter().copied().collect()).collect();
        Sighting::Step(Step { index, term: 2, old: Vec::new(), new, alive: [].into(), behind: [].into() })
    }

    #[test]
    fn a_second_step_in_flight_is_seen() {
        let mut law = OneStepAtATime::default();
        for done in [
            step(5, &[&[1], &[1, 2, 3]]),
            Sighting::Settled { index: 5 },
            step(6, &[&[1, 2, 3]]),
            Sighting::Settled { index: 6 },
            step(9, &[&[1, 2, 3], &[1, 2, 4]]),
        ] {
            assert_eq!(law.see(&done), Ok(()));
        }
        assert!(law.see(&step(10, &[&[1, 2, 4], &[1, 2, 5]])).is_err());
    }
}
