//! Masters that appoint themselves: eight peers of which five are masters, and what is done to them.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::machine::{self, Need};
use crate::mesh::clients::{self, Load, Progress};
use crate::mesh::peer::{Members, Peers};
use crate::mesh::{PATIENCE, let_pass};
use crate::meshes::{Field, expect_done, judge, times, zones};

/// A master that is down so long is replaced by a spare; and then some.
const REPLACED: Duration = Duration::from_secs(60);
/// Changes must go on by then.
const TAKEOVER: Duration = Duration::from_secs(20);

fn field_of_eight() -> Field {
    let mut field = Field::machine();
    for number in 1..=8 {
        let zone = format!("z{}", number % 4);
        let recipe = field.local(&format!("p{number}")).with(&["--zone", &zone]);
        field.peers.start(recipe);
    }
    let took = field.peers.until_formed(5, 3);
    machine::say(&format!("eight peers at once: five masters after {:.1} s", took.as_secs_f64()));
    let spread = zones(&field.peers.members());
    assert!(spread.len() == 4 && spread.values().all(|masters| *masters <= 2), "masters are not spread: {spread:?}");
    field.open();
    field
}

/// Ends some peers and sees changes go on; how long that took.
fn end(peers: &mut Peers, hosts: &[String], progress: &Progress) -> Duration {
    let before = Instant::now();
    hosts.iter().for_each(|host| peers.get(host).kill());
    let took = progress.until_change(TAKEOVER);
    assert!(took.is_some(), "no change after {:?} and the end of {hosts:?}\n{}", before.elapsed(), peers.show());
    took.unwrap_or_default()
}

fn is_master(members: &Members, host: &str) -> bool {
    members.masters().contains(&host)
}

#[test]
fn eight_peers_lose_leader_masters_learner_and_disk() {
    needs!(&[Need::Root]);
    let mut field = field_of_eight();
    let outcome = clients::run(&field.all(), Load::light(), |progress| {
        // The leader, who comes back before he is missed.
        let leader = field.leader();
        let gap = end(&mut field.peers, std::slice::from_ref(&leader), progress);
        machine::say(&format!("leader killed: changes after {:.2} s", gap.as_secs_f64()));
        let said = field.peers.until(PATIENCE, "the dead leader is shown as such, and another leads", |members| {
            let dead = members.members.iter().find(|member| member.host == leader);
            dead.is_some_and(|dead| dead.state != "up") && members.leader.as_ref().is_some_and(|now| *now != leader)
        });
        machine::say(&format!("everybody says so {:.2} s later", said.as_secs_f64()));
        field.peers.get(&leader).restart();
        field.peers.until_formed(5, 3);
        // Two masters for good: spares take their places.
        let members = field.peers.members();
        let leads = members.leader.clone().expect("asked for one");
        let two: Vec<String> =
            members.masters().into_iter().filter(|host| *host != leads).take(2).map(str::to_owned).collect();
        end(&mut field.peers, &two, progress);
        let what = "two dead masters are replaced";
        let took = field.peers.until(REPLACED, what, |members| {
            members.masters().len() == 5 && two.iter().all(|host| !is_master(members, host))
        });
        machine::say(&format!("two masters killed: replaced after {:.1} s", took.as_secs_f64()));
        two.iter().for_each(|host| field.peers.get(host).restart());
        field.peers.until_formed(5, 3);
        // A learner changes nothing for anybody.
        let learner = field.peers.members().learners()[0].to_owned();
        end(&mut field.peers, std::slice::from_ref(&learner), progress);
        field.peers.get(&learner).restart();
        field.peers.until_formed(5, 3);
        progress.stop();
    });
    judge("eight peers under kills", &outcome);
}

