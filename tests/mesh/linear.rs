//! The judge of long histories: is there an order of the operations on each key that explains what clients were told?
//!
//! The search of Wing, Gong and Lowe, key by key (a history is linearizable if it is so for each key), remembering what
//! it has tried. It knows of no log, no index and no leader: what the program says of itself it does not believe.
//! Bounded by the number of operations on one key, so clients change keys as they go.

use std::collections::{BTreeMap, HashMap, HashSet};

/// Time since the beginning of a test.
pub(crate) type Nanos = u64;
/// What a key can hold. Every write of a history has one of its own.
pub(crate) type Value = u64;

/// Places looked at for one key before the search is given up. A true history takes about one for each operation.
const LOOKS_MAX: usize = 3_000_000;
/// Operations around the place where the search went no further, shown to people.
const SHOWN: usize = 24;

/// What was asked of a key, and what was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// What stood there. A read whose answer is not known says nothing, and is no operation.
    Read(Option<Value>),
    /// Sets it.
    Write(Value),
    /// Sets it if `was` stands there; `held`: whether it did, if anybody knows.
    Swap { was: Option<Value>, new: Value, held: Option<bool> },
}

/// One operation of one client, from the first attempt to the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operation {
    /// Who asked.
    pub(crate) client: u32,
    /// Of which key.
    pub(crate) key: u32,
    /// When.
    pub(crate) invoked: Nanos,
    /// When it was answered; `None`: never, so that it may have happened once, at any time since, or not at all.
    pub(crate) returned: Option<Nanos>,
    /// What.
    pub(crate) act: Act,
}

/// What was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Judged {
    pub(crate) operations: usize,
    pub(crate) unknown: usize,
    pub(crate) keys: usize,
    pub(crate) looks: usize,
}

/// Judges a history, in any order. The error shows where no order goes on.
pub(crate) fn judge(history: &[Operation]) -> Result<Judged, String> {
    let mut keys: BTreeMap<u32, Vec<Operation>> = BTreeMap::new();
    for operation in history {
        keys.entry(operation.key).or_default().push(*operation);
    }
    let unknown = history.iter().filter(|operation| operation.returned.is_none()).count();
    let mut judged = Judged { operations: history.len(), unknown, keys: keys.len(), looks: 0 };
    for (key, operations) in keys {
        judged.looks += Search::new(operations).run().map_err(|why| format!("key {key}: {why}"))?;
    }
    Ok(judged)
}

/// What has taken effect, from the first operation that has not: `low`, then a bit for each from there on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    low: usize,
    bits: Box<[u64]>,
    state: Option<Value>,
}

/// A step of the search: what could be done next, and what was.
struct Step {
    ready: Vec<usize>,
    next: usize,
    /// What was done, with the state before it.
    done: Option<(usize, Option<Value>)>,
}

/// What the operations that are left have to do with a value.
#[derive(Debug, Clone, Copy, Default)]
struct Demand {
    /// So many have seen it, and were told so.
    seen: usize,
    /// So many may have seen it.
    perhaps: usize,
    /// So many have met another.
    missed: usize,
    /// So many may put it there.
    put: usize,
}

struct Search {
    /// By invocation.
    operations: Vec<Operation>,
    done: Vec<bool>,
    low: usize,
    high: usize,
    state: Option<Value>,
    /// What is still to be done with each value.
    demands: HashMap<Option<Value>, Demand>,
    /// Answered operations left.
    left: usize,
    seen: HashSet<Place>,
    /// The most that could be explained: how much, and where it stopped.
    best: (usize, usize, Option<Value>),
}

