//! Random scripts of changes against one rule: whoever looks at a path each time it is raised, and only then, has seen
//! its last state once everything is quiet.

use std::collections::{BTreeMap, HashMap};

use super::*;

/// Chance, the same in each run.
struct Dice(u64);

impl Dice {
    /// A number below `sides` (xorshift64).
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % sides
    }

    fn path(&mut self, world: &Path) -> PathBuf {
        let mut path = world.to_path_buf();
        for _ in 0..=self.roll(3) {
            path.push(["a", "b", "c"][self.roll(3)]);
        }
        path
    }
}

/// What a look at `path` finds. A directory's own times are its entries' business.
fn look(path: &Path, tree: bool) -> String {
    // A link at a tree's root is followed, if to a directory.
    let followed = fs::metadata(path).ok().filter(|found| tree && found.is_dir());
    let found = followed.map_or_else(|| fs::symlink_metadata(path), Ok);
    let Ok(found) = found else { return "nothing".into() };
    let mut text = format!("{}:{:o}", found.ino(), found.mode());
    if found.is_file() {
        text += &fs::read_to_string(path).unwrap_or_default();
    } else if found.is_symlink() {
        text += &format!("{:?}", fs::read_link(path).ok());
    } else if tree {
        let names: BTreeMap<_, _> = fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| {
                let real = entry.file_type().is_ok_and(|kind| kind.is_dir());
                (entry.file_name(), look(&entry.path(), real))
            })
            .collect();
        text += &format!("{names:?}");
    }
    text
}

/// Looks at once at whatever is raised.
#[derive(Debug, Default)]
struct Eyes {
    probes: Mutex<HashMap<Ticket, Probe>>,
    news: Condvar,
}

#[derive(Debug, Clone)]
struct Probe {
    path: PathBuf,
    tree: bool,
    seen: Option<String>,
}

impl Sink for Eyes {
    fn raised(&self, tickets: &[Ticket]) {
        let mut probes = self.probes.lock().expect("unpoisoned");
        for ticket in tickets {
            if let Some(probe) = probes.get_mut(ticket) {
                probe.seen = Some(look(&probe.path, probe.tree));
            }
        }
        self.news.notify_all();
    }

    fn ticked(&self, _: Ticket) {}
}

struct Stage {
    world: PathBuf,
    marker: PathBuf,
    watches: Watches,
    eyes: Arc<Eyes>,
    guards: Vec<(Ticket, Guard)>,
    next: u32,
}

impl Stage {
    /// Arms first and looks then, as the engine does.
    fn watch(&mut self, path: &Path, tree: bool) -> (Ticket, Guard) {
        self.next += 1;
        let signal = Signal::elsewhere(Arc::clone(&self.eyes) as Arc<dyn Sink>, self.next);
        let ticket = ticket(self.next);
        let probe = Probe { path: path.to_path_buf(), tree, seen: None };
        self.eyes.probes.lock().expect("unpoisoned").insert(ticket, probe);
        let guard = if tree { self.watches.tree(path, &signal) } else { self.watches.path(path, &signal) };
        signal.raise();
        (ticket, guard.expect("a good path"))
    }

    fn add(&mut self, dice: &mut Dice) {
        let path = dice.path(&self.world);
        let watched = self.watch(&path, dice.roll(6) == 0);
        self.guards.push(watched);
    }

    fn remove(&mut self, dice: &mut Dice) {
        if !self.guards.is_empty() {
            let (ticket, guard) = self.guards.swap_remove(dice.roll(self.guards.len()));
            drop(guard);
            self.eyes.probes.lock().expect("unpoisoned").remove(&ticket);
        }
    }

