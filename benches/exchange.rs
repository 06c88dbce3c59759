//! The exchange of three hosts on one machine, beside a floor in the same run: the fewest system calls that leave the
//! same files behind, without a mesh, a log or a disk that is waited for.
//!
//! `cargo bench --bench exchange` measures at full size, in about two minutes; `-- quick` in a quarter of one; `-- join`
//! or `-- change` only that row; `-- date=2026-11-22` puts a date over the table at the end. `MGMT_BIN` names another
//! binary to measure, such as the one that is shipped.
//!
//! Most of what is measured waits for disks, and the machine is shared with other work: compare rows of one run only.

#![allow(missing_docs, clippy::disallowed_methods, clippy::print_stdout, reason = "a bench measures and prints")]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};

use kit::{Bench, floor, load, machine, mgmt, millis, quantile, scratch};

#[path = "host/kit.rs"]
#[allow(dead_code, reason = "this bench uses its part")]
mod kit;

const HOSTS: [&str; 3] = ["a", "b", "c"];
/// Whatever takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at files.
const LOOK: Duration = Duration::from_micros(100);
/// Between two changes: a host may propose 50 times a second.
const GAP: Duration = Duration::from_millis(40);
/// Two hosts have settled down when a third one comes.
const SETTLED: Duration = Duration::from_millis(500);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [first, rest @ ..] = words.as_slice()
        && first == "floor"
    {
        run_floor(rest);
        return;
    }
    let has = |wanted: &str| words.iter().any(|word| word == wanted);
    let date = words.iter().find_map(|word| word.strip_prefix("date=")).unwrap_or_default();
    let mut bench = Bench::new(has("quick"));
    println!("{}; load {}", machine(), load());
    if !has("change") {
        join(&mut bench);
    }
    if !has("join") {
        change(&mut bench);
    }
    bench.table(date);
}

/// Hosts of one user on one machine: they find each other.
struct Scene {
    root: PathBuf,
    running: Vec<Child>,
}

impl Scene {
    fn new(root: &Path) -> Self {
        for host in HOSTS {
            fs::create_dir(root.join(host)).expect("space");
            for export in [3, 4] {
                fs::write(root.join(format!("{host}{export}.source")), "first\n").expect("space");
            }
        }
        Self { root: root.to_owned(), running: Vec::new() }
    }

    /// Two files of its own, two that it exports, and everybody's.
    fn start(&mut self, host: &str) {
        let root = self.root.display();
        let mut text = format!("graph: {host}\nresources:\n  file:\n");
        for own in [1, 2] {
            let name = format!("{host}{own}");
            writeln!(text, "  - {{name: {name}, path: {root}/{host}/{name}, content: own, state: exists}}")
                .expect("memory");
        }
        for export in [3, 4] {
            let name = format!("{host}{export}");
            writeln!(text, "  - {{name: '@@{name}', path: /x/{name}, source: {root}/{name}.source, state: exists}}")
                .expect("memory");
        }
        write!(text, "collect:\n- {{kind: file, pattern: {root}/{host}/}}\n").expect("memory");
        let graph = self.root.join(format!("{host}.yaml"));
        fs::write(&graph, text).expect("space");
        let mut command = mgmt(&["run", "--hostname", host, "--prefix"]);
        command.arg(self.root.join("state")).arg(graph);
        self.running.push(command.spawn().expect("it can be started"));
    }

    fn files(&self) -> usize {
        let count = |host: &str| {
            fs::read_dir(self.root.join(host)).map_or(0, |entries| entries.flatten().filter(is_whole).count())
        };
        HOSTS.iter().map(|host| count(host)).sum()
    }

    fn until_files(&self, count: usize) {
        until(&format!("{count} files, of which there are {}", self.files()), || self.files() == count);
    }

    /// What all have run for, by the scheduler's clock.
    fn cpu(&self) -> Duration {
        let of = |pid: u32| {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
            let ran = tasks.map(|task| fs::read_to_string(task.path().join("schedstat")).unwrap_or_default());
            ran.filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok()).sum::<u64>()
        };
        Duration::from_nanos(self.running.iter().map(|child| of(child.id())).sum())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _gone = child.kill();
            let _status = child.wait();
        }
    }
}

/// What is being written has another name.
fn is_whole(entry: &fs::DirEntry) -> bool {
    !entry.file_name().to_string_lossy().starts_with('.')
}

fn until(what: &str, there: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !there() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(LOOK);
    }
}

fn spread(times: &[Duration]) -> String {
    let at = |part| millis(quantile(times, part));
    format!("p50 {} best {} max {}", at(0.5), at(0.0), at(1.0))
}

