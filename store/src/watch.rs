//! Following changes: every change once, in the order of revisions, no gap and no duplicate; where history is gone, that
//! is said and nothing is skipped.
//!
//! A [`Watch`] holds a position and a filter, and no events. It reads the history that the member keeps anyway, when it
//! is asked to, so that one which is slow costs nobody memory: it falls out of the history, is told so, and reads the
//! state anew. A [`Position`] is enough to go on with, on any member, before or after a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mgmt_consensus::mutant::{self, Mutant};

use crate::event::Event;
use crate::history::Compacted;
use crate::key::Key;
use crate::limits::{WATCH_BATCH_BYTES_MAX, WATCH_MARK_REVISIONS, WATCH_SCAN_EVENTS_MAX, WATCHES_MAX};
use crate::machine::Shared;
use crate::revision::Revision;

/// Which keys a watch is about. What it leaves out costs nobody more than a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// This key.
    Key(String),
    /// All keys that begin so. All there are, if it is empty.
    Prefix(String),
}

impl Filter {
    /// Of one key.
    #[must_use]
    pub fn key(key: &Key) -> Self {
        Self::Key(key.as_str().to_owned())
    }

    /// Whether a key is among them.
    #[must_use]
    pub fn matches(&self, key: &str) -> bool {
        match self {
            Self::Key(own) => own == key,
            Self::Prefix(prefix) => key.starts_with(prefix.as_str()),
        }
    }
}

/// How far a watch has come: everything up to a revision and, of the next one that changed something, so many events.
///
/// A transaction may have more events than fit into one batch, and the members agree on their order as well, so that
/// such a position means the same on all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// All of this revision and of those before it is past.
    pub revision: Revision,
    /// Events past of the next revision that has any, whether or not they passed the filter.
    pub part: u32,
}

impl From<Revision> for Position {
    fn from(revision: Revision) -> Self {
        Self { revision, part: 0 }
    }
}

/// Some changes, none missing between them and those of the batch before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// What passed the filter, in order. None: a mark that says how far the watch is.
    pub events: Vec<Event>,
    /// Where to go on after them. While its `part` is not 0, a revision is not complete yet.
    pub position: Position,
}

/// Why a watch does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// What comes next has been forgotten, or this member got its state as a snapshot. Read the state, and watch from its
    /// revision.
    #[error("follow changes: history begins at revision {} by now", oldest.0)]
    Compacted {
        /// The first revision that is still known.
        oldest: Revision,
    },
    /// This member has as many as it may.
    #[error("watch: {WATCHES_MAX} watches are open on this host")]
    TooMany,
}

impl From<Compacted> for WatchError {
    fn from(compacted: Compacted) -> Self {
        Self::Compacted { oldest: compacted.oldest }
    }
}

/// How much is given and looked at in one go.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    batch_bytes: usize,
    scan_events: usize,
}

/// The watches of one member.
#[derive(Debug, Clone)]
pub struct Watches {
    shared: Arc<Shared>,
    open: Arc<AtomicUsize>,
    sizes: Sizes,
}

impl Watches {
    /// No watches yet, on this state.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        let sizes = Sizes { batch_bytes: WATCH_BATCH_BYTES_MAX, scan_events: WATCH_SCAN_EVENTS_MAX };
        Self { shared, open: Arc::default(), sizes }
    }

    /// A watch that gets everything after this revision. It may be one that this member has not seen yet.
    ///
    /// # Errors
    /// [`WatchError::TooMany`]. That history is gone is told by [`Watch::next`].
    pub fn open(&self, filter: Filter, after: Revision) -> Result<Watch, WatchError> {
        let place = Place::take(&self.open).ok_or(WatchError::TooMany)?;
        let position = Position::from(after);
        let (shared, sizes) = (Arc::clone(&self.shared), self.sizes);
        Ok(Watch { shared, filter, position, told: after, sizes, drop_one: false, _place: place })
    }

    /// A watch that goes on where another one was: on this member or another, whenever that was.
    ///
    /// # Errors
    /// As [`Watches::open`].
    pub fn resume(&self, filter: Filter, position: Position) -> Result<Watch, WatchError> {
        let watch = self.open(filter, position.revision)?;
        Ok(Watch { position, drop_one: mutant::is(Mutant::WatchDropsOnReconnect), ..watch })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// One of the places a member has for watches.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Option<Self> {
        let another = |count| (count < WATCHES_MAX).then_some(count + 1);
        open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, another).ok()?;
        Some(Self(open.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Follows what a filter lets through. Give it up by dropping it.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    filter: Filter,
    position: Position,
    /// The revision of the last position that was told.
    told: Revision,
    sizes: Sizes,
    /// Only ever set by a deliberate defect.
    drop_one: bool,
    _place: Place,
}

impl Watch {
    /// The next changes, as soon as there are any; or a mark, now and then.
    ///
    /// Nothing is lost if this is dropped before it is done: what it has skipped did not pass the filter.
    ///
    /// # Errors
    /// [`WatchError::Compacted`], for good.
    pub async fn next(&mut self) -> Result<Batch, WatchError> {
        loop {
            if let Some(batch) = self.ready()? {
                return Ok(batch);
            }
            self.shared.changed_since(self.position.revision).await;
        }
    }

    /// What [`Watch::next`] would give without waiting.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub fn ready(&mut self) -> Result<Option<Batch>, WatchError> {
        loop {
            let seen = self.look()?;
            let moved = seen.position != self.position;
            self.position = seen.position;
            let overdue = self.position.revision.0.saturating_sub(self.told.0) >= WATCH_MARK_REVISIONS;
            if !seen.events.is_empty() || (overdue && self.position.part == 0) {
                self.told = self.position.revision;
                return Ok(Some(seen));
            }
            if !moved {
                return Ok(None);
            }
        }
    }

    /// How far it is: everything up to here was handed out, or did not pass the filter.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Looks at a stretch of the history from where this watch stands.
    fn look(&mut self) -> Result<Batch, Compacted> {
        let mut at = self.position;
        let (filter, sizes, drop_one) = (&self.filter, self.sizes, &mut self.drop_one);
        let mut events = Vec::new();
        self.shared.scan(at.revision, |history, settled| {
            let (mut bytes, mut looked, mut current) = (0, 0, None);
            let mut history = history.peekable();
            // A member that lags behind may not have the revision that the part is of.
            let lags = at.part > 0 && history.peek().is_none();
            for event in history.skip(at.part as usize) {
                // A revision is past once the next one begins; before the first event nothing is known about it.
                if current.is_some_and(|revision| revision != event.revision) {
                    at = Position::from(current.expect("it was just compared"));
                }
                if looked == sizes.scan_events {
                    return;
                }
                if filter.matches(event.key.as_str()) && !std::mem::take(drop_one) {
                    let more = event.bytes();
                    if bytes + more > sizes.batch_bytes && !events.is_empty() {
                        return;
                    }
                    bytes += more;
                    events.push(event.clone());
                }
                looked += 1;
                at.part += 1;
                current = Some(event.revision);
            }
            // All there is: a member that lags behind the position has nothing, and its watch stays where it is.
            if settled > at.revision && !lags {
                at = Position::from(settled);
            }
        })?;
        Ok(Batch { events, position: at })
    }
}

#[cfg(test)]
mod tests;
