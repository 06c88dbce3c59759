//! The five stories that must work, typed as written, with the real program and the shipped examples.
//!
//! `MGMT_SLOW=1 cargo test --test stories -- --nocapture` also runs the 35 seconds of the first one.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use mgmt_engine::{Clock, Moment};
use serde_json::Value;
use support::{Bench, wait_for};

/// What tells whether a file was touched: inode, change, modification.
fn identity(path: &Path) -> (u64, (i64, i64), (i64, i64)) {
    let stat = fs::symlink_metadata(path).unwrap();
    (stat.ino(), (stat.ctime(), stat.ctime_nsec()), (stat.mtime(), stat.mtime_nsec()))
}

/// When an exec started and ended, in milliseconds of the day, from its line of the log.
fn times(log: &str, name: &str) -> (f64, f64) {
    let line = log.lines().find(|line| line.contains(&format!("Z exec[{name}]: has not run: exit 0")));
    let line = line.unwrap_or_else(|| panic!("{name} has not run:\n{log}"));
    let clock: Vec<f64> = line[11..23].split(':').map(|part| part.parse().unwrap()).collect();
    let end = (clock[0] * 3600.0 + clock[1] * 60.0 + clock[2]) * 1000.0;
    let took = line.rsplit_once("took ").unwrap().1.split_once(" ms").unwrap().0;
    (end - took.parse::<f64>().unwrap(), end)
}

/// Three commands in a chain, and a fourth beside them; `unit` is how long each takes, `quiet` the timeout, in seconds.
fn chain(graph: &str, unit: u32, quiet: u32) {
    let bench = Bench::new();
    bench.example("parallel", "");
    let clock = Clock::start();
    let ended = bench.mgmt(["run", "--file", graph, &format!("--converged-timeout={quiet}")]);
    let took = clock.now().since(Moment::START).as_secs_f64();
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(ended.out, "");
    let [one, two, three, four] = ["exec1", "exec2", "exec3", "exec4"].map(|name| times(&ended.err, name));
    let unit = f64::from(unit);
    // A wrap at midnight looks like the day before.
    let since = |from: f64, to: f64| (to - from).rem_euclid(86_400_000.0);
    let apart = since(one.0, four.0).min(since(four.0, one.0));
    assert!(apart < unit * 500.0, "exec1 and exec4 start together, not {apart} ms apart");
    for (before, after) in [(one, two), (two, three)] {
        // The log counts in milliseconds.
        let gap = since(before.1 - 5.0, after.0);
        assert!(gap < unit * 900.0, "one starts right when the other has ended, not after {gap} ms:\n{}", ended.err);
    }
    let least = 3.0 * unit + f64::from(quiet);
    assert!(took >= least && took < least + 30.0, "took {took} s, wanted {least} s");
}

#[test]
fn four_commands_of_one_second() {
    chain("graph8-quick.yaml", 1, 1);
}

#[test]
fn four_commands_of_ten_seconds() {
    if std::env::var_os("MGMT_SLOW").is_none() {
        eprintln!("skipped: takes 35 s; MGMT_SLOW=1 cargo test --test stories four_commands_of_ten_seconds");
        return;
    }
    chain("graph8.yaml", 10, 5);
}

#[test]
fn files_heal_under_a_running_agent() {
    let bench = Bench::new();
    bench.example("healing", "/tmp/mgmt");
    let agent = bench.agent(["run", "graph.yaml"]);
    agent.logged("converged after", 1);
    let at = |name: &str| bench.path("mgmt").join(name);
    let right = |name: &str, text: &str| {
        wait_for(&format!("{name} heals"), || fs::read_to_string(at(name)).is_ok_and(|t| t == text))
    };
    right("f1", "i am f1\n");
    right("f3", "i am f3\n");
    assert!(!at("f4").exists());
    fs::remove_file(at("f2")).unwrap();
    right("f2", "i am f2\n");
    fs::write(at("f2"), "blah blah\n").unwrap();
    right("f2", "i am f2\n");
    fs::write(at("f4"), "").unwrap();
    wait_for("f4 is gone", || !at("f4").exists());
    fs::rename(bench.path("mgmt"), bench.path("away")).unwrap();
    right("f1", "i am f1\n");
    assert!(agent.log().contains("(drift, "), "{}", agent.log());
    assert_eq!(agent.term(), 0);
}

#[test]
fn cron_changes_nothing_when_all_is_right() {
    let bench = Bench::new();
    bench.example("healing", "/tmp/mgmt");
    bench.example("cron", "");
    let line = bench.read("crontab");
    let words: Vec<_> = line.split_whitespace().skip_while(|word| *word != "mgmt").skip(1).collect();
    let run = || bench.mgmt(words.iter().map(|word| word.replace("/etc/mgmt/", "./")));
    let first = run();
    assert_eq!((first.code, first.out.as_str(), first.err.as_str()), (0, "", ""));
    let seen = || ["", "f1", "f2", "f3"].map(|name| identity(&bench.path("mgmt").join(name)));
    let before = seen();
    assert_eq!(bench.read("mgmt/f1"), "i am f1\n");
    let second = run();
    assert_eq!((second.code, second.out.as_str(), second.err.as_str()), (0, "", ""), "cron mails what is printed");
    assert_eq!(before, seen());
}

