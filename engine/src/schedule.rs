//! Decides what runs when. Events go in by [`Schedule::step`], actions are pulled by [`Schedule::next`].
//!
//! A vertex is looked at when it has something to look at, and all its predecessors are clean; one action is in flight
//! per vertex. There is no clock, disk, task or lock in here: the same events at the same moments give the same actions.
//!
//! What it promises: nothing ready is withheld; an event is never lost; a refresh is never lost and never doubled; a
//! failure holds back successors and nobody else; a new graph touches only what differs.

mod alarms;
mod granted;
mod outcomes;
mod replace;
mod stands;
mod successors;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use crate::clock::Moment;
use crate::convergence::Convergence;
use crate::id::Id;
use crate::meta::Semaphore;
use crate::permits::Permits;
use crate::report::{Report, What};
use crate::resource::{Applied, Cause, Fault, Ticket};
pub use crate::vertex::{Deed, Found};
use crate::vertex::{State, Step, Vertex};
use successors::Successors;

/// How a schedule treats all vertices.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Never apply.
    pub noop: bool,
    /// Look at failed vertices again from time to time. For an agent; a batch run just fails.
    pub recheck: bool,
    /// Converged means quiet for so long.
    pub converged: Duration,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A watch says that something may have changed.
    Raised(Ticket),
    /// A timer has ticked.
    Ticked(Ticket),
    /// A look has ended.
    Looked(Ticket, Result<Found, Fault>),
    /// A repair has ended.
    Applied(Ticket, Result<Applied, Fault>),
    /// A refresh has ended.
    Refreshed(Ticket, Result<Applied, Fault>),
    /// A watch could not be armed: the look that was to begin with it has failed.
    NotArmed(Ticket, Fault),
    /// A watch that was armed has failed since.
    WatchFailed(Ticket, Fault),
    /// What was asked for under this number was given, with this fence.
    Granted(Ticket, Ask, u64),
    /// It will not be given.
    NotGranted(Ticket, Ask, Fault),
    /// What was given may be somebody else's as well by now.
    GrantLost(Ticket, Ask, Fault),
    /// Time has passed.
    Wake,
}

/// Names one question for what is shared with other hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask(pub(crate) u64);

/// Something to be wished of others, who answer by an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// These, in the order of their names.
    Have(Ticket, Ask, Vec<Semaphore>),
    /// Not any more: they are to be given back, or no longer to be waited for.
    Release(Ask),
    /// What runs is to end: it may not be alone any more.
    Cancel(Ticket),
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// To whom.
    pub ticket: Ticket,
    /// What.
    pub deed: Deed,
    /// Why.
    pub cause: Cause,
    /// A look: arm the watch first.
    pub arm: bool,
    /// A look: a refresh is pending.
    pub refresh: bool,
    /// A repair that may cause refreshes: these must be remembered on disk before it starts.
    pub owed: Option<Owed>,
    /// What tells it from those that held the same before, on any host.
    pub fence: Option<u64>,
}

/// Vertices that are owed a refresh, or may soon be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// Rises with every change of the set.
    pub version: u64,
    /// Which.
    pub ids: Vec<Id>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    Pause,
    Poll,
    Recheck,
    Settle,
}

/// The schedule of one engine.
#[derive(Debug)]
pub struct Schedule {
    options: Options,
    vertices: Vec<Vertex>,
    successors: Successors,
    /// Slot of each vertex of the present graph, by number.
    slots: Vec<u32>,
    free: Vec<u32>,
    freed: Vec<u32>,
    ready: VecDeque<u32>,
    alarms: BinaryHeap<Reverse<(Moment, u32, u32, Alarm)>>,
    permits: Permits,
    wishes: Vec<Wish>,
    asks: u64,
    convergence: Convergence,
    converged: Vec<bool>,
    reports: Vec<Report>,
    owed: BTreeSet<Id>,
    owed_version: u64,
    busy: usize,
    running: usize,
    revision: u64,
    lives: u32,
    draining: bool,
}

