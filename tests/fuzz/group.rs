//! What members send each other, and what a member writes down: messages, snapshot heads, identity files, records.

use bytes::Bytes;
use mgmt_consensus::identity::{self, Stored};
use mgmt_consensus::log_store::inspect;
use mgmt_consensus::wire::{self, checksum};

/// Bytes of a frame before its payload; the last four of them are their checksum.
const HEADER: usize = 60;

/// A frame with its length and both its checksums made right; it says "mg", whatever it said.
pub fn sealed(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut frame = bytes.to_vec();
    let end = frame.len().checked_sub(4).filter(|end| *end >= HEADER)?;
    frame[..2].copy_from_slice(b"mg");
    frame[52..56].copy_from_slice(&u32::try_from(end - HEADER).ok()?.to_le_bytes());
    let head = checksum(&frame[..56]);
    frame[56..HEADER].copy_from_slice(&head.to_le_bytes());
    let payload = checksum(&frame[HEADER..end]);
    frame[end..].copy_from_slice(&payload.to_le_bytes());
    Some(frame)
}

fn both(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    [Some(bytes.to_vec()), sealed(bytes)].into_iter().flatten()
}

/// A request that can be read is written as something that reads the same.
pub fn wire_request(bytes: &[u8]) {
    for bytes in both(bytes) {
        let Ok((envelope, request)) = wire::decode_request(&bytes) else { continue };
        let again = wire::encode_request(&envelope, &request).expect("what was read is within all bounds");
        assert_eq!(wire::decode_request(&again), Ok((envelope, request)));
        assert!(wire::decode_answer(&bytes).is_err(), "a request is not taken for an answer");
    }
}

/// An answer that can be read is written as something that reads the same.
pub fn wire_answer(bytes: &[u8]) {
    for bytes in both(bytes) {
        let Ok((envelope, answer)) = wire::decode_answer(&bytes) else { continue };
        let again = wire::encode_answer(&envelope, &answer).expect("what was read is within all bounds");
        assert_eq!(wire::decode_answer(&again), Ok((envelope, answer)));
        assert!(wire::decode_request(&bytes).is_err(), "an answer is not taken for a request");
    }
}

/// What describes a snapshot is written as something that reads the same.
pub fn wire_meta(bytes: &[u8]) {
    let Ok(meta) = wire::decode_meta(bytes) else { return };
    let again = wire::encode_meta(&meta).expect("what was read is within all bounds");
    assert!(again.len() <= bytes.len(), "nothing is longer than what it was read from");
    assert_eq!(wire::decode_meta(&again), Ok(meta));
    assert!(wire::decode_membership(bytes).is_err(), "it is not taken for a membership");
}

/// A membership is written as something that reads the same.
pub fn wire_membership(bytes: &[u8]) {
    let Ok(membership) = wire::decode_membership(bytes) else { return };
    let again = wire::encode_membership(&membership).expect("what was read is within all bounds");
    assert!(again.len() <= bytes.len(), "nothing is longer than what it was read from");
    assert_eq!(wire::decode_membership(&again), Ok(membership));
}

/// An identity file with the last line that it should have.
fn signed(bytes: &[u8]) -> Vec<u8> {
    let body = bytes.strip_suffix(b"\n").and_then(|rest| rest.iter().rposition(|byte| *byte == b'\n'));
    let mut file = bytes[..body.map_or(0, |last| last + 1)].to_vec();
    let crc = checksum(&file);
    file.extend(format!("crc = \"{crc:08x}\"\n").into_bytes());
    file
}

/// What is sound is, byte for byte, what would be written.
pub fn identity(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), signed(bytes)] {
        if let Ok(Stored::Sound(identity)) = identity::parse(&bytes) {
            assert_eq!(identity::render(&identity).as_bytes(), bytes);
            assert_eq!(identity::check_host(&identity.host), Ok(()));
        }
    }
}

/// A record that can be read is written as something that reads the same, and never as more.
pub fn record(bytes: &[u8]) {
    if let Some((taken, written)) = inspect::rewritten(bytes) {
        assert!(taken <= bytes.len() && written.len() <= taken, "nothing is longer than what it was read from");
        assert_eq!(inspect::rewritten(&written), Some((written.len(), written.clone())), "and now it stays");
        assert_eq!(inspect::entry(&written), inspect::entry(&bytes[..taken]), "the entry is the same");
    }
    drop(inspect::entry(bytes));
}

pub fn read_request(bytes: &[u8]) -> Box<dyn FnOnce()> {
    let bytes = Bytes::copy_from_slice(bytes);
    Box::new(move || drop(wire::decode_request(&bytes)))
}

pub fn read_answer(bytes: &[u8]) -> Box<dyn FnOnce()> {
    let bytes = Bytes::copy_from_slice(bytes);
    Box::new(move || drop(wire::decode_answer(&bytes)))
}

pub fn read_meta(bytes: &[u8]) -> Box<dyn FnOnce()> {
    let bytes = Bytes::copy_from_slice(bytes);
    Box::new(move || drop(wire::decode_meta(&bytes)))
}

pub fn read_membership(bytes: &[u8]) -> Box<dyn FnOnce()> {
    let bytes = Bytes::copy_from_slice(bytes);
    Box::new(move || drop(wire::decode_membership(&bytes)))
}

pub fn read_identity(bytes: &[u8]) -> Box<dyn FnOnce()> {
    let bytes = Bytes::copy_from_slice(bytes);
    Box::new(move || drop(identity::parse(&bytes)))
}

pub fn read_record(bytes: &[u8]) -> Box<dyn FnOnce()> {
    let bytes = Bytes::copy_from_slice(bytes);
    Box::new(move || drop(inspect::entry(&bytes)))
}
