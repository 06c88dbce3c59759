//! What was applied anywhere is in the log of every later leader, and every host applies without a gap. Raft, figure 3,
//! Leader Completeness; openraft's `tests-turmoil` checks the like after every tick.

use std::collections::BTreeMap;

use super::super::history::Index;
use super::super::{Verdict, broken};
use super::{Sighting, Term};

#[derive(Debug, Default)]
pub(crate) struct CommittedIsKept {
    /// The highest index applied anywhere.
    applied: Index,
    /// Per host: the life that applies, and where it is.
    hosts: BTreeMap<usize, (u64, Index)>,
    /// Terms whose leader was judged, when he first was seen.
    judged: Term,
}

impl CommittedIsKept {
    pub(crate) fn see(&mut self, sighting: &Sighting) -> Verdict {
        match *sighting {
            Sighting::Applied { host, life, index, .. } => {
                let before = self.hosts.insert(host, (life, index));
                if let Some((_, at)) = before.filter(|(before, at)| *before == life && index != at + 1) {
                    return broken("applied without a gap", format!("host {host} applied {index} after {at}"));
                }
                self.applied = self.applied.max(index);
                Ok(())
            }
            Sighting::Installed { host, life, index } => {
                let before = self.hosts.insert(host, (life, index));
                if let Some((_, at)) = before.filter(|(before, at)| *before == life && index < *at) {
                    return broken("applied without a gap", format!("host {host} fell from {at} to {index}"));
                }
                Ok(())
            }
            // An old leader may still speak; only the newest term has to know everything.
            Sighting::Leads { id, term, last: Some(last) } if term > self.judged => {
                self.judged = term;
                if last < self.applied {
                    let applied = self.applied;
                    return broken(
                        "committed is kept",
                        format!("{id} leads in term {term} with a log up to {last}; {applied} was applied"),
                    );
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(host: usize, life: u64, index: Index) -> Sighting {
        Sighting::Applied { host, life, index, entry: 0, outcome: 0 }
    }

    #[test]
    fn a_leader_that_lacks_something_is_seen() {
        let mut law = CommittedIsKept::default();
        assert_eq!(law.see(&Sighting::Leads { id: 1, term: 3, last: Some(2) }), Ok(()));
        assert_eq!(law.see(&applied(0, 1, 7)), Ok(()));
        assert_eq!(law.see(&Sighting::Leads { id: 1, term: 3, last: Some(2) }), Ok(()), "judged when it began");
        assert_eq!(law.see(&Sighting::Leads { id: 2, term: 4, last: Some(7) }), Ok(()));
        assert!(law.see(&Sighting::Leads { id: 3, term: 5, last: Some(6) }).is_err());
    }

    #[test]
    fn a_gap_is_seen_and_a_restart_is_none() {
        let mut law = CommittedIsKept::default();
        assert_eq!(law.see(&applied(0, 1, 7)), Ok(()));
        assert_eq!(law.see(&applied(0, 2, 4)), Ok(()), "from a snapshot, after a restart");
        assert_eq!(law.see(&applied(0, 2, 5)), Ok(()));
        assert_eq!(law.see(&Sighting::Installed { host: 0, life: 2, index: 20 }), Ok(()));
        assert_eq!(law.see(&applied(0, 2, 21)), Ok(()));
        assert!(law.see(&applied(0, 2, 23)).is_err());
        assert!(law.see(&applied(0, 2, 23)).is_err(), "nor twice");
        assert!(law.see(&Sighting::Installed { host: 0, life: 2, index: 3 }).is_err());
    }
}
