//! How meshes come to be, end, and come back: on hosts of their own, by seeds and tokens.

use std::time::Duration;

use rustix::process::Signal;

use crate::machine;
use crate::mesh::{PATIENCE, let_pass, wait};
use crate::meshes::{Field, expect_done};
use crate::netns::NETWORK;

/// A lone host without a quorum must have noticed by then.
const NOTICED: Duration = Duration::from_secs(15);
/// How long a single master goes on alone.
const WHILE: Duration = Duration::from_secs(3);

#[test]
fn three_hosts_join_by_seeds_and_return_after_all_were_killed() {
    needs!(NETWORK);
    let mut field = Field::spread(3, 3);
    for recipe in field.all() {
        expect_done(&recipe.verb(["kv", "put", &format!("lab/{}", recipe.host), "here"]));
    }
    for order in [[1, 2, 3], [3, 1, 2], [2, 3, 1]] {
        order.iter().for_each(|host| field.peers.get(&format!("p{host}")).kill());
        order.iter().for_each(|host| field.peers.get(&format!("p{host}")).restart());
        let recipe = field.remote(order[0]);
        let put = || recipe.verb(["kv", "put", "--timeout", "1", "lab/again", "x"]).code == 0;
        let took = wait(PATIENCE, put).expect("a mesh of three comes back");
        machine::say(&format!("three hosts killed and started: a put after {:.2} s", took.as_secs_f64()));
        field.peers.until_formed(3, 0);
        for host in order {
            let read = field.remote(host).verb(["kv", "get", "--latest", "lab/p2"]);
            assert_eq!((read.code, read.out.trim_end()), (0, "here"), "{read:?}");
        }
    }
}

#[test]
fn two_hosts_are_a_master_and_a_learner() {
    needs!(NETWORK);
    let mut field = Field::spread(2, 1);
    let members = field.peers.members();
    let (master, learner) = (members.masters()[0].to_owned(), members.learners()[0].to_owned());
    let of = |field: &Field, host: &str| field.remote(host[1..].parse().unwrap());
    let (to_master, to_learner) = (of(&field, &master), of(&field, &learner));
    // The learner is missed by nobody.
    field.peers.get(&learner).kill();
    expect_done(&to_master.verb(["kv", "put", "lab/alone", "x"]));
    let_pass(WHILE);
    expect_done(&to_master.verb(["kv", "put", "lab/alone", "y"]));
    field.peers.get(&learner).restart();
    field.peers.until_formed(1, 1);
    assert!(wait(PATIENCE, || to_learner.verb(["kv", "get", "lab/alone"]).out.trim_end() == "y").is_some());
    // Without the master nothing is written; what is there is read, and its age is said.
    field.peers.get(&master).kill();
    let told =
        wait(NOTICED, || to_learner.status().is_some_and(|status| status["mesh"]["quorum"].as_bool() == Some(false)));
    assert!(told.is_some(), "it does not say that there is no quorum\n{}", field.peers.show());
    assert_eq!(to_learner.verb(["kv", "put", "--timeout", "2", "lab/alone", "z"]).code, 75);
    let read = to_learner.verb(["kv", "get", "lab/alone"]);
    assert_eq!((read.code, read.out.trim_end()), (0, "y"), "{read:?}");
    field.peers.get(&master).restart();
    field.peers.until_formed(1, 1);
    expect_done(&to_learner.verb(["kv", "put", "lab/alone", "z"]));
}

#[test]
fn what_is_left_of_a_mesh_recovers_from_one_peer() {
    needs!(NETWORK);
    let mut field = Field::spread(3, 3);
    let last = field.remote(2);
    for number in 0..20 {
        expect_done(&last.verb(["kv", "put", &format!("lab/{number}"), "kept"]));
    }
    let revision = last.status().expect("it runs")["mesh"]["revision"].as_u64().expect("a number");
    // Two of three are gone for good.
    for host in ["p1", "p3"] {
        field.peers.get(host).kill();
        field.peers.0.remove(host);
    }
    assert_eq!(field.peers.get("p2").end(Signal::TERM), 0);
    let recovered = last.verb(["cluster", "recover", "--yes"]);
    expect_done(&recovered);
    // Without the token by which it has joined: that is of the mesh that was.
    field.peers.0.remove("p2");
    field.peers.start(field.remote(2));
    let took = field.peers.until_formed(1, 0);
    machine::say(&format!("recovered from one of three: leads itself after {:.2} s", took.as_secs_f64()));
    for number in 0..20 {
        let read = last.verb(["kv", "get", "--latest", &format!("lab/{number}")]);
        assert_eq!((read.code, read.out.trim_end()), (0, "kept"), "{read:?}");
    }
    expect_done(&last.verb(["kv", "put", "lab/after", "x"]));
    let after = last.status().expect("it runs")["mesh"]["revision"].as_u64().expect("a number");
    assert!(after > revision, "revisions went from {revision} to {after}");
}
