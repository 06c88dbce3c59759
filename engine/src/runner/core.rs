//! What the engine's mutex guards: the schedule, and what is held for each of its slots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch as latest;
use tokio::task::AbortHandle;

use super::Condition;
use super::holding::Asked;
use crate::clock::Moment;
use crate::difference::{Difference, Fate};
use crate::erased::{AnyResource, Fix};
use crate::graph::Graph;
use crate::report::Report;
use crate::resource::{Applied, Check, Fault, Stop, Ticket, Urgency};
use crate::schedule::{Action, Ask, Deed, Event, Found, Schedule};

pub(super) struct Core {
    pub(super) schedule: Schedule,
    pub(super) graph: Graph,
    pub(super) held: Vec<Held>,
    /// Workers asleep, and workers at work.
    pub(super) idle: usize,
    /// Until when each worker sleeps; `None`: it is awake, or sleeps until it is woken.
    pub(super) alarms: Vec<Option<Moment>>,
    pub(super) active: usize,
    /// Batches pulled so far: while it rises, workers are not blocked.
    pub(super) pulls: u64,
    /// A reserve worker is watching what is ready.
    pub(super) sentinel: bool,
    pub(super) over: bool,
    pub(super) outbox: Vec<Told>,
    /// Actions that were not done at once and have become tasks.
    pub(super) tasks: usize,
    /// The condition that was published last.
    pub(super) condition: Condition,
    /// Urgency for everything that starts from now on.
    pub(super) urgency: Urgency,
    /// What was asked for, or is held, of what other hosts share.
    pub(super) asked: BTreeMap<Ask, Asked>,
}

pub(super) enum Told {
    Report(Report),
    Converged(bool),
}

/// So many ready actions are done in a moment.
const BRIEF_MAX: usize = 16;

/// What is held for a slot.
#[derive(Default)]
pub(super) struct Held {
    pub(super) resource: Option<AnyResource>,
    /// The drift that was found, until it is repaired.
    pub(super) fix: Option<Box<dyn Fix>>,
    pub(super) watch: Option<Watching>,
    /// Stops what runs.
    pub(super) stop: Option<latest::Sender<Urgency>>,
    pub(super) timeout: Option<Duration>,
    sensitive: bool,
    /// It has left, but what ran then has not ended yet.
    pub(super) leaves: bool,
    pub(super) life: u32,
}

/// A watch that is dropped with the vertex.
pub(super) struct Watching {
    pub(super) _held: Option<Box<dyn Send>>,
    pub(super) task: Option<AbortHandle>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What an action has come to.
pub(super) enum Outcome {
    Looked(Result<Check<Box<dyn Fix>>, Fault>),
    Applied(Result<Applied, Fault>),
    Refreshed(Result<Applied, Fault>),
    NotArmed(Fault),
    WatchFailed(Fault),
}

impl Outcome {
    pub(super) fn failed(deed: Deed, fault: Fault) -> Self {
        match deed {
            Deed::Look => Self::Looked(Err(fault)),
            Deed::Apply => Self::Applied(Err(fault)),
            Deed::Refresh => Self::Refreshed(Err(fault)),
        }
    }
}

/// An action with all that it needs, taken out of the core.
pub(super) struct Job {
    pub(super) action: Action,
    pub(super) resource: AnyResource,
    pub(super) fix: Option<Box<dyn Fix>>,
    pub(super) stop: Option<Stop>,
    pub(super) timeout: Option<Duration>,
}

/// What is dropped outside the lock.
#[expect(dead_code, reason = "held only to be dropped later")]
pub(super) enum Dropped {
    Watch(Watching),
    Held(Held),
    Graph(Graph),
}

impl Core {
    /// Empties the slots of vertices that have ended. What was in them is to be dropped outside the lock.
    pub(super) fn end_slots(&mut self) -> Vec<Dropped> {
        let freed = self.schedule.take_freed();
        freed.into_iter().map(|slot| Dropped::Held(std::mem::take(&mut self.held[slot as usize]))).collect()
    }

