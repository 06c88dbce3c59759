//! Members of a tar, of whichever of its dialects. Long names and extended headers are put together here, within bounds:
//! the library would believe what they say of their length.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use mgmt_engine::resource::Fault;
use tar::{Archive, Entry, EntryType, Header};

use super::super::member::{PATH_BYTES_MAX, Raw, Sort, refused};
use super::{Take, unreadable};

/// Extended headers of one member: two paths, times, and attributes that nobody wants.
const EXTENDED_BYTES_MAX: u64 = 1 << 20;
/// Of a tar's header.
const BLOCK_BYTES: usize = 512;
const SUM_AT: std::ops::Range<usize> = 148..156;

/// What headers before a member say of it.
#[derive(Debug, Default)]
struct Ahead {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    modified: Option<i64>,
    size: Option<u64>,
    sparse: bool,
}

pub(super) fn members(stream: impl Read, take: Take<'_>) -> Result<(), Fault> {
    let ended = Rc::new(Cell::new(false));
    let mut archive = Archive::new(Marked { stream, ended: Rc::clone(&ended) });
    let mut ahead = Ahead::default();
    for entry in archive.entries().map_err(|error| unreadable(&error))?.raw(true) {
        let mut entry = entry.map_err(|error| if ended.get() { cut() } else { unreadable(&error) })?;
        if !ahead.add(&mut entry)? {
            let raw = std::mem::take(&mut ahead).member(&entry)?;
            take(&raw, &mut entry)?;
        }
    }
    if ended.get() {
        return Err(cut());
    }
    // What is packed has a checksum at its end.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map(drop).map_err(|error| unreadable(&error))
}

fn cut() -> Fault {
    Fault::new("the archive ends without an end mark: it was cut short")
}

/// Whether these are the first bytes of a tar from before there was a magic number: its header has a checksum.
pub(super) fn is_old(head: &[u8]) -> bool {
    let Some(block) = head.get(..BLOCK_BYTES) else { return false };
    let spaces = 8 * u32::from(b' ');
    let sum = |from: &[u8]| from.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let sum = sum(&block[..SUM_AT.start]) + spaces + sum(&block[SUM_AT.end..]);
    let mut header = Header::new_old();
    header.as_mut_bytes().copy_from_slice(block);
    sum > spaces && header.cksum().is_ok_and(|said| said == sum)
}

/// Remembers that there was nothing more to read.
struct Marked<R> {
    stream: R,
    ended: Rc<Cell<bool>>,
}

impl<R: Read> Read for Marked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.ended.set(count == 0 && !buffer.is_empty());
        Ok(count)
    }
}

impl Ahead {
    /// Takes what an entry says of the member after it; `false` if it is a member itself.
    fn add<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<bool, Fault> {
        let names = (PATH_BYTES_MAX + 1) as u64;
        match entry.header().entry_type() {
            EntryType::GNULongName => self.name = Some(ended_by_zero(text(entry, names)?)),
            EntryType::GNULongLink => self.target = Some(ended_by_zero(text(entry, names)?)),
            EntryType::XHeader => self.extend(&text(entry, EXTENDED_BYTES_MAX)?)?,
            // It is about all members that follow, and says nothing that is needed.
            EntryType::XGlobalHeader => drop(text(entry, EXTENDED_BYTES_MAX)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes records of the form `LENGTH KEY=VALUE`.
    fn extend(&mut self, mut records: &[u8]) -> Result<(), Fault> {
        let broken = || Fault::new("an extended header of the archive is broken");
        while !records.is_empty() {
            let space = records.iter().position(|byte| *byte == b' ').ok_or_else(broken)?;
            let length: Option<usize> = std::str::from_utf8(&records[..space]).ok().and_then(|text| text.parse().ok());
            let (record, rest) = length.and_then(|length| records.split_at_checked(length)).ok_or_else(broken)?;
            records = rest;
            let record = record.get(space + 1..).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(broken)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let number = || std::str::from_utf8(value).ok();
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => self.size = Some(number().and_then(|text| text.parse().ok()).ok_or_else(broken)?),
                b"mtime" => self.modified = number().and_then(|text| text.split('.').next()?.parse().ok()),
                _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {}
            }
        }
        Ok(())
    }

    fn member<R: Read>(self, entry: &Entry<'_, R>) -> Result<Raw, Fault> {
        let header = entry.header();
        let name = self.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let wrong = |why: &dyn std::fmt::Display| refused(&name, why);
        let size = header.entry_size().map_err(|error| wrong(&error))?;
        // Who believes the one and who believes the other would see different archives.
        if self.size.is_some_and(|said| said != size) {
            return Err(wrong(&"its two headers disagree about its size, or it has 8 GiB or more"));
        }
        let target = self.target.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let sort = match header.entry_type() {
            _ if self.sparse => Sort::Never("a sparse file, which is not known here"),
            // Very old archives have directories that are only told by the slash at the end.
            EntryType::Regular if name.ends_with(b"/") => Sort::Directory,
            EntryType::Regular | EntryType::Continuous => Sort::File,
            EntryType::Directory => Sort::Directory,
            EntryType::Symlink => Sort::Symlink,
            EntryType::Link => Sort::Hardlink,
            EntryType::Char | EntryType::Block => Sort::Never("a device"),
            EntryType::Fifo => Sort::Never("a pipe"),
            EntryType::GNUSparse => Sort::Never("a sparse file, which is not known here"),
            _ => Sort::Never("of a sort that is not known here"),
        };
        let mode = header.mode().map_err(|error| wrong(&error))?;
        let modified = self.modified.or_else(|| i64::try_from(header.mtime().ok()?).ok());
        Ok(Raw { name, sort, target: target.unwrap_or_default(), mode, modified })
    }
}

/// All of a header's text, if it is not too long.
fn text<R: Read>(entry: &mut Entry<'_, R>, bytes_max: u64) -> Result<Vec<u8>, Fault> {
    if entry.size() > bytes_max {
        return Err(Fault::new(format!("a header of the archive has {} bytes; {bytes_max} is the most", entry.size())));
    }
    let mut text = Vec::new();
    entry.read_to_end(&mut text).map_err(|error| unreadable(&error))?;
    Ok(text)
}

fn ended_by_zero(mut text: Vec<u8>) -> Vec<u8> {
    if text.last() == Some(&0) {
        text.pop();
    }
    text
}