impl Schedule {
    /// A schedule without vertices.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            vertices: Vec::new(),
            successors: Successors::default(),
            slots: Vec::new(),
            free: Vec::new(),
            freed: Vec::new(),
            ready: VecDeque::new(),
            alarms: BinaryHeap::new(),
            permits: Permits::default(),
            wishes: Vec::new(),
            asks: 0,
            convergence: Convergence::new(options.converged),
            converged: Vec::new(),
            reports: Vec::new(),
            owed: BTreeSet::new(),
            owed_version: 0,
            busy: 0,
            running: 0,
            revision: 1,
            lives: 0,
            draining: false,
        }
    }

    /// Takes in an event.
    pub fn step(&mut self, event: Event, now: Moment) {
        match event {
            Event::Raised(ticket) => self.raise(ticket, Cause::Drift, now),
            Event::Ticked(ticket) => self.tick(ticket, now),
            Event::Looked(ticket, result) => self.looked(ticket, result, now),
            Event::Applied(ticket, result) => self.applied(ticket, result, now),
            Event::Refreshed(ticket, result) => self.refreshed(ticket, result, now),
            Event::NotArmed(ticket, fault) => self.not_armed(ticket, &fault, now),
            Event::WatchFailed(ticket, fault) => self.watch_failed(ticket, &fault, now),
            Event::Granted(ticket, ask, fence) => self.granted(ticket, ask, fence),
            Event::NotGranted(ticket, ask, fault) => self.not_granted(ticket, ask, &fault, now),
            Event::GrantLost(ticket, ask, fault) => self.grant_lost(ticket, ask, fault, now),
            Event::Wake => self.wake(now),
        }
        self.judge(now);
    }

    /// The next thing to do, if any.
    pub fn next(&mut self, now: Moment) -> Option<Action> {
        let (slot, deed) = loop {
            let slot = self.ready.pop_front()?;
            let vertex = &self.vertices[slot as usize];
            let Step::Queued(deed) = vertex.step else { unreachable!("only queued vertices are in the queue") };
            if deed != Deed::Look || vertex.blockers == 0 {
                break (slot, deed);
            }
            // A predecessor became dirty while this one stood in the queue. It is considered again when that is done.
            self.set_step(slot, Step::Idle);
            self.give_back(slot);
            // What is before it may have failed without running, by its watch: then nothing else would notice the quiet.
            self.judge(now);
        };
        let vertex = &mut self.vertices[slot as usize];
        vertex.step = Step::Running(deed, now);
        self.running += 1;
        let ticket = Ticket { slot, life: vertex.life };
        let (cause, fence) = (vertex.cause, vertex.grant.as_ref().and_then(|grant| grant.fence));
        let mut action = Action { ticket, deed, cause, arm: false, refresh: false, owed: None, fence };
        match deed {
            Deed::Look => {
                action.arm = !vertex.armed && vertex.meta.poll.is_none();
                action.refresh = vertex.begin_look();
                if let (Some(every), false) = (vertex.meta.poll, vertex.armed) {
                    self.alarms.push(Reverse((now.after(every), slot, ticket.life, Alarm::Poll)));
                }
                vertex.armed = true;
            }
            Deed::Apply => {
                vertex.begin_apply();
                action.owed = self.intend(slot, true);
            }
            Deed::Refresh => {}
        }
        Some(action)
    }

    /// Puts an action back that was pulled but not begun. What may not start any more is not queued again.
    pub fn put_back(&mut self, action: &Action, now: Moment) {
        let slot = action.ticket.slot;
        if action.deed == Deed::Apply {
            self.intend(slot, false);
        }
        self.running -= 1;
        let vertex = &mut self.vertices[slot as usize];
        if action.deed == Deed::Look && action.arm {
            vertex.armed = false;
        }
        if vertex.leaving {
            self.end(slot, now);
        } else if self.draining {
            self.set_step(slot, Step::Idle);
            self.release(slot);
        } else if vertex.has_lost_grant() {
            self.set_step(slot, Step::Idle);
            self.give_back(slot);
            self.turn(slot, now);
        } else {
            vertex.step = Step::Queued(action.deed);
            self.ready.push_front(slot);
        }
        self.judge(now);
    }

    /// Whether there is something to take: reports, wishes, or changes of convergence.
    pub fn has_news(&self) -> bool {
        !self.reports.is_empty() || !self.converged.is_empty() || !self.wishes.is_empty()
    }

    /// How many actions wait to be pulled.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many actions have been pulled and not ended.
    pub const fn running(&self) -> usize {
        self.running
    }

    /// Whether a vertex waits for time to pass, for a semaphore, or for what it cannot be looked at without.
    pub fn is_waiting(&self) -> bool {
        self.busy > self.running + self.ready.len()
    }

    /// When to step [`Event::Wake`] at the latest.
    pub fn wake_at(&self) -> Option<Moment> {
        let alarm = self.alarms.peek().map(|Reverse((at, ..))| *at);
        [alarm, self.convergence.wake_at()].into_iter().flatten().min()
    }

    /// Takes the reports made since the last call, in order.
    pub fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// Takes the changes of convergence since the last call, in order.
    pub fn take_converged(&mut self) -> Vec<bool> {
        std::mem::take(&mut self.converged)
    }

    /// Takes the wishes made since the last call, in order.
    pub fn take_wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.wishes)
    }

    /// Takes the slots whose vertices have ended since the last call.
    pub fn take_freed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.freed)
    }

    /// Whether all has been quiet for long enough.
    pub const fn is_converged(&self) -> bool {
        self.convergence.is_converged()
    }

    /// Since when all is quiet.
    pub const fn quiet_since(&self) -> Option<Moment> {
        self.convergence.quiet_since()
    }

    /// From now on nothing starts; what runs goes on.
    pub fn drain(&mut self, now: Moment) {
        self.draining = true;
        self.ready.clear();
        for slot in 0..slot_number(self.vertices.len()) {
            if !matches!(self.vertices[slot as usize].step, Step::Running(..)) {
                self.set_step(slot, Step::Idle);
                self.release(slot);
            }
        }
        self.permits.forget_all();
        self.judge(now);
    }

    /// Whether it is draining.
    pub const fn is_draining(&self) -> bool {
        self.draining
    }

    /// The version of that set: rises with every change.
    pub const fn owed_version(&self) -> u64 {
        self.owed_version
    }

    /// The set of vertices that are owed a refresh, or may soon be.
    pub fn owed(&self) -> Owed {
        Owed { version: self.owed_version, ids: self.owed.iter().cloned().collect() }
    }

    /// Whether the ticket's vertex still is what it was.
    fn alive(&self, ticket: Ticket) -> bool {
        self.vertices.get(ticket.slot as usize).is_some_and(|v| v.life == ticket.life)
    }

    fn revise(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    fn raise(&mut self, ticket: Ticket, cause: Cause, now: Moment) {
        if self.alive(ticket) && !self.vertices[ticket.slot as usize].leaving {
            let revision = self.revise();
            let vertex = &mut self.vertices[ticket.slot as usize];
            vertex.raise(revision, cause, now);
            if vertex.step == Step::Awaiting {
                vertex.awaits = None;
                self.set_step(ticket.slot, Step::Idle);
            }
            self.turn(ticket.slot, now);
        }
    }

    fn tick(&mut self, ticket: Ticket, now: Moment) {
        if !self.alive(ticket) || self.vertices[ticket.slot as usize].leaving {
            return;
        }
        for n in self.successors.of(ticket.slot) {
            let (slot, _) = self.successors.at(n);
            let life = self.vertices[slot as usize].life;
            self.raise(Ticket { slot, life }, Cause::Tick, now);
        }
    }

    fn say(&mut self, slot: u32, said: Vec<What>, now: Moment) {
        let id = &self.vertices[slot as usize].id;
        self.reports.extend(said.into_iter().map(|what| Report { id: id.clone(), at: now, what }));
    }

    fn pause(&mut self, slot: u32, until: Moment) {
        self.set_step(slot, Step::Pausing(until));
        self.alarms.push(Reverse((until, slot, self.vertices[slot as usize].life, Alarm::Pause)));
    }

    /// Gives semaphores back, and lets those try who wait for some.
    fn give_back(&mut self, slot: u32) {
        self.release(slot);
        if self.vertices[slot as usize].meta.sema.is_empty() {
            return;
        }
        let given = std::mem::take(&mut self.vertices[slot as usize].meta.sema);
        self.permits.release(&given);
        let mut place = 0;
        while let Some(other) = self.permits.waiter(place, &given) {
            let (wanted, blocked) =
                (&self.vertices[other as usize].meta.sema, self.vertices[other as usize].blockers > 0);
            if blocked {
                // It waits for somebody else now, and is considered again when that is done.
                self.permits.leave(place);
                self.set_step(other, Step::Idle);
                self.release(other);
            } else if self.permits.take(wanted) {
                self.permits.leave(place);
                self.queue(other);
            } else {
                place += 1;
            }
        }
        self.vertices[slot as usize].meta.sema = given;
    }

    /// Brings a vertex's gate up to date, and starts it if it may run.
    fn turn(&mut self, slot: u32, now: Moment) {
        self.gate(slot, now);
        self.consider(slot, now);
    }

    /// Opens or closes the way for successors.
    fn gate(&mut self, slot: u32, now: Moment) {
        let open = self.vertices[slot as usize].is_clean();
        if open == self.vertices[slot as usize].open {
            return;
        }
        self.vertices[slot as usize].open = open;
        for n in self.successors.of(slot) {
            let (to, _) = self.successors.at(n);
            let vertex = &mut self.vertices[to as usize];
            if open {
                vertex.blockers -= 1;
                self.consider(to, now);
            } else {
                vertex.blockers += 1;
            }
        }
    }

    /// Queues a look if there is something to look at and nothing stands in the way.
    fn consider(&mut self, slot: u32, now: Moment) {
        let vertex = &mut self.vertices[slot as usize];
        if self.draining || vertex.leaving || vertex.step != Step::Idle || vertex.blockers > 0 || !vertex.wants_work() {
            return;
        }
        if let Err(until) = vertex.token(now) {
            return self.pause(slot, until);
        }
        if !vertex.shared.is_empty() {
            return self.ask(slot);
        }
        self.admit(slot);
    }

    /// Queues a look as soon as the semaphores of this host are free.
    fn admit(&mut self, slot: u32) {
        let wanted = &self.vertices[slot as usize].meta.sema;
        if !wanted.is_empty() && !self.permits.take(wanted) {
            self.permits.wait(slot);
            return self.set_step(slot, Step::Parked);
        }
        self.queue(slot);
    }

    fn queue(&mut self, slot: u32) {
        self.set_step(slot, Step::Queued(Deed::Look));
        self.ready.push_back(slot);
    }

    fn set_step(&mut self, slot: u32, step: Step) {
        let vertex = &mut self.vertices[slot as usize];
        self.busy -= usize::from(vertex.step != Step::Idle);
        self.busy += usize::from(step != Step::Idle);
        vertex.step = step;
    }

    fn judge(&mut self, now: Moment) {
        if let Some(converged) = self.convergence.update(self.busy, now) {
            self.converged.push(converged);
        }
    }
}

fn slot_number(slot: usize) -> u32 {
    u32::try_from(slot).expect("a graph has fewer than 2^32 vertices")
}
