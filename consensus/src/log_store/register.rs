//! Where in the journal each entry lies, and its checksum: sixteen bytes an entry, for all that are not purged.
//!
//! It is what the index is measured against, so that nothing the index says has to be believed.

use std::collections::VecDeque;

/// Where an entry lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// CRC32C of its bytes.
    pub(super) crc: u32,
    /// The number of the segment.
    pub(super) segment: u32,
    /// The offset of its bytes in the file.
    pub(super) offset: u32,
    /// How many there are.
    pub(super) bytes: u32,
}

/// All of them, in order and without a gap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Register {
    first: u64,
    places: VecDeque<Place>,
}

impl Register {
    /// An empty one, whose first entry will have this index.
    pub(super) const fn starting(first: u64) -> Self {
        Self { first, places: VecDeque::new() }
    }

    /// The lowest index in it.
    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// The index behind the highest.
    pub(super) fn end(&self) -> u64 {
        self.first + self.places.len() as u64
    }

    pub(super) fn get(&self, index: u64) -> Option<Place> {
        let nth = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.places.get(nth).copied()
    }

    /// Adds the next one. If there is none, it may have any index.
    ///
    /// # Panics
    /// When it is not the next one.
    pub(super) fn push(&mut self, index: u64, place: Place) {
        if self.places.is_empty() {
            self.first = index;
        }
        assert_eq!(index, self.end(), "the journal writes entries in order");
        self.places.push_back(place);
    }

    /// Drops everything from `end` on.
    pub(super) fn truncate(&mut self, end: u64) {
        if end < self.first {
            self.places.clear();
            self.first = end;
        } else {
            self.places.truncate(usize::try_from(end - self.first).unwrap_or(usize::MAX));
        }
    }

    /// Drops everything before `first`.
    pub(super) fn purge(&mut self, first: u64) {
        let gone = usize::try_from(first.saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.places.len());
        self.places.drain(..gone);
        self.first = self.first.max(first);
        if self.places.len() < self.places.capacity() / 4 {
            self.places.shrink_to(self.places.len() * 2);
        }
    }
}
