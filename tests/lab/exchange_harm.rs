//! A member with valid papers that writes what it likes as its own exports, and tries to write those of others: nobody
//! takes more than was agreed to, nobody's graph fails, and all others go on.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::time::Duration;

use mgmt_consensus::types::RaftId;
use mgmt_consensus::wire::{Answer, Envelope, Request};
use mgmt_store::command::ExportChange;
use mgmt_store::key::Key;
use mgmt_store::outcome::{Outcome, Refusal};
use mgmt_store::{Body, HostName, Revision};

use crate::hostile::{Stolen, asked, identity_of};
use crate::machine::{self, Need};
use crate::mesh::peer::Recipe;
use crate::mesh::{PATIENCE, let_pass, wait};
use crate::meshes::Field;
use crate::rogue::Talk;

/// Who does all of that. Of two collected for one path the lowest name wins: it is above those of others.
const ROGUE: &str = "zed";
const EXPORTS_MAX: usize = mgmt_store::limits::EXPORTS_MAX;

/// Three honest hosts on one machine, and one that is not.
struct Scene {
    field: Field,
    runtime: tokio::runtime::Runtime,
    stolen: Stolen,
    leader: Recipe,
    at: std::net::SocketAddr,
    /// Of the manifest that the rogue has published last, and of its generation.
    base: Revision,
    generation: u64,
}

/// What became of a proposal.
type Came = Result<Revision, Refusal>;

fn honest(host: usize) -> String {
    format!("p{host}")
}

impl Scene {
    fn new() -> Self {
        let mut field = Field::machine();
        for host in 1..=3 {
            let directory = field.scratch.directory(&format!("files{host}"));
            if host > 1 {
                fs::create_dir(directory.join("inner")).unwrap();
            }
            let graph = Self::graph(&field, host, "first\n");
            let mut recipe = field.local(&honest(host));
            recipe.args[0] = graph.to_str().unwrap().to_owned();
            field.peers.start(recipe);
        }
        field.peers.until_formed(3, 0);
        let leader = field.leader();
        let members = field.peers.members();
        let at = members.members.iter().find(|member| member.host == leader).unwrap().address.parse().unwrap();
        let leader = field.peers.get(&leader).recipe.clone();
        let token = field.token(&["--role", "agent", "--uses", "1"]);
        let recipe = Recipe::new(&field.scratch.path(ROGUE), ROGUE);
        field.peers.start(recipe.clone().with(&["--seeds", &format!("{at}"), "--token", &token]));
        field.peers.until(PATIENCE, "it is a member", |members| members.hosts().contains(&ROGUE));
        field.peers.get(ROGUE).kill();
        field.peers.0.remove(ROGUE);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let stolen = Stolen::of(&recipe);
        Self { field, runtime, stolen, leader, at, base: Revision(0), generation: 1 << 40 }
    }

    /// The first purges, the second trusts the rogue with nothing but content, the third takes whatever is harmless.
    fn graph(field: &Field, host: usize, content: &str) -> PathBuf {
        let directory = field.scratch.path(&format!("files{host}"));
        let directory = directory.display();
        let purge = match host {
            1 => format!("  - {{name: all, path: {directory}/, state: exists, recurse: true, purge: true}}\n"),
            _ => String::new(),
        };
        let more = match host {
            2 => format!("- {{kind: file, pattern: {directory}/inner/, hosts: [{ROGUE}]}}\n"),
            3 => "- {kind: exec}\n- {kind: timer}\n- {kind: file, name: 'plain-*'}\n".to_owned(),
            _ => String::new(),
        };
        let text = format!(
            "graph: p{host}\nresources:\n  file:\n{purge}  - {{name: own, path: {directory}/own, content: own, state: \
             exists}}\n  - {{name: '@@p{host}-1', path: /exported/p{host}-1, content: {content:?}, state: \
             exists}}\ncollect:\n- {{kind: file, pattern: {directory}/}}\n- {{kind: msg}}\n- {{kind: noop}}\n{more}"
        );
        field.scratch.graph_named(&format!("p{host}.yaml"), &text)
    }

    fn ask(&self, envelope: &Envelope, body: Body) -> Answer {
        let request =
            Request::Propose { command: mgmt_store::Request::plain(body).encode(), deadline: Duration::from_secs(5) };
        self.runtime.block_on(async {
            let connection = self.stolen.rogue().connected(self.at).await;
            let mut talk = Talk::begin(&connection, 2).await;
            asked(&mut talk, envelope, &request).await
        })
    }

