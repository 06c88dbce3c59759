//! Hosts on networks that fail: who goes on, who says that he cannot, and that all is well afterwards.

use std::time::Duration;

use rustix::process::Signal;

use crate::delay::{DELAY, Delay};
use crate::machine;
use crate::mesh::clients::{self, Load};
use crate::mesh::peer::Recipe;
use crate::mesh::{PATIENCE, let_pass, wait};
use crate::meshes::{Field, expect_done, judge};
use crate::netns::NETWORK;

/// Changes must go on by then.
const TAKEOVER: Duration = Duration::from_secs(20);
/// A minority must have noticed by then.
const NOTICED: Duration = Duration::from_secs(15);
/// No answer for a while is not enough: nothing may be accepted for so long.
const SPLIT: Duration = Duration::from_secs(5);
/// What a packet takes to its host at least.
const LATE: Duration = Duration::from_millis(20);
/// Of a stopped process; `MGMT_SLOW=1`: as long as the fault table says.
const STOPPED: Duration = Duration::from_secs(20);
const STOPPED_SLOW: Duration = Duration::from_secs(60);

fn number(host: &str) -> usize {
    host[1..].parse().unwrap()
}

/// How long until a put on this peer is done.
#[track_caller]
fn writes(recipe: &Recipe, most: Duration) -> Duration {
    let mut last = None;
    let put = ["kv", "put", "lab/written", "x"];
    let took = wait(most, || {
        let ended = recipe.verb(put);
        let done = ended.code == 0;
        last = Some(ended);
        done
    });
    took.unwrap_or_else(|| panic!("{} cannot write: {last:?}", recipe.host))
}

/// That this peer refuses to write, and says why with the exit code of "try again".
#[track_caller]
fn refuses(recipe: &Recipe) {
    let ended = recipe.verb(["kv", "put", "--timeout", "2", "lab/refused", "x"]);
    assert_eq!(ended.code, 75, "{}: {ended:?}", recipe.host);
}

/// Whether this peer says that there is a quorum.
fn quorum(recipe: &Recipe) -> Option<bool> {
    recipe.status()?["mesh"]["quorum"].as_bool()
}

#[test]
fn halves_and_a_lone_leader() {
    needs!(NETWORK);
    let mut field = Field::spread(5, 5);
    let leader = number(&field.leader());
    let others = field.network().others(&[leader]);
    let (lone, rest) = (field.remote(leader), others.iter().map(|host| field.remote(*host)).collect::<Vec<_>>());
    // The leader alone.
    field.network().partition(&[&[leader], &others]);
    let took = writes(&rest[0], TAKEOVER);
    machine::say(&format!("leader cut off: the others write after {:.2} s", took.as_secs_f64()));
    let noticed = wait(NOTICED, || quorum(&lone) == Some(false)).expect("it says that it has no quorum");
    machine::say(&format!("and it says that it has no quorum {:.2} s later", noticed.as_secs_f64()));
    refuses(&lone);
    // What it has can be read, and says how old it is.
    expect_done(&lone.verb(["status"]));
    assert_eq!(lone.verb(["kv", "get", "--latest", "--timeout", "2", "lab/written"]).code, 75);
    field.network().heal();
    field.peers.until_formed(5, 0);
    let read = lone.verb(["kv", "get", "--latest", "lab/written"]);
    assert_eq!((read.code, read.out.trim_end()), (0, "x"));
    // Two and three: the three go on.
    let leader = number(&field.leader());
    let others = field.network().others(&[leader]);
    field.network().partition(&[&[leader, others[0]], &others[1..]]);
    let took = writes(&field.remote(others[1]), TAKEOVER);
    machine::say(&format!("two, with the leader, and three: the three write after {:.2} s", took.as_secs_f64()));
    let minority = field.remote(others[0]);
    assert!(wait(NOTICED, || quorum(&minority) == Some(false)).is_some());
    refuses(&minority);
    field.network().heal();
    field.peers.until_formed(5, 0);
}

#[test]
fn one_way_cuts_and_a_bridge() {
    needs!(NETWORK);
    let mut field = Field::spread(5, 5);
    let outcome = clients::run(&field.all(), Load::light(), |progress| {
        let mut gaps = Vec::new();
        for shape in ["deaf", "mute", "bridge", "two that do not see each other"] {
            let leader = number(&field.leader());
            let others = field.network().others(&[leader]);
            match shape {
                "deaf" => field.network().cut(&others, &[leader]),
                "mute" => field.network().cut(&[leader], &others),
                // Two and two, with one between them that sees all.
                "bridge" => field.network().partition(&[&[leader, others[0]], &others[1..3]]),
                _ => field.network().partition(&[&[leader], &others[..1]]),
            }
            let took = progress.until_change(TAKEOVER);
            let took = took.unwrap_or_else(|| panic!("{shape}: no change\n{}", field.peers.show()));
            let_pass(SPLIT);
            assert!(progress.until_change(TAKEOVER).is_some(), "{shape}: changes have ended");
            field.network().heal();
            gaps.push(format!("{shape} {:.2} s", took.as_secs_f64()));
            field.peers.until_formed(5, 0);
        }
        machine::say(&format!("the leader's network, to the next change: {}", gaps.join(", ")));
        progress.stop();
    });
    judge("one-way cuts and a bridge", &outcome);
}

