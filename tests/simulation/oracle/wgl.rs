//! The search of Wing, Gong and Lowe: is there any order of the operations on one key that explains what clients were
//! told? It knows of no log and no index, so an index that lies fools [`super::witness`] and not this.
//!
//! Per key, because a history is linearizable if it is so key by key; so only operations on one key take part.

use std::collections::{BTreeMap, HashSet};

use super::history::{Call, Change, Compare, End, Nanos, Operation, Reply};
use super::{Verdict, broken};

/// Operations on one key that are searched at once. Beyond, the beginning of the history is judged: what ends later
/// counts as unknown there, so that nothing true is called false.
pub(crate) const WINDOW_MAX: usize = 200;
/// Looks before a search is given up: a true history of this size takes a few thousand.
const LOOKS_MAX: usize = 2_000_000;

/// What was asked of a key and what was said.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Act {
    Put(String),
    Delete { existed: Option<bool> },
    Swap { was: Option<String>, new: String, held: Option<bool> },
    Get(Option<String>),
}

#[derive(Debug, Clone)]
struct Step {
    invoked: Nanos,
    /// `None`: unknown, so never before anything else.
    returned: Option<Nanos>,
    act: Act,
}

/// Judges all keys that are only ever touched alone.
pub(crate) fn judge(operations: &[Operation]) -> Verdict {
    let mut keys: BTreeMap<&str, Vec<Step>> = BTreeMap::new();
    let mut shared: HashSet<&str> = HashSet::new();
    for operation in operations.iter().filter(|operation| operation.end != End::Never) {
        match step_of(operation) {
            Some((key, Some(step))) => keys.entry(key).or_default().push(step),
            Some((_, None)) => {}
            None => shared.extend(touched(&operation.call)),
        }
    }
    keys.retain(|key, _| !shared.contains(key));
    keys.into_iter().try_for_each(|(key, steps)| judge_key(key, steps))
}

/// The keys that a call touches together with others.
fn touched(call: &Call) -> Vec<&str> {
    match call {
        Call::Put { key, .. } | Call::Delete { key } => vec![key],
        Call::Transaction { compares, then, otherwise } => {
            let looked = compares.iter().map(|compare| match compare {
                Compare::Value { key, .. } | Compare::Modified { key, .. } => key.as_str(),
            });
            let changed = then.iter().chain(otherwise).map(|change| match change {
                Change::Put { key, .. } | Change::Delete { key } => key.as_str(),
            });
            looked.chain(changed).collect()
        }
        _ => Vec::new(),
    }
}

/// An operation as a step on its one key; `None` if it is more than that, and no step if it says nothing (a read whose
/// answer is unknown, or is not linearizable; what was refused).
fn step_of(operation: &Operation) -> Option<(&str, Option<Step>)> {
    let (returned, reply) = match &operation.end {
        End::Known { returned, reply, .. } => (Some(*returned), Some(reply)),
        _ => (None, None),
    };
    let refused = matches!(reply, Some(Reply::Refused(_)));
    let (key, act) = match &operation.call {
        Call::Put { key, value, lease: None } => (key, Some(Act::Put(value.clone()))),
        Call::Delete { key } => {
            let existed = reply.map(|reply| *reply == Reply::Deleted(1));
            (key, Some(Act::Delete { existed }))
        }
        Call::Transaction { compares, then, otherwise } => match (&compares[..], &then[..], &otherwise[..]) {
            ([Compare::Value { key, is }], [Change::Put { key: same, value }], []) if key == same => {
                let held = reply.map(|reply| *reply == Reply::Held(true));
                (key, Some(Act::Swap { was: is.clone(), new: value.clone(), held }))
            }
            _ => return None,
        },
        Call::Read { prefix, linearizable } => match reply {
            // A read of a prefix that is a whole key, as the workload's keys are.
            Some(Reply::Read(found)) if *linearizable && found.keys().all(|key| key == prefix) => {
                (prefix, Some(Act::Get(found.get(prefix).map(|found| found.value.clone()))))
            }
            _ => (prefix, None),
        },
        _ => return None,
    };
    let step = act.filter(|_| !refused).map(|act| Step { invoked: operation.invoked, returned, act });
    Some((key, step))
}

