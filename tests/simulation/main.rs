//! The whole group in one thread from a seed: every host with a disk that forgets, a network that loses, an oracle that
//! does not. docs/reliability.md says what it promises to find.
//!
//! ```text
//! cargo test --test simulation                                          a few seeds, and that they repeat themselves
//! cargo test --release --test simulation -- --seed 17 [--mutant NAME]   one seed, with its trace
//! cargo test --release --test simulation -- campaign --seeds 500 [--from 0]
//! cargo test --release --test simulation -- campaign --whole --seeds 150     hosts with exports, collects and engines
//! cargo test --release --test simulation -- mutants [--limit 600]       every deliberate defect must be caught
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test program speaks to whoever started it")]

mod book;
mod campaign;
mod client;
mod faults;
mod ground;
mod host;
mod hosted;
#[allow(unused_imports, reason = "its tests are in a program of their own, tests/oracle.rs")]
mod oracle;
mod stage;
#[allow(unused_imports, reason = "as for the oracle")]
mod swarm;
mod tapped;
mod trace;
mod translate;
mod watcher;
mod whole;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    hosted::listen_to_panics();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match campaign::read(&arguments) {
        Ok(order) => order.carry_out(),
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(64)
        }
    }
}
