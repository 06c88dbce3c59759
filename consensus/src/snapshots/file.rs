//! The bytes of a snapshot's file.
//!
//! ```text
//! header   "mgmtsnap" | format u32 | length of meta u32 | crc32c of all before and of meta u32 | meta
//! chunk    length u32 (never 0) | crc32c u32 of the bytes, going on from the checksum before it | bytes
//! trailer  0 u32 | crc32c u32 of the number of chunks and their bytes in all, going on | chunks u64 | bytes u64
//! ```
//!
//! Integers are little-endian. Nothing follows the trailer.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, DiskFile};
use crate::limits::{META_BYTES_MAX, SNAPSHOT_CHUNK_BYTES_MAX};
use crate::machine::Frozen;
use crate::types::SnapshotMeta;
use crate::wire;

const MAGIC: &[u8; 8] = b"mgmtsnap";
const FORMAT: u32 = 1;
/// Magic, format, length, checksum.
const HEADER_BYTES: usize = 20;
/// Length and checksum in front of a chunk.
const CHUNK_HEADER_BYTES: usize = 8;
/// Length, checksum, number and bytes of chunks.
const TRAILER_BYTES: usize = 24;

/// Writes all of it from the start of an empty file.
pub(super) fn write<D: Disk>(file: &D::File, meta: &SnapshotMeta, frozen: &mut impl Frozen) -> io::Result<()> {
    let meta = wire::encode_meta(meta).map_err(io::Error::other)?;
    let mut header = Vec::with_capacity(HEADER_BYTES + meta.len());
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&FORMAT.to_le_bytes());
    header.extend_from_slice(&u32::try_from(meta.len()).expect("it is short").to_le_bytes());
    let mut sum = wire::checksum_on(wire::checksum(&header), &meta);
    header.extend_from_slice(&sum.to_le_bytes());
    header.extend_from_slice(&meta);
    file.write_at(&header, 0)?;
    let mut at = header.len() as u64;
    let (mut number, mut total) = (0u64, 0u64);
    while let Some(chunk) = frozen.chunk() {
        assert!(!chunk.is_empty() && chunk.len() <= SNAPSHOT_CHUNK_BYTES_MAX, "a chunk has its bounds");
        sum = wire::checksum_on(sum, &chunk);
        let mut piece = Vec::with_capacity(CHUNK_HEADER_BYTES + chunk.len());
        piece.extend_from_slice(&u32::try_from(chunk.len()).expect("it is short").to_le_bytes());
        piece.extend_from_slice(&sum.to_le_bytes());
        piece.extend_from_slice(&chunk);
        file.write_at(&piece, at)?;
        at += piece.len() as u64;
        number += 1;
        total += chunk.len() as u64;
    }
    file.write_at(&trailer(sum, number, total), at)
}

fn trailer(sum: u32, number: u64, total: u64) -> [u8; TRAILER_BYTES] {
    let mut counts = [0; 16];
    counts[..8].copy_from_slice(&number.to_le_bytes());
    counts[8..].copy_from_slice(&total.to_le_bytes());
    let mut trailer = [0; TRAILER_BYTES];
    trailer[4..8].copy_from_slice(&wire::checksum_on(sum, &counts).to_le_bytes());
    trailer[8..].copy_from_slice(&counts);
    trailer
}

/// Reads all of it: what it covers, if every byte is as it was written.
pub(super) fn verify<D: Disk>(file: &Arc<D::File>, bytes: u64) -> io::Result<SnapshotMeta> {
    let mut chunks = Chunks::<D>::of(file.clone(), bytes);
    let meta = chunks.meta()?;
    for chunk in chunks {
        chunk?;
    }
    Ok(meta)
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("damaged: {why}"))
}

/// The chunks of a file in order, each verified. Ends after the first error.
pub struct Chunks<D: Disk> {
    file: Arc<D::File>,
    bytes: u64,
    at: u64,
    sum: u32,
    number: u64,
    total: u64,
    state: State,
    disk: PhantomData<fn() -> D>,
}

#[derive(PartialEq, Eq)]
enum State {
    Header,
    Chunks,
    Ended,
}

impl<D: Disk> Chunks<D> {
    pub(super) fn of(file: Arc<D::File>, bytes: u64) -> Self {
        Self { file, bytes, at: 0, sum: 0, number: 0, total: 0, state: State::Header, disk: PhantomData }
    }

    /// The next so many bytes, which must be there.
    fn take(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        if self.bytes.saturating_sub(self.at) < bytes as u64 {
            return Err(damaged("it ends too early"));
        }
        let mut buffer = vec![0; bytes];
        if self.file.read_at(&mut buffer, self.at)? != bytes {
            return Err(damaged("it ends too early"));
        }
        self.at += bytes as u64;
        Ok(buffer)
    }

    /// Reads the header.
    pub(super) fn meta(&mut self) -> io::Result<SnapshotMeta> {
        self.state = State::Chunks;
        let header = self.take(HEADER_BYTES)?;
        if &header[..8] != MAGIC {
            return Err(damaged("it is no snapshot"));
        }
        let format = number(&header[8..12]);
        if format != FORMAT {
            return Err(damaged(&format!("format {format} is unknown here")));
        }
        let length = number(&header[12..16]) as usize;
        if length > META_BYTES_MAX {
            return Err(damaged("its header is too long"));
        }
        let meta = self.take(length)?;
        self.sum = wire::checksum_on(wire::checksum(&header[..16]), &meta);
        if self.sum != number(&header[16..]) {
            return Err(damaged("the checksum of its header is wrong"));
        }
        wire::decode_meta(&meta).map_err(|error| damaged(&error.to_string()))
    }

    fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        if self.state == State::Header {
            self.meta()?;
        }
        let header = self.take(CHUNK_HEADER_BYTES)?;
        let (length, sum) = (number(&header[..4]) as usize, number(&header[4..]));
        if length == 0 {
            let counts = self.take(TRAILER_BYTES - CHUNK_HEADER_BYTES)?;
            let expected = trailer(self.sum, self.number, self.total);
            let same = expected[4..8] == header[4..] && expected[8..] == counts;
            let complete = same && self.at == self.bytes;
            return if complete { Ok(None) } else { Err(damaged("its end is wrong")) };
        }
        if length > SNAPSHOT_CHUNK_BYTES_MAX {
            return Err(damaged("a chunk is too long"));
        }
        let chunk = self.take(length)?;
        self.sum = wire::checksum_on(self.sum, &chunk);
        if self.sum != sum {
            return Err(damaged(&format!("the checksum of chunk {} is wrong", self.number)));
        }
        self.number += 1;
        self.total += length as u64;
        Ok(Some(chunk.into()))
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

impl<D: Disk> Iterator for Chunks<D> {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == State::Ended {
            return None;
        }
        let chunk = self.chunk().transpose();
        if !matches!(chunk, Some(Ok(_))) {
            self.state = State::Ended;
        }
        chunk
    }
}
