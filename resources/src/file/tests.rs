//! What the kind promises, one sentence at a time, on a real file system.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll, Waker};

use mgmt_engine::erased::{AnyResource, Fix};
use mgmt_engine::resource::{
    Applied, Cause, Change, Check, Look, Promise, Promises, Purpose, Signal, Sink, Ticket, Watch, Work,
};

use super::INFO;
use crate::host::Host;
use crate::kind::{Anchor, Built, Context, Facets, Params, Problem, Shape, Value};

mod confined;
mod directories;
mod durability;
mod files;
mod links;
mod never;
mod ownership;
mod parameters;
mod plans;
mod races;
mod strays;
mod trees;

/// A scratch directory, and a host whose protected paths a test chooses.
struct Bench {
    root: tempfile::TempDir,
    protected: Vec<PathBuf>,
    managed: BTreeSet<PathBuf>,
    trees: BTreeSet<PathBuf>,
    first_dialect: bool,
    /// The directory that confines every path, relative to the scratch directory.
    beneath: Option<&'static str>,
}

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self {
            root,
            protected: Vec::new(),
            managed: BTreeSet::new(),
            trees: BTreeSet::new(),
            first_dialect: false,
            beneath: None,
        }
    }

    /// A path below the scratch directory; a slash at the end is kept.
    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn mode(&self, name: &str) -> u32 {
        fs::symlink_metadata(self.path(name)).unwrap().mode() & 0o7777
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn exists(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path(name)).is_ok()
    }

    /// Builds a resource from `key: value` pairs; paths are relative to the scratch directory.
    fn built(&self, pairs: &[(&'static str, &str)]) -> Result<Built, Vec<Problem>> {
        let mut params = Params::default();
        for (name, value) in pairs {
            let field = INFO.fields.iter().find(|field| field.name == *name).unwrap();
            let path = |text: &str| if text.starts_with('/') { text.to_owned() } else { self.text(text) };
            params.set(
                field.name,
                match field.shape {
                    Shape::Path => Value::Text(path(value)),
                    Shape::Bool => Value::Bool(*value == "true"),
                    Shape::Paths => Value::Texts(value.split(' ').map(path).collect()),
                    _ => Value::Text((*value).to_owned()),
                },
            );
        }
        self.build(params)
    }

    fn build(&self, mut params: Params) -> Result<Built, Vec<Problem>> {
        let host =
            Arc::new(Host { protected: self.protected.clone(), ..Host::with(crate::watches::Watches::shared()) });
        let (managed, trees) = (Arc::new(self.managed.clone()), Arc::new(self.trees.clone()));
        let beneath = self.beneath.map(|name| self.path(name));
        let context = Context {
            first_dialect: self.first_dialect,
            managed: &managed,
            trees: &trees,
            beneath: beneath.as_deref(),
            ..Context::of(&host, "x")
        };
        (INFO.build)(&mut params, &context)
    }

    fn resource(&self, pairs: &[(&'static str, &str)]) -> AnyResource {
        self.built(pairs).unwrap().resource
    }

    /// Checks, and applies what is wrong; gives what both said, and makes sure that nothing is wrong afterwards.
    fn converge(&self, pairs: &[(&'static str, &str)]) -> (String, String) {
        self.converge_because(Cause::First, pairs)
    }

    fn converge_because(&self, cause: Cause, pairs: &[(&'static str, &str)]) -> (String, String) {
        let resource = self.resource(pairs);
        let before = self.snapshot();
        let checked = check(&resource, &Look::because(cause));
        assert_eq!(self.snapshot(), before, "a check writes nothing");
        let fix = match checked {
            Ok(Check::Drifted(fix)) => fix,
            Ok(Check::Converged) => return ("converged".to_owned(), String::new()),
            Ok(Check::Unknown(why)) => return (format!("unknown {why}"), String::new()),
            Ok(Check::Later(what)) => return (format!("waits for {what}"), String::new()),
            Err(fault) => return (format!("fault: {}", self.relative(&fault)), String::new()),
        };
        let drift = self.relative(&fix.to_string());
        let applied = match runtime().block_on(fix.apply(Work::because(cause))) {
            Ok(Applied::Changed { deed, .. }) => self.relative(&deed),
            Ok(Applied::Unchanged) => "unchanged".to_owned(),
            Err(fault) => return (drift, format!("fault: {}", self.relative(&fault.to_string()))),
        };
        match check(&resource, &Look::because(Cause::Drift)) {
            Ok(Check::Converged) => {}
            other => panic!("not converged after {drift}: {other:?}"),
        }
        assert_eq!(self.temporaries(), Vec::<PathBuf>::new(), "no temporary file stays");
        (drift, applied)
    }

    /// What a check says, without applying.
    fn check(&self, pairs: &[(&'static str, &str)]) -> String {
        said(check(&self.resource(pairs), &Look::because(Cause::First))).replace(&self.text(""), "")
    }

    /// What a plan says, if these repairs came before.
    fn plan(&self, promises: &[(&str, Promise)], pairs: &[(&'static str, &str)]) -> String {
        let made = promises.iter().map(|(path, promise)| {
            let path = if *path == "/" { PathBuf::from("/") } else { self.path(path) };
            (path, (*promise, "exec[x]".to_owned()))
        });
        let promises = Promises::new(made.collect::<BTreeMap<_, _>>());
        let look = Look { purpose: Purpose::Plan, promises, ..Look::because(Cause::First) };
        said(check(&self.resource(pairs), &look)).replace(&self.text(""), "")
    }

    fn fix(&self, pairs: &[(&'static str, &str)]) -> Box<dyn Fix> {
        match check(&self.resource(pairs), &Look::because(Cause::First)) {
            Ok(Check::Drifted(fix)) => fix,
            other => panic!("no drift: {other:?}"),
        }
    }

    fn relative(&self, text: &str) -> String {
        text.replace(&self.text(""), "")
    }

    /// Everything below the scratch directory, with what a write would change.
    fn snapshot(&self) -> BTreeMap<PathBuf, Snapped> {
        walk(self.root.path()).into_iter().map(|path| (path.clone(), snapped(&path))).collect()
    }

    fn temporaries(&self) -> Vec<PathBuf> {
        let all = walk(self.root.path());
        all.into_iter().filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(".mgmt~")).collect()
    }

    /// The names below a directory, for short assertions.
    fn tree(&self, name: &str) -> String {
        let root = self.path(name);
        let all = walk(&root);
        let names = all.iter().skip(1).map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap());
        names.collect::<Vec<_>>().join(" ")
    }
}

/// What a write would change: mode, owner, inode, and the times of the last change.
type Snapped = [i64; 7];

fn snapped(path: &Path) -> Snapped {
    let of = fs::symlink_metadata(path).unwrap();
    let (mode, uid, inode) = (of.mode().into(), of.uid().into(), of.ino().cast_signed());
    [mode, uid, inode, of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec()]
}

/// A directory and all below, sorted.
fn walk(root: &Path) -> Vec<PathBuf> {
    let mut all = vec![root.to_path_buf()];
    if fs::symlink_metadata(root).unwrap().is_dir() {
        let mut inside: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
        inside.sort();
        all.extend(inside.iter().flat_map(|path| walk(path)));
    }
    all
}

type Checked = Result<Check<Box<dyn Fix>>, String>;

fn check(resource: &AnyResource, look: &Look) -> Checked {
    runtime().block_on(Arc::clone(resource).check(look.clone())).map_err(|fault| fault.to_string())
}

fn said(checked: Checked) -> String {
    match checked {
        Ok(Check::Drifted(fix)) => fix.to_string(),
        Ok(Check::Converged) => "converged".to_owned(),
        Ok(Check::Unknown(why)) => format!("unknown {why}"),
        Ok(Check::Later(what)) => format!("waits for {what}"),
        Err(fault) => format!("fault: {fault}"),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says aloud that a test needs what is not there.
fn skipped(why: &str) -> bool {
    println!("skipped: {why}");
    true
}

fn ok(drift: &str, applied: &str) -> (String, String) {
    (drift.to_owned(), applied.to_owned())
}