    /// One change inside the world; links may lead out of it, changes may not.
    fn change(&self, dice: &mut Dice, number: usize) {
        let path = dice.path(&self.world);
        let other = dice.path(&self.world);
        let inside = |path: &Path| {
            path.parent()
                .and_then(|parent| parent.canonicalize().ok())
                .is_some_and(|real| real.starts_with(&self.world))
        };
        if !inside(&path) || !inside(&other) {
            return;
        }
        let targets = ["a", "b", "../a", "../b", "c/a", "a/../b", ".", "..", "../c/b"];
        let _may_fail = match dice.roll(12) {
            0 | 1 => fs::create_dir(&path),
            2 => {
                let deep = path.join("a/b");
                // A link may stand there, and lead out.
                if fs::symlink_metadata(&path).is_ok() {
                    Ok(())
                } else {
                    fs::create_dir_all(&deep).and_then(|()| fs::write(deep.join("c"), "deep"))
                }
            }
            3 => fs::remove_dir(&path),
            4 if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) => fs::remove_dir_all(&path),
            5 => fs::remove_file(&path),
            6 if dice.roll(2) == 0 => symlink(targets[dice.roll(targets.len())], &path),
            6 => symlink(&other, &path),
            7..=9 => fs::rename(&path, &other),
            10 if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_symlink()) => fs::set_permissions(
                &path,
                fs::Permissions::from_mode(0o700 + u32::try_from(number % 8).expect("small")),
            ),
            _ if fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink()) => Ok(()),
            _ => fs::write(&path, format!("content {number}")),
        };
    }

    /// Waits until a marker, made after everything else, is seen.
    fn quiet(&mut self, text: &str) {
        let marker = self.marker.clone();
        let (ticket, _guard) = self.watch(&marker, false);
        fs::write(&marker, text).expect("written");
        let wanted = look(&marker, false);
        let probes = self.eyes.probes.lock().expect("unpoisoned");
        let waiting = |probes: &mut HashMap<Ticket, Probe>| probes[&ticket].seen.as_ref() != Some(&wanted);
        let (mut probes, wait) = self.eyes.news.wait_timeout_while(probes, PATIENCE, waiting).expect("unpoisoned");
        assert!(!wait.timed_out(), "the marker was not raised");
        probes.remove(&ticket);
    }

    fn unseen(&self) -> Vec<Probe> {
        let probes = self.eyes.probes.lock().expect("unpoisoned");
        probes.values().filter(|probe| probe.seen.as_ref() != Some(&look(&probe.path, probe.tree))).cloned().collect()
    }
}

fn run(seed: u64) {
    let scene = TempDir::new().expect("a temporary directory");
    let world = scene.path().canonicalize().expect("it exists").join("r/w");
    fs::create_dir_all(&world).expect("made");
    let watches = Watches::start_polling_every(3600).expect("an instance");
    let base = watches.counts().watches;
    let marker = scene.path().join("marker");
    let mut stage = Stage { world, marker, watches, eyes: Arc::default(), guards: Vec::new(), next: 0 };
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..12 {
        stage.add(&mut dice);
    }
    for round in 0..4 {
        // Half the time the reader sees all changes of a round at once.
        let batch = dice.roll(2) == 0;
        {
            let watches = stage.watches.clone();
            let _held = batch.then(|| watches.0.0.registry());
            for number in 0..20 {
                stage.change(&mut dice, number + 100 * round);
            }
        }
        for _ in 0..3 {
            stage.add(&mut dice);
            stage.remove(&mut dice);
            stage.change(&mut dice, round);
        }
        stage.quiet(&format!("{seed} {round}"));
        let unseen = stage.unseen();
        assert!(unseen.is_empty(), "seed {seed}, round {round}: not raised after its last change: {unseen:#?}");
    }
    stage.guards.clear();
    assert_eq!(stage.watches.counts().subscriptions, 0);
    let left = stage.watches.counts().watches;
    assert!(left == base, "seed {seed}: {left} watches left, {base} before");
}

#[test]
fn random_scripts_leave_nothing_unseen() {
    // `MGMT_SEEDS=2..3` repeats one script.
    let seeds = std::env::var("MGMT_SEEDS").unwrap_or_else(|_| "1..401".into());
    let (first, end) = seeds.split_once("..").expect("a range");
    for seed in first.parse().expect("a number")..end.parse().expect("a number") {
        run(seed);
    }
}
