//! Tables of how hosts start, with the sentences that people read.

use std::fmt::Write as _;

use expect_test::expect;
use mgmt_consensus::PeerId;

use super::super::rendezvous::Sleeper;
use super::*;

const SECRET: &str = "0123456789abcdef0123";

fn token(cluster: u128) -> String {
    Token::draw(ClusterId(cluster), [7; 32]).unwrap().to_string()
}

fn announcement(host: &str, cluster: u128) -> Announcement {
    Announcement {
        cluster: ClusterId(cluster),
        peer: PeerId(1),
        host: host.to_owned(),
        address: "127.0.0.1:4001".parse().unwrap(),
        pid: 1,
        token: Some("its token".to_owned()),
    }
}

fn sleeper(host: &str) -> Sleeper {
    Sleeper { host: host.to_owned(), cluster: None }
}

/// A host named `me` without anything, whose graph needs a mesh.
fn nobody() -> Facts {
    Facts {
        flags: Flags::default(),
        graph: Graph::Needs,
        before: Before::Nobody,
        promised: None,
        scene: Scene { me: "me".to_owned(), live: vec![], sleepers: vec![], new_cluster: false },
        elsewhere: vec![],
    }
}

/// The same, changed.
fn with(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = nobody();
    change(&mut facts);
    facts
}

/// The same, with these flags.
fn typed(seeds: &str, token: Option<&str>, expect: Option<u16>) -> Facts {
    with(|facts| {
        facts.flags.seeds = parse(&[seeds.to_owned()]).unwrap();
        facts.flags.token = token.map(|text| Ok(text.to_owned()));
        facts.flags.expect = expect;
        facts.flags.any = (!seeds.is_empty() || token.is_some() || expect.is_some()).then_some("--seeds");
    })
}

fn said(start: Start) -> String {
    match start {
        Start::Off { why } => format!("no mesh: {why}"),
        Start::Resume => "resume".to_owned(),
        Start::Found => "found".to_owned(),
        Start::JoinLocal(other) => format!("join {} with {}", other.host, &other.token.unwrap()[..9]),
        Start::JoinSeeds { seeds, token } => format!("join cluster {} at {}", token.cluster.0, seeds[0]),
        Start::Bootstrap(all) => format!("found together: {}, at {}", all.expect, all.seeds[0]),
        Start::Wait { why, .. } => format!("wait: {why}"),
        Start::Refuse(failure) => format!("exit {}: {}", failure.exit as u8, failure.message),
    }
}

fn table<const N: usize>(rows: [(&str, Facts); N]) -> String {
    let mut out = String::new();
    for (name, facts) in rows {
        writeln!(out, "{name}: {}", said(plan(&facts))).unwrap();
    }
    out
}

