//! What subscribers are promised, on real directories.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use mgmt_engine::resource::{Sink, Ticket};
use tempfile::TempDir;

use super::*;

mod scripts;

/// Long enough for a machine that is busy with something else; a test that passes never waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Collects what is raised.
#[derive(Debug, Default)]
struct Ears {
    heard: Mutex<HashSet<Ticket>>,
    news: Condvar,
}

impl Sink for Ears {
    fn raised(&self, tickets: &[Ticket]) {
        self.heard.lock().expect("no test panics while holding it").extend(tickets);
        self.news.notify_all();
    }

    fn ticked(&self, _: Ticket) {}
}

/// The ticket of the test signal `number`: it cannot be made here, so a signal is raised to learn it.
fn ticket(number: u32) -> Ticket {
    let ears = Arc::<Ears>::default();
    Signal::elsewhere(Arc::clone(&ears) as Arc<dyn Sink>, number).raise();
    let heard = ears.heard.lock().expect("unpoisoned");
    *heard.iter().next().expect("it was raised just now")
}

/// A temporary directory, the watches, and ears.
struct Scene {
    directory: TempDir,
    watches: Watches,
    ears: Arc<Ears>,
    guards: Vec<Guard>,
    tickets: Vec<Ticket>,
}

impl Scene {
    fn new() -> Self {
        Self::polling_every(3600)
    }

    fn polling_every(seconds: u64) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let watches = Watches::start_polling_every(seconds).expect("an inotify instance");
        Self { directory, watches, ears: Arc::default(), guards: Vec::new(), tickets: Vec::new() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn signal(&mut self) -> Signal {
        let number = u32::try_from(self.tickets.len()).expect("few");
        self.tickets.push(ticket(number));
        Signal::elsewhere(Arc::clone(&self.ears) as Arc<dyn Sink>, number)
    }

    /// Subscribes; probes are numbered from 0.
    fn path(&mut self, path: &str) -> usize {
        let signal = self.signal();
        self.guards.push(self.watches.path(&self.at(path), &signal).expect("a good path"));
        self.tickets.len() - 1
    }

    fn tree(&mut self, path: &str) -> usize {
        let signal = self.signal();
        self.guards.push(self.watches.tree(&self.at(path), &signal).expect("a good path"));
        self.tickets.len() - 1
    }

    /// Waits until the probe is raised, and forgets that it was.
    #[track_caller]
    fn hear(&self, probe: usize) {
        let heard = self.ears.heard.lock().expect("unpoisoned");
        let ticket = self.tickets[probe];
        let (mut heard, wait) =
            self.ears.news.wait_timeout_while(heard, PATIENCE, |heard| !heard.contains(&ticket)).expect("unpoisoned");
        assert!(!wait.timed_out(), "probe {probe} was not raised");
        heard.remove(&ticket);
    }

    fn forget(&self) {
        self.ears.heard.lock().expect("unpoisoned").clear();
    }

    /// Waits until all events so far are taken in: a marker event comes after them.
    #[track_caller]
    fn settle(&mut self) {
        fs::create_dir_all(self.at(".marker")).expect("made");
        let probe = self.path(".marker/m");
        fs::write(self.at(".marker/m"), "").expect("written");
        self.hear(probe);
        drop(self.guards.pop());
    }

    /// Asserts that the probe has not been raised by anything so far.
    #[track_caller]
    fn silent(&mut self, probe: usize) {
        self.settle();
        assert!(
            !self.ears.heard.lock().expect("unpoisoned").contains(&self.tickets[probe]),
            "probe {probe} was raised"
        );
    }

    fn mkdir(&self, path: &str) {
        fs::create_dir_all(self.at(path)).expect("made");
    }

    fn write(&self, path: &str) {
        fs::write(self.at(path), "x").expect("written");
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.at(from), self.at(to)).expect("renamed");
    }

