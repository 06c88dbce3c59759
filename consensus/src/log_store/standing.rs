//! What the log amounts to at one moment, and how each record changes it: the same rules for what is written and for
//! what is read back.

use super::record::{Record, Standing};
use crate::types::LogId;

/// A record that cannot follow what is there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at index {index}, while the log reaches from {from} to {to}")]
pub(super) struct Impossible {
    what: &'static str,
    index: u64,
    from: u64,
    to: u64,
}

/// The index behind this one; the first one behind none.
pub(super) fn after(log_id: Option<&LogId>) -> u64 {
    log_id.map_or(0, |log_id| log_id.index + 1)
}

impl Standing {
    /// The first index that can be there.
    pub(super) fn first(&self) -> u64 {
        after(self.purged.as_ref())
    }

    /// The index of the next entry, unless the log is empty: then it may begin later.
    pub(super) fn next(&self) -> u64 {
        after(self.last.as_ref())
    }

    fn impossible(&self, what: &'static str, index: u64) -> Impossible {
        Impossible { what, index, from: self.first(), to: self.next() }
    }

    /// Whether an entry may follow.
    pub(super) fn admits(&self, index: u64) -> Result<(), Impossible> {
        let follows = if self.first() == self.next() { index >= self.next() } else { index == self.next() };
        // The highest index there is stays free: one is added to indices.
        if follows && index < u64::MAX { Ok(()) } else { Err(self.impossible("an entry", index)) }
    }

    /// Changes it as a record says.
    pub(super) fn apply(&mut self, record: &Record) -> Result<(), Impossible> {
        match record {
            Record::Vote(vote) => self.vote = Some(*vote),
            Record::Append(log_id) => {
                self.admits(log_id.index)?;
                self.last = Some(*log_id);
            }
            Record::Truncate(last) => {
                let next = after(last.as_ref());
                if next < self.first() {
                    return Err(self.impossible("truncation", next));
                }
                if next <= self.next() {
                    self.last = if next == self.first() { self.purged } else { *last };
                }
            }
            Record::Purge(log_id) => {
                if log_id.index == u64::MAX || (log_id.index < self.first() && self.purged != Some(*log_id)) {
                    return Err(self.impossible("purge", log_id.index));
                }
                self.purged = Some(*log_id);
                if self.next() <= log_id.index + 1 {
                    self.last = self.purged;
                }
            }
            Record::Committed(log_id) => self.committed = *log_id,
            Record::Standing(standing) => *self = standing.clone(),
        }
        Ok(())
    }
}
