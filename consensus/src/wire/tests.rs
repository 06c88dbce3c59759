//! Round trips, golden files, and what is refused.

use bytes::Bytes;
use proptest::prelude::*;

use super::frame::{self, Kind, OVERHEAD};
use super::message::Refusal;
use super::*;
use crate::limits::{APPEND_ENTRIES_MAX, COMMAND_BYTES_MAX, SNAPSHOT_CHUNK_BYTES_MAX, WHY_BYTES_MAX};
use crate::types::{Blob, Entry, Payload};

mod any;
mod examples;
mod golden;
mod raft;

fn envelope() -> Envelope {
    Envelope { cluster: ClusterId(0xc1), from: 7, incarnation: Incarnation(0x1a), to: 9 }
}

/// A frame whose checksums are right, whatever its payload says.
fn resealed(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = encode_request(&envelope(), &Request::ReadIndex).unwrap()[..OVERHEAD - 8].to_vec();
    frame[3] = kind;
    let at = frame.len() - 4;
    frame[at..].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    frame.extend(checksum(&frame).to_le_bytes());
    frame.extend(payload);
    frame.extend(checksum(payload).to_le_bytes());
    frame
}

/// The payload of a frame.
fn payload(frame: &[u8]) -> &[u8] {
    &frame[OVERHEAD - 4..frame.len() - 4]
}

proptest! {
    #[test]
    fn requests_come_back_as_they_were(envelope in any::envelope(), request in any::request()) {
        let bytes = encode_request(&envelope, &request).unwrap();
        prop_assert_eq!(decode_request(&bytes).unwrap(), (envelope, request));
        prop_assert_eq!(decode_answer(&bytes), Err(WireError::Kind(1)));
    }

    #[test]
    fn answers_come_back_as_they_were(envelope in any::envelope(), answer in any::answer()) {
        let bytes = encode_answer(&envelope, &answer).unwrap();
        prop_assert_eq!(decode_answer(&bytes).unwrap(), (envelope, answer));
        prop_assert_eq!(decode_request(&bytes), Err(WireError::Kind(2)));
    }

    #[test]
    fn what_is_stored_comes_back_as_it_was(meta in any::meta(), membership in any::stored_membership()) {
        prop_assert_eq!(decode_meta(&encode_meta(&meta).unwrap()).unwrap(), meta.clone());
        prop_assert_eq!(decode_membership(&encode_membership(&membership).unwrap()).unwrap(), membership.clone());
        prop_assert!(decode_meta(&encode_membership(&membership).unwrap()).is_err());
        prop_assert!(decode_membership(&encode_meta(&meta).unwrap()).is_err());
    }

    #[test]
    fn any_bytes_are_an_error_or_a_message(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(decode_request(&bytes).is_err() && decode_answer(&bytes).is_err());
        // The same behind good checksums: what still decodes can be written again and says the same.
        if let Ok((envelope, request)) = decode_request(&resealed(1, &bytes)) {
            let again = encode_request(&envelope, &request).unwrap();
            prop_assert_eq!(decode_request(&again).unwrap(), (envelope, request));
        }
        if let Ok((envelope, answer)) = decode_answer(&resealed(2, &bytes)) {
            let again = encode_answer(&envelope, &answer).unwrap();
            prop_assert_eq!(decode_answer(&again).unwrap(), (envelope, answer));
        }
        prop_assert!(decode_meta(&bytes).is_err() || decode_membership(&bytes).is_err());
    }

    /// Lengths, tags and options overwritten in good messages, behind good checksums.
    #[test]
    fn altered_messages_never_panic(request in any::request(), at in any::<prop::sample::Index>(), with in any::<u64>()) {
        let frame = encode_request(&envelope(), &request).unwrap();
        let mut payload = payload(&frame).to_vec();
        let at = at.index(payload.len());
        for (byte, with) in payload[at..].iter_mut().zip(with.to_le_bytes()) {
            *byte = with;
        }
        if let Ok((_, request)) = decode_request(&resealed(1, &payload)) {
            prop_assert!(request.check().is_ok());
        }
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    for (name, request) in examples::requests() {
        let frame = encode_request(&envelope(), &request).unwrap();
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_request(&flipped).is_err(), "{name}, bit {bit}");
        }
    }
}

