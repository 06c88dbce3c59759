//! Counting semaphores of one host. All that a vertex wants are taken together or not at all, so there is no deadlock,
//! and those who wait are served in the order they came, except that nobody is held up by one who could not run anyway.

use std::collections::{BTreeMap, VecDeque};

use crate::meta::Semaphore;

/// The semaphores in use, and who waits.
#[derive(Debug, Default)]
pub(crate) struct Permits {
    held: BTreeMap<String, u32>,
    waiting: VecDeque<u32>,
}

impl Permits {
    /// Takes all of `wanted`, or none: then `who` waits, and [`release`](Self::release) will name it.
    pub(crate) fn take(&mut self, who: u32, wanted: &[Semaphore]) -> bool {
        if self.grab(wanted) {
            return true;
        }
        if !self.waiting.contains(&who) {
            self.waiting.push_back(who);
        }
        false
    }

    fn grab(&mut self, wanted: &[Semaphore]) -> bool {
        let free = wanted.iter().all(|s| self.held.get(&s.id).is_none_or(|held| *held < s.count.get()));
        if free {
            for semaphore in wanted {
                *self.held.entry(semaphore.id.clone()).or_default() += 1;
            }
        }
        free
    }

    /// Gives back what a holder took. Everybody who waits may try again: call [`take`](Self::take) for each.
    #[must_use]
    pub(crate) fn release(&mut self, held: &[Semaphore]) -> Vec<u32> {
        for semaphore in held {
            let count = self.held.get_mut(&semaphore.id).expect("what is given back was taken");
            *count -= 1;
            if *count == 0 {
                self.held.remove(&semaphore.id);
            }
        }
        if held.is_empty() { Vec::new() } else { self.waiting.drain(..).collect() }
    }

    /// `who` waits no more.
    pub(crate) fn forget(&mut self, who: u32) {
        self.waiting.retain(|w| *w != who);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn sema(id: &str, count: u32) -> Semaphore {
        Semaphore { id: id.into(), count: NonZeroU32::new(count).expect("not zero") }
    }

    #[test]
    fn all_or_none_in_order() {
        let mut permits = Permits::default();
        let (a, b, both) = ([sema("a", 1)], [sema("b", 2)], [sema("a", 1), sema("b", 2)]);
        assert!(permits.take(1, &a));
        assert!(!permits.take(2, &both), "a is taken");
        assert!(permits.take(3, &b), "2 took nothing of b");
        assert!(permits.take(4, &b));
        assert!(!permits.take(5, &b));
        assert_eq!(permits.release(&a), [2, 5]);
        assert!(!permits.take(2, &both) && !permits.take(5, &b));
        assert_eq!(permits.release(&b), [2, 5]);
        assert!(permits.take(2, &both) && !permits.take(5, &b));
    }
}