    fn chmod(&self, path: &str, mode: u32) {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).expect("changed");
    }

    /// What the kernel says that the instance holds: `inotify wd:3 ino:9e7e sdev:800013 mask:800afce …`.
    fn kernel_lines(&self) -> Vec<String> {
        let fd = self.watches.0.0.registry().kernel_mut().pretence.fd;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).expect("our own file");
        info.lines().filter(|line| line.starts_with("inotify")).map(str::to_owned).collect()
    }

    fn kernel_watches(&self) -> usize {
        self.kernel_lines().len()
    }

    /// What the kernel watches the directory at `path` for.
    fn kernel_mask(&self, path: &str) -> u32 {
        let inode = format!(" ino:{:x} ", fs::metadata(self.at(path)).expect("there").ino());
        let line = self.kernel_lines().into_iter().find(|line| line.contains(&inode)).expect("watched");
        let mask = line.split("mask:").nth(1).and_then(|rest| rest.split(' ').next()).expect("a mask");
        u32::from_str_radix(mask, 16).expect("a hexadecimal number")
    }
}

#[test]
fn an_entry_is_heard_in_all_its_changes() {
    let mut s = Scene::new();
    s.mkdir("d");
    let f = s.path("d/f");
    s.write("d/f");
    s.hear(f);
    s.settle();
    s.forget();
    File::options().append(true).open(s.at("d/f")).and_then(|mut f| io::Write::write_all(&mut f, b"y")).expect("ok");
    s.hear(f);
    s.chmod("d/f", 0o600);
    s.hear(f);
    s.write("d/other");
    s.silent(f);
    s.rename("d/other", "d/f");
    s.hear(f);
    s.rename("d/f", "d/away");
    s.hear(f);
    symlink("away", s.at("d/f")).expect("linked");
    s.hear(f);
    fs::remove_file(s.at("d/f")).expect("removed");
    s.hear(f);
    fs::hard_link(s.at("d/away"), s.at("d/f")).expect("linked");
    s.hear(f);
}

#[test]
fn a_directory_is_an_entry_too() {
    let mut s = Scene::new();
    let d = s.path("d");
    s.mkdir("d");
    s.hear(d);
    s.chmod("d", 0o700);
    s.hear(d);
    s.write("d/inside");
    s.silent(d);
    fs::remove_dir_all(s.at("d")).expect("removed");
    s.hear(d);
}

#[test]
fn parents_may_go_come_back_and_be_replaced() {
    let mut s = Scene::new();
    s.mkdir("a/b/c");
    let f = s.path("a/b/c/f");
    fs::remove_dir_all(s.at("a")).expect("removed");
    s.hear(f);
    s.settle();
    s.forget();
    s.mkdir("a/b/c");
    s.hear(f);
    s.settle();
    s.forget();
    s.write("a/b/c/f");
    s.hear(f);
    s.mkdir("new/c");
    s.rename("a/b", "old");
    s.rename("new", "a/b");
    s.hear(f);
    s.settle();
    s.forget();
    s.write("old/c/f");
    s.silent(f);
    s.write("a/b/c/f");
    s.hear(f);
    s.rename("a", "elsewhere");
    s.hear(f);
    s.settle();
    s.forget();
    s.write("elsewhere/b/c/f");
    s.silent(f);
    s.rename("elsewhere", "a");
    s.hear(f);
    s.settle();
    s.forget();
    s.chmod("a/b/c/f", 0o600);
    s.hear(f);
}

#[test]
fn three_missing_levels_may_appear_at_once() {
    for round in 0..200 {
        let mut s = Scene::new();
        let f = s.path("x/y/z/f");
        s.mkdir("x/y/z");
        s.write("x/y/z/f");
        s.hear(f);
        s.settle();
        s.forget();
        s.write("x/y/z/f");
        s.hear(f);
        assert!(s.watches.counts().subscriptions == 1, "round {round}");
    }
}

