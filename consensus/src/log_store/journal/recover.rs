//! From the bytes of all segments to what the log was, or to where it is damaged. Pure: it reads and decides, and what
//! follows from it others do.
//!
//! Frames are numbered without a gap, and frame n + 1 is written only after the sync of frame n has returned. So one
//! frame at most can be incomplete after a crash, the last one. Where frame n is not valid, and nothing anywhere says
//! that it ever was on the medium, it was torn and had not been acknowledged: the log ends before it. What says so is a
//! frame or a mark with a number that was written later. Then data is gone that somebody was promised: the log is
//! damaged, and no use to anybody who votes.
//!
//! What stays undetectable: damage to the last frame when neither a mark nor a frame behind it had reached the medium;
//! the loss of the newest segments as files, when the mark in the segment before them had not; an old image of the
//! whole directory (others see that: who has it is behind what he has acknowledged).

use std::borrow::Cow;
use std::io;

use super::frame::{self, Key, Kind};
use super::{FORMAT, segment};
use crate::identity::Incarnation;
use crate::log_store::record::{self, Record, Standing};
use crate::log_store::register::{Place, Register};
use crate::mutant::{self, Mutant};

/// The files of a journal.
pub(crate) trait Slots {
    /// Their names, in any order that stays.
    fn names(&self) -> &[String];

    /// How long the `nth` is.
    ///
    /// # Errors
    /// What a disk says.
    fn size(&self, nth: usize) -> io::Result<u64>;

    /// All bytes of the `nth`, or only so many from its beginning.
    ///
    /// # Errors
    /// What a disk says.
    fn bytes(&mut self, nth: usize, most: usize) -> io::Result<Cow<'_, [u8]>>;
}

/// Numbers of frames and of segments are below these, or nobody has counted them: one is added to them for ever.
const SEQUENCE_MAX: u64 = u64::MAX / 2;
const NUMBER_MAX: u32 = u32::MAX / 2;

/// Where a journal is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file} is damaged at offset {offset}: {why}")]
pub struct Damage {
    /// The file.
    pub file: String,
    /// The offset in it.
    pub offset: u64,
    /// What is wrong there.
    pub why: String,
}

/// Why there is nothing to go on with.
#[derive(Debug, thiserror::Error)]
pub enum Unrecoverable {
    /// Data is gone or wrong that had been synced.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// It is the log of another life.
    #[error("it belongs to incarnation {0}")]
    OtherIncarnation(Incarnation),
    /// A file cannot be read.
    #[error("read {0}: {1}")]
    Io(String, #[source] io::Error),
}

/// A segment that holds something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) number: u32,
    pub(crate) slot: usize,
    /// The highest index of an entry in it.
    pub(crate) highest: Option<u64>,
}

/// What the log was.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recovered {
    pub(in crate::log_store) standing: Standing,
    pub(in crate::log_store) register: Register,
    /// The segments, oldest first. The last one is written on.
    pub(crate) live: Vec<Live>,
    /// Slots that may be used again, with the number of their last use, lowest first.
    pub(crate) free: Vec<(u32, usize)>,
    /// Bytes of each file.
    pub(crate) segment_bytes: u64,
    /// Where in the last segment the next frame goes.
    pub(crate) offset: usize,
    /// Its number.
    pub(crate) sequence: u64,
    /// The number of the next segment.
    pub(crate) next_number: u32,
    /// The last frame, as slot, offset and bytes: the only one of which nobody knows whether it was synced.
    pub(crate) last_frame: Option<(usize, usize, usize)>,
    /// An incomplete frame was cut off.
    pub(crate) torn: bool,
    /// Of the last segment.
    pub(super) key: Key,
}

