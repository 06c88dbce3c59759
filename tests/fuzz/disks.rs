//! What lies on a disk: the journal and the snapshots, on a disk in memory that holds whatever the input says.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use mgmt_consensus::disk::{Disk, DiskFile};
use mgmt_consensus::limits::SNAPSHOT_CHUNK_BYTES_MAX;
use mgmt_consensus::log_store::index::memory::InMemory;
use mgmt_consensus::log_store::inspect::{self, Contents};
use mgmt_consensus::log_store::{LogStore, OpenError, Options};
use mgmt_consensus::machine::Frozen;
use mgmt_consensus::snapshots::{Incoming, Snapshot, Snapshots};
use mgmt_consensus::testing::Simulated;
use mgmt_consensus::types::{Blob, CommittedLeaderId, Entry, LogId, Payload};
use mgmt_consensus::wire::{checksum, checksum_on};
use mgmt_consensus::{Ground, Incarnation};
use openraft::AsyncRuntime;
use openraft::async_runtime::Oneshot;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};

/// The incarnation that journals of a corpus belong to.
pub const ME: Incarnation = Incarnation(7);

type Runtime = <Simulated as Ground>::Runtime;
/// A disk in memory.
pub type Memory = <Simulated as Ground>::Disk;

/// Runs something where time and chance come from a seed.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    Runtime::with_seed(1).block_on(work)
}

/// A disk in memory that has room for whatever a test writes.
pub fn disk() -> Memory {
    Memory::new(1, 64 << 20)
}

/// Small journals, as a corpus has them.
pub fn options(segment_bytes: u64) -> Options {
    Options { segment_bytes, reserve_bytes: 0, room_low_bytes: 0, index: Arc::new(InMemory) }
}

fn put(disk: &Memory, name: &str, bytes: &[u8]) {
    let file = disk.create(name, bytes.len() as u64).expect("the disk is empty and large");
    file.write_at(bytes, 0).expect("the disk is large");
}

/// The files of a journal: the first byte says how many (1 to 4), and the rest is cut into as many of one size.
fn segments(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (count, rest) = bytes.split_first()?;
    let count = usize::from(count % 4) + 1;
    let size = rest.len() / count;
    (size > 0).then(|| rest.chunks_exact(size).take(count).map(<[u8]>::to_vec).collect())
}

/// Whatever a journal says, it is refused, or it can be gone on with: opened, read, written to, opened again.
pub fn journal(bytes: &[u8]) {
    let Some(files) = segments(bytes) else { return };
    let mut sealed = files.clone();
    inspect::reseal(&mut sealed, ME);
    for files in [files, sealed] {
        let Ok(contents) = inspect::recover(&files, ME) else { continue };
        let disk = disk();
        files.iter().enumerate().for_each(|(number, file)| put(&disk, &format!("journal/{number:06}"), file));
        run(goes_on(&disk, files[0].len() as u64, &contents));
    }
}

async fn goes_on(disk: &Memory, segment_bytes: u64, contents: &Contents) {
    let mut log = LogStore::<Simulated>::open(disk.clone(), ME, options(segment_bytes)).await.expect("it recovers");
    let state = log.get_log_state().await.expect("it is open");
    assert_eq!((state.last_log_id, state.last_purged_log_id), (contents.last, contents.purged));
    assert_eq!(log.read_vote().await.expect("it is open"), contents.vote);
    // An entry may carry what nobody can read; then it says so.
    if let Ok(entries) = log.try_get_log_entries(0..u64::MAX).await {
        assert_eq!(entries.len(), contents.entries.len());
    }
    let last = LogId {
        leader_id: CommittedLeaderId { term: u64::MAX, node_id: 1 },
        index: contents.last.map_or(0, |last| last.index.saturating_add(1)),
    };
    let entry = Entry { log_id: last, payload: Payload::Normal(Blob("one more".into())) };
    let (done, told) = <Runtime as AsyncRuntime>::Oneshot::channel();
    let durable = match log.append([entry], IOFlushed::signal(done)).await {
        Ok(()) => told.await.is_ok_and(|written| written.is_ok()),
        Err(_) => false,
    };
    let stopped = log.stop().await;
    drop(log);
    let mut log = match LogStore::<Simulated>::open(disk.clone(), ME, options(segment_bytes)).await {
        Ok(log) => log,
        // What is given may hold frames of later numbers behind its end, under the salt of the segment that is written
        // on. Nobody else knows that salt.
        Err(OpenError::Damaged(damage)) if damage.why.ends_with("was written later") => return,
        Err(error) => panic!("it recovered before and does not now: {error}"),
    };
    let reached = log.get_log_state().await.expect("it is open").last_log_id;
    assert_eq!(reached, if durable { Some(last) } else { contents.last }, "stopped: {stopped:?}");
}