#[test]
fn a_link_on_the_way_is_followed_and_may_be_pointed_elsewhere() {
    let mut s = Scene::new();
    s.mkdir("deep/one");
    s.mkdir("deep/two");
    s.mkdir("in");
    symlink("../deep/one", s.at("in/link")).expect("linked");
    let f = s.path("in/link/f");
    s.write("deep/one/f");
    s.hear(f);
    s.settle();
    s.forget();
    s.write("deep/two/f");
    s.silent(f);
    symlink("../deep/two", s.at("in/fresh")).expect("linked");
    s.rename("in/fresh", "in/link");
    s.hear(f);
    s.settle();
    s.forget();
    s.chmod("deep/one/f", 0o600);
    s.silent(f);
    s.chmod("deep/two/f", 0o600);
    s.hear(f);
    s.rename("deep", "gone");
    s.hear(f);
    s.settle();
    s.forget();
    s.mkdir("deep/two");
    s.hear(f);
    s.settle();
    s.forget();
    s.write("deep/two/f");
    s.hear(f);
}

#[test]
fn links_in_circles_end_and_heal() {
    let mut s = Scene::new();
    symlink("b/x", s.at("a")).expect("linked");
    symlink("a/x", s.at("b")).expect("linked");
    symlink("self/x", s.at("self")).expect("linked");
    symlink(".", s.at("dot")).expect("linked");
    symlink("dot/../dot/dot/real", s.at("odd")).expect("linked");
    let (f, g, h, o) = (s.path("a/f"), s.path("self/f"), s.path("dot/dot/f"), s.path("odd/f"));
    s.write("f");
    s.hear(h);
    s.mkdir("real");
    s.settle();
    s.forget();
    fs::remove_file(s.at("b")).expect("removed");
    s.mkdir("b/x");
    s.write("b/x/f");
    s.hear(f);
    fs::remove_file(s.at("self")).expect("removed");
    s.mkdir("self");
    s.hear(g);
    s.forget();
    assert!(fs::metadata(s.at("odd")).is_err(), "dot/.. leads above the scene");
    s.silent(o);
}

#[test]
fn two_ways_to_one_directory_hear_both() {
    let mut s = Scene::new();
    s.mkdir("real");
    symlink("real", s.at("alias")).expect("linked");
    let (f, g, h) = (s.path("real/f"), s.path("alias/f"), s.path("real/f"));
    let before = s.watches.counts().watches;
    s.write("real/f");
    s.hear(f);
    s.hear(g);
    s.hear(h);
    drop(s.guards.remove(0));
    s.settle();
    s.forget();
    s.write("alias/f");
    s.hear(1);
    s.hear(2);
    assert_eq!(s.watches.counts().watches, before);
}

#[test]
fn a_tree_is_heard_with_all_that_grows_in_it() {
    let mut s = Scene::new();
    s.mkdir("t/old");
    let t = s.tree("t");
    s.write("t/old/f");
    s.hear(t);
    for round in 0..100 {
        let path = format!("t/{round}/y/z");
        s.mkdir(&path);
        s.hear(t);
        s.settle();
        s.forget();
        s.write(&format!("{path}/f"));
        s.hear(t);
        s.settle();
        s.forget();
        fs::remove_file(s.at(&format!("{path}/f"))).expect("removed");
        s.hear(t);
    }
    s.settle();
    s.forget();
    s.mkdir("outside");
    s.settle();
    s.rename("t/0", "outside/0");
    s.hear(t);
    s.settle();
    s.forget();
    s.write("outside/0/y/z/f");
    s.silent(t);
    symlink("../outside", s.at("t/link")).expect("linked");
    s.hear(t);
    s.settle();
    s.forget();
    s.write("outside/g");
    s.silent(t);
    s.chmod("t", 0o700);
    s.hear(t);
    s.rename("t", "u");
    s.hear(t);
}

#[test]
fn a_tree_that_fills_quickly_is_raised_after_the_last_file() {
    for _ in 0..100 {
        let mut s = Scene::new();
        let t = s.tree("t");
        s.mkdir("t/x/y/z");
        s.write("t/x/y/z/f");
        s.hear(t);
        s.settle();
        s.forget();
        s.chmod("t/x/y/z/f", 0o600);
        s.hear(t);
    }
}

