//! Sizes, times, and the table.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{IFlags, ioctl_setflags};
use tempfile::TempDir;

/// What is measured, and what came of it.
pub(crate) struct Bench {
    pub(crate) quick: bool,
    rows: Vec<[String; 6]>,
    /// What is removed at the end.
    kept: Vec<TempDir>,
}

/// What one process took.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

/// What several runs of one contender took.
pub(crate) struct Series {
    pub(crate) name: String,
    walls: Vec<Duration>,
    /// A mean: the kernel counts the CPU time of children that have ended in steps of 10 ms.
    cpu: Duration,
}

/// One who takes part, by name.
pub(crate) type Contender<'a> = (&'a str, Box<dyn FnMut() -> Cost + 'a>);

impl Bench {
    pub(crate) fn new(quick: bool) -> Self {
        Self { quick, rows: Vec::new(), kept: Vec::new() }
    }

    pub(crate) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Lets a directory be until the end.
    pub(crate) fn keep(&mut self, scratch: TempDir) {
        self.kept.push(scratch);
    }

    /// One row of figures that have no floor.
    pub(crate) fn figure(&mut self, what: &str, ours: String, cpu: String, target: &str) {
        self.row([what.to_owned(), ours, cpu, "-".to_owned(), "-".to_owned(), target.to_owned()]);
    }

    pub(crate) fn row(&mut self, row: [String; 6]) {
        let [what, ours, cpu, floor, ratio, target] = &row;
        println!("{what:<52} {ours:<32} cpu {cpu:<9} floor {floor:<36} {ratio:<7} held to: {target}");
        self.rows.push(row);
    }

    /// Lets the first and its floors run in turn. The floor is the fastest of the others.
    pub(crate) fn race(&mut self, what: &str, runs: usize, contenders: Vec<Contender<'_>>, target: &str) {
        let all = in_turn(runs, contenders);
        let (ours, floors) = all.split_first().expect("ours is the first");
        let floor = floors.iter().min_by_key(|floor| floor.median()).expect("at least one floor");
        self.row([
            what.to_owned(),
            ours.to_string(),
            ours.cpu(runs),
            format!("{floor} {}, CPU {}", floor.name, floor.cpu(runs)).replace(" , ", ", "),
            format!("{:.2}", ours.median().as_secs_f64() / floor.median().as_secs_f64()),
            target.to_owned(),
        ]);
    }

    pub(crate) fn table(&self, date: &str) {
        println!("\n{date}{}{}; load at the end {}\n", if date.is_empty() { "" } else { ", " }, machine(), load());
        println!("| what | ours: median (best) | CPU | floor: median (best) | ratio | held to |");
        println!("| --- | --- | --- | --- | --- | --- |");
        for row in &self.rows {
            println!("| {} |", row.join(" | "));
        }
    }
}

impl Series {
    pub(crate) fn median(&self) -> Duration {
        quantile(&self.walls, 0.5)
    }

    /// Nothing, where the steps of the kernel's count are too coarse to say.
    fn cpu(&self, runs: usize) -> String {
        let told = self.cpu.as_millis() * runs as u128 >= 100;
        if told { millis(self.cpu) } else { "-".to_owned() }
    }
}

impl std::fmt::Display for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", millis(self.median()), millis(quantile(&self.walls, 0.0)))
    }
}

pub(crate) fn in_turn(runs: usize, mut contenders: Vec<Contender<'_>>) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for (name, _) in &contenders {
        all.push(Series { name: (*name).to_owned(), walls: Vec::new(), cpu: Duration::ZERO });
    }
    for _ in 0..runs {
        for (series, (_, run)) in all.iter_mut().zip(&mut contenders) {
            let cost = run();
            series.walls.push(cost.wall);
            series.cpu += cost.cpu;
        }
    }
    for series in &mut all {
        series.cpu /= u32::try_from(runs).expect("few runs");
    }
    all
}

/// The time below which this part of the times lies.
pub(crate) fn quantile(times: &[Duration], part: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().saturating_sub(1);
    sorted[(part * last as f64).round() as usize]
}