fn judge_key(key: &str, mut steps: Vec<Step>) -> Verdict {
    steps.sort_by_key(|step| step.invoked);
    if let Some(end) = steps.get(WINDOW_MAX).map(|step| step.invoked) {
        steps.truncate(WINDOW_MAX);
        // What ends later than the window is unknown in it; a read of it then says nothing.
        steps.iter_mut().filter(|step| step.returned >= Some(end)).for_each(|step| {
            step.returned = None;
            match &mut step.act {
                Act::Delete { existed } => *existed = None,
                Act::Swap { held, .. } => *held = None,
                Act::Put(_) | Act::Get(_) => {}
            }
        });
        steps.retain(|step| step.returned.is_some() || !matches!(step.act, Act::Get(_)));
    }
    let mut search = Search { steps: &steps, seen: HashSet::new(), looks: 0 };
    match search.explains(Done::default(), None) {
        true => Ok(()),
        false if search.looks >= LOOKS_MAX => broken("the search ends", format!("{key}: {} operations", steps.len())),
        false => broken("linearizable per key", format!("{key}: no order explains {steps:#?}")),
    }
}

/// Which steps have taken effect: a bit each.
type Done = [u64; WINDOW_MAX.div_ceil(64)];

struct Search<'a> {
    steps: &'a [Step],
    seen: HashSet<(Done, Option<&'a str>)>,
    looks: usize,
}

impl<'a> Search<'a> {
    /// Whether the rest can be explained from here on.
    fn explains(&mut self, done: Done, state: Option<&'a str>) -> bool {
        let is_done = |at: usize| done[at / 64] & (1 << (at % 64)) != 0;
        let left = || self.steps.iter().enumerate().filter(|(at, _)| !is_done(*at));
        // What must take effect before anything that began after its return may.
        let Some(first_return) = left().filter_map(|(_, step)| step.returned).min() else { return true };
        self.looks += 1;
        if self.looks >= LOOKS_MAX || !self.seen.insert((done, state)) {
            return false;
        }
        let ready: Vec<usize> = left().filter(|(_, step)| step.invoked <= first_return).map(|(at, _)| at).collect();
        ready.into_iter().any(|at| match after(&self.steps[at].act, state) {
            Some(next) => {
                let mut done = done;
                done[at / 64] |= 1 << (at % 64);
                self.explains(done, next)
            }
            None => false,
        })
    }
}