#[test]
fn unrelated_names_and_own_looks_raise_nobody() {
    let mut s = Scene::new();
    s.mkdir("d/sub");
    s.write("d/f");
    let (f, g) = (s.path("d/f"), s.path("d/sub/g"));
    for number in 0..1000 {
        s.write(&format!("d/n{number}"));
        fs::read(s.at("d/f")).expect("read");
        fs::read_dir(s.at("d")).expect("read").for_each(drop);
        fs::symlink_metadata(s.at("d/f")).expect("there");
    }
    s.silent(f);
    s.silent(g);
    s.write("d/f");
    s.hear(f);
    s.silent(g);
}

#[test]
fn guards_give_watches_back() {
    let mut s = Scene::new();
    let base = s.kernel_watches();
    s.mkdir("a/b/c");
    s.mkdir("t/1/2/3");
    symlink("../a/b", s.at("t/link")).expect("linked");
    for number in 0..100 {
        s.path(&format!("a/b/c/{number}"));
    }
    s.path("t/link/c/1");
    s.tree("t");
    s.tree("a");
    s.path("missing/way/f");
    let counts = s.watches.counts();
    assert_eq!(s.kernel_watches(), counts.watches);
    assert_eq!(counts.subscriptions, 106);
    s.guards.clear();
    let counts = s.watches.counts();
    assert_eq!((counts.watches, counts.subscriptions), (base, 0));
    assert_eq!(s.kernel_watches(), base);
}

#[test]
fn many_files_of_one_directory_share_its_watch() {
    let mut s = Scene::new();
    s.mkdir("d");
    let signal = s.signal();
    let base = s.watches.counts().watches;
    let paths: Vec<PathBuf> = (0..20_000).map(|number| s.at(&format!("d/{number}"))).collect();
    let clock = Clock::start();
    let start = clock.now();
    let guards: Vec<Guard> = paths.iter().map(|path| s.watches.path(path, &signal).expect("good")).collect();
    let took = clock.now().since(start);
    println!("20,000 subscriptions: {took:?}");
    let depth = s.directory.path().components().count();
    assert!(s.watches.counts().watches <= base + depth + 1);
    assert!(took < Duration::from_secs(2), "{took:?}");
    let start = clock.now();
    drop(guards);
    println!("20,000 drops: {:?}", clock.now().since(start));
    assert_eq!(s.watches.counts().watches, base);
}

#[test]
fn an_overflow_raises_everybody_and_misses_nothing() {
    let mut s = Scene::new();
    s.mkdir("d");
    s.mkdir("t");
    let (f, t, m) = (s.path("d/f"), s.tree("t"), s.path("missing/f"));
    let max: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .map_or(16_384, |t| t.trim().parse().expect("a number"));
    {
        // The reader has to wait for the registry, and the queue fills.
        let watches = s.watches.clone();
        let _held = watches.0.0.registry();
        let file = File::create(s.at("d/noise")).expect("made");
        for number in 0..max + 2_000 {
            // Two equal events in a row merge, so the names alternate.
            if number % 2 == 0 {
                file.set_permissions(fs::Permissions::from_mode(0o600)).expect("changed");
            } else {
                s.chmod("t", 0o700);
            }
        }
        s.mkdir("missing");
        s.mkdir("t/new");
        s.write("d/f");
    }
    s.hear(f);
    s.hear(t);
    s.hear(m);
    assert!(s.watches.counts().overflows >= 1);
    s.settle();
    s.forget();
    s.write("t/new/f");
    s.hear(t);
    s.write("missing/f");
    s.hear(m);
}

