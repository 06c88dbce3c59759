//! What `exec` needs of the whole process: other users by way of `__as`, and orphans by way of the reaper. The process
//! behaves as `mgmt` does: it answers to `__as` before anything else, and is a child subreaper.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test, run without the harness")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mgmt_engine::erased::{AnyResource, Fix};
use mgmt_engine::resource::{Cause, Check, Look, Work};
use mgmt_resources::bus::{Bus, Which};
use mgmt_resources::exec::{INFO, identity, reaper};
use mgmt_resources::kind::{Context, Params, Value};
use mgmt_resources::machine::Machine;
use mgmt_resources::systemd::Systemd;
use mgmt_resources::{Host, accounts::Accounts, memory::Memory, watches::Watches};

fn main() {
    let args: Vec<_> = std::env::args_os().collect();
    if args.get(1).is_some_and(|verb| verb == identity::VERB) {
        eprintln!("{}", identity::become_and_exec(&args[2..]));
        std::process::exit(126);
    }
    reaper::become_subreaper().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        another_user().await;
        another_group().await;
        apart_without_systemd().await;
        orphans_are_buried().await;
        everything_is_killed_at_once().await;
        reaper::settle().await;
    });
}

fn exec(directory: &Path, set: &[(&'static str, &str)]) -> AnyResource {
    exec_with(directory, set, |_| {})
}

fn exec_with(directory: &Path, set: &[(&'static str, &str)], more: impl FnOnce(&mut Params)) -> AnyResource {
    let watches = Watches::start().unwrap();
    let systemd = Systemd::new(Arc::new(Bus::new(Which::System)), &watches, &Machine::default());
    let host = Arc::new(Host { memory: Memory::at(directory.join("memory")), systemd, ..Host::with(watches) });
    let mut params = Params::default();
    more(&mut params);
    set.iter().for_each(|(field, value)| params.set(field, Value::Text((*value).to_owned())));
    params.set("env", Value::Map(BTreeMap::from([("OUT".to_owned(), directory.join("out").display().to_string())])));
    let context = Context::of(&host, "test");
    (INFO.build)(&mut params, &context).unwrap().resource
}

async fn run(directory: &Path, set: &[(&'static str, &str)]) -> Result<String, String> {
    ran(exec(directory, set), directory).await
}

async fn ran(resource: AnyResource, directory: &Path) -> Result<String, String> {
    let look = Look::because(Cause::First);
    let Check::Drifted(fix): Check<Box<dyn Fix>> = resource.check(look).await.map_err(|fault| fault.to_string())?
    else {
        panic!("an exec without guards drifts");
    };
    fix.apply(Work::because(Cause::First)).await.map_err(|fault| fault.to_string())?;
    Ok(std::fs::read_to_string(directory.join("out")).unwrap_or_default())
}

/// A directory that everybody may write to.
fn open_directory() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    directory
}

/// Nothing makes a scope here, and the command runs all the same, with what is its own.
async fn apart_without_systemd() {
    let directory = open_directory();
    let unit = BTreeMap::from([("Nice", "7"), ("OOMScoreAdjust", "500"), ("MemoryMax", "1G")]);
    let unit = unit.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let set = [("cmd", "echo $(nice) $(cat /proc/self/oom_score_adj) $(cat) > \"$OUT\""), ("shell", "sh")];
    let resource = exec_with(directory.path(), &set, |params| {
        params.set("isolate", Value::Bool(true));
        params.set("unit", Value::Map(unit));
    });
    assert_eq!(ran(resource, directory.path()).await.unwrap(), "7 500\n");
}

const WHO: &str = "echo $(id -u) $(id -g) $(id -G) $HOME $USER > \"$OUT\"";

async fn another_user() {
    let directory = open_directory();
    let as_nobody = run(directory.path(), &[("cmd", WHO), ("shell", "sh"), ("user", "nobody")]).await;
    if !rustix::process::geteuid().is_root() {
        assert!(as_nobody.unwrap_err().contains("needs root"));
        eprintln!("skipped: needs root: running as another user");
        return;
    }
    let nobody = Accounts::default().user("nobody").unwrap();
    let groups: Vec<String> = nobody.groups.iter().map(u32::to_string).collect();
    let expected = format!("{} {} {} {} nobody\n", nobody.uid, nobody.gid, groups.join(" "), nobody.home.display());
    assert_eq!(as_nobody.unwrap(), expected);
    let failed = run(directory.path(), &[("cmd", "exit 3"), ("shell", "sh"), ("user", "nobody")]).await;
    assert_eq!(failed.unwrap_err(), "exit status 3");
    let ourselves = run(open_directory().path(), &[("cmd", WHO), ("shell", "sh"), ("user", "root")]).await.unwrap();
    assert!(ourselves.starts_with("0 0 ") && ourselves.ends_with(" root\n"), "{ourselves}");
    eprintln!("ok: a command runs as another user, with its groups, HOME and USER");
}

async fn another_group() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root: running as another group");
        return;
    }
    let gid = Accounts::default().gid("daemon").unwrap();
    let directory = open_directory();
    let out = run(directory.path(), &[("cmd", WHO), ("shell", "sh"), ("group", "daemon")]).await.unwrap();
    assert!(out.starts_with(&format!("0 {gid} ")), "{out}");
    eprintln!("ok: a command runs as another group");
}

/// The command leaves two generations behind, which end after it: they become our children, and then zombies.
async fn orphans_are_buried() {
    let directory = open_directory();
    let script = "(setsid sleep 0.2 & echo $! > \"$OUT\") >/dev/null 2>&1";
    let pid = run(directory.path(), &[("cmd", script), ("shell", "sh")]).await.unwrap();
    let stat = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    let parent = stat().unwrap().rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().to_owned();
    assert_eq!(parent, std::process::id().to_string(), "the orphan has become our child");
    let buried = async {
        while stat().is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), buried).await.expect("the orphan is buried");
    eprintln!("ok: an orphan is buried");
}

async fn everything_is_killed_at_once() {
    let directory = open_directory();
    let script = "trap '' TERM; sleep 60 & echo $! > \"$OUT\"; while :; do sleep 60; done";
    let set = [("cmd", script), ("shell", "sh")];
    let out = directory.path().join("out");
    let kill = async {
        while std::fs::read(&out).unwrap_or_default().last() != Some(&b'\n') {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        reaper::kill_all();
    };
    let (end, ()) = tokio::join!(run(directory.path(), &set), kill);
    assert_eq!(end.unwrap_err(), "killed by signal 9 (KILL)");
    let child = std::fs::read_to_string(&out).unwrap();
    let gone = async {
        while std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("its whole group is killed, and buried");
    eprintln!("ok: everything that runs is killed at once");
}
