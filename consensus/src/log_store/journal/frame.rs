//! One frame: the records of one batch under one number and one checksum.
//!
//! ```text
//! 0   u32  bytes of the payload
//! 4   u32  CRC32C of the payload
//! 8   u64  sequence: one more than that of the frame before, for ever
//! 16  u32  kind: 'B', a batch; 'S', a mark: frame `sequence` is on the medium;
//!          'N', a mark that says so too, and that the log goes on in the next segment
//! 20  u64  salt of this use of the segment
//! 28  u32  CRC32C of the incarnation and of the 28 bytes above
//! 32       payload, and zeros up to a multiple of 8
//! ```
//!
//! All numbers are little endian. The header's CRC covers the payload's, so both together cover everything. The
//! incarnation is part of it so that nothing another log has written is ever taken for ours. The salt is drawn for each
//! use of a segment and leaves this host never, so that nothing a member wants to be kept can look like a frame: what
//! it holds lies in segments that are used again, and what looks like a later frame there is damage.

use crate::identity::Incarnation;

/// Bytes before the payload; also the size of a mark.
pub(super) const HEADER_BYTES: usize = 32;
/// What the checksum of the header covers.
const CHECKED_BYTES: usize = 28;
/// Frames begin at multiples of this.
pub(super) const ALIGN: usize = 8;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Records.
    Batch,
    /// A mark: the frame with this sequence has been synced.
    Synced,
    /// A mark: it has, and there is a segment after this one.
    Next,
}

impl Kind {
    const fn code(self) -> u32 {
        match self {
            Self::Batch => b'B' as u32,
            Self::Synced => b'S' as u32,
            Self::Next => b'N' as u32,
        }
    }

    const fn of(code: u32) -> Option<Self> {
        match code.to_le_bytes() {
            [b'B', 0, 0, 0] => Some(Self::Batch),
            [b'S', 0, 0, 0] => Some(Self::Synced),
            [b'N', 0, 0, 0] => Some(Self::Next),
            _ => None,
        }
    }
}

/// A header whose checksum holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) sequence: u64,
    pub(super) payload_bytes: usize,
    payload_crc: u32,
}

/// How many bytes a frame with this payload takes.
pub(super) const fn bytes(payload: usize) -> usize {
    (HEADER_BYTES + payload).next_multiple_of(ALIGN)
}

/// What is the same in all frames of one use of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// What every header's checksum begins with.
    seed: u32,
    /// `None` where it is not known: any will do.
    salt: Option<u64>,
}

impl Key {
    /// That of a log's segment, in the use with this salt.
    pub(super) fn new(incarnation: Incarnation, salt: Option<u64>) -> Self {
        Self { seed: crc32c::crc32c(&incarnation.0.to_le_bytes()), salt }
    }

    /// That of a segment of the same log whose header cannot be read.
    pub(super) const fn unsalted(self) -> Self {
        Self { salt: None, ..self }
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

impl Header {
    /// Reads the header at an offset; `None` if there is none.
    pub(super) fn at(bytes: &[u8], offset: usize, key: Key) -> Option<Self> {
        // Cheapest first: this is asked at every multiple of 8 behind the end of the log.
        if !matches!(bytes.get(offset.checked_add(16)?)?, b'B' | b'S' | b'N') {
            return None;
        }
        let head = bytes.get(offset..offset.checked_add(HEADER_BYTES)?)?;
        let kind = Kind::of(word(head, 16))?;
        let salt = u64::from_le_bytes(head[20..28].try_into().expect("eight bytes"));
        let checked = crc32c::crc32c_append(key.seed, &head[..CHECKED_BYTES]);
        if key.salt.is_some_and(|own| own != salt) || checked != word(head, CHECKED_BYTES) {
            return None;
        }
        Some(Self {
            kind,
            sequence: u64::from_le_bytes(head[8..16].try_into().expect("eight bytes")),
            payload_bytes: usize::try_from(word(head, 0)).ok()?,
            payload_crc: word(head, 4),
        })
    }

    /// What the frame whose header stands there carries, and whether its checksum holds; `None` if it does not fit.
    pub(super) fn payload<'a>(&self, bytes: &'a [u8], offset: usize) -> Option<(&'a [u8], bool)> {
        let start = offset + HEADER_BYTES;
        let payload = bytes.get(start..start.checked_add(self.payload_bytes)?)?;
        Some((payload, crc32c::crc32c(payload) == self.payload_crc))
    }
}

/// Fills in the header of a frame that was built with room for it in front, and pads it.
pub(super) fn seal(frame: &mut Vec<u8>, kind: Kind, sequence: u64, key: Key) {
    let payload = frame.len() - HEADER_BYTES;
    let crc = crc32c::crc32c(&frame[HEADER_BYTES..]);
    frame[0..4].copy_from_slice(&u32::try_from(payload).expect("a frame fits into a segment").to_le_bytes());
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    frame[8..16].copy_from_slice(&sequence.to_le_bytes());
    frame[16..20].copy_from_slice(&kind.code().to_le_bytes());
    frame[20..28].copy_from_slice(&key.salt.unwrap_or_default().to_le_bytes());
    let head = crc32c::crc32c_append(key.seed, &frame[..CHECKED_BYTES]);
    frame[CHECKED_BYTES..HEADER_BYTES].copy_from_slice(&head.to_le_bytes());
    frame.resize(bytes(payload), 0);
}

/// A mark.
pub(super) fn mark(kind: Kind, sequence: u64, key: Key) -> Vec<u8> {
    let mut frame = vec![0; HEADER_BYTES];
    seal(&mut frame, kind, sequence, key);
    frame
}

/// Makes the checksums of a frame at the front right; how many bytes it takes. `None` if it does not fit.
#[cfg(feature = "testing")]
pub(super) fn reseal(bytes: &mut [u8], key: Key) -> Option<usize> {
    let head = bytes.get(..HEADER_BYTES)?;
    let (kind, length) = (Kind::of(word(head, 16))?, usize::try_from(word(head, 0)).ok()?);
    let payload = bytes.get(HEADER_BYTES..HEADER_BYTES.checked_add(length)?)?;
    let crc = crc32c::crc32c(payload);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes[20..28].copy_from_slice(&key.salt.unwrap_or_default().to_le_bytes());
    let head = crc32c::crc32c_append(key.seed, &bytes[..CHECKED_BYTES]);
    bytes[CHECKED_BYTES..HEADER_BYTES].copy_from_slice(&head.to_le_bytes());
    (kind == Kind::Batch).then(|| self::bytes(length))
}
