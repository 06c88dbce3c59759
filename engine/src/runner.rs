//! Carries out what the schedule decides: worker threads, tokio tasks, timeouts, panics.
//!
//! One mutex guards the schedule. Whoever has an event (a watch's thread, a task, a worker) steps the schedule under it,
//! for microseconds; idle workers sleep on a condition variable until something is ready or a deadline comes. A worker
//! pulls a batch, polls each future once, and reports the batch; a future that is not done by then goes on as a tokio
//! task. So a check of a file costs a few system calls and no task switch, and a command costs no thread.
//!
//! Must not know what a resource does.

mod bounded;
mod core;
mod holding;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use tokio::sync::watch as latest;

use self::core::{Core, Dropped, Told};
use crate::clock::{Clock, Moment};
use crate::difference::{Difference, difference};
use crate::grants::Grants;
use crate::graph::Graph;
use crate::id::Id;
use crate::report::{Report, Stand};
use crate::resource::Urgency;
use crate::schedule::{Options, Owed, Schedule};

/// `EX_SOFTWARE` of sysexits(3).
const EXIT_BUG: i32 = 70;
/// Reports that may wait for a slow observer.
const OUTBOX_MAX: usize = 65_536;
/// Worker threads, at least and at most. Twice the cores: half of them are a reserve that steps in when a worker blocks.
const WORKERS: std::ops::RangeInclusive<usize> = 2..=16;

/// Takes what the engine tells. Called in order, by one thread at a time, outside the engine's lock; a slow observer
/// slows reports down, not repairs.
pub trait Observer: Send + Sync {
    /// Something happened to a vertex.
    fn report(&self, report: &Report);
    /// All has been quiet for long enough, or is no more.
    fn converged(&self, converged: bool);
}

/// Remembers, over restarts, who is owed a refresh.
pub trait Ledger: Send + Sync {
    /// Replaces what is remembered. With `durable`, it is on stable storage when this returns.
    ///
    /// # Errors
    /// What kept it from being written.
    fn keep(&self, owed: &[Id], durable: bool) -> io::Result<()>;
    /// Something could not be remembered; for the log.
    fn lost(&self, error: &io::Error);
}

/// How an engine runs.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// How vertices are treated.
    pub options: Options,
    /// Worker threads; `None`: by the number of cores.
    pub workers: Option<usize>,
}

/// What the present graph amounts to.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// How each vertex stands, by number.
    pub stands: Vec<Stand>,
    /// Since when all is quiet.
    pub quiet_since: Option<Moment>,
    /// Whether it has been quiet for long enough.
    pub converged: bool,
    /// Now, on the same clock.
    pub now: Moment,
}

/// A running engine. Dropping it drains: what runs is waited for.
pub struct Engine {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    core: Mutex<Core>,
    /// Something is ready, a deadline is nearer, or it is over.
    work: Condvar,
    /// Whoever holds it hands reports to the observer.
    telling: Mutex<()>,
    observer: Box<dyn Observer>,
    ledger: Box<dyn Ledger>,
    /// The version of debts that the ledger has. Its lock is held while it writes.
    ledger_version: Mutex<u64>,
    /// The same, to be looked at without the lock.
    kept_version: AtomicU64,
    /// The version of debts that the schedule has.
    owed_version: AtomicU64,
    clock: Clock,
    runtime: Handle,
    /// Workers that may be at work before the reserve is asked.
    cores: usize,
    state: latest::Sender<Condition>,
    /// Who gives what is shared with other hosts, if anybody does.
    grants: OnceLock<Box<dyn Grants>>,
    /// For tasks of its own.
    me: Weak<Self>,
}

/// Where the engine as a whole is; for those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Something is to be done, or has been quiet for too short. A moment's work after convergence is not told: it would
    /// wake whoever waits here twice for each repair.
    Working,
    /// Quiet for long enough.
    Converged,
    /// Asked to drain, and nothing runs any more.
    Drained,
}

