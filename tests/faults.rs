//! Graph files as nobody should write them, and refreshes that outlive the program, with the real program.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use mgmt_engine::{Clock, Moment};
use rustix::process::Signal;
use support::{Agent, Bench, wait_for};

/// Memory that a bad file may cost, in KiB.
const MEMORY_KIB_MAX: u64 = 64 * 1024;
/// In seconds. The bound is 50 ms, in a release build on a machine with nothing else to do.
const SECONDS_MAX: f64 = 10.0;

fn laughs() -> String {
    let mut text = "graph: laughs\nresources:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let many = vec![format!("*a{}", level - 1); 10].join(", ");
        text += &format!("  a{level}: &a{level} [{many}]\n");
    }
    text
}

/// Bad files: name, contents, and what has to be said about it.
fn bad() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let file = |lines: &str| format!("graph: g\nresources:\n  noop:\n{lines}").into_bytes();
    let three = "  - {name: a}\n  - {name: b}\n  - {name: c}\n";
    let edge =
        |from: &str, to: &str| format!("- {{from: {{kind: noop, name: {from}}}, to: {{kind: noop, name: {to}}}}}\n");
    vec![
        ("void", Vec::new(), "graph"),
        ("blank", b"\n\n---\n".to_vec(), "graph"),
        ("nameless", b"graph: ''\n".to_vec(), "the graph's name is empty"),
        ("truncated", b"graph: g\nresources:\n  file:\n  - {name: a, content: 'on".to_vec(), "truncated:"),
        ("binary", (0..=255).cycle().take(4096).collect(), "binary:"),
        ("zeros", vec![0; 4096], "zeros:"),
        ("utf16", b"\xff\xfeg\0r\0a\0p\0h\0:\0 \0g\0".to_vec(), "utf16:"),
        ("list", b"- graph\n- g\n".to_vec(), "a graph file is a map, and this is a list"),
        ("text", b"graph".to_vec(), "a graph file is a map, and this is a text"),
        ("types", file("    a: 1\n"), "noop"),
        ("deep", [b"graph: g\nx: ".to_vec(), vec![b'['; 100_000]].concat(), "deep:"),
        ("laughs", laughs().into_bytes(), "laughs:"),
        ("kind", b"graph: g\nresources:\n  virt:\n  - {name: a}\n".to_vec(), "virt"),
        ("twice", b"graph: g\nresources:\n  msg:\n  - {name: a, body: x}\n  - {name: a, body: y}\n".to_vec(), "msg[a]"),
        (
            "path",
            b"graph: g\nresources:\n  file:\n  - {name: a, path: x}\n  - {name: b, path: ./x}\n".to_vec(),
            "file[a]",
        ),
        ("ends", [file(three), format!("edges:\n{}", edge("a", "z")).into_bytes()].concat(), "noop[z]"),
        (
            "cycle",
            [file(three), format!("edges:\n{}{}{}", edge("a", "b"), edge("b", "c"), edge("c", "a")).into_bytes()]
                .concat(),
            "noop[a]",
        ),
    ]
}

#[test]
fn a_bad_file_is_65_and_said_with_its_name() {
    let bench = Bench::new();
    for (name, bytes, says) in bad() {
        bench.write(name, bytes);
        for verb in ["validate", "plan", "apply", "run"] {
            let clock = Clock::start();
            let ended = bench.mgmt([verb, name]);
            let took = clock.now().since(Moment::START).as_secs_f64();
            assert_eq!(ended.code, 65, "{verb} {name}: {ended:?}");
            assert!(took < SECONDS_MAX, "{verb} {name} took {took} s");
            assert!(ended.err.contains(says) && ended.err.contains(name), "{verb} {name}: {}", ended.err);
            assert!(ended.err.len() < 64 * 1024, "{verb} {name} says too much");
        }
    }
}

