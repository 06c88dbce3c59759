//! The replicated log on this host's disk: what was acknowledged is there after any crash, or it is refused.
//!
//! In front is the journal; one writer puts a batch into it with one sync and then tells whoever waits. Behind it an
//! [`index`] that nothing depends on. A tail in memory feeds replication. What a failed write or sync has left, nobody
//! knows: after the first one this log is done with, and its [`Fault`] says why.

mod fault;
pub mod index;
#[cfg(feature = "testing")]
pub mod inspect;
mod journal;
mod lane;
mod record;
mod register;
mod shared;
mod standing;
mod syncs;
mod tail;
mod writer;

use std::fmt;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use self::fault::Fault;
use self::index::Opener;
pub use self::journal::recover::Damage;
use self::journal::recover::Unrecoverable;
use self::journal::{Journal, payload_bytes_max};
use self::record::{Record, entry_bytes};
use self::shared::Shared;
use self::writer::{Done, Request};
use crate::disk::Disk;
use crate::ground::Ground;
use crate::identity::Incarnation;
use crate::limits::{
    APPEND_BYTES_MAX, RESERVE_BYTES, ROOM_ENOUGH_BYTES, ROOM_LOW_BYTES, ROOM_LOW_SHARE, SEGMENT_BYTES,
    WRITER_BYTES_MAX, WRITER_REQUESTS_MAX,
};
use crate::types::{Entry, Group, LogId, Vote};

/// What can be chosen.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of a journal file, when it is made. An entry is smaller than this.
    pub segment_bytes: u64,
    /// Space to hold back.
    pub reserve_bytes: u64,
    /// Less free space than this is little.
    pub room_low_bytes: u64,
    /// What lies behind.
    pub index: Arc<dyn Opener>,
}

impl Options {
    /// What the program uses.
    #[must_use]
    pub fn new(index: Arc<dyn Opener>) -> Self {
        Self { segment_bytes: SEGMENT_BYTES, reserve_bytes: RESERVE_BYTES, room_low_bytes: ROOM_LOW_BYTES, index }
    }
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is none.
    #[error("there is no journal")]
    Missing,
    /// Data that was synced is gone or wrong. Whoever votes must not go on with it.
    #[error(transparent)]
    Damaged(Damage),
    /// It is the log of another life.
    #[error("the journal belongs to incarnation {0}")]
    OtherIncarnation(Incarnation),
    /// The disk does not work.
    #[error("read {file}: {source}")]
    Io {
        /// What was read.
        file: String,
        /// What the disk said.
        source: io::Error,
    },
}

impl From<Unrecoverable> for OpenError {
    fn from(why: Unrecoverable) -> Self {
        match why {
            Unrecoverable::Damaged(damage) => Self::Damaged(damage),
            Unrecoverable::OtherIncarnation(other) => Self::OtherIncarnation(other),
            Unrecoverable::Io(file, source) => Self::Io { file, source },
        }
    }
}

/// How much space there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// None to speak of: no further segment may fit.
    None,
    /// Little: this host should not lead.
    Low,
    /// Enough.
    Plenty,
}

/// The log. Clones are the same log; also what openraft reads from.
pub struct LogStore<G: Ground> {
    shared: Arc<Shared<G>>,
    door: Arc<Door<G>>,
}

/// The way to the writer. When the last clone of the log goes, so does this, and the writer ends.
struct Door<G: Ground> {
    requests: mpsc::Sender<Request<G>>,
    /// Bytes that may still be brought, in KiB.
    gate: Arc<Semaphore>,
    disk: G::Disk,
    segment_bytes: u64,
    room_low_bytes: u64,
}

impl<G: Ground> Clone for LogStore<G> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), door: Arc::clone(&self.door) }
    }
}

impl<G: Ground> fmt::Debug for LogStore<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state();
        f.debug_struct("LogStore").field("standing", &state.standing).field("fault", &state.fault).finish()
    }
}

/// The most that waits at the gate, in KiB: one that is larger comes alone.
fn gate_units(bytes: usize) -> u32 {
    u32::try_from(bytes.min(WRITER_BYTES_MAX).div_ceil(1024)).expect("the limit is far smaller")
}

