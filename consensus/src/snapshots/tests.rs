//! Files that are cut, changed, left behind, received in pieces.

use std::future::Future;

use openraft::AsyncRuntime;
use openraft::vote::RaftLeaderId as _;
use openraft_rt_sim::SimRuntime;

use super::*;
use crate::disk::simulated::SimulatedDisk;
use crate::identity::{Incarnation, PeerId};
use crate::testing::Simulated;
use crate::types::{CommittedLeaderId, Member, Membership, StoredMembership};

fn log_id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(3, 1), index)
}

fn meta(index: u64) -> SnapshotMeta {
    let member = Member { peer: PeerId(7), incarnation: Incarnation(8), host: "a".to_owned() };
    let membership = Membership::new(vec![[1].into()], std::collections::BTreeMap::from([(1, member)])).unwrap();
    SnapshotMeta {
        last_log_id: Some(log_id(index)),
        last_membership: StoredMembership::new(Some(log_id(1)), membership),
    }
}

struct Pieces(Vec<Bytes>);

impl Frozen for Pieces {
    fn chunk(&mut self) -> Option<Bytes> {
        if self.0.is_empty() { None } else { Some(self.0.remove(0)) }
    }
}

fn pieces() -> Vec<Bytes> {
    vec![Bytes::from_static(b"one"), Bytes::from(vec![2; 700]), Bytes::from_static(b"three")]
}

fn run<T>(test: impl Future<Output = T>) -> T {
    SimRuntime::with_seed(1).block_on(test)
}

fn disk() -> SimulatedDisk<SimRuntime> {
    SimulatedDisk::new(1, 1 << 24)
}

async fn written(disk: &SimulatedDisk<SimRuntime>, index: u64) -> Snapshot<SimulatedDisk<SimRuntime>> {
    Snapshots::<Simulated>::new(disk.clone()).write(meta(index), Pieces(pieces())).await.unwrap()
}

fn newest(disk: &SimulatedDisk<SimRuntime>, purged: Option<u64>) -> Result<Option<u64>, String> {
    let purged = purged.map(log_id);
    let newest =
        Snapshots::<Simulated>::new(disk.clone()).newest(purged.as_ref()).map_err(|error| error.to_string())?;
    Ok(newest.map(|snapshot| {
        let read: Vec<_> = snapshot.chunks().collect::<Result<_, _>>().unwrap();
        assert_eq!(read, pieces());
        snapshot.meta().last_log_id.unwrap().index
    }))
}

#[test]
fn what_was_written_is_there_after_a_crash() {
    run(async {
        let disk = disk();
        written(&disk, 10).await;
        disk.crash();
        assert_eq!(newest(&disk.boot(), Some(10)), Ok(Some(10)));
    });
}

#[test]
fn two_are_kept() {
    run(async {
        let disk = disk();
        for index in [9, 10, 100, 1000] {
            written(&disk, index).await;
        }
        let names = disk.list(FOLDER).unwrap();
        assert_eq!(names.len(), KEPT, "{names:?}");
        assert_eq!(newest(&disk, Some(100)), Ok(Some(1000)));
    });
}

#[test]
fn what_was_never_finished_is_removed() {
    run(async {
        let disk = disk();
        disk.create(&path("new.part"), 100).unwrap();
        disk.create(&path("incoming.part"), 100).unwrap();
        assert_eq!(newest(&disk, None), Ok(None));
        assert_eq!(disk.list(FOLDER).unwrap(), Vec::<String>::new());
    });
}

#[test]
fn no_bit_and_no_byte_of_a_file_can_be_wrong_unseen() {
    run(async {
        let disk = disk();
        let snapshot = written(&disk, 10).await;
        let file = path(&snapshot.name);
        for offset in 0..snapshot.bytes() {
            for bit in 0..8 {
                assert!(disk.flip(&file, offset, bit));
                assert!(newest(&disk, Some(10)).is_err(), "bit {bit} of byte {offset} is wrong");
                assert!(disk.flip(&file, offset, bit));
            }
        }
        assert_eq!(newest(&disk, Some(10)), Ok(Some(10)));
        for bytes in (0..snapshot.bytes()).rev() {
            assert!(disk.resize(&file, bytes));
            assert!(newest(&disk, Some(10)).is_err(), "cut to {bytes} bytes");
        }
    });
}

#[test]
fn a_damaged_one_is_passed_over_as_long_as_the_log_reaches_back() {
    run(async {
        let disk = disk();
        written(&disk, 10).await;
        let newer = written(&disk, 20).await;
        disk.flip(&path(&newer.name), 100, 3);
        assert_eq!(newest(&disk, Some(5)), Ok(Some(10)));
        let error = newest(&disk, Some(15)).unwrap_err();
        assert!(error.contains("no usable snapshot reaches log index 15"), "{error}");
        assert!(error.contains("is older") && error.contains("damaged"), "{error}");
    });
}

/// Receives all of `sent` from where it is, in pieces of this size, of which some come twice or too early.
fn feed(incoming: &mut Incoming<Simulated>, sent: &Snapshot<SimulatedDisk<SimRuntime>>, size: usize) -> Arrived {
    let mut arrived = Arrived::GoOn(incoming.have());
    while let Arrived::GoOn(offset) = arrived {
        let piece = sent.piece(offset, size).unwrap();
        assert_eq!(incoming.piece(offset + 1, &piece).unwrap(), Arrived::GoOn(offset), "one too early is not taken");
        arrived = incoming.piece(offset, &piece).unwrap();
    }
    arrived
}

#[test]
fn one_that_comes_in_pieces_is_the_same_and_survives_a_crash() {
    run(async {
        let (from, to) = (disk(), disk());
        let sent = written(&from, 10).await;
        for size in [1, 7, 300, 1 << 20] {
            let snapshots = Snapshots::<Simulated>::new(to.clone());
            let mut incoming = Incoming::begin(&snapshots, meta(10), sent.bytes(), sent.bytes()).unwrap();
            assert!(incoming.is(&meta(10), sent.bytes()) && !incoming.is(&meta(11), sent.bytes()));
            assert_eq!(feed(&mut incoming, &sent, size), Arrived::Complete);
            let came = incoming.finish().await.unwrap();
            assert_eq!(came.meta(), sent.meta());
        }
        to.crash();
        assert_eq!(newest(&to.boot(), Some(10)), Ok(Some(10)));
    });
}

#[test]
fn one_that_is_not_what_it_claims_is_refused_and_leaves_nothing() {
    run(async {
        let (from, to) = (disk(), disk());
        let sent = written(&from, 10).await;
        let snapshots = Snapshots::<Simulated>::new(to.clone());
        let mut incoming = Incoming::begin(&snapshots, meta(11), sent.bytes(), 1 << 20).unwrap();
        feed(&mut incoming, &sent, 64);
        let error = incoming.finish().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(to.list(FOLDER).unwrap(), Vec::<String>::new());
        let too_large = Incoming::begin(&snapshots, meta(11), 1001, 1000).err().unwrap();
        assert_eq!(too_large.kind(), io::ErrorKind::FileTooLarge);
    });
}
