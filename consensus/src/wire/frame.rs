//! The frame around a message, and bincode within it.

use bincode::Options;
use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Envelope, Part, WireError, at_most, checksum};
use crate::identity::{ClusterId, Incarnation};
use crate::limits::FRAME_BYTES_MAX;

const MAGIC: [u8; 2] = *b"mg";
const VERSION: u8 = 1;
/// Magic, version, kind, envelope, length: what the first checksum covers.
const SUMMED: usize = 4 + ENVELOPE + 4;
const ENVELOPE: usize = 16 + 8 + 16 + 8;
const SUM: usize = 4;
const HEADER: usize = SUMMED + SUM;
/// What a frame costs beside its payload.
pub(super) const OVERHEAD: usize = HEADER + SUM;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request = 1,
    Answer = 2,
}

/// A value in a frame.
pub(super) fn seal<T: Serialize>(kind: Kind, envelope: &Envelope, value: &T) -> Result<Bytes, WireError> {
    let most = FRAME_BYTES_MAX - OVERHEAD;
    let size = options(most).serialized_size(value).map_err(|error| too_large_or(&error, most))?;
    let size = usize::try_from(size).expect("it is below the limit just given");
    let mut frame = BytesMut::with_capacity(OVERHEAD + size);
    frame.put_slice(&MAGIC);
    frame.put_u8(VERSION);
    frame.put_u8(kind as u8);
    let Envelope { cluster, from, incarnation, to } = *envelope;
    frame.put_u128_le(cluster.0);
    frame.put_u64_le(from);
    frame.put_u128_le(incarnation.0);
    frame.put_u64_le(to);
    frame.put_u32_le(u32::try_from(size).expect("frames are smaller than that"));
    frame.put_u32_le(checksum(&frame[..SUMMED]));
    let mut payload = frame.split_off(HEADER).writer();
    options(most).serialize_into(&mut payload, value).map_err(|error| too_large_or(&error, most))?;
    let mut payload = payload.into_inner();
    assert_eq!(payload.len(), size, "bincode writes as much as it says");
    payload.put_u32_le(checksum(&payload));
    frame.unsplit(payload);
    Ok(frame.freeze())
}

/// The value in a frame. Nothing is allocated before all of the frame has been checked.
pub(super) fn open<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<(Envelope, T), WireError> {
    at_most("bytes in a frame", bytes.len(), FRAME_BYTES_MAX)?;
    let short = WireError::Length { wanted: OVERHEAD, is: bytes.len() };
    let (header, rest) = bytes.split_at_checked(HEADER).ok_or(short.clone())?;
    if !header.starts_with(&MAGIC) {
        return Err(WireError::Magic);
    }
    if header[2] != VERSION {
        return Err(WireError::Version(header[2]));
    }
    let (summed, sum) = header.split_at(SUMMED);
    if sum != checksum(summed).to_le_bytes() {
        return Err(WireError::Checksum(Part::Header));
    }
    if header[3] != kind as u8 {
        return Err(WireError::Kind(header[3]));
    }
    let length = u32::from_le_bytes(array(header, SUMMED - 4)) as usize;
    let (payload, sum) = rest.split_at_checked(rest.len().saturating_sub(SUM)).ok_or(short)?;
    if payload.len() != length || sum.len() != SUM {
        return Err(WireError::Length { wanted: OVERHEAD + length, is: bytes.len() });
    }
    if sum != checksum(payload).to_le_bytes() {
        return Err(WireError::Checksum(Part::Payload));
    }
    let envelope = Envelope {
        cluster: ClusterId(u128::from_le_bytes(array(header, 4))),
        from: u64::from_le_bytes(array(header, 20)),
        incarnation: Incarnation(u128::from_le_bytes(array(header, 28))),
        to: u64::from_le_bytes(array(header, 44)),
    };
    Ok((envelope, decode(payload, FRAME_BYTES_MAX)?))
}

/// So many bytes from there on.
fn array<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    header[at..at + N].try_into().expect("a header is longer than all of its fields")
}

/// A value without a frame.
pub(super) fn encode<T: Serialize>(value: &T, most: usize) -> Result<Vec<u8>, WireError> {
    options(most).serialize(value).map_err(|error| too_large_or(&error, most))
}

/// A value without a frame.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8], most: usize) -> Result<T, WireError> {
    at_most("bytes", bytes.len(), most)?;
    options(most).deserialize(bytes).map_err(|error| too_large_or(&error, most))
}

/// Numbers of fixed width, so that a size never depends on a value; nothing above the limit; nothing left over.
fn options(most: usize) -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().with_limit(most as u64).reject_trailing_bytes()
}

fn too_large_or(error: &bincode::ErrorKind, most: usize) -> WireError {
    match error {
        bincode::ErrorKind::SizeLimit => WireError::TooMuch { what: "bytes (more than that)", is: most, max: most },
        other => WireError::Malformed(other.to_string()),
    }
}
