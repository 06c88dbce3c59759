//! A leader decides on a change of who votes when the one before has ended; and in the log a change goes through its
//! joint configuration: from old to old-and-new to new. DESIGN §4, "one change in flight"; Raft §6.

use std::collections::BTreeSet;

use super::super::{Verdict, broken};
use super::{Id, Sighting};

#[derive(Debug, Default)]
pub(crate) struct OneStepAtATime {
    open: BTreeSet<Id>,
}

impl OneStepAtATime {
    pub(crate) fn see(&mut self, sighting: &Sighting) -> Verdict {
        match sighting {
            Sighting::Decided(step) if !self.open.insert(step.leader) => {
                broken("one step at a time", format!("{step:?} while another one has not ended"))
            }
            Sighting::Ended { leader } => {
                self.open.remove(leader);
                Ok(())
            }
            Sighting::Membership { index, old, new } => match (&old[..], &new[..]) {
                ([], _) => Ok(()),
                (old, new) if old == new => Ok(()),
                ([before], [first, _]) if before == first => Ok(()),
                ([_, to], [new]) if to == new => Ok(()),
                (old, new) => broken("one step at a time", format!("from {old:?} to {new:?} at {index}")),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Step;
    use super::*;

    fn decided(leader: Id) -> Sighting {
        let (old, new) = (Vec::new(), BTreeSet::new());
        Sighting::Decided(Step { leader, old, new, alive: [].into(), behind: [].into() })
    }

    #[test]
    fn a_second_step_in_flight_is_seen() {
        let mut law = OneStepAtATime::default();
        for fine in [decided(1), decided(2), Sighting::Ended { leader: 1 }, decided(1)] {
            assert_eq!(law.see(&fine), Ok(()));
        }
        assert!(law.see(&decided(1)).is_err());
    }

    #[test]
    fn a_step_without_its_joint_configuration_is_seen() {
        let sets = |sets: &[&[Id]]| sets.iter().map(|set| set.iter().copied().collect()).collect();
        let membership = |old: &[&[Id]], new: &[&[Id]]| {
            OneStepAtATime::default().see(&Sighting::Membership { index: 9, old: sets(old), new: sets(new) })
        };
        assert_eq!(membership(&[&[1]], &[&[1], &[1, 2, 3]]), Ok(()));
        assert_eq!(membership(&[&[1], &[1, 2, 3]], &[&[1, 2, 3]]), Ok(()));
        assert_eq!(membership(&[&[1]], &[&[1]]), Ok(()), "a learner comes");
        assert!(membership(&[&[1, 2, 3]], &[&[1, 2, 4]]).is_err());
        assert!(membership(&[&[1], &[1, 2, 3]], &[&[1, 2, 3], &[1]]).is_err());
    }
}