impl Search {
    fn new(mut operations: Vec<Operation>) -> Self {
        operations.retain(|operation| operation.returned.is_some() || !matches!(operation.act, Act::Read(_)));
        operations.sort_by_key(|operation| (operation.invoked, operation.returned.unwrap_or(Nanos::MAX)));
        let left = operations.iter().filter(|operation| operation.returned.is_some()).count();
        let mut search = Self {
            done: vec![false; operations.len()],
            operations,
            low: 0,
            high: 0,
            state: None,
            demands: HashMap::new(),
            left,
            seen: HashSet::new(),
            best: (usize::MAX, 0, None),
        };
        (0..search.operations.len()).for_each(|at| search.want(at, true));
        search
    }

    /// How many places it looked at until everything was explained.
    fn run(mut self) -> Result<usize, String> {
        let mut looks = 0;
        let mut steps: Vec<Step> = Vec::new();
        let mut fresh = true;
        loop {
            if self.left == 0 {
                return Ok(looks);
            }
            if fresh {
                looks += 1;
                if looks > LOOKS_MAX {
                    return Err(format!("the search was given up after {LOOKS_MAX} places; {}", self.show()));
                }
                let ready = if self.seen.insert(self.place()) { self.ready() } else { Vec::new() };
                steps.push(Step { ready, next: 0, done: None });
            }
            let Some(step) = steps.last_mut() else { return Err(self.show()) };
            if let Some((at, before)) = step.done.take() {
                self.undo(at, before);
            }
            if let Some(at) = step.ready.get(step.next).copied() {
                step.next += 1;
                step.done = Some((at, self.state));
                self.perform(at);
                fresh = true;
            } else {
                steps.pop();
                fresh = false;
            }
        }
    }

    fn place(&self) -> Place {
        let span = self.high.saturating_sub(self.low);
        let mut bits = vec![0_u64; span.div_ceil(64)].into_boxed_slice();
        for (at, done) in self.done[self.low..self.low + span].iter().enumerate() {
            bits[at / 64] |= u64::from(*done) << (at % 64);
        }
        Place { low: self.low, bits, state: self.state }
    }

    /// What may take effect now, most promising first. One that changes nothing and is explained here loses nothing by
    /// being done at once, so then it is the only one.
    fn ready(&mut self) -> Vec<usize> {
        let (mut ready, mut unknown) = (Vec::new(), Vec::new());
        // Whatever began after somebody's return has to wait for him.
        let mut first_return = Nanos::MAX;
        for (at, operation) in self.operations.iter().enumerate().skip(self.low) {
            if operation.invoked > first_return {
                break;
            }
            if self.done[at] {
                continue;
            }
            first_return = first_return.min(operation.returned.unwrap_or(Nanos::MAX));
            match (self.after(operation.act), operation.returned) {
                (Some(state), Some(_)) if state == self.state && !matches!(operation.act, Act::Write(_)) => {
                    return vec![at];
                }
                (Some(_), _) if !self.may_overwrite(operation.act) => {}
                (Some(_), Some(returned)) => ready.push((returned, at)),
                (Some(_), None) if self.is_useful(operation.act) => unknown.push(at),
                _ => {}
            }
        }
        if self.left < self.best.0 {
            self.best = (self.left, self.low, self.state);
        }
        ready.sort_unstable();
        ready.into_iter().map(|(_, at)| at).chain(unknown).collect()
    }

    /// The state after an operation; `None` if what was said of it cannot be true here.
    fn after(&self, act: Act) -> Option<Option<Value>> {
        match act {
            Act::Read(value) => (value == self.state).then_some(self.state),
            Act::Write(value) => Some(Some(value)),
            Act::Swap { was, new, held } => {
                let holds = was == self.state;
                held.is_none_or(|held| held == holds).then_some(if holds { Some(new) } else { self.state })
            }
        }
    }

    /// Whether an operation that may not have happened at all would explain anything: somebody has to see its value, or
    /// must not see the one that stands there.
    fn is_useful(&self, act: Act) -> bool {
        let value = match act {
            Act::Write(value) => value,
            Act::Swap { was, new, .. } if was == self.state => new,
            Act::Swap { .. } | Act::Read(_) => return false,
        };
        let demand = self.demand(Some(value));
        demand.seen + demand.perhaps > 0 || self.demand(self.state).missed > 0
    }

