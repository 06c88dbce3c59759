//! The journal: what has been promised, in the order it was promised.
//!
//! Files of one size, *slots*, lie in one folder. Each is made once (zeros, synced, renamed into place, folder synced)
//! and from then on only written over: that costs a third less than growing a file, and cannot run out of space. A slot
//! in use is a *segment* with a number that grows for ever. A batch is one frame ([`frame`]), one write and one sync.
//! A segment begins with how things stood, so that those before it can be used again once their entries are purged.
//!
//! After every sync with nothing more to do, a mark is written where the next frame will be, which says so; it is not
//! synced, and the next frame goes over it. With it damage to the last frame is told from a torn one ([`recover`]).
//!
//! Nothing here is retried. Whoever gets an error stops for good.

mod frame;
pub(crate) mod recover;
#[cfg(feature = "testing")]
pub(super) mod reseal;
mod segment;
mod slots;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};

use self::frame::Kind;
use self::recover::{Recovered, Slots, Unrecoverable};
pub(super) use self::slots::{FOLDER, quarantine};
use self::slots::{Maker, RESERVE, create_reserve};
use super::fault::Fault;
use super::record::{self, Record, Standing};
use crate::disk::{Disk, DiskFile};
use crate::ground::Ground;
use crate::identity::Incarnation;
use crate::limits::{BATCH_BYTES_MAX, SPARE_SEGMENTS_MAX};
use crate::types::LogId;

/// The version of what lies on disk. A higher one is refused.
pub(super) const FORMAT: u32 = 1;
/// The most that a record of how things stand takes.
const STANDING_BYTES_MAX: usize = 1 + (1 + 17) + 3 * (1 + 24);
/// The most that any record takes but an entry's.
pub(super) const RECORD_BYTES_MAX: usize = STANDING_BYTES_MAX;

/// The files of the segments by number, for readers.
pub(super) type Segments<G> = Arc<Mutex<BTreeMap<u32, Arc<<<G as Ground>::Disk as Disk>::File>>>>;

/// A segment that is only read.
#[derive(Debug)]
struct Older {
    number: u32,
    slot: String,
    highest: Option<u64>,
}

/// A journal, as its one writer holds it.
pub(super) struct Journal<G: Ground> {
    maker: Maker<G>,
    key: frame::Key,
    segments: Segments<G>,
    file: Arc<<G::Disk as Disk>::File>,
    current: Older,
    older: VecDeque<Older>,
    free: Vec<(u32, String)>,
    next_number: u32,
    /// Where the next frame goes, and which number it has.
    offset: usize,
    sequence: u64,
    /// How things stand once everything that was put is synced.
    standing: Standing,
    frame: Vec<u8>,
}

/// Where a frame's records begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Put {
    pub(super) segment: u32,
    pub(super) offset: usize,
}

/// A journal's files, to be recovered.
struct OnDisk<'a, D: Disk> {
    names: &'a [String],
    files: &'a [D::File],
    buffer: Vec<u8>,
}

impl<D: Disk> Slots for OnDisk<'_, D> {
    fn names(&self) -> &[String] {
        self.names
    }

    fn size(&self, nth: usize) -> io::Result<u64> {
        self.files[nth].size()
    }

    fn bytes(&mut self, nth: usize, most: usize) -> io::Result<Cow<'_, [u8]>> {
        let size = usize::try_from(self.files[nth].size()?).map_err(io::Error::other)?;
        self.buffer.resize(size.min(most), 0);
        let read = self.files[nth].read_at(&mut self.buffer, 0)?;
        Ok(Cow::Borrowed(&self.buffer[..read]))
    }
}

fn io_error(file: &str) -> impl FnOnce(io::Error) -> Unrecoverable {
    let file = file.to_owned();
    move |error| Unrecoverable::Io(file, error)
}

/// Bytes of records that fit into a frame of segments of this size.
pub(super) fn payload_bytes_max(segment_bytes: u64) -> usize {
    let around = segment::HEADER_BYTES + 2 * frame::HEADER_BYTES + STANDING_BYTES_MAX + frame::ALIGN;
    usize::try_from(segment_bytes).unwrap_or(usize::MAX).saturating_sub(around).min(BATCH_BYTES_MAX)
}

impl<G: Ground> Journal<G> {
    /// Makes an empty one and opens it. There must be none.
    pub(super) async fn create(
        disk: &G::Disk,
        incarnation: Incarnation,
        segment_bytes: u64,
        reserve_bytes: u64,
    ) -> io::Result<()> {
        let maker = Maker::<G>::new(disk.clone(), incarnation, segment_bytes);
        create_reserve(disk, reserve_bytes)?;
        maker.make(&maker.next_slot()?, 1, false).await?;
        disk.sync_folder("").await
    }