#[test]
fn every_cut_and_every_addition_is_refused() {
    for (name, answer) in examples::answers() {
        let frame = encode_answer(&envelope(), &answer).unwrap();
        for end in 0..frame.len() {
            assert!(decode_answer(&frame[..end]).is_err(), "{name} cut at {end}");
        }
        let mut more = frame.to_vec();
        more.push(0);
        let wanted = WireError::Length { wanted: frame.len(), is: frame.len() + 1 };
        assert_eq!(decode_answer(&more), Err(wanted), "{name}");
        let mut inner = payload(&frame).to_vec();
        inner.push(0);
        assert!(
            matches!(decode_answer(&resealed(2, &inner)), Err(WireError::Malformed(_))),
            "{name}, a byte left over"
        );
    }
}

/// Every eight bytes of every example say the largest number there is, and others that would hurt if believed.
#[test]
fn hostile_lengths_are_refused() {
    for (name, request) in examples::requests() {
        let frame = encode_request(&envelope(), &request).unwrap();
        let good = payload(&frame);
        for at in 0..good.len().saturating_sub(7) {
            for hostile in [u64::MAX, u64::MAX / 2, 1 << 40, FRAME_BYTES_MAX as u64, good.len() as u64] {
                let mut bad = good.to_vec();
                bad[at..at + 8].copy_from_slice(&hostile.to_le_bytes());
                if let Ok((_, other)) = decode_request(&resealed(1, &bad)) {
                    assert!(other.check().is_ok(), "{name} at {at}");
                }
            }
        }
    }
    let mut frame = encode_request(&envelope(), &Request::ReadIndex).unwrap().to_vec();
    frame[OVERHEAD - 12..OVERHEAD - 8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(decode_request(&frame), Err(WireError::Checksum(Part::Header)));
    let sum = checksum(&frame[..OVERHEAD - 8]);
    frame[OVERHEAD - 8..OVERHEAD - 4].copy_from_slice(&sum.to_le_bytes());
    let wanted = OVERHEAD + u32::MAX as usize;
    assert_eq!(decode_request(&frame), Err(WireError::Length { wanted, is: frame.len() }));
}

#[test]
fn what_is_not_ours_is_told_apart() {
    let good = encode_request(&envelope(), &Request::Standing).unwrap().to_vec();
    let mut other = good.clone();
    other[0] = b'M';
    assert_eq!(decode_request(&other), Err(WireError::Magic));
    let mut newer = good;
    newer[2] = 2;
    assert_eq!(decode_request(&newer), Err(WireError::Version(2)));
    assert_eq!(decode_request(b"GET / HTTP/1.1\r\n"), Err(WireError::Length { wanted: OVERHEAD, is: 16 }));
    assert_eq!(decode_request(&[b'G'; 100]), Err(WireError::Magic));
}

fn command(bytes: usize) -> Bytes {
    vec![1; bytes].into()
}

fn append(entries: Vec<Entry>) -> Request {
    Request::Append(Append { vote: examples::vote(3, 1), prev: None, entries, commit: None })
}

fn entry(payload: Payload) -> Entry {
    Entry { log_id: examples::id(3, 1, 4), payload }
}

#[test]
fn the_largest_of_everything_fits() {
    let fits = |request: &Request| {
        let bytes = encode_request(&envelope(), request).unwrap();
        assert_eq!(&decode_request(&bytes).unwrap().1, request);
    };
    fits(&Request::Propose { command: command(COMMAND_BYTES_MAX), deadline: std::time::Duration::from_millis(1) });
    fits(&Request::SnapshotChunk { transfer: 1, offset: 0, piece: command(SNAPSHOT_CHUNK_BYTES_MAX) });
    fits(&append(vec![entry(Payload::Normal(Blob(command(COMMAND_BYTES_MAX))))]));
    fits(&append(vec![entry(Payload::Normal(Blob(command(256)))); APPEND_ENTRIES_MAX as usize]));
    let meta = examples::largest_meta();
    assert_eq!(decode_meta(&encode_meta(&meta).unwrap()).unwrap(), meta);
    fits(&Request::SnapshotOffer { vote: examples::vote(3, 1), meta, transfer: 1, bytes: u64::MAX });
}

#[test]
fn what_is_too_large_is_refused_on_either_side() {
    let too_much = |request: &Request| {
        let error = encode_request(&envelope(), request).unwrap_err();
        assert!(matches!(error, WireError::TooMuch { .. }), "{error}");
        // From somebody who does not look before he writes.
        if let Ok(bytes) = frame::seal(Kind::Request, &envelope(), &v1::RequestV1::from(request)) {
            assert_eq!(decode_request(&bytes), Err(error));
        }
    };
    let deadline = std::time::Duration::from_millis(1);
    too_much(&Request::Propose { command: command(COMMAND_BYTES_MAX + 1), deadline });
    too_much(&Request::SnapshotChunk { transfer: 1, offset: 0, piece: command(SNAPSHOT_CHUNK_BYTES_MAX + 1) });
    too_much(&append(vec![entry(Payload::Blank); APPEND_ENTRIES_MAX as usize + 1]));
    too_much(&append(vec![entry(Payload::Normal(Blob(command(COMMAND_BYTES_MAX)))); 4]));
    let host = "h".repeat(254);
    too_much(&Request::Admit { peer: crate::PeerId(1), incarnation: Incarnation(1), host, replaces: None });
    let long = Answer::Refused { why: "w".repeat(WHY_BYTES_MAX + 1) };
    assert!(matches!(encode_answer(&envelope(), &long), Err(WireError::TooMuch { .. })));
    assert!(encode_answer(&envelope(), &Refusal::Refused("ü".repeat(WHY_BYTES_MAX)).into()).is_ok());
}

#[test]
fn a_voter_that_is_no_member_is_refused() {
    let frame = encode_request(&envelope(), &examples::requests()["request-append-membership"]).unwrap();
    let good = payload(&frame).to_vec();
    let mut refused = 0;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        refused += usize::from(matches!(
            decode_request(&resealed(1, &bad)),
            Err(WireError::Malformed(why)) if why.contains("not found") || why.contains("NodeNotFound")
        ));
    }
    assert!(refused > 0, "no voter was made a stranger");
}

