//! What is asked of the store and what it keeps: requests, commands, outcomes, snapshots, keys, names.

use bytes::Bytes;
use mgmt_consensus::identity::check_host;
use mgmt_consensus::machine::Frozen;
use mgmt_consensus::wire::{checksum, checksum_on};
use mgmt_consensus::{Machine, PeerId};
use mgmt_store::command::{DecodeError, Prefix};
use mgmt_store::host::matches;
use mgmt_store::limits::KEY_BYTES_MAX;
use mgmt_store::{Command, HostName, Key, Keyspace, Origin, Outcome, Request, Role, Space, StoreMachine};

/// Kind, version, length, checksum.
const HEAD: usize = 10;

/// Makes length and checksum of a frame right.
pub fn seal(frame: &mut [u8]) {
    let Some(length) = frame.len().checked_sub(HEAD).and_then(|length| u32::try_from(length).ok()) else { return };
    frame[2..6].copy_from_slice(&length.to_le_bytes());
    let sum = checksum_on(checksum(&frame[..6]), &frame[HEAD..]);
    frame[6..HEAD].copy_from_slice(&sum.to_le_bytes());
}

/// A frame as it is, and one with its checksums made right.
fn both(bytes: &[u8]) -> [Vec<u8>; 2] {
    let mut sealed = bytes.to_vec();
    seal(&mut sealed);
    [bytes.to_vec(), sealed]
}

/// A command in which the request has its checksum made right too.
fn sealed_command(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut frame = bytes.to_vec();
    let host = usize::try_from(u64::from_le_bytes(frame.get(HEAD..HEAD + 8)?.try_into().ok()?)).ok()?;
    // Behind the host: peer, role, time, length of the request.
    let request = host.checked_add(HEAD + 8 + 16 + 1 + 8)?;
    let length = u64::try_from(frame.len().checked_sub(request)?.checked_sub(8)?).ok()?;
    frame[request..request + 8].copy_from_slice(&length.to_le_bytes());
    seal(&mut frame[request + 8..]);
    seal(&mut frame);
    Some(frame)
}

fn origin() -> Origin {
    Origin { host: HostName::parse("boss").expect("a name"), peer: PeerId(1), role: Role::Admin }
}

/// A request that can be read is written as something that reads the same, and what a leader makes of it too.
pub fn request(bytes: &[u8]) {
    for bytes in both(bytes) {
        let attested = Command::attest(&bytes, &origin(), 5);
        let Ok(request) = Request::decode(&bytes) else {
            assert!(attested.is_err(), "what cannot be read does not get into the log");
            continue;
        };
        assert_eq!(Request::decode(&request.encode()), Ok(request.clone()));
        let command = Command::decode(&attested.expect("it can be read")).expect("it was made by this program");
        assert_eq!(command, Command { origin: origin(), at_ms: 5, request });
    }
}

/// The same for a command; and applying it is total: only an unknown version stops a replica.
pub fn command(bytes: &[u8]) {
    let [plain, sealed] = both(bytes);
    for bytes in [Some(plain), Some(sealed), sealed_command(bytes)].into_iter().flatten() {
        let decoded = Command::decode(&bytes);
        if let Ok(command) = &decoded {
            assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(command));
        }
        let (mut keyspace, mut twin, mut events) = (Keyspace::default(), Keyspace::default(), Vec::new());
        let outcome = keyspace.apply_bytes(1, &bytes, &mut events);
        let same = twin.apply_bytes(1, &bytes, &mut Vec::new());
        assert_eq!(outcome.as_ref().ok(), same.as_ref().ok(), "replicas agree");
        assert_eq!(keyspace.digest(), twin.digest(), "replicas agree");
        assert_eq!(outcome.is_err(), matches!(decoded, Err(DecodeError::Unknown(_))), "applying is total");
        if let Ok(outcome) = outcome {
            let refused = Outcome::decode(&outcome).expect("it was made by this program").result.is_err();
            assert!(!refused || events.is_empty(), "what is refused did nothing");
        }
    }
}

/// An outcome that can be read is written as something that reads the same.
pub fn outcome(bytes: &[u8]) {
    for bytes in both(bytes) {
        if let Ok(outcome) = Outcome::decode(&bytes) {
            assert_eq!(Outcome::decode(&outcome.encode()), Ok(outcome));
        }
    }
}

/// The chunks of a state.
pub fn frozen(machine: &StoreMachine) -> Vec<Bytes> {
    let mut frozen = machine.freeze();
    std::iter::from_fn(|| frozen.chunk()).collect()
}

/// A state from chunks, at the highest revision there is.
pub fn restored(chunks: &[Bytes]) -> Option<StoreMachine> {
    let mut machine = StoreMachine::new();
    machine.restore(u64::MAX, &mut chunks.iter().cloned().map(Ok)).ok()?;
    Some(machine)
}

/// The sections of a snapshot with their checksums made right. Their lengths stay: they say where the next one is.
fn sealed_sections(bytes: &[u8]) -> Vec<u8> {
    let mut all = bytes.to_vec();
    let mut rest = &mut all[..];
    while let Some(length) = rest.get(2..6).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes"))) {
        let end = HEAD.saturating_add(length as usize).min(rest.len());
        let (frame, after) = rest.split_at_mut(end);
        seal(frame);
        rest = after;
    }
    all
}