/// Reads a journal.
pub(crate) fn recover(slots: &mut dyn Slots, incarnation: Incarnation) -> Result<Recovered, Unrecoverable> {
    let heads = heads(slots, incarnation)?;
    let chain = chain(slots, &heads)?;
    let mut replay = Replay::new(Key::new(incarnation, None));
    let mut live: Vec<Live> = Vec::new();
    let mut end = segment::HEADER_BYTES;
    for (position, &slot) in chain.iter().enumerate() {
        let head = heads[slot].expect("a segment of the chain has a header");
        let name = slots.names()[slot].clone();
        if let Some(before) = position.checked_sub(1).filter(|_| head.first != replay.next) {
            if mutant::is(Mutant::DamageCutLikeTail) {
                break;
            }
            let why = format!("frame {} is not valid, and {name} begins with frame {}", replay.next, head.first);
            return Err(damage(slots, chain[before], end, why));
        }
        replay.begin(slot, &head);
        let bytes = whole(slots, slot)?;
        match replay.segment(&bytes) {
            Ok(offset) => end = offset,
            Err((offset, why)) => return Err(Damage { file: name, offset: offset as u64, why }.into()),
        }
        live.push(Live { number: head.number, slot, highest: replay.highest });
    }
    let last = live.last().expect("a chain has a segment").slot;
    let torn = if mutant::is(Mutant::DamageCutLikeTail) { false } else { judge(slots, &replay, &heads, &live, end)? };
    replay.complete().map_err(|why| damage(slots, live[0].slot, segment::HEADER_BYTES, why))?;
    if replay.next > SEQUENCE_MAX {
        return Err(damage(slots, last, end, format!("frame {} was never reached", replay.next)));
    }
    let used: Vec<_> = live.iter().map(|live| live.slot).collect();
    let number = |slot: usize| heads[slot].map_or(0, |head| head.number);
    let mut free: Vec<_> = (0..heads.len()).filter(|s| !used.contains(s)).map(|slot| (number(slot), slot)).collect();
    free.sort_unstable();
    let highest = (0..heads.len()).map(number).max().expect("there are slots");
    Ok(Recovered {
        standing: replay.standing,
        register: replay.register,
        segment_bytes: heads[last].expect("a segment of the chain has a header").bytes,
        live,
        free,
        offset: end,
        sequence: replay.next,
        next_number: highest + 1,
        last_frame: replay.last_frame,
        torn,
        key: replay.key,
    })
}

fn damage(slots: &dyn Slots, slot: usize, offset: usize, why: String) -> Unrecoverable {
    Damage { file: slots.names()[slot].clone(), offset: offset as u64, why }.into()
}

fn whole(slots: &mut dyn Slots, slot: usize) -> Result<Cow<'_, [u8]>, Unrecoverable> {
    let name = slots.names()[slot].clone();
    slots.bytes(slot, usize::MAX).map_err(|error| Unrecoverable::Io(name, error))
}

/// The headers of all slots that have one. Sizes are right after this.
fn heads(slots: &mut dyn Slots, mine: Incarnation) -> Result<Vec<Option<segment::Header>>, Unrecoverable> {
    let mut heads = Vec::new();
    for slot in 0..slots.names().len() {
        let name = slots.names()[slot].clone();
        let bytes = slots.bytes(slot, segment::HEADER_BYTES).map_err(|error| Unrecoverable::Io(name, error))?;
        heads.push(segment::Header::decode(&bytes));
    }
    let Some(known) = heads.iter().flatten().next().copied() else {
        return Err(damage(slots, 0, 0, "no segment has a header".to_owned()));
    };
    for (slot, head) in heads.iter().enumerate() {
        let head = head.unwrap_or(known);
        if head.format > FORMAT {
            return Err(damage(slots, slot, 8, format!("format {} is newer than this program", head.format)));
        }
        if head.incarnation != mine {
            return Err(Unrecoverable::OtherIncarnation(head.incarnation));
        }
        let name = slots.names()[slot].clone();
        let size = slots.size(slot).map_err(|error| Unrecoverable::Io(name, error))?;
        if size < segment::BYTES_MIN {
            let why = format!("it has {size} bytes, too few for anything");
            return Err(Damage { file: slots.names()[slot].clone(), offset: size, why }.into());
        }
        if head.bytes != size || size != known.bytes || u32::try_from(size).is_err() {
            let why = format!("it has {size} bytes and was made with {}", known.bytes);
            return Err(Damage { file: slots.names()[slot].clone(), offset: size, why }.into());
        }
    }
    Ok(heads)
}

