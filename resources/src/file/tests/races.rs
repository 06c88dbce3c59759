//! Somebody exchanges a directory, or the target itself, with a symbolic link that leads outside, as fast as the kernel
//! lets him, while a confined resource is checked and repaired. Nothing outside may ever change.
//!
//! The same is done to a resource that is not confined, to see that the race is one: what comes of that is printed.
//! `MGMT_SLOW=1` tries 100,000 times; otherwise a fraction of them.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::AtomicBool;

use rustix::fs::{CWD, Mode, OFlags, RenameFlags, mkdirat, openat, renameat_with, symlinkat};

use super::*;

/// Tries of all races together, and without `MGMT_SLOW`.
const TRIES: usize = 100_000;
const TRIES_FEW: usize = 2_000;
/// What is outside is compared after so many looks: comparing takes as long as several of them.
const LOOKS_COMPARED: usize = 20;
/// So many looks for one try, and the race is given up: the other thread does not get a turn.
const LOOKS_MAX: usize = 100;

/// What is exchanged, and what is done meanwhile.
struct Race {
    name: &'static str,
    /// The names that change places, below the confining directory. The second is a link to this, which lies outside.
    exchanged: (&'static str, &'static str),
    target: &'static str,
    /// Resources that undo each other.
    resources: [&'static [(&'static str, &'static str)]; 2],
}

/// `out` looks like `p/a`, so that every repair would find something to do there.
const RACES: &[Race] = &[
    Race {
        name: "a file is written, the way goes elsewhere",
        exchanged: ("a", "link"),
        target: "../out",
        resources: [&[("path", "p/a/f"), ("content", "x")], &[("path", "p/a/f"), ("content", "y")]],
    },
    Race {
        name: "a file is made and removed, the way goes elsewhere",
        exchanged: ("a", "link"),
        target: "../out",
        resources: [
            &[("path", "p/a/f"), ("content", "x"), ("state", "exists")],
            &[("path", "p/a/f"), ("state", "absent")],
        ],
    },
    Race {
        name: "a mode is set, the way goes elsewhere",
        exchanged: ("a", "link"),
        target: "../out",
        resources: [&[("path", "p/a/f"), ("mode", "0600")], &[("path", "p/a/f"), ("mode", "0604")]],
    },
    Race {
        name: "a link is made, the way goes elsewhere",
        exchanged: ("a", "link"),
        target: "../out",
        resources: [
            &[("path", "p/a/l"), ("source", "/x"), ("symlink", "true"), ("state", "exists")],
            &[("path", "p/a/l"), ("source", "/y"), ("symlink", "true"), ("state", "exists")],
        ],
    },
    Race {
        name: "directories are made and removed, the way goes elsewhere",
        exchanged: ("a", "link"),
        target: "../out",
        resources: [
            &[("path", "p/a/d/e/n/"), ("state", "exists"), ("recurse", "true"), ("mode", "0700")],
            &[("path", "p/a/d/"), ("state", "absent"), ("recurse", "true"), ("force", "true")],
        ],
    },
    Race {
        name: "a tree is copied and purged, the way goes elsewhere",
        exchanged: ("a", "link"),
        target: "../out",
        resources: [
            &[("path", "p/a/d/"), ("source", "one/"), ("recurse", "true"), ("purge", "true"), ("state", "exists")],
            &[("path", "p/a/d/"), ("source", "two/"), ("recurse", "true"), ("purge", "true"), ("state", "exists")],
        ],
    },
    Race {
        name: "a file is written durably, the way goes elsewhere",
        exchanged: ("a", "link"),
        target: "../out",
        resources: [
            &[("path", "p/a/f"), ("content", "x"), ("durable", "true")],
            &[("path", "p/a/f"), ("content", "y"), ("durable", "true")],
        ],
    },
    Race {
        name: "a file is written, it becomes a link",
        exchanged: ("a/f", "a/link"),
        target: "../../out/f",
        resources: [&[("path", "p/a/f"), ("content", "x")], &[("path", "p/a/f"), ("content", "y")]],
    },
    Race {
        name: "a mode is set, the file becomes a link",
        exchanged: ("a/f", "a/link"),
        target: "../../out/f",
        resources: [&[("path", "p/a/f"), ("mode", "0600")], &[("path", "p/a/f"), ("mode", "0604")]],
    },
    Race {
        name: "a mode is set, the directory becomes a link",
        exchanged: ("a/d", "a/link"),
        target: "../../out/d",
        resources: [&[("path", "p/a/d/"), ("mode", "0700")], &[("path", "p/a/d/"), ("mode", "0705")]],
    },
    Race {
        name: "a tree is copied and purged, its directory becomes a link",
        exchanged: ("a/d", "a/link"),
        target: "../../out/d",
        resources: [
            &[("path", "p/a/d/"), ("source", "one/"), ("recurse", "true"), ("purge", "true"), ("state", "exists")],
            &[("path", "p/a/d/"), ("source", "two/"), ("recurse", "true"), ("purge", "true"), ("state", "exists")],
        ],
    },
    Race {
        name: "a tree is removed, a directory in it becomes a link",
        exchanged: ("a/d/e", "a/link"),
        target: "../../out/d",
        resources: [
            &[("path", "p/a/d/"), ("source", "two/"), ("recurse", "true"), ("force", "true"), ("state", "exists")],
            &[("path", "p/a/d/"), ("state", "absent"), ("recurse", "true"), ("force", "true")],
        ],
    },
];

/// What came of the tries. A try is a repair that was begun; a look that was refused, or found nothing to do, is none.
#[derive(Debug, Default)]
struct Outcome {
    looks: usize,
    repaired: usize,
    refused: usize,
    /// How often something outside had changed.
    escapes: usize,
}

/// Ends the other thread also when the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn furnish(bench: &Bench, directory: &str) {
    for name in ["f", "d/f", "d/e/f"] {
        bench.write(&format!("{directory}/{name}"), "sentinel");
        bench.set_mode(&format!("{directory}/{name}"), 0o640);
    }
}