pub(crate) fn millis(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    match ms {
        1000.0.. => format!("{:.3} s", ms / 1e3),
        100.0.. => format!("{ms:.0} ms"),
        10.0.. => format!("{ms:.1} ms"),
        _ => format!("{ms:.2} ms"),
    }
}

/// The program that is measured.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("MGMT_BIN").map_or_else(|| env!("CARGO_BIN_EXE_mgmt").into(), PathBuf::from)
}

/// Our program, with nothing to read and nobody to print to.
pub(crate) fn mgmt(words: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// `mgmt run FILE` until all is quiet, with its state beside the file.
pub(crate) fn converge(graph: &Path) -> Command {
    let state = graph.with_file_name("state");
    let mut command = mgmt(&["run", "--converged-timeout=0", "--hostname=bench", "--prefix"]);
    command.arg(state).arg(graph);
    command
}

/// This bench as a floor.
pub(crate) fn floor(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a path of our own"));
    command.arg("floor").args(words).stdin(Stdio::null()).stderr(Stdio::inherit());
    command
}

/// Runs a process to its end, which must be a good one.
pub(crate) fn time(mut command: Command) -> Cost {
    let (before, began) = (children(), Instant::now());
    let status = command.status().expect("it can be started");
    let wall = began.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    Cost { wall, cpu: children().saturating_sub(before) }
}

/// CPU time of all children that have ended, with theirs: what `getrusage` says of them, which cannot be called without
/// unsafe code.
fn children() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("/proc");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    let ticks: u64 = fields[13..15].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

/// A directory for one row, which goes when the bench ends.
///
/// ext4 gives no inode away again within five minutes of its end, and walks over all of those to find another: whoever
/// writes where many files were just removed measures that walk. So nothing is removed between runs, and directories
/// made in here are told to lie far apart.
pub(crate) fn scratch() -> TempDir {
    let scratch = TempDir::new().expect("a directory for scratch");
    let spread = fs::File::open(scratch.path()).map(|it| ioctl_setflags(it, IFlags::TOPDIR));
    // Other file systems know no such flag, and need none.
    drop(spread);
    scratch
}

/// A file's contents: 100 bytes, different for each number.
pub(crate) fn contents(number: usize) -> String {
    format!("{:x<99}\n", format!("file {number:06} "))
}

/// A graph of files in a directory. An explicit limit keeps repairs by the hundred from counting as a contest.
pub(crate) fn graph(directory: &Path, numbers: impl Iterator<Item = usize>, more: &str) -> String {
    let mut text = String::from("graph: bench\nresources:\n  file:\n");
    for n in numbers {
        let path = directory.join(format!("f{n:06}"));
        let body = contents(n).replace('\n', "\\n");
        writeln!(text, "  - name: f{n:06}\n    path: {}\n    content: \"{body}\"\n    state: exists", path.display())
            .expect("memory");
        text.push_str(more);
    }
    text
}

/// An extra line of a resource: not waited for until it is on stable storage.
pub(crate) const VISIBLE: &str = "    durable: false\n";
/// An extra line of a resource: as many repairs as there are, at once.
pub(crate) const UNLIMITED: &str = "    meta: {limit: 100000, burst: 100000}\n";

/// A small generator, always the same numbers (Knuth's MMIX).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }
}

pub(crate) fn load() -> String {
    fs::read_to_string("/proc/loadavg").expect("/proc").split(' ').take(3).collect::<Vec<_>>().join(" ")
}

pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = fs::read_to_string("/proc/meminfo").expect("/proc");
    let kib: u64 = memory.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("MemTotal");
    let (temporary, mounts) = (std::env::temp_dir(), fs::read_to_string("/proc/mounts").expect("/proc"));
    let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let below = mounts.filter(|fields| temporary.starts_with(fields[1]));
    let system = below.max_by_key(|fields| fields[1].len()).map_or("?".to_owned(), |fields| fields[2].to_owned());
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    format!("{cores} cores, Linux {kernel}, {} GiB, temporary files on {system}", kib.div_ceil(1 << 20))
}
