//! Kills a repair at every system call it makes, and looks at what is left: the old version or the new one, whole; and
//! after the next run, nothing of the killed one. Needs strace, which can kill at a chosen call.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test without the harness")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use mgmt_engine::resource::{Cause, Check, Look, Work};
use mgmt_resources::kind::{Context, Params, Shape, Value};
use mgmt_resources::{Host, file};

/// What the child is told in its environment: the scenario's name and where to play it.
const SCENARIO: &str = "MGMT_CRASH_SCENARIO";
const DIRECTORY: &str = "MGMT_CRASH_DIRECTORY";
/// The calls that a repair makes, as far as they could leave something behind. strace counts them for each thread, so
/// they are tried one after the other: together, the calls of one thread would hide those of another.
const CALLS: &[&str] = &[
    "open",
    "openat",
    "openat2",
    "write",
    "fchown",
    "fchmod",
    "flock",
    "fsync",
    "fdatasync",
    "syncfs",
    "rename",
    "renameat",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "symlinkat",
    "llistxattr",
    "close",
];
/// A repair makes fewer calls of one kind than this; more would be a loop.
const CALLS_MAX: usize = 200;

/// One kind of repair.
struct Scenario {
    name: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    /// The directory that confines the path.
    beneath: Option<&'static str>,
    /// Sets the stage in an empty directory.
    before: fn(&Path),
    /// Whether what stands is the old state or the new one, whole.
    whole: fn(&Path) -> bool,
}

const OLD: &str = "the old version\n";
const NEW: &str = "the new version, which is longer\n";

fn is(path: &Path, content: &str, mode: u32) -> bool {
    let bits = fs::symlink_metadata(path).map(|of| of.permissions().mode() & 0o7777);
    fs::read_to_string(path).is_ok_and(|is| is == content) && bits.is_ok_and(|bits| bits == mode)
}

fn write(path: &Path, content: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn gone(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err()
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "create",
        parameters: &[("path", "a"), ("content", NEW), ("mode", "0640"), ("state", "exists")],
        beneath: None,
        before: |_| {},
        whole: |root| gone(&root.join("a")) || is(&root.join("a"), NEW, 0o640),
    },
    Scenario {
        name: "replace",
        parameters: &[("path", "a"), ("content", NEW), ("mode", "0640")],
        beneath: None,
        before: |root| write(&root.join("a"), OLD, 0o600),
        whole: |root| is(&root.join("a"), OLD, 0o600) || is(&root.join("a"), NEW, 0o640),
    },
    Scenario {
        name: "below",
        parameters: &[("path", "p/d/a"), ("content", NEW), ("mode", "0640"), ("state", "exists")],
        beneath: Some("p"),
        before: |root| write(&root.join("p/d/a"), OLD, 0o600),
        whole: |root| is(&root.join("p/d/a"), OLD, 0o600) || is(&root.join("p/d/a"), NEW, 0o640),
    },
    Scenario {
        name: "set",
        parameters: &[("path", "a"), ("mode", "0640")],
        beneath: None,
        before: |root| write(&root.join("a"), OLD, 0o600),
        whole: |root| is(&root.join("a"), OLD, 0o600) || is(&root.join("a"), OLD, 0o640),
    },
    Scenario {
        name: "link",
        parameters: &[("path", "a"), ("source", "/new"), ("symlink", "true")],
        beneath: None,
        before: |root| symlink("/old", root.join("a")).unwrap(),
        whole: |root| {
            let text = fs::read_link(root.join("a")).ok();
            text == Some(PathBuf::from("/old")) || text == Some(PathBuf::from("/new"))
        },
    },
    Scenario {
        name: "directory",
        parameters: &[("path", "a/b/"), ("recurse", "true"), ("state", "exists")],
        beneath: None,
        before: |_| {},
        whole: |_| true,
    },
    Scenario {
        name: "remove",
        parameters: &[("path", "a"), ("state", "absent")],
        beneath: None,
        before: |root| write(&root.join("a"), OLD, 0o600),
        whole: |root| gone(&root.join("a")) || is(&root.join("a"), OLD, 0o600),
    },
    Scenario {
        name: "tree",
        parameters: &[("path", "to/"), ("source", "from/"), ("recurse", "true"), ("purge", "true")],
        beneath: None,
        before: |root| {
            write(&root.join("from/a"), NEW, 0o644);
            write(&root.join("from/d/b"), NEW, 0o644);
            write(&root.join("to/a"), OLD, 0o644);
            write(&root.join("to/extra/x"), OLD, 0o644);
        },
        whole: |root| {
            let (a, b) = (root.join("to/a"), root.join("to/d/b"));
            (is(&a, OLD, 0o644) || is(&a, NEW, 0o644)) && (gone(&b) || is(&b, NEW, 0o644))
        },
    },
];

