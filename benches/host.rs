//! The whole program on one host, beside a floor in the same run: the fewest system calls that leave the same behind.
//!
//! `cargo bench --bench host` measures everything at full size, in about ten minutes; `-- quick` small sizes, in less
//! than one; `-- drift files` only those rows; `-- date=2026-11-22` puts a date over the table at the end. `MGMT_BIN`
//! names another binary to measure, such as the one that is shipped.
//!
//! Ours and the floor are taken in turn, because the machine is shared with other work: compare rows of one run only.
//! A floor is a process as ours is: this bench starts itself as `floor …`.

#![allow(missing_docs, clippy::disallowed_methods, clippy::print_stdout, reason = "a bench measures and prints")]

#[path = "host/agent.rs"]
mod agent;
#[path = "host/commands.rs"]
mod commands;
#[path = "host/drift.rs"]
mod drift;
#[path = "host/files.rs"]
mod files;
#[path = "host/floor.rs"]
mod floor;
#[path = "host/kit.rs"]
mod kit;
#[path = "host/life.rs"]
mod life;
#[path = "host/lost.rs"]
mod lost;

use kit::{Bench, load, machine};

type Row = (&'static str, fn(&mut Bench));

/// Those that remove many files come last: see `kit::scratch`.
const ROWS: &[Row] = &[
    ("start", life::start),
    ("memory", life::memory),
    ("idle", life::idle),
    ("commands", commands::run),
    ("reloads", life::reloads),
    ("drift", drift::run),
    ("files", files::run),
    ("lost", lost::run),
];

fn main() {
    let mut words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if words.first().is_some_and(|word| word == "floor") {
        floor::run(&words[1..]);
        return;
    }
    let quick = words.iter().any(|word| word == "quick");
    let date = words.iter().find_map(|word| word.strip_prefix("date=").map(str::to_owned)).unwrap_or_default();
    words.retain(|word| word != "quick" && !word.starts_with("date="));
    if let Some(unknown) = words.iter().find(|word| ROWS.iter().all(|(name, _)| name != word)) {
        let known: Vec<_> = ROWS.iter().map(|(name, _)| *name).collect();
        println!("{unknown} is no row; there are: {}", known.join(" "));
        std::process::exit(64);
    }
    let mut bench = Bench::new(quick);
    println!("{}; load {}", machine(), load());
    for (name, row) in ROWS {
        if words.is_empty() || words.iter().any(|word| word == name) {
            row(&mut bench);
        }
    }
    bench.table(&date);
}
