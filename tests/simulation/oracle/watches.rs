//! What a watcher was shown is the history from where it began: in order, no gap, no duplicate, and where history is
//! gone it was told so. reliability.md P3; the order of checks is that of etcd's `tests/robustness/validate/watch.go`.

use std::collections::BTreeMap;

use super::history::{Found, Index};
use super::model::Event;
use super::witness::Replay;
use super::{Verdict, broken};

/// What a watcher did and saw, in order. It begins with [`Seen::From`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It asked for everything after a revision, of this host or of another one.
    From(Index),
    /// A batch: what happened, and that nothing else did up to this revision.
    Batch { events: Vec<Event>, through: Index },
    /// It was told that history before this is gone.
    Compacted { oldest: Index },
    /// So it read everything anew, at this revision.
    Read { revision: Index, found: BTreeMap<String, Found> },
}

/// A watcher.
#[derive(Debug, Clone)]
pub(crate) struct Watcher {
    /// Keys that begin so.
    pub(crate) prefix: String,
    /// Its life.
    pub(crate) seen: Vec<Seen>,
}

impl Watcher {
    /// How many events it was shown.
    pub(crate) fn events(&self) -> usize {
        let shown = |seen: &Seen| if let Seen::Batch { events, .. } = seen { events.len() } else { 0 };
        self.seen.iter().map(shown).sum()
    }
}

/// Judges a watcher that must have got everything up to `until`.
pub(crate) fn judge(watcher: &Watcher, replay: &Replay, until: Index) -> Verdict {
    let mut state = State::Closed;
    // How far it has got, over all of its life.
    let mut reached = 0;
    for seen in &watcher.seen {
        state = match (seen, state) {
            // Whoever comes back continues where it was: what it asks for is its own doing, and it asks for all it
            // has not seen yet.
            (Seen::From(from), _) => {
                if *from < reached {
                    return broken("watches are exact", format!("a watcher at {reached} resumed at {from}"));
                }
                State::Open(*from)
            }
            (Seen::Batch { events, through }, State::Open(at)) => {
                batch(watcher, replay, at, events, *through)?;
                reached = *through;
                State::Open(*through)
            }
            (Seen::Compacted { oldest }, State::Open(at)) if *oldest > at + 1 => State::Told,
            (Seen::Compacted { oldest }, state) => {
                return broken("`Compacted` is said when it is so", format!("{oldest} to a watcher at {state:?}"));
            }
            (Seen::Read { revision, found }, State::Told | State::Closed) => {
                let is = replay.at(*revision).read(&watcher.prefix);
                if is != *found {
                    return broken("watches are exact", format!("read at {revision}: {found:?}, it was {is:?}"));
                }
                reached = *revision;
                State::Closed
            }
            (seen, state) => return broken("watches are exact", format!("{seen:?} to a watcher that is {state:?}")),
        };
    }
    if reached < until {
        return broken("watches go on", format!("{:?} got to {reached}, there is {until}", watcher.prefix));
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed,
    Open(Index),
    Told,
}

fn batch(watcher: &Watcher, replay: &Replay, at: Index, events: &[Event], through: Index) -> Verdict {
    if through < at || events.windows(2).any(|pair| pair[0].revision > pair[1].revision) {
        return broken("watches are in order", format!("after {at}, through {through}: {events:?}"));
    }
    let from = replay.events.partition_point(|event| event.revision <= at);
    let to = replay.events.partition_point(|event| event.revision <= through);
    let is = replay.events[from..to.max(from)].iter().filter(|event| event.key.starts_with(&watcher.prefix));
    // Which of several keys of one revision comes first is nobody's promise.
    let (mut is, mut saw): (Vec<_>, Vec<_>) = (is.collect(), events.iter().collect());
    is.sort();
    saw.sort();
    if is == saw {
        return Ok(());
    }
    let missing = is.iter().find(|event| !saw.contains(event));
    let extra = saw.iter().find(|event| !is.contains(event));
    broken(
        "watches are exact",
        format!("{:?} after {at}, through {through}: missing {missing:?}, too much {extra:?}", watcher.prefix),
    )
}

#[cfg(test)]
mod tests {
    use super::super::history::{Call, Entry, Reply};
    use super::super::witness;
    use super::*;

    fn history() -> Replay {
        let entries = (1..=9).map(|n| Entry {
            index: n * 10,
            id: Some((1, n)),
            call: Call::Put { key: format!("k/{}", n % 2), value: n.to_string(), lease: None },
            reply: Reply::Done,
        });
        witness::replay(entries.collect()).unwrap()
    }

    fn events(from: Index, to: Index) -> Vec<Event> {
        history().events.into_iter().filter(|event| event.revision > from && event.revision <= to).collect()
    }

    fn law(seen: Vec<Seen>) -> Result<(), &'static str> {
        let watcher = Watcher { prefix: "k/".into(), seen };
        judge(&watcher, &history(), 90).map_err(|violation| violation.law)
    }

    fn good() -> Vec<Seen> {
        vec![
            Seen::From(15),
            Seen::Batch { events: events(15, 40), through: 42 },
            Seen::From(42),
            Seen::Batch { events: events(42, 90), through: 90 },
        ]
    }

    #[test]
    fn a_true_stream_is_believed() {
        assert_eq!(law(good()), Ok(()));
    }

    #[test]
    fn a_gap_a_duplicate_and_a_wrong_order_are_seen() {
        for at in 0..5 {
            let mut gap = good();
            let Seen::Batch { events, .. } = &mut gap[3] else { unreachable!() };
            events.remove(at);
            assert_eq!(law(gap), Err("watches are exact"));
        }
        let mut twice = good();
        let Seen::Batch { events: late, .. } = &mut twice[3] else { unreachable!() };
        late.splice(0..0, events(15, 40));
        assert_eq!(law(twice), Err("watches are exact"));
        let mut turned = good();
        let Seen::Batch { events: late, .. } = &mut turned[3] else { unreachable!() };
        late.reverse();
        assert_eq!(law(turned), Err("watches are in order"));
    }

    #[test]
    fn what_is_never_shown_is_missed() {
        let mut short = good();
        short.truncate(2);
        assert_eq!(law(short), Err("watches go on"));
    }

    #[test]
    fn a_wrong_value_is_seen() {
        let mut wrong = good();
        let Seen::Batch { events, .. } = &mut wrong[1] else { unreachable!() };
        events[0].now = Some(("other".into(), 1));
        assert_eq!(law(wrong), Err("watches are exact"));
    }

    #[test]
    fn gone_history_is_said_and_read_anew() {
        let found = history().at(80).read("k/");
        let told = |revision, found: &BTreeMap<String, Found>| {
            vec![
                Seen::From(15),
                Seen::Compacted { oldest: 50 },
                Seen::Read { revision, found: found.clone() },
                Seen::From(revision),
                Seen::Batch { events: events(80, 90), through: 90 },
            ]
        };
        assert_eq!(law(told(80, &found)), Ok(()));
        assert_eq!(law(told(80, &BTreeMap::new())), Err("watches are exact"));
        let mut baseless = told(80, &found);
        baseless[1] = Seen::Compacted { oldest: 16 };
        assert_eq!(law(baseless), Err("`Compacted` is said when it is so"));
        let mut silent = told(80, &found);
        silent.remove(1);
        assert_eq!(law(silent), Err("watches are exact"));
    }
}
