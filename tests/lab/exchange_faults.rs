//! What is exchanged while networks, hosts and masters come and go: nothing is removed, nothing runs that need not, and
//! in the end all is as if nothing had happened. All directories are purged, so whatever is lost of sight would go.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::exchange::{EACH, Exchange, name, nothing_goes};
use crate::machine;
use crate::mesh::{PATIENCE, let_pass, wait};
use crate::meshes::{expect_done, times};
use crate::netns::NETWORK;

/// A minority must have noticed by then.
const NOTICED: Duration = Duration::from_secs(15);
/// Nothing is removed for so long at least.
/// The exporter repairs its own copy, as it would any file: more than twenty times in ten seconds is a contest, which is
/// not what is tried here.
const PACE: Duration = Duration::from_millis(120);
const WHILE: Duration = Duration::from_secs(2);

fn number(host: &str) -> usize {
    host[1..].parse().unwrap()
}

/// All files that all hosts have.
fn all_files(exchange: &Exchange) -> Vec<PathBuf> {
    let hosts: Vec<usize> = exchange.graphs.keys().copied().collect();
    let wanted = exchange.wanted(&hosts);
    let of = |host: &usize| wanted.keys().map(|name| exchange.directory(*host).join(name)).collect::<Vec<_>>();
    hosts.iter().flat_map(of).collect()
}

/// How often each host has changed something.
fn changes(exchange: &Exchange) -> BTreeMap<usize, u64> {
    exchange.graphs.keys().map(|host| (*host, exchange.figure(*host, "/changes"))).collect()
}

#[track_caller]
fn no_failures(exchange: &mut Exchange) {
    for host in exchange.graphs.keys().copied().collect::<Vec<_>>() {
        assert_eq!(exchange.figure(host, "/failures"), 0, "{}", exchange.peer(host).tail());
    }
}

#[test]
fn a_partition_with_changes_on_both_sides_is_as_if_there_had_been_none() {
    needs!(NETWORK);
    let mut exchange = Exchange::whole(5, 5);
    let before = changes(&exchange);
    let first = exchange.wanted(&[1, 2, 3, 4, 5]);
    let leader = number(&exchange.field.leader());
    let others = exchange.field.network().others(&[leader]);
    let (few, many) = ([leader, others[0]], others[1..].to_vec());
    let files = all_files(&exchange);
    nothing_goes(&files, || {
        exchange.field.network().partition(&[&few, &many]);
        for host in 1..=5 {
            exchange.export(host, 1, "changed while apart\n");
        }
        // Each side knows what its own exporters say, as far as there is somebody to agree; of the rest what it knew.
        for host in 1..=5 {
            let mut wanted = first.clone();
            let known = if many.contains(&host) { many.clone() } else { vec![host] };
            for exporter in known {
                wanted.insert(name(exporter, 1), "changed while apart\n".to_owned());
            }
            let there = wait(PATIENCE, || exchange.files(host) == wanted);
            assert!(there.is_some(), "p{host}: {:#?}\n{}", exchange.files(host), exchange.field.peers.show());
        }
        for host in few {
            let pending = || exchange.status(host).is_some_and(|status| status["exchange"]["publishing"] == "pending");
            assert!(wait(NOTICED, pending).is_some(), "p{host} does not say that its exports wait");
        }
        exchange.field.network().heal();
        let took = exchange.until_all("as if there had been no partition");
        machine::say(&format!("partition of five healed: all copies are right after {:.2} s", took.as_secs_f64()));
    });
    for (host, after) in changes(&exchange) {
        assert_eq!(after - before[&host], 5, "p{host} has changed more than what five hosts have\n");
    }
    no_failures(&mut exchange);
}