impl<G: Ground> LogStore<G> {
    /// Makes an empty log and opens it. One that is there is never written over.
    ///
    /// # Errors
    /// `AlreadyExists`, and what a disk says.
    pub async fn create(disk: G::Disk, incarnation: Incarnation, options: Options) -> io::Result<Self> {
        if disk.list(journal::FOLDER)?.iter().any(|name| name != "new") {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (on, segment_bytes, reserve_bytes) = (disk.clone(), options.segment_bytes, options.reserve_bytes);
        let work = async move { Journal::<G>::create(&on, incarnation, segment_bytes, reserve_bytes).await };
        G::aside("journal-create", work).await.ok_or_else(|| io::Error::other("it has panicked"))??;
        Self::open(disk, incarnation, options).await.map_err(io::Error::other)
    }

    /// Opens a log.
    ///
    /// # Errors
    /// [`OpenError`]: nothing is ever changed or deleted then.
    pub async fn open(disk: G::Disk, incarnation: Incarnation, options: Options) -> Result<Self, OpenError> {
        let on = disk.clone();
        let work = async move { Journal::<G>::open(&on, incarnation).await };
        let opened = G::aside("journal-open", work).await.ok_or_else(|| OpenError::Io {
            file: journal::FOLDER.to_owned(),
            source: io::Error::other("reading it has panicked"),
        })?;
        let (journal, recovered) = opened?.ok_or(OpenError::Missing)?;
        let shared = Arc::new(Shared::new(recovered.standing, recovered.register, journal.segments()));
        let (requests, asked) = mpsc::channel(WRITER_REQUESTS_MAX);
        let (wake, woken) = mpsc::channel(1);
        let door = Door {
            requests,
            gate: Arc::new(Semaphore::new(gate_units(usize::MAX) as usize)),
            disk,
            segment_bytes: recovered.segment_bytes,
            room_low_bytes: options.room_low_bytes,
        };
        // These two live as long as the log: each ends when the last handle is gone, or with the first fault.
        let (writes, watched) = (Arc::clone(&shared), Arc::clone(&shared));
        let writing = G::aside("journal", async move { writer::run(writes, journal, asked, wake).await });
        drop(G::Runtime::spawn(async move {
            if writing.await.is_none() {
                watched.fail(Fault::panicked());
            }
            watched.end();
        }));
        drop(G::Runtime::spawn(lane::keep(Arc::clone(&shared), options.index, woken)));
        let log = Self { shared, door: Arc::new(door) };
        log.hold_back(options.reserve_bytes);
        Ok(log)
    }

    /// Why nothing is written any more, if so. After [`LogStore::stop`] that is the reason.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.shared.state().fault.clone()
    }

    /// Waits until nothing is written any more. Cancel safe.
    pub async fn failed(&self) -> Fault {
        self.shared.failed().await
    }

    /// Everything that was asked for is durable when this returns, and nothing more is taken. Also when there was a
    /// fault, nothing is written any more: only now the files may be opened again or put aside.
    ///
    /// # Errors
    /// The fault, if there was one.
    pub async fn stop(&self) -> Result<(), Fault> {
        let stopped = self.ask(Request::Stop).await;
        self.shared.ended().await;
        stopped
    }

    /// How much space there is.
    ///
    /// # Errors
    /// What a disk says.
    pub fn room(&self) -> io::Result<Room> {
        let (free, total) = (self.door.disk.free()?, self.door.disk.total()?);
        Ok(if free < self.door.segment_bytes {
            Room::None
        } else if free < self.door.room_low_bytes || free < (total / ROOM_LOW_SHARE).min(ROOM_ENOUGH_BYTES) {
            Room::Low
        } else {
            Room::Plenty
        })
    }

    /// Ninety-nine of a hundred syncs of late took no longer than this.
    #[must_use]
    pub fn sync_p99(&self) -> Duration {
        self.shared.syncs().p99(Shared::<G>::now())
    }

