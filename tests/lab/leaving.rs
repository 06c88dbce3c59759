//! Hosts leave a mesh for good, whatever they are in it, and whoever stays goes on.

use crate::machine::{self, Need};
use crate::mesh::PATIENCE;
use crate::meshes::{Field, expect_done};

/// `host` leaves. Its process ends by itself, says so, and nothing of its part is left; those who `stay` list it no more,
/// and write.
#[track_caller]
fn leaves(field: &mut Field, host: &str, stay: &[&str], words: &[&str]) {
    let recipe = field.peers.get(host).recipe.clone();
    expect_done(&recipe.verb([&["cluster", "leave"], words].concat()));
    let peer = field.peers.get(host);
    assert_eq!(peer.ended(), 0, "{}", peer.tail());
    let log = peer.log();
    for said in ["this host has left the mesh", "this run ends"] {
        assert!(log.contains(said), "{said} in {log}");
    }
    for gone in ["peer.toml", "mesh/key.pem", "mesh/certificate.pem", "mesh/authority-key.pem", "mesh/house-token"] {
        assert!(!recipe.home().join(gone).exists(), "{gone} of {host}");
    }
    let Some(first) = stay.first() else { return };
    let took = field.peers.until(PATIENCE, "those who stay", |members| members.is_well() && members.hosts() == stay);
    machine::say(&format!("{host} has left: the others go on {:.1} s later", took.as_secs_f64()));
    expect_done(&field.peers.get(first).recipe.verb(["kv", "put", &format!("left/{host}"), "1"]));
}

#[test]
fn a_learner_the_leader_and_one_of_two_leave_and_the_last_says_what_that_means() {
    needs!(&[Need::Root]);
    let mut field = Field::machine();
    let founder = field.local("a");
    field.peers.start(founder.clone());
    field.peers.until_formed(1, 0);
    let last = |host: &str| format!("{host} is the last host of this mesh");
    let refused = founder.verb(["cluster", "leave"]);
    assert_eq!(refused.code, 64, "{refused:?}");
    assert!(refused.err.contains(&last("a")), "{refused:?}");
    // An admin like the founder, from a state directory of its own: it stays to the end.
    let admin = field.token(&["--role", "admin"]);
    let address = field.peers.members().members[0].address.clone();
    let mut b = field.local("b").with(&["--seeds", &address, "--token", &admin]);
    b.prefix = field.scratch.path("elsewhere");
    field.peers.start(b.clone());
    field.peers.until(PATIENCE, "a and b", |members| members.is_well() && members.hosts() == ["a", "b"]);
    for host in ["c", "d"] {
        let recipe = field.local(host);
        field.peers.start(recipe);
    }
    field.peers.until_formed(3, 1);
    let learner = field.peers.members().learners()[0].to_owned();
    let stay: Vec<_> = ["a", "b", "c", "d"].into_iter().filter(|host| *host != learner).collect();
    assert!(stay.starts_with(&["a", "b"]), "{learner} is the learner, and came before others");
    leaves(&mut field, &learner, &stay, &[]);
    // The founder leads, and leaves as it does.
    if field.leader() != "a" {
        expect_done(&founder.verb(["cluster", "transfer", "a"]));
        field.peers.until(PATIENCE, "a leads", |members| members.leader.as_deref() == Some("a"));
    }
    leaves(&mut field, "a", &stay[1..], &[]);
    // The only admin would leave somebody behind whom nobody could administer.
    let refused = b.verb(["cluster", "leave"]);
    assert_eq!(refused.code, 77, "{refused:?}");
    assert!(refused.err.contains("b is the only admin"), "{refused:?}");
    // One of two, and then the last one.
    leaves(&mut field, stay[2], &["b"], &[]);
    let refused = b.verb(["cluster", "leave"]);
    assert_eq!(refused.code, 64, "{refused:?}");
    assert!(refused.err.contains(&last("b")), "{refused:?}");
    leaves(&mut field, "b", &[], &["--yes"]);
    // What is begun there now is another mesh, and holds nothing of that one.
    field.peers.get("a").restart();
    field.peers.until(PATIENCE, "a alone", |members| members.is_well() && members.hosts() == ["a"]);
    assert_ne!(founder.verb(["kv", "get", "left/a"]).code, 0);
}
