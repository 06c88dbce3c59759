//! A vote outlives a crash: nobody gives it to somebody lower afterwards, and a term, once spoken in, is never fallen
//! back from. Raft §5.2 and figure 2: `currentTerm` and `votedFor` are "updated on stable storage before responding".
//!
//! Votes are ordered by term and candidate (openraft's `leader_id_adv`): within a term a higher candidate may get the vote
//! that a lower one had.

use std::collections::BTreeMap;

use super::super::{Verdict, broken};
use super::{Id, Sighting, Term};

#[derive(Debug, Default)]
pub(crate) struct VotesStand {
    votes: BTreeMap<Id, (Term, Id)>,
}

impl VotesStand {
    pub(crate) fn see(&mut self, sighting: &Sighting) -> Verdict {
        match *sighting {
            Sighting::Granted { voter, term, candidate } => self.speaks(voter, (term, candidate)),
            Sighting::Speaks { id, term: Some(term), .. } => match self.votes.get(&id) {
                Some((before, _)) if term < *before => {
                    broken("terms do not fall", format!("{id} spoke in term {before} and now in {term}"))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn speaks(&mut self, voter: Id, vote: (Term, Id)) -> Verdict {
        let before = self.votes.entry(voter).or_default();
        if vote < *before {
            return broken(
                "votes stand",
                format!("{voter} voted for {before:?} and now for {vote:?} (term, candidate)"),
            );
        }
        *before = vote;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vote_taken_back_and_a_forgotten_term_are_seen() {
        let granted = |term, candidate| Sighting::Granted { voter: 1, term, candidate };
        let mut law = VotesStand::default();
        assert_eq!(law.see(&granted(4, 2)), Ok(()));
        assert_eq!(law.see(&granted(4, 2)), Ok(()));
        assert_eq!(law.see(&granted(4, 3)), Ok(()), "higher");
        assert!(law.see(&granted(4, 2)).is_err());
        assert!(law.see(&Sighting::Speaks { id: 1, incarnation: 7, term: Some(3) }).is_err());
        assert_eq!(law.see(&Sighting::Speaks { id: 1, incarnation: 7, term: Some(4) }), Ok(()));
        assert_eq!(law.see(&Sighting::Speaks { id: 2, incarnation: 8, term: Some(3) }), Ok(()));
    }
}