#[test]
fn without_watches_subscriptions_are_raised_by_time() {
    let mut s = Scene::polling_every(1);
    s.mkdir("a/b");
    s.watches.0.0.registry().kernel_mut().pretence.limit = 0;
    let f = s.path("a/b/f");
    assert_eq!(s.watches.counts().polled, 1);
    s.hear(f);
    s.hear(f);
    s.watches.0.0.registry().kernel_mut().pretence.limit = usize::MAX;
    s.hear(f);
    s.write("a/b/f");
    s.hear(f);
    assert_eq!(s.watches.counts().polled, 0);
}

#[test]
fn a_defect_in_the_reader_blinds_nobody() {
    let mut s = Scene::new();
    s.mkdir("a");
    let (f, other) = (s.path("a/b/f"), s.path("x"));
    s.watches.0.0.registry().kernel_mut().pretence.defect = true;
    s.mkdir("a/b");
    s.hear(f);
    s.hear(other);
    s.settle();
    s.forget();
    s.write("a/b/f");
    s.hear(f);
    s.write("x");
    s.hear(other);
}

#[test]
fn the_reader_ends_with_the_last_holder() {
    let s = Scene::new();
    let weak = Arc::downgrade(&s.watches.0.0);
    let Scene { watches, directory, ears, .. } = s;
    let signal = Signal::elsewhere(Arc::clone(&ears) as Arc<dyn Sink>, 0);
    let guard = watches.path(&directory.path().join("f"), &signal).expect("good");
    drop(watches);
    assert!(weak.upgrade().is_some());
    drop(guard);
    let clock = Clock::start();
    while weak.upgrade().is_some() {
        assert!(clock.now().since(mgmt_engine::clock::Moment::START) < PATIENCE, "the reader goes on");
        thread::yield_now();
    }
}

#[test]
fn odd_paths_are_refused_or_normal() {
    let mut s = Scene::new();
    let signal = s.signal();
    assert!(s.watches.path(Path::new("relative"), &signal).is_err());
    assert!(s.watches.path(Path::new("/a\0b"), &signal).is_err());
    s.guards.push(s.watches.path(Path::new("/"), &signal).expect("the root is a path"));
    let long = s.path(&"n".repeat(300));
    let below = s.path(&format!("{}/f", "n".repeat(300)));
    s.mkdir("d");
    let odd = s.path("d/../d/./f/");
    s.write("d/f");
    s.hear(odd);
    s.silent(long);
    s.silent(below);
}

#[test]
fn directories_on_the_way_are_watched_for_the_way_only() {
    let mut s = Scene::new();
    s.mkdir("busy/d");
    let (f, g) = (s.path("busy/d/f"), s.path("busy/g"));
    // ATTRIB and CLOSE_WRITE, as in `inotify(7)`.
    let entries = 0x4 | 0x8;
    assert_eq!(s.kernel_mask("busy") & entries, entries);
    assert_eq!(s.kernel_mask("") & entries, 0);
    s.guards.pop();
    assert_eq!(s.kernel_mask("busy") & entries, 0);
    // OPEN, ACCESS, MODIFY and CLOSE_NOWRITE: the marks of our own looks.
    assert_eq!(s.kernel_mask("busy/d") & (0x20 | 0x1 | 0x2 | 0x10), 0);
    s.write("busy/d/f");
    s.hear(f);
    s.write("busy/g");
    s.silent(g);
}

/// A file system that is mounted for one test.
struct Mounted(PathBuf);

impl Mounted {
    /// Mounting needs a right that most test runs do not have; without it there is nothing to test.
    fn at(point: PathBuf) -> Option<Self> {
        let done = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&point).output();
        done.is_ok_and(|out| out.status.success()).then(|| Self(point))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(thread::panicking() || done.is_ok_and(|status| status.success()), "it stays mounted");
    }
}

