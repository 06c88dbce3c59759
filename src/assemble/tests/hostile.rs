//! No input panics, and none takes long.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "the measurements are about time, and are shown")]

use std::time::Instant;

use proptest::prelude::*;

use super::*;

const VALID: &str = "
graph: g
comment: &c {path: /c, content: 'x'}
types:
  noop: [{name: n, comment: a}]
resources:
  file:
  - name: a
    path: \"/a\"
    content: |
      hello
    meta: {retry: -1, sema: ['x:2'], limit: 1, burst: 2}
  - {<<: *c, name: c, after: ['file[a]']}
  exec:
  - {name: run, cmd: /a, env: {A: b}, hosts: ['*'], notify: 'noop[n]'}
edges:
- {name: e, from: {kind: file, name: a}, to: {kind: exec, name: run}, notify: true}
";

#[test]
fn the_valid_file_is_valid() {
    let assembled = with(VALID, &options());
    assert!(assembled.problems.is_empty(), "{}", assembled.problems);
}

#[test]
fn a_truncated_file_never_panics() {
    for end in 0..VALID.len() {
        drop(with(&VALID[..end], &options()));
    }
}

/// Files that once did harm, or might: none panics, nor does any of their beginnings.
#[test]
fn the_corpus_never_panics() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/corpus/graph");
    let host = host();
    let mut count = 0;
    for entry in std::fs::read_dir(directory).expect("the corpus is there") {
        let bytes = std::fs::read(entry.expect("it can be listed").path()).expect("it can be read");
        for end in (0..bytes.len()).step_by(1 + bytes.len() / 100).chain([bytes.len()]) {
            drop(assemble_bytes(&bytes[..end], &options(), KINDS, &host));
        }
        count += 1;
    }
    assert!(count >= 5, "the corpus has been lost");
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(assemble_bytes(&bytes, &options(), KINDS, &host()));
    }

    #[test]
    fn a_changed_file_never_panics(
        changes in prop::collection::vec((0..VALID.len(), "[-a&*!|>'\":@{}\\[\\],?#~<. \\n0]{0,3}", 0usize..12), 1..6)
    ) {
        let mut text = VALID.to_owned();
        for (at, new, length) in changes {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.replace_range(at..end, &new);
        }
        drop(with(&text, &options()));
    }
}

fn files(count: usize) -> String {
    let mut text = String::from("---\ngraph: big\nresources:\n  file:\n");
    for n in 0..count {
        text += &format!(
            "  - name: \"file number {n}\"\n    path: \"/tmp/directory/{}/file{n}\"\n    content: \"this is file {n}\\n\"\n    state: \
             \"exists\"\n",
            n % 50
        );
    }
    text
}

/// Run with `cargo test --release --lib -- --ignored --nocapture speed`.
#[test]
#[ignore = "a measurement"]
fn speed_of_many_files() {
    let host = host();
    let text = files(5_000);
    let mut times: Vec<_> = (0..21)
        .map(|_| {
            let start = Instant::now();
            let document = crate::document::parse(text.as_bytes()).expect("a document");
            let parsed = start.elapsed();
            let assembled = assemble(&document, &options(), KINDS, &host);
            let total = start.elapsed();
            assert!(assembled.problems.is_empty());
            (total, parsed)
        })
        .collect();
    times.sort();
    println!("5,000 files, {} bytes: median {:?}, parsing alone {:?}", text.len(), times[10].0, times[10].1);
}

#[test]
#[ignore = "a measurement"]
fn speed_of_automatic_edges() {
    let host = host();
    let mut text = String::from("graph: g\nresources:\n  file:\n");
    for n in 0..10_000 {
        // A tree in which each directory holds ten.
        let path: String = n.to_string().chars().map(|c| format!("/{c}")).collect();
        text += &format!("  - {{name: '/{n}', path: '/x{path}'}}\n");
    }
    let document = crate::document::parse(text.as_bytes()).expect("a document");
    let mut times: Vec<_> = [false, true]
        .map(|no_autoedge| {
            let start = Instant::now();
            let assembled = assemble(&document, &Options { no_autoedge, ..options() }, KINDS, &host);
            let graph = assembled.graph.expect("a graph");
            (start.elapsed(), graph.edges().len())
        })
        .into();
    times.sort();
    println!("10,000 files in a tree: without and with automatic edges {times:?}");
}

#[test]
#[ignore = "a measurement"]
fn speed_of_refusing() {
    for (what, text) in [
        ("deep", "[".repeat(1 << 24)),
        ("deep blocks", "- ".repeat(1 << 23)),
        ("many nodes", "- a\n".repeat(1 << 22)),
        ("wide flow", format!("a: [{}]", "x,".repeat(1 << 20))),
        ("wide flow in a list", format!("- [{}]", "x,".repeat((1 << 23) - 10))),
        ("the widest flow in a list", format!("- [{}]", "x,".repeat(1_999_000))),
        ("one long text", format!("graph: '{}'", "x".repeat((1 << 24) - 20))),
        ("anchors", (0..200_000).map(|n| format!("- &a{n} x\n")).collect()),
        (
            "10,000 unknown kinds",
            format!("graph: g\nresources:\n{}", (0..10_000).map(|n| format!("  k{n}: []\n")).collect::<String>()),
        ),
        (
            "10,000 bad edges",
            format!(
                "graph: g\nresources:\n  noop:\n{}edges:\n{}",
                (0..10_000).map(|n| format!("  - name: n{n}\n")).collect::<String>(),
                (0..10_000)
                    .map(|n| format!("- {{from: {{kind: noop, name: x{n}}}, to: {{kind: noop, name: n1}}}}\n"))
                    .collect::<String>()
            ),
        ),
    ] {
        // Forgets the peak of memory so far.
        let _no_matter = std::fs::write("/proc/self/clear_refs", "5");
        let before = peak();
        let start = Instant::now();
        let assembled = with(&text, &options());
        let line = assembled.problems.shown().first().map(|problem| problem.line("g").to_string()).unwrap_or_default();
        println!("{what}: {:?}, {} MiB {:.100}", start.elapsed(), peak().saturating_sub(before) >> 10, line);
    }
}

/// The peak of this process's memory, in KiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
}
