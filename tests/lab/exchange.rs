//! Hosts of their own that export files and collect everybody's: the story to the letter, and what may happen to it.
//!
//! Each host has a directory with two files of its own, and with what all of them export.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::machine;
use crate::mesh::peer::{Peer, Recipe};
use crate::mesh::{PATIENCE, wait};
use crate::meshes::Field;
use crate::netns::NETWORK;

/// What each host makes for itself, and what it exports.
pub(crate) const EACH: usize = 2;

/// What one host's graph file has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Graph {
    /// What it exports: the rest of its parameters by name.
    pub(crate) exports: BTreeMap<String, String>,
    /// Whether its directory is purged.
    pub(crate) purge: bool,
    /// More of its `collect` item.
    pub(crate) collects: String,
    /// More of the file.
    pub(crate) more: String,
}

impl Graph {
    /// Exports a file with these contents from now on.
    pub(crate) fn export(&mut self, name: &str, content: &str) {
        self.exports.insert(name.to_owned(), format!("state: exists, content: {content:?}"));
    }
}

/// Hosts that exchange files.
pub(crate) struct Exchange {
    pub(crate) field: Field,
    pub(crate) graphs: BTreeMap<usize, Graph>,
    /// Who has founded the mesh, and what lets others in.
    founder: Option<(usize, String)>,
}

/// The name of what a host exports.
pub(crate) fn name(host: usize, number: usize) -> String {
    format!("p{host}-{number}")
}

impl Exchange {
    /// So many hosts, none of which runs; of all it is known what they export.
    pub(crate) fn new(hosts: usize) -> Self {
        Self::on(Field::hosts(hosts), hosts)
    }

    pub(crate) fn on(field: Field, hosts: usize) -> Self {
        let mut exchange = Self { field, graphs: BTreeMap::new(), founder: None };
        for host in 1..=hosts {
            let mut graph = Graph::default();
            for number in 1..=EACH {
                graph.export(&name(host, number), "first\n");
            }
            exchange.graphs.insert(host, graph);
            fs::create_dir(exchange.directory(host)).unwrap();
            exchange.write(host);
        }
        exchange
    }

    pub(crate) fn directory(&self, host: usize) -> PathBuf {
        self.field.scratch.path(&format!("files{host}"))
    }

    fn file(&self, host: usize) -> String {
        format!("p{host}.yaml")
    }

    /// Puts a host's graph file in place.
    pub(crate) fn write(&self, host: usize) {
        let (graph, directory) = (&self.graphs[&host], self.directory(host));
        let directory = directory.display();
        let mut text = format!("graph: p{host}\nresources:\n  file:\n");
        for number in 1..=EACH {
            let own = format!("{directory}/own{number}");
            writeln!(text, "  - {{name: own{number}, path: {own}, content: own, state: exists}}").unwrap();
        }
        if graph.purge {
            writeln!(text, "  - {{name: all, path: {directory}/, state: exists, recurse: true, purge: true}}").unwrap();
        }
        for (name, rest) in &graph.exports {
            writeln!(text, "  - {{name: '@@{name}', path: /exported/{name}, {rest}}}").unwrap();
        }
        write!(text, "{}collect:\n- {{kind: file, pattern: {directory}/{}}}\n", graph.more, graph.collects).unwrap();
        self.field.scratch.graph_named(&self.file(host), &text);
    }

    /// A host exports this from now on.
    pub(crate) fn export(&mut self, host: usize, number: usize, content: &str) {
        self.graphs.get_mut(&host).unwrap().export(&name(host, number), content);
        self.write(host);
    }

    /// A host does not export this any more.
    pub(crate) fn withdraw(&mut self, host: usize, number: usize) {
        self.graphs.get_mut(&host).unwrap().exports.remove(&name(host, number));
        self.write(host);
    }

    /// Purges all directories.
    pub(crate) fn purge(mut self) -> Self {
        self.graphs.values_mut().for_each(|graph| graph.purge = true);
        self.graphs.keys().for_each(|host| self.write(*host));
        self
    }

    fn recipe(&self, host: usize) -> Recipe {
        let mut recipe = self.field.remote(host);
        recipe.args[0] = self.field.scratch.path(&self.file(host)).to_str().unwrap().to_owned();
        recipe.with(&["--listen", &self.field.listen(host)])
    }

    /// Starts a host: the first founds the mesh, the others join it.
    pub(crate) fn start(&mut self, host: usize, options: &[&str]) {
        let mut recipe = self.recipe(host).with(options);
        if let Some((founder, token)) = &self.founder {
            recipe = recipe.with(&["--seeds", &self.field.listen(*founder), "--token", token]);
        }
        self.field.peers.start(recipe);
        if self.founder.is_none() {
            self.field.peers.until_formed(1, 0);
            let token = self.field.token(&["--role", "master", "--uses", "100"]);
            self.founder = Some((host, token));
        }
    }

