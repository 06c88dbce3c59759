//! One segment: a file of fixed size that is made once and written over again and again.
//!
//! Its header is the first sector, written and synced before the first frame of each use:
//!
//! ```text
//! 0   8 bytes  "mgmtjrnl"
//! 8   u32      format
//! 12  u32      number of this use; 0: never used
//! 16  u128     incarnation
//! 32  u64      sequence of its first frame
//! 40  u64      bytes of the file
//! 48  u64      salt of this use
//! 56  u32      CRC32C of the 56 bytes above
//! ```

use crate::identity::Incarnation;

use super::FORMAT;
use super::frame::Key;

const MAGIC: &[u8; 8] = b"mgmtjrnl";
/// The sector of the header: it arrives whole or not at all.
pub(super) const HEADER_BYTES: usize = 512;
/// With less there is no room for how things stand, a vote and a mark, and whoever writes relies on that.
pub(super) const BYTES_MIN: u64 = 1024;

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) format: u32,
    pub(super) number: u32,
    pub(super) incarnation: Incarnation,
    pub(super) first: u64,
    pub(super) bytes: u64,
    pub(super) salt: u64,
}

impl Header {
    pub(super) const fn new(number: u32, incarnation: Incarnation, first: u64, bytes: u64, salt: u64) -> Self {
        Self { format: FORMAT, number, incarnation, first, bytes, salt }
    }

    /// What its frames have in common.
    pub(super) fn key(&self) -> Key {
        Key::new(self.incarnation, Some(self.salt))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(self.format.to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.incarnation.0.to_le_bytes());
        bytes.extend(self.first.to_le_bytes());
        bytes.extend(self.bytes.to_le_bytes());
        bytes.extend(self.salt.to_le_bytes());
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes.resize(HEADER_BYTES, 0);
        bytes
    }

    /// Reads it; `None` if this is not a header.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (fields, rest) = bytes.split_at_checked(56)?;
        let crc = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?);
        if &fields[..8] != MAGIC || crc32c::crc32c(fields) != crc {
            return None;
        }
        Some(Self {
            format: u32::from_le_bytes(fields[8..12].try_into().ok()?),
            number: u32::from_le_bytes(fields[12..16].try_into().ok()?),
            incarnation: Incarnation(u128::from_le_bytes(fields[16..32].try_into().ok()?)),
            first: u64::from_le_bytes(fields[32..40].try_into().ok()?),
            bytes: u64::from_le_bytes(fields[40..48].try_into().ok()?),
            salt: u64::from_le_bytes(fields[48..56].try_into().ok()?),
        })
    }
}
