//! The latest events, for watches. Not part of the replicated state: a replica that was given a snapshot has none of
//! what came before it, and says so.

use std::collections::VecDeque;

use crate::event::Event;
use crate::limits::{HISTORY_BYTES_MAX, HISTORY_EVENTS_MAX};
use crate::revision::Revision;

/// Events from a revision on, without a gap.
#[derive(Debug)]
pub struct History {
    events: VecDeque<Event>,
    bytes: usize,
    /// Everything at this revision and after it is here.
    oldest: Revision,
    events_max: usize,
    bytes_max: usize,
}

/// Events that follow each other without a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// In the order of their revisions, and all of each revision.
    pub items: Vec<Event>,
    /// There is no other event up to this revision: go on after it.
    pub through: Revision,
}

/// What was asked for is no longer remembered: read the state, and watch from its revision on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("history begins at revision {oldest}")]
pub struct Compacted {
    /// All events from here on are there.
    pub oldest: Revision,
}

impl Default for History {
    fn default() -> Self {
        Self::new(HISTORY_EVENTS_MAX, HISTORY_BYTES_MAX)
    }
}

impl History {
    /// Remembers at most so much.
    #[must_use]
    pub fn new(events_max: usize, bytes_max: usize) -> Self {
        Self { events: VecDeque::new(), bytes: 0, oldest: Revision::ZERO.next(), events_max, bytes_max }
    }

    /// Adds what happened. Whole revisions are forgotten, the oldest first.
    pub fn extend(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.bytes += event.bytes();
            self.events.push_back(event);
        }
        while self.events.len() > self.events_max || self.bytes > self.bytes_max {
            let Some(gone) = self.events.pop_front() else { break };
            self.bytes -= gone.bytes();
            self.oldest = gone.revision.next();
            while self.events.front().is_some_and(|event| event.revision == gone.revision) {
                self.bytes -= self.events.pop_front().map_or(0, |event| event.bytes());
            }
        }
    }

    /// Forgets everything: the state is another one, of this revision.
    pub fn restart(&mut self, revision: Revision) {
        self.events.clear();
        self.bytes = 0;
        self.oldest = revision.next();
    }

    /// From where on all events are there.
    #[must_use]
    pub fn oldest(&self) -> Revision {
        self.oldest
    }

    /// What happened after a revision and not after `settled`, event by event.
    ///
    /// # Errors
    /// When some of it is forgotten.
    pub fn iter_after(&self, after: Revision, settled: Revision) -> Result<impl Iterator<Item = &Event>, Compacted> {
        if after.next() < self.oldest {
            return Err(Compacted { oldest: self.oldest });
        }
        let start = self.events.partition_point(|event| event.revision <= after);
        Ok(self.events.range(start..).take_while(move |event| event.revision <= settled))
    }

    /// What happened after a revision and not after `settled`: about `bytes_max`, in whole revisions, at least one.
    ///
    /// # Errors
    /// When some of it is forgotten.
    pub fn after(&self, after: Revision, settled: Revision, bytes_max: usize) -> Result<Events, Compacted> {
        let (mut items, mut bytes): (Vec<Event>, usize) = (Vec::new(), 0);
        for event in self.iter_after(after, settled)? {
            bytes += event.bytes();
            if let Some(last) = items.last()
                && bytes > bytes_max
                && last.revision != event.revision
            {
                return Ok(Events { through: last.revision, items });
            }
            items.push(event.clone());
        }
        Ok(Events { items, through: settled.max(after) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Change;

    fn event(revision: u64) -> Event {
        Event { revision: Revision(revision), key: "k/a".parse().unwrap(), change: Change::Delete }
    }

    fn revisions(events: &Events) -> Vec<u64> {
        events.items.iter().map(|event| event.revision.0).collect()
    }

    #[test]
    fn whole_revisions_leave_and_are_given() {
        let mut history = History::new(4, usize::MAX);
        history.extend([event(3), event(3), event(5)]);
        let settled = Revision(9);
        let all = history.after(Revision::ZERO, settled, usize::MAX).unwrap();
        assert_eq!((revisions(&all), all.through), (vec![3, 3, 5], settled));
        let little = history.after(Revision::ZERO, settled, 1).unwrap();
        assert_eq!((revisions(&little), little.through), (vec![3, 3], Revision(3)));
        let unsettled = history.after(Revision::ZERO, Revision(4), usize::MAX).unwrap();
        assert_eq!((revisions(&unsettled), unsettled.through), (vec![3, 3], Revision(4)));
        history.extend([event(6), event(7)]);
        assert_eq!(history.after(Revision(2), settled, 1), Err(Compacted { oldest: Revision(4) }));
        assert_eq!(revisions(&history.after(Revision(3), settled, usize::MAX).unwrap()), [5, 6, 7]);
        history.restart(Revision(20));
        assert_eq!(history.after(Revision(19), settled, 1), Err(Compacted { oldest: Revision(21) }));
        assert_eq!(history.after(Revision(20), Revision(20), 1).unwrap().items, []);
        assert_eq!(history.after(Revision(25), Revision(20), 1).unwrap().through, Revision(25), "it never goes back");
    }

    #[test]
    fn one_that_is_too_large_leaves_nothing() {
        let mut history = History::new(2, usize::MAX);
        history.extend([event(3), event(4), event(4), event(4)]);
        assert_eq!((history.oldest(), history.events.len(), history.bytes), (Revision(5), 0, 0));
    }
}