/// The slots whose numbers end with the highest and have no gap, oldest first. What is below a gap was freed: whether
/// something is missing shows when everything is read.
fn chain(slots: &dyn Slots, heads: &[Option<segment::Header>]) -> Result<Vec<usize>, Unrecoverable> {
    let numbered = heads.iter().enumerate().filter_map(|(slot, head)| head.map(|head| (head.number, slot)));
    let mut used: Vec<_> = numbered.filter(|(number, _)| *number > 0).collect();
    used.sort_unstable_by(|a, b| b.cmp(a));
    let Some(&(highest, first)) = used.first() else {
        return Err(damage(slots, 0, 0, "no segment was ever used".to_owned()));
    };
    if highest > NUMBER_MAX {
        return Err(damage(slots, first, 12, format!("segment {highest} was never reached")));
    }
    if let Some(twice) = used.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(damage(slots, twice[0].1, 12, format!("there is another segment {}", twice[0].0)));
    }
    let unbroken = used.iter().zip(0..).take_while(|((number, _), back)| *number == highest - back);
    let mut chain: Vec<_> = unbroken.map(|((_, slot), _)| *slot).collect();
    chain.reverse();
    Ok(chain)
}

/// Looks for anything that was written after the frame that is not valid at `end`. Says whether there was a torn one.
fn judge(
    slots: &mut dyn Slots,
    replay: &Replay,
    heads: &[Option<segment::Header>],
    live: &[Live],
    end: usize,
) -> Result<bool, Unrecoverable> {
    let last = live.last().expect("a chain has a segment").slot;
    let names = slots.names().to_vec();
    let later = |slot: usize, offset: usize, sequence: u64| {
        let why =
            format!("frame {} is not valid, and frame {sequence} in {} was written later", replay.next, names[slot]);
        Unrecoverable::from(Damage { file: names[last].clone(), offset: offset as u64, why })
    };
    let bytes = whole(slots, last)?;
    let mut from = end;
    let mut torn = false;
    if let Some(head) = frame::Header::at(&bytes, end, replay.key) {
        if head.kind == Kind::Batch && head.sequence == replay.next {
            // Its header arrived. Whatever its payload looks like is only what somebody wanted to be kept.
            torn = true;
            from = end.saturating_add(frame::bytes(head.payload_bytes));
        } else if head.kind == Kind::Next && head.sequence.checked_add(1) == Some(replay.next) {
            let why = "the log went on in another segment, which is missing".to_owned();
            return Err(Damage { file: names[last].clone(), offset: end as u64, why }.into());
        }
    }
    if let Some((_, sequence)) = replay.late(&bytes, from, replay.key) {
        return Err(later(last, end, sequence));
    }
    drop(bytes);
    for slot in (0..names.len()).filter(|slot| live.iter().all(|live| live.slot != *slot)) {
        let key = heads[slot].map_or(replay.key.unsalted(), |head| head.key());
        if let Some((_, sequence)) = replay.late(&whole(slots, slot)?, segment::HEADER_BYTES, key) {
            return Err(later(slot, end, sequence));
        }
    }
    Ok(torn)
}

/// The log as far as it has been read.
struct Replay {
    /// Of the segment being read.
    key: Key,
    standing: Standing,
    register: Register,
    /// Entries up to here were in segments that are gone. All of them must turn out purged or truncated.
    absent: u64,
    /// The number of the next frame.
    next: u64,
    /// The segment being read.
    slot: usize,
    number: u32,
    highest: Option<u64>,
    started: bool,
    last_frame: Option<(usize, usize, usize)>,
}

impl Replay {
    const fn new(key: Key) -> Self {
        Self {
            key,
            standing: Standing { vote: None, committed: None, purged: None, last: None },
            register: Register::starting(0),
            absent: 0,
            next: 0,
            slot: 0,
            number: 0,
            highest: None,
            started: false,
            last_frame: None,
        }
    }

    fn begin(&mut self, slot: usize, head: &segment::Header) {
        if !self.started {
            self.next = head.first;
        }
        (self.slot, self.number, self.highest, self.key) = (slot, head.number, None, head.key());
    }

