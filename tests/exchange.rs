//! The exchange on one machine, with the shipped example: what one host exports, all have.

#![allow(clippy::unwrap_used, reason = "a test")]

mod mesh;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mesh::peer::{Peers, Recipe};
use mesh::{PATIENCE, let_pass, wait};
use mgmt_engine::{Clock, Moment};
use rustix::process::Signal;

const HOSTS: [&str; 3] = ["a", "b", "c"];

/// A place with the example in it.
struct Stage {
    scratch: tempfile::TempDir,
    peers: Peers,
}

impl Stage {
    fn new() -> Self {
        let stage = Self { scratch: tempfile::tempdir().unwrap(), peers: Peers::default() };
        for host in HOSTS {
            let example = format!("{}/examples/exchange/{host}.yaml", env!("CARGO_MANIFEST_DIR"));
            let text = fs::read_to_string(example).unwrap();
            stage.write(host, &text.replace("/tmp/mgmt", &format!("{}/mgmt", stage.scratch.path().display())));
        }
        stage
    }

    fn graph(&self, host: &str) -> PathBuf {
        self.scratch.path().join(format!("{host}.yaml"))
    }

    fn write(&self, host: &str, text: &str) {
        fs::write(self.graph(host), text).unwrap();
    }

    fn edit(&self, host: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.graph(host)).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        self.write(host, &text.replace(from, to));
    }

    fn recipe(&self, host: &str) -> Recipe {
        let mut recipe = Recipe::new(&self.scratch.path().join("state"), host);
        recipe.args = vec![self.graph(host).to_str().unwrap().to_owned()];
        recipe
    }

    fn start(&mut self, host: &str) {
        let recipe = self.recipe(host);
        self.peers.start(recipe);
    }

    fn directory(&self, host: &str) -> PathBuf {
        self.scratch.path().join(format!("mgmt{}", host.to_uppercase()))
    }

    fn copy(&self, at: &str, name: &str) -> PathBuf {
        self.directory(at).join(name)
    }

    /// The files of all hosts, with their contents.
    fn files(&self) -> BTreeMap<String, String> {
        HOSTS.iter().flat_map(|host| files(&self.directory(host))).collect()
    }

    /// Waits until there are exactly these files for each host.
    #[track_caller]
    fn until(&mut self, counts: [usize; 3]) {
        let count = |stage: &Self| HOSTS.map(|host| files(&stage.directory(host)).len());
        let waited = wait(PATIENCE, || count(self) == counts);
        assert!(waited.is_some(), "{:?} instead of {counts:?}\n{}", count(self), self.peers.show());
    }

    #[track_caller]
    fn until_contents(&mut self, path: &Path, text: &str) {
        let waited = wait(PATIENCE, || fs::read_to_string(path).is_ok_and(|found| found == text));
        let found = fs::read_to_string(path);
        assert!(waited.is_some(), "{}: {found:?} instead of {text:?}\n{}", path.display(), self.peers.show());
    }

    #[track_caller]
    fn until_logged(&mut self, host: &str, text: &str) {
        let peer = self.peers.get(host);
        assert!(wait(PATIENCE, || peer.log().contains(text)).is_some(), "{host} does not say {text}:\n{}", peer.log());
    }
}

fn files(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let read = |entry: fs::DirEntry| {
        let path = entry.path();
        // What is being written is no file yet.
        let name = path.file_name()?.to_str().filter(|name| !name.starts_with('.'))?;
        let shown = format!("{}/{name}", directory.file_name()?.to_str()?);
        Some((shown, fs::read_to_string(&path).ok()?))
    };
    entries.filter_map(read).collect()
}

/// All that there is to be when all have met.
fn expected() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for host in HOSTS {
        let directory = format!("mgmt{}", host.to_uppercase());
        for name in ["f1", "f2"] {
            all.insert(format!("{directory}/{name}{host}"), format!("i am {name}{host}\n"));
        }
        for (from, name) in HOSTS.iter().flat_map(|from| [(from, "f3"), (from, "f4")]) {
            all.insert(format!("{directory}/{name}{from}"), format!("i am {name}{from}, exported by {from}\n"));
        }
    }
    all
}