#[test]
fn a_leader_killed_in_the_middle_of_an_exchange_loses_nothing() {
    needs!(NETWORK);
    let mut exchange = Exchange::whole(3, 3);
    let files = all_files(&exchange);
    let mut took = Vec::new();
    nothing_goes(&files, || {
        for round in 0..4 {
            let leader = exchange.field.leader();
            for host in 1..=3 {
                for export in 1..=EACH {
                    exchange.export(host, export, &format!("{round} of {host}\n"));
                }
                if host == 2 {
                    // Edits are read 50 ms later: some before the leader ends, some not.
                    let_pass(Duration::from_millis(30 + 20 * round));
                    exchange.field.peers.get(&leader).kill();
                }
            }
            let left: Vec<usize> = (1..=3).filter(|host| *host != number(&leader)).collect();
            let dead = number(&leader);
            // What the dead one exports is known or not.
            let start = Instant::now();
            let there = |exchange: &Exchange| {
                let wanted = exchange.wanted(&left);
                left.iter().all(|host| {
                    let files = exchange.files(*host);
                    wanted.iter().all(|(name, content)| files.get(name) == Some(content))
                        && (1..=EACH).all(|export| files.contains_key(&name(dead, export)))
                })
            };
            assert!(wait(PATIENCE, || there(&exchange)).is_some(), "{}", exchange.field.peers.show());
            took.push(start.elapsed());
            exchange.field.peers.get(&leader).restart();
            exchange.until_all("the dead leader comes back");
            exchange.field.peers.until_formed(3, 0);
        }
    });
    machine::say(&format!("leader killed in the middle of changes: copies on the others after {}", times(&took)));
    no_failures(&mut exchange);
}

#[test]
fn an_exporter_that_is_gone_for_good_is_withdrawn_when_somebody_says_so() {
    needs!(NETWORK);
    let mut exchange = Exchange::whole(4, 3);
    exchange.peer(4).kill();
    exchange.field.peers.0.remove("p4");
    let all: Vec<usize> = vec![1, 2, 3, 4];
    exchange.until("its exports stay", &[1, 2, 3], &all);
    let files: Vec<_> =
        all_files(&exchange).into_iter().filter(|file| !file.starts_with(exchange.directory(4))).collect();
    nothing_goes(&files, || {
        // Also in runs that begin without it.
        for host in 1..=3 {
            assert_eq!(exchange.peer(host).end(Signal::TERM), 0, "{}", exchange.peer(host).tail());
            exchange.peer(host).restart();
        }
        exchange.field.peers.until(PATIENCE, "three are up", |members| {
            members.members.iter().filter(|member| member.state == "up").count() == 3 && members.leader.is_some()
        });
        // And when it is no member any more.
        expect_done(&exchange.field.admin().verb(["cluster", "remove", "p4"]));
        exchange.export(1, 1, "after\n");
        exchange.until("its exports stay when it was removed", &[1, 2, 3], &all);
        let_pass(WHILE);
    });
    let told = exchange.field.admin().asked(&["exports"]).expect("it answers");
    let of = |told: &serde_json::Value| {
        let exports = told["exports"].as_array().unwrap();
        exports
            .iter()
            .filter(|export| export["host"] == "p4")
            .map(|export| export["collected"].as_array().unwrap().len())
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&told), [3, 3], "{told:#}");
    let forgotten = exchange.field.admin().verb(["exports", "--forget", "p4"]);
    expect_done(&forgotten);
    let took = exchange.until("they go", &[1, 2, 3], &[1, 2, 3]);
    machine::say(&format!("exports --forget: the copies are purged after {:.0} ms", took.as_secs_f64() * 1e3));
    no_failures_of(&mut exchange, &[1, 2, 3]);
}

#[track_caller]
fn no_failures_of(exchange: &mut Exchange, hosts: &[usize]) {
    for host in hosts {
        assert_eq!(exchange.figure(*host, "/failures"), 0, "{}", exchange.peer(*host).tail());
    }
}