    fn own(&self) -> Envelope {
        self.stolen.envelope(&identity_of(&self.leader))
    }

    /// Proposes something, once.
    fn propose(&self, body: Body) -> Came {
        let Answer::Proposed { outcome, .. } = self.ask(&self.own(), body) else { panic!("no answer") };
        let Outcome { revision, result } = Outcome::decode(&outcome).unwrap();
        result.map(|_| revision)
    }

    /// Changes what the rogue exports, if it may.
    fn flip(&mut self, changes: Vec<ExportChange>) -> Came {
        self.generation += 1;
        let body = Body::ExportFlip { generation: self.generation, base: self.base, staged: 0, changes };
        let mut came = self.propose(body.clone());
        while let Err(Refusal::Busy { wait_ms }) = came {
            let_pass(Duration::from_millis(u64::from(wait_ms)));
            came = self.propose(body.clone());
        }
        self.base = came.unwrap_or(self.base);
        came
    }

    fn export(&mut self, kind: &str, name: &str, value: &[u8]) -> Came {
        self.flip(vec![change(kind, name, value)])
    }

    /// An honest host changes what it exports, and all have it, and nobody has failed.
    fn goes_on(&mut self, content: &str) {
        Self::graph(&self.field, 2, content);
        let copies: Vec<_> =
            (1..=3).map(|host| self.field.scratch.path(&format!("files{host}")).join("p2-1")).collect();
        let there = || copies.iter().all(|copy| fs::read_to_string(copy).is_ok_and(|is| is == content));
        assert!(wait(PATIENCE, there).is_some(), "what others export comes no more\n{}", self.field.peers.show());
        for host in 1..=3 {
            let status = self.field.peers.get(&honest(host)).recipe.status().expect("it runs");
            assert_eq!((status["failures"].as_u64(), status["graph"]["error"].as_str()), (Some(0), None), "{status:#}");
        }
    }

    /// What a host skips of the rogue's, and why.
    fn skipped(&self, by: usize) -> BTreeMap<String, String> {
        let told = self.leader.asked(&["exports"]).expect("it answers");
        let exports = told["exports"].as_array().unwrap().iter().filter(|export| export["host"] == ROGUE);
        let why = |export: &serde_json::Value| {
            let skips = export["skipped"].as_array()?.iter().find(|skips| skips["host"] == honest(by))?;
            Some((export["name"].as_str()?.to_owned(), skips["why"].as_str()?.to_owned()))
        };
        exports.filter_map(why).collect()
    }
}

fn change(kind: &str, name: &str, value: &[u8]) -> ExportChange {
    ExportChange { kind: kind.into(), name: name.into(), value: Some(value.into()) }
}

