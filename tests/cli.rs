//! What the verbs print and how they exit, with the real program.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

mod support;

use std::collections::BTreeMap;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use support::{Bench, Ended, finish, wait_for};

const GOOD: &str = "graph: good\nresources:\n  file:\n  - {name: a, path: a, content: x, state: exists}\n";
const FAILS: &str = "graph: fails\nresources:\n  file:\n  - {name: b, path: none/b, content: x, state: exists}\n";
const NOOP: &str = "graph: still\nresources:\n  noop:\n  - {name: n}\n";

fn bench(files: &[(&str, &str)]) -> Bench {
    let bench = Bench::new();
    for (name, text) in files {
        bench.write(name, text);
    }
    bench
}

fn json(ended: &Ended) -> Value {
    let value: Value = serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    assert_eq!(value["format_version"], 1, "{value}");
    value
}

#[test]
fn exit_codes_tell_what_happened() {
    let both = format!("{GOOD}{}", FAILS.split_once("file:\n").unwrap().1);
    let bench =
        bench(&[("good.yaml", GOOD), ("fails.yaml", FAILS), ("both.yaml", &both), ("wrong.yaml", "graph: ''\n")]);
    let code = |line: &str| bench.mgmt(line.split_whitespace()).code;
    assert_eq!(code("plan good.yaml"), 0);
    assert_eq!(code("plan --detailed-exitcode good.yaml"), 2);
    assert_eq!(code("plan fails.yaml"), 0, "a plan was made");
    assert_eq!(code("plan --detailed-exitcode fails.yaml"), 4);
    assert_eq!(code("plan --detailed-exitcode both.yaml"), 6);
    assert_eq!(code("apply --detailed-exitcode both.yaml"), 6);
    assert_eq!(code("apply --detailed-exitcode both.yaml"), 4, "what was changed is right now");
    assert_eq!(code("apply --detailed-exitcode good.yaml"), 0);
    std::fs::remove_file(bench.path("a")).unwrap();
    assert_eq!(code("apply --detailed-exitcode good.yaml"), 2);
    assert_eq!(code("apply good.yaml"), 0);
    assert_eq!(code("apply fails.yaml"), 1);
    assert_eq!(code("run --converged-timeout 0 fails.yaml"), 1);
    assert_eq!(code("run --converged-timeout 0 good.yaml"), 0);
    for verb in ["validate", "plan", "apply", "run"] {
        assert_eq!(code(&format!("{verb} wrong.yaml")), 65, "{verb}");
    }
    for usage in [
        "",
        "no-such-verb",
        "run",
        "plan",
        "apply",
        "run a b c",
        "run good.yaml --file good.yaml",
        "run --sema 0 good.yaml",
    ] {
        assert_eq!(code(usage), 64, "{usage}");
    }
    assert_eq!((code("--help"), code("--version"), code("run --help")), (0, 0, 0));
    assert_eq!(code("run --prefix good.yaml/x good.yaml"), 73, "a file is no place for state");
    assert_eq!(code("run --hostname _ good.yaml"), 64);
}