#[test]
fn the_story_to_the_letter() {
    let mut stage = Stage::new();
    stage.start("a");
    stage.until([4, 0, 0]);
    stage.start("b");
    stage.until([6, 6, 0]);
    let clock = Clock::start();
    let recipe = stage.recipe("c").with(&["--converged-timeout=5"]);
    let code = stage.peers.start(recipe).ended();
    let took = clock.now().since(Moment::START).as_secs_f64();
    assert_eq!(code, 0, "{}", stage.peers.show());
    // A busy machine takes longer; what it takes on a quiet one is measured elsewhere.
    assert!((5.0..30.0).contains(&took), "it took {took} s");
    assert_eq!(stage.files(), expected(), "{}", stage.peers.show());
    let log = stage.peers.get("c").log();
    assert!(log.contains("(collected from a, took"), "every change says why: {log}");

    // What c exports stays when its run is over, and what it collected, too.
    stage.until([8, 8, 8]);
    // A changed export: the copies follow.
    stage.edit("a", "i am f3a, exported by a", "i am another f3a");
    for at in ["a", "b"] {
        let path = stage.copy(at, "f3a");
        stage.until_contents(&path, "i am another f3a\n");
    }
    // One that is damaged is put back: it is managed where it was collected.
    let path = stage.copy("b", "f4a");
    fs::write(&path, "damage").unwrap();
    stage.until_contents(&path, "i am f4a, exported by a\n");
    // One is exported no more: collectors stop to manage it, say so, and leave it.
    stage.edit("a", "'@@f4a'", "'f4a'");
    stage.until_logged("b", "file[f4a@a]: a exports it no more");
    assert!(path.exists());
    fs::write(&path, "left alone").unwrap();
    // The exporter dies, and a copy of what it exports is deleted: it stays in force.
    stage.peers.get("a").kill();
    let path = stage.copy("b", "f3a");
    fs::remove_file(&path).unwrap();
    stage.until_contents(&path, "i am another f3a\n");
    assert_eq!(fs::read_to_string(stage.copy("b", "f4a")).unwrap(), "left alone");
}

#[test]
fn in_reversed_order_at_once_and_with_one_killed_in_the_middle() {
    let mut stage = Stage::new();
    for host in ["c", "b", "a"] {
        stage.start(host);
    }
    stage.until([8, 8, 8]);
    stage.peers.until_formed(3, 0);
    stage.peers.get("b").kill();
    stage.edit("c", "i am f4c, exported by c", "i am a new f4c");
    let path = stage.copy("a", "f4c");
    stage.until_contents(&path, "i am a new f4c\n");
    fs::remove_file(stage.copy("b", "f1b")).unwrap();
    fs::remove_file(stage.copy("b", "f3a")).unwrap();
    stage.peers.get("b").restart();
    let path = stage.copy("b", "f4c");
    stage.until_contents(&path, "i am a new f4c\n");
    stage.until([8, 8, 8]);
    let mut wanted = expected();
    for directory in ["mgmtA", "mgmtB", "mgmtC"] {
        wanted.insert(format!("{directory}/f4c"), "i am a new f4c\n".to_owned());
    }
    assert_eq!(stage.files(), wanted);
}

