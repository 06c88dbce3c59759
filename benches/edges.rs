//! Automatic edges of graphs like a server's, beside a floor in the same run: one entry of a hash table for each path, and
//! one look at it.
//!
//! `cargo bench --bench edges`. What is measured is putting a graph together with automatic edges less the same without
//! them, taken in turn. Packages are those that this machine has, so that their lists of files are real ones; where it
//! has none, invented names stand for packages that are not installed.

#![allow(missing_docs, clippy::disallowed_methods, clippy::print_stdout, reason = "a bench measures and prints")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mgmt::assemble::{self, Options};
use mgmt::document;
use mgmt::kinds::KINDS;
use mgmt_resources::Host;
use mgmt_resources::watches::Watches;

const RUNS: usize = 21;

/// A graph of `count` resources: of ten, two packages, two services, four files, a user, a group.
fn graph(count: usize) -> String {
    let status = std::fs::read_to_string("/var/lib/dpkg/status").unwrap_or_default();
    let mut names = status.lines().filter_map(|line| line.strip_prefix("Package: ")).filter(|name| !name.contains('+'));
    let mut parts: [String; 5] = Default::default();
    let [packages, services, files, users, groups] = &mut parts;
    for n in 0..count / 10 {
        for half in 0..2 {
            let name = names.next().map_or_else(|| format!("invented{n}-{half}"), str::to_owned);
            writeln!(packages, "  - {{name: {name:?}, state: installed}}").expect("a string takes all");
            writeln!(services, "  - {{name: {:?}, state: running}}", format!("{name}.service")).expect("as above");
            for place in [format!("/etc/{name}/"), format!("/etc/{name}/{n}.conf")] {
                let rest = "state: exists, owner: ";
                writeln!(files, "  - {{name: 'f{place}{half}', path: {place:?}, {rest} u{n}, group: g{n}}}")
                    .expect("as above");
            }
        }
        writeln!(users, "  - {{name: u{n}, state: exists, groups: [g{n}]}}").expect("as above");
        writeln!(groups, "  - {{name: g{n}, state: exists}}").expect("as above");
    }
    let kinds = ["pkg", "svc", "file", "user", "group"].iter().zip(&parts);
    let list: String = kinds.map(|(kind, part)| format!("  {kind}:\n{part}")).collect();
    format!("graph: server\nresources:\n{list}")
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The least that matching paths can cost.
fn floor(paths: &[String]) -> Duration {
    let began = Instant::now();
    let mut table = HashMap::with_capacity(paths.len());
    for (number, path) in paths.iter().enumerate() {
        table.insert(path.as_bytes(), number);
    }
    let found = paths.iter().filter(|path| table.contains_key(path.as_bytes())).count();
    black_box(found);
    began.elapsed()
}

fn main() {
    let host = Arc::new(Host::with(Watches::start().expect("files can be watched here")));
    for count in [1_000, 10_000] {
        let document = document::parse(graph(count).as_bytes()).expect("a document");
        let paths: Vec<String> = (0..count).map(|n| format!("/etc/some-package/{n}.conf")).collect();
        let (mut with, mut without, mut least, mut edges) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for _ in 0..RUNS {
            for no_autoedge in [false, true] {
                let options = Options { file: "bench".into(), hostname: "h".into(), no_autoedge, ..Options::default() };
                let began = Instant::now();
                let assembled = assemble::assemble(&document, &options, KINDS, &host);
                let took = began.elapsed();
                let graph = assembled.graph.unwrap_or_else(|| panic!("{}", assembled.problems));
                if no_autoedge {
                    without.push(took);
                } else {
                    with.push(took);
                    edges = graph.edges().len();
                }
            }
            least.push(floor(&paths));
        }
        let (with, without, least) = (median(with), median(without), median(least));
        println!(
            "{count} vertices, {edges} automatic edges: {:.2} ms of {:.2} ms (floor {:.2} ms)",
            with.saturating_sub(without).as_secs_f64() * 1e3,
            with.as_secs_f64() * 1e3,
            least.as_secs_f64() * 1e3,
        );
    }
}