#[test]
fn time_that_has_passed_is_3_and_leaves_no_child() {
    let bench = bench(&[("g.yaml", "graph: g\nresources:\n  exec:\n  - {name: e, cmd: sleep 1234.5}\n")]);
    for verb in ["run", "apply"] {
        assert_eq!(bench.mgmt([verb, "--max-runtime", "0.3", "g.yaml"]).code, 3, "{verb}");
    }
    let left = Command::new("sh").args(["-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&left.stdout).contains("sleep 1234.5 "), "a child is left");
}

#[test]
fn output_that_cannot_be_written_is_74_and_a_closed_pipe_is_none() {
    let many: String = (0..3000).map(|n| format!("  - {{name: f{n}, path: none/{n}, state: exists}}\n")).collect();
    let bench = bench(&[("g.yaml", &format!("graph: g\nresources:\n  file:\n{many}"))]);
    let shell = |script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh", env!("CARGO_BIN_EXE_mgmt")]).current_dir(&bench.root);
        shell.env("STATE_DIRECTORY", bench.path("state"));
        finish(shell)
    };
    let full = shell("\"$1\" plan g.yaml > /dev/full");
    assert_eq!(full.code, 74, "{full:?}");
    for verb in ["plan", "plan --json", "validate --json", "apply", "apply --json"] {
        let closed = shell(&format!("{{ \"$1\" {verb} g.yaml; echo $? > code; }} | head -1"));
        assert!(!closed.out.is_empty() && !closed.err.contains("panic"), "{verb}: {closed:?}");
        let code: i32 = bench.read("code").trim().parse().unwrap();
        assert!(code <= 1, "{verb}: {code}");
    }
}

#[test]
fn old_spellings_still_work() {
    let bench = bench(&[("g.yaml", GOOD)]);
    let ok = |line: &str| {
        let ended = bench.mgmt(line.split_whitespace());
        assert_eq!(ended.code, 0, "{line}: {ended:?}");
        assert_eq!(bench.read("a"), "x", "{line}");
        std::fs::remove_file(bench.path("a")).unwrap();
        ended
    };
    ok("run --file g.yaml --converged-timeout=0");
    ok("run -f g.yaml --converged-timeout=0");
    ok("run --yaml g.yaml --converged-timeout=0");
    ok("run yaml g.yaml --converged-timeout=0");
    ok("run yaml g.yaml --converger-timeout 0 --converged-exit");
    ok("apply --file g.yaml");
    let without = "--no-server --no-pgp --prometheus --prometheus-listen 127.0.0.1:9 --ideal-cluster-size 3 \
                   --client-urls http://127.0.0.1:2379 --server-urls http://127.0.0.1:2380";
    let ended = ok(&format!("run g.yaml --converged-timeout 0 {without}"));
    assert!(ended.err.contains("without effect here: ") && ended.err.contains("--no-server"), "{}", ended.err);
    ok("run g.yaml --converged-timeout 0 --converger-status-file status");
    let told = bench.read("status");
    assert!(told.ends_with("true\n") && told.lines().all(|line| line == "true" || line == "false"), "{told:?}");
    let empty = bench.mgmt(["run", "empty", "--converged-timeout=0"]);
    assert_eq!(empty.code, 0, "{empty:?}");
}

#[test]
fn what_cannot_be_asked_of_the_mesh_is_said_before_anything_is_done() {
    let bench = bench(&[("g.yaml", GOOD)]);
    for (flags, says) in [
        ("--seeds a:1", "give --token"),
        ("--seed http://a:1", "give --token"),
        ("--seeds a --token t", "token"),
        ("--token-file nowhere --seeds a", "cannot read nowhere"),
        ("--expect 3", "--expect needs --seeds"),
        ("--listen nowhere", "--listen takes an address"),
        ("--no-network --zone a/b", "contradict each other"),
        ("--no-network --mesh-converged", "contradict each other"),
    ] {
        let ended = bench.mgmt(["run", "g.yaml"].into_iter().chain(flags.split(' ')));
        assert!([64, 73].contains(&ended.code), "{flags}: {ended:?}");
        assert!(ended.err.contains(says), "{flags}: {}", ended.err);
        assert!(!bench.path("a").exists());
    }
}

#[test]
fn data_goes_to_stdout_and_the_log_to_stderr() {
    let bench = bench(&[("g.yaml", GOOD)]);
    let plan = bench.mgmt(["plan", "g.yaml"]);
    assert_eq!(
        (plan.err.as_str(), plan.out.lines().last()),
        ("", Some("plan: 1 would change, 0 ok; nothing was touched"))
    );
    assert!(plan.out.contains("~ file[a]: would change: missing") && plan.out.contains("+x"), "{}", plan.out);
    let apply = bench.mgmt(["apply", "g.yaml"]);
    assert!(apply.err.is_empty() && apply.out.starts_with("+ file[a]: missing: created"), "{apply:?}");
    let run = bench.mgmt(["run", "--converged-timeout=0", "g.yaml"]);
    assert!(run.out.is_empty() && run.err.contains("converged after"), "{run:?}");
    let run = bench.mgmt(["run", "--converged-timeout=0", "--log-format=json", "g.yaml"]);
    for line in run.err.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["timestamp"].is_string(), "{line}");
    }
    bench.write("warns.yaml", format!("{GOOD}comments: x\n"));
    for (colour, escapes) in [("--color=auto", false), ("--color=never", false), ("--color=always", true)] {
        let run = bench.mgmt(["run", "--converged-timeout=0", colour, "warns.yaml"]);
        assert_eq!(run.err.contains('\u{1b}'), escapes, "{colour}: {}", run.err);
    }
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("skipped: NO_COLOR on a terminal: there is no script(1) to make one");
        return;
    }
    for (no_color, escapes) in [("", true), ("1", false)] {
        let mut command = Command::new("script");
        let line = format!("{} run --converged-timeout=0 warns.yaml", env!("CARGO_BIN_EXE_mgmt"));
        command.args(["-qec", &line, "/dev/null"]).current_dir(&bench.root).stdin(std::process::Stdio::null());
        command.env("STATE_DIRECTORY", bench.path("state")).env("NO_COLOR", no_color).env("TERM", "xterm");
        let said = finish(command).out;
        assert!(said.contains("unknown key"), "{said}");
        assert_eq!(said.contains("\u{1b}[33m"), escapes, "NO_COLOR='{no_color}': {said:?}");
    }
}

