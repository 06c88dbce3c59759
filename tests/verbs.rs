//! The verbs of the mesh with the real program: what they print, how they exit, what the pipe says. One founder, alone, on
//! loopback.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use expect_test::{Expect, expect};
use serde_json::Value;
use support::{Agent, Bench, Ended, wait_for};

/// A founder, up.
struct Founder {
    bench: Bench,
    agent: Agent,
}

impl Founder {
    fn new() -> Self {
        let bench = Bench::new();
        let agent = bench.agent(["run", "--hostname", "a", "empty"]);
        let founder = Self { bench, agent };
        wait_for("it is a member with a quorum", || {
            let status = founder.run("status --json");
            status.code == 0 && json(&status)["mesh"]["quorum"] == true
        });
        founder
    }

    fn run(&self, line: &str) -> Ended {
        self.bench.mgmt(line.split_whitespace())
    }

    /// What it prints, its exit code where that is not 0, and what it says.
    fn check(&self, lines: &[&str], expect: Expect) {
        let mut all = String::new();
        for line in lines {
            let Ended { code, out, err } = self.run(line);
            all += &format!("$ {line}\n{out}");
            if !out.is_empty() && !out.ends_with('\n') {
                all.push('\n');
            }
            all += &err;
            if code != 0 {
                all += &format!("[{code}]\n");
            }
        }
        expect.assert_eq(&all);
    }
}

fn json(ended: &Ended) -> Value {
    let value: Value = serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    assert_eq!(value["format_version"], 1, "{value}");
    value
}

