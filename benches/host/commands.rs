//! Commands: a chain that takes its time, and many that take none.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use crate::kit::{Bench, Contender, Cost, Random, converge, floor, scratch, time};

pub(crate) fn run(bench: &mut Bench) {
    let scratch = scratch();
    let second = bench.pick(1.0, 0.3);
    let chain = scratch.path().join("chain.yaml");
    let names: Vec<_> = (1..=4).map(|n| (format!("exec{n}"), format!("sleep {second}"))).collect();
    fs::write(&chain, graph(&names, &[(0, 1), (1, 2)])).expect("space");
    let floored = Cost { wall: Duration::from_secs_f64(3.0 * second), cpu: Duration::ZERO };
    let contenders: Vec<Contender<'_>> =
        vec![("", Box::new(|| time(converge(&chain)))), ("by arithmetic", Box::new(|| floored))];
    bench.race(&format!("3 × sleep {second} in a chain, 1 beside"), bench.pick(3, 1), contenders, "≤ 3.01 s");

    let (width, layers) = (bench.pick(100, 20), 10);
    let count = width * layers;
    let many = scratch.path().join("many.yaml");
    let names: Vec<_> = (0..count).map(|n| (format!("v{n:05}"), "true".to_owned())).collect();
    fs::write(&many, graph(&names, &edges(width, layers))).expect("space");
    let count = count.to_string();
    let contenders: Vec<Contender<'_>> = vec![
        ("", Box::new(|| time(converge(&many)))),
        ("2 at once", Box::new(|| time(floor(&["spawn", &count, "2"])))),
        ("8 at once", Box::new(|| time(floor(&["spawn", &count, "8"])))),
        ("64 at once", Box::new(|| time(floor(&["spawn", &count, "64"])))),
    ];
    bench.race(&format!("{count} × true in 10 random layers"), bench.pick(7, 3), contenders, "≤ 1.1 × floor");
}

/// Each after one to three of the layer before.
fn edges(width: usize, layers: usize) -> Vec<(usize, usize)> {
    let (mut random, mut edges) = (Random(1), Vec::new());
    for n in width..width * layers {
        let mut before: Vec<_> = (0..=random.below(3)).map(|_| (n / width - 1) * width + random.below(width)).collect();
        before.sort_unstable();
        before.dedup();
        edges.extend(before.into_iter().map(|from| (from, n)));
    }
    edges
}

fn graph(commands: &[(String, String)], edges: &[(usize, usize)]) -> String {
    let mut text = String::from("graph: bench\nresources:\n  exec:\n");
    for (name, command) in commands {
        writeln!(text, "  - name: {name}\n    cmd: {command}").expect("memory");
    }
    text.push_str("edges:\n");
    for (n, (from, to)) in edges.iter().enumerate() {
        let (from, to) = (&commands[*from].0, &commands[*to].0);
        writeln!(text, "- name: e{n}\n  from: {{kind: exec, name: {from}}}\n  to: {{kind: exec, name: {to}}}")
            .expect("memory");
    }
    text
}