/// A record of version 1 with these parameters.
fn record(params: &str) -> Vec<u8> {
    format!(r#"{{"v":1,"params":{params}}}"#).into_bytes()
}

#[test]
fn what_a_host_exports_carries_no_more_than_was_agreed_to() {
    needs!(&[Need::Root]);
    let mut scene = Scene::new();
    let root = scene.field.scratch.path("");
    let outside = scene.field.scratch.directory("outside");
    fs::write(outside.join("canary"), "alive").unwrap();
    for host in 2..=3 {
        symlink(&outside, root.join(format!("files{host}/way"))).unwrap();
        symlink(outside.join("canary"), root.join(format!("files{host}/link"))).unwrap();
    }
    let touch = format!(r#"{{"shell":"/bin/sh","cmd":"touch {}/ran"}}"#, outside.display());
    let files: &[(&str, &str)] = &[
        ("owner", r#"{"path":"/x/owner","content":"x","state":"exists","owner":"nobody","group":"nogroup"}"#),
        ("setuid", r#"{"path":"/x/setuid","content":"x","state":"exists","mode":"6755"}"#),
        ("words", r#"{"path":"/x/words","content":"x","state":"exists","mode":"u+s"}"#),
        ("shadow", r#"{"path":"/x/shadow","symlink":true,"source":"/etc/shadow","state":"exists"}"#),
        ("source", r#"{"path":"/x/source","source":"/etc/shadow","state":"exists"}"#),
        ("fragments", r#"{"path":"/x/fragments","fragments":["/etc/shadow"],"state":"exists"}"#),
        ("dots", r#"{"path":"/x/../../outside/dots","content":"x","state":"exists"}"#),
        ("dotdot", r#"{"path":"/x/..","content":"x","state":"exists"}"#),
        ("base", r#"{"basename":"../outside/base","dirname":"/x/","content":"x","state":"exists"}"#),
        ("dirname", r#"{"basename":"dirname","dirname":"/x/../outside/","content":"x","state":"exists"}"#),
        ("relative", r#"{"path":"../outside/relative","content":"x","state":"exists"}"#),
        ("through", r#"{"basename":"way/through","dirname":"/x/","content":"x","state":"exists"}"#),
        ("canary", r#"{"path":"/x/link","content":"dead","state":"exists"}"#),
        ("way", r#"{"path":"/x/way/","state":"exists","recurse":true,"purge":true,"force":true}"#),
        ("wipe", r#"{"path":"/x/inner/","state":"absent","recurse":true,"force":true}"#),
        ("own", r#"{"path":"/x/own","content":"stolen","state":"exists"}"#),
        ("other", r#"{"path":"/x/p2-1","content":"stolen","state":"exists"}"#),
        ("temporary", r#"{"path":"/x/.mgmt~1","content":"x","state":"exists"}"#),
        ("plain-path", r#"{"path":"/tmp/mgmt-lab-plain-path","content":"x","state":"exists"}"#),
        ("nul", "{\"path\":\"/x/nul\\u0000/../..\",\"content\":\"x\",\"state\":\"exists\"}"),
        ("meta", r#"{"path":"/x/meta","content":"x","state":"exists","meta":{"sema":["cluster/x:1"]}}"#),
        ("edges", r#"{"path":"/x/edges","content":"x","state":"exists","notify":["exec[reload]"],"hosts":["p1"]}"#),
        ("immutable", r#"{"path":"/x/immutable","content":"x","state":"exists","immutable":true}"#),
        ("number", r#"{"path":"/x/number","content":7,"state":"exists"}"#),
        ("state", r#"{"path":"/x/state","content":"x","state":"molten"}"#),
    ];
    let mut changes: Vec<_> = files.iter().map(|(name, params)| change("file", name, &record(params))).collect();
    changes.push(change("exec", "command", &record(&touch)));
    changes.push(change("timer", "timer", &record(r#"{"interval":1}"#)));
    changes.push(change("virt", "machine", &record(r#"{"cpus":1}"#)));
    changes.push(change("file", "version", br#"{"v":2,"everything":"is new"}"#));
    changes.push(change("file", "more", br#"{"v":1,"params":{"path":"/x/more"},"more":1}"#));
    changes.push(change("file", "garbage", b"\xff\xfe\x00"));
    changes.push(change("file", "empty", b""));
    changes.push(change("file", "deep", "[".repeat(100_000).as_bytes()));
    changes.push(change("file", "../../p1/file/x", &record(r#"{"path":"/x/a/b","content":"x","state":"exists"}"#)));
    changes.push(change("file", "\u{1b}[2J\nINFO forged", &record(r#"{"path":"/x/\u001b[2J","content":7}"#)));
    changes.push(change("file", "fine", &record(r#"{"path":"/x/fine","content":"fine","state":"exists"}"#)));
    let count = changes.len();
    // What cannot even be a name is refused by the store, the same way everywhere.
    let refused: Vec<_> =
        changes.into_iter().filter_map(|change| Some((change.name.clone(), scene.flip(vec![change]).err()?))).collect();
    machine::say(&format!("of {count} exports of a rogue the store refuses {refused:?}"));
    assert!(refused.len() <= 2, "a host may write anything as its own: {refused:?}");
    for host in 1..=3 {
        let fine = root.join(format!("files{host}/fine"));
        assert!(wait(PATIENCE, || fine.exists()).is_some(), "{}", scene.field.peers.show());
    }
    scene.goes_on("second\n");
    // Nothing is outside.
    let names = |of: &PathBuf| fs::read_dir(of).unwrap().map(|it| it.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(names(&outside), ["canary"]);
    assert_eq!(fs::read_to_string(outside.join("canary")).unwrap(), "alive");
    assert!(!PathBuf::from("/tmp/mgmt-lab-plain-path").exists());
    for host in 1..=3 {
        let directory = root.join(format!("files{host}"));
        assert_eq!(fs::read_to_string(directory.join("own")).unwrap(), "own");
        assert_eq!(fs::read_to_string(directory.join("p2-1")).unwrap(), "second\n");
        let mut found = vec![directory.clone()];
        while let Some(path) = found.pop() {
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                found.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
            }
            assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{}", path.display());
            let set = metadata.permissions().mode() & 0o7000;
            assert!(metadata.is_symlink() || set == 0, "{} has {set:o}", path.display());
            let ours = ["way", "link"].map(|name| directory.join(name));
            assert!(!metadata.is_symlink() || ours.contains(&path), "{}", path.display());
        }
        for name in ["shadow", "source", "fragments", "meta", "edges", "immutable", "number", "state", "more"] {
            assert!(fs::symlink_metadata(directory.join(name)).is_err(), "p{host} has taken {name}");
        }
    }
    let skipped = scene.skipped(3);
    machine::say(&format!("of the rest p3 skips {}, and says why:", skipped.len()));
    for (name, why) in &skipped {
        machine::say(&format!("  {:?}: {why:?}", name.chars().take(20).collect::<String>()));
    }
    for name in
        ["source", "shadow", "meta", "edges", "immutable", "version", "garbage", "empty", "more", "own", "command"]
    {
        assert!(skipped.contains_key(name), "{name} is not told as skipped: {skipped:#?}");
    }
    // What it says is in nobody's log as it is.
    for host in 1..=3 {
        let log = scene.field.peers.get(&honest(host)).log();
        assert!(!log.contains('\u{1b}') && !log.lines().any(|line| line.starts_with("INFO forged")), "{log}");
    }
}

#[test]
fn a_host_cannot_export_as_another_nor_fill_the_store() {
    needs!(&[Need::Root]);
    let mut scene = Scene::new();
    let theirs = |scene: &Scene| {
        let told = scene.leader.asked(&["exports"]).expect("it answers");
        let exports = told["exports"].as_array().unwrap().iter().filter(|export| export["host"] != ROGUE);
        exports.map(|export| format!("{} {}", export["host"], export["name"])).collect::<Vec<_>>()
    };
    let before = theirs(&scene);
    assert_eq!(before.len(), 3, "{before:?}");
    let forged = record(r#"{"path":"/x/forged","content":"x","state":"exists"}"#);
    // Under the id of another: what he says is compared with what he shows.
    for raft in 1..=64 as RaftId {
        let envelope = Envelope { from: raft, ..scene.own() };
        if envelope.from == scene.own().from {
            continue;
        }
        let body = Body::ExportFlip {
            generation: 1 << 41,
            base: Revision(0),
            staged: 0,
            changes: vec![change("file", "forged", &forged)],
        };
        let answer = scene.ask(&envelope, body);
        assert!(
            matches!(answer, Answer::Mismatch(_) | Answer::Unavailable { .. } | Answer::Refused { .. }),
            "{answer:?}"
        );
    }
    // By name, and past the exchange.
    for (kind, name) in [("../p1/file", "forged"), ("/p1/file", "forged"), ("p1/file", "forged"), ("", "forged")] {
        assert!(scene.export(kind, name, &forged).is_err(), "{kind}");
    }
    for key in ["x/p1/file/forged", "x/zed/file/forged", "_/exports/p1"] {
        if let Ok(key) = Key::parse(key) {
            let came = scene.propose(Body::Put { key, value: forged.as_slice().into(), lease: None });
            assert!(came.is_err(), "{came:?}");
        }
    }
    let came = scene.propose(Body::ExportForget { host: HostName::parse("p1").unwrap() });
    assert!(came.is_err(), "{came:?}");
    // As much as it may, and no more.
    let many = |from: usize| {
        (from..from + 500).map(|number| change("junk", &format!("{number}"), &[b'x'; 1_000])).collect::<Vec<_>>()
    };
    scene.flip(many(0)).unwrap();
    scene.flip(many(500)).unwrap();
    let came = scene.export("junk", "one more", b"x");
    assert!(matches!(came, Err(Refusal::QuotaExceeded(_))), "{EXPORTS_MAX} exports and one more: {came:?}");
    let big = vec![b'x'; 200_000];
    let larger = |number: usize| (0..5).map(|part| change("junk", &format!("{}", number * 5 + part), &big)).collect();
    let taken = (0..20).take_while(|number| scene.flip(larger(*number)).is_ok()).count();
    assert!((1..=8).contains(&taken), "{taken} MB were taken");
    let body = || Body::Put { key: Key::parse("k/lab/x").unwrap(), value: (&b"x"[..]).into(), lease: None };
    let came: Vec<Came> = (0..400).map(|_| scene.propose(body())).collect();
    let busy = came.iter().filter(|came| matches!(came, Err(Refusal::Busy { .. }))).count();
    assert!(came.iter().all(Result::is_err), "it may not write that");
    machine::say(&format!(
        "a rogue: 1,000 exports and {taken} MB taken, then refused; {busy} of 400 proposals too many"
    ));
    assert_eq!(theirs(&scene), before, "somebody else exports something else");
    scene.goes_on("meanwhile\n");
}
