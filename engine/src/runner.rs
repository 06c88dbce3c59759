//! Carries out what the schedule decides: worker threads, tokio tasks, timeouts, panics.
//!
//! One mutex guards the schedule. Whoever has an event (a watch's thread, a task, a worker) steps the schedule under it,
//! for microseconds; idle workers sleep on a condition variable until something is ready or a deadline comes. A worker
//! pulls a batch, polls each future once, and reports the batch; a future that is not done by then goes on as a tokio
//! task. So a check of a file costs a few system calls and no task switch, and a command costs no thread.
//!
//! Must not know what a resource does.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch as latest;
use tokio::task::AbortHandle;

use crate::clock::{Clock, Moment};
use crate::difference::{Difference, difference};
use crate::erased::{AnyResource, Fix};
use crate::graph::Graph;
use crate::id::Id;
use crate::report::{Report, Stand};
use crate::resource::{
    Applied, Boxed, Check, Fault, Look, Promises, Purpose, Signal, Sink, Stop, Ticket, Urgency, Watch, Work,
};
use crate::schedule::{Action, Deed, Event, Found, Options, Owed, Schedule};

/// Actions that a worker pulls at once, at most.
const BATCH_MAX: usize = 256;
/// A worker that has spent this long on a batch puts the rest back, so that nothing ready waits behind a slow one.
const BATCH_TIME: Duration = Duration::from_micros(300);
/// Reports that may wait for a slow observer.
const OUTBOX_MAX: usize = 65_536;
/// Worker threads, at least and at most. Twice the cores: half of them are a reserve that steps in when a worker blocks.
const WORKERS: std::ops::RangeInclusive<usize> = 2..=16;
/// The reserve takes what has been ready for so long while as many workers as there are cores are at work.
const RESERVE_AFTER: Duration = Duration::from_millis(1);

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
    /// The version of debts that the schedule has.
    owed_version: AtomicU64,
    clock: Clock,
    runtime: Handle,
    /// Workers that may be at work before the reserve is asked.
    cores: usize,
    state: latest::Sender<Condition>,
}

/// Where the engine as a whole is; for those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Something is to be done, or has been quiet for too short.
    Working,
    /// Quiet for long enough.
    Converged,
    /// Asked to drain, and nothing runs any more.
    Drained,
}

struct Core {
    schedule: Schedule,
    graph: Graph,
    held: Vec<Held>,
    /// Workers asleep, and workers at work.
    idle: usize,
    active: usize,
    /// Batches pulled so far: while it rises, workers are not blocked.
    pulls: u64,
    /// A reserve worker is watching what is ready.
    sentinel: bool,
    over: bool,
    outbox: Vec<Told>,
    /// Urgency for everything that starts from now on.
    urgency: Urgency,
}

enum Told {
    Report(Report),
    Converged(bool),
}

/// What is held for a slot.
#[derive(Default)]
struct Held {
    resource: Option<AnyResource>,
    /// The drift that was found, until it is repaired.
    fix: Option<Box<dyn Fix>>,
    watch: Option<Watching>,
    /// Stops what runs.
    stop: Option<latest::Sender<Urgency>>,
    timeout: Option<Duration>,
    sensitive: bool,
    life: u32,
}

/// A watch that is dropped with the vertex.
struct Watching {
    _held: Option<Box<dyn Send>>,
    task: Option<AbortHandle>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What an action has come to.
enum Outcome {
    Looked(Result<Check<Box<dyn Fix>>, Fault>),
    Applied(Result<Applied, Fault>),
    Refreshed(Result<Applied, Fault>),
    WatchFailed(Fault),
}

impl Outcome {
    fn failed(deed: Deed, fault: Fault) -> Self {
        match deed {
            Deed::Look => Self::Looked(Err(fault)),
            Deed::Apply => Self::Applied(Err(fault)),
            Deed::Refresh => Self::Refreshed(Err(fault)),
        }
    }
}

/// An action with all that it needs, taken out of the core.
struct Job {
    action: Action,
    resource: AnyResource,
    fix: Option<Box<dyn Fix>>,
    stop: Option<Stop>,
    timeout: Option<Duration>,
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
        let shared = Arc::new(Shared {
            core: Mutex::new(Core {
                schedule: Schedule::new(config.options),
                graph: Graph::default(),
                held: Vec::new(),
                idle: 0,
                active: 0,
                pulls: 0,
                sentinel: false,
                over: false,
                outbox: Vec::new(),
                urgency: Urgency::None,
            }),
            work: Condvar::new(),
            telling: Mutex::new(()),
            observer,
            ledger,
            ledger_version: Mutex::new(0),
            owed_version: AtomicU64::new(0),
            clock,
            runtime,
            cores: cores.min(count),
            state: latest::Sender::new(Condition::Working),
        });
        let mut workers = Vec::with_capacity(count);
        for number in 0..count {
            let shared = Arc::clone(&shared);
            let worker = std::thread::Builder::new().name(format!("worker-{number}"));
            workers.push(worker.spawn(move || shared.work())?);
        }
        Ok(Self { shared, workers })
    }