    /// Whether what stands there may be overwritten by this: not as long as somebody else has yet to see it and nobody
    /// is left who could put it back.
    fn may_overwrite(&self, act: Act) -> bool {
        let demand = self.demand(self.state);
        let own = usize::from(matches!(act, Act::Swap { held: Some(true), .. }));
        demand.seen <= own || demand.put > 0
    }

    fn demand(&self, value: Option<Value>) -> Demand {
        self.demands.get(&value).copied().unwrap_or_default()
    }

    fn want(&mut self, at: usize, more: bool) {
        let mut add = |value: Option<Value>, count: fn(&mut Demand) -> &mut usize| {
            let count = count(self.demands.entry(value).or_default());
            *count = if more { *count + 1 } else { *count - 1 };
        };
        match self.operations[at].act {
            Act::Read(value) => add(value, |demand| &mut demand.seen),
            Act::Write(value) => add(Some(value), |demand| &mut demand.put),
            Act::Swap { was, held: Some(false), .. } => add(was, |demand| &mut demand.missed),
            Act::Swap { was, new, held } => {
                add(was, if held == Some(true) { |demand| &mut demand.seen } else { |demand| &mut demand.perhaps });
                add(Some(new), |demand| &mut demand.put);
            }
        }
    }

    fn perform(&mut self, at: usize) {
        self.state = self.after(self.operations[at].act).expect("only what is explained is ready");
        self.done[at] = true;
        self.left -= usize::from(self.operations[at].returned.is_some());
        self.want(at, false);
        self.high = self.high.max(at + 1);
        while self.done.get(self.low) == Some(&true) {
            self.low += 1;
        }
    }

    fn undo(&mut self, at: usize, before: Option<Value>) {
        self.state = before;
        self.done[at] = false;
        self.left += usize::from(self.operations[at].returned.is_some());
        self.want(at, true);
        self.low = self.low.min(at);
        while self.high > 0 && !self.done[self.high - 1] {
            self.high -= 1;
        }
    }