#[test]
fn json_is_objects_with_a_version() {
    let bench = bench(&[("g.yaml", GOOD), ("wrong.yaml", "graph: g\nresources:\n  file: 3\n")]);
    let plan = json(&bench.mgmt(["plan", "--json", "g.yaml"]));
    assert_eq!((&plan["counts"]["would_change"], &plan["resources"][0]["answer"]), (&1.into(), &"would change".into()));
    let valid = json(&bench.mgmt(["validate", "--json", "g.yaml", "wrong.yaml"]));
    assert_eq!((&valid["valid"], &valid["files"][0]["valid"]), (&false.into(), &true.into()));
    let apply = json(&bench.mgmt(["apply", "--json", "g.yaml"]));
    assert_eq!((&apply["converged"], &apply["events"][0]["event"]), (&true.into(), &"changed".into()));
    for verb in [["facts", "--json"].as_slice(), &["explain", "--json"], &["explain", "file", "--json"]] {
        let ended = bench.mgmt(verb);
        assert_eq!(ended.code, 0, "{verb:?}");
        json(&ended);
    }
    let agent = bench.agent(["run", "g.yaml"]);
    agent.logged("converged after", 1);
    std::fs::remove_file(bench.path("a")).unwrap();
    agent.logged("(drift", 1);
    let status = json(&bench.mgmt(["status", "--json", "--all"]));
    assert_eq!((&status["pid"], &status["changes"]), (&agent.pid().into(), &1.into()));
    let events = bench.mgmt(["events", "--json"]);
    let events: Vec<Value> = events.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().all(|event| event["format_version"] == 1), "{events:?}");
    assert_eq!(events.last().unwrap()["cause"], "drift");
    assert_eq!(agent.term(), 0);
}

#[test]
fn agents_are_found_and_told_apart() {
    let bench = bench(&[("still.yaml", NOOP)]);
    for verb in ["status", "events"] {
        let none = bench.mgmt([verb]);
        assert_eq!(none.code, 69, "{none:?}");
        assert!(none.err.contains("no agent runs"), "{}", none.err);
    }
    let one = bench.agent(["run", "--hostname", "one", "still.yaml"]);
    one.logged("converged after", 1);
    assert_eq!(bench.mgmt(["status"]).code, 0);
    let again = bench.mgmt(["run", "--hostname", "one", "still.yaml"]);
    assert_eq!(again.code, 75);
    assert!(again.err.contains(&format!("process {}", one.pid())), "{}", again.err);
    let two = bench.agent(["run", "--hostname", "two", "still.yaml"]);
    two.logged("converged after", 1);
    let which = bench.mgmt(["status"]);
    assert_eq!(which.code, 64);
    assert!(which.err.contains("one, two"), "{}", which.err);
    let status = json(&bench.mgmt(["status", "--json", "--hostname", "two"]));
    assert_eq!(status["pid"], two.pid());
    assert_eq!((one.term(), two.term()), (0, 0));
    assert_eq!(bench.mgmt(["status", "--hostname", "two"]).code, 69);
}

