//! Appends to a log and says what is durable, until it is stopped from outside: for tests that pull the plug.
//!
//! `appender DIRECTORY append` prints the index of each entry once it is durable. `appender DIRECTORY check` opens the
//! log, reads all of it, and prints the lowest and the highest index there is, or why it is refused.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "what it finds out it prints, and it stops at once if not"
)]

#[path = "../tests/log_support/mod.rs"]
mod log_support;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log_support::{Chance, ME, Real, append, entry, last, log_id};
use mgmt_consensus::disk::files::Files;
use mgmt_consensus::log_store::index::tree::Tree;
use mgmt_consensus::log_store::{LogStore, OpenError, Options};
use openraft::AsyncRuntime as _;
use openraft::impls::TokioRuntime;
use openraft::storage::{RaftLogReader as _, RaftLogStorage as _};

/// Entries that are not purged.
const KEPT: u64 = 400;

/// What an entry carries: nobody else's is like it.
fn command(index: u64) -> Vec<u8> {
    let length = usize::try_from(Chance(index).below(900)).unwrap();
    format!("entry {index} ").into_bytes().into_iter().cycle().take(16 + length).collect()
}

fn options(directory: &Path) -> Options {
    let index = Arc::new(Tree::new(directory.join("log.sled")));
    Options { segment_bytes: 256 << 10, reserve_bytes: 1 << 20, ..Options::new(index) }
}

async fn open(directory: &Path) -> Result<LogStore<Real>, OpenError> {
    let disk = Files::open(directory).unwrap();
    match LogStore::open(disk.clone(), ME, options(directory)).await {
        Err(OpenError::Missing) => Ok(LogStore::create(disk, ME, options(directory)).await.unwrap()),
        opened => opened,
    }
}

async fn run(directory: &Path) {
    let mut log = open(directory).await.unwrap();
    let mut index = last(&log).await.map_or(0, |last| last.index + 1);
    loop {
        let batch = 1 + Chance(index).below(8);
        let entries = (index..index + batch).map(|index| entry(1, index, command(index)));
        if append(&log, entries.collect()).await.is_err() {
            return;
        }
        index += batch;
        // Said only now. Who reads it may count on it.
        println!("{}", index - 1);
        std::io::stdout().flush().unwrap();
        if index % 64 < batch && index > KEPT && log.purge(log_id(1, index - KEPT)).await.is_err() {
            return;
        }
    }
}

async fn check(directory: &Path) {
    let mut log = match open(directory).await {
        Ok(log) => log,
        Err(why) => return println!("refused: {why}"),
    };
    let state = log.get_log_state().await.unwrap();
    let entries = log.try_get_log_entries(..).await.unwrap();
    let first = state.last_purged_log_id.map_or(0, |log_id| log_id.index + 1);
    let mut next = first;
    for found in entries {
        assert_eq!(found, entry(1, next, command(next)));
        next += 1;
    }
    assert_eq!(state.last_log_id.map_or(0, |log_id| log_id.index + 1), next);
    println!("{first} {next}");
    log.stop().await.unwrap();
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let directory = PathBuf::from(&arguments[1]);
    TokioRuntime::new(2).block_on(async {
        match arguments[2].as_str() {
            "append" => run(&directory).await,
            "check" => check(&directory).await,
            other => panic!("append or check, not {other}"),
        }
    });
}