/// A `kv pipe`, killed when dropped.
struct Pipe {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Pipe {
    fn of(founder: &Founder) -> Self {
        let mut command = founder.bench.command(["kv", "pipe"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    fn say(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn ask(&mut self, line: &str) -> String {
        self.say(format!("{line}\n").as_bytes());
        self.line()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // Already gone is what was wanted.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn keys_are_written_read_and_deleted() {
    let founder = Founder::new();
    founder.check(
        &[
            "kv get a/b",
            "kv put a/b hello",
            "kv put a/c -- -5",
            "kv get a/b",
            "kv get --latest a/c",
            "kv list",
            "kv list --keys a/c",
            "kv delete a/x",
            "kv delete a/b",
            "kv delete --starting-with a/",
            "kv list",
            "kv put k",
            "kv get x --latest --timeout nonsense",
        ],
        expect![[r#"
            $ kv get a/b
            mgmt: there is no key a/b
            [1]
            $ kv put a/b hello
            $ kv put a/c -- -5
            $ kv get a/b
            hello
            $ kv get --latest a/c
            -5
            $ kv list
            a/b hello
            a/c -5
            $ kv list --keys a/c
            a/c
            $ kv delete a/x
            mgmt: there is no key a/x
            [1]
            $ kv delete a/b
            $ kv delete --starting-with a/
            $ kv list
            $ kv put k
            error: the following required arguments were not provided:
              <VALUE>

            Usage: mgmt kv put <KEY> <VALUE>

            For more information, try '--help'.
            [64]
            $ kv get x --latest --timeout nonsense
            error: invalid value 'nonsense' for '--timeout <SECONDS>': unknown unit 'nonsense': use ms, s, m, h or d

            For more information, try '--help'.
            [64]
        "#]],
    );
    let put = json(&founder.run("kv put t v --lease 60 --json"));
    assert_eq!((&put["key"], &put["ttl_s"]), (&Value::from("t"), &Value::from(60)));
    let got = json(&founder.run("kv get t --json"));
    assert_eq!((&got["value"], &got["version"], &got["lease"]), (&Value::from("v"), &Value::from(1), &put["lease"]));
    assert!(got["age_ms"].is_u64() && got["revision"].is_u64(), "{got}");
    let long = "x".repeat(300 << 10);
    founder.bench.write("long", &long);
    let mut put = founder.bench.command(["kv", "put", "long", "-"]);
    put.stdin(std::fs::File::open(founder.bench.path("long")).unwrap());
    let ended = support::finish(put);
    assert_eq!(ended.code, 64, "{ended:?}");
    assert!(ended.err.contains("too large"), "{ended:?}");
    assert_eq!(founder.agent.term(), 0);
}

#[test]
fn members_status_tokens_and_rules() {
    let founder = Founder::new();
    let members = json(&founder.run("members --json"));
    assert_eq!(members["leader"], "a");
    let member = &members["members"][0];
    for (name, value) in [("host", "a"), ("role", "master"), ("state", "up"), ("zone", "")] {
        assert_eq!(member[name], value, "{member}");
    }
    assert!(member["peer"].is_string() && member["address"].is_string() && member["revision"].is_u64(), "{member}");
    let mesh = &json(&founder.run("status --json"))["mesh"];
    assert_eq!((&mesh["stage"], &mesh["role"], &mesh["leads"]), (&"member".into(), &"master".into(), &true.into()));
    assert_eq!((&mesh["masters"], &mesh["ideal"]), (&serde_json::json!(["a"]), &5.into()));
    founder.check(
        &[
            "cluster size",
            "cluster size 3",
            "cluster size",
            "cluster size 4",
            "cluster allow web* app/",
            "cluster allow WEB! app/",
            "cluster rules",
            "cluster disallow web* app/",
            "cluster disallow web* app/",
            "cluster rules",
            "cluster remove nobody",
            "cluster remove a",
            "token revoke nosuch",
        ],
        expect![[r#"
            $ cluster size
            5
            $ cluster size 3
            $ cluster size
            3
            $ cluster size 4
            error: invalid value '4' for '[MASTERS]'
              [possible values: 1, 3, 5, 7]

            For more information, try '--help'.
            [64]
            $ cluster allow web* app/
            $ cluster allow WEB! app/
            mgmt: the command makes no sense
            [64]
            $ cluster rules
            HOSTS  KEYS
            web*   app/*
            $ cluster disallow web* app/
            $ cluster disallow web* app/
            mgmt: no such rule
            [1]
            $ cluster rules
            There are no rules: only admins write keys.
            $ cluster remove nobody
            mgmt: there is no host 'nobody' in the mesh: see mgmt members
            [1]
            $ cluster remove a
            mgmt: this is the host itself: it leaves with mgmt cluster leave
            [64]
            $ token revoke nosuch
            mgmt: no such token
            [1]
        "#]],
    );
    let token = json(&founder.run("token create --role master --uses 3 --ttl 1h --host web1 --json"));
    assert!(token["token"].as_str().unwrap().starts_with("mgmt1_"), "{token}");
    let id = token["id"].as_str().unwrap();
    let listed = json(&founder.run("token list --json"));
    let found = listed["tokens"].as_array().unwrap().iter().find(|other| other["id"] == id).unwrap();
    assert_eq!((&found["role"], &found["state"], &found["host"]), (&"master".into(), &"good".into(), &"web1".into()));
    assert!(!founder.run("token list --json").out.contains(token["token"].as_str().unwrap()), "a secret is shown");
    assert_eq!(founder.run(&format!("token revoke {}", token["token"].as_str().unwrap())).code, 0);
    assert!(!founder.run("token list").out.contains(id));
    assert_eq!(founder.agent.term(), 0);
}

#[test]
fn a_lock_is_held_by_one_command_at_a_time() {
    let founder = Founder::new();
    let first = founder.run("lock backup -- sh -c exit");
    assert_eq!(first.code, 0, "{first:?}");
    let program = env!("CARGO_BIN_EXE_mgmt");
    let inner = format!("echo $MGMT_FENCE; {program} lock backup -- true; echo $?; exit 7");
    let held = founder.bench.mgmt(["lock", "backup", "--", "sh", "-c", &inner]);
    assert_eq!(held.code, 7, "{held:?}");
    let lines: Vec<_> = held.out.lines().collect();
    assert!(lines[0].parse::<u64>().unwrap() > 0, "{held:?}");
    assert_eq!(lines[1], "75", "{held:?}");
    assert!(held.err.contains("the lock 'backup' is held by others"), "{held:?}");
    let two = format!("{program} lock --count 2 pair -- sh -c 'echo in'");
    let ended = founder.bench.mgmt(["lock", "--count", "2", "pair", "--", "sh", "-c", &two]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "in\n"), "{ended:?}");
    assert_eq!(founder.bench.mgmt(["lock", "x", "--", "/no/such/program"]).code, 1);
    assert_eq!(founder.bench.mgmt(["lock", "x"]).code, 64);
    // An agent that goes away takes its locks with it, and what runs under them is told to end.
    let mut command = founder.bench.command(["lock", "x", "--", "sh", "-c", "touch held; exec sleep 1234.5"]);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    wait_for("the lock is held", || founder.bench.path("held").exists());
    assert_eq!(founder.run("lock x -- true").code, 75);
    drop(founder.agent);
    let mut ended = None;
    wait_for("the command is ended", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(75));
}

#[test]
fn the_pipe_answers_all_it_is_asked() {
    let founder = Founder::new();
    let mut pipe = Pipe::of(&founder);
    assert!(pipe.ask("1 PUT a.k v").starts_with("1 OK "));
    assert_eq!(pipe.ask("2 GET a.k"), "2 OK v");
    assert_eq!(pipe.ask("3 GET none"), "3 ERR missing there is no such key");
    assert_eq!(pipe.ask("4 LEADER"), "4 OK 0");
    assert!(pipe.ask("5 WATCH a.").starts_with("5 OK "));
    let mut other = Pipe::of(&founder);
    for n in 0..20 {
        assert!(other.ask(&format!("{n} PUT a.k {n}")).starts_with(&format!("{n} OK ")));
    }
    for n in 0..20 {
        assert_eq!(pipe.line(), format!("5 EV a.k {n}"));
    }
    other.say(b"\xff\xff\nx\n9 PUT a\n9 PUT a b c\n");
    for start in ["? ERR usage", "x ERR usage", "9 ERR usage", "9 ERR usage"] {
        let line = other.line();
        assert!(line.starts_with(start), "{line}");
    }
    // Many at once, and the end of input: everything is answered, then it ends by itself.
    let many: String = (0..1000).map(|n| format!("m{n} PUT b.{n} v\n")).collect();
    let mut input = other.input.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(many.as_bytes()).unwrap());
    let answered: Vec<_> = other.output.by_ref().lines().map(Result::unwrap).collect();
    writer.join().unwrap();
    assert_eq!(answered.len(), 1000);
    assert!(answered.iter().all(|line| line.contains(" OK ")), "{answered:?}");
    assert!(other.child.wait().unwrap().success());
    assert_eq!(founder.run("kv list --keys b.").out.lines().count(), 1000);
    assert_eq!(founder.agent.term(), 0);
    assert_eq!(pipe.line(), "", "the agent has ended");
}

#[test]
fn without_a_mesh_or_an_agent_it_is_said_so() {
    let bench = Bench::new();
    for line in ["members", "kv get a", "kv put a b", "kv pipe", "token list", "cluster leave", "lock a -- true"] {
        let ended = bench.mgmt(line.split_whitespace());
        assert_eq!(ended.code, 69, "{line}: {ended:?}");
        assert!(ended.err.contains("no agent runs"), "{line}: {ended:?}");
    }
    bench.write("g.yaml", "graph: g\nresources:\n  noop:\n  - {name: n}\n");
    let agent = bench.agent(["run", "--hostname", "a", "g.yaml"]);
    wait_for("it answers", || bench.mgmt(["status"]).code == 0);
    for line in ["members", "kv get a", "kv put a b", "kv watch", "kv list", "kv pipe", "token list", "lock a -- true"]
    {
        let ended = bench.mgmt(line.split_whitespace());
        assert_eq!(ended.code, 69, "{line}: {ended:?}");
        assert!(ended.err.contains("is in no mesh"), "{line}: {ended:?}");
    }
    assert!(json(&bench.mgmt(["status", "--json"]))["mesh"].is_null());
    assert_eq!(agent.term(), 0);
}

#[test]
fn a_mesh_is_founded_saved_joined_and_recovered() {
    let bench = Bench::new();
    let run = |line: &str| bench.mgmt(line.split_whitespace());
    let founded = json(&run("cluster init --hostname a --json"));
    assert_eq!(founded["host"], "a");
    assert_eq!(run("cluster init --hostname a").code, 73, "it is a member already");
    assert_eq!(run("doctor --hostname a").code, 1, "no agent runs");
    let agent = bench.agent(["run", "--hostname", "a", "empty"]);
    wait_for("it leads", || run("kv put --hostname a x y").code == 0);
    let healthy = run("doctor --hostname a");
    assert_eq!(healthy.code, 0, "{healthy:?}");
    let (seed, token) = (founded["addresses"][0].as_str().unwrap(), founded["token"].as_str().unwrap());
    let members = json(&run("members --hostname a --json"));
    let seed = members["members"][0]["address"].as_str().unwrap_or(seed).to_owned();
    let good = run(&format!("doctor --hostname b {seed} --token {token}"));
    assert_eq!(good.code, 0, "{good:?}");
    let used = json(&run("token list --hostname a --json"));
    let listed = used["tokens"].as_array().unwrap().iter().find(|other| other["id"] == founded["id"]);
    assert_eq!(listed.unwrap()["used"], 0, "looking does not use it up");
    let joined = run(&format!("join --hostname b --seeds {seed} {token}"));
    assert_eq!(joined.code, 0, "{joined:?}");
    assert_eq!(run(&format!("join --hostname c --seeds {seed} nonsense")).code, 64);
    let short = json(&run("token create --hostname a --ttl 1 --json"));
    wait_for("it has expired", || run("token list --hostname a").out.contains("expired"));
    let ended = run(&format!("doctor --hostname b {seed} --token {}", short["token"].as_str().unwrap()));
    assert!(ended.code == 1 && ended.out.contains("has expired"), "{ended:?}");
    let file = bench.path("save");
    let save = format!("snapshot save --hostname a {}", file.display());
    assert_eq!(run(&save).code, 0);
    assert_eq!(run(&save).code, 64, "it is there already");
    assert_eq!(json(&run(&format!("snapshot inspect --json {}", file.display())))["keys"], 1);
    assert_eq!(agent.term(), 0);
    assert_eq!(run("cluster recover --hostname a").code, 64, "it wants to be told twice");
    let recovered = json(&run("cluster recover --hostname a --yes --json"));
    assert_eq!(recovered["old_cluster"], founded["cluster"]);
    assert_eq!(recovered["hosts"], serde_json::json!(["b"]));
    let restore = format!("snapshot restore --hostname d {}", file.display());
    assert_eq!(run(&restore).code, 69, "a mesh is founded first");
    assert_eq!(run("cluster init --hostname d").code, 0);
    assert_eq!(run(&restore).code, 0);
    let agent = bench.agent(["run", "--hostname", "d", "empty"]);
    wait_for("the key is back", || run("kv get --hostname d x").out == "y");
    assert_eq!(agent.term(), 0);
}