impl Engine {
    /// Starts an engine without a graph.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(
        config: Config,
        clock: Clock,
        runtime: Handle,
        observer: Box<dyn Observer>,
        ledger: Box<dyn Ledger>,
    ) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let count = config.workers.unwrap_or((cores * 2).clamp(*WORKERS.start(), *WORKERS.end()));
        let shared = Arc::new_cyclic(|me| Shared {
            core: Mutex::new(Core {
                schedule: Schedule::new(config.options),
                graph: Graph::default(),
                held: Vec::new(),
                idle: 0,
                alarms: vec![None; count],
                active: 0,
                pulls: 0,
                sentinel: false,
                over: false,
                outbox: Vec::new(),
                tasks: 0,
                condition: Condition::Working,
                urgency: Urgency::None,
                asked: BTreeMap::new(),
            }),
            work: Condvar::new(),
            telling: Mutex::new(()),
            observer,
            ledger,
            ledger_version: Mutex::new(0),
            kept_version: AtomicU64::new(0),
            owed_version: AtomicU64::new(0),
            clock,
            runtime,
            cores: cores.min(count),
            state: latest::Sender::new(Condition::Working),
            grants: OnceLock::new(),
            me: me.clone(),
        });
        let mut workers = Vec::with_capacity(count);
        for number in 0..count {
            let shared = Arc::clone(&shared);
            let worker = std::thread::Builder::new().name(format!("worker-{number}"));
            workers.push(worker.spawn(move || shared.work(number))?);
        }
        Ok(Self { shared, workers })
    }

    /// Says who gives what is shared with other hosts. Only the first one counts; without one, whoever wants such a
    /// thing fails.
    pub fn share(&self, grants: Box<dyn Grants>) {
        self.shared.grants.get_or_init(|| grants);
    }

    /// Replaces the graph. Equal vertices are left alone, and looked at again if they have failed; `debts` are refreshes
    /// that an earlier run still owed.
    pub fn replace(&self, graph: Graph, debts: &BTreeSet<Id>) -> Difference {
        self.put(graph, debts, true)
    }

    /// Replaces the graph because of something that nobody of this host has done: equal vertices are left alone, also
    /// those that have failed.
    pub fn update(&self, graph: Graph) -> Difference {
        self.put(graph, &BTreeSet::new(), false)
    }

    fn put(&self, graph: Graph, debts: &BTreeSet<Id>, again: bool) -> Difference {
        let now = self.shared.clock.now();
        let mut core = self.shared.lock();
        let difference = difference(&core.graph, &graph);
        let (slots, still_running) = core.schedule.replace(&graph, &difference, debts, again, now);
        let mut dropped = core.end_slots();
        for slot in still_running {
            let held = &mut core.held[slot as usize];
            held.leaves = true;
            dropped.extend(held.watch.take().map(Dropped::Watch));
            if let Some(stop) = &held.stop {
                stop.send_replace(Urgency::Cancel);
            }
        }
        core.seat(&graph, &slots, &difference);
        dropped.push(Dropped::Graph(std::mem::replace(&mut core.graph, graph)));
        core.condition = Condition::Working;
        self.shared.state.send_replace(Condition::Working);
        self.shared.settle(core);
        // Watches take locks of their own when they end, so they end outside ours.
        drop(dropped);
        difference
    }

    /// From now on nothing starts. With an urgency, what runs is asked to end.
    pub fn drain(&self, urgency: Urgency) {
        let now = self.shared.clock.now();
        let mut core = self.shared.lock();
        core.schedule.drain(now);
        core.urgency = core.urgency.max(urgency);
        let urgency = core.urgency;
        for held in &core.held {
            if let Some(stop) = &held.stop {
                stop.send_if_modified(|u| {
                    let rises = *u < urgency;
                    *u = urgency.max(*u);
                    rises
                });
            }
        }
        self.shared.settle(core);
    }

    /// Where the engine as a whole is, now and in future.
    pub fn condition(&self) -> latest::Receiver<Condition> {
        self.shared.state.subscribe()
    }

    /// Returns when the observer has been told of everything that has happened so far.
    pub fn flush(&self) {
        let telling = self.shared.telling.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.deliver(&telling);
        drop(telling);
        self.shared.tell();
    }

    /// How everything stands.
    pub fn snapshot(&self) -> Snapshot {
        let core = self.shared.lock();
        Snapshot {
            stands: core.schedule.stands(),
            quiet_since: core.schedule.quiet_since(),
            converged: core.schedule.is_converged(),
            now: self.shared.clock.now(),
        }
    }

    /// Since when all is quiet, and whether that is long enough: what [`Engine::snapshot`] says of it, at no cost.
    pub fn quiet(&self) -> (Option<Moment>, bool) {
        let core = self.shared.lock();
        (core.schedule.quiet_since(), core.schedule.is_converged())
    }

    /// The present graph.
    pub fn graph(&self) -> Graph {
        self.shared.lock().graph.clone()
    }

    /// The present graph's name, and how many vertices and edges it has.
    pub fn shape(&self) -> (String, usize, usize) {
        let core = self.shared.lock();
        (core.graph.name().to_owned(), core.graph.vertices().len(), core.graph.edges().len())
    }

    /// The clock whose moments reports carry.
    pub fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// Ends all watches and threads. Call it after draining; what still runs then is left to its tasks.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let mut core = self.shared.lock();
        core.over = true;
        let watches: Vec<_> = core.held.iter_mut().filter_map(|held| held.watch.take()).collect();
        core.asked.clear();
        drop(core);
        drop(watches);
        self.shared.work.notify_all();
        for worker in self.workers.drain(..) {
            worker.join().expect("a worker catches the panics of what it runs");
        }
        // A task may be about to tell the last of it: whoever takes stock after this is to have heard it.
        self.flush();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.workers.is_empty() {
            self.end();
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Engine")
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Core> {
        // A panic under the lock, which has been printed, is a broken invariant of the schedule: going on would act on a
        // broken state. Everything on disk is whole at every instant, so ending here loses nothing.
        self.core.lock().unwrap_or_else(|_| std::process::exit(EXIT_BUG))
    }

    /// Called by whoever has stepped the schedule, to let everybody know what that led to.
    fn settle(&self, core: MutexGuard<'_, Core>) {
        self.settle_and(core, false);
    }

    /// The same; a worker that goes on to pull needs nobody woken for its own share.
    fn settle_and(&self, mut core: MutexGuard<'_, Core>, pulls: bool) {
        self.fulfil(&mut core);
        let reports = core.schedule.take_reports();
        let converged = core.schedule.take_converged();
        core.outbox.extend(reports.into_iter().map(Told::Report));
        core.outbox.extend(converged.into_iter().map(Told::Converged));
        let condition = match &core.schedule {
            s if s.is_draining() && s.running() == 0 => Condition::Drained,
            s if s.is_converged() => Condition::Converged,
            _ => Condition::Working,
        };
        let owed = core.schedule.owed_version();
        let dropped = core.end_slots();
        let (tell, wake) = (!core.outbox.is_empty(), core.wakes(self.cores, pulls));
        // Still under the lock: published later, an older state could come after a newer one, and stay.
        self.owed_version.store(owed, Ordering::Release);
        if core.condition != condition && !(condition == Condition::Working && core.is_brief()) {
            core.condition = condition;
            self.state.send_replace(condition);
        }
        drop(core);
        drop(dropped);
        for _ in 0..wake {
            self.work.notify_one();
        }
        if tell {
            self.tell();
        }
    }

    /// Hands reports to the observer: in order, one thread at a time. Others leave theirs to whoever is at it, unless
    /// too many have gathered: then they wait, so that a slow observer slows the engine rather than filling memory.
    fn tell(&self) {
        loop {
            let Ok(telling) = self.telling.try_lock() else {
                if self.lock().outbox.len() < OUTBOX_MAX {
                    return;
                }
                drop(self.telling.lock());
                continue;
            };
            self.deliver(&telling);
            drop(telling);
            // Whoever added something while we held it has left it to us.
            if self.lock().outbox.is_empty() {
                return;
            }
        }
    }

    /// Hands over what has gathered. Only for who holds `telling`.
    fn deliver(&self, _telling: &MutexGuard<'_, ()>) {
        let told = std::mem::take(&mut self.lock().outbox);
        for told in &told {
            match told {
                Told::Report(report) => self.observer.report(report),
                Told::Converged(converged) => self.observer.converged(*converged),
            }
        }
    }

    /// Writes the debts down, unless a later version has been.
    fn keep(&self, owed: &Owed, durable: bool) {
        let mut version = self.ledger_version.lock().unwrap_or_else(PoisonError::into_inner);
        if owed.version > *version {
            match self.ledger.keep(&owed.ids, durable) {
                Ok(()) => *version = owed.version,
                // Holding the repair back would be worse than a refresh that a crash might lose.
                Err(error) => self.ledger.lost(&error),
            }
            // What could not be written is tried again with the next change, not after every action.
            self.kept_version.store(owed.version, Ordering::Release);
        }
    }

    /// After refreshes: what is owed no more need not be remembered. Not urgent, so never durable.
    fn clear_ledger(&self) {
        if self.owed_version.load(Ordering::Acquire) <= self.kept_version.load(Ordering::Acquire) {
            return;
        }
        let owed = self.lock().schedule.owed();
        self.keep(&owed, false);
    }
}
