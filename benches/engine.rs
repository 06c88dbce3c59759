//! The engine alone, with no resource that does anything, beside a bare count of in-degrees on the same graph.
//!
//! `cargo bench --bench engine`

#![allow(missing_docs, clippy::disallowed_methods, clippy::print_stdout, reason = "a bench measures and prints")]

use std::collections::{BTreeSet, VecDeque};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mgmt_engine::report::Report;
use mgmt_engine::resource::{Applied, Check, Drift, Fault, Look, Resource, Work};
use mgmt_engine::runner::{Condition, Config, Engine, Ledger, Observer};
use mgmt_engine::schedule::Options;
use mgmt_engine::{Clock, Graph, Id, Meta, Vertex};

const VERTICES: usize = 100_000;
const RUNS: usize = 7;

#[derive(Debug, PartialEq)]
struct Noop(u32);

#[derive(Debug)]
struct Never;
impl std::fmt::Display for Never {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}
impl Drift for Never {}

impl Resource for Noop {
    type Drift = Never;
    async fn check(&self, _: &Look) -> Result<Check<Never>, Fault> {
        Ok(Check::Converged)
    }
    async fn apply(&self, _: Never, _: &Work) -> Result<Applied, Fault> {
        Ok(Applied::Unchanged)
    }
}

struct Nobody;
impl Observer for Nobody {
    fn report(&self, _: &Report) {}
    fn converged(&self, _: bool) {}
}
impl Ledger for Nobody {
    fn keep(&self, _: &[Id], _: bool) -> std::io::Result<()> {
        Ok(())
    }
    fn lost(&self, _: &std::io::Error) {}
}

fn graph(count: usize, version: impl Fn(usize) -> u32, edges: &[(usize, usize)]) -> Graph {
    let mut graph = Graph::new("bench");
    for n in 0..count {
        let resource = Arc::new(Noop(version(n)));
        graph
            .add(Vertex { id: Id::new("noop", &format!("n{n}")), resource, meta: Meta::default() })
            .expect("new names");
    }
    for (from, to) in edges {
        graph.connect(*from, *to, false);
    }
    graph.seal(&[]).expect("edges go upwards");
    graph
}

/// 100 layers, each vertex after three of the layer before: a fixed pseudo-random choice.
fn layers(count: usize) -> Vec<(usize, usize)> {
    let width = count / 100;
    let mut seed = 1_u64;
    let mut edges = Vec::new();
    for n in width..count {
        for _ in 0..3 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let back = usize::try_from(seed >> 33).expect("31 bits") % width;
            edges.push(((n / width - 1) * width + back, n));
        }
    }
    edges
}

/// The floor: order by in-degree alone, one thread.
fn indegree(count: usize, edges: &[(usize, usize)]) -> Duration {
    let began = Instant::now();
    let mut waits = vec![0_u32; count];
    let mut after = vec![Vec::new(); count];
    for (from, to) in edges {
        after[*from].push(*to);
        waits[*to] += 1;
    }
    let mut ready: VecDeque<usize> = (0..count).filter(|n| waits[*n] == 0).collect();
    let mut done = 0;
    while let Some(n) = ready.pop_front() {
        done += 1;
        for next in &after[n] {
            waits[*next] -= 1;
            if waits[*next] == 0 {
                ready.push_back(*next);
            }
        }
    }
    assert_eq!(black_box(done), count);
    began.elapsed()
}

fn engine(runtime: &tokio::runtime::Runtime) -> Engine {
    let options = Options { noop: false, recheck: true, converged: Duration::ZERO };
    Engine::start(
        Config { options, workers: None },
        Clock::start(),
        runtime.handle().clone(),
        Box::new(Nobody),
        Box::new(Nobody),
    )
    .expect("threads")
}

fn converged(runtime: &tokio::runtime::Runtime, engine: &Engine) {
    let mut condition = engine.condition();
    runtime.block_on(condition.wait_for(|c| *c == Condition::Converged)).expect("the engine lives");
}

fn median(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    format!("{:>8.2} ms (best {:.2})", times[times.len() / 2].as_secs_f64() * 1e3, times[0].as_secs_f64() * 1e3)
}

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let chain: Vec<_> = (1..VERTICES).map(|n| (n - 1, n)).collect();
    for (shape, edges) in
        [("one layer", vec![]), ("chain", chain), ("100 random layers, 3 edges each", layers(VERTICES))]
    {
        let graph = graph(VERTICES, |_| 0, &edges);
        let (mut floor, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            floor.push(indegree(VERTICES, &edges));
            let (engine, graph) = (engine(&runtime), graph.clone());
            let began = Instant::now();
            engine.replace(graph, &BTreeSet::new());
            converged(&runtime, &engine);
            ours.push(began.elapsed());
        }
        println!("{VERTICES} noop vertices, {shape:<32} engine {}   in-degree count {}", median(ours), median(floor));
    }
    for (what, version) in [("equal", 0), ("1 % different", 100), ("all different", 1)] {
        let mut times = Vec::new();
        let edges = layers(10_000);
        for _ in 0..RUNS {
            let engine = engine(&runtime);
            engine.replace(graph(10_000, |_| 0, &edges), &BTreeSet::new());
            converged(&runtime, &engine);
            let next = graph(10_000, |n| u32::from(version > 0 && n % version == 0), &edges);
            let began = Instant::now();
            engine.replace(next, &BTreeSet::new());
            converged(&runtime, &engine);
            times.push(began.elapsed());
        }
        println!("10000 vertices replaced by a graph that is {what:<16} {}", median(times));
    }
}