#[test]
fn without_seeds() {
    let flags = Flags { any: Some("--listen"), ..Flags::default() };
    let table = table([
        ("a graph that needs it", nobody()),
        ("a graph that does not", with(|f| f.graph = Graph::Without)),
        ("the same, with --listen", with(|f| (f.graph, f.flags) = (Graph::Without, flags))),
        ("the same, was a member", with(|f| (f.graph, f.before) = (Graph::Without, Before::Member(ClusterId(1))))),
        ("no graph", with(|f| f.graph = Graph::None)),
        ("somebody lives", with(|f| f.scene.live = vec![announcement("a", 1)])),
        ("somebody sleeps", with(|f| f.scene.sleepers = vec![sleeper("a")])),
        ("it has promised", with(|f| f.promised = Some(("mesh/promise.json".to_owned(), "web1".to_owned())))),
        ("two clusters", with(|f| f.scene.live = vec![announcement("a", 1), announcement("b", 2)])),
    ]);
    expect![[r#"
        a graph that needs it: found
        a graph that does not: no mesh: the graph needs none
        the same, with --listen: found
        the same, was a member: resume
        no graph: found
        somebody lives: join a with its token
        somebody sleeps: wait: none of the hosts runs that belong to a mesh under this prefix (a); waiting for one of them (start mgmt run --hostname a), or begin another mesh with --new-cluster
        it has promised: exit 77: this host has promised to found a mesh together with others, led by web1: start it with --seeds and --expect as before, or remove mesh/promise.json if that mesh was never founded
        two clusters: exit 77: two clusters live under this prefix: a of cluster 00000000000000000000000000000001; b of cluster 00000000000000000000000000000002; stop one of them, or give this host a --prefix of its own, or say with --seeds and --token which to join
    "#]].assert_eq(&table);
}

#[test]
fn with_seeds() {
    let (one, bad) = (token(1), token(1).replace('_', "-"));
    let at = |f: &mut Facts| f.flags.seeds = parse(&["localhost:4001".to_owned()]).unwrap();
    let table = table([
        ("a token", typed("a", Some(&one), None)),
        ("a token that is none", typed("a", Some(&bad), None)),
        ("no token", typed("a", None, None)),
        ("no token, a port of this user", with(|f| (at(f), f.elsewhere = vec![announcement("a", 1)]).1)),
        ("no token, another port", typed("localhost:1", None, None)),
        ("a token alone", typed("", Some(&one), None)),
        (
            "a token of who lives",
            Facts { scene: with(|f| f.scene.live = vec![announcement("a", 1)]).scene, ..typed("", Some(&one), None) },
        ),
        ("was a member", Facts { before: Before::Member(ClusterId(1)), ..typed("a", Some(&one), None) }),
        ("was a member elsewhere", Facts { before: Before::Member(ClusterId(2)), ..typed("a", Some(&one), None) }),
    ]);
    expect![[r#"
        a token: join cluster 1 at a:6468
        a token that is none: exit 64: this is no token: tokens begin with mgmt1_; `mgmt token create` on a member of the mesh makes one
        no token: exit 64: joining by --seeds needs what lets in: give --token or --token-file with a token of that mesh (mgmt token create on one of its members), or --expect N to found one together
        no token, a port of this user: join a with its token
        no token, another port: exit 64: joining by --seeds needs what lets in: give --token or --token-file with a token of that mesh (mgmt token create on one of its members), or --expect N to found one together
        a token alone: exit 64: --token needs --seeds: the address of a member of that mesh
        a token of who lives: join a with mgmt1_aaa
        was a member: resume
        was a member elsewhere: exit 77: me is a member of cluster 00000000000000000000000000000002 and the token is of cluster 00000000000000000000000000000001: two meshes never merge; leave out --token to go on, or leave the first (mgmt cluster leave), or give another --prefix
    "#]].assert_eq(&table);
}

#[test]
fn together_with_others() {
    let one = token(1);
    let table = table([
        ("a secret", typed("a", Some(SECRET), Some(5))),
        ("no secret", typed("a", None, Some(5))),
        ("a short secret", typed("a", Some("password"), Some(5))),
        ("a token", typed("a", Some(&one), Some(5))),
        ("no seeds", typed("", Some(SECRET), Some(5))),
        ("none", typed("a", Some(SECRET), Some(0))),
        ("very many", typed("a", Some(SECRET), Some(1000))),
        ("was a member", Facts { before: Before::Member(ClusterId(1)), ..typed("a", Some(SECRET), Some(5)) }),
        (
            "a secret that cannot be read",
            with(|f| {
                f.flags = typed("a", None, Some(5)).flags;
                f.flags.token = Some(Err("cannot read secret: no such file".to_owned()));
            }),
        ),
    ]);
    expect![[r#"
        a secret: found together: 5, at a:6468
        no secret: exit 64: --expect needs --token-file: a file with a secret of at least 16 characters, the same on all hosts, as of `openssl rand -hex 16`
        a short secret: exit 64: a secret of 8 bytes is guessed: at least 16 are wanted, as of `openssl rand -hex 16`
        a token: exit 64: that is the token of a mesh that is there already: leave out --expect to join it
        no seeds: exit 64: --expect needs --seeds: the addresses of the hosts that found the mesh
        none: exit 64: --expect takes the number of hosts that found the mesh, 1 to 64
        very many: exit 64: --expect takes the number of hosts that found the mesh, 1 to 64
        was a member: resume
        a secret that cannot be read: exit 73: cannot read secret: no such file
    "#]].assert_eq(&table);
}

#[test]
fn with_a_file_that_cannot_be_trusted() {
    let damaged = || Before::Damaged("its checksum is wrong".to_owned());
    let table = table([
        ("alone", Facts { before: damaged(), ..nobody() }),
        ("a graph that needs no mesh", Facts { before: damaged(), graph: Graph::Without, ..nobody() }),
        ("somebody lives", Facts { before: damaged(), ..with(|f| f.scene.live = vec![announcement("a", 1)]) }),
        (
            "somebody sleeps",
            Facts { before: damaged(), ..with(|f| f.scene.sleepers = vec![sleeper("a"), sleeper("me")]) },
        ),
        ("seeds and a token", Facts { before: damaged(), ..typed("a", Some(&token(1)), None) }),
        ("seeds and a secret", Facts { before: damaged(), ..typed("a", Some(SECRET), Some(3)) }),
        ("no network", Facts { before: damaged(), ..with(|f| f.flags.no_network = true) }),
    ]);
    expect![[r#"
        alone: exit 74: peer.toml of this host cannot be trusted (its checksum is wrong), so it may have been in a mesh: join that again with --seeds and --token, or remove the file if there is none
        a graph that needs no mesh: exit 74: peer.toml of this host cannot be trusted (its checksum is wrong), so it may have been in a mesh: join that again with --seeds and --token, or remove the file if there is none
        somebody lives: join a with its token
        somebody sleeps: exit 74: peer.toml of this host cannot be trusted (its checksum is wrong), so it may have been in a mesh: join that again with --seeds and --token, or remove the file if there is none
        seeds and a token: join cluster 1 at a:6468
        seeds and a secret: exit 74: peer.toml of this host cannot be trusted (its checksum is wrong), so it may have been in a mesh: join that again with --seeds and --token, or remove the file if there is none
        no network: no mesh: --no-network is given
    "#]].assert_eq(&table);
}

#[test]
fn with_a_program_that_is_too_old() {
    let old = || Before::Outdated("the mesh uses feature level 2".to_owned());
    let table = table([
        ("no graph", Facts { before: old(), graph: Graph::None, ..nobody() }),
        ("a graph that needs no mesh", Facts { before: old(), graph: Graph::Without, ..nobody() }),
        ("seeds and a token", Facts { before: old(), ..typed("a", Some(&token(1)), None) }),
        ("no network", Facts { before: old(), ..with(|f| f.flags.no_network = true) }),
    ]);
    expect![[r#"
        no graph: exit 76: the mesh uses feature level 2
        a graph that needs no mesh: exit 76: the mesh uses feature level 2
        seeds and a token: exit 76: the mesh uses feature level 2
        no network: no mesh: --no-network is given
    "#]]
    .assert_eq(&table);
}

#[test]
fn without_a_network() {
    let flags = |any| Flags { no_network: true, any, ..Flags::default() };
    let table = table([
        ("a graph that needs it", with(|f| f.flags = flags(None))),
        ("was a member", with(|f| (f.flags, f.before) = (flags(None), Before::Member(ClusterId(1))))),
        ("seeds as well", with(|f| f.flags = flags(Some("--seeds")))),
    ]);
    expect![[r#"
        a graph that needs it: no mesh: --no-network is given
        was a member: no mesh: --no-network is given
        seeds as well: exit 64: --no-network and --seeds contradict each other: leave one of them out
    "#]]
    .assert_eq(&table);
}

#[test]
fn a_secret_is_read_from_a_file() {
    let scratch = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8]| {
        let path = scratch.path().join(name);
        std::fs::write(&path, text).unwrap();
        read(&path)
    };
    assert_eq!(file("good", b"  secret words\n\n"), Ok("secret words".to_owned()));
    assert!(file("empty", b"\n").unwrap_err().ends_with("empty is empty"));
    assert!(file("binary", &[0xff; 9]).unwrap_err().starts_with("cannot read "));
    assert!(file("long", &[b'x'; 5000]).unwrap().len() > SECRET_BYTES_MAX, "which is refused as too long");
    assert!(read(&scratch.path().join("missing")).is_err());
}
