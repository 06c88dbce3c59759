//! A thousand times `true`: check and apply of an exec, beside a bare `posix_spawn` and wait, as many in flight.
//!
//! `cargo bench -p mgmt-resources --bench spawn [-- BALLAST_MIB]`; ballast shows that nothing forks the whole process.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench, read by people")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mgmt_engine::Clock;
use mgmt_engine::erased::AnyResource;
use mgmt_engine::resource::{Cause, Check, Look, Work};
use mgmt_resources::exec::INFO;
use mgmt_resources::kind::{Context, Params, Value};
use mgmt_resources::{Host, accounts::Accounts, memory::Memory, syncs::Syncs, watches::Watches};

const RUNS: usize = 1_000;
const THREADS: usize = 2;
const IN_FLIGHT: usize = 8;
const ROUNDS: usize = 5;

fn main() {
    let ballast: usize = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(0);
    let ballast = vec![1_u8; ballast << 20];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build().unwrap();
    let (plain, in_directory) = (resource(None), resource(Some("/tmp")));
    let mut rows: Vec<[u128; 4]> = Vec::new();
    for _ in 0..ROUNDS {
        // Interleaved, so that a loud neighbour disturbs all of them alike.
        let bare = timed(|| bare(false));
        let piped = timed(|| self::bare(true));
        let ours = timed(|| runtime.block_on(exec(&plain)));
        let there = timed(|| runtime.block_on(exec(&in_directory)));
        rows.push([bare, piped, ours, there]);
    }
    let median = |column: usize| {
        let mut values: Vec<u128> = rows.iter().map(|row| row[column]).collect();
        values.sort_unstable();
        values[ROUNDS / 2]
    };
    let [bare, piped, ours, there] = [0, 1, 2, 3].map(median);
    println!("{RUNS} runs, {IN_FLIGHT} in flight, ballast {} MiB, medians of {ROUNDS}:", ballast.len() >> 20);
    println!("  bare spawn and wait    {bare} ms");
    println!("  bare, output piped     {piped} ms");
    println!("  exec: check and apply  {ours} ms, {:.2} x bare", ours as f64 / bare as f64);
    println!("  exec with cwd          {there} ms, {:.2} x bare", there as f64 / bare as f64);
}

fn timed(work: impl FnOnce()) -> u128 {
    let clock = Clock::start();
    let start = clock.now();
    work();
    clock.now().since(start).as_millis()
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
    let host = Arc::new(Host {
        watches: Watches::start().unwrap(),
        accounts: Accounts::default(),
        syncs: Syncs::default(),
        memory: Memory::at(PathBuf::from("/nonexistent")),
        protected: Vec::new(),
    });
    let mut params = Params::default();
    params.set("cmd", Value::Text("true".to_owned()));
    params.set("env", Value::Map(BTreeMap::new()));
    if let Some(cwd) = cwd {
        params.set("cwd", Value::Text(cwd.to_owned()));
    }
    let managed = Arc::new(BTreeSet::new());
    let context = Context { host: &host, name: "bench", first_dialect: false, managed: &managed };
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
