//! A log whose disk fails it, fills up, is another one's or is damaged; and the defects that these tests are there to
//! catch.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod log_support;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use log_support::{
    Chance, Disk, Log, ME, append, begin, commands, create, disk, entry, idle, last, log_id, open, options, read, run,
    small, vote,
};
use mgmt_consensus::Incarnation;
use mgmt_consensus::disk::{Disk as _, DiskFile as _};
use mgmt_consensus::log_store::index::lying::Lying;
use mgmt_consensus::log_store::{OpenError, Options, Room, quarantine};
use mgmt_consensus::mutant::{self, Mutant};
use openraft::AsyncRuntime as _;
use openraft::storage::{RaftLogReader as _, RaftLogStorage as _};
use openraft_rt_sim::SimRuntime;

/// Whether a test passes: its defect must make it fail.
fn passes(mutant: Option<Mutant>, test: impl FnOnce() + std::panic::UnwindSafe) -> bool {
    let _chosen = mutant::choose(mutant);
    std::panic::catch_unwind(test).is_ok()
}

fn catches(mutant: Mutant, test: impl Fn() + std::panic::RefUnwindSafe) {
    assert!(passes(None, &test), "without the defect");
    assert!(!passes(Some(mutant), &test), "{mutant:?} is not caught");
}

