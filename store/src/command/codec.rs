//! How bytes are made: bincode inside a frame of our own, with a kind, a version, a length and a checksum. Here, and
//! nowhere else in this crate, bincode is named.
//!
//! What comes in is hostile until it is read. Nothing is allocated by a number that was merely claimed: text and bytes
//! are borrowed from the input, and lists grow as their items are found.

use std::fmt;
use std::marker::PhantomData;

use bincode::Options;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::outcome::Refusal;

/// kind u8, version u8, length u32, crc32c u32 over all else; little endian.
const HEAD: usize = 10;
/// Where the checksum lies.
const CHECKSUM: std::ops::Range<usize> = 6..HEAD;

/// What a frame holds. The numbers are stored and never change; each kind has versions of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Command = 1,
    Request = 2,
    Outcome = 3,
    Peer = 16,
    Token = 17,
    Lock = 18,
    Manifest = 19,
    Number = 20,
    Section = 32,
}

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Well formed, but by a version of the program that this one is older than.
    #[error("{0}")]
    Unknown(String),
    /// Not to be read.
    #[error("{0}")]
    Refused(#[from] Refusal),
}

/// Not to be read.
pub(super) const MALFORMED: DecodeError = DecodeError::Refused(Refusal::Malformed);

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().reject_trailing_bytes()
}

/// The bytes of a value, bare.
pub(super) fn bare<T: Serialize>(value: &T) -> Vec<u8> {
    options().serialize(value).expect("our types are of known lengths, and memory takes any number of bytes")
}

/// The bytes of a value in a frame.
pub(super) fn seal<T: Serialize>(kind: Kind, version: u8, value: &T) -> Vec<u8> {
    let mut bytes = vec![0; HEAD];
    options().serialize_into(&mut bytes, value).expect("our types are of known lengths, and a vector takes all bytes");
    let length = u32::try_from(bytes.len() - HEAD).expect("limits hold down everything that is stored or sent");
    bytes[0] = kind as u8;
    bytes[1] = version;
    bytes[2..6].copy_from_slice(&length.to_le_bytes());
    let checksum = checksum(&bytes);
    bytes[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// How many bytes a frame has that begins so; `None` if it is cut off within its head.
pub(super) fn frame_len(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(2..6)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(length)).ok()?.checked_add(HEAD)
}

/// What is in a frame, after its checksum was found right. `known` is the highest version this program knows.
pub(super) fn open(kind: Kind, known: u8, bytes: &[u8]) -> Result<&[u8], DecodeError> {
    if bytes.len() < HEAD || frame_len(bytes) != Some(bytes.len()) || bytes[0] != kind as u8 {
        return Err(MALFORMED);
    }
    let stored = u32::from_le_bytes(bytes[CHECKSUM].try_into().map_err(|_| MALFORMED)?);
    if stored != checksum(bytes) {
        return Err(MALFORMED);
    }
    match bytes[1] {
        0 => Err(MALFORMED),
        version if version > known => Err(DecodeError::Unknown(format!("version {version} of {kind:?} is unknown"))),
        _ => Ok(&bytes[HEAD..]),
    }
}

/// The value that bare bytes are. None of them may be left.
pub(super) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    options().with_limit(bytes.len() as u64).deserialize(bytes).map_err(|_| MALFORMED)
}

fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..CHECKSUM.start]), &frame[HEAD..])
}

/// Bytes, borrowed from what they are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blob<'a>(pub(super) &'a [u8]);

impl Serialize for Blob<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Blob<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Self)
    }
}

/// A list of at most `MAX` items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct List<T, const MAX: usize>(pub(super) Vec<T>);

impl<T: Serialize, const MAX: usize> Serialize for List<T, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for item in &self.0 {
            list.serialize_element(item)?;
        }
        list.end()
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Items<T, MAX> {
            type Value = List<T, MAX>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX} items")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let claimed = seq.size_hint().unwrap_or_default();
                if claimed > MAX {
                    return Err(A::Error::invalid_length(claimed, &self));
                }
                // What is claimed is not yet there: the list grows with what is found.
                let mut items = Vec::with_capacity(claimed.min(8));
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(List(items))
            }
        }
        deserializer.deserialize_seq(Items(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_whole_or_refused() {
        let frame = seal(Kind::Number, 1, &7u64);
        assert_eq!(parse::<u64>(open(Kind::Number, 1, &frame).unwrap()), Ok(7));
        for bit in 0..frame.len() * 8 {
            let mut bent = frame.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(Kind::Number, 1, &bent), Err(MALFORMED), "bit {bit}");
        }
        for cut in 0..frame.len() {
            assert_eq!(open(Kind::Number, 1, &frame[..cut]), Err(MALFORMED), "cut at {cut}");
        }
        assert_eq!(open(Kind::Lock, 1, &frame), Err(MALFORMED), "another kind");
        let newer = seal(Kind::Number, 2, &7u64);
        assert!(matches!(open(Kind::Number, 1, &newer), Err(DecodeError::Unknown(_))));
    }

    #[test]
    fn lengths_that_lie() {
        for claimed in [9, 1 << 20, u64::MAX / 2, u64::MAX] {
            let mut bytes = claimed.to_le_bytes().to_vec();
            bytes.extend([1; 16]);
            assert_eq!(parse::<List<u64, 8>>(&bytes), Err(MALFORMED));
            assert_eq!(parse::<Blob<'_>>(&bytes), Err(MALFORMED));
            assert_eq!(parse::<&str>(&bytes), Err(MALFORMED));
        }
    }
}
