//! Replays what fuzzing has found, and more of that kind: every file of every corpus and every seed through its target,
//! as it is, cut, and with bits changed; and what numbers that lie cost in memory.
//!
//! With `UPDATE_EXPECT=1` seeds that are not in a corpus yet are written there, for libFuzzer to begin with.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[path = "fuzz/seeds.rs"]
mod seeds;
#[path = "fuzz/targets.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, reason = "the other half is for libFuzzer")]
mod targets;

use targets::{TARGETS, Target};

/// Corpora that are replayed elsewhere, and where.
const ELSEWHERE: [(&str, &str); 1] = [("graph", "src/assemble/tests/hostile.rs")];
/// All of them together: they are cloned by everybody.
const CORPUS_BYTES_MAX: u64 = 300 << 10;
/// Cases made of one input, and of one that takes longer.
const MUTATIONS: usize = 120;
const MUTATIONS_OF_LONG: usize = 40;
/// What reading may take for each byte that is there, and besides.
const MEMORY_FACTOR: u64 = 8;
const MEMORY_BYTES: u64 = 64 << 10;
/// All that one child reads.
const MEMORY_INPUTS_BYTES_MAX: usize = 1 << 20;
/// As `statm` counts, on the machines that this is built for.
const PAGE_BYTES: u64 = 4096;
/// Says to a child what to read: a target and the number of a lie, or [`GREED`].
const CHILD: &str = "MGMT_FUZZ_CHILD";
/// A decoder that believes what it is told: it must be caught, or the others prove nothing.
const GREED: &str = "greed";

fn home() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

fn target(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("there is no target {name}"))
}

/// The files of a corpus, in the order of their names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = home().join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{target} has no corpus: {error}"));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect()
}

/// Numbers from a seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % (end.max(1) as u64)).unwrap()
    }

    /// Some bytes with something wrong in them.
    fn spoil(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if bytes.is_empty() || self.below(4) == 0 {
            bytes.truncate(self.below(bytes.len()));
            return bytes;
        }
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(3) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => {
                    let extreme = [0_u64, 1, 1 << 20, 1 << 32, 1 << 63, u64::MAX][self.below(6)].to_le_bytes();
                    let length = [1, 4, 8][self.below(3)].min(bytes.len() - at);
                    bytes[at..at + length].copy_from_slice(&extreme[..length]);
                }
                _ => {
                    let (from, length) = (self.below(bytes.len()), self.below(40));
                    let piece = bytes[from..(from + length).min(bytes.len())].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        bytes
    }
}

/// Says which input it was if the target panics: the bytes are in the message, ready to become a file of the corpus.
fn check(target: &Target, from: &str, bytes: &[u8]) {
    if std::panic::catch_unwind(|| (target.check)(bytes)).is_err() {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{} fails on what was made of {from}: {hex}", target.name);
    }
}

#[test]
fn every_target_has_a_corpus_and_every_corpus_a_target() {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        for (target, name, bytes) in seeds::seeds().into_iter().filter(|(_, name, _)| !is_one_of_many_lies(name)) {
            fs::create_dir_all(home().join(target)).unwrap();
            fs::write(home().join(target).join(name), bytes).unwrap();
        }
    }
    let folders: BTreeSet<_> =
        fs::read_dir(home()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    let names = TARGETS.iter().map(|target| target.name).chain(ELSEWHERE.map(|(name, _)| name));
    assert_eq!(folders, names.map(str::to_owned).collect());
    let mut bytes = 0;
    for folder in &folders {
        let files = corpus(folder);
        assert!(files.len() >= 3, "the corpus of {folder} has been lost");
        bytes += files.iter().map(|(_, file)| file.len() as u64).sum::<u64>();
    }
    assert!(bytes <= CORPUS_BYTES_MAX, "all corpora together have {bytes} bytes: minimise them");
    let driver = |target: &Target| {
        let path = home().with_file_name("fuzz_targets").join(target.name).with_extension("rs");
        assert!(path.is_file(), "libFuzzer has no way to {}", target.name);
    };
    TARGETS.iter().for_each(driver);
}

/// Of the lies, one count of each is enough in the corpus.
fn is_one_of_many_lies(name: &str) -> bool {
    ["-80000000", "-ffffffff", "-10000000000", "-8000000000000000", "-ffffffffffffffff"]
        .iter()
        .any(|end| name.ends_with(end))
}