/// The `k`-th sync of a log fails; nothing is acknowledged afterwards, and what was before is there in the next life.
async fn failed_sync(k: u64) {
    let disk = disk(k);
    let log = create(&disk).await;
    disk.fail_sync(k);
    let (mut promised, mut voted, mut broken) = (0, 0, None::<u64>);
    // That of a spare segment, which is made ahead, shows when it is needed.
    for index in 0..k + 400 {
        if broken.is_some_and(|broken| index > broken + 3) {
            break;
        }
        let length = usize::try_from(index * 97 % 700).unwrap();
        let result = append(&log, vec![entry(1, index, vec![b'x'; length])]).await;
        match result {
            Ok(()) => {
                assert_eq!(broken, None, "sync {k}: entry {index} is acknowledged after the fault");
                promised = index + 1;
            }
            Err(error) => {
                broken.get_or_insert(index);
                assert!(error.to_string().contains(" journal/"), "sync {k}: {error}");
            }
        }
        match log.clone().save_vote(&vote(index)).await {
            Ok(()) => {
                assert_eq!(broken, None, "sync {k}: vote {index} is acknowledged after the fault");
                voted = index;
            }
            Err(_) => _ = broken.get_or_insert(index),
        }
    }
    assert!(broken.is_some(), "sync {k} has not failed");
    let fault = log.failed().await;
    assert!(["sync", "make"].contains(&fault.during), "{fault}");
    assert_eq!((fault.file.starts_with("journal/"), fault.source.raw_os_error()), (true, Some(5)), "{fault}");
    // A spare segment that was being made is finished by then.
    assert!(log.stop().await.is_err());
    let syncs = disk.syncs();
    assert!(log.clone().purge(log_id(1, 0)).await.is_err() && log.clone().save_vote(&vote(1000)).await.is_err());
    assert_eq!(disk.syncs(), syncs, "nobody asks this disk again");
    disk.crash();
    let log = open(&disk.boot()).await.unwrap();
    let there = commands(&log).await;
    assert!(there.len() as u64 >= promised, "sync {k}: {} of {promised} entries are left", there.len());
    assert!(log.clone().read_vote().await.unwrap().map_or(0, |vote| vote.leader_id.term) >= voted);
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged() {
    for k in 0..200 {
        run(k, failed_sync(k));
    }
}

#[test]
fn after_a_failed_write_nothing_is_acknowledged() {
    for k in 0..50 {
        run(k, async {
            let disk = disk(k);
            let log = create(&disk).await;
            disk.fail_write(k);
            let mut promised = 0;
            while append(&log, vec![entry(1, promised, vec![b'x'; 300])]).await.is_ok() {
                promised += 1;
            }
            // A mark that cannot be written stops it too, when everybody has been told.
            assert_eq!(log.failed().await.during, "write");
            disk.crash();
            assert!(commands(&open(&disk.boot()).await.unwrap()).await.len() as u64 >= promised);
        });
    }
}

/// Everything that was acknowledged is there after a crash, however much of the rest is.
fn acknowledged_survives() {
    for seed in 0..40 {
        run(seed, async {
            let disk = disk(seed);
            disk.set_sync_latency(Duration::from_millis(1), Duration::from_millis(3));
            let log = create(&disk).await;
            let mut chance = Chance(seed);
            for index in 0..chance.below(20) {
                append(&log, vec![entry(1, index, format!("{index}"))]).await.unwrap();
            }
            let promised = last(&log).await.map_or(0, |last| last.index + 1);
            disk.crash();
            assert!(commands(&open(&disk.boot()).await.unwrap()).await.len() as u64 >= promised, "seed {seed}");
        });
    }
}

#[test]
fn acknowledge_before_sync_is_caught() {
    catches(Mutant::AcknowledgeBeforeSync, acknowledged_survives);
}

fn votes_survive() {
    for seed in 0..40 {
        run(seed, async {
            let disk = disk(seed);
            let mut log = create(&disk).await;
            log.save_vote(&vote(seed + 1)).await.unwrap();
            disk.crash();
            let mut log = open(&disk.boot()).await.unwrap();
            assert_eq!(log.read_vote().await.unwrap(), Some(vote(seed + 1)), "seed {seed}");
        });
    }
}

#[test]
fn vote_not_synced_is_caught() {
    catches(Mutant::VoteNotSynced, votes_survive);
}

/// What is read after a crash is what was written, and nothing in part.
fn torn_is_cut() {
    for seed in 0..60 {
        run(seed, async {
            let disk = disk(seed);
            let log = create(&disk).await;
            append(&log, vec![entry(1, 0, "first")]).await.unwrap();
            disk.set_sync_latency(Duration::from_secs(1), Duration::from_secs(1));
            let long = vec![b'x'; 3000];
            let second = begin(&log, vec![entry(1, 1, long.clone())]).await.unwrap();
            // The writer has written it and waits for the disk.
            SimRuntime::sleep(Duration::from_millis(1)).await;
            disk.crash();
            assert!(second.await.is_err());
            for entry in read(&open(&disk.boot()).await.unwrap(), 1..2).await {
                assert_eq!(entry, log_support::entry(1, 1, long.clone()), "seed {seed}");
            }
        });
    }
}

#[test]
fn torn_tail_accepted_is_caught() {
    catches(Mutant::TornTailAccepted, torn_is_cut);
}

/// Damage to something that was acknowledged is refused, with its place.
fn damage_is_refused() {
    run(1, async {
        let disk = disk(1);
        let log = create(&disk).await;
        for index in 0..10 {
            append(&log, vec![entry(1, index, vec![b'x'; 1000])]).await.unwrap();
        }
        disk.crash();
        let disk = disk.boot();
        assert!(disk.flip("journal/0000", 5000, 3));
        let OpenError::Damaged(damage) = open(&disk).await.unwrap_err() else { panic!("it is damaged") };
        assert_eq!(damage.file, "journal/0000");
        assert!((4096..5000).contains(&damage.offset), "{damage}");
        assert!(damage.why.contains("was written later"), "{damage}");
    });
}

#[test]
fn damage_cut_like_a_tail_is_caught() {
    catches(Mutant::DamageCutLikeTail, damage_is_refused);
}

/// Whatever becomes of the index, the log is what the journal says.
fn index_is_checked() {
    for seed in 0..20 {
        run(seed, async {
            let mut disk = disk(seed);
            let lying = Arc::new(Lying::new(seed));
            let options = || small(Arc::clone(&lying) as _);
            let mut log = Log::create(disk.clone(), ME, options()).await.unwrap();
            let mut expected = Vec::new();
            for life in 0..4_u64 {
                for _ in 0..10 {
                    let index = expected.len() as u64;
                    append(&log, vec![entry(1, index, format!("{life}-{index}"))]).await.unwrap();
                    expected.push((index, format!("{life}-{index}")));
                }
                idle().await;
                disk.crash();
                disk = disk.boot();
                log = Log::open(disk.clone(), ME, options()).await.unwrap();
                idle().await;
                assert_eq!(commands(&log).await, expected, "seed {seed}, life {life}");
            }
        });
    }
}

#[test]
fn sled_trusted_is_caught() {
    catches(Mutant::SledTrusted, index_is_checked);
}

#[test]
fn what_is_not_ours_is_refused_and_nothing_is_written_over() {
    run(1, async {
        let disk = disk(1);
        assert!(matches!(open(&disk).await, Err(OpenError::Missing)));
        let log = create(&disk).await;
        append(&log, vec![entry(1, 0, "kept")]).await.unwrap();
        log.stop().await.unwrap();
        let taken = Log::create(disk.clone(), ME, options()).await.unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        let other = Log::open(disk.clone(), Incarnation(8), options()).await.unwrap_err();
        assert!(matches!(other, OpenError::OtherIncarnation(ME)), "{other}");
        assert_eq!(commands(&open(&disk).await.unwrap()).await, [(0, "kept".to_owned())]);
    });
}

#[test]
fn a_damaged_journal_is_put_aside_and_never_deleted() {
    run(1, async {
        let disk = disk(1);
        create(&disk).await.stop().await.unwrap();
        disk.resize("journal/0000", 100);
        let damaged = open(&disk).await.unwrap_err();
        assert!(matches!(damaged, OpenError::Damaged(_)), "{damaged}");
        assert_eq!(quarantine(&disk).await.unwrap(), "damaged-1");
        assert_eq!(disk.list("damaged-1").unwrap(), ["0000"]);
        assert!(matches!(open(&disk).await, Err(OpenError::Missing)));
        create(&disk).await.stop().await.unwrap();
        assert_eq!(quarantine(&disk).await.unwrap(), "damaged-2");
    });
}

#[test]
fn a_crash_while_a_journal_is_put_aside_leaves_nothing_that_could_be_opened() {
    for seed in 0..100 {
        run(seed, async {
            let mut disk = disk(seed);
            let log = create(&disk).await;
            for index in 0..200 {
                append(&log, vec![entry(1, index, vec![b'x'; 500])]).await.unwrap();
            }
            disk.set_sync_latency(Duration::from_secs(1), Duration::from_secs(1));
            let a_while = Duration::from_millis(500 + 1000 * (seed % 7));
            let began = SimRuntime::timeout(a_while, quarantine(&disk)).await;
            disk.crash();
            disk = disk.boot();
            let opened = open(&disk).await;
            match opened {
                Ok(_) => assert!(began.is_err() && seed % 7 < 2, "seed {seed}: it is opened though it was condemned"),
                Err(OpenError::Damaged(_) | OpenError::Missing) => {}
                Err(error) => panic!("seed {seed}: {error}"),
            }
        });
    }
}

#[test]
fn the_reserve_is_given_up_when_there_is_no_other_space() {
    run(1, async {
        let disk = Disk::new(1, 128 << 10);
        let options = || Options { reserve_bytes: 40 << 10, room_low_bytes: 64 << 10, ..options() };
        let log = Log::create(disk.clone(), ME, options()).await.unwrap();
        assert_eq!(log.room().unwrap(), Room::Low);
        let mut index = 0;
        let fault = loop {
            if let Err(error) = append(&log, vec![entry(1, index, vec![b'x'; 1000])]).await {
                break error;
            }
            index += 1;
        };
        assert_eq!(log.room().unwrap(), Room::None);
        assert_eq!(fault.kind(), io::ErrorKind::StorageFull, "{fault}");
        assert_eq!(disk.list("").unwrap(), Vec::<String>::new(), "the reserve is gone");
        assert!(index > 110, "{index} entries: four segments, of which one in the reserve");
        disk.crash();
        disk.set_capacity(1 << 20);
        let log = open(&disk.boot()).await.unwrap();
        assert_eq!(last(&log).await.unwrap().index + 1, index);
        append(&log, vec![entry(1, index, "goes on")]).await.unwrap();
        assert_eq!(disk.boot().list("").unwrap(), ["reserve"], "there is space again");
    });
}

#[test]
fn what_cannot_be_kept_is_refused_before_anything_happens() {
    run(1, async {
        let log = create(&disk(1)).await;
        append(&log, vec![entry(1, 0, "")]).await.unwrap();
        let refused = |result: io::Result<()>| assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        refused(append(&log, vec![entry(1, 2, "")]).await);
        refused(append(&log, vec![entry(1, 1, ""), entry(1, 3, "")]).await);
        refused(append(&log, vec![entry(1, 1, vec![0; 32 << 10])]).await);
        assert!(log.clone().truncate_after(Some(log_id(1, 0))).await.is_ok());
        append(&log, vec![entry(1, 1, "")]).await.unwrap();
        assert_eq!(log.fault().map(|fault| fault.to_string()), None);
    });
}

#[test]
fn entries_can_be_read_before_they_are_durable() {
    run(1, async {
        let disk = disk(1);
        let log = create(&disk).await;
        disk.set_sync_latency(Duration::from_secs(1), Duration::from_secs(1));
        let durable = begin(&log, vec![entry(1, 0, "early")]).await.unwrap();
        assert_eq!(commands(&log).await, [(0, "early".to_owned())]);
        durable.await.unwrap();
    });
}

#[test]
fn a_log_that_is_stopped_takes_nothing_more() {
    run(1, async {
        let disk = disk(1);
        let mut log = create(&disk).await;
        append(&log, vec![entry(1, 0, "")]).await.unwrap();
        log.save_committed(Some(log_id(1, 0))).await.unwrap();
        log.stop().await.unwrap();
        assert!(append(&log, vec![entry(1, 1, "")]).await.is_err() && log.stop().await.is_err());
        let file = disk.open("journal/0000").unwrap();
        assert_eq!(file.size().unwrap(), 32 << 10);
        disk.crash();
        let mut log = open(&disk.boot()).await.unwrap();
        assert_eq!(log.read_committed().await.unwrap(), Some(log_id(1, 0)), "what could wait was written at the end");
    });
}

/// A command that holds the head of a frame with a high number, as whoever knows the format and the incarnation could
/// write it: at each alignment, under any salt that is not the segment's own.
fn forged(salt: u64) -> Vec<u8> {
    let mut head = Vec::new();
    head.extend([0; 8]);
    head.extend((1_u64 << 40).to_le_bytes());
    head.extend([b'B', 0, 0, 0]);
    head.extend(salt.to_le_bytes());
    let seed = mgmt_consensus::wire::checksum(&ME.0.to_le_bytes());
    head.extend(mgmt_consensus::wire::checksum_on(seed, &head).to_le_bytes());
    let mut command = Vec::new();
    for shift in 0..8 {
        while command.len() % 8 != shift {
            command.push(0);
        }
        command.extend(&head);
    }
    command
}

#[test]
fn what_is_kept_cannot_be_taken_for_what_was_written_later() {
    run(1, async {
        for count in 30..90 {
            let disk = disk(count);
            let mut log = create(&disk).await;
            for index in 0..count {
                // Segments are used again, and what was in them lies behind the end of the log.
                let command = if index % 2 == 0 { forged(index) } else { vec![7; 3000] };
                append(&log, vec![entry(1, index, command)]).await.unwrap();
                if index > 3 {
                    log.purge(log_id(1, index - 3)).await.unwrap();
                }
            }
            log.stop().await.unwrap();
            drop(log);
            let log = open(&disk).await.unwrap();
            assert_eq!(last(&log).await, Some(log_id(1, count - 1)));
            log.stop().await.unwrap();
        }
    });
}
