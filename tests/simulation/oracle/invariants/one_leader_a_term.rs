//! At most one leader in a term. Raft, figure 3, Election Safety and Log Matching.
//!
//! The group's terms are those of openraft's `leader_id_adv`: a number and who leads, ordered like that, so that a second
//! candidate with a higher id may win under the same number. What must not be is two that lead under the same of both,
//! two lives of one id, or one that has forgotten that it led already: what they write shows it.

use std::collections::BTreeMap;

use super::super::history::Index;
use super::super::{Verdict, broken};
use super::{Id, Sighting, Term};

#[derive(Debug, Default)]
pub(crate) struct OneLeaderATerm {
    entries: BTreeMap<(Index, Term, Id), u64>,
}

impl OneLeaderATerm {
    pub(crate) fn see(&mut self, sighting: &Sighting) -> Verdict {
        let Sighting::Sent { index, term, writer, entry } = *sighting else { return Ok(()) };
        match *self.entries.entry((index, term, writer)).or_insert(entry) {
            known if known == entry => Ok(()),
            _ => broken("one leader a term", format!("{writer} wrote two entries {index} in term {term}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lives_that_lead_in_a_term_are_seen() {
        let mut law = OneLeaderATerm::default();
        let sent = |index, term, writer, entry| Sighting::Sent { index, term, writer, entry };
        assert_eq!(law.see(&sent(7, 2, 1, 55)), Ok(()));
        assert_eq!(law.see(&sent(7, 2, 3, 56)), Ok(()), "another leader");
        assert_eq!(law.see(&sent(7, 3, 1, 57)), Ok(()), "another term");
        assert_eq!(law.see(&sent(7, 2, 1, 55)), Ok(()), "the same again");
        assert!(law.see(&sent(7, 2, 1, 58)).is_err());
    }
}