    /// Reads the frames of a segment, up to the first that is not valid: its offset. An error is damage.
    fn segment(&mut self, bytes: &[u8]) -> Result<usize, (usize, String)> {
        let mut at = segment::HEADER_BYTES;
        while let Some(head) = frame::Header::at(bytes, at, self.key) {
            if head.kind != Kind::Batch || head.sequence != self.next {
                break;
            }
            let Some((payload, whole)) = head.payload(bytes, at) else { break };
            let taken = frame::bytes(payload.len());
            if at + taken + frame::HEADER_BYTES > bytes.len() {
                return Err((at, "a frame leaves no room for the mark behind it".to_owned()));
            }
            if !whole && !mutant::is(Mutant::TornTailAccepted) {
                break;
            }
            match self.batch(payload, at) {
                Err(_) if !whole => break,
                result => result.map_err(|why| (at, why))?,
            }
            self.last_frame = Some((self.slot, at, taken));
            self.next = self.next.checked_add(1).ok_or((at, "its number is the last one there is".to_owned()))?;
            at += taken;
        }
        Ok(at)
    }

    fn batch(&mut self, payload: &[u8], frame_at: usize) -> Result<(), String> {
        let mut rest = payload;
        if frame_at == segment::HEADER_BYTES {
            let (record, taken) = record::decode(rest).map_err(|malformed| malformed.to_string())?;
            self.restated(&record)?;
            rest = &rest[taken..];
        }
        while !rest.is_empty() {
            let (record, taken) = record::decode(rest).map_err(|malformed| malformed.to_string())?;
            if matches!(record, Record::Standing(_)) {
                return Err("a segment begins in the middle of another".to_owned());
            }
            self.standing.apply(&record).map_err(|impossible| impossible.to_string())?;
            let offset = frame_at + frame::HEADER_BYTES + (payload.len() - rest.len());
            self.place(&record, &rest[..taken], offset)?;
            rest = &rest[taken..];
        }
        Ok(())
    }

    /// The first record of a segment: it begins the log, or says again what is known.
    fn restated(&mut self, record: &Record) -> Result<(), String> {
        let Record::Standing(standing) = record else {
            return Err("a segment does not begin with how things stood".to_owned());
        };
        if !self.started {
            self.standing = standing.clone();
            self.register = Register::starting(standing.next());
            self.absent = standing.next();
            self.started = true;
        } else if *standing != self.standing {
            return Err("a segment begins with something else than the one before ended with".to_owned());
        }
        Ok(())
    }

    fn place(&mut self, record: &Record, bytes: &[u8], offset: usize) -> Result<(), String> {
        match record {
            Record::Append(log_id) => {
                let narrow = |number: usize| u32::try_from(number).map_err(|_| "a segment is too long".to_owned());
                let (offset, length) = (narrow(offset)?, narrow(bytes.len())?);
                let place = Place { crc: crc32c::crc32c(bytes), segment: self.number, offset, bytes: length };
                self.register.push(log_id.index, place);
                self.highest = self.highest.max(Some(log_id.index));
            }
            Record::Truncate(_) => {
                self.register.truncate(self.standing.next());
                self.absent = self.absent.min(self.standing.next());
            }
            Record::Purge(_) => self.register.purge(self.standing.first()),
            Record::Vote(_) | Record::Committed(_) | Record::Standing(_) => {}
        }
        Ok(())
    }

    /// Everything has been read: are all entries there?
    fn complete(&self) -> Result<(), String> {
        let first = self.standing.first();
        if self.absent > first {
            return Err(format!("entries {first} to {} were in a segment that is missing", self.absent - 1));
        }
        Ok(())
    }

    /// The first thing from an offset on that was written after the frame that should come next.
    fn late(&self, bytes: &[u8], from: usize, key: Key) -> Option<(usize, u64)> {
        (from..bytes.len()).step_by(frame::ALIGN).find_map(|at| {
            let head = frame::Header::at(bytes, at, key)?;
            (head.sequence >= self.next).then_some((at, head.sequence))
        })
    }
}
