//! Honest plans: what `plan` answers of a random graph on a random host is what `apply` then does, and a plan writes
//! nothing.
//!
//! A failure prints the pair and the line that replays it. `MGMT_SEED` picks one pair, `MGMT_PAIRS` how many.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

#[path = "plans/chance.rs"]
mod chance;
#[path = "plans/generate.rs"]
mod generate;
#[path = "plans/look.rs"]
mod look;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use mgmt::assemble::{self, Options};
use mgmt::kinds::KINDS;
use mgmt::plan::{Answer, plan};
use mgmt_engine::report::{Report, Stand, Standing, What};
use mgmt_engine::runner::{Condition, Config, Engine, Ledger, Observer};
use mgmt_engine::schedule::Options as EngineOptions;
use mgmt_engine::{Clock, Graph, Id};
use mgmt_resources::Host;
use mgmt_resources::memory::Memory;
use mgmt_resources::watches::Watches;

use chance::Chance;
use generate::Pair;

/// Pairs of an ordinary run.
const PAIRS: u64 = 2200;
/// The largest share of `unknown` that still is an answer, in a hundred.
const UNKNOWN_MAX: usize = 35;
/// Every other answer has at least this share, or the pairs show nothing.
const SHARE_MIN: usize = 8;
/// A pair takes milliseconds; what takes so long hangs.
const HANGS: Duration = Duration::from_secs(30);
/// Pairs at the same time.
const THREADS: usize = 2;

#[test]
fn plans_are_what_apply_does() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let wanted = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let one = wanted("MGMT_SEED");
    let seeds = one.map_or(0..wanted("MGMT_PAIRS").unwrap_or(PAIRS), |seed| seed..seed + 1);
    let next = AtomicU64::new(seeds.start);
    let counts = Mutex::new([0_usize; 4]);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    match runtime.block_on(async { tokio::time::timeout(HANGS, judge(seed, one.is_some())).await }) {
                        Ok(Ok(counted)) => {
                            let mut counts = counts.lock().unwrap();
                            counts.iter_mut().zip(counted).for_each(|(sum, more)| *sum += more);
                        }
                        Ok(Err(text)) => wrong.lock().unwrap().push((seed, text)),
                        Err(_) => wrong.lock().unwrap().push((seed, "it hangs".to_owned())),
                    }
                }
            });
        }
    });
    let (wrong, counts) = (wrong.into_inner().unwrap(), counts.into_inner().unwrap());
    for (seed, text) in wrong.iter().take(5) {
        eprintln!("{text}\nreplay: MGMT_SEED={seed} cargo test --test plans -- --nocapture\n");
    }
    let seeds: Vec<_> = wrong.iter().map(|(seed, _)| seed).collect();
    assert!(wrong.is_empty(), "{} pairs were planned otherwise than applied: {seeds:?}", wrong.len());
    if one.is_some() {
        return;
    }
    let all: usize = counts.iter().sum();
    let shares = counts.map(|count| count * 100 / all);
    let [ok, change, fail, unknown] = shares;
    eprintln!("{all} answers: {ok} % ok, {change} % would change, {fail} % would fail, {unknown} % unknown");
    assert!(unknown <= UNKNOWN_MAX, "too much is unknown: {unknown} %");
    assert!(ok.min(change).min(fail) >= SHARE_MIN, "too one-sided to show anything: {shares:?}");
}

/// One pair: its answers counted (ok, would change, would fail, unknown), or what was wrong.
async fn judge(seed: u64, loud: bool) -> Result<[usize; 4], String> {
    let directory = temporary();
    let root = directory.path().canonicalize().unwrap();
    generate::make_outside(&root);
    let pair = usable(seed, &root);
    if loud {
        eprint!("{pair}");
    }
    generate::make_host(&root, &pair.host);
    let before = look::tree(&root);
    let graph = assembled(&pair, &root).expect("it was usable");
    let answers = plan(&graph, true).await;
    let after = look::tree(&root);
    let mut text = String::new();
    for path in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
        if before.get(path) != after.get(path) {
            let (before, after) = (before.get(path), after.get(path));
            writeln!(text, "the plan has changed {}: {before:?} -> {after:?}", path.display()).unwrap();
        }
    }
    // As another process would: nothing of the plan's resources is left.
    let (stands, reports) = apply(assembled(&pair, &root).expect("it was usable")).await;
    let mut counted = [0; 4];
    for (vertex, (answer, stand)) in graph.vertices().iter().zip(answers.iter().zip(&stands)) {
        let count = match answer {
            Answer::Ok => 0,
            Answer::WouldChange { .. } => 1,
            Answer::WouldFail { .. } => 2,
            Answer::Unknown { .. } => 3,
        };
        counted[count] += 1;
        let own: Vec<_> = reports.iter().filter(|report| report.id == vertex.id).map(|report| &report.what).collect();
        if !agrees(answer, stand, &own) {
            let fault = &stand.fault;
            writeln!(
                text,
                "{}: planned {answer:?}\n  but stands {:?} {fault:?} after {own:?}",
                vertex.id, stand.standing
            )
            .unwrap();
        }
    }
    unlock(&root);
    if loud {
        let told: String = graph.vertices().iter().zip(&answers).map(|(v, a)| format!("  {}: {a:?}\n", v.id)).collect();
        eprintln!("answers:\n{told}{reports:#?}");
    }
    if text.is_empty() { Ok(counted) } else { Err(format!("seed {seed}:\n{pair}{text}")) }
}