    fn show(&self) -> String {
        let (left, low, state) = self.best;
        let total = self.operations.len();
        let mut text = format!("no order explains more than {} of {total} operations;", total - left.min(total));
        text.push_str(&format!(" with {state:?} there, it went no further about here:\n"));
        for operation in self.operations.iter().skip(low.saturating_sub(SHOWN / 3)).take(SHOWN) {
            text.push_str(&format!("  {operation:?}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(client: u32, time: (Nanos, Nanos), act: Act) -> Operation {
        Operation { client, key: 0, invoked: time.0, returned: Some(time.1), act }
    }

    fn put(time: (Nanos, Nanos), value: Value) -> Operation {
        told(0, time, Act::Write(value))
    }

    fn get(time: (Nanos, Nanos), value: Option<Value>) -> Operation {
        told(1, time, Act::Read(value))
    }

    fn swap(time: (Nanos, Nanos), was: Option<Value>, new: Value, held: bool) -> Operation {
        told(2, time, Act::Swap { was, new, held: Some(held) })
    }

    /// The same, but nobody knows what came of it.
    fn unknown(mut operation: Operation) -> Operation {
        operation.returned = None;
        if let Act::Swap { held, .. } = &mut operation.act {
            *held = None;
        }
        operation
    }

    fn good(history: &[Operation]) {
        assert!(judge(history).is_ok(), "{}", judge(history).unwrap_err());
    }

    fn bad(history: &[Operation]) {
        assert!(judge(history).is_err(), "believed: {history:#?}");
    }

    #[test]
    fn what_overlaps_may_be_in_any_order() {
        for value in [1, 2] {
            good(&[put((0, 10), 1), put((5, 15), 2), get((20, 30), Some(value))]);
        }
        good(&[put((0, 10), 1), get((5, 6), None), get((7, 8), Some(1))]);
    }

    #[test]
    fn a_stale_read_is_seen() {
        bad(&[put((0, 10), 1), put((20, 30), 2), get((40, 50), Some(1))]);
        bad(&[put((0, 10), 1), get((20, 30), None)]);
        bad(&[put((0, 100), 1), get((10, 20), Some(1)), get((30, 40), None)]);
    }

    #[test]
    fn a_lost_write_is_seen() {
        bad(&[put((0, 10), 1), put((20, 30), 2), swap((40, 50), Some(1), 3, true), get((60, 70), Some(3))]);
        bad(&[put((0, 10), 1), put((20, 30), 2), swap((40, 50), Some(2), 3, false)]);
    }

    #[test]
    fn a_read_of_what_nobody_wrote_or_not_yet_is_seen() {
        bad(&[put((0, 10), 1), get((20, 30), Some(9))]);
        bad(&[get((0, 5), Some(1)), put((10, 20), 1)]);
    }

    #[test]
    fn an_unknown_write_may_come_late_or_never_but_only_once() {
        let ghost = unknown(put((0, 1), 7));
        good(&[ghost, put((5, 10), 1), get((20, 30), Some(7))]);
        good(&[ghost, put((5, 10), 1), get((20, 30), Some(1))]);
        let again = [ghost, put((5, 10), 1), get((20, 30), Some(7)), put((40, 50), 2), get((60, 70), Some(7))];
        bad(&again);
    }

    #[test]
    fn an_unknown_write_may_be_why_a_swap_has_failed() {
        let (first, failed) = (put((0, 10), 1), swap((20, 30), Some(1), 2, false));
        good(&[first, unknown(put((12, 13), 7)), failed]);
        bad(&[first, unknown(put((32, 33), 7)), failed]);
        bad(&[first, failed]);
    }

    #[test]
    fn two_swaps_from_one_value_do_not_both_hold() {
        let first = put((0, 10), 1);
        bad(&[first, swap((20, 40), Some(1), 2, true), swap((20, 40), Some(1), 3, true)]);
        good(&[first, swap((20, 40), Some(1), 2, true), swap((20, 40), Some(1), 3, false)]);
        good(&[first, unknown(swap((20, 40), Some(1), 2, true)), swap((20, 40), Some(1), 3, true)]);
        bad(&[first, unknown(swap((20, 40), Some(1), 2, true)), get((50, 60), Some(2)), get((70, 80), Some(1))]);
    }

    /// Numbers that are the same each time.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, most: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % most
        }
    }

    /// A history of registers that keep their promise, with so many unknown outcomes in a thousand.
    fn true_history(seed: u64, operations: usize, clients: u32, keys_each: usize, lost: u64) -> Vec<Operation> {
        let mut dice = Dice(seed);
        let mut states: HashMap<u32, Option<Value>> = HashMap::new();
        let mut history: Vec<Operation> = Vec::new();
        // When each client is free again; who is free first goes next. Effects take place in the order of this loop.
        let mut free: Vec<Nanos> = (0..u64::from(clients)).collect();
        let mut effect = 0;
        for number in 0..operations {
            let client = (0..free.len()).min_by_key(|client| free[*client]).unwrap();
            let invoked = free[client];
            effect = effect.max(invoked) + 1;
            let returned = effect + dice.below(400);
            free[client] = returned + 1 + dice.below(20);
            let key = u32::try_from(number / keys_each).unwrap();
            let state = states.entry(key).or_default();
            let value = number as u64 + 1;
            let unknown = dice.below(1_000) < lost;
            let happens = !unknown || dice.below(2) == 0;
            let act = match dice.below(4) {
                0 | 1 => Act::Read(*state),
                2 => {
                    if happens {
                        *state = Some(value);
                    }
                    Act::Write(value)
                }
                _ => {
                    let was = if dice.below(3) == 0 { Some(1) } else { *state };
                    let held = was == *state;
                    if held && happens {
                        *state = Some(value);
                    }
                    Act::Swap { was, new: value, held: (!unknown).then_some(held) }
                }
            };
            let returned = (!unknown).then_some(returned);
            history.push(Operation { client: u32::try_from(client).unwrap(), key, invoked, returned, act });
        }
        history
    }

    #[test]
    fn true_histories_are_believed_and_soon() {
        let judged = judge(&true_history(1, 100_000, 16, 500, 10)).unwrap();
        assert_eq!((judged.operations, judged.keys), (100_000, 200));
        assert!(judged.looks < 200_000, "it tries too much: {judged:?}");
        for seed in 0..200 {
            good(&true_history(seed, 300, 16, 300, 50));
        }
    }

    /// Makes a read stale, if this one was answered and another value was read long before: nobody writes a value twice.
    fn plant(history: &mut [Operation], at: usize) -> bool {
        let Operation { invoked, returned: Some(_), act: Act::Read(Some(now)), .. } = history[at] else { return false };
        let old = history.iter().rev().find_map(|one| match (one.act, one.returned) {
            (Act::Read(Some(value)), Some(returned)) if value != now && returned + 2_000 < invoked => Some(value),
            _ => None,
        });
        history[at].act = Act::Read(old.or(Some(now)));
        old.is_some()
    }

    #[test]
    fn a_stale_read_is_found_in_a_long_history() {
        let (mut planted, mut found) = (0, 0);
        for seed in 0..60 {
            let mut history = true_history(seed, 400, 16, 400, 10);
            if plant(&mut history, 300 + usize::try_from(seed).unwrap()) {
                planted += 1;
                found += usize::from(judge(&history).is_err());
            }
        }
        assert!(planted > 10 && found == planted, "{found} of {planted} found");
    }

    /// Every order there is, tried.
    fn explained(left: &mut Vec<Operation>, state: Option<Value>) -> bool {
        let Some(first_return) = left.iter().filter_map(|operation| operation.returned).min() else { return true };
        (0..left.len()).any(|at| {
            let one = left[at];
            let holds = |was: Option<Value>| was == state;
            let next = match one.act {
                _ if one.invoked > first_return => return false,
                Act::Read(value) if one.returned.is_some() && value != state => return false,
                Act::Read(_) => state,
                Act::Write(value) => Some(value),
                Act::Swap { was, held: Some(held), .. } if holds(was) != held => return false,
                Act::Swap { was, new, .. } => {
                    if holds(was) {
                        Some(new)
                    } else {
                        state
                    }
                }
            };
            left.remove(at);
            let good = explained(left, next);
            left.insert(at, one);
            good
        })
    }

    #[test]
    fn it_agrees_with_one_that_tries_everything() {
        let (mut believed, mut refused) = (0, 0);
        let mut dice = Dice(5);
        for _ in 0..20_000 {
            let history: Vec<_> = (0..2 + dice.below(5))
                .map(|number| {
                    let invoked = dice.below(12);
                    let value = |dice: &mut Dice| Some(dice.below(4)).filter(|value| *value > 0);
                    let act = match dice.below(4) {
                        0 | 1 => Act::Read(value(&mut dice)),
                        2 => Act::Write(number % 3 + 1),
                        _ => {
                            Act::Swap { was: value(&mut dice), new: 1 + dice.below(3), held: Some(dice.below(2) == 0) }
                        }
                    };
                    let operation = told(0, (invoked, invoked + 1 + dice.below(6)), act);
                    if dice.below(5) == 0 { unknown(operation) } else { operation }
                })
                .collect();
            let right = explained(&mut history.clone(), None);
            assert_eq!(judge(&history).is_ok(), right, "{history:#?}");
            *(if right { &mut believed } else { &mut refused }) += 1;
        }
        assert!(believed > 1_000 && refused > 1_000, "{believed} believed, {refused} refused");
    }
}
