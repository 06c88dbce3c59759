//! One file is damaged under a running agent: how long until it is right again.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use crate::agent::{Agent, stop};
use crate::kit::{Bench, UNLIMITED, VISIBLE, contents, floor, graph, millis, quantile, scratch};

#[derive(Debug, Clone, Copy)]
enum Damage {
    Delete,
    Overwrite,
}

/// Long enough for a repair to be on stable storage, and for both threads of a repair to sleep again.
const GAP: Duration = Duration::from_millis(20);

pub(crate) fn run(bench: &mut Bench) {
    println!(
        "drift: the resource has `meta: {{limit: 100000, burst: 100000}}`; without an explicit limit, more than 20"
    );
    println!("       repairs within 10 s are a contest, and back off by design");
    let count = bench.pick(500, 60);
    let target = "≤ 1.5 × floor; p99 ≤ 1 ms quiet";
    for durable in [false, true] {
        let scratch = scratch();
        let [file, directory] = ["graph.yaml", "ours"].map(|name| scratch.path().join(name));
        fs::create_dir(&directory).expect("space");
        let more = format!("{}{UNLIMITED}", if durable { "" } else { VISIBLE });
        fs::write(&file, graph(&directory, 0..1, &more)).expect("space");
        let agent = Agent::start(&file, Stdio::null());
        let hows: &[&str] = if durable { &["after", "before"] } else { &["visible"] };
        let mut guards: Vec<_> = hows.iter().map(|how| Guard::start(scratch.path(), how)).collect();
        let mark = if durable { " (durable)" } else { "" };
        for damage in [Damage::Delete, Damage::Overwrite] {
            let cpu = agent.cpu();
            let (mut ours, mut floors) = (Vec::new(), vec![Vec::new(); guards.len()]);
            for _ in 0..count {
                ours.push(probe(&directory.join("f000000"), damage));
                for (floor, guard) in floors.iter_mut().zip(&guards) {
                    floor.push(probe(&guard.path, damage));
                }
            }
            let cpu = (agent.cpu() - cpu) / u32::try_from(count).expect("few");
            let name = format!("{damage:?}").to_lowercase();
            let what = format!("drift{mark}, {name} to content back");
            // As ours does, the first of them shows the file before it is on stable storage.
            bench.row(row_of(what, row(&ours, &floors[0], cpu), target));
        }
        if durable {
            std::thread::sleep(GAP);
            let ours = agent.repairs(2 * count);
            assert!(ours.len() >= count, "repairs are told as events");
            for (guard, order) in guards.iter_mut().zip(["renamed, synced", "synced, renamed"]) {
                let what = format!("drift, event to stable storage (floor: {order})");
                let row = row(&ours, &guard.repairs(2 * count), Duration::ZERO);
                bench.row(row_of(what, row, "≤ 1.5 × floor"));
            }
        }
        drop(agent);
        bench.keep(scratch);
    }
}

fn row_of(what: String, [ours, cpu, floor, ratio]: [String; 4], target: &str) -> [String; 6] {
    [what, ours, cpu, floor, ratio, target.to_owned()]
}

fn row(ours: &[Duration], floors: &[Duration], cpu: Duration) -> [String; 4] {
    let ratio = quantile(ours, 0.5).as_secs_f64() / quantile(floors, 0.5).as_secs_f64();
    let cpu = if cpu.is_zero() { "-".to_owned() } else { millis(cpu) };
    [spread(ours), cpu, spread(floors), format!("{ratio:.2}")]
}

fn spread(times: &[Duration]) -> String {
    let ms = |part| format!("{:.2}", quantile(times, part).as_secs_f64() * 1e3);
    format!("p50 {} p90 {} p99 {} max {} ms", ms(0.5), ms(0.9), ms(0.99), ms(1.0))
}

/// Damages the file, then looks without ever sleeping until it is right.
fn probe(path: &Path, damage: Damage) -> Duration {
    std::thread::sleep(GAP);
    let want = contents(0);
    let began = Instant::now();
    match damage {
        Damage::Delete => fs::remove_file(path).expect("it stands"),
        Damage::Overwrite => {
            let mut file = File::options().write(true).truncate(true).open(path).expect("it stands");
            file.write_all(b"DRIFT").expect("space");
        }
    }
    while !fs::read(path).is_ok_and(|is| is == want.as_bytes()) {
        assert!(began.elapsed() < Duration::from_secs(10), "{} is not repaired", path.display());
    }
    began.elapsed()
}

/// The floor as a process.
struct Guard {
    path: PathBuf,
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Guard {
    fn start(scratch: &Path, how: &str) -> Self {
        let directory = scratch.join(how);
        fs::create_dir(&directory).expect("space");
        let path = directory.join("f000000");
        fs::write(&path, contents(0)).expect("space");
        let mut command = floor(&["guard", directory.to_str().expect("a plain path"), how]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it can be started");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut ready = String::new();
        lines.read_line(&mut ready).expect("it says that it is ready");
        Self { path, child, lines }
    }

    fn repairs(&mut self, count: usize) -> Vec<Duration> {
        let lines = self.lines.by_ref().lines().take(count);
        lines.map(|line| Duration::from_micros(line.expect("a line").parse().expect("a number"))).collect()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}