/// The state after a step; `None` if what was said of it cannot be true of this state.
fn after<'a>(act: &'a Act, state: Option<&'a str>) -> Option<Option<&'a str>> {
    match act {
        Act::Put(value) => Some(Some(value)),
        Act::Delete { existed } => existed.is_none_or(|existed| existed == state.is_some()).then_some(None),
        Act::Swap { was, new, held } => {
            let holds = was.as_deref() == state;
            held.is_none_or(|held| held == holds).then_some(if holds { Some(new) } else { state })
        }
        Act::Get(value) => (value.as_deref() == state).then_some(state),
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::Found;
    use super::*;

    /// An index that lies: this judge must not look at it.
    const LIE: u64 = 77;

    fn operation(time: (u64, u64), call: Call, reply: Option<Reply>) -> Operation {
        let end = reply.map_or(End::Unknown, |reply| End::Known { returned: time.1, index: LIE, reply });
        Operation { client: 0, id: None, invoked: time.0, call, end }
    }

    fn put(time: (u64, u64), value: &str) -> Operation {
        operation(time, Call::Put { key: "k/a".into(), value: value.into(), lease: None }, Some(Reply::Done))
    }

    fn get(time: (u64, u64), value: Option<&str>) -> Operation {
        let found = |value: &str| ("k/a".to_owned(), Found { value: value.into(), modified: LIE, version: LIE });
        let reply = Reply::Read(value.map(found).into_iter().collect());
        operation(time, Call::Read { prefix: "k/a".into(), linearizable: true }, Some(reply))
    }

    fn swap(time: (u64, u64), was: &str, new: &str, held: Option<bool>) -> Operation {
        let compares = vec![Compare::Value { key: "k/a".into(), is: Some(was.into()) }];
        let then = vec![Change::Put { key: "k/a".into(), value: new.into() }];
        operation(time, Call::Transaction { compares, then, otherwise: Vec::new() }, held.map(Reply::Held))
    }

    fn unknown(mut operation: Operation) -> Operation {
        operation.end = End::Unknown;
        operation
    }

    fn law(operations: &[Operation]) -> Result<(), &'static str> {
        judge(operations).map_err(|violation| violation.law)
    }

    const NO: Result<(), &str> = Err("linearizable per key");

    #[test]
    fn what_overlaps_may_be_in_any_order() {
        let both = [put((0, 10), "one"), put((5, 15), "two")];
        for value in ["one", "two"] {
            let read = get((20, 30), Some(value));
            assert_eq!(law(&[both[0].clone(), both[1].clone(), read]), Ok(()));
        }
    }

    #[test]
    fn a_stale_read_is_seen() {
        assert_eq!(law(&[put((0, 10), "one"), put((20, 30), "two"), get((40, 50), Some("one"))]), NO);
        assert_eq!(law(&[put((0, 10), "one"), get((20, 30), None)]), NO);
    }

    #[test]
    fn reads_do_not_go_back() {
        let write = put((0, 100), "one");
        assert_eq!(law(&[write.clone(), get((10, 20), None), get((30, 40), Some("one"))]), Ok(()));
        assert_eq!(law(&[write, get((10, 20), Some("one")), get((30, 40), None)]), NO);
    }

    #[test]
    fn an_unknown_write_may_come_late_and_only_once() {
        let ghost = unknown(put((0, 1), "ghost"));
        assert_eq!(law(&[ghost.clone(), put((5, 10), "one"), get((20, 30), Some("ghost"))]), Ok(()));
        let twice = [
            ghost,
            put((5, 10), "one"),
            get((20, 30), Some("ghost")),
            put((40, 50), "two"),
            get((60, 70), Some("ghost")),
        ];
        assert_eq!(law(&twice), NO);
    }

    #[test]
    fn two_swaps_from_one_value_do_not_both_hold() {
        let first = put((0, 10), "one");
        let swaps = [swap((20, 40), "one", "two", Some(true)), swap((20, 40), "one", "three", Some(true))];
        assert_eq!(law(&[first.clone(), swaps[0].clone(), swaps[1].clone()]), NO);
        let lost = swap((20, 40), "one", "three", Some(false));
        assert_eq!(law(&[first, swaps[0].clone(), lost]), Ok(()));
    }

    #[test]
    fn a_key_that_is_touched_with_others_is_left_to_the_witness() {
        let then = ["k/a", "k/b"].map(|key| Change::Put { key: key.into(), value: "both".into() }).to_vec();
        let both = Call::Transaction { compares: Vec::new(), then, otherwise: Vec::new() };
        let both = operation((12, 14), both, Some(Reply::Held(true)));
        assert_eq!(law(&[put((0, 10), "one"), both, get((20, 30), Some("both"))]), Ok(()));
    }

    #[test]
    fn a_long_history_with_much_in_flight_is_judged_soon() {
        let mut operations = Vec::new();
        for round in 0..15 {
            let at = round * 100;
            operations.extend((0..10).map(|n| put((at + n, at + 50 + n), &format!("{round}-{n}"))));
            operations.push(get((at + 70, at + 80), Some(&format!("{round}-3"))));
        }
        assert_eq!(law(&operations), Ok(()));
        operations.push(get((1_600, 1_601), Some("0-1")));
        assert_eq!(law(&operations), NO);
    }

    #[test]
    fn more_than_a_window_is_judged_from_its_beginning() {
        let mut operations: Vec<_> = (0..300).map(|n| put((n * 10, n * 10 + 5), &n.to_string())).collect();
        operations.insert(50, get((496, 498), Some("48")));
        assert_eq!(law(&operations), NO);
    }
}