#[test]
fn nothing_in_the_corpora_fails_any_more_nor_anything_like_it() {
    let mut inputs: Vec<(Target, String, Vec<u8>)> = Vec::new();
    for target in TARGETS {
        inputs.extend(corpus(target.name).into_iter().map(|(name, bytes)| (*target, name, bytes)));
    }
    inputs.extend(seeds::seeds().into_iter().map(|(name, seed, bytes)| (target(name), seed, bytes)));
    let mut cases = 0;
    for (nth, (target, from, bytes)) in inputs.iter().enumerate() {
        check(target, from, bytes);
        let mut chance = Chance(nth as u64);
        let mutations = if bytes.len() > 1024 { MUTATIONS_OF_LONG } else { MUTATIONS };
        for _ in 0..mutations {
            let spoilt = chance.spoil(bytes);
            check(target, from, &spoilt);
        }
        cases += 1 + mutations;
    }
    assert!(cases > 10_000, "only {cases} cases");
}

/// What a line of `/proc/self/statm` says of the address space, in bytes.
fn address_space() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    pages * PAGE_BYTES
}

/// Reads with no more memory than said: what needs more ends the process.
fn within(bytes: u64, read: impl FnOnce()) {
    let before = getrlimit(Resource::As);
    let most = address_space() + bytes.next_multiple_of(PAGE_BYTES) + PAGE_BYTES;
    setrlimit(Resource::As, Rlimit { current: Some(most), ..before }).unwrap();
    read();
    setrlimit(Resource::As, before).unwrap();
}

/// The child's side: reads what it is told, each within what its length allows. Everything is in one piece of memory,
/// so that nothing lies about that was given back.
fn read_all(name: &str) {
    let (target, mut all) = (target(name), Vec::with_capacity(MEMORY_INPUTS_BYTES_MAX));
    io::stdin().read_to_end(&mut all).unwrap();
    let mut rest = &all[..];
    while let Some((length, after)) = rest.split_first_chunk() {
        let (bytes, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        rest = after;
        // What ends the process says nothing; this is the last that is heard of it.
        io::stderr()
            .write_all(format!("{} bytes: {:x?}\n", bytes.len(), &bytes[..bytes.len().min(48)]).as_bytes())
            .unwrap();
        within(MEMORY_BYTES + MEMORY_FACTOR * bytes.len() as u64, (target.read)(bytes));
    }
}

/// What a child says last, if it ends badly.
fn survives(name: &str, inputs: &[Vec<u8>]) -> Result<(), String> {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([
        "--exact",
        "what_is_read_takes_no_more_memory_than_its_length_allows",
        "--test-threads=1",
        "--nocapture",
    ]);
    for (key, value) in [("ARENA_MAX", "1"), ("MMAP_THRESHOLD_", "16384"), ("TRIM_THRESHOLD_", "0"), ("TOP_PAD_", "0")]
    {
        child.env(format!("MALLOC_{key}"), value);
    }
    let pipes = child.env(CHILD, name).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let frames =
        inputs.iter().flat_map(|bytes| [&u32::try_from(bytes.len()).unwrap().to_le_bytes(), bytes.as_slice()].concat());
    let all: Vec<u8> = frames.collect();
    assert!(all.len() < MEMORY_INPUTS_BYTES_MAX);
    // A child that has ended already says why below.
    drop(stdin.write_all(&all));
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Memory is given as address space, so a limit on that is a limit on what is asked for, touched or not; a child has
/// its own. Its allocator gives back what is freed and keeps nothing in store, or it would answer from there.
#[test]
fn what_is_read_takes_no_more_memory_than_its_length_allows() {
    match std::env::var(CHILD) {
        Ok(name) if name == GREED => return within(MEMORY_BYTES, || drop(std::hint::black_box(vec![0_u8; 128 << 10]))),
        Ok(name) => return read_all(&name),
        Err(_) => {}
    }
    assert!(survives(GREED, &[]).is_err(), "memory is not measured here");
    let mut inputs: BTreeMap<&str, Vec<Vec<u8>>> = BTreeMap::new();
    for (name, _, bytes) in seeds::lies().into_iter().chain(seeds::dense()) {
        inputs.entry(name).or_default().push(bytes);
    }
    assert!(inputs.len() >= 9, "only {:?}", inputs.keys());
    for (name, inputs) in inputs {
        if let Err(last) = survives(name, &inputs) {
            panic!("{name} takes too much memory: {last}");
        }
    }
}