/// Whether what was done is what was answered.
fn agrees(answer: &Answer, stand: &Stand, own: &[&What]) -> bool {
    let changed = own.iter().any(|what| matches!(what, What::Changed { .. } | What::Refreshed { .. }));
    let failed = own.iter().any(|what| matches!(what, What::Failed { .. }));
    // The echo of the last change may have come after all was quiet, and makes a vertex, and those after it, look again.
    let stands = |wanted| stand.standing == wanted || matches!(stand.standing, Standing::Busy | Standing::Waiting);
    match answer {
        Answer::Unknown { .. } => true,
        Answer::Ok => stands(Standing::Clean) && !changed && !failed,
        Answer::WouldChange { noop: false, .. } => stands(Standing::Changed) && changed && !failed,
        Answer::WouldChange { noop: true, .. } => stands(Standing::WouldChange) && !changed && !failed,
        Answer::WouldFail { .. } => stands(Standing::Failed) && failed && !changed,
    }
}

/// The first pair of this seed that is a graph without contradictions: one that could never be right is none to judge.
fn usable(seed: u64, root: &Path) -> Pair {
    (0..100)
        .find_map(|attempt| {
            let pair = generate::pair(&mut Chance::of(seed * 100 + attempt), root);
            assembled(&pair, root).map(|_| pair)
        })
        .expect("most pairs are usable")
}

/// One for all tests: each instance takes one of the few (128) that a user may have, and closes in its own time.
fn watches() -> Watches {
    static WATCHES: OnceLock<Watches> = OnceLock::new();
    WATCHES.get_or_init(|| Watches::start().expect("the tests need an inotify instance")).clone()
}

fn assembled(pair: &Pair, root: &Path) -> Option<Graph> {
    let host = Arc::new(Host { memory: Memory::at(root.join("memory")), ..Host::with(watches()) });
    let options = Options { file: "random".into(), directory: root.into(), hostname: "h".into(), ..Options::default() };
    let assembled = assemble::assemble_bytes(pair.graph.to_string().as_bytes(), &options, KINDS, &host);
    let contradicts = assembled.problems.to_string().contains("does not wait for") || unmakes(&pair.graph);
    assembled.graph.filter(|_| !contradicts)
}

/// Whether one resource undoes what another one does: such a graph has no state in which it is right.
fn unmakes(graph: &serde_json::Value) -> bool {
    let files = graph["resources"]["file"].as_array().unwrap();
    let below = |one: &serde_json::Value, other: &serde_json::Value| {
        let path = |file: &serde_json::Value| Path::new(file["path"].as_str().unwrap()).to_owned();
        path(other).strip_prefix(path(one)).ok().filter(|rest| !rest.as_os_str().is_empty()).map(Path::to_owned)
    };
    let undoes = |one: &serde_json::Value, other: &serde_json::Value| {
        let Some(rest) = below(one, other) else { return false };
        let copies = |file: &serde_json::Value| file["recurse"] == true && file["source"].is_string();
        let makes = other["recurse"] == true && other["state"] == "exists";
        // A directory that is absent, or must not be made, or need not be, and a resource that makes it.
        (makes && (one["state"] != "exists" || one["meta"]["noop"] == true))
            // A purge takes the members of a nested copy for strangers.
            || (one["purge"] == true && copies(other))
            // Nor may a purge look into a directory that is closed to us, unless we are root.
            || (one["purge"] == true && other["mode"].is_string() && !rustix::process::geteuid().is_root())
            // The source has a file of this name.
            || (copies(one) && rest.starts_with("x"))
    };
    files.iter().any(|one| files.iter().any(|other| undoes(one, other)))
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Report>>>);

