//! What each member has acknowledged to this leader, so that one whose disk went back in time is noticed.
//!
//! An acknowledgement says that entries are on a disk for good. A member that lacks afterwards what it had acknowledged
//! was put back from an old image: Raft cannot go on with it, and openraft would take itself for broken. Within one term
//! of a leader nothing that was acknowledged to it goes; over terms, nothing that was committed as well.
//!
//! It is known to leaders alone and kept in memory. An image that is put back while no leader lives who had heard of more
//! is not noticed here.

use std::collections::BTreeMap;

use crate::limits::MEMBERS_MAX;
use crate::types::RaftId;

/// What all members have acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged(BTreeMap<RaftId, Known>);

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// The term in which it had everything up to `matched`.
    term: u64,
    matched: u64,
    /// It had everything up to here, and that was committed.
    committed: u64,
    /// It had it, and has it no more.
    lost: bool,
}

impl Acknowledged {
    /// A member has everything up to this index; the leader of this term says that the log is committed up to there.
    pub(crate) fn has(&mut self, id: RaftId, term: u64, matched: u64, committed: u64) {
        if self.0.len() >= MEMBERS_MAX && !self.0.contains_key(&id) {
            // The lowest id is the oldest member, and most likely none any more.
            self.0.pop_first();
        }
        let known = self.0.entry(id).or_default();
        if known.term != term {
            *known = Known { term, matched: 0, ..*known };
        }
        known.matched = known.matched.max(matched);
        known.committed = known.committed.max(matched.min(committed));
    }

    /// Up to where a member must have everything, by what it has acknowledged so far.
    pub(crate) fn must_have(&self, id: RaftId, term: u64) -> u64 {
        self.0.get(&id).map_or(0, |known| if known.term == term { known.matched } else { 0 }.max(known.committed))
    }

    /// It has it no more. Whether that is news.
    pub(crate) fn lose(&mut self, id: RaftId) -> bool {
        !std::mem::replace(&mut self.0.entry(id).or_default().lost, true)
    }

    /// Whether its disk went back in time.
    pub(crate) fn has_lost(&self, id: RaftId) -> bool {
        self.0.get(&id).is_some_and(|known| known.lost)
    }

    /// All whose disks did.
    pub(crate) fn lost(&self) -> impl Iterator<Item = RaftId> {
        self.0.iter().filter(|(_, known)| known.lost).map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_goes_with_the_term_unless_it_was_committed() {
        let mut known = Acknowledged::default();
        known.has(7, 3, 100, 90);
        known.has(7, 3, 40, 90);
        assert_eq!((known.must_have(7, 3), known.must_have(7, 4), known.must_have(8, 3)), (100, 90, 0));
        known.has(7, 4, 95, 92);
        assert_eq!((known.must_have(7, 4), known.must_have(7, 5)), (95, 92));
        assert!(known.lose(7) && !known.lose(7));
        assert_eq!(known.lost().collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let mut known = Acknowledged::default();
        for id in 0..2 * MEMBERS_MAX as u64 {
            known.has(id, 1, 1, 1);
        }
        assert_eq!(known.0.len(), MEMBERS_MAX);
    }
}