#[test]
fn what_is_no_file_is_65_and_not_waited_for() {
    let bench = Bench::new();
    fs::create_dir(bench.path("directory")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        bench.path("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    fs::File::create(bench.path("sparse")).unwrap().set_len(1 << 30).unwrap();
    std::os::unix::fs::symlink("loop", bench.path("loop")).unwrap();
    let mut cases = vec![
        ("missing", "there is no such file"),
        ("directory", "is a directory"),
        ("pipe", "is not a regular file"),
        ("sparse", "is bigger than 16 MiB"),
        ("sparse/x", "not a directory"),
        ("loop", "cannot be read"),
        ("/dev/zero", "is not a regular file"),
    ];
    bench.write("unreadable", "graph: g\n");
    fs::set_permissions(bench.path("unreadable"), fs::Permissions::from_mode(0o000)).unwrap();
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: a file that may not be read, because root may read all");
    } else {
        cases.push(("unreadable", "may not be read by this user"));
    }
    for (name, says) in cases {
        for verb in ["validate", "plan", "apply", "run"] {
            let ended = bench.mgmt([verb, name]);
            assert_eq!(ended.code, 65, "{verb} {name}: {ended:?}");
            assert!(ended.err.contains(says), "{verb} {name}: {}", ended.err);
        }
    }
}

/// The most memory a process has had, in KiB.
fn peak(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn bad_files_under_a_running_agent_cost_little_and_change_nothing() {
    let bench = Bench::new();
    let good = "graph: good\nresources:\n  file:\n  - {name: a, path: a, content: x, state: exists}\n";
    bench.write("g.yaml", good);
    let agent = bench.agent(["run", "g.yaml"]);
    agent.logged("converged after", 1);
    let before = peak(&agent);
    let swap = |name: &str| fs::rename(bench.path(name), bench.path("g.yaml")).unwrap();
    let mut refused = 0;
    for (_, bytes, _) in bad() {
        bench.write("next", bytes);
        swap("next");
        refused += 1;
        agent.logged("the graph that runs goes on", refused);
    }
    fs::File::create(bench.path("next")).unwrap().set_len(1 << 30).unwrap();
    swap("next");
    agent.logged("the graph that runs goes on", refused + 1);
    fs::remove_file(bench.path("g.yaml")).unwrap();
    agent.logged("the graph that runs goes on", refused + 2);
    let grown = peak(&agent) - before;
    assert!(grown <= MEMORY_KIB_MAX, "{grown} KiB for files that were refused");
    bench.write("a", "drift");
    wait_for("the first graph goes on", || bench.read("a") == "x");
    bench.write("next", good.replace("content: x", "content: y"));
    swap("next");
    wait_for("a good one is taken again", || bench.read("a") == "y");
    assert_eq!(agent.term(), 0);
}

/// A file that notifies a command; `cmd` is what it runs.
fn notifies(bench: &Bench, cmd: &str, refreshonly: bool) {
    let exec = format!("  - {{name: reload, cmd: '{cmd}', shell: sh, cwd: ., refreshonly: {refreshonly}}}\n");
    let file = "  - {name: conf, path: conf, content: x, state: exists, notify: ['exec[reload]']}\n";
    bench.write("g.yaml", format!("graph: g\nresources:\n  file:\n{file}  exec:\n{exec}"));
}

#[test]
fn a_refresh_that_failed_is_owed_after_a_kill() {
    let bench = Bench::new();
    notifies(&bench, "test -e allowed && echo refreshed >> out", true);
    let mut agent = bench.agent(["run", "g.yaml"]);
    agent.logged("exec[reload]: failed", 1);
    agent.signal(Signal::KILL);
    assert_eq!(agent.ended(), 128 + 9);
    assert_eq!((bench.read("conf").as_str(), bench.read("out").as_str()), ("x", ""));
    bench.write("allowed", "");
    let ended = bench.mgmt(["run", "--converged-timeout=0", "g.yaml"]);
    assert_eq!((ended.code, bench.read("out").as_str()), (0, "refreshed\n"), "{}", ended.err);
    let ended = bench.mgmt(["run", "--converged-timeout=0", "g.yaml"]);
    assert_eq!((ended.code, bench.read("out").as_str()), (0, "refreshed\n"), "owed once: {}", ended.err);
}

#[test]
fn a_refresh_that_was_running_is_owed_after_a_kill() {
    let bench = Bench::new();
    notifies(&bench, "echo started >> out; test -e allowed || exec sleep 20", true);
    let mut agent = bench.agent(["run", "g.yaml"]);
    wait_for("the refresh runs", || bench.read("out") == "started\n");
    agent.signal(Signal::KILL);
    agent.ended();
    bench.write("allowed", "");
    let ended = bench.mgmt(["run", "--converged-timeout=0", "g.yaml"]);
    assert_eq!((ended.code, bench.read("out").as_str()), (0, "started\nstarted\n"), "{}", ended.err);
}

#[test]
fn a_run_that_happens_anyway_spends_the_refresh() {
    let bench = Bench::new();
    notifies(&bench, "echo ran >> out", false);
    let agent = bench.agent(["run", "g.yaml"]);
    agent.logged("converged after", 1);
    assert_eq!(bench.read("out"), "ran\n");
    bench.write("conf", "drift");
    wait_for("a repair refreshes", || bench.read("out") == "ran\nran\n");
    assert_eq!(agent.term(), 0);
    assert_eq!(bench.read("out"), "ran\nran\n");
    let ended = bench.mgmt(["run", "--converged-timeout=0", "g.yaml"]);
    assert_eq!((ended.code, bench.read("out").as_str()), (0, "ran\nran\nran\n"), "once a start: {}", ended.err);
}