/// Checks and applies once, as the program would after a start.
fn converge(scenario: &Scenario, root: &Path) {
    let mut params = Params::default();
    for (name, value) in scenario.parameters {
        let field = file::INFO.fields.iter().find(|field| field.name == *name).unwrap();
        let value = match field.shape {
            Shape::Path if !value.starts_with('/') => Value::Text(format!("{}/{value}", root.display())),
            Shape::Bool => Value::Bool(true),
            _ => Value::Text((*value).to_owned()),
        };
        params.set(field.name, value);
    }
    let host = Arc::new(Host::with(mgmt_resources::watches::Watches::start().unwrap()));
    let beneath = scenario.beneath.map(|name| root.join(name));
    let context = Context { beneath: beneath.as_deref(), ..Context::of(&host, "x") };
    let resource = (file::INFO.build)(&mut params, &context).unwrap().resource;
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        match Arc::clone(&resource).check(Look::because(Cause::First)).await.unwrap() {
            Check::Drifted(fix) => drop(fix.apply(Work::because(Cause::First)).await.unwrap()),
            other => drop(other),
        }
        let checked = resource.check(Look::because(Cause::First)).await.unwrap();
        assert!(matches!(checked, Check::Converged), "{checked:?}");
    });
}

/// Plays a scenario in a child that is killed at one of its calls; says whether it lived to the end.
fn survives(scenario: &Scenario, root: &Path, call: &str, number: usize) -> bool {
    // The question mark: not every machine has every call.
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null"]).arg(format!("-etrace=?{call}"));
    strace.arg(format!("-einject=?{call}:signal=KILL:when={number}")).arg(std::env::current_exe().unwrap());
    strace.env(SCENARIO, scenario.name).env(DIRECTORY, root).stdout(Stdio::null()).stderr(Stdio::null());
    strace.status().unwrap().success()
}

fn strays(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with(".mgmt~") {
            found.push(path.clone());
        }
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            found.append(&mut strays(&path));
        }
    }
    found
}

/// No test harness: its own threads and calls would be counted, too.
fn main() {
    if let (Ok(name), Ok(directory)) = (std::env::var(SCENARIO), std::env::var(DIRECTORY)) {
        let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name).unwrap();
        return converge(scenario, Path::new(&directory));
    }
    let works = Command::new("strace").args(["-f", "-o", "/dev/null", "/bin/true"]).stderr(Stdio::null()).status();
    if !works.is_ok_and(|status| status.success()) {
        println!("skipped: strace is missing, or may not trace here");
        return;
    }
    for scenario in SCENARIOS {
        let (mut crashes, mut left) = (0, 0);
        for call in CALLS {
            let mut number = 1;
            while let Some(strays) = crash(scenario, call, number) {
                (crashes, left, number) = (crashes + 1, left + strays, number + 1);
                assert!(number < CALLS_MAX, "{} does not end", scenario.name);
            }
        }
        println!("{}: {crashes} crashes, {left} temporary files left behind and removed", scenario.name);
    }
}

/// One crash, and what is left; `None` if the child lived to the end.
fn crash(scenario: &Scenario, call: &str, number: usize) -> Option<usize> {
    let root = tempfile::tempdir().unwrap();
    (scenario.before)(root.path());
    let survived = survives(scenario, root.path(), call, number);
    let at = format!("{} killed at its {call} number {number}", scenario.name);
    assert!((scenario.whole)(root.path()), "{at}: neither the old version nor the new one");
    let left = strays(root.path()).len();
    converge(scenario, root.path());
    assert_eq!(strays(root.path()), Vec::<PathBuf>::new(), "{at}: strays after the next run");
    (!survived).then_some(left)
}