    /// Starts all at once: they found the mesh together.
    pub(crate) fn start_together(&mut self, options: impl Fn(usize) -> &'static [&'static str]) {
        let hosts: Vec<usize> = self.graphs.keys().copied().collect();
        let secret = self.field.scratch.path("secret");
        fs::write(&secret, "what all were given to found a mesh together\n").unwrap();
        let seeds: Vec<_> = hosts.iter().map(|host| self.field.listen(*host)).collect();
        for host in &hosts {
            let recipe = self.recipe(*host).with(options(*host)).with(&["--seeds", &seeds.join(",")]);
            let recipe = recipe.with(&["--expect", &hosts.len().to_string()]);
            self.field.peers.start(recipe.with(&["--token-file", secret.to_str().unwrap()]));
        }
    }

    /// A mesh of all hosts, with so many masters, that has exchanged everything.
    pub(crate) fn whole(hosts: usize, masters: usize) -> Self {
        let mut exchange = Self::new(hosts).purge();
        (1..=hosts).for_each(|host| exchange.start(host, &[]));
        exchange.field.peers.until_formed(masters, hosts - masters);
        exchange.until_all("everything is exchanged");
        exchange
    }

    pub(crate) fn peer(&mut self, host: usize) -> &mut Peer {
        self.field.peers.get(&format!("p{host}"))
    }

    pub(crate) fn status(&self, host: usize) -> Option<Value> {
        self.field.peers.0[&format!("p{host}")].recipe.status()
    }

    /// What a host says of this, as a number.
    #[track_caller]
    pub(crate) fn figure(&self, host: usize, of: &str) -> u64 {
        let mut status = None;
        let answers = wait(PATIENCE, || {
            status = self.status(host);
            status.is_some()
        });
        assert!(answers.is_some(), "p{host} does not answer");
        let status = status.expect("it has answered");
        status.pointer(of).and_then(Value::as_u64).unwrap_or_else(|| panic!("p{host} has no {of}: {status:#}"))
    }

    /// What lies in a host's directory: contents by name.
    pub(crate) fn files(&self, host: usize) -> BTreeMap<String, String> {
        contents(&self.directory(host))
    }

    /// What is to lie there, if these hosts export what they are to.
    pub(crate) fn wanted(&self, exporters: &[usize]) -> BTreeMap<String, String> {
        let own = (1..=EACH).map(|number| (format!("own{number}"), "own".to_owned()));
        let exports = exporters.iter().flat_map(|host| &self.graphs[host].exports);
        let exports = exports.filter_map(|(name, rest)| {
            let content = match (rest.split_once("content: "), rest.split_once("source: ")) {
                (Some((_, content)), _) => serde_json::from_str(content).unwrap(),
                (None, Some((_, source))) => fs::read_to_string(source).unwrap(),
                (None, None) => return None,
            };
            Some((name.clone(), content))
        });
        own.chain(exports).collect()
    }

    /// Waits until these hosts have exactly what these export, and says how long that took.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, collectors: &[usize], exporters: &[usize]) -> Duration {
        let wanted = self.wanted(exporters);
        let start = Instant::now();
        let there = wait(PATIENCE, || collectors.iter().all(|host| self.files(*host) == wanted));
        if there.is_none() {
            let files: Vec<_> = collectors.iter().map(|host| self.files(*host)).collect();
            panic!("in vain: {what}: {files:#?} are not all {wanted:#?}\n{}", self.field.peers.show());
        }
        start.elapsed()
    }

    #[track_caller]
    pub(crate) fn until_all(&mut self, what: &str) -> Duration {
        let all: Vec<usize> = self.graphs.keys().copied().collect();
        self.until(what, &all, &all)
    }

    #[track_caller]
    pub(crate) fn until_said(&mut self, host: usize, text: &str) {
        let peer = self.peer(host);
        let said = wait(PATIENCE, || peer.log().contains(text));
        assert!(said.is_some(), "'{text}' was not said:\n{}", peer.tail());
    }

    /// How many files there are in all directories.
    fn count(&self) -> usize {
        self.graphs.keys().map(|host| self.files(*host).len()).sum()
    }

    /// That a host with an end comes to it when it should.
    fn ends_in_time(&mut self, host: usize, since: Instant) {
        assert_eq!(self.peer(host).ended(), 0, "{}", self.peer(host).tail());
        let took = since.elapsed().as_secs_f64();
        machine::say(&format!("p{host} with --converged-timeout=5 ends after {took:.2} s"));
        assert!((5.0..8.0).contains(&took), "{}", self.peer(host).tail());
    }
}

/// Contents by name.
pub(crate) fn contents(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    // What is being written has no name that lasts.
    let entries = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with(".mgmt~"));
    let text = |path: PathBuf| fs::read_to_string(path).ok();
    entries.filter_map(|entry| Some((entry.file_name().into_string().unwrap(), text(entry.path())?))).collect()
}

