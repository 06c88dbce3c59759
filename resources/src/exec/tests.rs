//! Each sentence of the kind's page, against real processes. Those that need root say so when they are skipped.

use super::*;
use crate::kind::{Anchor, Built, Context, Params, Value};
use mgmt_engine::resource::{Promise, Sink, Stop, Ticket, Urgency};
use rustix::process::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::Notify;

const GRACE: Duration = Duration::from_millis(200);

/// A directory, and an exec in it.
struct Bed {
    directory: tempfile::TempDir,
    exec: Exec,
}

impl std::ops::Deref for Bed {
    type Target = Exec;
    fn deref(&self) -> &Exec {
        &self.exec
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn built(name: &str, directory: &Path, set: &[(&'static str, Value)]) -> Result<Built, Vec<String>> {
    let mut params = Params::default();
    set.iter().for_each(|(field, value)| params.set(field, value.clone()));
    let host = test_host(directory);
    let context = Context::of(&host, name);
    build::build(&mut params, &context)
        .map_err(|problems| problems.into_iter().map(|p| format!("{}: {}", p.field, p.message)).collect())
}

/// `sh -c` of a text in a fresh directory, changed as the test wants it.
fn shell(script: &str, change: impl FnOnce(&mut Exec, &mut Setting, &Path)) -> Bed {
    // As the agent is: what is orphaned in a group is ours to bury, however slow the init of this machine may be.
    reaper::become_subreaper().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut setting = Setting {
        id: "exec[test]".into(),
        cwd: Some(directory.path().to_path_buf()),
        env: BTreeMap::new(),
        user: None,
        group: None,
        sensitive: false,
        isolation: None,
        host: crate::HostRef(test_host(directory.path())),
        tuning: setting::Tuning { grace: GRACE, pause: Duration::from_millis(10), ..setting::Tuning::default() },
    };
    let mut exec = Exec {
        name: "test".into(),
        setting: Arc::new(setting.clone()),
        command: sh(script),
        timeout: None,
        refreshonly: false,
        watchcmd: None,
        watchfiles: Vec::new(),
        ifcmd: None,
        nifcmd: None,
        creates: None,
        mtimes: Vec::new(),
        donecmd: None,
    };
    change(&mut exec, &mut setting, directory.path());
    exec.setting = Arc::new(setting);
    Bed { directory, exec }
}

fn plain(script: &str) -> Bed {
    shell(script, |_, _, _| {})
}

fn sh(script: &str) -> Line {
    Line::shell("sh", script).0.unwrap()
}

impl Bed {
    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap_or_default()
    }

    async fn run(&self) -> Result<Applied, String> {
        self.run_until(Stop::never()).await
    }

    async fn run_until(&self, stop: Stop) -> Result<Applied, String> {
        let work = Work { stop, ..Work::because(Cause::First) };
        self.exec.apply(Due::NotRun, &work).await.map_err(|fault| fault.to_string())
    }

    async fn look(&self, look: Look) -> Result<String, String> {
        Ok(match self.exec.check(&look).await.map_err(|fault| fault.to_string())? {
            Check::Converged => "converged".to_owned(),
            Check::Drifted(due) => due.to_string(),
            Check::Unknown(why) => format!("unknown {why}"),
            Check::Later(what) => unreachable!("a command waits for nothing: {what}"),
        })
    }

    async fn first(&self) -> Result<String, String> {
        self.look(Look::because(Cause::First)).await
    }

    /// Waits until the command has written its process number, as a sign that it runs.
    async fn pid(&self, name: &str) -> Pid {
        loop {
            if let Some(pid) = self.read(name).strip_suffix('\n').and_then(|pid| pid.parse().ok()) {
                return Pid::from_raw(pid).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn alive(pid: Pid) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())) else { return false };
    // A zombie that nobody of this machine buries is dead enough.
    !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z')
}

async fn until(mut condition: impl FnMut() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.expect("the condition never came true");
}

/// Counts raises.
#[derive(Default)]
struct Raises(AtomicU32, Notify);

impl Sink for Raises {
    fn raised(&self, _: &[Ticket]) {
        self.0.fetch_add(1, Ordering::SeqCst);
        self.1.notify_one();
    }
    fn ticked(&self, _: Ticket) {}
}

// Parameters.

#[test]
fn a_command_is_required_and_empty_is_unset() {
    let at = Path::new("/nonexistent");
    assert_eq!(built("x", at, &[]).unwrap_err(), ["cmd: is required"]);
    assert_eq!(built("x", at, &[("cmd", text(""))]).unwrap_err(), ["cmd: is required"]);
    assert_eq!(built("x", at, &[("cmd", text("  "))]).unwrap_err(), ["cmd: names no program"]);
    let empty = ["shell", "cwd", "user", "group", "watchcmd", "watchshell", "ifcmd", "nifcmd", "creates", "donecmd"];
    let mut set: Vec<(&str, Value)> = empty.into_iter().map(|field| (field, text(""))).collect();
    set.push(("cmd", text("true")));
    let with_empty = built("x", at, &set).unwrap();
    let without = built("x", at, &[("cmd", text("true"))]).unwrap();
    assert!(with_empty.resource.same(&*without.resource));
    assert!(with_empty.warnings.is_empty());
}

#[test]
fn what_cannot_be_run_is_a_problem_and_what_has_no_effect_a_warning() {
    let at = Path::new("/nonexistent");
    let list = Value::Texts(vec!["a".into()]);
    let problems = built("x", at, &[("cmd", text("true")), ("shell", text("sh")), ("args", list)]).unwrap_err();
    assert_eq!(problems, ["args: cannot go with shell: put the arguments into cmd"]);
    let env = Value::Map(BTreeMap::from([("A=B".to_owned(), String::new())]));
    assert_eq!(built("x", at, &[("cmd", text("true")), ("env", env)]).unwrap_err().len(), 1);
    assert_eq!(built("x", at, &[("cmd", text("a\0b"))]).unwrap_err().len(), 1);
    let warned = built("x", at, &[("cmd", text("echo it's")), ("ifshell", text("sh"))]).unwrap();
    assert_eq!(warned.warnings.iter().map(|p| p.field).collect::<Vec<_>>(), ["cmd", "ifshell"]);
}

#[test]
fn it_comes_after_its_programs_directory_user_and_group() {
    let set = [
        ("cmd", text("/opt/a x")),
        ("ifcmd", text("/opt/b/../c --y")),
        ("ifshell", text("/bin/sh")),
        ("cwd", text("/srv/app")),
        ("user", text("web")),
        ("group", text("www")),
    ];
    let wants = built("x", Path::new("/nonexistent"), &set).unwrap().facets.wants;
    let path = |path: &str| Anchor::Path(path.into());
    let parent = Anchor::Parent("/srv/app".into());
    let people = [Anchor::User("web".into()), Anchor::Group("www".into())];
    let mut expected = vec![path("/bin/sh"), path("/opt/a"), path("/opt/c"), path("/srv/app"), parent];
    expected.extend(["/bin/sh", "/opt/a", "/opt/c"].map(|path| Anchor::Shipped(path.into())));
    expected.extend(people);
    assert_eq!(wants, expected);
    let wants = built("x", Path::new("/nonexistent"), &[("cmd", text("nginx -t"))]).unwrap().facets.wants;
    assert_eq!(wants, ["/bin/nginx", "/sbin/nginx"].map(|path| Anchor::Shipped(path.into())));
}

// Running.

#[tokio::test]
async fn a_success_says_how_long_it_took_and_spends_the_refresh() {
    let Ok(Applied::Changed { deed, refreshed }) = plain("exit 0").run().await else { panic!("failed") };
    assert!(deed.starts_with("exit 0, ") && deed.ends_with("ms"), "{deed}");
    assert!(refreshed);
}

#[tokio::test]
async fn a_failure_says_its_status_and_last_lines() {
    assert_eq!(plain("exit 3").run().await.unwrap_err(), "exit status 3");
    let bed = plain("echo out; echo one >&2; echo two >&2; exit 4");
    assert_eq!(bed.run().await.unwrap_err(), "exit status 4: one | two");
    assert_eq!(plain("echo only; exit 5").run().await.unwrap_err(), "exit status 5: only");
    assert_eq!(plain("kill -9 $$").run().await.unwrap_err(), "killed by signal 9 (KILL)");
    assert_eq!(plain("printf '\\377\\033'; exit 1").run().await.unwrap_err(), "exit status 1: \u{fffd}\\u{1b}");
}

#[tokio::test]
async fn words_run_without_a_shell() {
    let bed = shell("", |exec, _, at| {
        let more = vec!["$HOME *".to_owned(), at.join("b").display().to_string()];
        exec.command = Line::words("sh -c 'echo \"$0\" > \"$1\"'", more).0.unwrap();
    });
    bed.run().await.unwrap();
    assert_eq!(bed.read("b"), "$HOME *\n");
}

#[tokio::test]
async fn the_environment_is_small_and_input_is_empty() {
    let bed = shell("env | sort > env; cat > input; pwd > pwd", |_, setting, _| {
        setting.env.insert("EXTRA".into(), "a b".into());
        setting.env.insert("USER".into(), "me".into());
    });
    bed.run().await.unwrap();
    let env = bed.read("env");
    // A shell adds some of its own.
    let names: Vec<&str> = env.lines().filter_map(|line| line.split('=').next()).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name)).collect();
    assert_eq!(names, ["EXTRA", "HOME", "LANG", "PATH", "USER"]);
    assert!(env.contains("EXTRA=a b\n") && env.contains("USER=me\n") && env.contains("LANG=C.UTF-8\n"));
    assert_eq!(bed.read("input"), "");
    assert_eq!(Path::new(bed.read("pwd").trim()), bed.directory.path().canonicalize().unwrap());
}

#[tokio::test]
async fn a_program_is_looked_up_in_the_path_of_its_own_environment() {
    let bed = shell("", |exec, setting, at| {
        fs::create_dir(at.join("bin")).unwrap();
        std::os::unix::fs::symlink("/bin/sh", at.join("bin/own")).unwrap();
        exec.command = Line::words("own -c 'exit 7'", Vec::new()).0.unwrap();
        setting.env.insert("PATH".into(), at.join("bin").display().to_string());
    });
    assert_eq!(bed.first().await.unwrap(), "has not run");
    assert_eq!(bed.run().await.unwrap_err(), "exit status 7");
}

#[tokio::test]
async fn donecmd_runs_after_success_only_and_its_failure_counts() {
    let bed = shell("exit 0", |exec, _, _| exec.donecmd = Some(sh("touch done; exit 2")));
    assert_eq!(bed.run().await.unwrap_err(), "donecmd: exit status 2");
    assert!(bed.at("done").exists());
    let bed = shell("exit 1", |exec, _, _| exec.donecmd = Some(sh("touch done")));
    assert_eq!(bed.run().await.unwrap_err(), "exit status 1");
    assert!(!bed.at("done").exists());
}

#[tokio::test]
async fn much_output_neither_fills_memory_nor_takes_long() {
    // What was compiled without optimisation takes fifty times longer.
    let size = if cfg!(debug_assertions) { 20_000_000 } else { 1_000_000_000 };
    let bed = plain(&format!("head -c {size} /dev/zero; echo; yes | head -c {size}; echo end >&2; exit 1"));
    let run = tokio::time::timeout(Duration::from_secs(60), bed.run());
    assert_eq!(run.await.expect("it takes seconds").unwrap_err(), "exit status 1: end");
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 200_000, "peak memory is {peak} kB");
}

#[tokio::test]
async fn what_it_leaves_in_the_background_lives_on_and_does_not_delay_it() {
    let bed = plain("sleep 60 & echo $! > pid; echo said");
    let clock = Clock::start();
    bed.run().await.unwrap();
    assert!(clock.now().since(mgmt_engine::Moment::START) < Duration::from_secs(5));
    let pid = bed.pid("pid").await;
    assert!(alive(pid));
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_loud_background_child_does_not_delay_it_either() {
    let bed = plain("(while sleep 0.01; do echo loud || exit; done) & echo $! > pid");
    tokio::time::timeout(Duration::from_secs(10), bed.run()).await.expect("it ends").unwrap();
    let pid = bed.pid("pid").await;
    until(|| !alive(pid)).await;
}

// Stopping.

#[tokio::test]
async fn a_timeout_ends_the_whole_group() {
    let bed = shell("sleep 60 & echo $! > pid; echo waiting; wait", |exec, _, _| {
        exec.timeout = Some(Duration::from_millis(300));
    });
    assert_eq!(bed.run().await.unwrap_err(), "ran longer than 0.3 s: waiting");
    assert!(!alive(bed.pid("pid").await));
}

#[tokio::test]
async fn cancel_lets_it_end_in_order() {
    let bed = plain("trap 'echo orderly > end; exit 0' TERM; echo $$ > pid; while :; do sleep 0.01; done");
    let (urge, stop) = Stop::new();
    let cancel = async {
        bed.pid("pid").await;
        urge.send(Urgency::Cancel).unwrap();
    };
    let (end, ()) = tokio::join!(bed.run_until(stop), cancel);
    assert!(end.unwrap_err().starts_with("cancelled"), "a shell may add that it was terminated");
    assert_eq!(bed.read("end"), "orderly\n");
}

#[tokio::test]
async fn the_rest_of_its_group_gets_the_grace_too() {
    let child = "trap 'sleep 0.05; echo orderly > end; exit 0' TERM; echo $$ > pid; while :; do sleep 0.01; done";
    let bed = plain(&format!("sh -c \"$(cat <<'E'\n{child}\nE\n)\" & wait"));
    let (urge, stop) = Stop::new();
    let cancel = async {
        bed.pid("pid").await;
        urge.send(Urgency::Cancel).unwrap();
    };
    let (end, ()) = tokio::join!(bed.run_until(stop), cancel);
    assert!(end.unwrap_err().starts_with("cancelled"));
    assert_eq!(bed.read("end"), "orderly\n");
}

#[tokio::test]
async fn who_ignores_term_is_killed_after_the_grace() {
    let bed = plain("trap '' TERM; sleep 60 & echo $! > child; echo $$ > pid; while :; do sleep 60; done");
    let (urge, stop) = Stop::new();
    let cancel = async {
        bed.pid("pid").await;
        urge.send(Urgency::Cancel).unwrap();
    };
    let (end, ()) = tokio::join!(bed.run_until(stop), cancel);
    assert!(end.unwrap_err().starts_with("cancelled"), "a shell may add that it was terminated");
    assert!(!alive(bed.pid("pid").await) && !alive(bed.pid("child").await));
}

#[tokio::test]
async fn kill_does_not_wait_for_the_grace() {
    let bed = shell("trap '' TERM; echo $$ > pid; while :; do sleep 60; done", |_, setting, _| {
        setting.tuning.grace = Duration::from_secs(3_600);
    });
    let (urge, stop) = Stop::new();
    let cancel = async {
        bed.pid("pid").await;
        urge.send(Urgency::Cancel).unwrap();
        tokio::task::yield_now().await;
        urge.send(Urgency::Kill).unwrap();
    };
    let (end, ()) = tokio::join!(bed.run_until(stop), cancel);
    assert!(end.unwrap_err().starts_with("cancelled"), "a shell may add that it was terminated");
    assert!(!alive(bed.pid("pid").await));
}

#[tokio::test]
async fn what_is_stopped_before_it_starts_does_not_start() {
    let bed = plain("touch ran");
    let (urge, stop) = Stop::new();
    urge.send(Urgency::Cancel).unwrap();
    assert_eq!(bed.run_until(stop).await.unwrap_err(), "cancelled before it started");
    assert!(!bed.at("ran").exists());
}

#[tokio::test]
async fn who_left_the_group_is_not_waited_for() {
    let bed = plain("setsid sleep 60 & echo $! > pid; wait");
    let (urge, stop) = Stop::new();
    let cancel = async {
        let pid = bed.pid("pid").await;
        until(|| rustix::process::getpgid(Some(pid)) == Ok(pid)).await;
        urge.send(Urgency::Cancel).unwrap();
        pid
    };
    let run = tokio::time::timeout(Duration::from_secs(10), bed.run_until(stop));
    let (end, pid) = tokio::join!(run, cancel);
    assert!(end.expect("it ends").is_err());
    assert!(alive(pid), "a session of its own is out of reach");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_program_that_is_being_written_is_waited_for() {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let bed = shell("", |exec, _, at| {
        exec.command = Line::words(&at.join("script").display().to_string(), Vec::new()).0.unwrap();
    });
    let mut open = fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(bed.at("script")).unwrap();
    open.write_all(b"#!/bin/sh\nexit 6\n").unwrap();
    let close = async {
        tokio::task::yield_now().await;
        drop(open);
    };
    let (end, ()) = tokio::join!(bed.run(), close);
    assert_eq!(end.unwrap_err(), "exit status 6");
}

// Checking.

#[tokio::test]
async fn without_guards_it_is_due_whenever_it_is_asked() {
    let bed = plain("true");
    let expected = [
        (Cause::First, "has not run"),
        (Cause::Reload, "has not run"),
        (Cause::Drift, "runs again: something it watches changed"),
        (Cause::Tick, "runs again: its timer ticked"),
        (Cause::Poll, "runs again: its poll is due"),
        (Cause::Refresh, "runs again: refreshed"),
    ];
    for (cause, due) in expected {
        assert_eq!(bed.look(Look::because(cause)).await.unwrap(), due);
    }
}

#[tokio::test]
async fn refreshonly_waits_for_a_refresh() {
    let bed = shell("true", |exec, _, _| exec.refreshonly = true);
    assert_eq!(bed.first().await.unwrap(), "converged");
    let look = Look { refresh: true, ..Look::because(Cause::First) };
    assert_eq!(bed.look(look).await.unwrap(), "runs again: refreshed");
}

#[tokio::test]
async fn creates_is_satisfied_by_anything_that_stands_there() {
    let bed = shell("true", |exec, _, at| exec.creates = Some(at.join("made")));
    assert_eq!(bed.first().await.unwrap(), "has not run");
    std::os::unix::fs::symlink("nowhere", bed.at("made")).unwrap();
    assert_eq!(bed.first().await.unwrap(), "converged");
    let refresh = Look { refresh: true, ..Look::because(Cause::Refresh) };
    assert_eq!(bed.look(refresh).await.unwrap(), "converged", "guards gate refreshes too");
}

#[tokio::test]
async fn guards_decide_by_their_exit() {
    for (ifcmd, nifcmd, expected) in [
        (Some("exit 0"), None, "has not run"),
        (Some("exit 1"), None, "converged"),
        (None, Some("exit 0"), "converged"),
        (None, Some("exit 3"), "has not run"),
        (Some("exit 0"), Some("exit 0"), "converged"),
    ] {
        let bed = shell("true", |exec, _, _| (exec.ifcmd, exec.nifcmd) = (ifcmd.map(sh), nifcmd.map(sh)));
        assert_eq!(bed.first().await.unwrap(), expected, "{ifcmd:?} {nifcmd:?}");
    }
}

#[tokio::test]
async fn a_guard_that_did_not_answer_is_a_failure() {
    let bed = shell("true", |exec, _, _| exec.nifcmd = Some(sh("kill -9 $$")));
    assert_eq!(bed.first().await.unwrap_err(), "nifcmd: killed by signal 9 (KILL)");
    let bed = shell("true", |exec, _, _| exec.ifcmd = Line::words("no-such-guard", Vec::new()).0);
    assert!(bed.first().await.unwrap_err().starts_with("ifcmd: program 'no-such-guard' not found in PATH"));
}

#[tokio::test]
async fn a_guard_that_is_dropped_dies_with_its_group() {
    let script = "trap '' TERM; sleep 60 & echo $! > child; echo $$ > pid; while :; do sleep 60; done";
    let bed = shell("true", |exec, _, _| exec.ifcmd = Some(sh(script)));
    let first = tokio::select! {
        _ = bed.first() => panic!("the guard hangs"),
        pid = bed.pid("pid") => pid,
    };
    let child = bed.pid("child").await;
    reaper::settle().await;
    assert!(!alive(first) && !alive(child));
}

#[test]
fn what_is_dropped_with_its_runtime_is_killed() {
    let script = "trap '' TERM; echo $$ > pid; while :; do sleep 60; done";
    let bed = shell("true", |exec, setting, _| {
        exec.ifcmd = Some(sh(script));
        setting.tuning.grace = Duration::from_secs(3_600);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let pid = runtime.block_on(async {
        tokio::select! {
            _ = bed.first() => panic!("the guard hangs"),
            pid = bed.pid("pid") => pid,
        }
    });
    drop(runtime);
    while alive(pid) {
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn newer_files_go_past_every_guard() {
    let bed = shell("true", |exec, _, at| {
        exec.mtimes = vec![at.join("source"), at.join("later")];
        exec.ifcmd = Some(sh("exit 1"));
        exec.creates = Some(at.join("source"));
    });
    let stamp = |name: &str, seconds: u64| {
        let file = fs::File::create(bed.at(name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    };
    stamp("source", 100);
    assert_eq!(bed.first().await.unwrap(), "converged", "it never succeeded, so guards decide");
    bed.run().await.unwrap();
    assert_eq!(bed.first().await.unwrap(), "converged");
    stamp("source", 50);
    assert_eq!(bed.first().await.unwrap(), "converged", "older is not newer");
    stamp("source", 101);
    let due = bed.first().await.unwrap();
    assert!(due.starts_with("runs again: ") && due.ends_with("source is newer than at its last success"), "{due}");
    bed.run().await.unwrap();
    assert_eq!(bed.first().await.unwrap(), "converged");
    stamp("later", 1);
    assert!(bed.first().await.unwrap().contains("later is newer"));
}

#[tokio::test]
async fn a_file_that_changes_while_it_runs_is_newer() {
    let bed = shell("touch -d @2000 source", |exec, _, at| exec.mtimes = vec![at.join("source")]);
    let file = fs::File::create(bed.at("source")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000)).unwrap();
    bed.run().await.unwrap();
    assert!(bed.first().await.unwrap().contains("source is newer"));
}

#[tokio::test]
async fn what_would_fail_fails_before_it_runs() {
    let faults = [
        shell("", |exec, _, _| exec.command = Line::words("no-such-program", Vec::new()).0.unwrap()),
        shell("true", |_, setting, at| setting.cwd = Some(at.join("none"))),
        shell("true", |_, setting, _| setting.user = Some("no-such-user".into())),
        shell("true", |_, setting, _| setting.group = Some("no-such-group".into())),
    ];
    let expected = ["not found in PATH", "cannot run in ", "no-such-user", "no-such-group"];
    for (bed, part) in faults.iter().zip(expected) {
        let fault = bed.first().await.unwrap_err();
        assert!(fault.contains(part), "{fault}");
    }
}

// Plans.

#[tokio::test]
async fn without_guards_a_plan_cannot_tell() {
    let bed = shell("true", |exec, _, _| exec.ifcmd = Some(sh("touch ran")));
    let look = Look { purpose: Purpose::PlanWithoutGuards, ..Look::because(Cause::First) };
    assert_eq!(bed.look(look).await.unwrap(), "unknown its guard was not run");
    assert!(!bed.at("ran").exists());
    let look = Look { purpose: Purpose::Plan, ..Look::because(Cause::First) };
    assert_eq!(bed.look(look).await.unwrap(), "has not run");
    assert!(bed.at("ran").exists());
}

#[tokio::test]
async fn a_plan_knows_what_others_would_change_first() {
    let promised = |path: &Path| {
        let made = BTreeMap::from([(path.to_path_buf(), (Promise::File, "file[x]".to_owned()))]);
        Look { purpose: Purpose::Plan, promises: Promises::new(made), ..Look::because(Cause::First) }
    };
    let unknown = "unknown file[x] would change first";
    let bed = shell("true", |exec, _, at| exec.creates = Some(at.join("made")));
    assert_eq!(bed.look(promised(&bed.at("made"))).await.unwrap(), unknown);
    assert_eq!(bed.look(promised(&bed.at("other"))).await.unwrap(), "has not run");
    assert_eq!(bed.look(promised(Path::new("/usr/local/bin/sh"))).await.unwrap(), unknown, "it would be found first");
    let bed = shell("true", |exec, _, _| exec.nifcmd = Some(sh("exit 1")));
    assert_eq!(bed.look(promised(&bed.at("other"))).await.unwrap(), unknown, "a guard may look at anything");
}

#[test]
fn it_promises_anything() {
    assert_eq!(Due::NotRun.promises(), [(PathBuf::from("/"), Promise::Anything)]);
}

// Watching.

fn task(bed: &Bed, raises: &Arc<Raises>) -> tokio::task::JoinHandle<Result<(), Fault>> {
    let signal = Signal::elsewhere(Arc::clone(raises) as Arc<dyn Sink>, 0);
    let Ok(Watch::Task(task)) = bed.exec.watch(&signal) else { panic!("no task") };
    tokio::spawn(task)
}

#[tokio::test]
async fn each_line_of_watchcmd_is_an_event_and_exit_0_ends_it() {
    let bed = shell("true", |exec, _, _| {
        exec.watchcmd =
            Some(sh("for n in 1 2 3; do echo $n; until [ -e go$n ]; do sleep 0.01; done; done; printf last"));
    });
    let raises = Arc::new(Raises::default());
    let task = task(&bed, &raises);
    for n in 1..=3 {
        raises.1.notified().await;
        assert_eq!(raises.0.load(Ordering::SeqCst), n);
        fs::write(bed.at(&format!("go{n}")), "").unwrap();
    }
    task.await.unwrap().unwrap();
    assert_eq!(raises.0.load(Ordering::SeqCst), 4, "a last line without an end counts");
}

#[tokio::test]
async fn a_watchcmd_that_fails_is_started_again() {
    let bed = shell("true", |exec, _, _| exec.watchcmd = Some(sh("echo x >> starts; [ $(wc -l < starts) = 3 ]")));
    task(&bed, &Arc::new(Raises::default())).await.unwrap().unwrap();
    assert_eq!(bed.read("starts").lines().count(), 3);
}

#[tokio::test]
async fn a_watchcmd_that_is_replaced_while_it_is_down_is_found_again() {
    let bed = shell("true", |exec, _, at| {
        exec.watchcmd = Line::words(&at.join("script").display().to_string(), Vec::new()).0;
        write_script(&at.join("script"), "rm script; touch down; exit 1");
    });
    let task = task(&bed, &Arc::new(Raises::default()));
    until(|| bed.at("down").exists()).await;
    write_script(&bed.at("script"), "exit 0");
    task.await.unwrap().unwrap();
}

fn write_script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_watchcmd_that_cannot_be_started_is_a_failed_watch() {
    let bed = shell("true", |exec, _, _| exec.watchcmd = Line::words("no-such-watch", Vec::new()).0);
    let end = task(&bed, &Arc::new(Raises::default())).await.unwrap();
    assert!(end.unwrap_err().to_string().contains("'no-such-watch' not found"));
}

#[tokio::test]
async fn a_watchcmd_ends_with_its_watch() {
    let script = "trap '' TERM; sleep 60 & echo $! > child; echo $$ > pid; while :; do sleep 60; done";
    let bed = shell("true", |exec, _, _| exec.watchcmd = Some(sh(script)));
    let task = task(&bed, &Arc::new(Raises::default()));
    let (pid, child) = (bed.pid("pid").await, bed.pid("child").await);
    task.abort();
    assert!(task.await.is_err());
    reaper::settle().await;
    assert!(!alive(pid) && !alive(child));
}

#[tokio::test]
async fn files_are_watched() {
    let signal = Signal::elsewhere(Arc::new(Raises::default()), 0);
    let bed = shell("true", |exec, _, at| exec.watchfiles = vec![at.join("a")]);
    assert!(matches!(bed.exec.watch(&signal).unwrap(), Watch::Held(_)));
    let bed = shell("true", |exec, _, at| {
        exec.mtimes = vec![at.join("a")];
        exec.watchcmd = Some(sh("true"));
    });
    assert!(matches!(bed.exec.watch(&signal).unwrap(), Watch::Both(..)));
    assert!(matches!(plain("true").exec.watch(&signal).unwrap(), Watch::Nothing));
}

/// Keeps all that is logged.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<String>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut said = self.0.lock().unwrap();
        event.record(&mut |_: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            said.push_str(&format!("{value:?} "))
        });
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn a_sensitive_watchcmd_says_nothing_when_it_fails() {
    for (sensitive, shown) in [(true, false), (false, true)] {
        let log = Log::default();
        let _here = tracing::subscriber::set_default(log.clone());
        let bed = shell("true", |exec, setting, _| {
            setting.sensitive = sensitive;
            exec.watchcmd = Some(sh("echo hunter2 >&2; echo x >> starts; [ $(wc -l < starts) = 2 ]"));
        });
        task(&bed, &Arc::new(Raises::default())).await.unwrap().unwrap();
        let said = log.0.lock().unwrap();
        assert!(said.contains("watchcmd ended"), "{said}");
        assert_eq!(said.contains("hunter2"), shown, "{said}");
    }
}