fn row(bench: &mut Bench, what: &str, ours: &[Duration], cpu: String, floors: &[Duration], target: &str) {
    let ratio = quantile(ours, 0.5).as_secs_f64() / quantile(floors, 0.5).as_secs_f64();
    bench.row([what.to_owned(), spread(ours), cpu, spread(floors), format!("{ratio:.1}"), target.to_owned()]);
}

/// Two hosts exchange what they have. The third is started: how long until there are 24 files, of which it has made
/// eight, and the others two each.
fn join(bench: &mut Bench) {
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..bench.pick(25, 5) {
        let scratch = scratch();
        let mut scene = Scene::new(scratch.path());
        scene.start("a");
        scene.until_files(4);
        scene.start("b");
        scene.until_files(12);
        std::thread::sleep(SETTLED);
        let began = Instant::now();
        scene.start("c");
        scene.until_files(24);
        ours.push(began.elapsed());
        drop(scene);
        let directory = scratch.path().join("floor");
        fs::create_dir(&directory).expect("space");
        floors.push(kit::time(floor(&["write", directory.to_str().expect("a plain path"), "12"])).wall);
        bench.keep(scratch);
    }
    let what = "third host's start to 24 files (floor: a process that writes those 12)";
    row(bench, what, &ours, "-".to_owned(), &floors, "≤ 80 ms quiet");
}

/// One host's exported file changes: how long until the copies of the two others are the same.
fn change(bench: &mut Bench) {
    let scratch = scratch();
    let mut scene = Scene::new(scratch.path());
    for (number, host) in HOSTS.iter().enumerate() {
        scene.start(host);
        scene.until_files([4, 12, 24][number]);
    }
    let relayed = [scratch.path().join("one"), scratch.path().join("two")];
    relayed.iter().for_each(|directory| fs::create_dir(directory).expect("space"));
    let mut relay = Relay::start(scratch.path());
    std::thread::sleep(SETTLED);
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    let count = bench.pick(300, 30);
    let mut cpu = Duration::ZERO;
    for number in 0..count {
        let before = scene.cpu();
        let copies = ["b/a3", "c/a3"].map(|copy| scratch.path().join(copy));
        ours.push(changed(&scratch.path().join("a3.source"), &copies, number));
        std::thread::sleep(GAP);
        cpu += scene.cpu() - before;
        let copies = [0, 1].map(|at: usize| relayed[at].join("copy"));
        floors.push(changed(&scratch.path().join("relayed"), &copies, number));
    }
    kit_stop(&mut relay.0);
    let cpu = millis(cpu / u32::try_from(count).expect("few"));
    let what = "a changed export to its copies on two others (floor: one process, inotify, two renames)";
    row(bench, what, &ours, cpu, &floors, "p50 ≤ 5 ms");
    drop(scene);
    bench.keep(scratch);
}

/// Changes a file in one step, and looks at its copies until they are the same.
fn changed(source: &Path, copies: &[PathBuf], number: usize) -> Duration {
    let content = format!("change {number}\n");
    let new = source.with_extension("new");
    fs::write(&new, &content).expect("space");
    let began = Instant::now();
    fs::rename(&new, source).expect("a rename");
    let same = |copy: &PathBuf| fs::read(copy).is_ok_and(|is| is == content.as_bytes());
    until("copies follow", || copies.iter().all(same));
    began.elapsed()
}

fn kit_stop(child: &mut Child) {
    let _gone = child.kill();
    let _status = child.wait();
}

/// The floor as a process that stays.
struct Relay(Child);

impl Relay {
    fn start(root: &Path) -> Self {
        let command = &mut floor(&["relay", root.to_str().expect("a plain path")]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it can be started");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut ready).expect("it says that it is ready");
        Self(child)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        kit_stop(&mut self.0);
    }
}

fn run_floor(words: &[String]) {
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["write", directory, count] => {
            for number in 0..count.parse::<usize>().expect("a number") {
                put(&Path::new(directory).join(format!("f{number}")), b"first\n");
            }
        }
        ["relay", root] => relay(Path::new(root)),
        _ => panic!("no such floor: {words:?}"),
    }
}

/// In one step, and not waited for until it is on stable storage.
fn put(path: &Path, content: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, content).expect("space");
    fs::rename(new, path).expect("a rename");
}

/// Copies a file into two directories whenever it is another one.
fn relay(root: &Path) {
    let inotify = init(CreateFlags::CLOEXEC).expect("an inotify instance");
    add_watch(&inotify, root, WatchFlags::MOVED_TO).expect("a watch");
    println!("ready");
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = Reader::new(&inotify, &mut buffer);
    loop {
        let event = events.next().expect("events");
        if event.file_name().is_some_and(|name| name.to_bytes() == b"relayed") {
            let content = fs::read(root.join("relayed")).expect("it is there");
            for directory in ["one", "two"] {
                put(&root.join(directory).join("copy"), &content);
            }
        }
    }
}
