//! What an archive is by its first bytes, and its members one after the other, whatever it is.
//!
//! Promises: memory stays bounded by what is named here, whatever an archive says of itself; nothing is believed that
//! its name says. Must not know what becomes of the members.

mod tarball;
mod zipped;

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use mgmt_engine::resource::Fault;
use ruzstd::decoding::StreamingDecoder;

use super::member::Raw;

/// What xz may need to decode: `xz -9` needs a quarter of it. zstd refuses windows of more than 100 MiB by itself.
const XZ_MEMORY_KIB_MAX: u32 = 256 << 10;
/// Where a tar says that it is one, and how much is looked at.
const USTAR_AT: usize = 257;
const HEAD_BYTES: u64 = 512;

/// Takes a member, and reads as much of its contents as it wants.
pub(super) type Take<'a> = &'a mut dyn FnMut(&Raw, &mut dyn Read) -> Result<(), Fault>;

/// How an archive is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Tar,
    Gzip,
    Xz,
    Zstd,
    Zip,
}

/// Reads all members of an archive. What `meter` makes of the decoded stream is read in its place.
pub(super) fn members<A: Read + Seek>(mut archive: A, meter: &Meter, take: Take<'_>) -> Result<(), Fault> {
    let format = format(&mut archive)?;
    if format == Format::Zip {
        return zipped::members(BufReader::new(archive), meter, take);
    }
    let archive = BufReader::new(archive);
    match format {
        Format::Gzip => tarball::members(meter.of(MultiGzDecoder::new(archive)), take),
        Format::Xz => tarball::members(meter.of(XzReader::new_mem_limit(archive, true, XZ_MEMORY_KIB_MAX)), take),
        Format::Zstd => tarball::members(meter.of(Zstd { frame: None, next: Some(archive) }), take),
        Format::Tar | Format::Zip => tarball::members(meter.of(archive), take),
    }
}

fn format(archive: &mut (impl Read + Seek)) -> Result<Format, Fault> {
    let mut head = Vec::new();
    archive.by_ref().take(HEAD_BYTES).read_to_end(&mut head).map_err(|error| unreadable(&error))?;
    archive.seek(SeekFrom::Start(0)).map_err(|error| unreadable(&error))?;
    let is_tar = head.get(USTAR_AT..).is_some_and(|at| at.starts_with(b"ustar")) || tarball::is_old(&head);
    Ok(match head.as_slice() {
        [0x1f, 0x8b, ..] => Format::Gzip,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Format::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Format::Zstd,
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Format::Zip,
        _ if is_tar => Format::Tar,
        [b'B', b'Z', b'h', ..] => return Err(Fault::new("bzip2 is not known here; use gzip, xz or zstd")),
        [] => return Err(Fault::new("the archive is empty")),
        _ => return Err(Fault::new("it is no archive: neither tar (plain, or packed by gzip, xz or zstd) nor zip")),
    })
}

/// A failure to read, for people.
pub(super) fn unreadable(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Fault::new("the archive ends too early: it was cut short"),
        _ => Fault::new(format!("cannot read the archive: {error}")),
    }
}

/// Bounds how much is read altogether, and ends the reading when it is told to.
pub(super) struct Meter {
    left: std::cell::Cell<u64>,
    bytes_max: u64,
    stopped: Box<dyn Fn() -> bool>,
}

impl Meter {
    pub(super) fn new(bytes_max: u64, stopped: impl Fn() -> bool + 'static) -> Self {
        Self { left: bytes_max.into(), bytes_max, stopped: Box::new(stopped) }
    }

    /// A stream that is measured.
    fn of<R: Read>(&self, from: R) -> Metered<'_, R> {
        Metered { meter: self, from }
    }
}

/// A stream that is measured.
struct Metered<'m, R> {
    meter: &'m Meter,
    from: R,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.meter.stopped)() {
            return Err(io::Error::other("told to stop"));
        }
        let count = self.from.read(buffer)?;
        let left = self.meter.left.get().checked_sub(count as u64);
        self.meter.left.set(left.ok_or_else(|| {
            io::Error::other(format!("it has more than {} bytes unpacked, which is bytes_max", self.meter.bytes_max))
        })?);
        Ok(count)
    }
}

/// All frames of a zstd stream; each is decoded by itself.
struct Zstd<R: BufRead> {
    frame: Option<StreamingDecoder<R, ruzstd::decoding::FrameDecoder>>,
    next: Option<R>,
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let count = frame.read(buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
                let whole = frame.decoder.get_checksum_from_data();
                if whole.is_some() && whole != frame.decoder.get_calculated_checksum() {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "zstd: the checksum is wrong"));
                }
            }
            if let Some(frame) = self.frame.take() {
                self.next = Some(frame.into_inner());
            }
            let Some(mut next) = self.next.take() else { return Ok(0) };
            if next.fill_buf()?.is_empty() {
                return Ok(0);
            }
            self.frame = Some(StreamingDecoder::new(next).map_err(io::Error::other)?);
        }
    }
}
