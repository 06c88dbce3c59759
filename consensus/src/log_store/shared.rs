//! What the writer, the index's lane and all readers of one log have in common.

use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use openraft::{AsyncRuntime, Instant as _};
use tokio::sync::Notify;

use super::fault::Fault;
use super::index::Index;
use super::journal::Segments;
use super::record::{self, Standing};
use super::register::{Place, Register};
use super::syncs::Syncs;
use super::tail::Tail;
use crate::disk::DiskFile;
use crate::ground::Ground;
use crate::mutant::{self, Mutant};
use crate::types::Entry;

/// A read that finds the log changed under it begins anew, so many times. Every change is a purge or a truncation, and
/// those are rare.
const READS_MAX: usize = 16;

/// What there is to see.
#[derive(Debug)]
pub(super) struct State {
    /// How things stand for readers: appended entries count, votes only once they are durable.
    pub(super) standing: Standing,
    /// Where what is durable lies.
    pub(super) register: Register,
    pub(super) tail: Tail,
    /// Purges and truncations so far.
    pub(super) changes: u64,
    pub(super) fault: Option<Fault>,
    /// The writer is gone and touches the disk no more.
    pub(super) ended: bool,
    pub(super) indexed: Indexed,
}

/// How far the index is.
#[derive(Debug, Default)]
pub(super) struct Indexed {
    /// Everything before this is in it.
    pub(super) end: u64,
    /// Everything from here on has been cut off since it was last told.
    pub(super) cut: Option<u64>,
    /// Something it said was wrong.
    pub(super) wrong: bool,
}

/// A moment on this ground.
pub(super) type Moment<G> = <<G as Ground>::Runtime as AsyncRuntime>::Instant;

/// Common to all who have to do with one log.
pub(super) struct Shared<G: Ground> {
    state: Mutex<State>,
    /// Replaced as a whole: readers never wait for it.
    index: Mutex<Option<Arc<dyn Index>>>,
    segments: Segments<G>,
    pub(super) syncs: Mutex<Syncs<Moment<G>>>,
    /// A fault has come, or the end.
    changed: Notify,
}

/// Where an entry is to be had.
enum Source {
    Here(Box<Entry>),
    Stored(u64, Place),
}

