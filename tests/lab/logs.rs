//! Power cuts under the replicated log, on real file systems: whatever it said was durable is there afterwards, and it
//! is never refused.
//!
//! `MGMT_LAB_SEED` repeats the moments of a run that failed.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::disk::{Disk, Kind};
use crate::machine::{self, EXT4, XFS};
use crate::power::Chance;
use crate::scratch::{MGMT, Scratch};

/// On each of two kinds of file system.
const CUTS: u64 = 50;

/// Builds the program that appends, beside the program under test.
fn appender() -> PathBuf {
    let program = Path::new(MGMT).parent().unwrap();
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--locked", "--quiet", "-p", "mgmt-consensus"]);
    command.args(["--example", "appender"]);
    if program.ends_with("release") {
        command.arg("--release");
    }
    assert!(command.status().unwrap().success(), "the appender is built");
    program.join("examples/appender")
}

/// What the log says of itself after a cut: the indices it has.
fn check(program: &Path, directory: &Path, at: &str) -> (u64, u64) {
    let output = Command::new(program).arg(directory).arg("check").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let numbers: Option<Vec<u64>> = said.split_whitespace().map(|word| word.parse().ok()).collect();
    let [first, next] = numbers.as_deref().unwrap_or_default() else {
        panic!("{at}: {said}{}", String::from_utf8_lossy(&output.stderr));
    };
    (*first, *next)
}

fn cut_under_the_log(kind: Kind) {
    let given = std::env::var("MGMT_LAB_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() * 2 + u64::from(kind == Kind::Xfs)
    });
    let mut chance = Chance(seed);
    let program = appender();
    let scratch = Scratch::new();
    let mut disk = Disk::new(&scratch, kind);
    let directory = disk.path().join("raft");
    let (mut written, mut more) = (0, 0);
    for cut in 0..CUTS {
        let at = format!("{kind:?}, MGMT_LAB_SEED={seed}, cut {cut}");
        let mut child = Command::new(&program)
            .arg(&directory)
            .arg("append")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Some time after it has begun, in the middle of whatever it is doing then.
        let after = chance.below(400);
        let mut promised = None;
        for line in lines.by_ref().take(usize::try_from(after).unwrap()) {
            promised = Some(line.unwrap());
        }
        // The moment is what is tried, not waited for.
        std::thread::sleep(Duration::from_micros(chance.below(1500)));
        disk.cut();
        // What it had promised before, and nothing after: every sync fails from now on.
        let rest: Vec<_> = lines.map_while(Result::ok).collect();
        let promised: Option<u64> = rest.last().or(promised.as_ref()).map(|line| line.parse().unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        disk.power();
        if promised.is_none() && !directory.exists() {
            continue;
        }
        let (first, next) = check(&program, &directory, &at);
        let needed = promised.map_or(written, |last| last + 1);
        assert!(first <= next && next >= needed, "{at}: {needed} entries were promised and there are {next}");
        more += next - needed;
        written = next;
    }
    machine::say(&format!(
        "{kind:?}: {CUTS} power cuts under the log, seed {seed}: {written} entries, all that were promised and {more} more"
    ));
}

#[test]
fn a_power_cut_on_ext4_leaves_every_entry_that_was_acknowledged() {
    needs!(EXT4);
    cut_under_the_log(Kind::Ext4);
}

#[test]
fn a_power_cut_on_xfs_leaves_every_entry_that_was_acknowledged() {
    needs!(XFS);
    cut_under_the_log(Kind::Xfs);
}