impl Observer for Heard {
    fn report(&self, report: &Report) {
        self.0.lock().unwrap().push(report.clone());
    }

    fn converged(&self, _: bool) {}
}

/// Debts of a run that nothing interrupts.
struct Forgetful;

impl Ledger for Forgetful {
    fn keep(&self, _: &[Id], _: bool) -> std::io::Result<()> {
        Ok(())
    }

    fn lost(&self, _: &std::io::Error) {}
}

/// What `mgmt apply` does with a graph, without its output.
async fn apply(graph: Graph) -> (Vec<Stand>, Vec<Report>) {
    let heard = Heard::default();
    let options = EngineOptions { noop: false, recheck: false, converged: Duration::ZERO };
    let config = Config { options, workers: Some(2) };
    let runtime = tokio::runtime::Handle::current();
    let engine = Engine::start(config, Clock::start(), runtime, Box::new(heard.clone()), Box::new(Forgetful)).unwrap();
    engine.replace(graph, &BTreeSet::new());
    engine.condition().wait_for(|condition| *condition == Condition::Converged).await.unwrap();
    let stands = engine.snapshot().stands;
    engine.drain(mgmt_engine::resource::Urgency::None);
    engine.condition().wait_for(|condition| *condition == Condition::Drained).await.unwrap();
    engine.stop();
    let reports = heard.0.lock().unwrap().clone();
    (stands, reports)
}

/// A directory in memory, if there is such a place: nothing here is about disks, and others may keep them busy.
fn temporary() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// An ordinary user could not remove what lies in directories without write permission.
fn unlock(directory: &Path) {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            unlock(&entry.path());
        }
    }
}

/// System calls that write to a file system, whatever their arguments are.
const WRITING: &str = "?creat,?rename,renameat,renameat2,?unlink,unlinkat,?mkdir,mkdirat,?rmdir,?chmod,fchmod,fchmodat,\
    ?fchmodat2,?chown,?lchown,fchown,fchownat,?utime,?utimes,?futimesat,utimensat,?symlink,symlinkat,?link,linkat,\
    truncate,ftruncate,fallocate,setxattr,lsetxattr,fsetxattr,removexattr,lremovexattr,fremovexattr,?mknod,mknodat,\
    mount,sync,syncfs,fsync,fdatasync";

#[test]
fn the_kernel_is_asked_for_no_change() {
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        eprintln!("skipped: system calls of a plan: there is no strace");
        return;
    }
    let mut lines = 0;
    for seed in 0..12 {
        let directory = temporary();
        let root = directory.path().canonicalize().unwrap();
        generate::make_outside(&root);
        let pair = usable(seed, &root);
        generate::make_host(&root, &pair.host);
        fs::write(root.join("graph.yaml"), pair.graph.to_string()).unwrap();
        let (trace, before) = (directory.path().with_extension("strace"), look::tree(&root));
        let mut command = std::process::Command::new("strace");
        let calls = format!("trace=?open,openat,?openat2,{WRITING}");
        command.args(["-f", "-qq", "-s", "256", "-e", &calls, "-o"]).arg(&trace);
        command.args([env!("CARGO_BIN_EXE_mgmt"), "plan", "graph.yaml", "--prefix"]).arg(root.join("state"));
        let ended = command.current_dir(&root).output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
        assert!(before == look::tree(&root), "seed {seed}: the tree is not what it was");
        let text = fs::read_to_string(&trace).unwrap();
        fs::remove_file(&trace).unwrap();
        lines += text.lines().count();
        let wrong: Vec<_> = text.lines().filter(|line| writes(line)).collect();
        assert!(wrong.is_empty(), "seed {seed}:\n{pair}{}", wrong.join("\n"));
        unlock(&root);
    }
    assert!(lines > 100, "a trace that shows nothing proves nothing");
}

/// Whether this line of a trace is a request to change something outside of `/proc` and the devices that swallow it.
fn writes(line: &str) -> bool {
    let Some((_, call)) = line.split_once(' ') else { return false };
    let call = call.trim_start();
    // `???(`: a thread ended before strace could read which call it was in. Whether a call of a plan writes does not
    // depend on that moment, and what it would have written shows in the tree.
    let unread = call.starts_with("???(");
    if unread || !call.contains('(') || call.starts_with("<...") || call.starts_with("+++") || call.starts_with("---") {
        return false;
    }
    let opens = call.starts_with("open");
    let harmless = ["\"/proc/", "\"/dev/null\"", "\"/dev/tty\""].iter().any(|path| call.contains(path));
    let flags = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_TMPFILE"];
    !harmless && (!opens || flags.iter().any(|flag| call.contains(flag)))
}