impl<G: Ground> Shared<G> {
    pub(super) fn new(standing: Standing, register: Register, segments: Segments<G>) -> Self {
        let indexed = Indexed { end: register.first(), ..Indexed::default() };
        let state = State { standing, register, tail: Tail::default(), changes: 0, fault: None, ended: false, indexed };
        Self {
            state: Mutex::new(state),
            index: Mutex::new(None),
            segments,
            syncs: Mutex::default(),
            changed: Notify::new(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }

    pub(super) fn syncs(&self) -> MutexGuard<'_, Syncs<Moment<G>>> {
        self.syncs.lock().expect("nothing panics while it holds this lock")
    }

    pub(super) fn now() -> Moment<G> {
        Moment::<G>::now()
    }

    pub(super) fn index(&self) -> Option<Arc<dyn Index>> {
        self.index.lock().expect("nothing panics while it holds this lock").clone()
    }

    pub(super) fn set_index(&self, index: Option<Arc<dyn Index>>) {
        *self.index.lock().expect("nothing panics while it holds this lock") = index;
    }

    /// Stops everything for good. The first reason stays.
    pub(super) fn fail(&self, fault: Fault) -> Fault {
        let fault = self.state().fault.get_or_insert(fault).clone();
        self.changed.notify_waiters();
        fault
    }

    pub(super) fn check(&self) -> Result<(), Fault> {
        self.state().fault.clone().map_or(Ok(()), Err)
    }

    pub(super) async fn failed(&self) -> Fault {
        self.until(|state| state.fault.clone()).await
    }

    pub(super) fn end(&self) {
        self.state().ended = true;
        self.changed.notify_waiters();
    }

    pub(super) async fn ended(&self) {
        self.until(|state| state.ended.then_some(())).await;
    }

    /// Waits until there is something to see.
    async fn until<T>(&self, see: impl Fn(&State) -> Option<T>) -> T {
        loop {
            let woken = self.changed.notified();
            // Registered before looking, so that nothing falls between.
            tokio::pin!(woken);
            woken.as_mut().enable();
            let seen = see(&self.state());
            if let Some(seen) = seen {
                return seen;
            }
            woken.await;
        }
    }

    /// The entries of a range that are there; of more than `bytes_max`, the first ones, and at least one.
    pub(super) fn read(&self, range: &Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        for _ in 0..READS_MAX {
            let (sources, changes) = self.sources(range, bytes_max);
            let entries: io::Result<Vec<_>> = sources
                .into_iter()
                .map(|source| match source {
                    Source::Here(entry) => Ok(*entry),
                    Source::Stored(index, place) => self.fetch(index, place),
                })
                .collect();
            match entries {
                // What was purged meanwhile may lie in a segment that is in use again.
                Err(_) if self.state().changes != changes => {}
                entries => return entries,
            }
        }
        Err(io::Error::other("the log changes faster than it can be read"))
    }

    fn sources(&self, range: &Range<u64>, bytes_max: usize) -> (Vec<Source>, u64) {
        let state = self.state();
        // A log that was empty may begin far later than it could: what lies between is not looked for.
        let written = Some(state.register.first()).filter(|first| *first < state.register.end());
        let Some(lowest) = written.into_iter().chain(state.tail.first()).min() else {
            return (Vec::new(), state.changes);
        };
        let start = range.start.max(state.standing.first()).max(lowest);
        let end = range.end.min(state.standing.next());
        let (mut sources, mut bytes) = (Vec::new(), 0);
        for index in start..end {
            let (source, length) = if let Some((entry, length)) = state.tail.get(index) {
                (Source::Here(Box::new(entry.clone())), *length)
            } else if let Some(place) = state.register.get(index) {
                (Source::Stored(index, place), usize::try_from(place.bytes).unwrap_or(usize::MAX))
            } else {
                // Nothing is there; whoever reads sees it by the indices.
                continue;
            };
            bytes += length;
            if bytes > bytes_max && !sources.is_empty() {
                break;
            }
            sources.push(source);
        }
        (sources, state.changes)
    }

    /// An entry that is not in memory: from the index if what it says is true, else from the journal.
    fn fetch(&self, index: u64, place: Place) -> io::Result<Entry> {
        let bytes = match self.indexed(index, place) {
            Some(bytes) => bytes,
            None => self.journalled(place)?,
        };
        record::decode_entry(&bytes).map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed))
    }

    fn indexed(&self, number: u64, place: Place) -> Option<Bytes> {
        let index = self.index()?;
        let found = catch_unwind(AssertUnwindSafe(|| index.get(number)));
        let found = found.unwrap_or_else(|_| Err(io::Error::other("it has panicked")));
        match found {
            Ok(Some(bytes)) if mutant::is(Mutant::SledTrusted) || crc32c::crc32c(&bytes) == place.crc => Some(bytes),
            Ok(None) if self.state().indexed.end <= number => None,
            wrong => {
                // What was cut off is not known to it yet, and nothing to be surprised at.
                let mut state = self.state();
                if state.indexed.cut.is_none_or(|cut| cut > number) && state.indexed.end > number {
                    tracing::warn!(number, error = ?wrong.err(), "the index is wrong; it is built anew");
                    state.indexed.wrong = true;
                }
                None
            }
        }
    }

    /// The bytes of an entry, from the journal.
    fn journalled(&self, place: Place) -> io::Result<Bytes> {
        Ok(self.run(&[place])?.remove(0))
    }

    /// The bytes of entries that lie one behind the other in one segment, with one read.
    pub(super) fn run(&self, places: &[Place]) -> io::Result<Vec<Bytes>> {
        let (Some(place), Some(last)) = (places.first(), places.last()) else { return Ok(Vec::new()) };
        let file = self.segments.lock().expect("nothing panics while it holds this lock").get(&place.segment).cloned();
        let file = file.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its segment is gone"))?;
        let end = last.offset.saturating_add(last.bytes);
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(place.offset)).map_err(io::Error::other)?];
        let read = file.read_at(&mut bytes, place.offset.into())?;
        bytes.truncate(read);
        let bytes = Bytes::from(bytes);
        let one = |of: &Place| {
            let start = usize::try_from(of.offset.checked_sub(place.offset)?).ok()?;
            let end = start.checked_add(usize::try_from(of.bytes).ok()?)?;
            let found = (end <= bytes.len()).then(|| bytes.slice(start..end))?;
            (crc32c::crc32c(&found) == of.crc).then_some(found)
        };
        let whole = |of: &Place| {
            let what = format!("segment {} of the journal is damaged at offset {}", of.segment, of.offset);
            one(of).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, what))
        };
        places.iter().map(whole).collect()
    }
}
