//! A worker's life: wait, pull a batch, poll each future once, report.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Shared;
use super::bounded::{Guarded, future_of, panicked};
use super::core::{Job, Outcome, Watching};
use crate::resource::{Fault, Signal, Sink, Ticket, Urgency, Watch};
use crate::schedule::{Deed, Event};

/// Actions that a worker pulls at once, at most.
const BATCH_MAX: usize = 256;
/// … and the first time.
const BATCH_FIRST: usize = 16;
/// A worker that has spent this long on a batch puts the rest back, so that nothing ready waits behind a slow one.
const BATCH_TIME: Duration = Duration::from_micros(300);
/// A thread that brings events helps for so long, with so many actions at a time; the rest is for the workers.
const HELP_TIME: Duration = Duration::from_millis(1);
const HELP_MAX: usize = 2;
/// The reserve takes what has been ready for so long while as many workers as there are cores are at work.
const RESERVE_AFTER: Duration = Duration::from_millis(1);

impl Shared {
    /// A worker's life.
    pub(super) fn work(self: &Arc<Self>, number: usize) {
        let _runtime = self.runtime.enter();
        let mut jobs = Vec::with_capacity(BATCH_MAX);
        let mut done: Vec<(Ticket, Outcome)> = Vec::with_capacity(BATCH_MAX);
        let mut most = BATCH_FIRST;
        while self.pull(number, most, &mut jobs) {
            most = self.run(&mut jobs, &mut done, most);
        }
    }

    /// Runs a batch that has been pulled, and reports it. Returns how many to pull next.
    fn run(self: &Arc<Self>, jobs: &mut Vec<Job>, done: &mut Vec<(Ticket, Outcome)>, most: usize) -> usize {
        let began = self.clock.now();
        let mut count = 0;
        let mut rest = jobs.drain(..);
        for job in rest.by_ref() {
            let ticket = job.action.ticket;
            if let Some(outcome) = self.begin(job) {
                done.push((ticket, outcome));
            }
            count += 1;
            if self.clock.now().since(began) >= BATCH_TIME {
                break;
            }
        }
        let rest: Vec<Job> = rest.collect();
        // As many as fit into the time, going by the last ones: what is put back was pulled in vain.
        let next = if rest.is_empty() { (most * 2).min(BATCH_MAX) } else { count.max(1) };
        let now = self.clock.now();
        let mut core = self.lock();
        // The later ones go to the front first, so that they keep their order.
        for job in rest.into_iter().rev() {
            core.held[job.action.ticket.slot as usize].fix = job.fix;
            core.schedule.put_back(&job.action, now);
        }
        for (ticket, outcome) in done.drain(..) {
            core.take_in(ticket, outcome, now);
        }
        core.active -= 1;
        self.settle_and(core, true);
        self.clear_ledger();
        next
    }

    /// Waits until something is to be done, and pulls a fair share of it. `false`: it is over.
    fn pull(&self, number: usize, most: usize, jobs: &mut Vec<Job>) -> bool {
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
                let share = (core.schedule.ready() / (self.cores * 2)).clamp(1, most);
                core.pull(share, now, jobs);
                if !jobs.is_empty() {
                    core.active += 1;
                    core.pulls += 1;
                    if core.is_deadline_missed() {
                        // Somebody else has to watch the time while this one works.
                        self.work.notify_one();
                    }
                    return true;
                }
                if core.schedule.has_news() {
                    self.settle(core);
                    core = self.lock();
                    continue;
                }
            }
            // Pulling may have brought a deadline nearer.
            let wake_at = core.schedule.wake_at();
            // With work left over, one sleeper looks again soon: the others may be blocked.
            let watches = core.schedule.ready() > 0 && !core.sentinel;
            let limit = [wake_at.map(|at| at.since(now)), watches.then_some(RESERVE_AFTER)].into_iter().flatten().min();
            core.sentinel |= watches;
            core.idle += 1;
            core.alarms[number] = wake_at;
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
            core.alarms[number] = None;
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
            return Some(Outcome::NotArmed(fault));
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
                let stop = {
                    let mut core = self.lock();
                    core.tasks += 1;
                    (deed == Deed::Look).then(|| core.stop_of_look(ticket))
                };
                self.runtime.spawn(async move {
                    let cancelled = async {
                        match &stop {
                            Some(stop) => stop.reached(Urgency::Cancel).await,
                            None => std::future::pending().await,
                        }
                    };
                    let outcome = tokio::select! {
                        biased;
                        outcome = future => outcome.unwrap_or_else(|fault| Outcome::failed(deed, fault)),
                        // A check may be dropped at any await.
                        () = cancelled => Outcome::failed(deed, Fault::new("cancelled")),
                    };
                    let now = shared.clock.now();
                    let mut core = shared.lock();
                    core.tasks -= 1;
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
                    let now = shared.clock.now();
                    let mut core = shared.lock();
                    core.take_in(ticket, Outcome::WatchFailed(fault), now);
                    shared.settle(core);
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

    pub(super) fn event(&self, event: Event) {
        let now = self.clock.now();
        let mut core = self.lock();
        core.schedule.step(event, now);
        self.settle(core);
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

    /// One event, one file: the thread that read the event repairs it itself. Handing it to a worker would cost a
    /// wake-up, and on a busy machine the wait for a core: up to a tick of the scheduler.
    fn raised_by_helper(self: Arc<Self>, tickets: &[Ticket]) {
        let began = self.clock.now();
        let mut core = self.lock();
        for ticket in tickets {
            core.schedule.step(Event::Raised(*ticket), began);
        }
        let _runtime = self.runtime.enter();
        let (mut jobs, mut done) = (Vec::new(), Vec::new());
        loop {
            let now = self.clock.now();
            if !core.over && core.active < self.cores && now.since(began) < HELP_TIME {
                core.pull(HELP_MAX, now, &mut jobs);
            }
            if jobs.is_empty() {
                return self.settle(core);
            }
            core.active += 1;
            core.pulls += 1;
            self.settle(core);
            self.run(&mut jobs, &mut done, HELP_MAX);
            core = self.lock();
        }
    }
}