#[test]
fn a_directory_may_be_mounted_over() {
    let mut s = Scene::new();
    s.mkdir("m/d");
    symlink("m", s.at("link")).expect("linked");
    let (f, g, t) = (s.path("m/d/f"), s.path("link/d/f"), s.tree("m"));
    let Some(mounted) = Mounted::at(s.at("m/d")) else { return };
    for probe in [f, g, t] {
        s.hear(probe);
    }
    s.settle();
    s.forget();
    s.write("m/d/f");
    for probe in [f, g, t] {
        s.hear(probe);
    }
    s.settle();
    s.forget();
    drop(mounted);
    for probe in [f, g, t] {
        s.hear(probe);
    }
    s.settle();
    s.forget();
    s.write("m/d/f");
    s.hear(f);
    s.hear(g);
}

#[test]
fn links_of_a_released_directory_release_each_other() {
    let mut s = Scene::new();
    s.mkdir("p/b/deep");
    symlink("b/deep", s.at("p/a")).expect("linked");
    symlink("../p/a", s.at("p/c")).expect("linked");
    let base = s.watches.counts().watches;
    s.path("p/c/f");
    s.path("p/a/f");
    s.tree("p");
    s.guards.swap_remove(0);
    s.guards.clear();
    assert_eq!(s.watches.counts().watches, base);
    assert_eq!(s.kernel_watches(), base);
}

#[test]
fn an_unreadable_directory_is_polled_only_where_its_entries_matter() {
    let mut s = Scene::polling_every(1);
    s.mkdir("closed/open");
    let closed = s.at("closed");
    s.watches.0.0.registry().kernel_mut().pretence.denied = Some(closed);
    let f = s.path("closed/open/f");
    assert_eq!(s.watches.counts().polled, 0);
    s.write("closed/open/f");
    s.hear(f);
    // A name that is not there yet cannot be heard of.
    let g = s.path("closed/missing/f");
    assert_eq!(s.watches.counts().polled, 2);
    s.settle();
    s.forget();
    s.hear(g);
    s.guards.pop();
    assert_eq!(s.watches.counts().polled, 0);
    s.path("closed/entry");
    assert_eq!(s.watches.counts().polled, 2);
}

#[test]
fn a_network_file_system_is_polled_and_heard() {
    let mut s = Scene::polling_every(1);
    s.mkdir("share/d");
    s.watches.0.0.registry().kernel_mut().pretence.remote = Some(s.at("share"));
    let (local, f, missing) = (s.path("local"), s.path("share/d/f"), s.path("share/missing/f"));
    assert_eq!(s.watches.counts().polled, 2);
    s.hear(f);
    s.hear(missing);
    s.write("share/d/f");
    s.hear(f);
    s.silent(local);
}

/// Not a test of anything: prints what it costs. `cargo test --release -p mgmt-resources -- --ignored figures --nocapture`
#[test]
#[ignore = "prints figures"]
fn figures() {
    let mut s = Scene::new();
    for number in 0..10_000 {
        s.mkdir(&format!("many/{number}"));
    }
    let signal = s.signal();
    let paths: Vec<PathBuf> = (0..10_000).map(|number| s.at(&format!("many/{number}/f"))).collect();
    let clock = Clock::start();
    let start = clock.now();
    let guards: Vec<Guard> = paths.iter().map(|path| s.watches.path(path, &signal).expect("good")).collect();
    println!("10,000 files in 10,000 directories: {:?}", clock.now().since(start));
    let start = clock.now();
    drop(guards);
    println!("their drops: {:?}", clock.now().since(start));
    let start = clock.now();
    let tree = s.watches.tree(&s.at("many"), &signal).expect("good");
    println!("a tree of 10,000 directories: {:?}", clock.now().since(start));
    drop(tree);
    s.mkdir("d");
    let f = s.path("d/f");
    s.write("d/f");
    s.settle();
    let mut took = Vec::new();
    for number in 0..3_000 {
        s.forget();
        let start = clock.now();
        s.chmod("d/f", 0o600 + number % 2);
        s.hear(f);
        took.push(clock.now().since(start));
        thread::sleep(Duration::from_micros(200));
    }
    took.sort_unstable();
    println!("change to waiting thread: p50 {:?}, p99 {:?}", took[1_500], took[2_970]);
}
