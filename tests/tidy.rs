//! The habits of the house, as far as a machine can see them.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// What may lie at the top, besides files that start with a dot.
const TOP: [&str; 11] = [
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "benches",
    "consensus",
    "docs",
    "engine",
    "examples",
    "resources",
    "src",
    "store",
];
const TOP_TOO: [&str; 2] = ["tests", "target"];

/// Lines of a file, without its unit tests.
const FILE_LINES_MAX: usize = 500;
/// Lines of a function.
const FUNCTION_LINES_MAX: usize = 70;

/// Longer ones that may stay as they are, and may not grow: a ratchet. `FILE` or `FILE FUNCTION`, and the mark.
const LONG: [(&str, usize); 0] = [];
/// A mark is lowered once so many lines are gone.
const SHRUNK_LINES: usize = 30;

/// Files that may wait by sleeping, and why there is no condition to wait for.
const SLEEPERS: [(&str, &str); 9] = [
    ("resources/src/watches/reader.rs", "after a defect, looking by time"),
    ("resources/src/watches/tests.rs", "figures, which nobody judges"),
    ("tests/lab/floods.rs", "a program that writes again and again"),
    ("tests/lab/logs.rs", "a power cut comes at any moment"),
    ("tests/lab/power.rs", "a power cut comes at any moment"),
    ("tests/lab/signals.rs", "an editor that writes again and again"),
    ("tests/lab/wait.rs", "the one loop that looks again"),
    ("tests/mesh/mod.rs", "the one loop that looks again, and time in which nothing may happen"),
    ("tests/support/mod.rs", "the one loop that looks again"),
];

/// Files with tests that only run when asked for, and why.
const IGNORED: [(&str, &str); 2] =
    [("resources/src/watches/tests.rs", "prints figures"), ("src/assemble/tests/hostile.rs", "prints figures")];

fn home() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files that are ours, relative to the repository.
fn files() -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![home()]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && !path.is_symlink() {
                if !matches!(name.as_str(), ".git" | "target" | "corpus") {
                    left.push(path);
                }
            } else if name != ".git" {
                found.push(path.strip_prefix(home()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Rust files with their text.
fn rust() -> Vec<(String, String)> {
    let rust = files().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| (path.to_str().unwrap().to_owned(), fs::read_to_string(home().join(&path)).unwrap())).collect()
}

/// Whether a file is only there for tests and benches.
fn is_test(path: &str) -> bool {
    let parts: Vec<_> = path.split('/').collect();
    parts.iter().any(|part| matches!(*part, "tests" | "benches" | "examples" | "tests.rs"))
}

/// The part of a file before its unit tests.
fn program(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap()
}

#[test]
fn only_what_belongs_there_lies_at_the_top() {
    for entry in fs::read_dir(home()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = TOP.contains(&name.as_str()) || TOP_TOO.contains(&name.as_str()) || name.starts_with('.');
        assert!(known, "{name} has no place at the top");
    }
    for name in TOP {
        assert!(home().join(name).exists(), "{name} is missing");
    }
}

#[test]
fn every_example_explains_itself() {
    for entry in fs::read_dir(home().join("examples")).unwrap() {
        let folder = entry.unwrap().path();
        assert!(folder.join("README.md").is_file(), "{} has no README.md", folder.display());
    }
}

#[test]
fn every_file_says_what_it_is() {
    for (path, text) in rust() {
        assert!(text.starts_with("//!"), "{path} does not open with `//!`");
    }
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    let mine = ["/home/", "/root/", "/work/"];
    for path in files().iter().filter(|path| !path.ends_with("tests/tidy.rs") && !path.ends_with("Cargo.lock")) {
        let Ok(text) = fs::read_to_string(home().join(path)) else { continue };
        for (number, line) in text.lines().enumerate() {
            let found = mine.iter().any(|prefix| {
                line.match_indices(prefix).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '}' | '/'))
                })
            });
            assert!(!found, "{}:{}: a path of one machine: {line}", path.display(), number + 1);
        }
    }
}

#[test]
fn nothing_is_unsafe_and_nothing_is_ignored() {
    for (path, text) in rust() {
        let own = path == "tests/tidy.rs";
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            let is = |word: &str| !own && code.contains(word);
            let place = format!("{path}:{}", number + 1);
            assert!(!is("unsafe {") && !is("unsafe fn") && !is("unsafe impl"), "{place}: unsafe");
            let ignored = is("#[ignore") && !IGNORED.iter().any(|(file, _)| *file == path);
            assert!(!ignored, "{place}: a test that is not run proves nothing");
            let sleeps = is("thread::sleep")
                && !path.starts_with("benches/")
                && !SLEEPERS.iter().any(|(sleeper, _)| *sleeper == path);
            assert!(!sleeps, "{place}: wait for a condition instead of sleeping");
        }
    }
}

#[test]
fn failures_are_handled_and_not_unwrapped() {
    for (path, text) in rust().into_iter().filter(|(path, _)| !is_test(path)) {
        for (number, line) in program(&text).lines().enumerate() {
            let code = line.split("//").next().unwrap();
            assert!(!code.contains(".unwrap()"), "{path}:{}: expect(\"why it holds\"), or handle it", number + 1);
        }
    }
}

/// Functions of a file with the number of their lines. The code is formatted, so that a function ends where a brace
/// stands as deep as its first word.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<_> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let head = trimmed.split("fn ").next().unwrap();
        let modifiers = head.split_whitespace().all(|w| {
            matches!(w, "pub" | "const" | "async" | "unsafe" | "extern") || w.starts_with("pub(") || w.ends_with(')')
        });
        if !modifiers || !trimmed.contains("fn ") || trimmed.ends_with(';') {
            continue;
        }
        let name = trimmed.split("fn ").nth(1).unwrap().split(['(', '<']).next().unwrap().to_owned();
        let end = format!("{}}}", &line[..line.len() - trimmed.len()]);
        let Some(length) = lines[start..].iter().position(|line| **line == end) else { continue };
        found.push((name, length + 1));
    }
    found
}

#[test]
fn files_and_functions_stay_short() {
    let mut long = BTreeMap::new();
    for (path, text) in rust().into_iter().filter(|(path, _)| !is_test(path)) {
        let own = program(&text);
        let lines = own.lines().count();
        if lines > FILE_LINES_MAX {
            long.insert(path.clone(), lines);
        }
        for (name, lines) in functions(own).into_iter().filter(|(_, lines)| *lines > FUNCTION_LINES_MAX) {
            long.insert(format!("{path} {name}"), lines);
        }
    }
    let marks = BTreeMap::from(LONG.map(|(name, mark)| (name.to_owned(), mark)));
    let grown: Vec<_> =
        long.iter().filter(|(name, lines)| **lines > marks.get(*name).copied().unwrap_or_default()).collect();
    assert!(grown.is_empty(), "look for the second noun in what has grown past its mark: {grown:#?}");
    for (name, mark) in marks {
        let lines = long.get(&name).copied().unwrap_or_default();
        assert!(lines + SHRUNK_LINES > mark, "{name} has {lines} lines by now: lower its mark, or strike it");
    }
}
