//! A random host and a random graph for it.

use std::fmt;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::chance::Chance;

/// Where resources may be, below `t`; parents before children.
const PATHS: [&str; 12] = ["a", "b", "c", "d", "a/x", "a/y", "b/x", "b/y", "c/x", "a/x/p", "a/x/q", "b/x/p"];
const CONTENTS: [&str; 4] = ["", "one\n", "two\n", "\u{1}\0\u{7f}binary"];
const FILE_MODES: [u32; 4] = [0o644, 0o600, 0o755, 0o444];
const DIRECTORY_MODES: [u32; 4] = [0o755, 0o700, 0o755, 0o555];
const MODES: [&str; 8] = ["0644", "600", "0755", "0741", "u+x,go-w", "a=rX", "u=rwx,g=rx,o=", "02755"];
/// Files and directories that no resource manages.
const OUTSIDE: [&str; 7] = ["ext/one", "ext/two", "ext/missing", "ext/dir", "ext/empty", "ext/frag", "ext/dangling"];
const NAMES_MAX: usize = 8;

/// What stands at a path before anything runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Nothing,
    File { content: &'static str, mode: u32 },
    Directory { mode: u32 },
    Link { target: &'static str },
    Pipe,
}

/// One pair.
pub(crate) struct Pair {
    pub(crate) host: Vec<(&'static str, Standing)>,
    pub(crate) graph: Value,
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, standing) in self.host.iter().filter(|(_, standing)| *standing != Standing::Nothing) {
            writeln!(f, "  t/{path}: {standing:x?}")?;
        }
        for (kind, resources) in self.graph["resources"].as_object().unwrap() {
            for resource in resources.as_array().unwrap() {
                writeln!(f, "  {kind} {resource}")?;
            }
        }
        for edge in self.graph["edges"].as_array().unwrap() {
            let end = |end: &str| format!("{}[{}]", edge[end]["kind"], edge[end]["name"]).replace('"', "");
            writeln!(f, "  {} -> {} notify {}", end("from"), end("to"), edge["notify"])?;
        }
        Ok(())
    }
}

