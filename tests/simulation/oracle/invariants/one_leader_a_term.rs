//! At most one leader in a term. Raft, figure 3, Election Safety.

use std::collections::BTreeMap;

use super::super::{Verdict, broken};
use super::{Id, Sighting, Term};

#[derive(Debug, Default)]
pub(crate) struct OneLeaderATerm {
    leaders: BTreeMap<Term, Id>,
}

impl OneLeaderATerm {
    pub(crate) fn see(&mut self, sighting: &Sighting) -> Verdict {
        let Sighting::Leads { id, term, .. } = sighting else { return Ok(()) };
        match *self.leaders.entry(*term).or_insert(*id) {
            other if other == *id => Ok(()),
            other => broken("one leader a term", format!("{other} and {id} lead in term {term}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leaders_in_a_term_are_seen() {
        let mut law = OneLeaderATerm::default();
        let leads = |id, term| Sighting::Leads { id, term, last: None };
        assert_eq!(law.see(&leads(1, 4)), Ok(()));
        assert_eq!(law.see(&leads(2, 5)), Ok(()));
        assert_eq!(law.see(&leads(1, 4)), Ok(()));
        assert!(law.see(&leads(2, 4)).is_err());
    }
}