    /// Puts those that enter into their slots.
    pub(super) fn seat(&mut self, graph: &Graph, slots: &[u32], difference: &Difference) {
        let needed = slots.iter().max().map_or(0, |slot| *slot as usize + 1).max(self.held.len());
        self.held.resize_with(needed, Held::default);
        for (number, slot) in slots.iter().enumerate() {
            if matches!(difference.fates[number], Fate::Stays(_)) {
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
    pub(super) fn pull(&mut self, most: usize, now: Moment, into: &mut Vec<Job>) {
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

    /// A stop for a look that goes on as a task; applies and refreshes have had theirs from the start.
    pub(super) fn stop_of_look(&mut self, ticket: Ticket) -> Stop {
        let (sender, stop) = Stop::new();
        let held = &mut self.held[ticket.slot as usize];
        if held.life == ticket.life {
            sender.send_replace(if held.leaves { Urgency::Cancel } else { self.urgency });
            held.stop = Some(sender);
        }
        stop
    }

    /// Takes in what an action has come to.
    pub(super) fn take_in(&mut self, ticket: Ticket, outcome: Outcome, now: Moment) {
        let held = &mut self.held[ticket.slot as usize];
        if held.life != ticket.life {
            return;
        }
        let hide = |fault: Fault| {
            if held.sensitive { Fault::new("failed; why is hidden, because it is sensitive") } else { fault }
        };
        if !matches!(outcome, Outcome::WatchFailed(_)) {
            held.stop = None;
        }
        let event = match outcome {
            Outcome::Looked(Ok(Check::Drifted(fix))) => {
                let text = if held.sensitive { "differs (sensitive)".to_owned() } else { fix.to_string() };
                held.fix = Some(fix);
                Event::Looked(ticket, Ok(Found::Drifted(text)))
            }
            Outcome::Looked(Ok(Check::Converged)) => Event::Looked(ticket, Ok(Found::Converged)),
            // Only a plan may answer so; outside of one it is a fault of the kind, not a reason to stop.
            Outcome::Looked(Ok(Check::Unknown(why))) => Event::Looked(ticket, Err(hide(Fault::new(why)))),
            Outcome::Looked(Ok(Check::Later(what))) => Event::Looked(ticket, Ok(Found::Later(what.into_owned()))),
            Outcome::Looked(Err(fault)) => Event::Looked(ticket, Err(hide(fault))),
            Outcome::NotArmed(fault) => Event::NotArmed(ticket, hide(fault)),
            Outcome::WatchFailed(fault) => Event::WatchFailed(ticket, hide(fault)),
            Outcome::Applied(result) => {
                let sensitive = held.sensitive;
                Event::Applied(ticket, result.map(|a| conceal(a, sensitive)).map_err(hide))
            }
            Outcome::Refreshed(result) => {
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

impl Core {
    /// How many sleepers to wake for what is ready.
    pub(super) fn wakes(&self, cores: usize, pulls: bool) -> usize {
        let (ready, active) = (self.schedule.ready(), self.active + usize::from(pulls));
        let left = ready - usize::from(pulls).min(ready);
        let wanted = if active < cores { cores - active } else { usize::from(!self.sentinel) };
        left.min(wanted).max(usize::from(self.is_deadline_missed())).min(self.idle)
    }

    /// Whether all that is to be done is at work on a thread right now, or will be in a moment.
    pub(super) fn is_brief(&self) -> bool {
        self.tasks == 0 && self.schedule.ready() <= BRIEF_MAX && !self.schedule.is_waiting()
    }

    /// Whether no sleeper will wake for the next deadline, which may be nearer than when they fell asleep.
    pub(super) fn is_deadline_missed(&self) -> bool {
        let next = self.schedule.wake_at();
        next.is_some_and(|next| !self.alarms.iter().flatten().any(|alarm| *alarm <= next))
    }
}
