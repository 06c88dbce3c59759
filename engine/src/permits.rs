//! Counting semaphores of one host. All that a vertex wants are taken together or not at all, so there is no deadlock,
//! and those who wait are served in the order they came, except that nobody is held up by one who could not run anyway.

use std::collections::{BTreeMap, VecDeque};

use crate::meta::Semaphore;

/// The semaphores in use, and who waits.
#[derive(Debug, Default)]
pub(crate) struct Permits {
    held: BTreeMap<String, Held>,
    waiting: VecDeque<u32>,
}

#[derive(Debug, Default)]
struct Held {
    now: u32,
    /// The largest count that anybody has asked for.
    most: u32,
}

impl Permits {
    /// Takes all of `wanted`, or none.
    pub(crate) fn take(&mut self, wanted: &[Semaphore]) -> bool {
        let free = wanted.iter().all(|s| self.held.get(&s.id).is_none_or(|held| held.now < s.count.get()));
        for semaphore in wanted {
            match self.held.get_mut(&semaphore.id) {
                Some(held) => {
                    held.now += u32::from(free);
                    held.most = held.most.max(semaphore.count.get());
                }
                None if free => {
                    self.held.insert(semaphore.id.clone(), Held { now: 1, most: semaphore.count.get() });
                }
                None => {}
            }
        }
        free
    }

    /// `who` could not take what it wants, and waits behind all others. Only for who does not wait yet.
    pub(crate) fn wait(&mut self, who: u32) {
        self.waiting.push_back(who);
    }

    /// Gives back what a holder took. Those who wait may try again: see [`waiter`](Self::waiter).
    pub(crate) fn release(&mut self, held: &[Semaphore]) {
        for semaphore in held {
            let known = self.held.get_mut(&semaphore.id).expect("what is given back was taken");
            known.now -= 1;
            // While somebody waits, the largest count is not forgotten.
            if known.now == 0 && self.waiting.is_empty() {
                self.held.remove(&semaphore.id);
            }
        }
    }

    /// Who waits at that place, as long as any of these semaphores may be free: nobody else could go on for them.
    pub(crate) fn waiter(&self, place: usize, given: &[Semaphore]) -> Option<u32> {
        let free = |s: &Semaphore| self.held.get(&s.id).is_none_or(|held| held.now < held.most);
        self.waiting.get(place).copied().filter(|_| given.iter().any(free))
    }

    /// Who waits at that place waits no more.
    pub(crate) fn leave(&mut self, place: usize) {
        self.waiting.remove(place);
    }

    /// `who` waits no more.
    pub(crate) fn forget(&mut self, who: u32) {
        self.waiting.retain(|w| *w != who);
    }

    /// All who wait, who then wait no more.
    pub(crate) fn forget_all(&mut self) -> VecDeque<u32> {
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn sema(id: &str, count: u32) -> Semaphore {
        Semaphore { id: id.into(), count: NonZeroU32::new(count).expect("not zero") }
    }

    /// Who can go on after `given` was given back, in order.
    fn go_on(permits: &mut Permits, given: &[Semaphore], wants: &[&[Semaphore]]) -> Vec<u32> {
        permits.release(given);
        let (mut place, mut went) = (0, Vec::new());
        while let Some(who) = permits.waiter(place, given) {
            if permits.take(wants[who as usize]) {
                permits.leave(place);
                went.push(who);
            } else {
                place += 1;
            }
        }
        went
    }

    #[test]
    fn all_or_none_in_order() {
        let mut permits = Permits::default();
        let (a, b, both) = ([sema("a", 1)], [sema("b", 2)], [sema("a", 1), sema("b", 2)]);
        let wants: [&[Semaphore]; 6] = [&[], &a, &both, &b, &b, &b];
        assert!(permits.take(&a));
        assert!(!permits.take(&both), "a is taken");
        permits.wait(2);
        assert!(permits.take(&b), "2 took nothing of b");
        assert!(permits.take(&b));
        assert!(!permits.take(&b));
        permits.wait(5);
        assert!(go_on(&mut permits, &a, &wants).is_empty(), "b is taken twice");
        assert_eq!(go_on(&mut permits, &b, &wants), [2]);
        assert_eq!(go_on(&mut permits, &b, &wants), [5]);
        assert!(permits.waiter(0, &b).is_none());
    }

    #[test]
    fn who_wants_a_larger_count_is_not_held_up() {
        let mut permits = Permits::default();
        let (one, two) = ([sema("a", 1)], [sema("a", 2)]);
        let wants: [&[Semaphore]; 2] = [&one, &two];
        assert!(permits.take(&one) && permits.take(&two) && !permits.take(&one) && !permits.take(&two));
        permits.wait(0);
        permits.wait(1);
        assert_eq!(go_on(&mut permits, &one, &wants), [1], "one is held still");
        assert!(go_on(&mut permits, &two, &wants).is_empty());
        permits.wait(1);
        assert_eq!(go_on(&mut permits, &one, &wants), [0, 1], "the first does not hold up the second");
    }
}
