//! Makes the checksums of a segment right, whatever it holds: for fuzzing, which would never get behind them by chance.

use super::{frame, segment};
use crate::identity::Incarnation;

/// Makes a segment's header one of this incarnation and of the file's size, and the checksums of all frames right, as
/// far as one can be found behind the other. What they say stays.
pub(in crate::log_store) fn reseal(file: &mut [u8], incarnation: Incarnation) {
    let size = file.len() as u64;
    let Some(head) = file.first_chunk_mut::<{ segment::HEADER_BYTES }>() else { return };
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let long = |at: usize| u64::from(word(at)) | (u64::from(word(at + 4)) << 32);
    let (first, salt) = (long(32), long(48));
    let header = segment::Header { format: word(8), number: word(12), incarnation, first, bytes: size, salt };
    head.copy_from_slice(&header.encode());
    let key = header.key();
    let mut at = segment::HEADER_BYTES;
    while let Some(taken) = frame::reseal(&mut file[at.min(size as usize)..], key) {
        at += taken;
    }
}
