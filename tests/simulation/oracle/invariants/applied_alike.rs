//! All hosts apply the same entry at the same index, answer the same, and have the same state at the same revision.
//! Raft, figure 3, State Machine Safety; reliability.md F27, and etcd's three years of hashes for it.

use std::collections::BTreeMap;

use super::super::history::Index;
use super::super::{Verdict, broken};
use super::Sighting;

#[derive(Debug, Default)]
pub(crate) struct AppliedAlike {
    entries: BTreeMap<Index, (u64, u64, usize)>,
    states: BTreeMap<Index, (u64, usize)>,
}

impl AppliedAlike {
    pub(crate) fn see(&mut self, sighting: &Sighting) -> Verdict {
        match *sighting {
            Sighting::Applied { host, index, entry, outcome, .. } => {
                let (entry_before, outcome_before, other) =
                    *self.entries.entry(index).or_insert((entry, outcome, host));
                if entry != entry_before {
                    return broken("one entry an index", format!("hosts {other} and {host} differ at {index}"));
                }
                if outcome != outcome_before {
                    return broken("one outcome an index", format!("hosts {other} and {host} differ at {index}"));
                }
                Ok(())
            }
            Sighting::State { host, index, digest } => match *self.states.entry(index).or_insert((digest, host)) {
                (before, _) if before == digest => Ok(()),
                (_, other) => {
                    broken("one state a revision", format!("hosts {other} and {host} differ at revision {index}"))
                }
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_differs_is_seen() {
        let applied = |host, index, entry, outcome| Sighting::Applied { host, life: 1, index, entry, outcome };
        let mut law = AppliedAlike::default();
        assert_eq!(law.see(&applied(0, 5, 55, 66)), Ok(()));
        assert_eq!(law.see(&applied(1, 5, 55, 66)), Ok(()));
        assert!(law.see(&applied(2, 5, 56, 66)).is_err());
        assert!(law.see(&applied(2, 5, 55, 67)).is_err());
        assert_eq!(law.see(&Sighting::State { host: 0, index: 5, digest: 1 }), Ok(()));
        assert_eq!(law.see(&Sighting::State { host: 1, index: 6, digest: 2 }), Ok(()));
        assert!(law.see(&Sighting::State { host: 1, index: 5, digest: 2 }).is_err());
    }
}
