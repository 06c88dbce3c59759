//! Power cuts on real file systems: what was not on the medium is gone, and no good version with it.
//!
//! `MGMT_LAB_SEED` repeats the moments of a run that failed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::agent::Agent;
use crate::disk::{Disk, Kind};
use crate::machine::{self, EXT4, XFS};
use crate::scratch::{Scratch, files, strays};
use crate::wait;

/// A third of them with an agent that repairs, two thirds with a swap of all versions.
const ROUNDS: u64 = 24;
const FILES: u64 = 120;

/// Numbers from a seed (splitmix64).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// What a file holds in a version: from a line to some 40 KiB, and never a prefix of another version.
fn content(number: u64, version: u64) -> String {
    let lines = 1 + (number * 37 + version * 11) % 900;
    let body = format!("file {number} in version {version}, and more of it\n");
    format!("version {version}\n{}end\n", body.repeat(usize::try_from(lines).unwrap()))
}

struct Site<'a> {
    scratch: &'a Scratch,
    directory: PathBuf,
}

impl Site<'_> {
    fn path(&self, number: u64) -> PathBuf {
        self.directory.join(format!("f{number}"))
    }

    fn graph(&self, version: u64) -> PathBuf {
        self.scratch.graph(&files((0..FILES).map(|n| (self.path(n), content(n, version)))))
    }

    /// Which of the versions each file holds, whole.
    fn versions(&self, whole: &[u64], at: &str) -> Vec<u64> {
        let version = |number| {
            let text = fs::read_to_string(self.path(number)).unwrap_or_else(|e| panic!("{at}: file {number}: {e}"));
            let known = whole.iter().copied().find(|version| text == content(number, *version));
            known.unwrap_or_else(|| panic!("{at}: file {number} has {} bytes of no version", text.len()))
        };
        (0..FILES).map(version).collect()
    }

    /// Applies a version in peace, and looks whether all is right.
    fn apply(&self, version: u64, at: &str) -> Duration {
        let start = Instant::now();
        self.scratch.apply(&self.graph(version)).expect(0);
        let took = start.elapsed();
        self.versions(&[version], at);
        assert_eq!(strays(&self.directory), Vec::<PathBuf>::new(), "{at}: temporary files are left");
        took
    }
}

fn cut_at_random(kind: Kind) {
    let given = std::env::var("MGMT_LAB_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() * 2 + u64::from(kind == Kind::Xfs)
    });
    let mut chance = Chance(seed);
    let scratch = Scratch::new();
    let mut disk = Disk::new(&scratch, kind);
    let directory = disk.path().join("files");
    fs::create_dir(&directory).unwrap();
    let site = Site { scratch: &scratch, directory };
    site.apply(0, "before");
    let span = site.apply(1, "before");
    let (mut old, mut new) = (0, 0);
    for round in 0..ROUNDS {
        let at = format!("{kind:?}, MGMT_LAB_SEED={seed}, round {round}");
        let (standing, next) = (round + 1, round + 2);
        let after = Duration::from_micros(chance.below(u64::try_from(span.as_micros()).unwrap() * 5 / 4));
        // The moment is what is tried, not waited for.
        if round % 3 == 2 {
            let agent = Agent::converged(site.scratch, &site.graph(standing));
            let spoilt: Vec<bool> = (0..FILES).map(|_| chance.below(2) == 0).collect();
            (0..FILES).filter(|n| spoilt[*n as usize]).for_each(|n| fs::write(site.path(n), "spoilt").unwrap());
            std::thread::sleep(after / 4);
            disk.cut();
            agent.kill();
            disk.power();
            // Where somebody has spoilt it, no good version stood; the others must not have suffered.
            for number in (0..FILES).filter(|n| !spoilt[*n as usize]) {
                let text = fs::read_to_string(site.path(number)).unwrap();
                assert!(text == content(number, standing), "{at}: file {number} has suffered");
            }
        } else {
            let changed = || fs::metadata(&site.directory).unwrap().modified().unwrap();
            let before = changed();
            let agent = Agent::start_as(site.scratch, site.scratch.verb("apply", &site.graph(next)), Path::new("/"));
            if round % 3 == 0 {
                std::thread::sleep(after);
            } else {
                // Aimed at the writing: most of the time goes into starting and syncing.
                wait::until("it has begun to write", || changed() != before);
                std::thread::sleep(after / 8);
            }
            disk.cut();
            agent.kill();
            disk.power();
            let versions = site.versions(&[standing, next], &at);
            let updated = versions.iter().filter(|version| **version == next).count();
            (old, new) = (old + versions.len() - updated, new + updated);
        }
        site.apply(next, &at);
    }
    machine::say(&format!(
        "{kind:?}: {ROUNDS} power cuts, seed {seed}: {old} old and {new} new versions found, all whole; one swap took {span:?}"
    ));
}

#[test]
fn a_power_cut_on_ext4_leaves_the_old_version_or_the_new_one() {
    needs!(EXT4);
    cut_at_random(Kind::Ext4);
}

#[test]
fn a_power_cut_on_xfs_leaves_the_old_version_or_the_new_one() {
    needs!(XFS);
    cut_at_random(Kind::Xfs);
}