#[test]
fn a_temporary_prefix_leaves_nothing_behind() {
    let bench = bench(&[("g.yaml", GOOD), ("wrong.yaml", "nothing")]);
    let left = || std::fs::read_dir(bench.path("tmp")).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(bench.mgmt(["apply", "--tmp-prefix", "g.yaml"]).code, 0);
    assert!(left().is_empty(), "{:?}", left());
    assert_eq!(bench.mgmt(["run", "--tmp-prefix", "wrong.yaml"]).code, 65);
    assert!(left().is_empty(), "{:?}", left());
    let agent = bench.agent(["run", "--tmp-prefix", "g.yaml"]);
    agent.logged("converged after", 1);
    assert_eq!(left().len(), 1);
    assert_eq!(agent.term(), 0);
    assert!(left().is_empty() && !bench.path("state").exists(), "{:?}", left());
}

#[test]
fn signals_end_reload_and_cancel() {
    let bench = bench(&[
        ("fails.yaml", FAILS),
        (
            "slow.yaml",
            "graph: g\nresources:\n  exec:\n  - {name: e, cmd: 'touch started; exec sleep 600', shell: sh, cwd: .}\n",
        ),
        ("g.yaml", GOOD),
    ]);
    let failed = bench.agent(["run", "fails.yaml"]);
    failed.logged("converged after", 1);
    assert_eq!(failed.term(), 1, "something is failed when it ends");
    let reload = bench.agent(["run", "--no-watch", "g.yaml"]);
    reload.logged("converged after", 1);
    reload.signal(Signal::HUP);
    reload.logged("HUP: reading the graph file again", 1);
    reload.logged("graph replaced: 1 kept", 1);
    assert_eq!(reload.term(), 0);
    let mut slow = bench.agent(["run", "slow.yaml"]);
    wait_for("the command runs", || bench.path("started").exists());
    slow.signal(Signal::INT);
    slow.logged("finishing what runs", 1);
    slow.signal(Signal::INT);
    slow.logged("cancelling what runs", 1);
    assert_eq!(slow.ended(), 1);
}

#[test]
fn noop_changes_nothing_and_looks_at_all() {
    let graph = "graph: g\nresources:\n  file:\n  - {name: d, path: d/, state: exists}\n  \
                 - {name: a, path: a, content: x, state: exists, after: ['file[d]']}\n  \
                 exec:\n  - {name: e, cmd: touch ran, cwd: ., after: ['file[a]']}\n";
    let bench = bench(&[("g.yaml", graph)]);
    let apply = bench.mgmt(["apply", "--noop", "--detailed-exitcode", "--json", "g.yaml"]);
    assert_eq!(apply.code, 2, "{apply:?}");
    assert_eq!(json(&apply)["counts"]["would_change"], 3);
    assert_eq!(bench.mgmt(["run", "--noop", "--converged-timeout=0", "g.yaml"]).code, 0);
    assert!(!bench.path("d").exists() && !bench.path("a").exists() && !bench.path("ran").exists());
}

#[test]
fn one_permit_makes_a_queue() {
    let exec = |n| format!("  - {{name: e{n}, cmd: 'mkdir lock && sleep 0.05 && rmdir lock', shell: sh, cwd: .}}\n");
    let bench =
        bench(&[("g.yaml", &format!("graph: g\nresources:\n  exec:\n{}", (0..8).map(exec).collect::<String>()))]);
    assert_eq!(bench.mgmt(["apply", "--sema", "1", "g.yaml"]).code, 0);
    assert_eq!(bench.mgmt(["apply", "g.yaml"]).code, 1, "without it they run at once");
}

#[test]
fn the_picture_shows_how_it_ended() {
    let bench = bench(&[("g.yaml", GOOD), ("fails.yaml", FAILS)]);
    for (verb, graph) in [("apply", "g.yaml"), ("apply", "fails.yaml"), ("run", "g.yaml")] {
        let quiet = if verb == "run" { "--converged-timeout=0" } else { "--max-runtime=60" };
        bench.mgmt([verb, quiet, "--graphviz", "out.dot", graph]);
        let dot = bench.read("out.dot");
        assert!(dot.starts_with("digraph") && dot.contains("file["), "{dot}");
    }
    let graph = bench.mgmt(["graph", "g.yaml"]);
    assert!(graph.code == 0 && graph.out.starts_with("digraph"), "{graph:?}");
}

