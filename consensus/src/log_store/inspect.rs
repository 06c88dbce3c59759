//! The bytes of a journal, read without a disk: for tests that cut and flip, and for fuzzing.

use std::borrow::Cow;
use std::io;

use bytes::Bytes;

use super::OpenError;
use super::journal::recover::{self, Slots};
use super::journal::reseal;
use super::record::{self, Record};
use crate::identity::Incarnation;
use crate::types::{Entry, LogId, Vote};

/// What a journal amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Frames there were, ever.
    pub frames: u64,
    /// Who was voted for.
    pub vote: Option<Vote>,
    /// The last entry that is purged.
    pub purged: Option<LogId>,
    /// The last entry.
    pub last: Option<LogId>,
    /// The checksums of the entries that are there, in order.
    pub entries: Vec<u32>,
    /// An incomplete frame was cut off.
    pub torn: bool,
}

/// Files in memory.
struct InMemory<'a> {
    names: Vec<String>,
    files: &'a [Vec<u8>],
}

impl Slots for InMemory<'_> {
    fn names(&self) -> &[String] {
        &self.names
    }

    fn size(&self, nth: usize) -> io::Result<u64> {
        Ok(self.files[nth].len() as u64)
    }

    fn bytes(&mut self, nth: usize, most: usize) -> io::Result<Cow<'_, [u8]>> {
        let file = &self.files[nth];
        Ok(Cow::Borrowed(&file[..file.len().min(most)]))
    }
}

/// Reads a journal that consists of these files, of which there is at least one.
///
/// # Errors
/// As opening it would give.
pub fn recover(files: &[Vec<u8>], incarnation: Incarnation) -> Result<Contents, OpenError> {
    let names = (0..files.len()).map(|number| format!("journal/{number:04}")).collect();
    let recovered = recover::recover(&mut InMemory { names, files }, incarnation)?;
    let register = recovered.register;
    Ok(Contents {
        frames: recovered.sequence,
        vote: recovered.standing.vote,
        purged: recovered.standing.purged,
        last: recovered.standing.last,
        entries: (register.first()..register.end()).filter_map(|i| register.get(i)).map(|place| place.crc).collect(),
        torn: recovered.torn,
    })
}

/// Makes all checksums of a journal right, so that what lies behind them is looked at.
pub fn reseal(files: &mut [Vec<u8>], incarnation: Incarnation) {
    files.iter_mut().for_each(|file| reseal::reseal(file, incarnation));
}

/// Reads the record at the front and writes it again: how many bytes were read, and what was written. `None` if there
/// is no record, or it is an entry that carries what cannot be.
#[must_use]
pub fn rewritten(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let (record, taken) = record::decode(bytes).ok()?;
    let mut into = Vec::new();
    match record {
        Record::Append(_) => record::encode_entry(&entry(&bytes[..taken])?, &mut into),
        record => record::encode(&record, &mut into),
    }
    Some((taken, into))
}

/// Reads an entry that these bytes are.
#[must_use]
pub fn entry(bytes: &[u8]) -> Option<Entry> {
    record::decode_entry(&Bytes::copy_from_slice(bytes)).ok()
}
