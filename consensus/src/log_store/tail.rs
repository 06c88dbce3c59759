//! The most recent entries, in memory: what replication reads, and what is not written yet.

use std::collections::VecDeque;

use super::record::entry_bytes;
use crate::limits::{TAIL_BYTES_MAX, TAIL_ENTRIES_MAX};
use crate::types::Entry;

/// The last entries of the log, without a gap.
#[derive(Debug, Default)]
pub(super) struct Tail {
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
}

impl Tail {
    /// The lowest index in it.
    pub(super) fn first(&self) -> Option<u64> {
        self.entries.front().map(|(entry, _)| entry.log_id.index)
    }

    /// The entry at an index and how many bytes it has.
    pub(super) fn get(&self, index: u64) -> Option<&(Entry, usize)> {
        self.entries.get(usize::try_from(index.checked_sub(self.first()?)?).ok()?)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        let bytes = entry_bytes(&entry);
        self.bytes += bytes;
        self.entries.push_back((entry, bytes));
    }

    /// Lets go of the oldest beyond the limits. Those from `written` on stay: they are nowhere else.
    pub(super) fn trim(&mut self, written: u64) {
        while (self.entries.len() > TAIL_ENTRIES_MAX || self.bytes > TAIL_BYTES_MAX)
            && self.first().is_some_and(|first| first < written)
        {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some((_, bytes)) = self.entries.pop_front() {
            self.bytes -= bytes;
        }
    }

    /// Drops everything from `end` on.
    pub(super) fn truncate(&mut self, end: u64) {
        while self.entries.back().is_some_and(|(entry, _)| entry.log_id.index >= end) {
            if let Some((_, bytes)) = self.entries.pop_back() {
                self.bytes -= bytes;
            }
        }
    }

    /// Drops everything before `first`.
    pub(super) fn purge(&mut self, first: u64) {
        while self.first().is_some_and(|oldest| oldest < first) {
            self.drop_first();
        }
    }
}