#[test]
fn a_collector_that_starts_without_a_mesh_removes_nothing() {
    needs!(NETWORK);
    let mut exchange = Exchange::whole(3, 3);
    for host in 1..=3 {
        exchange.peer(host).kill();
    }
    let files: Vec<_> = exchange.wanted(&[1, 2, 3]).keys().map(|name| exchange.directory(2).join(name)).collect();
    let memory = exchange.peer(2).recipe.home().join("collected");
    let purges = |exchange: &Exchange| {
        let status = exchange.status(2);
        status.map(|status| status["exchange"]["purges_waiting"].as_array().map_or(0, Vec::len))
    };
    // With what it remembers it goes on as before.
    fs::remove_file(&files[0]).unwrap();
    fs::write(&files[1], "spoilt\n").unwrap();
    exchange.peer(2).restart();
    exchange.until("it has what it remembers", &[2], &[1, 2, 3]);
    nothing_goes(&files, || let_pass(WHILE));
    assert_eq!(purges(&exchange), Some(0));
    // Without it nothing is known of what others export: not that there is nothing either.
    exchange.peer(2).kill();
    fs::remove_file(&memory).unwrap();
    let stray = exchange.directory(2).join("stray");
    fs::write(&stray, "nobody's").unwrap();
    nothing_goes(&files, || {
        exchange.peer(2).restart();
        assert!(wait(PATIENCE, || purges(&exchange) == Some(1)).is_some(), "{:#?}", exchange.status(2));
        let_pass(WHILE);
    });
    assert!(stray.exists(), "it purges what it does not know");
    // One more is a quorum: then it is known, and purged.
    let start = Instant::now();
    nothing_goes(&files, || {
        exchange.peer(3).restart();
        exchange.until("it purges again", &[2, 3], &[1, 2, 3]);
    });
    machine::say(&format!(
        "a quorum is back: the purge that waited is done after {:.2} s",
        start.elapsed().as_secs_f64()
    ));
    exchange.peer(1).restart();
    exchange.until_all("all are back");
    no_failures(&mut exchange);
}

#[test]
fn masters_come_and_go_while_exports_change_and_no_engine_notices() {
    needs!(NETWORK);
    let mut exchange = Exchange::new(5).purge();
    let sources: Vec<PathBuf> = (1..=5).map(|host| exchange.field.scratch.path(&format!("source{host}"))).collect();
    for (host, source) in (1..=5).zip(&sources) {
        fs::write(source, "first\n").unwrap();
        let export = format!("state: exists, source: {}", source.display());
        exchange.graphs.get_mut(&host).unwrap().exports.insert(name(host, 1), export);
        exchange.write(host);
    }
    (1..=5).for_each(|host| exchange.start(host, &[]));
    exchange.field.peers.until_formed(5, 0);
    exchange.until_all("everything is exchanged");
    let before = changes(&exchange);
    let files = all_files(&exchange);
    let directories: Vec<PathBuf> = (1..=5).map(|host| exchange.directory(host)).collect();
    let stop = AtomicBool::new(false);
    // Changes one export after the other, each when the last is everywhere.
    let change = || {
        let mut took = Vec::new();
        for number in 0.. {
            if stop.load(Ordering::Acquire) {
                break;
            }
            let host = number % 5 + 1;
            let (source, content) = (&sources[host - 1], format!("change {number}\n"));
            let new = source.with_extension("new");
            fs::write(&new, &content).unwrap();
            let start = Instant::now();
            fs::rename(&new, source).unwrap();
            let copies: Vec<PathBuf> = directories.iter().map(|it| it.join(name(host, 1))).collect();
            let there = || copies.iter().all(|copy| fs::read_to_string(copy).is_ok_and(|is| is == content));
            while !there() {
                assert!(start.elapsed() < PATIENCE, "change {number} of p{host} has not come everywhere");
                let_pass(Duration::from_millis(1));
            }
            took.push(start.elapsed());
            let_pass(PACE);
        }
        took
    };
    let took = nothing_goes(&files, || {
        std::thread::scope(|scope| {
            let changing = scope.spawn(change);
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for size in [3, 1, 3, 5] {
                    let admin = exchange.field.admin();
                    expect_done(&admin.verb(["cluster", "size", &size.to_string()]));
                    exchange.field.peers.until_formed(size, 5 - size);
                    let members = exchange.field.peers.members();
                    let leads = members.leader.clone();
                    if let Some(other) = members.masters().into_iter().find(|host| Some(*host) != leads.as_deref()) {
                        // 75: whoever is to lead was not heard of yet.
                        let done = wait(PATIENCE, || admin.verb(["cluster", "transfer", other]).code == 0);
                        assert!(done.is_some(), "leadership stays with {leads:?}");
                    }
                }
            }));
            stop.store(true, Ordering::Release);
            let took = changing.join().unwrap();
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            took
        })
    });
    let count = u64::try_from(took.len()).unwrap();
    machine::say(&format!("{count} changes while masters go 5, 3, 1, 3, 5: each in all copies after {}", times(&took)));
    for (host, after) in changes(&exchange) {
        assert_eq!(after - before[&host], count, "p{host}'s engine has noticed\n{}", exchange.peer(host).tail());
    }
    no_failures(&mut exchange);
}