#[test]
fn what_was_collected_stays_in_force_without_a_mesh_and_purges_nothing() {
    let mut stage = Stage::new();
    stage.edit("b", ", state: exists}", ", state: exists, recurse: true, purge: true}");
    stage.start("a");
    stage.start("b");
    stage.until([6, 6, 0]);
    // A stray is purged: b knows what belongs there.
    fs::write(stage.copy("b", "stray"), "x").unwrap();
    stage.until([6, 6, 0]);
    for host in ["a", "b"] {
        assert_eq!(stage.peers.get(host).end(Signal::TERM), 0, "{}", stage.peers.show());
    }
    // Without the mesh: remembered.
    fs::remove_file(stage.copy("b", "f3a")).unwrap();
    let alone = stage.recipe("b").with(&["--no-network"]);
    stage.peers.0.remove("b");
    stage.peers.start(alone);
    let path = stage.copy("b", "f3a");
    stage.until_contents(&path, "i am f3a, exported by a\n");
    stage.peers.get("b").end(Signal::TERM);
    // Plans know what the agent knows, and say how old it is.
    fs::remove_file(&path).unwrap();
    let graph = stage.graph("b").to_str().unwrap().to_owned();
    let recipe = stage.peers.get("b").recipe.clone();
    let planned = recipe.verb(["plan", &graph]);
    assert!(planned.out.contains("file[f3a@a]: would change: missing"), "{planned:?}");
    assert!(planned.out.contains("what other hosts export is remembered from"), "{planned:?}");
    let applied = recipe.verb(["apply", &graph]);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert!(path.exists() && applied.out.contains("(collected from a"), "{applied:?}");
    // Nothing remembered: nothing is known, so nothing is purged, and its own goes on.
    fs::remove_file(stage.scratch.path().join("state/b/collected")).unwrap();
    fs::remove_file(stage.copy("b", "f1b")).unwrap();
    let alone = stage.recipe("b").with(&["--no-network"]);
    stage.peers.0.remove("b");
    stage.peers.start(alone);
    let path = stage.copy("b", "f1b");
    stage.until_contents(&path, "i am f1b\n");
    let status = stage.peers.get("b").recipe.status().unwrap();
    assert_eq!(status["exchange"]["purges_waiting"], serde_json::json!(["file[directory]"]), "{status:#}");
    let_pass(std::time::Duration::from_millis(300));
    stage.until([6, 6, 0]);
}

