//! Tables of what is decided; files that live, die and lie; many that start at once.

use std::fmt::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::Barrier;

use expect_test::expect;
use mgmt_consensus::identity::{Identity, render};
use mgmt_consensus::{ClusterId, Incarnation, PeerId};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

fn announcement(host: &str, cluster: u128, token: bool) -> Announcement {
    Announcement {
        cluster: ClusterId(cluster),
        peer: PeerId(7),
        host: host.to_owned(),
        address: "127.0.0.1:6468".parse().unwrap(),
        pid: 42,
        token: token.then(|| "mgt1_secret".to_owned()),
    }
}

fn prefix() -> (tempfile::TempDir, Local) {
    let prefix = tempfile::tempdir().unwrap();
    let local = Local::open(prefix.path()).unwrap();
    (prefix, local)
}

fn member(prefix: &Path, host: &str, cluster: u128) {
    let identity = Identity {
        cluster: ClusterId(cluster),
        peer: PeerId(1),
        incarnation: Incarnation(1),
        raft: Some(1),
        host: host.to_owned(),
    };
    std::fs::create_dir_all(prefix.join(host)).unwrap();
    std::fs::write(prefix.join(host).join(FILE), render(&identity)).unwrap();
}

#[test]
fn what_a_host_does_that_is_started_without_seeds() {
    let sleeper = |host: &str, cluster| Sleeper { host: host.to_owned(), cluster: Some(ClusterId(cluster)) };
    let many = (0..8).map(|n| sleeper(&format!("s{n}"), 1)).collect::<Vec<_>>();
    let scenes = [
        ("nobody", vec![], vec![], false),
        ("nobody, a new one", vec![], vec![], true),
        ("one lives", vec![announcement("a", 1, true)], vec![sleeper("a", 1)], false),
        ("one lives, a new one", vec![announcement("a", 1, true)], vec![sleeper("a", 1)], true),
        ("one has a token", vec![announcement("a", 1, false), announcement("b", 1, true)], vec![], false),
        ("none has a token", vec![announcement("a", 1, false)], vec![], false),
        ("two clusters", vec![announcement("a", 1, true), announcement("b", 2, false)], vec![], false),
        ("one lives, another sleeps", vec![announcement("a", 1, true)], vec![sleeper("b", 2)], false),
        ("one sleeps", vec![], vec![sleeper("a", 1)], false),
        ("many sleep", vec![], many, false),
        ("one sleeps, a new one", vec![], vec![sleeper("a", 1)], true),
        ("oneself", vec![announcement("a", 2, true)], vec![sleeper("a", 2), sleeper("me", 1)], true),
        ("one's own ghost", vec![announcement("me", 2, true)], vec![], false),
    ];
    let mut out = String::new();
    for (name, live, sleepers, new_cluster) in scenes {
        let said = match decide(&Scene { me: "me".to_owned(), live, sleepers, new_cluster }) {
            Meet::Resume => "resume".to_owned(),
            Meet::Found => "found".to_owned(),
            Meet::Join(other) => format!("join {}", other.host),
            Meet::Wait { why, .. } => format!("wait: {why}"),
            Meet::Refuse(why) => format!("refuse: {why}"),
        };
        writeln!(out, "{name}: {said}").unwrap();
    }
    expect![[r#"
        nobody: found
        nobody, a new one: found
        one lives: join a
        one lives, a new one: join a
        one has a token: join b
        none has a token: wait: no token that lets others in is announced by who lives under this prefix (a); join with --seeds and --token (mgmt token create)
        two clusters: refuse: two clusters live under this prefix: a of cluster 00000000000000000000000000000001; b of cluster 00000000000000000000000000000002; stop one of them, or give this host a --prefix of its own, or say with --seeds and --token which to join
        one lives, another sleeps: join a
        one sleeps: wait: none of the hosts runs that belong to a mesh under this prefix (a); waiting for one of them (start mgmt run --hostname a), or begin another mesh with --new-cluster
        many sleep: wait: none of the hosts runs that belong to a mesh under this prefix (s0, s1, s2, s3, s4 and 3 more); waiting for one of them (start mgmt run --hostname s0, or mgmt run --hostname s1, or mgmt run --hostname s2, or mgmt run --hostname s3, or mgmt run --hostname s4), or begin another mesh with --new-cluster
        one sleeps, a new one: found
        oneself: resume
        one's own ghost: found
    "#]].assert_eq(&out);
}

#[test]
fn a_line_says_what_it_was_given_and_hides_its_token_from_logs() {
    let line = announcement("web-1.example", 0xab, true);
    expect![[r#"
        {"v":1,"cluster":"000000000000000000000000000000ab","peer":"00000000000000000000000000000007","host":"web-1.example","address":"127.0.0.1:6468","pid":42,"token":"mgt1_secret"}
    "#]].assert_eq(&line.render());
    assert_eq!(Announcement::parse(&line.render()), Ok(line.clone()));
    assert!(!format!("{line:?}").contains("secret"), "{line:?}");
}

#[test]
fn who_lives_is_seen_and_who_is_dead_is_cleared_away() {
    let (prefix, local) = prefix();
    assert_eq!(local.live().unwrap(), []);
    let mut a = local.announce(&announcement("a", 1, false)).unwrap();
    let b = local.announce(&announcement("b", 1, true)).unwrap();
    let hosts = || local.live().unwrap().into_iter().map(|other| other.host).collect::<Vec<_>>();
    assert_eq!(hosts(), ["a", "b"]);
    a.update(&announcement("a", 1, true)).unwrap();
    assert!(local.live().unwrap()[0].token.is_some());
    assert!(a.update(&announcement("c", 1, true)).is_err());
    let path = prefix.path().join(".local/a");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    drop(a);
    assert_eq!(hosts(), ["b"]);
    assert!(!path.exists());
    // As after a kill: the file stays, its lock is gone.
    std::fs::copy(prefix.path().join(".local/b"), &path).unwrap();
    std::fs::write(prefix.path().join(".local/.fresh-a"), "half").unwrap();
    assert_eq!(hosts(), ["b"]);
    assert!(!path.exists(), "the dead are cleared away");
    drop(b);
    assert_eq!(hosts(), Vec::<String>::new());
    local.announce(&announcement("a", 1, true)).unwrap();
}

#[test]
fn a_successor_under_the_same_name_is_not_taken_out_by_its_predecessor() {
    let (_prefix, local) = prefix();
    let first = local.announce(&announcement("a", 1, false)).unwrap();
    let _second = local.announce(&announcement("a", 2, false)).unwrap();
    drop(first);
    assert_eq!(local.live().unwrap()[0].cluster, ClusterId(2));
}

#[test]
fn what_lies_in_the_folder_is_not_believed() {
    let (prefix, local) = prefix();
    let folder = prefix.path().join(".local");
    let good = announcement("a", 1, true).render();
    let mut locks = Vec::new();
    let mut put = |name: &str, text: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let file = File::open(path).unwrap();
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        locks.push(file);
    };
    put("other", good.as_bytes());
    put("long", &vec![b' '; 1 << 20]);
    put("noutf", &[0xff; 100]);
    put("nojson", b"{");
    put("nested", "[".repeat(4000).as_bytes());
    put("version", good.replace("\"v\":1", "\"v\":2").as_bytes());
    put("number", good.replace("0001\"", "000g\"").as_bytes());
    put("address", good.replace(":6468", ":0").as_bytes());
    put("open", good.replace("\"a\"", "\"open\"").as_bytes());
    std::fs::set_permissions(folder.join("open"), std::fs::Permissions::from_mode(0o644)).unwrap();
    put("Not a host", good.as_bytes());
    symlink("other", folder.join("link")).unwrap();
    mknodat(CWD, folder.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    std::fs::create_dir(folder.join("folder")).unwrap();
    put("a", good.as_bytes());
    let hosts: Vec<_> = local.live().unwrap().into_iter().map(|other| other.host).collect();
    assert_eq!(hosts, ["a"]);
}

#[test]
fn a_folder_of_others_is_refused() {
    let (prefix, local) = prefix();
    let folder = prefix.path().join(".local");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = Local::open(prefix.path()).unwrap_err().to_string();
    assert!(error.contains("chmod 700"), "{error}");
    assert!(local.live().is_err(), "also when it becomes so later");
    assert!(local.found_lock().is_err());
    std::fs::remove_dir(&folder).unwrap();
    assert!(Local::existing(prefix.path()).unwrap().is_none());
    let elsewhere = prefix.path().join("elsewhere");
    DirBuilder::new().mode(0o700).create(&elsewhere).unwrap();
    symlink(&elsewhere, &folder).unwrap();
    assert!(Local::open(prefix.path()).is_err(), "a link is not followed");
}

#[test]
fn members_of_the_prefix_are_known_whatever_their_file_says() {
    let (prefix, local) = prefix();
    member(prefix.path(), "b", 9);
    member(prefix.path(), "damaged", 9);
    std::fs::write(prefix.path().join("damaged").join(FILE), "?").unwrap();
    std::fs::create_dir(prefix.path().join("empty")).unwrap();
    std::fs::write(prefix.path().join("file"), "").unwrap();
    let found = local.sleepers().unwrap();
    let sleeper = |host: &str, cluster| Sleeper { host: host.to_owned(), cluster };
    assert_eq!(found, [sleeper("b", Some(ClusterId(9))), sleeper("damaged", None)]);
}

fn meet(local: &Local, me: &str) -> Met {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(local.meet(me, false, |_| {})).unwrap()
}

/// Founds or joins as a process would; which cluster it ended in.
fn live(prefix: &Path, host: &str, cluster: u128) -> (ClusterId, Announced) {
    let local = Local::open(prefix).unwrap();
    match meet(&local, host) {
        Met::Found(founding) => {
            member(prefix, host, cluster);
            let announced = local.announce(&announcement(host, cluster, true)).unwrap();
            drop(founding);
            (ClusterId(cluster), announced)
        }
        Met::Join(other) => {
            member(prefix, host, other.cluster.0);
            (other.cluster, local.announce(&announcement(host, other.cluster.0, true)).unwrap())
        }
        met => panic!("{met:?}"),
    }
}

#[test]
fn eight_that_start_at_once_make_one_cluster() {
    for _ in 0..20 {
        let prefix = tempfile::tempdir().unwrap();
        let barrier = Barrier::new(8);
        // Announcements are kept until all have met: who has met does not leave before.
        let met: Vec<_> = std::thread::scope(|scope| {
            let starts = (0..8).map(|n| {
                let (prefix, barrier) = (prefix.path(), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    live(prefix, &format!("h{n}"), 100 + n)
                })
            });
            let starts: Vec<_> = starts.collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        let clusters: BTreeSet<_> = met.iter().map(|(cluster, _)| *cluster).collect();
        assert_eq!(clusters.len(), 1, "{clusters:?}");
        assert_eq!(Local::open(prefix.path()).unwrap().live().unwrap().len(), 8);
    }
}

#[test]
fn who_waits_for_a_sleeper_joins_it_when_it_comes() {
    let (prefix, local) = prefix();
    member(prefix.path(), "a", 5);
    let mut said = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let met = runtime.block_on(async {
        let mut announced = None;
        let meeting = local.meet("b", false, |why| {
            said.push(why.to_owned());
            announced = Some(local.announce(&announcement("a", 5, true)).unwrap());
        });
        meeting.await.unwrap()
    });
    assert!(matches!(met, Met::Join(other) if other.cluster == ClusterId(5)));
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(matches!(meet(&local, "a"), Met::Resume));
}
