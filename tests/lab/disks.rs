//! Disks that are full or read-only: under the files, and under the state.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use rustix::process::Signal;

use crate::agent::Agent;
use crate::disk::{Disk, Kind};
use crate::machine::{EXT4, Need};
use crate::scratch::{Ended, HOST, MGMT, Scratch, file, strays};

/// A failed resource is looked at again after a minute.
const RECHECK: Duration = Duration::from_secs(75);

#[test]
fn a_full_disk_keeps_the_old_version_and_fails_in_words() {
    needs!(EXT4);
    let scratch = Scratch::new();
    let disk = Disk::new(&scratch, Kind::Ext4);
    let directory = disk.path().join("files");
    fs::create_dir(&directory).unwrap();
    let path = directory.join("a");
    let (old, new) = ("old\n".repeat(50_000), "new version\n".repeat(50_000));
    scratch.apply(&scratch.graph(&file(&path, &old))).expect(0);
    disk.fill();
    let graph = scratch.graph(&file(&path, &new));
    let intact = || {
        assert!(fs::read_to_string(&path).unwrap() == old, "the old version has suffered");
        assert_eq!(strays(&directory), Vec::<std::path::PathBuf>::new());
    };
    scratch.apply(&graph).expect(1).says("No space left on device").says(path.to_str().unwrap());
    intact();
    let agent = Agent::start(&scratch, &graph);
    agent.until("it has failed", || agent.fault().is_some_and(|fault| fault.contains("No space left on device")));
    intact();
    assert_eq!(agent.stop(), 1, "something was failed when it ended");
    let agent = Agent::start(&scratch, &graph);
    agent.until("it has failed", || agent.fault().is_some());
    disk.free();
    agent.signal(Signal::HUP);
    agent.until("a reload has repaired it", || fs::read_to_string(&path).is_ok_and(|is| is == new));
    agent.until_converged();
    assert_eq!(agent.stop(), 0);
}

#[test]
fn space_that_returns_is_noticed_within_the_minute() {
    needs!(EXT4);
    let scratch = Scratch::new();
    let disk = Disk::new(&scratch, Kind::Ext4);
    let directory = disk.path().join("files");
    fs::create_dir(&directory).unwrap();
    let path = directory.join("a");
    disk.fill();
    let agent = Agent::start(&scratch, &scratch.graph(&file(&path, &"new\n".repeat(50_000))));
    agent.until("it has failed", || agent.fault().is_some());
    disk.free();
    // No event tells of it: the room comes from somewhere else on the disk.
    agent.until_within(RECHECK, "it is repaired unasked", || fs::metadata(&path).is_ok_and(|of| of.size() == 200_000));
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_full_disk_under_the_state_is_said_and_healing_goes_on() {
    needs!(EXT4);
    let scratch = Scratch::new();
    let disk = Disk::new(&scratch, Kind::Ext4);
    let (path, done) = (scratch.path("a"), scratch.path("refreshed"));
    let text = format!(
        "graph: lab\nresources:\n  file:\n  - {{name: a, path: {path:?}, content: \"good\\n\"}}\n  exec:\n  - {{name: tell, \
         cmd: \"echo >> {}\", shell: /bin/sh, refreshonly: true}}\nedges:\n- {{name: e, from: {{kind: file, name: a}}, \
         to: {{kind: exec, name: tell}}, notify: true}}\n",
        done.display()
    );
    let graph = scratch.graph(&text);
    let run = |prefix: &str| {
        let mut command = std::process::Command::new(MGMT);
        command.args(["run", "--hostname", HOST, "--prefix"]).arg(disk.path().join(prefix)).arg(&graph);
        command
    };
    let agent = Agent::start_as(&scratch, run("early"), &disk.path().join("early"));
    agent.until_converged();
    disk.fill();
    let refreshed = || fs::metadata(&done).map_or(0, |of| of.size());
    let before = refreshed();
    fs::write(&path, "bad\n").unwrap();
    agent.until("it heals without a place for its state", || fs::read_to_string(&path).is_ok_and(|is| is == "good\n"));
    agent.until("the refresh is not lost", || refreshed() > before);
    agent.until_said("cannot remember pending refreshes");
    // What cannot even begin says so, with the exit code of a disk.
    Ended::of(&mut run("late")).expect(74).says("No space left on device");
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_read_only_disk_would_fail_and_fails_until_it_can_be_written() {
    needs!(EXT4);
    let scratch = Scratch::new();
    let disk = Disk::new(&scratch, Kind::Ext4);
    let path = disk.path().join("a");
    let graph = scratch.graph(&file(&path, "good\n"));
    disk.read_only(true);
    scratch.plan(&graph).expect(0).says("would fail").says("ead-only file system");
    scratch.apply(&graph).expect(1).says("ead-only file system");
    disk.read_only(false);
    scratch.apply(&graph).expect(0);
    // Read-only while it runs, as after an error of the medium; the drift came first.
    let agent = Agent::converged(&scratch, &graph);
    agent.pause();
    fs::write(&path, "bad\n").unwrap();
    disk.read_only(true);
    agent.signal(Signal::CONT);
    agent.until("it has failed", || agent.fault().is_some_and(|fault| fault.contains("ead-only file system")));
    assert_eq!(fs::read_to_string(&path).unwrap(), "bad\n");
    disk.read_only(false);
    fs::write(&path, "worse\n").unwrap();
    agent.until("an event has repaired it", || fs::read_to_string(&path).is_ok_and(|is| is == "good\n"));
    assert_eq!(strays(disk.path()), Vec::<std::path::PathBuf>::new());
    assert_eq!(agent.stop(), 0);
}

#[test]
fn files_that_refuse_a_rename_fail_clearly_and_lose_nothing() {
    needs!(EXT4, &[Need::Program("chattr")]);
    let scratch = Scratch::new();
    let disk = Disk::new(&scratch, Kind::Ext4);
    let (immutable, mounted) = (disk.path().join("immutable"), disk.path().join("mounted"));
    let other = scratch.path("other");
    for path in [&immutable, &mounted, &other] {
        fs::write(path, "theirs\n").unwrap();
    }
    let chattr = |how: &str| {
        assert!(std::process::Command::new("chattr").arg(how).arg(&immutable).status().unwrap().success());
    };
    chattr("+i");
    let _bound = crate::disk::Mount::new(&["--bind", other.to_str().unwrap()], &mounted);
    let graph = scratch.graph(&crate::scratch::files([(immutable.clone(), "ours\n"), (mounted.clone(), "ours\n")]));
    let ended = scratch.apply(&graph);
    let plan = scratch.plan(&graph);
    chattr("-i");
    ended.expect(1).says("immutable").says("mount point").says("2 failed");
    plan.expect(0).says("2 would fail").says("immutable").says("mount point");
    for path in [&immutable, &mounted, &other] {
        assert_eq!(fs::read_to_string(path).unwrap(), "theirs\n");
    }
    assert_eq!(strays(disk.path()), Vec::<std::path::PathBuf>::new());
}