/// What lies outside of what is managed.
pub(crate) fn make_outside(root: &Path) {
    let ext = root.join("ext");
    for directory in ["t", "e/made", "ext/dir/sub", "ext/empty", "ext/frag", "ext/linked"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::write(ext.join("one"), "one\n").unwrap();
    fs::write(ext.join("two"), "two\n").unwrap();
    fs::write(ext.join("dir/x"), "one\n").unwrap();
    fs::write(ext.join("dir/sub/g"), "two\n").unwrap();
    symlink("x", ext.join("dir/l")).unwrap();
    fs::write(ext.join("frag/1"), "one\n").unwrap();
    fs::write(ext.join("frag/2"), "two\n").unwrap();
    symlink("nowhere", ext.join("dangling")).unwrap();
    fs::write(root.join("e/made/out"), "").unwrap();
}

/// Makes the host as the pair has it.
pub(crate) fn make_host(root: &Path, host: &[(&'static str, Standing)]) {
    for (path, standing) in host {
        let path = root.join("t").join(path);
        match standing {
            Standing::Nothing => {}
            Standing::File { content, mode } => {
                fs::write(&path, content).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            }
            Standing::Directory { .. } => fs::create_dir(&path).unwrap(),
            Standing::Link { target } => symlink(target, &path).unwrap(),
            Standing::Pipe => {
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    &path,
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::from_raw_mode(0o644),
                    0,
                )
                .unwrap();
            }
        }
    }
    // Modes of directories last: an ordinary user could not make members otherwise.
    for (path, standing) in host.iter().rev() {
        if let Standing::Directory { mode } = standing {
            fs::set_permissions(root.join("t").join(path), fs::Permissions::from_mode(*mode)).unwrap();
        }
    }
}

pub(crate) fn pair(chance: &mut Chance, root: &Path) -> Pair {
    let host = host(chance);
    let mut generator = Generator { chance, root, host: &host, ids: Vec::new(), edges: Vec::new() };
    let graph = generator.graph();
    Pair { host, graph }
}

fn at(root: &Path, path: &str) -> String {
    root.join(path).to_str().unwrap().to_owned()
}

fn host(chance: &mut Chance) -> Vec<(&'static str, Standing)> {
    let mut host: Vec<(&'static str, Standing)> = Vec::new();
    for path in PATHS {
        let parent = path.rsplit_once('/').map(|(parent, _)| parent);
        let is_directory = |parent| host.iter().any(|(p, s)| *p == parent && matches!(s, Standing::Directory { .. }));
        let leaf = !PATHS.iter().any(|other| other.starts_with(&format!("{path}/")));
        let standing = match chance.below(100) {
            _ if parent.is_some_and(|parent| !is_directory(parent)) => Standing::Nothing,
            0..30 => Standing::Nothing,
            30..65 if !leaf => Standing::Directory { mode: chance.pick(&DIRECTORY_MODES) },
            65..75 => Standing::Directory { mode: chance.pick(&DIRECTORY_MODES) },
            75..83 => Standing::Link {
                target: if path == "b" { "../ext/linked" } else { chance.pick(&["nowhere", "../ext/one"]) },
            },
            83..86 => Standing::Pipe,
            _ => Standing::File { content: chance.pick(&CONTENTS), mode: chance.pick(&FILE_MODES) },
        };
        host.push((path, standing));
    }
    host
}

struct Generator<'a> {
    chance: &'a mut Chance,
    root: &'a Path,
    host: &'a [(&'static str, Standing)],
    /// Kind and name, in an order that edges follow.
    ids: Vec<(&'static str, String)>,
    edges: Vec<Value>,
}

impl Generator<'_> {
    fn graph(&mut self) -> Value {
        let (mut files, mut execs, mut others) = (Vec::new(), Vec::new(), Vec::new());
        let count = 1 + self.chance.below(NAMES_MAX);
        let mut paths: Vec<_> = (0..count).map(|_| self.chance.pick(&PATHS)).collect();
        // Not sorted: names and numbers of vertices must not decide what comes first.
        let mut seen = std::collections::BTreeSet::new();
        paths.retain(|path| seen.insert(*path));
        for path in &paths {
            let resource = self.file(path, &paths);
            self.ids.push(("file", (*path).to_owned()));
            files.push(self.named(path, resource));
        }
        for number in 0..self.chance.pick(&[0, 0, 0, 1, 1, 2]) {
            let name = format!("e{number}");
            let resource = self.exec(&name, &paths);
            self.ids.push(("exec", name.clone()));
            execs.push(self.named(&name, resource));
        }
        for (kind, extra) in
            [("noop", json!({})), ("msg", json!({"body": "said"})), ("timer", json!({"interval": 3600}))]
        {
            if self.chance.percent(15) {
                let Value::Object(resource) = extra else { unreachable!("written as an object") };
                self.ids.push((kind, kind.to_owned()));
                others.push((kind, self.named(kind, resource)));
            }
        }
        let mut order: Vec<usize> = (0..self.ids.len()).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, self.chance.below(at + 1));
        }
        for at in 1..order.len() {
            if self.chance.percent(30) {
                let from = order[self.chance.below(at)];
                let notify = self.chance.percent(50);
                self.edge(from, order[at], notify);
            }
        }
        let mut resources = Map::new();
        resources.insert("file".into(), json!(files));
        resources.insert("exec".into(), json!(execs));
        for (kind, resource) in others {
            resources.insert(kind.into(), json!([resource]));
        }
        json!({ "graph": "random", "resources": resources, "edges": self.edges })
    }

    fn edge(&mut self, from: usize, to: usize, notify: bool) {
        let end = |number: usize| json!({ "kind": self.ids[number].0, "name": self.ids[number].1 });
        let edge = json!({ "name": self.edges.len().to_string(), "from": end(from), "to": end(to), "notify": notify });
        self.edges.push(edge);
    }

    fn named(&mut self, name: &str, mut resource: Map<String, Value>) -> Value {
        resource.insert("name".into(), json!(name));
        if self.chance.percent(8) {
            resource.insert("meta".into(), json!({ "noop": true }));
        }
        Value::Object(resource)
    }

    fn file(&mut self, path: &str, managed: &[&str]) -> Map<String, Value> {
        let standing = self.host.iter().find(|(p, _)| *p == path).map(|(_, standing)| *standing).unwrap();
        // Half of them fit what stands, more or less.
        let shape = match standing {
            Standing::Nothing if self.chance.percent(25) => 40,
            Standing::Directory { .. } if self.chance.percent(60) => 0,
            Standing::Link { .. } if self.chance.percent(50) => 60,
            Standing::File { .. } if self.chance.percent(60) => 99,
            _ => self.chance.below(100),
        };
        let mut file = Map::new();
        let mut set = |key: &str, value: Value| drop(file.insert(key.to_owned(), value));
        let place = at(self.root, &format!("t/{path}"));
        set("path", json!(place));
        match shape {
            0..30 => {
                set("path", json!(format!("{place}/")));
                let recurse = self.chance.percent(45);
                set("recurse", json!(recurse));
                set("purge", json!(recurse && self.chance.percent(40)));
                set("force", json!(self.chance.percent(25)));
                if recurse && self.chance.percent(40) {
                    let source = match self.chance.below(10) {
                        0 => at(self.root, "ext/missing/"),
                        1 => at(self.root, &format!("t/{}/", self.chance.pick(managed))),
                        2 => at(self.root, "ext/empty/"),
                        _ => at(self.root, "ext/dir/"),
                    };
                    set("source", json!(source));
                }
            }
            30..45 => {
                let slash = if self.chance.percent(40) { "/" } else { "" };
                set("path", json!(format!("{place}{slash}")));
                set("recurse", json!(self.chance.percent(50)));
                set("force", json!(self.chance.percent(50)));
            }
            45..62 => {
                let target = match standing {
                    Standing::Link { target } if self.chance.percent(70) => target,
                    _ => self.chance.pick(&["nowhere", "../ext/two"]),
                };
                // The text of a link is relative to nothing.
                set("symlink", json!(true));
                set("source", json!(at(self.root, target)));
                set("force", json!(self.chance.percent(25)));
            }
            _ => {
                let content = match standing {
                    Standing::File { content, .. } if self.chance.percent(60) => content,
                    _ => self.chance.pick(&CONTENTS),
                };
                match self.chance.below(100) {
                    0..55 => set("content", json!(content)),
                    55..72 => set("source", json!(self.source(managed))),
                    72..85 => {
                        let parts: Vec<_> = (0..1 + self.chance.below(3)).map(|_| self.source(managed)).collect();
                        set("fragments", json!(parts));
                    }
                    _ => {}
                }
                set("force", json!(self.chance.percent(20)));
            }
        }
        if (30..45).contains(&shape) {
            set("state", json!("absent"));
        } else if self.chance.percent(85) {
            set("state", json!("exists"));
        }
        if self.chance.percent(30) {
            let like = match standing {
                Standing::File { mode, .. } | Standing::Directory { mode } => format!("{mode:04o}"),
                _ => "0644".into(),
            };
            let mode = if self.chance.percent(40) { like } else { self.chance.pick(&MODES).to_owned() };
            set("mode", json!(mode));
        }
        let own = (rustix::process::getuid().as_raw().to_string(), rustix::process::getgid().as_raw().to_string());
        if self.chance.percent(15) {
            set("owner", json!(self.chance.pick(&[own.0.as_str(), "root", "daemon", "12345", "no-such-user"])));
        }
        if self.chance.percent(10) {
            set("group", json!(self.chance.pick(&[own.1.as_str(), "root", "daemon", "12345", "no-such-group"])));
        }
        // Syncs cost more than all the rest, and change no answer.
        set("durable", json!(self.chance.percent(3)));
        file
    }

    fn source(&mut self, managed: &[&str]) -> String {
        match self.chance.percent(30) {
            true => at(self.root, &format!("t/{}", self.chance.pick(managed))),
            false => at(self.root, self.chance.pick(&OUTSIDE)),
        }
    }

    fn exec(&mut self, name: &str, managed: &[&str]) -> Map<String, Value> {
        let mut exec = Map::new();
        let own = at(self.root, &format!("e/{name}"));
        let mut set = |key: &str, value: Value| drop(exec.insert(key.to_owned(), value));
        match self.chance.below(10) {
            0..4 => set("cmd", json!("true")),
            4..7 => {
                set("cmd", json!(format!("mkdir -p {own} && echo done > {own}/out")));
                set("shell", json!("sh -e"));
            }
            7 => set("cmd", json!("no-such-program-anywhere")),
            8 => set("cmd", json!(at(self.root, "ext/one"))),
            _ => set("cmd", json!("echo said")),
        }
        match self.chance.below(12) {
            0 => set("creates", json!(at(self.root, "e/made/out"))),
            1 => set("creates", json!(format!("{own}/out"))),
            2 => set("ifcmd", json!("true")),
            3 => set("ifcmd", json!("false")),
            4 => set("nifcmd", json!(format!("test -e {}", at(self.root, "ext/one")))),
            5 => {
                set("nifcmd", json!(format!("test -e {own}/out")));
                set("ifshell", json!("sh"));
            }
            6 => set("ifcmd", json!("no-such-guard-anywhere")),
            7 => set("ifcmd", json!("kill -9 $$")),
            _ => {}
        }
        if exec.get("ifcmd").is_some_and(|command| command == "kill -9 $$") {
            exec.insert("ifshell".into(), json!("sh"));
        }
        let mut set = |key: &str, value: Value| drop(exec.insert(key.to_owned(), value));
        set("refreshonly", json!(self.chance.percent(30)));
        match self.chance.below(10) {
            0 => set("cwd", json!(at(self.root, "ext/dir"))),
            1 => set("cwd", json!(at(self.root, "ext/one"))),
            2 => set("cwd", json!(at(self.root, &format!("t/{}", self.chance.pick(managed))))),
            _ => {}
        }
        if self.chance.percent(8) {
            set("user", json!("no-such-user"));
        }
        if self.chance.percent(10) {
            set("mtimes", json!([at(self.root, "ext/one")]));
        }
        if self.chance.percent(10) {
            set("watchfiles", json!([at(self.root, "ext/two")]));
        }
        if self.chance.percent(10) {
            set("donecmd", json!("true"));
        }
        exec
    }
}