#[test]
fn who_exports_what_and_who_collects_it_is_told_and_forgotten() {
    let mut stage = Stage::new();
    stage.edit(
        "b",
        "- {kind: file, pattern:",
        "- {kind: file, name: 'f?[a]', pattern: /nowhere/}\n- {kind: file, hosts: [b, c], pattern:",
    );
    stage.start("a");
    stage.until([4, 0, 0]);
    // It founds the mesh, and so is an admin: only such a host may withdraw what another one exports.
    stage.peers.until_formed(1, 0);
    stage.start("b");
    stage.until([6, 4, 0]);
    let exports = || stage.peers.0["a"].recipe.asked(&["exports"]);
    let mut told = exports().unwrap();
    let waited = wait(PATIENCE, || {
        told = exports().unwrap();
        told["exports"].as_array().is_some_and(|all| all.len() == 4) && told["silent"].as_array().unwrap().is_empty()
    });
    assert!(waited.is_some(), "{told:#}");
    let by = |host: &str, name: &str| -> Vec<String> {
        let all = told["exports"].as_array().unwrap().iter();
        let export = all.filter(|export| export["host"] == host && export["name"] == name);
        let by = export.flat_map(|export| export["collected"].as_array().unwrap());
        by.map(|by| by["host"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        (by("a", "f3a"), by("b", "f4b")),
        (vec!["a".to_owned()], vec!["a".to_owned(), "b".to_owned()]),
        "{told:#}"
    );
    let recipe = stage.peers.get("a").recipe.clone();
    let text = recipe.verb(["exports"]).out;
    assert!(text.contains("HOST") && text.contains("file[f4b]"), "{text}");
    // One that is gone for good: its copies stay until they are withdrawn.
    stage.start("c");
    stage.until([8, 6, 8]);
    stage.peers.until_formed(3, 0);
    stage.peers.get("b").kill();
    let forgotten = recipe.verb(["exports", "--forget", "b"]);
    assert_eq!((forgotten.code, forgotten.out.as_str()), (0, "2 exports of b withdrawn\n"), "{forgotten:?}");
    for host in ["a", "c"] {
        stage.until_logged(host, "file[f3b@b]: b exports it no more");
    }
    stage.until([8, 6, 8]);
    // It lives after all, and says again what it exports.
    stage.peers.get("b").restart();
    let path = stage.copy("c", "f4b");
    fs::remove_file(&path).unwrap();
    stage.until_contents(&path, "i am f4b, exported by b\n");
    assert_eq!(recipe.verb(["exports", "--forget", "nobody"]).code, 1);
}

#[test]
fn a_reload_starts_the_exchange_and_noop_takes_no_part() {
    let mut stage = Stage::new();
    let whole = fs::read_to_string(stage.graph("a")).unwrap();
    let (local, _) = whole.split_once("  # The two at signs").unwrap();
    stage.write("a", local);
    stage.start("a");
    stage.until([2, 0, 0]);
    assert_eq!(stage.peers.get("a").recipe.status().unwrap()["mesh"], serde_json::Value::Null, "nothing needs a mesh");
    stage.write("a", &whole);
    stage.until([4, 0, 0]);
    stage.start("b");
    stage.until([6, 6, 0]);
    let recipe = stage.recipe("c").with(&["--noop"]);
    fs::create_dir(stage.directory("c")).unwrap();
    stage.peers.start(recipe);
    stage.until_logged("c", "file[f3a@a]: would change: missing (collected from a)");
    stage.until([6, 6, 0]);
}

#[test]
fn what_cannot_be_exported_is_said_until_it_can() {
    let mut stage = Stage::new();
    let source = stage.scratch.path().join("source");
    stage.edit("a", "    content: |\n      i am f3a, exported by a\n", &format!("    source: {}\n", source.display()));
    stage.edit("a", "- {kind: file, pattern:", "- {kind: file, name: 'f4*', pattern:");
    // A run with an end has not done what it was to do, and says so; its own files are there.
    stage.peers.start(stage.recipe("a").with(&["--converged-timeout=0"]));
    assert_eq!(stage.peers.get("a").ended(), 69, "{}", stage.peers.show());
    stage.until_logged("a", "what this host exports is not published: file[f3a]: cannot read source");
    stage.peers.get("a").recipe.args.pop();
    stage.peers.get("a").restart();
    let publishing = |stage: &mut Stage| {
        let status = stage.peers.get("a").recipe.status();
        status.map(|status| status["exchange"]["publishing"].clone())
    };
    let waited = wait(PATIENCE, || publishing(&mut stage) == Some("refused".into()));
    assert!(waited.is_some(), "{:?}", publishing(&mut stage));
    fs::write(&source, "now").unwrap();
    let waited = wait(PATIENCE, || publishing(&mut stage) == Some("published".into()));
    assert!(waited.is_some(), "{:?}", publishing(&mut stage));
    stage.start("b");
    let copy = stage.copy("b", "f3a");
    stage.until_contents(&copy, "now");
    // What was there is in force while there is nothing.
    fs::remove_file(&source).unwrap();
    let waited = wait(PATIENCE, || publishing(&mut stage) == Some("refused".into()));
    assert!(waited.is_some(), "{:?}", publishing(&mut stage));
    fs::remove_file(&copy).unwrap();
    stage.until_contents(&copy, "now");
    fs::write(&source, "again").unwrap();
    stage.until_contents(&copy, "again");
}

#[test]
fn the_demonstration_plays_and_removes_itself() {
    let scratch = tempfile::tempdir().unwrap();
    let mut recipe = Recipe::new(scratch.path(), "unused");
    recipe = recipe.env("TMPDIR", scratch.path().to_str().unwrap());
    let played = recipe.plain(["demo", "3"]);
    assert_eq!(played.code, 0, "{played:?}");
    for line in
        ["c starts: 24 files in all, 8 in each directory", "all copies follow", "put back", "All of it is removed"]
    {
        assert!(played.out.contains(line), "{line} is not in {played:?}");
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "something is left");
    assert_eq!(recipe.plain(["demo", "0"]).code, 64);
}