/// The kernel's watches on the directory with this inode: the lines of `/proc/PID/fdinfo` about it.
fn kernel_watches(pid: u32, inode: u64) -> Vec<String> {
    let wanted = format!(" ino:{inode:x} ");
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let texts = files.filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok());
    let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    lines.filter(|line| line.starts_with("inotify") && line.contains(&wanted)).collect()
}

#[test]
fn a_graph_is_swapped_under_a_running_agent() {
    let bench = Bench::new();
    bench.example("swap", "");
    fs::copy(bench.path("first.yaml"), bench.path("current.yaml")).unwrap();
    let agent = bench.agent(["run", "current.yaml"]);
    agent.logged("converged after", 1);
    let shared = bench.path("files/shared");
    let status = || {
        let ended = bench.mgmt(["status", "--json", "--all"]);
        assert_eq!(ended.code, 0, "{}", ended.err);
        serde_json::from_str::<Value>(&ended.out).unwrap()
    };
    let of_shared = |status: &Value| {
        let resources = status["resources"].as_array().unwrap().clone();
        resources.into_iter().find(|resource| resource["resource"] == "file[shared]").unwrap()
    };
    let directory = fs::metadata(bench.path("files")).unwrap().ino();
    let before = (identity(&shared), kernel_watches(agent.pid(), directory), of_shared(&status()));
    assert_eq!(before.1.len(), 1, "one watch a directory: {:?}", before.1);
    let swap = |from: &str| {
        fs::copy(bench.path(from), bench.path("next.yaml")).unwrap();
        fs::rename(bench.path("next.yaml"), bench.path("current.yaml")).unwrap();
    };
    let same = |what: &str| {
        let now = (identity(&shared), kernel_watches(agent.pid(), directory), of_shared(&status()));
        assert_eq!(before, now, "{what} touched what is the same in both graphs");
    };

    bench.write("broken.yaml", "graph: swap\nresources:\n  file:\n  - name: shared\n    path: [1, 2\n");
    swap("broken.yaml");
    agent.logged("is not a graph that can run", 1);
    let error = status()["graph"]["error"].as_str().unwrap().to_owned();
    assert!(error.contains("current.yaml"), "{error}");
    assert!(agent.log().contains("error current.yaml:"), "the place is said:\n{}", agent.log());
    fs::write(bench.path("files/changed"), "drift\n").unwrap();
    wait_for("the old graph goes on", || bench.read("files/changed") == "i am of the first graph\n");
    same("a broken version");

    swap("second.yaml");
    wait_for("the second graph is there", || bench.path("files/added").exists());
    wait_for("what differs is changed", || bench.read("files/changed") == "i am of the second graph\n");
    wait_for("all is quiet", || status()["converged"] == true);
    assert_eq!(status()["graph"]["error"], Value::Null);
    agent.logged("graph replaced: 2 kept, 1 changed, 1 new, 1 gone", 1);
    same("the swap");
    fs::remove_file(bench.path("files/removed")).unwrap();
    fs::write(&shared, "drift").unwrap();
    wait_for("the kept watch still sees", || bench.read("files/shared") == "i am the same in both graphs\n");
    assert!(!bench.path("files/removed").exists(), "what left the graph is nobody's business");

    swap("first.yaml");
    wait_for("the first graph is back", || bench.read("files/changed") == "i am of the first graph\n");
    wait_for("with what only it has", || bench.path("files/removed").exists());
    assert_eq!(agent.term(), 0);
}

#[test]
fn a_file_of_the_first_dialect_loads_as_it_is() {
    let bench = Bench::new();
    bench.example("first-dialect", "/tmp/mgmt-first-dialect");
    let valid = bench.mgmt(["validate", "graph.yaml"]);
    assert_eq!((valid.code, valid.err.as_str()), (0, ""));
    let ended = bench.mgmt(["run", "--converged-timeout=1", "graph.yaml"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let [one, two, three] = ["exec1", "exec2", "exec3"].map(|name| times(&ended.err, name));
    assert!(one.1 <= two.1 && two.1 <= three.1, "in order, unless it is midnight: {one:?} {two:?} {three:?}");
    assert_eq!(bench.read("mgmt"), bench.read("expect.txt"));
}

#[test]
fn a_graph_behind_a_symbolic_link_is_read_when_it_is_edited() {
    let graph = |text: &str| {
        format!("graph: g\nresources:\n  file:\n  - {{name: a, path: a, content: {text}, state: exists}}\n")
    };
    let bench = Bench::new();
    bench.write("one.yaml", graph("one"));
    bench.write("two.yaml", graph("two"));
    let point = |to: &str| {
        std::os::unix::fs::symlink(to, bench.path("new")).unwrap();
        fs::rename(bench.path("new"), bench.path("graph.yaml")).unwrap();
    };
    point("one.yaml");
    let agent = bench.agent(["run", "graph.yaml"]);
    wait_for("one", || fs::read_to_string(bench.path("a")).is_ok_and(|text| text == "one"));
    bench.write("one.yaml", graph("more"));
    wait_for("an edit of what the link leads to", || bench.read("a") == "more");
    point("two.yaml");
    wait_for("another link", || bench.read("a") == "two");
    bench.write("two.yaml", graph("last"));
    wait_for("an edit of what the other link leads to", || bench.read("a") == "last");
    assert_eq!(agent.term(), 0);
}