/// Whatever a snapshot says, it is refused, or it is a state: one that comes back from its own snapshot, and that
/// commands can be applied to. How it is cut does not matter.
pub fn snapshot(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), sealed_sections(bytes)] {
        let whole = Bytes::from(bytes);
        let size = 1 + usize::from(whole.first().copied().unwrap_or_default());
        let pieces: Vec<Bytes> = whole.chunks(size).map(Bytes::copy_from_slice).collect();
        let (at_once, in_pieces) = (restored(&[whole]), restored(&pieces));
        assert_eq!(at_once.is_some(), in_pieces.is_some(), "how it is cut does not matter");
        let (Some(machine), Some(other)) = (at_once, in_pieces) else { continue };
        let chunks = frozen(&machine);
        assert_eq!(frozen(&other), chunks, "how it is cut does not matter");
        let again = restored(&chunks).expect("a state comes back from its own snapshot");
        let digest = |machine: &StoreMachine| machine.shared().read(|keyspace| (keyspace.digest(), keyspace.bytes()));
        assert_eq!(digest(&again), digest(&machine));
        assert_eq!(frozen(&again), chunks);
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// A key says where it lies, and its parts make the same key.
pub fn key(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Some(prefix) = Prefix::parse(text) {
        assert!(prefix.as_str() == text && Space::of(text).is_some());
    }
    let Ok(key) = Key::parse(text) else { return };
    assert!(key.as_str() == text && text.len() <= KEY_BYTES_MAX && !text.chars().any(char::is_control));
    assert_eq!(Space::of(text), Some(key.space()));
    assert!(Prefix::parse(text).is_some(), "every key is a prefix");
    let host = key.host().map(|host| HostName::parse(host).expect("the host in a key is one"));
    assert!(host.as_ref().is_none_or(|host| Some(host.as_str()) == key.host()), "in small letters");
    match (key.space(), key.export(), host) {
        (Space::Exports, Some((kind, name)), Some(host)) => {
            assert_eq!(Key::export_of(&host, kind, name), Ok(key.clone()));
        }
        (Space::Exports, None, Some(host)) => assert_eq!(Key::manifest_of(&host), key),
        (Space::Exports, _, None) => panic!("an export without a host"),
        (space, export, host) => assert!(export.is_none() && host.is_some() == (space == Space::Maps)),
    }
}

/// Whether a host matches a pattern, said as simply as can be.
fn fits(pattern: &[u8], host: &[u8]) -> bool {
    // Which beginnings of the host the pattern so far matches.
    let mut reached = vec![false; host.len() + 1];
    reached[0] = true;
    for byte in pattern {
        if *byte == b'*' {
            let first = reached.iter().position(|is| *is).unwrap_or(reached.len());
            reached[first..].fill(true);
        } else {
            for at in (1..reached.len()).rev() {
                reached[at] = reached[at - 1] && host[at - 1] == *byte;
            }
            reached[0] = false;
        }
    }
    reached[host.len()]
}

/// Store and group have the same idea of a host's name, and patterns match as they would if nobody had been clever.
pub fn host_name(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let lowered = text.to_ascii_lowercase();
    assert_eq!(HostName::parse(text).is_ok(), check_host(&lowered).is_ok());
    if let Ok(host) = HostName::parse(text) {
        assert_eq!(host.as_str(), lowered);
    }
    if let Some((pattern, host)) = text.split_once('\n').filter(|_| text.len() < 4096) {
        assert_eq!(matches(pattern, host), fits(pattern.as_bytes(), host.as_bytes()), "{pattern:?} {host:?}");
    }
}

pub fn read_request(bytes: &[u8]) -> Box<dyn FnOnce()> {
    let bytes = Bytes::copy_from_slice(bytes);
    Box::new(move || drop(Request::decode(&bytes)))
}

pub fn read_command(bytes: &[u8]) -> Box<dyn FnOnce()> {
    let bytes = Bytes::copy_from_slice(bytes);
    Box::new(move || drop(Command::decode(&bytes)))
}

pub fn read_outcome(bytes: &[u8]) -> Box<dyn FnOnce()> {
    let bytes = Bytes::copy_from_slice(bytes);
    Box::new(move || drop(Outcome::decode(&bytes)))
}

pub fn read_snapshot(bytes: &[u8]) -> Box<dyn FnOnce()> {
    let bytes = Bytes::copy_from_slice(bytes);
    Box::new(move || drop(restored(&[bytes])))
}

pub fn read_key(bytes: &[u8]) -> Box<dyn FnOnce()> {
    let bytes = Bytes::copy_from_slice(bytes);
    Box::new(move || drop(text(&bytes).map(Key::parse)))
}

pub fn read_host_name(bytes: &[u8]) -> Box<dyn FnOnce()> {
    let bytes = Bytes::copy_from_slice(bytes);
    Box::new(move || drop(text(&bytes).map(HostName::parse)))
}
