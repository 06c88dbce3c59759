//! Masters whose disks fail them: full, unable to sync, wiped, or set back to an old image.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::disk::{Disk, Kind};
use crate::machine::{self, Need, XFS};
use crate::mesh::clients::{self, Load};
use crate::mesh::peer::Recipe;
use crate::mesh::{PATIENCE, wait};
use crate::meshes::{Field, expect_done, judge};

/// Changes must go on by then.
const TAKEOVER: Duration = Duration::from_secs(20);

/// A leader with a slow disk hands over by then: that it is not slow for a moment only takes a minute.
const HANDED_OVER: Duration = Duration::from_secs(150);
/// As long as a sync of the slow disk takes.
const SLOW: Duration = Duration::from_millis(700);

/// A disk on which a host may still be a master: half a GiB must be free.
const ROOMY_MIB: u32 = 1_024;

/// Copies a whole directory.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success(), "cp -a");
}

#[test]
fn a_full_disk_stops_no_mesh() {
    needs!(XFS);
    let mut field = Field::machine();
    let disk = Disk::of(&field.scratch, Kind::Xfs, ROOMY_MIB);
    // One lives on the small disk, under the same prefix as the others.
    fs::create_dir_all(field.scratch.prefix()).unwrap();
    std::os::unix::fs::symlink(disk.path().join("p1"), field.scratch.path("state").join("p1")).unwrap();
    fs::create_dir(disk.path().join("p1")).unwrap();
    for host in ["p1", "p2", "p3"] {
        let recipe = field.local(host);
        field.peers.start(recipe);
    }
    field.peers.until_formed(3, 0);
    field.open();
    let outcome = clients::run(&field.all(), Load::light(), |progress| {
        disk.fill();
        let took = progress.until_change(TAKEOVER).expect("changes go on");
        // Enough to need more room than was prepared.
        crate::mesh::let_pass(Duration::from_secs(5));
        assert!(progress.until_change(TAKEOVER).is_some(), "changes have ended\n{}", field.peers.show());
        disk.free();
        let well = field.peers.until_formed(3, 0);
        machine::say(&format!(
            "a full disk: changes after {:.2} s; with room again all is well after {:.2} s",
            took.as_secs_f64(),
            well.as_secs_f64()
        ));
        progress.stop();
    });
    judge("a full disk", &outcome);
    // What is mounted cannot go while somebody is in it.
    drop(std::mem::take(&mut field.peers));
}