/// The mode, inode and times of everything outside, and what is in it.
fn outside(bench: &Bench) -> Vec<(PathBuf, Snapped, Option<Vec<u8>>)> {
    let all = walk(&bench.path("out")).into_iter();
    all.map(|path| (path.clone(), snapped(&path), fs::read(&path).ok())).collect()
}

impl Race {
    fn run(&self, beneath: Option<&'static str>, tries: usize) -> Outcome {
        let mut bench = Bench::new();
        bench.beneath = beneath;
        ["p/a", "out"].into_iter().for_each(|directory| furnish(&bench, directory));
        bench.write("one/f", "one");
        bench.write("two/e/f", "two");
        let link = bench.path(&format!("p/{}", self.exchanged.1));
        symlink(self.target, &link).unwrap();
        let resources = self.resources.map(|pairs| {
            let quick = [("durable", "false")].into_iter().filter(|_| !pairs.contains(&("durable", "true")));
            bench.resource(&quick.chain(pairs.iter().copied()).collect::<Vec<_>>())
        });
        let inside = fs::File::open(bench.path("p/a")).unwrap().into();
        let (over, exchanges) = (AtomicBool::new(false), AtomicUsize::new(0));
        let (one, other) = (bench.path(&format!("p/{}", self.exchanged.0)), link);
        std::thread::scope(|scope| {
            let _ends = Ends(&over);
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // One of them may just have been removed.
                    let exchanged = renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).is_ok();
                    exchanges.fetch_add(exchanged.into(), Ordering::Relaxed);
                }
            });
            while exchanges.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            self.tries(&bench, &resources, &inside, tries)
        })
    }

    fn tries(&self, bench: &Bench, resources: &[AnyResource; 2], inside: &OwnedFd, tries: usize) -> Outcome {
        let runtime = runtime();
        let mut outcome = Outcome::default();
        let mut before = outside(bench);
        while outcome.repaired + outcome.refused < tries && outcome.looks < tries * LOOKS_MAX {
            self.reset(inside);
            let resource = &resources[outcome.looks % 2];
            outcome.looks += 1;
            match runtime.block_on(Arc::clone(resource).check(Look::because(Cause::First))) {
                Ok(Check::Drifted(fix)) => match runtime.block_on(fix.apply(Work::because(Cause::First))) {
                    Ok(_) => outcome.repaired += 1,
                    Err(_) => outcome.refused += 1,
                },
                // The other thread may have been interrupted with the link in place.
                _ => std::thread::yield_now(),
            }
            if outcome.looks % LOOKS_COMPARED == 0 && outside(bench) != before {
                outcome.escapes += 1;
                furnish(bench, "out");
                before = outside(bench);
            }
        }
        outcome.escapes += usize::from(outside(bench) != before);
        outcome
    }

    /// Puts back what a repair has removed, without going by any name that is exchanged.
    fn reset(&self, inside: &OwnedFd) {
        let within = |at: &OwnedFd, name: &str| {
            // It may stand, or a link in its place.
            let _stands = mkdirat(at, name, Mode::RWXU);
            openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        };
        if let Some(name) = self.exchanged.1.strip_prefix("a/") {
            let _stands = symlinkat(self.target, inside.as_fd(), name);
        }
        let Ok(directory) = within(inside, "d") else { return };
        let Ok(_deeper) = within(&directory, "e") else { return };
    }
}

/// Not in parallel with itself: the race is between two threads.
fn all(beneath: Option<&'static str>, tries: usize) -> (usize, usize) {
    let (mut tried, mut escapes) = (0, 0);
    for race in RACES {
        let outcome = race.run(beneath, tries.div_ceil(RACES.len()));
        println!("{}: {outcome:?}", race.name);
        tried += outcome.repaired + outcome.refused;
        escapes += outcome.escapes;
    }
    (tried, escapes)
}

#[test]
fn no_race_leads_out() {
    let slow = std::env::var_os("MGMT_SLOW").is_some();
    let tries = if slow { TRIES } else { TRIES_FEW };
    println!("without confinement:");
    let (tried, lost) = all(None, tries / 10);
    println!("{lost} escapes in {tried} tries; with it:");
    let (tried, escapes) = all(Some("p"), tries);
    println!("{escapes} escapes in {tried} tries");
    assert_eq!(escapes, 0);
    assert!(!slow || (lost > 0 && tried >= tries), "the race that was won is none");
}
