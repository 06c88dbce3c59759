//! A thousand times `true`: check and apply of an exec, beside a bare `posix_spawn` and wait, as many in flight.
//!
//! `cargo bench -p mgmt-resources --bench spawn [-- BALLAST_MIB]`; ballast shows that nothing forks the whole process.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench, read by people")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mgmt_engine::erased::AnyResource;
use mgmt_engine::resource::{Cause, Check, Look, Work};
use mgmt_engine::{Clock, Moment};
use mgmt_resources::exec::INFO;
use mgmt_resources::kind::{Context, Params, Value};
use mgmt_resources::{Host, memory::Memory, watches::Watches};

const RUNS: usize = 1_000;
const THREADS: usize = 2;
const IN_FLIGHT: usize = 8;
const ROUNDS: usize = 7;

fn main() {
    let ballast: usize = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(0);
    let ballast = vec![1_u8; ballast << 20];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build().unwrap();
    let (plain, in_directory) = (resource(None), resource(Some("/tmp")));
    let mut rows: Vec<[Cost; 4]> = Vec::new();
    for _ in 0..ROUNDS {
        // Interleaved, so that a loud neighbour disturbs all of them alike.
        rows.push([
            cost(|| bare(false)),
            cost(|| bare(true)),
            cost(|| runtime.block_on(exec(&plain))),
            cost(|| runtime.block_on(exec(&in_directory))),
        ]);
    }
    println!("{RUNS} runs, {IN_FLIGHT} in flight, ballast {} MiB, {ROUNDS} rounds:", ballast.len() >> 20);
    let names = ["bare spawn and wait", "bare, output piped", "exec: check and apply", "exec with cwd"];
    for (column, name) in names.into_iter().enumerate() {
        let median = |column: usize| {
            let mut walls: Vec<u128> = rows.iter().map(|row| row[column].wall_ms).collect();
            walls.sort_unstable();
            walls[ROUNDS / 2]
        };
        let cpu = |column: usize| rows.iter().map(|row| row[column].cpu_ms).sum::<u64>() / ROUNDS as u64;
        let (wall, busy) = (median(column), cpu(column));
        let (wall_ratio, cpu_ratio) = (wall as f64 / median(0) as f64, busy as f64 / cpu(0) as f64);
        println!("  {name:22} median {wall} ms, {wall_ratio:.2} x bare; CPU {busy} ms, {cpu_ratio:.2} x bare");
    }
}

#[derive(Clone, Copy)]
struct Cost {
    wall_ms: u128,
    cpu_ms: u64,
}

/// Wall-clock time, and the processor time of this process and all children it has waited for.
fn cost(work: impl FnOnce()) -> Cost {
    let (clock, busy) = (Clock::start(), cpu_ms());
    work();
    Cost { wall_ms: clock.now().since(Moment::START).as_millis(), cpu_ms: cpu_ms() - busy }
}

/// The kernel counts in hundredths of a second here, which is fine enough for a thousand runs.
fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(4);
    fields.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum()
}

fn bare(piped: bool) {
    let left = AtomicUsize::new(RUNS);
    std::thread::scope(|scope| {
        for _ in 0..IN_FLIGHT {
            scope.spawn(|| {
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let mut command = Command::new("/bin/true");
                    command.stdin(Stdio::null());
                    if piped {
                        command.stdout(Stdio::piped()).stderr(Stdio::piped());
                        command.output().unwrap();
                    } else {
                        command.status().unwrap();
                    }
                }
            });
        }
    });
}

fn resource(cwd: Option<&str>) -> AnyResource {
    let host =
        Arc::new(Host { memory: Memory::at(PathBuf::from("/nonexistent")), ..Host::with(Watches::start().unwrap()) });
    let mut params = Params::default();
    params.set("cmd", Value::Text("true".to_owned()));
    params.set("env", Value::Map(BTreeMap::new()));
    if let Some(cwd) = cwd {
        params.set("cwd", Value::Text(cwd.to_owned()));
    }
    let context = Context::of(&host, "bench");
    (INFO.build)(&mut params, &context).unwrap().resource
}

async fn exec(resource: &AnyResource) {
    let left = Arc::new(AtomicUsize::new(RUNS));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (resource, left) = (Arc::clone(resource), Arc::clone(&left));
        tasks.spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                let look = Look::because(Cause::First);
                let Check::Drifted(fix) = Arc::clone(&resource).check(look).await.unwrap() else { panic!("clean") };
                fix.apply(Work::because(Cause::First)).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}