    /// Opens what is there; `None` if there is none.
    pub(super) async fn open(
        disk: &G::Disk,
        incarnation: Incarnation,
    ) -> Result<Option<(Self, Recovered)>, Unrecoverable> {
        let names = slots::names(disk)?;
        if names.is_empty() {
            return Ok(None);
        }
        let mut files = Vec::new();
        for name in &names {
            files.push(disk.open(name).map_err(io_error(name))?);
        }
        let mut on_disk = OnDisk::<G::Disk> { names: &names, files: &files, buffer: Vec::new() };
        let recovered = recover::recover(&mut on_disk, incarnation)?;
        if recovered.torn {
            tracing::warn!(sequence = recovered.sequence, "the last frame of the journal was torn; it is cut off");
        }
        settle(disk, &names, &files, &recovered).await?;
        let mut files: Vec<_> = files.into_iter().map(|file| Some(Arc::new(file))).collect();
        let mut by_number = BTreeMap::new();
        let mut older = VecDeque::new();
        for live in &recovered.live {
            by_number.insert(live.number, files[live.slot].take().expect("a slot is one segment"));
            older.push_back(Older { number: live.number, slot: names[live.slot].clone(), highest: live.highest });
        }
        let current = older.pop_back().expect("a chain has a segment");
        let journal = Self {
            maker: Maker::new(disk.clone(), incarnation, recovered.segment_bytes),
            key: recovered.key,
            file: Arc::clone(&by_number[&current.number]),
            segments: Arc::new(Mutex::new(by_number)),
            current,
            older,
            free: recovered.free.iter().map(|(number, slot)| (*number, names[*slot].clone())).collect(),
            next_number: recovered.next_number,
            offset: recovered.offset,
            sequence: recovered.sequence,
            standing: recovered.standing.clone(),
            frame: Vec::new(),
        };
        Ok(Some((journal, recovered)))
    }

    pub(super) fn segments(&self) -> Segments<G> {
        Arc::clone(&self.segments)
    }

    pub(super) const fn segment_bytes(&self) -> u64 {
        self.maker.segment_bytes()
    }

    /// The last entry once everything that was put is synced.
    pub(super) const fn last(&self) -> Option<LogId> {
        self.standing.last
    }

    /// Writes one frame of these records, which are in `payload` one after the other; [`Journal::sync`] follows.
    pub(super) async fn put(&mut self, payload: &[u8], records: &[Record]) -> Result<Put, Fault> {
        let taken = frame::bytes(STANDING_BYTES_MAX + payload.len());
        if self.offset > segment::HEADER_BYTES && self.offset + taken + frame::HEADER_BYTES > self.end() {
            self.turn().await?;
        }
        self.frame.clear();
        self.frame.resize(frame::HEADER_BYTES, 0);
        if self.offset == segment::HEADER_BYTES {
            record::encode(&Record::Standing(self.standing.clone()), &mut self.frame);
        }
        let put = Put { segment: self.current.number, offset: self.offset + self.frame.len() };
        self.frame.extend_from_slice(payload);
        frame::seal(&mut self.frame, Kind::Batch, self.sequence, self.key);
        assert!(self.offset + self.frame.len() + frame::HEADER_BYTES <= self.end(), "batches are limited by segments");
        for record in records {
            self.standing.apply(record).map_err(|impossible| Fault::invariant(&impossible))?;
            if let Record::Append(log_id) = record {
                self.current.highest = self.current.highest.max(Some(log_id.index));
            }
        }
        self.file.write_at(&self.frame, self.offset as u64).map_err(self.fault("write"))?;
        self.offset += self.frame.len();
        self.sequence += 1;
        Ok(put)
    }

    /// Makes everything that was put durable, and lets go of segments that are not needed any more.
    pub(super) async fn sync(&mut self) -> Result<(), Fault> {
        self.file.sync().await.map_err(self.fault("sync"))?;
        self.let_go();
        Ok(())
    }

    /// Says, where the next frame will be, that the last one is durable. It is, and there is nothing else to do.
    pub(super) fn mark(&mut self) -> Result<(), Fault> {
        let Some(last) = self.sequence.checked_sub(1) else { return Ok(()) };
        let mark = frame::mark(Kind::Synced, last, self.key);
        self.file.write_at(&mark, self.offset as u64).map_err(self.fault("write"))
    }