#[test]
fn eight_peers_restart_together_and_leave_in_turn() {
    needs!(&[Need::Root]);
    let mut field = field_of_eight();
    let outcome = clients::run(&field.all(), Load::light(), |progress| {
        // All at once, by the hard way.
        let hosts: Vec<String> = field.all().into_iter().map(|recipe| recipe.host).collect();
        hosts.iter().for_each(|host| field.peers.get(host).kill());
        hosts.iter().for_each(|host| field.peers.get(host).restart());
        let took = progress.until_change(TAKEOVER).expect("changes go on after all were killed");
        machine::say(&format!("all eight killed and started: changes after {:.2} s", took.as_secs_f64()));
        field.peers.until_formed(5, 3);
        // Each is asked to end, and comes back.
        let mut gaps = Vec::new();
        for host in &hosts {
            assert_eq!(field.peers.get(host).end(Signal::INT), 0, "{}", field.peers.get(host).tail());
            gaps.push(progress.until_change(TAKEOVER).expect("changes go on though one has ended"));
            field.peers.get(host).restart();
            field.peers.until_formed(5, 3);
        }
        machine::say(&format!("^C of each in turn, to the next change: {}", times(&gaps)));
        progress.stop();
    });
    judge("eight peers under restarts", &outcome);
}

#[test]
fn the_ideal_size_goes_down_and_up_under_writes() {
    needs!(&[Need::Root]);
    let mut field = Field::plain(5, 5);
    let outcome = clients::run(&field.all(), Load::light(), |progress| {
        for size in [3, 1, 5, 3, 1, 5] {
            let admin = field.admin();
            expect_done(&admin.verb(["cluster", "size", &size.to_string()]));
            let took = field.peers.until_formed(size, 5 - size);
            machine::say(&format!("ideal size {size}: after {:.1} s", took.as_secs_f64()));
        }
        progress.stop();
    });
    machine::say(&format!("{} operations of unknown outcome meanwhile", outcome.unknown()));
    judge("sizes under writes", &outcome);
}

#[test]
fn twenty_join_at_once() {
    needs!(&[Need::Root]);
    let mut field = Field::plain(1, 1);
    for number in 2..=21 {
        let recipe = field.local(&format!("p{number}"));
        field.peers.start(recipe);
    }
    let took = field.peers.until_formed(5, 16);
    machine::say(&format!("twenty join at once: all are in after {:.1} s", took.as_secs_f64()));
}

#[test]
fn batch_runs_never_become_masters_and_leave_nothing() {
    needs!(&[Need::Root]);
    let mut field = Field::plain(1, 1);
    // Two that stay only for a while, again and again, where two more masters are wanted.
    let graph = field.scratch.graph("graph: batch\nresources:\n  noop:\n  - {name: a}\n");
    for round in 0..5 {
        let hosts = ["b1", "b2"].map(|name| format!("{name}-{}", round % 2));
        for host in &hosts {
            let mut recipe = field.local(host);
            let options = ["--converged-timeout", "2", "--zone", "z"].map(str::to_owned);
            recipe.args = options.into_iter().chain([graph.to_str().unwrap().to_owned()]).collect();
            field.peers.start(recipe);
        }
        let first = field.all().into_iter().find(|recipe| recipe.host == "p1").expect("it was started");
        let mut seen = 0;
        while hosts.iter().any(|host| field.peers.get(host).runs()) {
            if let Some(members) = first.members() {
                assert_eq!(members.masters(), ["p1"], "a batch run is a master");
                seen = seen.max(members.hosts().len());
            }
            let_pass(Duration::from_millis(50));
        }
        for host in &hosts {
            assert_eq!(field.peers.get(host).ended(), 0, "{}", field.peers.get(host).tail());
            field.peers.0.remove(host);
        }
        assert!(seen >= 3, "the batch runs took no part in the mesh: {seen}");
    }
    let took = field.peers.until(PATIENCE, "only the one that stays is known", |members| members.hosts() == ["p1"]);
    machine::say(&format!("ten batch runs have left nothing {:.1} s after the last", took.as_secs_f64()));
}