#[test]
fn a_twentieth_is_lost_and_everything_goes_on() {
    needs!(NETWORK);
    let mut field = Field::spread(3, 3);
    field.network().lose(50);
    let load = Load { clients: 16, operations: 3_000, per_key: 300, pause: Duration::ZERO };
    let outcome = clients::run(&field.all(), load, |_| {});
    judge("5 % loss", &outcome);
    field.network().heal();
    field.peers.until_formed(3, 0);
}

#[test]
fn a_long_way_between_hosts_is_only_slow() {
    needs!(NETWORK, DELAY);
    let mut field = Field::spread(3, 3);
    let network = field.network();
    let late: Vec<_> = (1..=3).map(|host| Delay::new(network, host, LATE, 2 * LATE)).collect();
    let load = Load { clients: 16, operations: 2_000, per_key: 300, pause: Duration::ZERO };
    let outcome = clients::run(&field.all(), load, |_| {});
    judge("packets that are 20 to 40 ms late and overtake each other", &outcome);
    drop(late);
    field.peers.until_formed(3, 0);
}

#[test]
fn a_stopped_leader_wakes_up_and_reads_nothing_old() {
    needs!(NETWORK);
    let mut field = Field::spread(3, 3);
    let leader = field.leader();
    let sleeper = field.remote(number(&leader));
    expect_done(&sleeper.verb(["kv", "put", "lab/sleep", "old"]));
    field.peers.get(&leader).signal(Signal::STOP);
    let other = field.all().into_iter().find(|recipe| recipe.host != leader).expect("there are three");
    let took = writes(&other, TAKEOVER);
    machine::say(&format!("leader stopped: the others write after {:.2} s", took.as_secs_f64()));
    expect_done(&other.verb(["kv", "put", "lab/sleep", "new"]));
    let slow = std::env::var_os("MGMT_SLOW").is_some();
    let_pass(if slow { STOPPED_SLOW } else { STOPPED });
    field.peers.get(&leader).signal(Signal::CONT);
    let read = sleeper.verb(["kv", "get", "--latest", "lab/sleep"]);
    assert!(read.code == 75 || read.out.trim_end() == "new", "{read:?}");
    let took = field.peers.until_formed(3, 0);
    machine::say(&format!("woken: all is well after {:.2} s", took.as_secs_f64()));
}

#[test]
fn addresses_change_while_it_runs() {
    needs!(NETWORK);
    let mut field = Field::hosts(3);
    let first = field.remote(1).with(&["--listen", "0.0.0.0:6468"]);
    field.peers.start(first);
    field.peers.until_formed(1, 0);
    let token = field.token(&["--role", "master", "--uses", "2"]);
    for host in [2, 3] {
        let recipe = field.remote(host).with(&["--seeds", &field.listen(1), "--token", &token]);
        field.peers.start(recipe);
    }
    field.peers.until_formed(3, 0);
    // A follower's, then the leader's.
    let leader = number(&field.leader());
    let follower = field.network().others(&[leader])[0];
    for host in [follower, leader] {
        let new = field.network().readdress(host).to_string();
        let shown = format!("p{host}");
        let took = field.peers.until(PATIENCE, "the new address is known and all are up", |members| {
            let member = members.members.iter().find(|member| member.host == shown);
            members.is_well() && member.is_some_and(|member| member.address.contains(&new))
        });
        machine::say(&format!("address of {shown} changed: known and up after {:.2} s", took.as_secs_f64()));
    }
}

#[test]
fn a_doctor_names_what_keeps_a_host_out() {
    needs!(NETWORK);
    let mut field = Field::hosts(2);
    let first = field.remote(1).with(&["--listen", &field.listen(1)]);
    field.peers.start(first);
    field.peers.until_formed(1, 0);
    let token = field.token(&["--role", "master"]);
    let outside = field.remote(2);
    let asked = |word: &str| {
        let start = std::time::Instant::now();
        let ended = outside.verb(["doctor", &field.listen(1)]);
        assert!(start.elapsed() < Duration::from_secs(6), "it takes {:?}", start.elapsed());
        let said = format!("{}{}", ended.out, ended.err);
        assert!(ended.code == 1 && said.to_lowercase().contains(word), "{ended:?} does not say {word}");
    };
    field.network().partition(&[&[1], &[2]]);
    asked("udp");
    field.network().heal();
    for host in [1, 2] {
        field.network().shrink(host, 1_000);
    }
    asked("mtu");
    field.network().heal();
    let recipe = field.remote(2).with(&["--seeds", &field.listen(1), "--token", &token]);
    field.peers.start(recipe);
    field.peers.until_formed(1, 1);
}
