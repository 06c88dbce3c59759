//! Who may know whom: the arrows between the crates, and the one file that may name each dependency.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Workspace crates, and the workspace crates each may depend on.
const ARROWS: [(&str, &str, &[&str]); 5] = [
    ("mgmt-consensus", "consensus/Cargo.toml", &[]),
    ("mgmt-engine", "engine/Cargo.toml", &[]),
    ("mgmt-resources", "resources/Cargo.toml", &["mgmt-engine"]),
    ("mgmt-store", "store/Cargo.toml", &["mgmt-consensus"]),
    ("mgmt", "Cargo.toml", &["mgmt-consensus", "mgmt-engine", "mgmt-resources", "mgmt-store"]),
];

/// Dependencies, as code names them, and the files (or folders beside them) that may.
const DOORS: [(&str, &[&str]); 29] = [
    ("petgraph", &["engine/src/graph"]),
    ("inotify", &["resources/src/watches"]),
    ("shlex", &["resources/src/exec"]),
    ("libc", &["resources/src/exec"]),
    (
        "zbus",
        &["resources/src/bus", "resources/src/hostname", "resources/src/packages/packagekit", "resources/src/systemd"],
    ),
    ("saphyr_parser", &["src/document"]),
    ("strsim", &["src/diagnostic"]),
    ("similar", &["src/cli/plan"]),
    ("base64", &["src/exchange/record", "src/exchange/remembered"]),
    ("tar", &["resources/src/archive/format/tarball", "resources/src/archive/tests"]),
    ("zip", &["resources/src/archive/format/zipped", "resources/src/archive/tests"]),
    ("flate2", &["resources/src/archive"]),
    ("lzma_rust2", &["resources/src/archive/format"]),
    ("ruzstd", &["resources/src/archive/format"]),
    ("ureq", &["resources/src/download"]),
    ("sha2", &["resources/src/checksum", "src/cli/plan", "src/exchange/remembered", "src/mesh/backup"]),
    ("indicatif", &["src/progress"]),
    ("jiff", &["src/events"]),
    ("tracing_subscriber", &["src/logging"]),
    ("clap_complete", &["src/cli"]),
    ("openraft", &["consensus/src"]),
    ("bincode", &["consensus/src/wire", "store/src/command"]),
    ("sled", &["consensus/src/log_store/index"]),
    ("rcgen", &["consensus/src/authority", "resources/src/download/tests"]),
    ("x509_parser", &["consensus/src/authority"]),
    ("pem", &["consensus/src/authority"]),
    ("ring", &["consensus/src/authority", "consensus/src/quic"]),
    ("quinn", &["consensus/src/quic"]),
    ("rustls", &["consensus/src/quic", "consensus/src/authority/tests", "resources/src/download"]),
];

/// Words that name a part of the program which these folders must know nothing of.
const UNKNOWN: [(&str, &[&str]); 4] = [
    ("engine/src", &["mgmt_resources", "yaml", "inotify", "clap"]),
    ("resources/src", &["clap", "yaml", "serde"]),
    ("consensus/src", &["mgmt_store", "mgmt_engine", "yaml", "clap"]),
    ("store/src", &["mgmt_engine", "openraft", "sled", "yaml", "clap"]),
];

fn home() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a folder, relative to the repository.
fn sources(folder: &str) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![home().join(folder)]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => left.push(path),
                Some(extension) if extension == "rs" => found.push(path.strip_prefix(home()).unwrap().to_owned()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// The code of a file: without comments, and without its unit tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(home().join(path)).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Whether code names a crate: the word with a path behind it, or a whole `use`.
fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + word.len()..];
        let whole = before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '_' | ':' | '.' | '"'));
        whole && (after.starts_with("::") || (code[..at].ends_with("use ") && after.starts_with([';', ' '])))
    })
}

#[test]
fn crates_depend_downwards_only() {
    for (name, manifest, allowed) in ARROWS {
        let text = fs::read_to_string(home().join(manifest)).unwrap();
        let dependencies = text.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
        let of_us: BTreeSet<_> = dependencies
            .lines()
            .filter_map(|line| line.split(['.', ' ', '=']).next())
            .filter(|dependency| dependency.starts_with("mgmt"))
            .collect();
        assert_eq!(of_us, allowed.iter().copied().collect(), "{name} depends on these crates of ours");
    }
}

#[test]
fn each_dependency_has_one_door() {
    let files: Vec<_> =
        ["src", "consensus/src", "engine/src", "resources/src", "store/src"].into_iter().flat_map(sources).collect();
    for (word, doors) in DOORS {
        let behind = |path: &Path| {
            let path = path.to_str().unwrap();
            doors.iter().any(|door| path == format!("{door}.rs") || path.starts_with(&format!("{door}/")))
        };
        let named: Vec<_> = files.iter().filter(|path| names(&code(path), word)).collect();
        let wrong: Vec<_> = named.iter().filter(|path| !behind(path)).collect();
        assert!(wrong.is_empty(), "{word} is named outside of {doors:?}: {wrong:?}");
        assert!(!named.is_empty(), "nobody names {word} any more: strike it from this table and from the manifest");
    }
}

#[test]
fn folders_do_not_know_what_is_above_them() {
    for (folder, words) in UNKNOWN {
        for path in sources(folder) {
            let code = code(&path);
            for word in words {
                assert!(!names(&code, word), "{} must not know {word}", path.display());
            }
        }
    }
}