/// Does something while these files are looked at all the time; none of them may be away, however short.
#[track_caller]
pub(crate) fn nothing_goes<T>(files: &[PathBuf], act: impl FnOnce() -> T) -> T {
    let (stop, looks) = (AtomicBool::new(false), std::sync::atomic::AtomicUsize::new(0));
    let look = || {
        while !stop.load(Ordering::Acquire) {
            if let Some(gone) = files.iter().find(|file| fs::symlink_metadata(file).is_err()) {
                return Some(gone.clone());
            }
            looks.fetch_add(1, Ordering::Relaxed);
            crate::mesh::let_pass(Duration::from_millis(2));
        }
        None
    };
    std::thread::scope(|scope| {
        let looking = scope.spawn(look);
        // Ended also if what is done panics: the scope waits for it.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        stop.store(true, Ordering::Release);
        let gone = looking.join().unwrap();
        assert_eq!(gone, None, "it was removed");
        match done {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[test]
fn the_story_in_three_namespaces_in_both_orders() {
    needs!(NETWORK);
    for [first, second, third] in [[1, 2, 3], [3, 2, 1]] {
        let mut exchange = Exchange::new(3);
        exchange.start(first, &[]);
        exchange.until("the first has its own", &[first], &[first]);
        assert_eq!(exchange.count(), 4);
        exchange.start(second, &[]);
        exchange.until("two have each other's", &[first, second], &[first, second]);
        assert_eq!(exchange.count(), 12);
        let start = Instant::now();
        exchange.start(third, &["--converged-timeout=5"]);
        let took = exchange.until_all("three have each other's");
        machine::say(&format!("p{third} third: 24 files {:.0} ms after its start", took.as_secs_f64() * 1e3));
        exchange.ends_in_time(third, start);
        exchange.until_all("what a host has exported outlives its run");
        assert_eq!(exchange.count(), 24);
    }
}

#[test]
fn the_story_with_all_at_once() {
    needs!(NETWORK);
    let mut exchange = Exchange::new(3);
    let start = Instant::now();
    exchange.start_together(|host| if host == 3 { &["--converged-timeout=5"] } else { &[] });
    exchange.until_all("three have each other's");
    machine::say(&format!("three at once: 24 files after {:.0} ms", start.elapsed().as_secs_f64() * 1e3));
    exchange.ends_in_time(3, start);
    exchange.until_all("what a host has exported outlives its run");
    assert_eq!(exchange.count(), 24);
}

#[test]
fn exports_change_and_go_while_all_run_and_one_is_killed() {
    needs!(NETWORK);
    let mut exchange = Exchange::new(3);
    (1..=3).for_each(|host| exchange.start(host, &[]));
    exchange.until_all("everything is exchanged");
    // One changes while all run.
    exchange.export(1, 1, "second\n");
    let took = exchange.until_all("copies follow");
    machine::say(&format!("an edit of the exporter's graph is in all copies after {:.0} ms", took.as_secs_f64() * 1e3));
    // One is killed in the middle, and finds what has become of it.
    exchange.peer(2).kill();
    exchange.export(1, 1, "third\n");
    exchange.export(3, 2, "third\n");
    exchange.until("the others go on", &[1, 3], &[1, 2, 3]);
    exchange.export(2, 1, "edited while it was away\n");
    exchange.peer(2).restart();
    exchange.until_all("it comes back");
    // What is withdrawn stays where it is not purged.
    exchange.graphs.get_mut(&2).unwrap().purge = true;
    exchange.write(2);
    exchange.until_said(2, "graph replaced");
    exchange.withdraw(3, 1);
    exchange.until("it goes where it is purged", &[2], &[1, 2, 3]);
    for host in [1, 3] {
        if host != 3 {
            exchange.until_said(host, "file[p3-1@p3]: p3 exports it no more: not managed here any more");
        }
        let left = exchange.directory(host).join("p3-1");
        fs::write(&left, "nobody's now\n").unwrap();
        exchange.export(1, 2, &format!("changed for p{host}\n"));
        let (files, content) = (exchange.directory(host), format!("changed for p{host}\n"));
        let follows = wait(PATIENCE, || fs::read_to_string(files.join("p1-2")).is_ok_and(|is| is == content));
        assert!(follows.is_some(), "{}", exchange.peer(host).tail());
        assert_eq!(fs::read_to_string(&left).unwrap(), "nobody's now\n");
        fs::remove_file(left).unwrap();
    }
    exchange.until_all("all but that");
    // Only `state: absent` takes it away everywhere.
    exchange.graphs.get_mut(&1).unwrap().exports.insert(name(1, 1), "state: absent".to_owned());
    exchange.write(1);
    exchange.until_all("it goes everywhere");
    for host in 1..=3 {
        assert_eq!(exchange.figure(host, "/failures"), 0, "{}", exchange.peer(host).tail());
    }
}
