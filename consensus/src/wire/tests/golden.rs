//! The bytes of every type, in files. A file that is there is never overwritten, not even when asked: its bytes have
//! been released, and what differs from them is wrong. `UPDATE_EXPECT=1` writes those that are missing.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use super::*;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/golden")
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(32) {
        for byte in line {
            write!(text, "{byte:02x}").unwrap();
        }
        text.push('\n');
    }
    text
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// The bytes in the file of that name, which must be the same as these.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = folder().join(name).with_extension("hex");
    if !path.exists() && std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, hex(bytes)).unwrap();
    }
    let text = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; if it is new, UPDATE_EXPECT=1 writes it", path.display()));
    assert_eq!(text, hex(bytes), "{name}: released bytes have changed; see the rules in consensus/src/wire.rs");
    unhex(&text)
}

#[test]
fn every_type_has_its_bytes() {
    for (name, request) in examples::requests() {
        let bytes = golden(name, &encode_request(&envelope(), &request).unwrap());
        assert_eq!(decode_request(&bytes).unwrap(), (envelope(), request), "{name}");
    }
    for (name, answer) in examples::answers() {
        let bytes = golden(name, &encode_answer(&envelope(), &answer).unwrap());
        assert_eq!(decode_answer(&bytes).unwrap(), (envelope(), answer), "{name}");
    }
    let meta = examples::meta();
    let bytes = golden("stored-meta", &encode_meta(&meta).unwrap());
    assert_eq!(decode_meta(&bytes).unwrap(), meta);
    let membership = meta.last_membership;
    let bytes = golden("stored-membership", &encode_membership(&membership).unwrap());
    assert_eq!(decode_membership(&bytes).unwrap(), membership);
}

/// The first number of a payload is its variant: the examples have all of them, or one was added without an example.
#[test]
fn no_variant_is_forgotten() {
    let tag = |frame: &[u8]| u32::from_le_bytes(payload(frame)[..4].try_into().unwrap());
    let requests = examples::requests().into_values().map(|request| encode_request(&envelope(), &request).unwrap());
    let answers = examples::answers().into_values().map(|answer| encode_answer(&envelope(), &answer).unwrap());
    let request_tags: BTreeSet<u32> = requests.map(|frame| tag(&frame)).collect();
    let answer_tags: BTreeSet<u32> = answers.map(|frame| tag(&frame)).collect();
    for tags in [&request_tags, &answer_tags] {
        assert!(tags.iter().copied().eq(0..tags.len() as u32), "{tags:?}");
    }
    let unknown = |result: Result<(), WireError>| {
        let Err(WireError::Malformed(why)) = result else { panic!("{result:?}") };
        assert!(why.contains("variant"), "{why}");
    };
    let next = (request_tags.len() as u32).to_le_bytes();
    unknown(decode_request(&resealed(1, &next)).map(|_| ()));
    let next = (answer_tags.len() as u32).to_le_bytes();
    unknown(decode_answer(&resealed(2, &next)).map(|_| ()));
}

#[test]
fn no_file_is_left_over() {
    let mut names: BTreeSet<String> = ["stored-meta", "stored-membership"].map(str::to_owned).into();
    names.extend(examples::requests().into_keys().chain(examples::answers().into_keys()).map(str::to_owned));
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(names.contains(name), "{name}: bytes that nothing reads any more were released once");
    }
}