    /// Replaces the graph. Equal vertices are left alone; `debts` are refreshes that an earlier run still owed.
    pub fn replace(&self, graph: Graph, debts: &BTreeSet<Id>) -> Difference {
        let now = self.shared.clock.now();
        let mut core = self.shared.lock();
        let difference = difference(&core.graph, &graph);
        let (slots, still_running) = core.schedule.replace(&graph, &difference, debts, now);
        let mut dropped = core.end_slots();
        for slot in still_running {
            let held = &mut core.held[slot as usize];
            dropped.extend(held.watch.take().map(Dropped::Watch));
            if let Some(stop) = &held.stop {
                stop.send_replace(Urgency::Cancel);
            }
        }
        core.seat(&graph, &slots, &difference);
        dropped.push(Dropped::Graph(std::mem::replace(&mut core.graph, graph)));
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

    /// The present graph.
    pub fn graph(&self) -> Graph {
        self.shared.lock().graph.clone()
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
        drop(core);
        drop(watches);
        self.shared.work.notify_all();
        for worker in self.workers.drain(..) {
            worker.join().expect("a worker catches the panics of what it runs");
        }
        self.shared.tell();
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

/// What is dropped outside the lock.
#[expect(dead_code, reason = "held only to be dropped later")]
enum Dropped {
    Watch(Watching),
    Held(Held),
    Graph(Graph),
}

impl Core {
    /// Empties the slots of vertices that have ended. What was in them is to be dropped outside the lock.
    fn end_slots(&mut self) -> Vec<Dropped> {
        let freed = self.schedule.take_freed();
        freed.into_iter().map(|slot| Dropped::Held(std::mem::take(&mut self.held[slot as usize]))).collect()
    }

    /// Puts those that enter into their slots.
    fn seat(&mut self, graph: &Graph, slots: &[u32], difference: &Difference) {
        let needed = slots.iter().max().map_or(0, |slot| *slot as usize + 1).max(self.held.len());
        self.held.resize_with(needed, Held::default);
        for (number, slot) in slots.iter().enumerate() {
            if matches!(difference.fates[number], crate::difference::Fate::Stays(_)) {
                continue;
            }
            let vertex = &graph.vertices()[number];
            self.held[*slot as usize] = Held {
                resource: Some(Arc::clone(&vertex.resource)),
                timeout: vertex.meta.timeout,
                sensitive: vertex.meta.sensitive,
                ..Held::default()
            };
        }
    }

    /// Pulls up to `most` actions.
    fn pull(&mut self, most: usize, now: Moment, into: &mut Vec<Job>) {
        while into.len() < most {
            let Some(action) = self.schedule.next(now) else { break };
            let held = &mut self.held[action.ticket.slot as usize];
            held.life = action.ticket.life;
            let resource = Arc::clone(held.resource.as_ref().expect("a seated slot has its resource"));
            let fix = if action.deed == Deed::Apply { held.fix.take() } else { None };
            let stop = (action.deed != Deed::Look).then(|| {
                let (sender, stop) = Stop::new();
                sender.send_replace(self.urgency);
                held.stop = Some(sender);
                stop
            });
            into.push(Job { action, resource, fix, stop, timeout: held.timeout });
        }
    }

    /// Takes in what an action has come to.
    fn take_in(&mut self, ticket: Ticket, outcome: Outcome, now: Moment) {
        let held = &mut self.held[ticket.slot as usize];
        if held.life != ticket.life {
            return;
        }
        let hide = |fault: Fault| {
            if held.sensitive { Fault::new("failed; why is hidden, because it is sensitive") } else { fault }
        };
        let event = match outcome {
            Outcome::Looked(Ok(Check::Drifted(fix))) => {
                let text = if held.sensitive { "differs (sensitive)".to_owned() } else { fix.to_string() };
                held.fix = Some(fix);
                Event::Looked(ticket, Ok(Found::Drifted(text)))
            }
            Outcome::Looked(Ok(Check::Converged)) => Event::Looked(ticket, Ok(Found::Converged)),
            // Only a plan may answer so; outside of one it is a fault of the kind, not a reason to stop.
            Outcome::Looked(Ok(Check::Unknown(why))) => Event::Looked(ticket, Err(Fault::new(why))),
            Outcome::Looked(Err(fault)) => Event::Looked(ticket, Err(hide(fault))),
            Outcome::WatchFailed(fault) => Event::WatchFailed(ticket, hide(fault)),
            Outcome::Applied(result) => {
                held.stop = None;
                let sensitive = held.sensitive;
                Event::Applied(ticket, result.map(|a| conceal(a, sensitive)).map_err(hide))
            }
            Outcome::Refreshed(result) => {
                held.stop = None;
                let sensitive = held.sensitive;
                Event::Refreshed(ticket, result.map(|a| conceal(a, sensitive)).map_err(hide))
            }
        };
        self.schedule.step(event, now);
    }
}

fn conceal(applied: Applied, sensitive: bool) -> Applied {
    match applied {
        Applied::Changed { refreshed, .. } if sensitive => {
            Applied::Changed { deed: "changed (sensitive)".into(), refreshed }
        }
        other => other,
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Core> {
        // A panic under the lock is a broken invariant of the schedule: going on would act on a broken state.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called by whoever has stepped the schedule, to let everybody know what that led to.
    fn settle(&self, core: MutexGuard<'_, Core>) {
        self.settle_and(core, false);
    }

    /// The same; a worker that goes on to pull needs nobody woken for its own share.
    fn settle_and(&self, mut core: MutexGuard<'_, Core>, pulls: bool) {
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
        self.state.send_if_modified(|known| std::mem::replace(known, condition) != condition);
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

    /// A worker's life.
    fn work(self: &Arc<Self>) {
        let _runtime = self.runtime.enter();
        let mut jobs = Vec::with_capacity(BATCH_MAX);
        let mut done: Vec<(Ticket, Outcome)> = Vec::with_capacity(BATCH_MAX);
        while self.pull(&mut jobs) {
            let began = self.clock.now();
            let mut rest = jobs.drain(..);
            for job in rest.by_ref() {
                let ticket = job.action.ticket;
                if let Some(outcome) = self.begin(job) {
                    done.push((ticket, outcome));
                }
                if self.clock.now().since(began) >= BATCH_TIME {
                    break;
                }
            }
            let rest: Vec<Job> = rest.collect();
            let now = self.clock.now();
            let mut core = self.lock();
            // The later ones go to the front first, so that they keep their order.
            for job in rest.into_iter().rev() {
                core.held[job.action.ticket.slot as usize].fix = job.fix;
                core.schedule.put_back(&job.action);
            }
            for (ticket, outcome) in done.drain(..) {
                core.take_in(ticket, outcome, now);
            }
            core.active -= 1;
            self.settle_and(core, true);
            self.clear_ledger();
        }
    }

    /// Waits until something is to be done, and pulls a fair share of it. `false`: it is over.
    fn pull(&self, jobs: &mut Vec<Job>) -> bool {
        let mut core = self.lock();
        let mut stepped_in = false;
        loop {
            if core.over {
                return false;
            }
            let now = self.clock.now();
            let wake_at = core.schedule.wake_at();
            if wake_at.is_some_and(|at| at <= now) {
                core.schedule.step(Event::Wake, now);
                self.settle(core);
                core = self.lock();
                continue;
            }
            if core.active < self.cores || stepped_in {
                let share = (core.schedule.ready() / (self.cores * 2)).clamp(1, BATCH_MAX);
                core.pull(share, now, jobs);
                if !jobs.is_empty() {
                    core.active += 1;
                    core.pulls += 1;
                    return true;
                }
            }
            // With work left over, one sleeper looks again soon: the others may be blocked.
            let watches = core.schedule.ready() > 0 && !core.sentinel;
            let limit = [wake_at.map(|at| at.since(now)), watches.then_some(RESERVE_AFTER)].into_iter().flatten().min();
            core.sentinel |= watches;
            core.idle += 1;
            let pulls = core.pulls;
            stepped_in = false;
            core = match limit {
                None => self.work.wait(core).unwrap_or_else(PoisonError::into_inner),
                Some(limit) => {
                    let woken = self.work.wait_timeout(core, limit).unwrap_or_else(PoisonError::into_inner);
                    stepped_in = watches && woken.1.timed_out() && woken.0.pulls == pulls;
                    woken.0
                }
            };
            core.idle -= 1;
            if watches {
                core.sentinel = false;
            }
        }
    }

    /// Begins an action: polls it once here; what is not done then goes on as a task, which reports by itself.
    fn begin(self: &Arc<Self>, job: Job) -> Option<Outcome> {
        let ticket = job.action.ticket;
        if job.action.arm
            && let Err(fault) = self.arm(&job)
        {
            return Some(Outcome::WatchFailed(fault));
        }
        if let Some(owed) = &job.action.owed {
            self.keep(owed, true);
        }
        let deed = job.action.deed;
        let mut future = match catch_unwind(AssertUnwindSafe(|| future_of(job))) {
            Ok(future) => Guarded(future),
            Err(panic) => return Some(Outcome::failed(deed, panicked(&*panic))),
        };
        match Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome.unwrap_or_else(|fault| Outcome::failed(deed, fault))),
            Poll::Pending => {
                let shared = Arc::clone(self);
                self.runtime.spawn(async move {
                    let outcome = future.await.unwrap_or_else(|fault| Outcome::failed(deed, fault));
                    let now = shared.clock.now();
                    let mut core = shared.lock();
                    core.take_in(ticket, outcome, now);
                    shared.settle(core);
                    shared.clear_ledger();
                });
                None
            }
        }
    }

    /// Arms the watch of a vertex that is about to be looked at for the first time.
    fn arm(self: &Arc<Self>, job: &Job) -> Result<(), Fault> {
        let ticket = job.action.ticket;
        let sink: Arc<dyn Sink> = Arc::<Self>::clone(self);
        let signal = Signal::new(sink, ticket);
        let watch = catch_unwind(AssertUnwindSafe(|| job.resource.watch(&signal)))
            .unwrap_or_else(|panic| Err(panicked(&*panic)))?;
        let (held, task) = match watch {
            Watch::Nothing => return Ok(()),
            Watch::Held(held) => (Some(held), None),
            Watch::Task(task) => (None, Some(task)),
            Watch::Both(held, task) => (Some(held), Some(task)),
        };
        let task = task.map(|task| {
            let shared = Arc::clone(self);
            let watching = self.runtime.spawn(async move {
                // Ending well means that nothing more will come, which is no failure.
                if let Err(fault) = Guarded(task).await.and_then(|ended| ended) {
                    shared.event(Event::WatchFailed(ticket, fault));
                }
            });
            watching.abort_handle()
        });
        let watching = Watching { _held: held, task };
        let mut core = self.lock();
        let seat = &mut core.held[ticket.slot as usize];
        // A graph that came meanwhile may have ended this life: then the watch ends here, outside the lock.
        let over = if seat.life == ticket.life && seat.resource.is_some() {
            seat.watch.replace(watching)
        } else {
            Some(watching)
        };
        drop(core);
        drop(over);
        Ok(())
    }

    fn event(&self, event: Event) {
        let now = self.clock.now();
        let mut core = self.lock();
        core.schedule.step(event, now);
        self.settle(core);
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
        }
    }

    /// After refreshes: what is owed no more need not be remembered. Not urgent, so never durable.
    fn clear_ledger(&self) {
        let known = *self.ledger_version.lock().unwrap_or_else(PoisonError::into_inner);
        if self.owed_version.load(Ordering::Acquire) > known {
            let owed = self.lock().schedule.owed();
            self.keep(&owed, false);
        }
    }
}

impl Core {
    /// How many sleepers to wake for what is ready.
    fn wakes(&self, cores: usize, pulls: bool) -> usize {
        let (ready, active) = (self.schedule.ready(), self.active + usize::from(pulls));
        let left = ready - usize::from(pulls).min(ready);
        let wanted = if active < cores { cores - active } else { usize::from(!self.sentinel) };
        left.min(wanted).min(self.idle)
    }
}

impl Sink for Shared {
    fn raised(&self, tickets: &[Ticket]) {
        let now = self.clock.now();
        let mut core = self.lock();
        for ticket in tickets {
            core.schedule.step(Event::Raised(*ticket), now);
        }
        self.settle(core);
    }

    fn ticked(&self, ticket: Ticket) {
        self.event(Event::Ticked(ticket));
    }
}

/// The future of a job.
fn future_of(job: Job) -> Boxed<Outcome> {
    let Job { action, resource, fix, stop, timeout } = job;
    let stop = stop.unwrap_or_else(Stop::never);
    match action.deed {
        Deed::Look => {
            let look = Look {
                cause: action.cause,
                refresh: action.refresh,
                purpose: Purpose::Converge,
                promises: Promises::none(),
            };
            let check = resource.check(look);
            Box::pin(async move { Outcome::Looked(in_time_or_dropped(check, timeout).await) })
        }
        Deed::Apply => {
            let fix = fix.expect("a drift was found, or there would be no repair");
            Box::pin(async move {
                Outcome::Applied(in_time_or_stopped(|work| fix.apply(work), action, stop, timeout).await)
            })
        }
        Deed::Refresh => Box::pin(async move {
            Outcome::Refreshed(in_time_or_stopped(|work| resource.refresh(work), action, stop, timeout).await)
        }),
    }
}

/// A check may be dropped at any await.
async fn in_time_or_dropped<T>(check: Boxed<Result<T, Fault>>, timeout: Option<Duration>) -> Result<T, Fault> {
    match timeout {
        None => check.await,
        Some(timeout) => tokio::time::timeout(timeout, check).await.unwrap_or_else(|_| Err(too_long("check", timeout))),
    }
}

/// An apply is never dropped: when its time is up it is asked to stop, and waited for.
async fn in_time_or_stopped(
    apply: impl FnOnce(Work) -> Boxed<Result<Applied, Fault>>,
    action: Action,
    stop: Stop,
    timeout: Option<Duration>,
) -> Result<Applied, Fault> {
    let Some(timeout) = timeout else { return apply(Work { cause: action.cause, stop }).await };
    let (sender, own) = Stop::new();
    let mut apply = apply(Work { cause: action.cause, stop: own });
    let pass_on = async {
        for urgency in [Urgency::Cancel, Urgency::Kill] {
            stop.reached(urgency).await;
            sender.send_replace(stop.urgency());
        }
        std::future::pending::<()>().await;
    };
    tokio::pin!(pass_on);
    let up = tokio::time::sleep(timeout);
    tokio::pin!(up);
    let mut late = false;
    let result = loop {
        tokio::select! {
            biased;
            result = &mut apply => break result,
            () = &mut pass_on => {}
            () = &mut up, if !late => {
                late = true;
                sender.send_if_modified(|u| std::mem::replace(u, (*u).max(Urgency::Cancel)) < Urgency::Cancel);
            }
        }
    };
    if late {
        result.and_then(|_| Err(too_long("apply", timeout))).map_err(|_| too_long("apply", timeout))
    } else {
        result
    }
}

fn too_long(what: &str, timeout: Duration) -> Fault {
    Fault::new(format!("{what} took longer than meta.timeout, {} ms", timeout.as_millis()))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Fault {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Fault::new(format!("the kind's own code panicked, which is a bug: {}", text.unwrap_or("no message")))
}

/// A future whose panic is its failure.
struct Guarded<T>(Boxed<T>);

impl<T> Future for Guarded<T> {
    type Output = Result<T, Fault>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panicked(&*panic))),
        }
    }
}
