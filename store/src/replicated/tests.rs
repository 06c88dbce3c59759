//! Clients over a group that loses, delays and doubles what they send, from a seed.

mod fake;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use fake::{Fake, Faults};
use mgmt_consensus::mutant::{self, Mutant};

use super::*;
use crate::world::tests as suite;

const MINUTE: Duration = Duration::from_secs(60);

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

fn number(entry: Option<&Entry>) -> u64 {
    entry.map_or(0, |entry| u64::from_le_bytes((*entry.value).try_into().unwrap()))
}

/// Many tasks that each write their own mark into a list: a mark that was acknowledged is there once, one of which
/// nothing is known at most once, and one that was said not to be done is not there.
async fn marks(seed: u64, tasks: u64, rounds: u64) {
    let fake = Fake::new(seed, Faults::HEAVY);
    let client = fake.client("web1", Duration::from_secs(30));
    let mut running = tokio::task::JoinSet::new();
    for task in 0..tasks {
        let client = client.clone();
        running.spawn(async move {
            let mut done = Vec::new();
            for round in 0..rounds {
                // The version of the key counts how often this was applied.
                let mark = key(&format!("k/{task}/{round}"));
                let limit = Duration::from_millis(200 + 4000 * ((seed + task + round) % 3));
                done.push((mark.clone(), client.put(mark, *b"x", None, limit).await));
            }
            done
        });
    }
    let mut outcomes = Vec::new();
    while let Some(done) = running.join_next().await {
        outcomes.extend(done.unwrap());
    }
    fake.calm().await;
    let mut counts = BTreeMap::new();
    for (mark, outcome) in outcomes {
        let version = client.get(&mark, Read::Latest(MINUTE)).await.unwrap().value.map_or(0, |entry| entry.version);
        let (fits, what) = match outcome {
            Ok(_) => (version == 1, "done"),
            Err(CallError::Unknown) => (version <= 1, "unknown"),
            Err(CallError::Unavailable) => (version == 0, "not done"),
            Err(error) => panic!("seed {seed}: {mark}: {error}"),
        };
        assert!(fits, "seed {seed}: {mark} was said to be {what}, and it was written {version} times");
        *counts.entry(what).or_insert(0) += 1;
    }
    assert!(counts["done"] > tasks * rounds / 3, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn applied_once_whatever_happens() {
    for seed in 0..30 {
        marks(seed, 12, 6).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_is_applied_twice_is_noticed() {
    let caught = tokio::spawn(async {
        let _chosen = mutant::choose(Some(Mutant::RetryAppliedTwice));
        for seed in 0..30 {
            marks(seed, 12, 6).await;
        }
    });
    let why = caught.await.unwrap_err().into_panic().downcast::<String>().unwrap();
    assert!(why.starts_with("seed 0:") && why.contains("it was written "), "{why}");
}

#[tokio::test(start_paused = true)]
async fn the_world_over_a_calm_group() {
    let fake = Fake::new(1, Faults::NONE);
    suite::passes(|host| fake.client(host, MINUTE)).await;
}

#[tokio::test(start_paused = true)]
async fn the_world_over_a_wild_one() {
    for seed in 0..10 {
        let fake = Fake::new(seed, Faults::SOME);
        suite::passes(|host| fake.client(host, 10 * MINUTE)).await;
    }
}

/// Exports that are more than one command takes, changed again and again, published by processes that come and go.
#[tokio::test(start_paused = true)]
async fn large_exports_in_one_step() {
    for seed in 0..4 {
        let fake = Fake::new(seed, Faults::SOME);
        let mut before = None;
        for life in 0..4u64 {
            let client = fake.client("a", 10 * MINUTE);
            for round in 0..2 {
                let mut exports = Exports::of("a".parse().unwrap());
                for item in 0..700 {
                    let value = vec![u8::try_from((item + round + life) % 5).unwrap(); 3_000];
                    exports.add("file", &format!("/{}", item + 50 * life), &value).unwrap();
                }
                let published = client.publish(&exports).await.unwrap();
                assert!(matches!(published, Published::Changed(revision) if Some(revision) > before), "{published:?}");
                if let Published::Changed(revision) = published {
                    before = Some(revision);
                }
                assert_eq!(client.publish(&exports).await.unwrap(), Published::Unchanged);
                let stored: BTreeMap<_, _> = fake.state(|keyspace| {
                    keyspace.prefix("x/a/").map(|(key, entry)| (key.clone(), entry.value.clone())).collect()
                });
                assert_eq!(stored, *exports.items(), "seed {seed}");
                if (seed + life) % 2 == 0 {
                    // The next life begins while this publication is half way.
                    let gone = client.clone();
                    let half = async move { gone.publish(&Exports::of("a".parse().unwrap())).await };
                    let _cut = tokio::time::timeout(Duration::from_millis(3), half).await;
                    before = before.max(Some(fake.revision()));
                    break;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn locks_exclude_and_fences_grow() {
    for seed in 0..10 {
        let fake = Fake::new(seed, Faults::SOME);
        let inside = Arc::new(AtomicU64::new(0));
        let mut running = tokio::task::JoinSet::new();
        for task in 0..6 {
            let (client, inside) = (fake.client("web1", 10 * MINUTE), Arc::clone(&inside));
            running.spawn(async move {
                let mut fences = Vec::new();
                for round in 0..3 {
                    let mut held = client.lock("upgrade", 1, 10, 60 * MINUTE).await.unwrap();
                    let work = async {
                        assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "two hold the lock");
                        tokio::time::sleep(Duration::from_secs(20)).await;
                        inside.fetch_sub(1, Ordering::Relaxed);
                    };
                    // Longer than its lease: it is kept alive. Some go away without a word.
                    held.during(work).await.unwrap();
                    fences.push(held.fence());
                    if (task + round) % 3 > 0 {
                        held.release().await.unwrap();
                    }
                }
                fences
            });
        }
        let mut fences = BTreeSet::new();
        while let Some(more) = running.join_next().await {
            let more = more.unwrap();
            assert!(more.is_sorted());
            fences.extend(more);
        }
        assert_eq!(fences.len(), 18, "every holder has a fence of its own");
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_is_silent_loses_the_lock_and_what_lies_on_its_lease() {
    let fake = Fake::new(7, Faults::NONE);
    let (one, two) = (fake.client("web1", MINUTE), fake.client("web1", MINUTE));
    let mut held = one.lock("l", 1, 5, Duration::ZERO).await.unwrap();
    one.put(key("k/mine"), *b"x", Some(held.lease()), MINUTE).await.unwrap();
    assert_eq!(two.lock("l", 1, 5, Duration::ZERO).await.unwrap_err(), LockError::Held);
    assert_eq!(two.lock("l", 1, 5, Duration::from_secs(2)).await.unwrap_err(), LockError::Held);
    let next = tokio::spawn(async move { two.lock("l", 1, 5, MINUTE).await.map(|held| held.fence()) });
    // It does nothing for longer than its lease: a process that was paused.
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(next.await.unwrap().unwrap() > held.fence());
    let working = held.during(tokio::time::sleep(MINUTE)).await;
    assert!(matches!(working, Err(Lost::Ended | Lost::Silent)));
    assert_eq!(one.get(&key("k/mine"), Read::Latest(MINUTE)).await.unwrap().value, None);
}

#[tokio::test(start_paused = true)]
async fn a_semaphore_has_so_many_places() {
    let fake = Fake::new(3, Faults::SOME);
    let client = fake.client("web1", 10 * MINUTE);
    let one = client.lock("s", 2, 60, MINUTE).await.unwrap();
    let _two = client.lock("s", 2, 60, MINUTE).await.unwrap();
    assert_eq!(client.lock("s", 2, 60, Duration::ZERO).await.unwrap_err(), LockError::Held);
    one.release().await.unwrap();
    client.lock("s", 2, 60, MINUTE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn several_locks_are_taken_with_one_lease_or_none_of_them() {
    let fake = Fake::new(5, Faults::NONE);
    let (one, two) = (fake.client("web1", MINUTE), fake.client("web2", MINUTE));
    let both = [("a", 1), ("b", 2)];
    let never = std::future::pending;
    let mut held = one.lock_all(&both, 5, MINUTE, never()).await.unwrap();
    let free = async |name: &str, count| match two.lock(name, count, 5, Duration::ZERO).await {
        Ok(held) => held.release().await.map(|()| true).unwrap(),
        Err(error) => error != LockError::Held,
    };
    assert!(!free("a", 1).await && free("b", 2).await);
    // Whoever waits for one of them, and gives up, leaves neither what it has nor what it waits for.
    let given_up = tokio::time::sleep(Duration::from_secs(30));
    let waited = two.lock_all(&[("0", 1), ("a", 1)], 5, MINUTE, given_up);
    let look = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        let other = one.lock("0", 1, 5, Duration::ZERO).await;
        assert_eq!(other.unwrap_err(), LockError::Held, "its lease lives while it waits");
    };
    let (waited, ()) = Box::pin(held.during(async { tokio::join!(waited, look) })).await.unwrap();
    assert_eq!(waited.unwrap_err(), LockError::GivenUp);
    assert!(free("0", 1).await);
    let fence = held.fence();
    held.release().await.unwrap();
    assert!(free("a", 1).await && free("b", 2).await);
    assert!(two.lock_all(&both, 5, MINUTE, never()).await.unwrap().fence() > fence);
    let gone = two.lock_all(&both, 5, MINUTE, std::future::ready(())).await;
    assert_eq!(gone.unwrap_err(), LockError::GivenUp);
}

#[tokio::test(start_paused = true)]
async fn reads_that_must_be_the_latest_are() {
    let fake = Fake::new(11, Faults::SOME);
    let (one, two) = (fake.client("web1", 10 * MINUTE), fake.client("web1", 10 * MINUTE));
    for round in 1..40u64 {
        let written = one.put(key("k/a"), round.to_le_bytes(), None, 10 * MINUTE).await.unwrap();
        let read = two.get(&key("k/a"), Read::Latest(10 * MINUTE)).await.unwrap();
        assert!(read.revision >= written);
        assert_eq!(number(read.value.as_ref()), round);
        let local = two.get(&key("k/a"), Read::Local).await.unwrap();
        assert_eq!(number(local.value.as_ref()), round, "this replica has it by now");
    }
    let all = two.range("k/", "", 10, Read::Local).await.unwrap().value;
    assert_eq!(all.len(), 1);
    assert!(one.delete(key("k/a"), 10 * MINUTE).await.unwrap().1);
    assert!(!one.delete(key("k/a"), 10 * MINUTE).await.unwrap().1);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_watchers_all_hear_everything() {
    let fake = Fake::new(5, Faults::SOME);
    let client = fake.client("web1", 10 * MINUTE);
    let mut running = tokio::task::JoinSet::new();
    for number in 0..1000u64 {
        let client = client.clone();
        running.spawn(async move {
            let filter = Filter::Prefix(format!("k/{}/", number % 10));
            let mut watch = client.watch(filter.clone(), Revision::ZERO).unwrap();
            let mut heard = Vec::new();
            while heard.len() < 10 {
                let batch = watch.next().await.unwrap();
                heard.extend(batch.events.iter().map(|event| event.key.to_string()));
                if number % 3 == 0 {
                    watch = client.resume(filter.clone(), watch.position()).unwrap();
                }
            }
            let expected: Vec<_> = (0..10).map(|round| format!("k/{}/{round}", number % 10)).collect();
            assert_eq!(heard, expected);
        });
    }
    for round in 0..10 {
        for prefix in 0..10 {
            client.put(key(&format!("k/{prefix}/{round}")), *b"x", None, 10 * MINUTE).await.unwrap();
        }
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
    assert_eq!(client.inner.watches.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_it_says_that_nothing_was_done() {
    let fake = Fake::new(5, Faults::NO_LEADER);
    let client = fake.client("web1", Duration::from_secs(3));
    let limit = Duration::from_secs(3);
    assert_eq!(client.put(key("k/a"), *b"x", None, limit).await, Err(CallError::Unavailable));
    assert_eq!(client.get(&key("k/a"), Read::Latest(limit)).await, Err(CallError::Unavailable));
    assert_eq!(client.get(&key("k/a"), Read::Local).await.unwrap().value, None, "what it has it gives");
    let exports = Exports::of("web1".parse().unwrap());
    assert_eq!(client.publish(&exports).await, Err(CallError::Unavailable), "nothing to change, as far as it can see");
}
