//! Sixteen clients read, write and compare-and-swap while peers are killed and networks are cut: what they were told has
//! to be what one single store could have said.
//!
//! `MGMT_OPS=1000000 MGMT_ROUNDS=60 MGMT_LAB=require cargo test --release --test lab -- linear` is the long form.

use std::time::Duration;

use rustix::process::Signal;

use crate::machine::{self, Need};
use crate::mesh::clients::{self, Load, Progress};
use crate::mesh::let_pass;
use crate::meshes::{Field, judge, times};
use crate::netns::NETWORK;

/// Operations of each of the two tests in CI.
const OPERATIONS: usize = 52_000;
/// Between a kill and the start after it, so that sometimes there is a new leader by then and sometimes not.
const DEAD_MS: [u64; 4] = [100, 2_500, 700, 1_500];
/// How long a cut lasts.
const CUT: Duration = Duration::from_secs(3);
/// Changes must go on by then, whatever happened.
const TAKEOVER: Duration = Duration::from_secs(20);

/// So many parts has the work; between two of them something fails.
fn rounds(few: usize) -> usize {
    std::env::var("MGMT_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

/// Waits for the next part of the work, and that changes are answered; `false` at its end.
fn next_round(progress: &Progress, round: usize, rounds: usize) -> bool {
    assert!(progress.until_permille(round * 1_000 / rounds), "the clients stand still");
    progress.goes_on()
}

#[test]
fn three_processes_under_kills() {
    needs!(&[Need::Root]);
    let mut field = Field::admins(3);
    let peers = field.all();
    let rounds = rounds(12);
    let mut killed = Vec::new();
    let outcome = clients::run(&peers, Load::of(OPERATIONS), |progress| {
        for round in 1..rounds {
            if !next_round(progress, round, rounds) {
                break;
            }
            let leader = field.leader();
            let other = field.all().into_iter().map(|recipe| recipe.host).find(|host| *host != leader).unwrap();
            // The leader, now and then somebody else, once everybody.
            let victims = match round % 5 {
                0 => peers.iter().map(|peer| peer.host.clone()).collect(),
                3 => vec![other],
                _ => vec![leader],
            };
            let at = progress.elapsed();
            victims.iter().for_each(|host| field.peers.get(host).kill());
            let_pass(Duration::from_millis(DEAD_MS[round % DEAD_MS.len()]));
            // Of all together, what counts is the time from their start.
            killed.push((if victims.len() > 1 { progress.elapsed() } else { at }, victims.len()));
            victims.iter().for_each(|host| field.peers.get(host).restart());
            assert!(progress.until_change(TAKEOVER).is_some(), "no change after kill {round}\n{}", field.peers.show());
        }
    });
    judge("three processes under kills", &outcome);
    let gaps = |many: bool| {
        let of = killed.iter().filter(|(_, victims)| (*victims > 1) == many);
        of.filter_map(|(at, _)| outcome.gap_after(*at)).collect::<Vec<_>>()
    };
    machine::say(&format!("kill -9 to the next acknowledged change: {}", times(&gaps(false))));
    machine::say(&format!("start of all after kill -9, to the next acknowledged change: {}", times(&gaps(true))));
    field.peers.until_formed(3, 0);
}

#[test]
fn five_hosts_under_partitions_kills_and_pauses() {
    needs!(NETWORK);
    let mut field = Field::spread_as("admin", 5, 5);
    let peers = field.all();
    let rounds = rounds(10);
    let outcome = clients::run(&peers, Load::of(OPERATIONS), |progress| {
        for round in 1..rounds {
            if !next_round(progress, round, rounds) {
                break;
            }
            let leader = field.leader();
            let number: usize = leader[1..].parse().unwrap();
            let others = field.network().others(&[number]);
            match round % 5 {
                0 => field.network().partition(&[&[number], &others]),
                1 => field.network().cut(&others, &[number]),
                2 => field.peers.get(&leader).signal(Signal::STOP),
                3 => field.network().partition(&[&[number, others[0]], &others[1..]]),
                _ => field.peers.get(&leader).kill(),
            }
            let_pass(CUT);
            match round % 5 {
                2 => field.peers.get(&leader).signal(Signal::CONT),
                4 => field.peers.get(&leader).restart(),
                _ => field.network().heal(),
            }
            assert!(progress.until_change(TAKEOVER).is_some(), "no change after round {round}\n{}", field.peers.show());
        }
    });
    judge("five hosts under partitions, kills and pauses", &outcome);
    field.peers.until_formed(5, 0);
}