#[test]
fn a_slow_disk_holds_nobody_up_and_does_not_lead_for_long() {
    needs!(&[Need::Root, Need::Strace]);
    let mut field = Field::machine();
    // Each of its syncs takes as long as the slowest disks that are still allowed to lead.
    let inject = "inject=fdatasync:delay_exit=700000:when=60+";
    let slow = field.local("p1").by(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", inject]);
    field.peers.start(slow);
    field.peers.until_formed(1, 0);
    for host in ["p2", "p3"] {
        let recipe = field.local(host);
        field.peers.start(recipe);
    }
    field.peers.until_formed(3, 0);
    field.open();
    let leads = |field: &mut Field| field.leader() == "p1";
    let outcome = clients::run(&field.all(), Load::light(), |progress| {
        let start = Instant::now();
        assert!(wait(HANDED_OVER, || !leads(&mut field)).is_some(), "it still leads\n{}", field.peers.show());
        let led = start.elapsed();
        let begun = Instant::now();
        for _ in 0..20 {
            assert!(progress.until_change(TAKEOVER).is_some(), "changes have ended\n{}", field.peers.show());
        }
        let change = begun.elapsed() / 20;
        machine::say(&format!(
            "a slow disk (0.7 s a sync): led for {:.0} s; then {change:.1?} a change",
            led.as_secs_f64()
        ));
        assert!(change < SLOW, "others wait for the slow disk");
        progress.stop();
    });
    judge("a slow disk", &outcome);
    field.peers.until_formed(3, 0);
}

#[test]
fn a_failed_sync_ends_a_part_in_the_mesh_for_good_and_it_returns_as_somebody_else() {
    needs!(&[Need::Root, Need::Strace]);
    let mut field = Field::machine();
    for host in ["p1", "p2"] {
        let recipe = field.local(host);
        field.peers.start(recipe);
    }
    // From some point on in its life no sync succeeds.
    let inject = "inject=fdatasync:error=EIO:when=60+";
    let third =
        field.local("p3").by(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", inject]);
    field.peers.start(third);
    field.peers.until_formed(3, 0);
    field.open();
    let outcome = clients::run(&field.all(), Load::light(), |progress| {
        let sick = field.local("p3");
        let stopped = wait(PATIENCE, || {
            let status = sick.status();
            status.is_some_and(|status| status["mesh"]["stage"].as_str().is_some_and(|stage| stage != "member"))
        });
        assert!(stopped.is_some(), "it takes no notice of a failed sync\n{}", field.peers.show());
        assert!(progress.until_change(TAKEOVER).is_some(), "changes have ended\n{}", field.peers.show());
        progress.stop();
    });
    judge("a failed sync", &outcome);
    let peer = field.peers.get("p3");
    assert!(peer.runs(), "the engine goes on:\n{}", peer.tail());
}

/// What must be taken away or set back, so that a master has lost its memory.
fn memory(recipe: &Recipe) -> Vec<std::path::PathBuf> {
    ["journal", "snapshots", "peer.toml"].map(|name| recipe.home().join(name)).to_vec()
}

#[test]
fn a_wiped_master_comes_back_under_a_new_id() {
    needs!(&[Need::Root]);
    let mut field = Field::plain(3, 3);
    let outcome = clients::run(&field.all(), Load::light(), |progress| {
        for round in 0..3 {
            let leader = field.leader();
            let host = field.all().into_iter().find(|recipe| (recipe.host == leader) == (round == 1)).expect("three");
            let who = || fs::read_to_string(host.home().join("peer.toml"));
            let former = who().expect("it is a member");
            field.peers.get(&host.host).kill();
            for path in memory(&host) {
                // There are no snapshots yet, unless there was much to take.
                if path.is_dir() {
                    fs::remove_dir_all(&path).unwrap();
                } else if path.exists() {
                    fs::remove_file(&path).unwrap();
                }
            }
            field.peers.get(&host.host).restart();
            assert!(progress.until_change(TAKEOVER).is_some(), "changes have ended\n{}", field.peers.show());
            let back = Instant::now();
            // Until the exchange has ended, the former life is asked as well: the next one must not fail before.
            crate::wait::until_within(PATIENCE, "it is a master as somebody else", || {
                let mesh = host.status().map(|status| status["mesh"].clone()).unwrap_or_default();
                let votes = mesh["role"] == "master" && mesh["changing"] == false;
                votes && who().is_ok_and(|now| now != former)
            });
            let took = back.elapsed();
            let who = if round == 1 { "leader" } else { "follower" };
            machine::say(&format!("a wiped {who}: a master again after {:.1} s", took.as_secs_f64()));
        }
        progress.stop();
    });
    judge("wiped masters", &outcome);
}

#[test]
fn an_old_disk_image_does_not_vote() {
    needs!(&[Need::Root]);
    let mut field = Field::plain(3, 3);
    let leader = field.leader();
    let host = field.all().into_iter().find(|recipe| recipe.host != leader).expect("three");
    let (home, image) = (host.home(), field.scratch.path("image"));
    field.peers.get(&host.host).kill();
    copy(&home, &image);
    field.peers.get(&host.host).restart();
    field.peers.until_formed(3, 0);
    let outcome = clients::run(&field.all(), Load::light(), |progress| {
        assert!(progress.until_change(TAKEOVER).is_some());
        crate::mesh::let_pass(Duration::from_secs(3));
        // Back to the image, while another is dead: nobody but the old image could complete a quorum.
        field.peers.get(&host.host).kill();
        fs::remove_dir_all(&home).unwrap();
        copy(&image, &home);
        field.peers.get(&host.host).restart();
        assert!(progress.until_change(TAKEOVER).is_some(), "changes have ended\n{}", field.peers.show());
        let took = field.peers.until_formed(3, 0);
        machine::say(&format!("an old disk image: all is well after {:.1} s", took.as_secs_f64()));
        progress.stop();
    });
    judge("an old disk image", &outcome);
}

#[test]
fn a_second_host_of_the_same_name_is_refused() {
    needs!(&[Need::Root]);
    let mut field = Field::plain(3, 3);
    // On one machine the lock says so; from another one, the registry.
    let twice = field.local("p2").verb(["run", "empty"]);
    assert_eq!(twice.code, 75, "{twice:?}");
    let other = Recipe::new(&field.scratch.path("elsewhere"), "p2");
    let address = field.peers.members().members[0].address.clone();
    let token = field.token(&["--role", "agent"]);
    let joined = other.verb(["join", "--seeds", &address, "--patience", "3", &token]);
    assert!(joined.code != 0 && joined.err.contains("p2"), "{joined:?}");
    expect_done(&field.local("p2").verb(["status"]));
    field.peers.until_formed(3, 0);
}