    /// Nothing touches the disk on its behalf when this has returned.
    pub(super) async fn finish(&mut self) {
        self.maker.finish().await;
    }

    fn end(&self) -> usize {
        usize::try_from(self.maker.segment_bytes()).unwrap_or(usize::MAX)
    }

    fn fault(&self, during: &'static str) -> impl FnOnce(io::Error) -> Fault + use<G> {
        let slot = self.current.slot.clone();
        move |error| Fault::new(during, &slot, &error)
    }

    /// Goes on in another segment. Its header is durable before its first frame is written: a frame in a slot whose
    /// header does not say so is damage.
    async fn turn(&mut self) -> Result<(), Fault> {
        let slot = if self.free.is_empty() { self.maker.spare().await? } else { self.free.remove(0).1 };
        let failed = |during| {
            let slot = slot.clone();
            move |error| Fault::new(during, &slot, &error)
        };
        let file = Arc::new(self.maker.disk().open(&slot).map_err(failed("open"))?);
        let header = self.maker.header(self.next_number, self.sequence);
        file.write_at(&header.encode(), 0).map_err(failed("write"))?;
        file.sync().await.map_err(failed("sync"))?;
        if let Some(last) = self.sequence.checked_sub(1) {
            let mark = frame::mark(Kind::Next, last, self.key);
            self.file.write_at(&mark, self.offset as u64).map_err(self.fault("write"))?;
        }
        self.lock().insert(self.next_number, Arc::clone(&file));
        let current = Older { number: self.next_number, slot, highest: None };
        self.older.push_back(std::mem::replace(&mut self.current, current));
        self.file = file;
        self.offset = segment::HEADER_BYTES;
        self.key = header.key();
        self.next_number = self.next_number.checked_add(1).expect("segments are numbered for a thousand years");
        if self.free.is_empty() {
            self.maker.begin_spare()?;
        }
        Ok(())
    }

    /// Segments whose entries are all purged may be used again, oldest first; more than a few of them are removed.
    fn let_go(&mut self) {
        let first = self.standing.first();
        // The first frame of the current segment has to be durable: those before it are not needed because of it.
        if self.offset == segment::HEADER_BYTES {
            return;
        }
        while let Some(older) = self.older.pop_front_if(|older| older.highest.is_none_or(|highest| highest < first)) {
            self.lock().remove(&older.number);
            self.free.push((older.number, older.slot));
        }
        while self.free.len() > SPARE_SEGMENTS_MAX {
            let (_, slot) = self.free.remove(0);
            // If it stays, the next start finds a slot to use: nothing depends on its going.
            if let Err(error) = self.maker.disk().remove(&slot) {
                tracing::warn!(slot, %error, "a segment that is not needed cannot be removed");
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, Arc<<G::Disk as Disk>::File>>> {
        self.segments.lock().expect("nothing panics while it holds this lock")
    }
}

/// Makes sure that what was read is on the medium: it may have come from the cache of a system whose program was
/// killed, or whose last sync failed and left clean pages that were never written. Only the last frame and the header
/// before it can be in that state, and writing them again makes their pages dirty again.
async fn settle<D: Disk>(
    disk: &D,
    names: &[String],
    files: &[D::File],
    recovered: &Recovered,
) -> Result<(), Unrecoverable> {
    let last = recovered.live.last().expect("a chain has a segment").slot;
    let mut again = vec![(last, 0, segment::HEADER_BYTES)];
    again.extend(recovered.last_frame);
    for (slot, at, length) in again {
        let (file, mut bytes) = (&files[slot], vec![0; length]);
        let failed = || io_error(&names[slot]);
        let read = file.read_at(&mut bytes, at as u64).map_err(failed())?;
        file.write_at(&bytes[..read], at as u64).map_err(failed())?;
        file.sync().await.map_err(failed())?;
    }
    disk.sync_folder(FOLDER).await.map_err(io_error(FOLDER))?;
    disk.sync_folder("").await.map_err(io_error(FOLDER))
}

/// Makes the reserve again that was given up, once there is plenty of space.
pub(super) fn restore_reserve<D: Disk>(disk: &D, bytes: u64) -> io::Result<()> {
    create_reserve(disk, bytes)
}

/// Gives up the reserve: space for what still has to be written. Whether there was one.
pub(super) fn give_up_reserve<D: Disk>(disk: &D) -> io::Result<bool> {
    let there = disk.list("")?.iter().any(|name| name == RESERVE);
    if there {
        disk.remove(RESERVE)?;
    }
    Ok(there)
}
