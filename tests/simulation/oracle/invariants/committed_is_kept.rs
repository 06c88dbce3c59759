//! What was applied anywhere is in the log of every later leader, and every host applies every command. Raft, figure 3,
//! Leader Completeness; openraft's `tests-turmoil` checks the like after every tick.

use std::collections::{BTreeMap, BTreeSet};

use super::super::history::Index;
use super::super::{Verdict, broken};
use super::{Sighting, Term};

#[derive(Debug, Default)]
pub(crate) struct CommittedIsKept {
    /// Indices of commands applied anywhere. Others (blank entries, memberships) come to no machine.
    commands: BTreeSet<Index>,
    /// Per host: the life that applies, where it began, and where it is.
    hosts: BTreeMap<usize, (u64, Index, Index)>,
    /// The newest term whose leader was judged.
    judged: Term,
}

impl CommittedIsKept {
    pub(crate) fn see(&mut self, sighting: &Sighting) -> Verdict {
        match *sighting {
            Sighting::Applied { host, life, index, .. } => self.applied(host, life, index),
            Sighting::Installed { host, life, index } => {
                let before = self.hosts.insert(host, (life, index, index));
                match before {
                    Some((same, _, at)) if same == life && index < at => {
                        broken("every command is applied", format!("host {host} fell from {at} to {index}"))
                    }
                    _ => Ok(()),
                }
            }
            // An old leader may still speak; only the newest term has to know everything.
            Sighting::Leads { id, term, last: Some(last) } if term > self.judged => {
                self.judged = term;
                match self.commands.last() {
                    Some(applied) if last < *applied => broken(
                        "committed is kept",
                        format!("{id} leads in term {term} with a log up to {last}; {applied} was applied"),
                    ),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn applied(&mut self, host: usize, life: u64, index: Index) -> Verdict {
        let (begun, at) = match self.hosts.get(&host) {
            Some((same, begun, at)) if *same == life => (*begun, *at),
            _ => (0, 0),
        };
        self.hosts.insert(host, (life, begun, index));
        if index <= at {
            return broken("every command is applied", format!("host {host} applied {index} after {at}"));
        }
        if let Some(missed) = self.commands.range(at + 1..index).next() {
            return broken("every command is applied", format!("host {host} went from {at} to {index}, past {missed}"));
        }
        if self.commands.insert(index) {
            let past = self.hosts.iter().find(|(_, (_, begun, at))| *begun < index && index < *at);
            if let Some((other, (_, _, at))) = past {
                return broken("every command is applied", format!("host {other} is at {at} without {index}"));
            }
        }
        Ok(())
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
        assert_eq!(law.see(&applied(0, 1, 4)), Ok(()));
        assert_eq!(law.see(&applied(0, 1, 7)), Ok(()), "no commands in between, as far as anybody knows");
        assert_eq!(law.see(&applied(0, 2, 4)), Ok(()), "from the beginning, after a restart");
        assert_eq!(law.see(&applied(0, 2, 7)), Ok(()));
        assert_eq!(law.see(&Sighting::Installed { host: 0, life: 2, index: 20 }), Ok(()));
        assert_eq!(law.see(&applied(0, 2, 21)), Ok(()));
        assert!(law.see(&applied(0, 2, 21)).is_err(), "twice");
        assert!(law.see(&Sighting::Installed { host: 0, life: 2, index: 3 }).is_err());
        assert!(law.see(&applied(1, 1, 21)).is_err(), "past 4 and 7");
        let mut law = CommittedIsKept::default();
        assert_eq!(law.see(&applied(0, 1, 4)), Ok(()));
        assert_eq!(law.see(&applied(0, 1, 7)), Ok(()));
        assert_eq!(law.see(&applied(1, 1, 4)), Ok(()));
        assert!(law.see(&applied(1, 1, 5)).is_err(), "the other one is past it");
    }
}