const SECRETS: &str = "graph: g
resources:
  file:
  - {name: f, path: f, content: 's3cret content', state: exists, sensitive: true, mode: '0644'}
  - {name: g, path: none/g, content: 's3cret failing', state: exists, sensitive: true}
  - {name: h, path: h, content: 's3cret by mode', state: exists, mode: '0600'}
  exec:
  - {name: e, cmd: 'echo s3cret output; echo s3cret error >&2', shell: sh, sensitive: true, env: {A: s3cret}}
  - {name: x, cmd: 'echo s3cret output; exit 3', shell: sh, sensitive: true}
  - {name: y, cmd: 'true', ifcmd: 'echo s3cret guard; exit 1', ifshell: sh, sensitive: true}
  - {name: z, cmd: s3cret-program, sensitive: true}
  msg:
  - {name: m, body: 's3cret body', sensitive: true}
";

#[test]
fn what_is_sensitive_appears_nowhere() {
    let bench = bench(&[("g.yaml", SECRETS)]);
    let mut said = BTreeMap::new();
    let mut hear = |line: &str| {
        let ended = bench.mgmt(line.split_whitespace());
        said.insert(line.to_owned(), ended.out + &ended.err);
    };
    hear("validate g.yaml");
    hear("validate --json g.yaml");
    for round in ["", " --full-diff"] {
        hear(&format!("plan -vv g.yaml{round}"));
        hear(&format!("plan -vv --json g.yaml{round}"));
    }
    hear("apply -vv --noop g.yaml");
    hear("apply -vv g.yaml --graphviz one.dot");
    bench.write("f", "s3cret before");
    bench.write("h", "s3cret before");
    hear("plan g.yaml");
    hear("plan --json g.yaml --full-diff");
    hear("apply -vv --json g.yaml");
    hear("graph g.yaml");
    hear("graph --format svg g.yaml");
    let agent = bench.agent(["run", "-vv", "g.yaml", "--graphviz", "two.dot"]);
    agent.logged("converged after", 1);
    bench.write("f", "s3cret drift");
    agent.logged("(drift", 1);
    hear("events");
    hear("events --json");
    hear("status --all");
    hear("status --all --json");
    said.insert("the agent's log".into(), agent.log());
    assert_eq!(agent.term(), 1);
    for file in ["one.dot", "two.dot"] {
        said.insert(file.to_owned(), bench.read(file));
    }
    for (line, text) in said {
        assert!(!text.contains("s3cret"), "{line}:\n{text}");
        assert!(!text.is_empty(), "{line} said nothing");
    }
}

#[test]
fn noop_leaves_even_a_stray_where_it_lies() {
    let bench = bench(&[("g.yaml", GOOD), ("a", "x"), (".mgmt~999999999-0", "left behind")]);
    assert_eq!(bench.mgmt(["apply", "--noop", "g.yaml"]).code, 0);
    assert!(bench.path(".mgmt~999999999-0").exists());
    assert_eq!(bench.mgmt(["apply", "g.yaml"]).code, 0);
    assert!(!bench.path(".mgmt~999999999-0").exists());
}

#[test]
fn a_copied_tree_leaves_managed_members_to_their_own_resource() {
    let graph = "graph: g\nresources:\n  file:\n  \
                 - {name: tree, path: to/, source: from/, recurse: true, state: exists}\n  \
                 - {name: own, path: to/own, content: ours, state: exists}\n";
    let bench = bench(&[("g.yaml", graph)]);
    std::fs::create_dir(bench.path("from")).unwrap();
    bench.write("from/own", "theirs");
    bench.write("from/other", "theirs");
    assert_eq!(bench.mgmt(["apply", "g.yaml"]).code, 0);
    assert_eq!((bench.read("to/own"), bench.read("to/other")), ("ours".into(), "theirs".into()));
    assert_eq!(bench.mgmt(["apply", "--detailed-exitcode", "g.yaml"]).code, 0, "they do not fight");
}
