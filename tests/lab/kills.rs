//! Kills the whole program at every system call that writing a file takes, and looks at what is left.
//!
//! The writer alone is killed in resources/tests/crashes.rs; here it is the program as it is shipped, with its threads,
//! its state and its start.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::machine::{self, Need};
use crate::scratch::{Scratch, file, strays};

/// The calls of a write, with how many of each are tried: strace counts them for each thread, from its start, so some
/// hit the program before or after the write.
const CALLS: &[(&str, usize)] = &[
    ("openat", 12),
    ("write", 8),
    ("fchmod", 2),
    ("flock", 4),
    ("flistxattr", 2),
    ("fsync", 3),
    ("syncfs", 2),
    ("renameat", 2),
    ("rename", 2),
    ("close", 10),
    ("statx", 10),
    ("newfstatat", 6),
    ("fstat", 6),
    ("futex", 8),
    ("exit_group", 1),
];

/// The program under strace, killed at this call. Whether it lived to its end.
fn survives(scratch: &Scratch, graph: &Path, call: &str, number: usize) -> bool {
    let inner = scratch.verb("apply", graph);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null"]).arg(format!("-etrace=?{call}"));
    strace.arg(format!("-einject=?{call}:signal=KILL:when={number}")).arg(inner.get_program()).args(inner.get_args());
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

fn kill_everywhere(name: &str, old: Option<&str>) {
    let new = "the new version, which is longer\n";
    let (mut kills, mut left, mut unchanged, mut changed) = (0, 0, 0, 0);
    for (call, most) in CALLS {
        for number in 1..=*most {
            let at = format!("{name}, killed at {call} number {number}");
            let scratch = Scratch::new();
            let directory = scratch.directory("files");
            let path = directory.join("a");
            old.iter().for_each(|old| fs::write(&path, old).unwrap());
            let graph = scratch.graph(&file(&path, new));
            let survived = survives(&scratch, &graph, call, number);
            match fs::read_to_string(&path).ok() {
                Some(is) if is == new => changed += 1,
                is => {
                    assert_eq!(is.as_deref(), old, "{at}: neither the old version nor the new one");
                    assert!(!survived, "{at}: it ended well, and has done nothing");
                    unchanged += 1;
                }
            }
            left += strays(&directory).len();
            if survived {
                break;
            }
            kills += 1;
            scratch.apply(&graph).expect(0);
            assert_eq!(fs::read_to_string(&path).unwrap(), new, "{at}: the next start has not put it right");
            assert_eq!(strays(&directory), Vec::<std::path::PathBuf>::new(), "{at}: strays after the next start");
        }
    }
    machine::say(&format!(
        "{name}: {kills} kills: {unchanged} times as before, {changed} times new, {left} strays removed"
    ));
    assert!(kills >= 30 && unchanged > 0 && changed > 0 && left > 0, "the kills have missed the write");
}

#[test]
fn a_kill_at_any_call_of_a_replacement_leaves_the_old_version_or_the_new_one() {
    needs!(&[Need::Strace]);
    kill_everywhere("replacement", Some("the old version\n"));
}

#[test]
fn a_kill_at_any_call_of_a_creation_leaves_nothing_or_the_new_version() {
    needs!(&[Need::Strace]);
    kill_everywhere("creation", None);
}
