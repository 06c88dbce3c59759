//! A journal of 64 KiB, cut at every byte, cut to every length, and with every bit flipped: what is accepted is what
//! was there, or what was there before the last frame; everything else is refused.
//!
//! `MGMT_SLOW=1 cargo test --release -p mgmt-consensus --test log_bytes` flips all of them; otherwise one of some.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod log_support;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use log_support::{Disk, Log, ME, append, entry, log_id, run, say, small, vote};
use mgmt_consensus::disk::{Disk as _, DiskFile as _};
use mgmt_consensus::log_store::index::memory::InMemory;
use mgmt_consensus::log_store::inspect::{Contents, recover};
use mgmt_consensus::log_store::{OpenError, Options};
use openraft::storage::RaftLogStorage as _;

const SEGMENT_BYTES: usize = 16 << 10;
/// Of so many flips one is tried, unless all are: no multiple of 8, so that all bits of a byte come up.
const STRIDE: usize = 37;

/// A journal, and everything it has ever been.
struct Journal {
    files: Vec<Vec<u8>>,
    /// The same files before the last slot was used again.
    stale: Vec<Vec<u8>>,
    /// What it was after so many frames.
    states: States,
    /// The file that was written last, and where its last frame and what is behind it begin.
    last: usize,
    frame: usize,
    end: usize,
}

fn files(disk: &Disk) -> Vec<Vec<u8>> {
    let names = disk.list("journal").unwrap();
    let read = |name: &String| {
        let file = disk.open(&format!("journal/{name}")).unwrap();
        let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    };
    names.iter().map(read).collect()
}

fn sized(segment_bytes: usize) -> Options {
    Options { segment_bytes: segment_bytes as u64, ..small(Arc::new(InMemory)) }
}

type States = BTreeMap<u64, Contents>;

fn remember(disk: &Disk, states: &mut States, images: &mut Vec<Vec<Vec<u8>>>) {
    let files = files(disk);
    let contents = recover(&files, ME).unwrap();
    states.insert(contents.frames, Contents { torn: false, ..contents });
    images.push(files);
}

/// Frames of all kinds and many lengths over four files, the last of which is in its second use and ends in the middle.
async fn build() -> Journal {
    let disk = Disk::new(1, 1 << 20);
    let mut log = Log::create(disk.clone(), ME, sized(SEGMENT_BYTES)).await.unwrap();
    let mut states = BTreeMap::new();
    let (mut index, mut images) = (0, Vec::new());
    for round in 0..120_u64 {
        let length = usize::try_from((round * 131) % 1500).unwrap();
        let letter = |n| b'a' + u8::try_from(n).unwrap();
        let one = |n| entry(round / 40, index + n, vec![letter(n); length]);
        let entries: Vec<_> = (0..=round % 3).map(one).collect();
        index += round % 3 + 1;
        append(&log, entries).await.unwrap();
        remember(&disk, &mut states, &mut images);
        match round % 10 {
            3 => log.save_vote(&vote(round)).await.unwrap(),
            5 => {
                log.truncate_after(Some(log_id(round / 40, index - 2))).await.unwrap();
                index -= 1;
            }
            2 | 7 if round > 40 => log.purge(log_id(round / 40, index - 14)).await.unwrap(),
            _ => {}
        }
        remember(&disk, &mut states, &mut images);
    }
    log.stop().await.unwrap();
    let files = files(&disk);
    let frames = recover(&files, ME).unwrap().frames;
    // What was there before the last frame.
    let before = images.iter().rev().find(|image| recover(image, ME).unwrap().frames < frames).unwrap();
    let last = (0..files.len()).find(|nth| files[*nth] != before[*nth]).unwrap();
    let differ = |nth: usize| (0..SEGMENT_BYTES).find(|at| files[nth][*at] != before[nth][*at]).unwrap();
    let mark = files[last]
        .windows(24)
        .rposition(|bytes| bytes[16..20] == *b"S\0\0\0" && bytes[8..16] == (frames - 1).to_le_bytes());
    // Its number is in the first 16 bytes of the header of the file.
    let first_use =
        images.iter().rev().find(|image| image.get(last).is_some_and(|file| file[..64] != files[last][..64]));
    let journal = Journal {
        frame: differ(last) / 8 * 8,
        end: mark.unwrap(),
        stale: first_use.cloned().expect("it is in its second use"),
        states,
        last,
        files,
    };
    assert!(journal.files.len() >= 4, "64 KiB");
    assert_eq!(recover(&journal.files, ME).unwrap(), journal.states[&frames]);
    journal
}

static JOURNAL: LazyLock<Journal> = LazyLock::new(|| run(0, build()));

impl Journal {
    fn frames(&self) -> u64 {
        *self.states.keys().next_back().unwrap()
    }

    /// Nothing wrong is accepted: how many frames were, `None` if it was refused.
    fn judge(&self, files: &[Vec<u8>], what: &dyn Fn() -> String) -> Option<u64> {
        match recover(files, ME) {
            Ok(contents) => {
                let whole = Contents { torn: false, ..contents };
                assert_eq!(Some(&whole), self.states.get(&whole.frames), "{}", what());
                Some(whole.frames)
            }
            Err(OpenError::Damaged(_) | OpenError::OtherIncarnation(_)) => None,
            Err(error) => panic!("{}: {error}", what()),
        }
    }

