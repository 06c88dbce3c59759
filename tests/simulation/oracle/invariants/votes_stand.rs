//! A vote is given once a term and outlives a crash; a term, once spoken in, is never fallen back from. Raft §5.2 and
//! figure 2: `currentTerm` and `votedFor` are "updated on stable storage before responding".

use std::collections::BTreeMap;

use super::super::{Verdict, broken};
use super::{Id, Sighting, Term};

#[derive(Debug, Default)]
pub(crate) struct VotesStand {
    votes: BTreeMap<(Id, Term), Id>,
    terms: BTreeMap<Id, Term>,
}

impl VotesStand {
    pub(crate) fn see(&mut self, sighting: &Sighting) -> Verdict {
        match *sighting {
            Sighting::Granted { voter, term, candidate } => {
                match *self.votes.entry((voter, term)).or_insert(candidate) {
                    other if other == candidate => self.speaks(voter, term),
                    other => broken("votes stand", format!("{voter} votes for {other} and {candidate} in term {term}")),
                }
            }
            Sighting::Speaks { id, term: Some(term), .. } => self.speaks(id, term),
            _ => Ok(()),
        }
    }

    fn speaks(&mut self, id: Id, term: Term) -> Verdict {
        let before = self.terms.entry(id).or_default();
        if term < *before {
            return broken("terms do not fall", format!("{id} spoke in term {before} and now in {term}"));
        }
        *before = term;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_vote_and_a_forgotten_term_are_seen() {
        let granted = |term, candidate| Sighting::Granted { voter: 1, term, candidate };
        let mut law = VotesStand::default();
        assert_eq!(law.see(&granted(4, 2)), Ok(()));
        assert_eq!(law.see(&granted(4, 2)), Ok(()));
        assert!(law.see(&granted(4, 3)).is_err());
        assert!(law.see(&Sighting::Speaks { id: 1, incarnation: 7, term: Some(3) }).is_err());
        assert_eq!(law.see(&Sighting::Speaks { id: 2, incarnation: 8, term: Some(3) }), Ok(()));
    }
}