    /// Makes the reserve again if it was given up and there is plenty of space by now. Nothing depends on it.
    fn hold_back(&self, bytes: u64) {
        let made = match self.room() {
            Ok(Room::Plenty) => journal::restore_reserve(&self.door.disk, bytes),
            Ok(Room::Low | Room::None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            tracing::warn!(%error, "no space can be held back");
        }
    }

    async fn send(&self, request: Request<G>) -> Result<(), Fault> {
        self.shared.check()?;
        let sent = self.door.requests.send(request).await;
        sent.map_err(|_| self.fault().unwrap_or_else(Fault::stopped))
    }

    /// Asks for something and waits until it is durable.
    async fn ask(&self, request: impl FnOnce(Done<G>) -> Request<G>) -> Result<(), Fault> {
        let (done, told) = oneshot::channel();
        self.send(request(Done::Record(done))).await?;
        // A writer that panics tells nobody anything.
        told.await.unwrap_or_else(|_| Err(self.fault().unwrap_or_else(Fault::panicked)))
    }

    async fn record(&self, record: Record) -> io::Result<()> {
        Ok(self.ask(|done| Request::Record(record, Some(done))).await?)
    }

    /// What can be known to be wrong before anything has happened.
    fn admit(&self, entries: &[Entry]) -> io::Result<usize> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        let most = payload_bytes_max(self.door.segment_bytes);
        let (mut bytes, mut next) = (0, None);
        for entry in entries {
            let (index, length) = (entry.log_id.index, entry_bytes(entry));
            if length > most {
                return Err(invalid(format!("entry {index} of {length} bytes does not fit into a segment")));
            }
            match next {
                None => self.shared.state().standing.admits(index).map_err(|why| invalid(why.to_string()))?,
                Some(next) if next != index => return Err(invalid(format!("entry {index} follows {}", next - 1))),
                Some(_) => {}
            }
            (bytes, next) = (bytes + length, Some(index + 1));
        }
        Ok(bytes)
    }
}

/// Moves a damaged journal aside into a folder of its own, whose name this gives. The index is rebuilt from the journal
/// that will be made next. Nobody may have it open: [`LogStore::stop`] comes first.
///
/// # Errors
/// What a disk says. What is left of it then is refused by [`LogStore::open`].
pub async fn quarantine<D: Disk>(disk: &D) -> io::Result<String> {
    journal::quarantine(disk).await
}

impl<G: Ground> RaftLogReader<Group<G>> for LogStore<G> {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend,
    {
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        self.shared.read(&(start..end), usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.shared.read(&(start..end), APPEND_BYTES_MAX)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.state().standing.vote)
    }
}

impl<G: Ground> RaftLogStorage<Group<G>> for LogStore<G> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Group<G>>, io::Error> {
        let standing = self.shared.state().standing.clone();
        Ok(LogState { last_purged_log_id: standing.purged, last_log_id: standing.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.record(Record::Vote(*vote)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.shared.check()?;
        // The writer finds it there when it has something to write that somebody waits for.
        self.shared.state().standing.committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared.state().standing.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Group<G>>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.shared.check()?;
        let entries: Vec<_> = entries.into_iter().collect();
        let bytes = self.admit(&entries)?;
        let gate = Arc::clone(&self.door.gate);
        let permit = gate.acquire_many_owned(gate_units(bytes)).await.map_err(io::Error::other)?;
        // Its place in the queue comes first and what readers see second, with nothing in between that could fail.
        let place = self.door.requests.reserve().await;
        let place = place.map_err(|_| self.fault().unwrap_or_else(Fault::stopped))?;
        {
            let mut state = self.shared.state();
            for entry in &entries {
                let record = Record::Append(entry.log_id);
                state.standing.apply(&record).map_err(io::Error::other)?;
                state.tail.push(entry.clone());
            }
        }
        place.send(Request::Append(entries, Done::Entries(callback, permit)));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let record = Record::Truncate(last_log_id);
        self.shared.state().standing.clone().apply(&record).map_err(io::Error::other)?;
        self.record(record).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let record = Record::Purge(log_id);
        let place = self.door.requests.reserve().await;
        let place = place.map_err(|_| self.fault().unwrap_or_else(Fault::stopped))?;
        {
            let mut state = self.shared.state();
            state.standing.apply(&record).map_err(io::Error::other)?;
            let first = state.standing.first();
            state.register.purge(first);
            state.tail.purge(first);
            state.changes += 1;
        }
        // What is purged twice is no worse for it: it waits for the next thing that somebody waits for.
        place.send(Request::Record(record, None));
        Ok(())
    }
}