#[test]
fn numbers_that_nobody_can_count_on_from_are_refused() {
    use crate::limits::NUMBER_MAX;
    let told = |term, index| {
        let id = Some(examples::id(term, 1, index));
        let answer = Answer::Append(Appended::Until(id));
        let request =
            Request::Append(Append { vote: examples::vote(5, 1), prev: id, entries: Vec::new(), commit: None });
        let meta = SnapshotMeta { last_log_id: id, ..examples::meta() };
        [
            encode_answer(&envelope(), &answer).err(),
            encode_request(&envelope(), &request).err(),
            encode_meta(&meta).err(),
        ]
    };
    assert_eq!(told(NUMBER_MAX, NUMBER_MAX), [None, None, None]);
    for (term, index, what) in [(u64::MAX, 7, "term"), (7, u64::MAX, "log index"), (7, NUMBER_MAX + 1, "log index")] {
        let is = if what == "term" { term } else { index };
        for error in told(term, index) {
            assert_eq!(error, Some(WireError::TooHigh { what, is }));
        }
    }
    // What was not written by us is refused as well.
    let good = encode_request(&envelope(), &Request::Vote(ballot(5))).unwrap();
    let mut payload = payload(&good).to_vec();
    payload[4..12].copy_from_slice(&u64::MAX.to_le_bytes());
    let hostile = decode_request(&resealed(1, &payload));
    assert_eq!(hostile, Err(WireError::TooHigh { what: "term", is: u64::MAX }));
}

fn ballot(term: u64) -> Ballot {
    Ballot { vote: examples::vote(term, 1), last: None, transfer: false }
}
