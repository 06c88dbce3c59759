//! The files of a host, and the kind `file` on them: small, whole or nothing, and honest about what it removes. They
//! outlive the process, as files do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use mgmt_engine::resource::{Applied, Check, Drift, Fault, Look, Resource, Signal, Watch, Work};
use mgmt_resources::kind::{Anchor, Built, Context, Facets, Field, Params, Problem, Shape, normal};
use mgmt_resources::watches::Watches;
use mgmt_resources::{Host, HostRef, KindInfo};

use super::ledger::Ledger;

/// The kinds of a simulated host.
pub(crate) static KINDS: &[&KindInfo] = &[&FILE];

const fn field(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, default: "", doc: "" }
}

static FILE: KindInfo = KindInfo {
    name: "file",
    summary: "",
    notes: "",
    example: "",
    fields: &[
        field("path", Shape::Path),
        field("content", Shape::Text),
        field("state", Shape::Choice(&["exists", "absent"])),
        field("mode", Shape::Text),
        field("recurse", Shape::Bool),
        field("purge", Shape::Bool),
    ],
    build,
};

/// The files of one host. Copies are the same files.
#[derive(Clone)]
pub(crate) struct Files(Arc<Inner>);

struct Inner {
    number: usize,
    ledger: Arc<Ledger>,
    /// Held for one operation.
    tree: Mutex<Tree>,
}

#[derive(Default)]
struct Tree {
    files: BTreeMap<PathBuf, String>,
    watches: BTreeMap<u64, (PathBuf, Signal)>,
    watched: u64,
}

/// One for all: nothing of the real machine is watched.
fn watches() -> Watches {
    static WATCHES: OnceLock<Watches> = OnceLock::new();
    WATCHES.get_or_init(|| Watches::start().expect("there is an inotify instance left")).clone()
}

impl Files {
    pub(crate) fn new(number: usize, ledger: Arc<Ledger>) -> Self {
        Self(Arc::new(Inner { number, ledger, tree: Mutex::default() }))
    }

    /// This host, as its resources see it.
    pub(crate) fn host(&self) -> Arc<Host> {
        Arc::new(Host { lent: mgmt_resources::Lent::default().with(self.clone()), ..Host::with(watches()) })
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.tree.lock().expect("held for a moment only")
    }

    /// All there are.
    pub(crate) fn all(&self) -> BTreeMap<PathBuf, String> {
        self.tree().files.clone()
    }

    /// Writes one, or removes it, whoever does it.
    pub(crate) fn put(&self, path: &Path, content: Option<&str>) {
        let mut tree = self.tree();
        let before = match content {
            Some(content) => tree.files.insert(path.to_owned(), content.to_owned()),
            None => tree.files.remove(path),
        };
        if before.as_deref() == content {
            return;
        }
        let concerned = tree.watches.values().filter(|(watched, _)| path.starts_with(watched));
        let signals: Vec<Signal> = concerned.map(|(_, signal)| signal.clone()).collect();
        drop(tree);
        signals.iter().for_each(Signal::raise);
    }

    fn watch(&self, path: &Path, signal: &Signal) -> Watch {
        let mut tree = self.tree();
        tree.watched += 1;
        let number = tree.watched;
        tree.watches.insert(number, (path.to_owned(), signal.clone()));
        Watch::Held(Box::new(Guard(self.clone(), number)))
    }

    /// What lies below a directory and is not managed.
    fn extra(&self, directory: &Path, managed: &BTreeSet<PathBuf>) -> Vec<(PathBuf, String)> {
        let tree = self.tree();
        let below = tree.files.iter().filter(|(path, _)| path.starts_with(directory) && !managed.contains(*path));
        below.map(|(path, content)| (path.clone(), content.clone())).collect()
    }
}

/// Ends a watch when it is dropped.
struct Guard(Files, u64);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.tree().watches.remove(&self.1);
    }
}

/// A file, or a directory that may purge.
#[derive(Debug, PartialEq)]
struct File {
    host: HostRef,
    path: PathBuf,
    content: Option<String>,
    absent: bool,
    purge: bool,
    managed: Arc<BTreeSet<PathBuf>>,
}

/// What is wrong, in words.
#[derive(Debug)]
struct Wrong(String);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Drift for Wrong {}

impl File {
    fn files(&self) -> &Files {
        self.host.lent.get().expect("every simulated host has files")
    }

    fn wrong(&self) -> Option<String> {
        let files = self.files();
        if self.purge {
            let extra = files.extra(&self.path, &self.managed);
            return (!extra.is_empty()).then(|| format!("{} that nobody manages", extra.len()));
        }
        let now = files.tree().files.get(&self.path).cloned();
        match (&self.content, self.absent) {
            (_, true) => now.map(|_| "it is there".to_owned()),
            (Some(content), false) => (now.as_ref() != Some(content)).then(|| format!("it is {now:?}")),
            (None, false) => None,
        }
    }
}

impl Resource for File {
    type Drift = Wrong;

    fn watch(&self, signal: &Signal) -> Result<Watch, Fault> {
        Ok(self.files().watch(&self.path, signal))
    }

    async fn check(&self, _: &Look) -> Result<Check<Wrong>, Fault> {
        Ok(self.wrong().map_or(Check::Converged, |wrong| Check::Drifted(Wrong(wrong))))
    }

    async fn apply(&self, _: Wrong, _: &Work) -> Result<Applied, Fault> {
        let files = self.files();
        if self.purge {
            for (path, content) in files.extra(&self.path, &self.managed) {
                files.0.ledger.removed(files.0.number, &path, &content);
                files.put(&path, None);
            }
        } else {
            let content = self.content.as_deref().filter(|_| !self.absent);
            files.0.ledger.say(files.0.number, format_args!("makes {}: {content:?}", self.path.display()));
            files.put(&self.path, content);
        }
        Ok(Applied::changed("done"))
    }
}

fn build(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let Some(path) = params.filled("path") else { return Err(vec![Problem::new("path", "is missing")]) };
    let path = normal(Path::new(&path));
    let purge = params.bool("purge").unwrap_or_default();
    let resource = File {
        host: HostRef(context.host.clone()),
        path: path.clone(),
        content: params.text("content"),
        absent: params.text("state").is_some_and(|state| state == "absent"),
        purge,
        managed: context.managed.clone(),
    };
    let facets = Facets {
        owns: Some(path.clone()),
        purges: purge.then(|| path.clone()),
        fills: None,
        provides: vec![Anchor::Path(path.clone())],
        wants: vec![Anchor::Parent(path)],
        shared: false,
        claims: None,
        ships: None,
    };
    Ok(Built { resource: Arc::new(resource), facets, warnings: Vec::new() })
}
