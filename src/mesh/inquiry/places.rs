//! So many at once, and of each member so many.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mgmt_consensus::PeerId;

/// How many may do something at once.
#[derive(Debug)]
pub(super) struct Places {
    taken: Mutex<Taken>,
    all: usize,
    each: usize,
}

/// Who does it. Nobody is in it with nothing.
#[derive(Debug, Default)]
struct Taken {
    all: usize,
    each: BTreeMap<PeerId, usize>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<Places>,
    by: PeerId,
}

impl Places {
    pub(super) fn new(all: usize, each: usize) -> Arc<Self> {
        Arc::new(Self { taken: Mutex::default(), all, each })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, if there is one for this member.
    pub(super) fn take(self: &Arc<Self>, by: PeerId) -> Option<Place> {
        let mut taken = self.taken();
        let own = taken.each.get(&by).copied().unwrap_or_default();
        if taken.all >= self.all || own >= self.each {
            return None;
        }
        taken.all += 1;
        taken.each.insert(by, own + 1);
        Some(Place { of: self.clone(), by })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.taken();
        taken.all -= 1;
        let own = taken.each.remove(&self.by).unwrap_or_default();
        if own > 1 {
            taken.each.insert(self.by, own - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_what_is_for_others() {
        let places = Places::new(3, 2);
        let first = places.take(PeerId(1)).unwrap();
        let second = places.take(PeerId(1)).unwrap();
        assert!(places.take(PeerId(1)).is_none());
        let third = places.take(PeerId(2)).unwrap();
        assert!(places.take(PeerId(3)).is_none(), "no more at all");
        drop(first);
        assert!(places.take(PeerId(3)).is_some());
        drop((second, third));
        assert!(places.taken().each.is_empty() && places.taken().all == 0);
    }
}
