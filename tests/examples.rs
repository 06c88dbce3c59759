//! Whatever is shown to users loads: the examples, the first graph of `mgmt init`, and the example of every kind. And
//! what is written of the kinds is complete.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use mgmt::assemble::{self, Options};
use mgmt::kinds::KINDS;
use mgmt_resources::Host;
use mgmt_resources::watches::Watches;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One for all tests: each instance takes one of the few (128) that a user may have, and closes in its own time.
fn watches() -> Watches {
    static WATCHES: OnceLock<Watches> = OnceLock::new();
    WATCHES.get_or_init(|| Watches::start().expect("the tests need an inotify instance")).clone()
}

fn host() -> Arc<Host> {
    Arc::new(Host::with(watches()))
}

/// All graph files below a directory, in order.
fn graphs(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the directory is there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    paths.sort();
    let inside = |path: PathBuf| if path.is_dir() { graphs(&path) } else { vec![path] };
    paths.into_iter().flat_map(inside).filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect()
}

/// A graph file without as much as a warning.
fn check(shown: &str, text: &[u8], host: &Arc<Host>) {
    let options = Options {
        file: shown.to_owned(),
        directory: "/etc/mgmt".into(),
        hostname: "host".to_owned(),
        strict: true,
        ..Options::default()
    };
    let assembled = assemble::assemble_bytes(text, &options, KINDS, host);
    assert!(assembled.problems.is_empty(), "{}", assembled.problems);
    let graph = assembled.graph.expect("no problem, so a graph");
    assert!(!graph.vertices().is_empty(), "{shown}: no resources");
}

#[test]
fn every_example_loads() {
    let files = graphs(&root().join("examples"));
    assert!(files.len() >= 7, "{files:?}");
    // Kinds are merged one at a time; each example needs one of these.
    if let Some(missing) = ["file", "exec"].into_iter().find(|name| KINDS.iter().all(|info| info.name != *name)) {
        println!("skipped: the kind {missing} is not built yet");
        return;
    }
    let host = host();
    for path in files.into_iter().chain([root().join("src/cli/init/graph.yaml")]) {
        check(&path.display().to_string(), &fs::read(&path).expect("it can be read"), &host);
    }
}

#[test]
fn every_example_has_a_page() {
    for entry in fs::read_dir(root().join("examples")).expect("the directory is there") {
        let page = entry.expect("it can be read").path().join("README.md");
        assert!(page.is_file(), "{} is missing", page.display());
    }
}

#[test]
fn the_example_of_every_kind_loads() {
    let host = host();
    for info in KINDS {
        check(&format!("explain {}", info.name), format!("graph: example\n{}", info.example).as_bytes(), &host);
    }
}

#[test]
fn every_parameter_is_in_the_manual() {
    let manual = fs::read_to_string(root().join("docs/resources.md")).expect("the manual is there");
    for info in KINDS {
        let page = manual.split("\n## ").find(|page| page.lines().next() == Some(info.name));
        let page = page.unwrap_or_else(|| panic!("docs/resources.md has no page on {}", info.name));
        for field in info.fields {
            let row = format!("| `{}` |", field.name);
            assert!(page.contains(&row), "docs/resources.md: {} lacks {}", info.name, field.name);
        }
    }
}