/// Only recovers.
pub fn read_journal(bytes: &[u8]) -> Box<dyn FnOnce()> {
    let Some(files) = segments(bytes) else { return Box::new(|| ()) };
    Box::new(move || drop(inspect::recover(&files, ME)))
}

/// The pieces of a snapshot, to be written again.
struct Pieces(VecDeque<Bytes>);

impl Frozen for Pieces {
    fn chunk(&mut self) -> Option<Bytes> {
        self.0.pop_front()
    }
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(word)).ok()
}

/// A snapshot's file with all checksums made right, as far as one piece can be found behind the other.
fn summed(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut file = bytes.to_vec();
    let mut at = word(&file, 12)?.checked_add(20).filter(|end| *end <= bytes.len())?;
    let mut sum = checksum_on(checksum(&file[..16]), &file[20..at]);
    file[16..20].copy_from_slice(&sum.to_le_bytes());
    let (mut number, mut total) = (0u64, 0u64);
    while let Some(length) = word(&file, at) {
        let from = at + 8;
        if length == 0 && file.len() >= from + 16 {
            file[from..from + 8].copy_from_slice(&number.to_le_bytes());
            file[from + 8..from + 16].copy_from_slice(&total.to_le_bytes());
            sum = checksum_on(sum, &file[from..from + 16]);
            file[at + 4..from].copy_from_slice(&sum.to_le_bytes());
            break;
        }
        let Some(piece) = from.checked_add(length).and_then(|end| file.get(from..end)) else { break };
        sum = checksum_on(sum, piece);
        file[at + 4..from].copy_from_slice(&sum.to_le_bytes());
        (number, total, at) = (number + 1, total + length as u64, from + length);
    }
    Some(file)
}

/// Whatever a snapshot's file says, it is refused, or all of it can be read, written again and received.
pub fn snapshot_file(bytes: &[u8]) {
    for bytes in [Some(bytes.to_vec()), summed(bytes)].into_iter().flatten() {
        let disk = disk();
        put(&disk, "snapshots/1.snapshot", &bytes);
        let found = Snapshots::<Simulated>::new(disk).newest(None).expect("this disk does not fail");
        let Some(snapshot) = found else { continue };
        let pieces: io::Result<VecDeque<Bytes>> = snapshot.chunks().collect();
        let pieces = pieces.expect("it was verified");
        assert!(pieces.iter().all(|piece| (1..=SNAPSHOT_CHUNK_BYTES_MAX).contains(&piece.len())));
        let (again, received) = run(rewritten(&snapshot, &bytes, pieces.clone()));
        assert_eq!((again.meta(), received.meta()), (snapshot.meta(), snapshot.meta()));
        let same: io::Result<VecDeque<Bytes>> = again.chunks().collect();
        assert_eq!(same.expect("it was just written"), pieces);
        assert_eq!(received.piece(0, bytes.len() + 1).expect("it can be read"), bytes);
    }
}

async fn rewritten(
    snapshot: &Snapshot<Memory>,
    bytes: &[u8],
    pieces: VecDeque<Bytes>,
) -> (Snapshot<Memory>, Snapshot<Memory>) {
    let meta = snapshot.meta().clone();
    let snapshots = Snapshots::<Simulated>::new(disk());
    let again = snapshots.write(meta.clone(), Pieces(pieces)).await.expect("the disk is large");
    let other = Snapshots::<Simulated>::new(disk());
    let mut incoming = Incoming::begin(&other, meta, bytes.len() as u64, u64::MAX).expect("the disk is large");
    let (front, back) = bytes.split_at(bytes.len() / 2);
    for (offset, piece) in [(0, front), (front.len() as u64, back)] {
        incoming.piece(offset, &Bytes::copy_from_slice(piece)).expect("the disk is large");
    }
    (again, incoming.finish().await.expect("what was verified once is verified again"))
}

/// Only verifies.
pub fn read_snapshot_file(bytes: &[u8]) -> Box<dyn FnOnce()> {
    let disk = disk();
    put(&disk, "snapshots/1.snapshot", bytes);
    let snapshots = Snapshots::<Simulated>::new(disk);
    Box::new(move || drop(snapshots.newest(None)))
}
