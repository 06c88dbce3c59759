//! Thousands of lives of a log, each ended by a crash, beside a model that knows what was promised.
//!
//! `MGMT_SEED` repeats one of them.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod log_support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use log_support::{Chance, Disk, Log, ME, append, begin, entry, log_id, run, say, small, vote};
use mgmt_consensus::log_store::Options;
use mgmt_consensus::log_store::index::lying::Lying;
use mgmt_consensus::types::{Entry, Vote};
use openraft::AsyncRuntime as _;
use openraft::storage::{RaftLogReader as _, RaftLogStorage as _};
use openraft_rt_sim::SimRuntime;

const SEEDS: u64 = 1500;
const LIVES: u64 = 4;

/// What was promised, and what may have come about besides.
#[derive(Debug, Default)]
struct Model {
    term: u64,
    vote: Option<Vote>,
    purged: Option<u64>,
    committed: u64,
    entries: BTreeMap<u64, Entry>,
    /// Asked for and not acknowledged.
    flying: BTreeMap<u64, Entry>,
}

impl Model {
    fn next(&self) -> u64 {
        self.entries.keys().next_back().map_or_else(|| self.purged.map_or(0, |purged| purged + 1), |last| last + 1)
    }

    fn some(&self, chance: &mut Chance) -> Vec<Entry> {
        let first = self.next();
        let one = |(index, chance): (u64, &mut Chance)| {
            let most = if chance.below(10) == 0 { 4000 } else { 200 };
            let length = usize::try_from(chance.below(most)).unwrap();
            entry(self.term, index, vec![b'a' + u8::try_from(chance.below(26)).unwrap(); length])
        };
        (first..=first + chance.below(5)).map(|index| one((index, chance))).collect()
    }

    fn keep(&mut self, entries: Vec<Entry>) {
        self.entries.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry)));
    }
}

/// One life: some operations, then some that are not waited for.
async fn live(log: &mut Log, model: &mut Model, chance: &mut Chance, disk: &Disk) {
    for _ in 0..chance.below(40) {
        let end = model.next();
        let done = match chance.below(12) {
            0 => {
                model.term += 1;
                let mine = vote(model.term);
                let saved = log.save_vote(&mine).await;
                // Refused, it may have reached the disk all the same.
                model.vote = if saved.is_ok() { Some(mine) } else { None };
                saved
            }
            1 if end > model.committed + 1 => {
                model.committed += chance.below(end - model.committed);
                log.save_committed(Some(log_id(0, model.committed))).await
            }
            2 if !model.entries.is_empty() => {
                let first = *model.entries.keys().next().unwrap();
                let keep = first + chance.below(end - first);
                let last = model.entries[&keep].log_id;
                let gone = model.entries.split_off(&(keep + 1));
                let cut = log.truncate_after(Some(last)).await;
                if cut.is_err() {
                    model.flying = gone;
                }
                cut
            }
            3 | 4 if model.entries.len() > 10 => {
                let first = *model.entries.keys().next().unwrap();
                let through = first + chance.below(model.entries.len() as u64);
                let last = model.entries[&through].log_id;
                let purged = log.purge(last).await;
                if purged.is_ok() {
                    model.entries = model.entries.split_off(&(through + 1));
                    model.purged = Some(through);
                }
                purged
            }
            5 if chance.below(10) == 0 => {
                // A snapshot from elsewhere, far ahead.
                let purged = log.purge(log_id(model.term, end + 100)).await;
                if purged.is_ok() {
                    model.entries.clear();
                    model.purged = Some(end + 100);
                }
                purged
            }
            6 if chance.below(30) == 0 => {
                disk.fail_sync(chance.below(4));
                Ok(())
            }
            _ => {
                let entries = model.some(chance);
                let done = append(log, entries.clone()).await;
                match done {
                    Ok(()) => model.keep(entries),
                    Err(_) => model.flying.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry))),
                }
                done
            }
        };
        if done.is_err() {
            assert!(log.fault().is_some(), "{done:?}");
            return;
        }
    }
    let mut next = model.next();
    for _ in 0..chance.below(5) {
        let entries: Vec<_> =
            (next..next + 3).map(|index| entry(model.term, index, format!("flying {index}"))).collect();
        next += 3;
        let Ok(_not_waited_for) = begin(log, entries.clone()).await else { return };
        model.flying.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry)));
    }
    SimRuntime::sleep(Duration::from_micros(chance.below(8000))).await;
}

