//! The log on a real disk beside the least there can be: writing over synced blocks with one `fdatasync` a batch, and
//! appending to a file with one.
//!
//! `cargo bench -p mgmt-consensus --bench journal -- [append|recover] [--dir DIRECTORY]`
//!
//! Disks of shared machines change from minute to minute, so the three take turns, and the ratios are what counts.

#![allow(missing_docs, clippy::disallowed_methods, clippy::print_stdout, reason = "a bench measures and prints")]
#![expect(clippy::unwrap_used, reason = "a bench stops when something is wrong")]

#[path = "../tests/log_support/mod.rs"]
mod log_support;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log_support::{ME, Real, append, entry, log_id};
use mgmt_consensus::disk::files::Files;
use mgmt_consensus::log_store::index::tree::Tree;
use mgmt_consensus::log_store::{LogStore, Options};
use mgmt_consensus::types::Entry;
use openraft::AsyncRuntime as _;
use openraft::impls::TokioRuntime;
use openraft::storage::{RaftLogReader as _, RaftLogStorage as _};

const COMMAND_BYTES: usize = 300;
/// How much each of the three does before it is the next one's turn, and how many turns each has.
const BATCHES: [(usize, usize, usize); 3] = [(1, 50, 12), (64, 25, 10), (1024, 10, 8)];
const RECOVERED: u64 = 1_000_000;
const KEPT: u64 = 5_000;
const OVERWRITTEN_BYTES: u64 = 16 << 20;

fn entries(first: u64, count: usize) -> Vec<Entry> {
    (first..first + count as u64).map(|index| entry(1, index, vec![b'x'; COMMAND_BYTES])).collect()
}

fn options(directory: &Path) -> Options {
    Options::new(Arc::new(Tree::new(directory.join("log.sled"))))
}

/// The floor: the same bytes, written and synced.
struct Bare {
    file: File,
    at: u64,
    /// Where it begins anew; `None`: the file grows.
    end: Option<u64>,
}

impl Bare {
    fn new(path: &Path, end: Option<u64>) -> Self {
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(path).unwrap();
        if let Some(end) = end {
            // As the journal makes its files: reserved, written once, in place.
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, end).unwrap();
            let zeros = vec![0; 1 << 20];
            for at in (0..end).step_by(zeros.len()) {
                file.write_all_at(&zeros, at).unwrap();
                file.sync_data().unwrap();
            }
            file.sync_all().unwrap();
        }
        Self { file, at: 0, end }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.end.is_some_and(|end| self.at + bytes.len() as u64 > end) {
            self.at = 0;
        }
        self.file.write_all_at(bytes, self.at).unwrap();
        self.file.sync_data().unwrap();
        self.at += bytes.len() as u64;
    }

    /// How long each of some writes takes, on a thread that does nothing else: as the log's writer is one. Where others
    /// want the processors too, one that also works for itself would wait for them after every sync.
    fn times(&mut self, bytes: &[u8], ops: usize) -> Vec<Duration> {
        let one = |bare: &mut Self| {
            let start = Instant::now();
            bare.write(bytes);
            start.elapsed()
        };
        std::thread::scope(|scope| scope.spawn(|| (0..ops).map(|_| one(self)).collect()).join()).unwrap()
    }
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[took.len() / 2]
}

async fn compare(directory: &Path) {
    println!("durable append of {COMMAND_BYTES}-byte entries: p50 of a batch, entries a second at that pace");
    println!(
        "{:>6} {:>22} {:>22} {:>22} {:>10} {:>10}",
        "batch", "log", "overwrite", "append", "/overwrite", "/append"
    );
    for (batch, ops, turns) in BATCHES {
        let folder = directory.join(format!("batch-{batch}"));
        std::fs::create_dir(&folder).unwrap();
        let mut log = LogStore::<Real>::create(Files::open(&folder).unwrap(), ME, options(&folder)).await.unwrap();
        let mut over = Bare::new(&folder.join("over"), Some(OVERWRITTEN_BYTES));
        let mut grow = Bare::new(&folder.join("grow"), None);
        let bytes = vec![b'x'; batch * (COMMAND_BYTES + 30) + 24];
        let mut index = 0;
        // Two segments' worth, so that what is measured goes over blocks that have been written.
        while index * 330 < 2 * OVERWRITTEN_BYTES {
            append(&log, entries(index, 4096)).await.unwrap();
            index += 4096;
        }
        log.purge(log_id(1, index - 1)).await.unwrap();
        let mut took: [Vec<Duration>; 3] = Default::default();
        for _ in 0..turns {
            for _ in 0..ops {
                let batch_entries = entries(index, batch);
                let start = Instant::now();
                append(&log, batch_entries).await.unwrap();
                took[0].push(start.elapsed());
                index += batch as u64;
            }
            for (which, bare) in [(1, &mut over), (2, &mut grow)] {
                took[which].append(&mut bare.times(&bytes, ops));
            }
        }
        log.stop().await.unwrap();
        let [log, over, grow] = took.map(|took| median(took).as_secs_f64());
        let cell = |p50: f64| format!("{:.3} ms {:>9.0}/s", p50 * 1e3, batch as f64 / p50);
        let (log_cell, over_cell, grow_cell) = (cell(log), cell(over), cell(grow));
        println!("{batch:>6} {log_cell:>22} {over_cell:>22} {grow_cell:>22} {:>10.2} {:>10.2}", log / over, log / grow);
    }
}

async fn reopen(folder: &Path, what: &str) -> LogStore<Real> {
    let start = Instant::now();
    let mut log = LogStore::<Real>::open(Files::open(folder).unwrap(), ME, options(folder)).await.unwrap();
    let opened = start.elapsed();
    let state = log.get_log_state().await.unwrap();
    let last = state.last_log_id.unwrap().index;
    log.limited_get_log_entries(last.saturating_sub(10), last + 1).await.unwrap();
    println!("{what}: open {:.0} ms, first read after {:.0} ms", ms(opened), ms(start.elapsed()));
    log
}

fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

async fn recover(directory: &Path) {
    let folder = directory.join("recover");
    std::fs::create_dir(&folder).unwrap();
    let start = Instant::now();
    let log = LogStore::<Real>::create(Files::open(&folder).unwrap(), ME, options(&folder)).await.unwrap();
    println!("a new log: {:.0} ms", ms(start.elapsed()));
    let start = Instant::now();
    let mut index = 0;
    while index < RECOVERED {
        append(&log, entries(index, 4096)).await.unwrap();
        index += 4096;
    }
    println!("{index} entries written in {:.1} s", start.elapsed().as_secs_f64());
    log.stop().await.unwrap();
    drop(log);
    let mut log = reopen(&folder, &format!("start with {index} entries")).await;
    log.purge(log_id(1, index - KEPT)).await.unwrap();
    append(&log, entries(index, 1)).await.unwrap();
    log.stop().await.unwrap();
    drop(log);
    reopen(&folder, &format!("start with all but {KEPT} of them purged")).await.stop().await.unwrap();
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (mut parts, mut directory) = (Vec::new(), PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--dir" => directory = arguments.next().expect("--dir DIRECTORY").into(),
            _ => parts.push(argument),
        }
    }
    let scratch = tempfile::Builder::new().prefix("mgmt-journal-").tempdir_in(directory).unwrap();
    let asked = |part: &str| parts.is_empty() || parts.iter().any(|asked| asked == part);
    TokioRuntime::new(2).block_on(async {
        if asked("append") {
            compare(scratch.path()).await;
        }
        if asked("recover") {
            recover(scratch.path()).await;
        }
    });
}
