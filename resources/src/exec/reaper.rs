//! Children of the process as a whole: which are ours to wait for, which are orphans to bury, which are being stopped.
//!
//! As a child subreaper the agent inherits whatever its commands leave behind. An orphan that has ended is a zombie until
//! somebody waits for it; nobody else will. Zombies that a live run owns are left to that run, and as other parts of the
//! program may wait for children that this module has not heard of, only what was a zombie a second ago is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustix::process::{Pid, RawPid, Signal, WaitId, WaitIdOptions, kill_process_group};
use tokio::runtime::Handle;
use tokio::sync::watch as latest;
use tokio::task::JoinHandle;

/// Between two sweeps, so that a storm of dying children costs nothing.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

static SUBREAPER: AtomicBool = AtomicBool::new(false);
/// Held for reading while a child is started and registered, for writing while zombies are looked for: no sweep sees a
/// child that is not registered yet.
static STARTING: RwLock<()> = RwLock::new(());
/// Leaders that a run owns. The number tells two lives of one pid apart. Never held across anything that waits.
static OWNED: Mutex<BTreeMap<RawPid, u64>> = Mutex::new(BTreeMap::new());
/// How many groups are being stopped after whoever ran them has gone.
static STOPPING: LazyLock<latest::Sender<usize>> = LazyLock::new(|| latest::Sender::new(0));
/// The task that sweeps; replaced when its runtime has ended.
static SWEEPER: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);

/// Makes this process the parent of whatever its descendants leave behind. Call once, early.
///
/// # Errors
/// The kernel refuses.
pub fn become_subreaper() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    SUBREAPER.store(true, Ordering::Relaxed);
    Ok(())
}

/// Waits until every group whose run was dropped has been stopped: at most the grace and a few seconds.
pub async fn settle() {
    let mut stopping = STOPPING.subscribe();
    // The sender is static: waiting cannot fail.
    stopping.wait_for(|count| *count == 0).await.ok();
}

/// Kills all groups that still run, at once. For the moment before the process exits without waiting.
pub fn kill_all() {
    super::scope::kill_all();
    for pid in OWNED.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().filter_map(Pid::from_raw) {
        // Gone already is what was wanted, and nobody is left to be told of anything else.
        kill_process_group(pid, Signal::KILL).ok();
    }
}

/// A registered leader. Dropping it takes it off the register.
#[derive(Debug)]
pub(super) struct Owned {
    pid: RawPid,
    life: u64,
}

impl Drop for Owned {
    fn drop(&mut self) {
        let mut owned = OWNED.lock().unwrap_or_else(PoisonError::into_inner);
        if owned.get(&self.pid) == Some(&self.life) {
            owned.remove(&self.pid);
        }
    }
}

/// Starts a child and registers it, with no sweep in between.
pub(super) fn start<T>(spawn: impl FnOnce() -> io::Result<(T, Pid)>) -> io::Result<(T, Pid, Owned)> {
    static LIVES: AtomicU64 = AtomicU64::new(0);
    ensure_sweeper();
    let _starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    let (child, pid) = spawn()?;
    let life = LIVES.fetch_add(1, Ordering::Relaxed);
    let raw = pid.as_raw_nonzero().get();
    OWNED.lock().unwrap_or_else(PoisonError::into_inner).insert(raw, life);
    Ok((child, pid, Owned { pid: raw, life }))
}

/// Runs the end of a group to its end, although whoever ran it is gone.
pub(super) fn finish(runtime: &Handle, end: impl Future<Output = ()> + Send + 'static) {
    struct Counted;
    impl Drop for Counted {
        fn drop(&mut self) {
            STOPPING.send_modify(|count| *count -= 1);
        }
    }
    STOPPING.send_modify(|count| *count += 1);
    let counted = Counted;
    runtime.spawn(async move {
        end.await;
        drop(counted);
    });
}

/// Orphans come to us only as a subreaper, and only once a command has run.
pub(crate) fn ensure_sweeper() {
    if !SUBREAPER.load(Ordering::Relaxed) {
        return;
    }
    let mut sweeper = SWEEPER.lock().unwrap_or_else(PoisonError::into_inner);
    if sweeper.as_ref().is_none_or(JoinHandle::is_finished) {
        *sweeper = Handle::try_current().ok().map(|runtime| runtime.spawn(sweep_for_ever()));
    }
}

async fn sweep_for_ever() {
    let kind = tokio::signal::unix::SignalKind::child();
    let mut died = match tokio::signal::unix::signal(kind) {
        Ok(died) => died,
        Err(error) => {
            tracing::warn!("cannot listen for dead children, so orphans stay zombies: {error}");
            return;
        }
    };
    let mut seen = BTreeSet::new();
    loop {
        // Zombies that were seen once need a second look, whether or not another child dies.
        if seen.is_empty() {
            died.recv().await;
        }
        tokio::time::sleep(SWEEP_EVERY).await;
        seen = sweep(&seen);
    }
}

/// Buries the orphans among `before`, and returns those that are zombies now.
fn sweep(before: &BTreeSet<RawPid>) -> BTreeSet<RawPid> {
    let _none_starts = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    let owned: BTreeSet<RawPid> = OWNED.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
    let mut seen = BTreeSet::new();
    for raw in children().into_iter().filter(|pid| !owned.contains(pid)) {
        let Some(pid) = Pid::from_raw(raw) else { continue };
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let bury = before.contains(&raw);
        let look = if bury { look } else { look | WaitIdOptions::NOWAIT };
        // An error says that somebody else has just waited for it.
        if let Ok(Some(_)) = rustix::process::waitid(WaitId::Pid(pid), look)
            && !bury
        {
            seen.insert(raw);
        }
    }
    seen
}

/// The children of all threads; none if the kernel does not list them.
fn children() -> Vec<RawPid> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let lists = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let parse =
        |list: String| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<RawPid>>();
    lists.flat_map(parse).collect()
}