/// What is there is what was promised, and nothing that was never asked for.
async fn judge(log: &mut Log, model: &mut Model, at: &str) {
    let state = log.get_log_state().await.unwrap();
    let purged = state.last_purged_log_id.map(|log_id| log_id.index);
    assert!(purged <= model.purged, "{at}: more is purged than was asked for");
    let entries = log.try_get_log_entries(..).await.unwrap();
    let there: BTreeMap<_, _> = entries.into_iter().map(|entry| (entry.log_id.index, entry)).collect();
    let first = model.purged.map_or(0, |purged| purged + 1);
    // What is purged may be there still, and if the snapshot was far ahead, the log may end before it.
    for (index, promised) in &model.entries {
        assert_eq!(there.get(index), Some(promised), "{at}: entry {index}");
    }
    for (index, found) in there.range(first.max(model.next())..) {
        assert_eq!(model.flying.get(index), Some(found), "{at}: entry {index} was never asked for");
    }
    let mut indices = there.keys();
    if let Some(first) = indices.next() {
        assert!(indices.zip(first + 1..).all(|(a, b)| *a == b), "{at}: there is a hole");
    }
    let found = log.read_vote().await.unwrap();
    if let Some(vote) = model.vote {
        assert_eq!(found, Some(vote), "{at}");
    }
    assert!(log.read_committed().await.unwrap().is_none_or(|committed| committed.index <= model.committed), "{at}");
    model.vote = found;
    model.term = model.term.max(found.map_or(0, |vote| vote.leader_id.term));
    model.purged = purged;
    model.entries = there;
    model.flying.clear();
}

async fn lives(seed: u64) -> u64 {
    let mut chance = Chance(seed);
    let mut disk = Disk::new(seed, 4 << 20);
    let lying = Arc::new(Lying::new(seed));
    let options = || Options { segment_bytes: 8 << 10, ..small(Arc::clone(&lying) as _) };
    let mut log = Log::create(disk.clone(), ME, options()).await.unwrap();
    let mut model = Model { term: 1, ..Model::default() };
    for life in 0..LIVES {
        disk.set_sync_latency(Duration::from_micros(100), Duration::from_millis(3));
        live(&mut log, &mut model, &mut chance, &disk).await;
        if chance.below(4) == 0 && log.stop().await.is_ok() {
            let flown = std::mem::take(&mut model.flying);
            model.entries.extend(flown);
        }
        disk.crash();
        disk = disk.boot();
        let at = format!("MGMT_SEED={seed}, life {life}");
        log = Log::open(disk.clone(), ME, options()).await.unwrap_or_else(|error| panic!("{at}: {error}"));
        // With an index that is open, or not yet.
        SimRuntime::sleep(Duration::from_millis(chance.below(2))).await;
        judge(&mut log, &mut model, &at).await;
    }
    model.entries.len() as u64
}

#[test]
fn a_log_keeps_its_promises_over_many_lives() {
    if let Some(seed) = std::env::var("MGMT_SEED").ok().and_then(|seed| seed.parse().ok()) {
        run(seed, lives(seed));
        return;
    }
    let entries: u64 = (0..SEEDS).map(|seed| run(seed, lives(seed))).sum();
    say(&format!("{SEEDS} seeds of {LIVES} lives, {entries} entries left in the end"));
    assert_eq!((0..20).map(|seed| run(seed, lives(seed))).collect::<Vec<_>>(), {
        (0..20).map(|seed| run(seed, lives(seed))).collect::<Vec<_>>()
    });
}