    /// All bits there are to flip, or some of them.
    fn flips(&self) -> impl Iterator<Item = (usize, usize, u8)> + use<> {
        let all = std::env::var_os("MGMT_SLOW").is_some();
        let stride = if all { 1 } else { STRIDE };
        let bits = self.files.len() * SEGMENT_BYTES * 8;
        say(&format!(
            "{} of {bits} bits are flipped{}",
            bits.div_ceil(stride),
            if all { "" } else { " (MGMT_SLOW=1: all)" }
        ));
        (0..bits)
            .step_by(stride)
            .map(|bit| (bit / 8 / SEGMENT_BYTES, bit / 8 % SEGMENT_BYTES, u8::try_from(bit % 8).unwrap()))
    }
}

#[test]
fn a_file_cut_short_is_refused_at_every_length() {
    let mut files = JOURNAL.files.clone();
    for nth in 0..files.len() {
        let whole = files[nth].clone();
        for length in (0..SEGMENT_BYTES).rev() {
            files[nth].truncate(length);
            assert_eq!(
                JOURNAL.judge(&files, &|| format!("file {nth} of {length} bytes")),
                None,
                "file {nth}, {length}"
            );
        }
        files[nth] = whole;
    }
}

/// From some byte on a file has something else in it: as after a write of which only the front arrived.
fn cut(other: &dyn Fn(usize) -> Vec<u8>) {
    for nth in 0..JOURNAL.files.len() {
        let (mut files, other) = (JOURNAL.files.clone(), other(nth));
        for at in (0..SEGMENT_BYTES).rev() {
            files[nth][at] = other[at];
            let frames = JOURNAL.judge(&files, &|| format!("file {nth} cut at {at}"));
            if nth == JOURNAL.last && at > JOURNAL.frame && at < JOURNAL.end {
                // What the last frame says of itself is gone, and so is the mark.
                assert!(
                    frames.is_some_and(|frames| frames + 1 >= JOURNAL.frames()),
                    "file {nth} cut at {at}: {frames:?}"
                );
            } else if nth != JOURNAL.last {
                assert!(frames.is_none_or(|frames| frames == JOURNAL.frames()), "file {nth} cut at {at}: {frames:?}");
            }
        }
    }
}

#[test]
fn a_file_that_ends_in_zeros_at_any_byte_is_what_it_was_before_or_refused() {
    cut(&|_| vec![0; SEGMENT_BYTES]);
}

#[test]
fn a_file_that_ends_in_what_was_there_before_is_what_it_was_before_or_refused() {
    cut(&|nth| JOURNAL.stale.get(nth).cloned().unwrap_or_else(|| vec![0; SEGMENT_BYTES]));
}

#[test]
fn a_flipped_bit_changes_nothing_or_is_refused() {
    let mut files = JOURNAL.files.clone();
    let mut refused = 0;
    for (nth, at, bit) in JOURNAL.flips() {
        files[nth][at] ^= 1 << bit;
        match JOURNAL.judge(&files, &|| format!("bit {bit} of byte {at} in file {nth}")) {
            None => refused += 1,
            // A flipped mark says nothing, and the frame before it is what it was.
            Some(frames) => assert_eq!(frames, JOURNAL.frames(), "bit {bit} of byte {at} in file {nth}"),
        }
        files[nth][at] ^= 1 << bit;
    }
    say(&format!("{refused} flips were refused, the others changed nothing"));
    assert!(refused > 0);
}

#[test]
fn without_a_mark_a_flipped_bit_may_cost_the_last_frame_and_no_other() {
    let mut files = JOURNAL.files.clone();
    files[JOURNAL.last][JOURNAL.end..JOURNAL.end + 24].fill(0);
    for (nth, at, bit) in JOURNAL.flips() {
        files[nth][at] ^= 1 << bit;
        if let Some(frames) = JOURNAL.judge(&files, &|| format!("bit {bit} of byte {at} in file {nth}"))
            && frames != JOURNAL.frames()
        {
            let inside = nth == JOURNAL.last && (JOURNAL.frame..JOURNAL.end).contains(&at);
            assert!(inside && frames + 1 == JOURNAL.frames(), "bit {bit} of byte {at} in file {nth}: {frames}");
        }
        files[nth][at] ^= 1 << bit;
    }
}

#[test]
fn a_file_that_is_missing_is_refused_or_was_not_needed() {
    for nth in 0..JOURNAL.files.len() {
        let mut files = JOURNAL.files.clone();
        files.remove(nth);
        let frames = JOURNAL.judge(&files, &|| format!("file {nth} is missing"));
        assert!(frames.is_none_or(|frames| frames == JOURNAL.frames()), "file {nth}: {frames:?}");
        assert!(nth != JOURNAL.last || frames.is_none(), "the newest one is missed");
    }
}
