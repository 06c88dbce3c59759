//! One vertex as the schedule sees it: what is known of it, and what follows from what was found.
//!
//! Order is kept by revision counters: an event raises `raised` to a new revision; a look remembers the revision at
//! which it began; only when the two are equal is nothing left to look at. So an event that comes while the vertex is
//! busy is never lost, and ten that come together cost one look. Pending refreshes are counted in the same way.

use std::time::Duration;

use crate::backoff::{Bucket, Contest, Doubling, RECHECK_FIRST, RECHECK_MOST, Verdict};
use crate::clock::Moment;
use crate::id::Id;
use crate::meta::{Meta, Semaphore};
use crate::report::What;
use crate::resource::{Applied, Cause, Fault};
use crate::schedule::Ask;

/// What is done to a vertex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Watch it if that has not been done, then check it.
    Look,
    /// Repair the drift that the look found.
    Apply,
    /// Refresh it.
    Refresh,
}

/// What a vertex is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Idle,
    /// Nothing before that moment.
    Pausing(Moment),
    /// Waits for semaphores that other hosts share.
    Asking,
    /// Waits for semaphores.
    Parked,
    /// Waits for its watch to say that it can be looked at.
    Awaiting,
    Queued(Deed),
    Running(Deed, Moment),
}

/// What the last look left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Fresh,
    Clean,
    WouldChange,
    Failed,
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// As wanted.
    Converged,
    /// Not as wanted; the drift as a sentence.
    Drifted(String),
    /// Cannot be looked at before its watch says so; what it waits for.
    Later(String),
}

/// What follows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing to do until something happens.
    Rest,
    /// Go on with this at once.
    Do(Deed),
    /// Look again, not before then.
    Pause(Moment),
    /// Look again when its watch says so.
    Await,
}

/// What was asked for, or is held, of what other hosts share.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) ask: Ask,
    pub(crate) fence: Option<u64>,
    /// It may be somebody else's as well by now.
    pub(crate) lost: Option<Fault>,
}

impl Grant {
    pub(crate) fn of(ask: Ask) -> Self {
        Self { ask, fence: None, lost: None }
    }
}

#[derive(Debug)]
pub(crate) struct Vertex {
    pub(crate) id: Id,
    /// Its semaphores are those of this host alone.
    pub(crate) meta: Meta,
    /// Semaphores that other hosts share, in the order of their names.
    pub(crate) shared: Box<[Semaphore]>,
    /// Boxed, because hardly any vertex shares anything.
    pub(crate) grant: Option<Box<Grant>>,
    pub(crate) life: u32,
    pub(crate) step: Step,
    pub(crate) state: State,
    pub(crate) armed: bool,
    /// Predecessors that are not clean, and an earlier life that has not ended.
    pub(crate) blockers: u32,
    /// Whether successors may pass; kept by the schedule, which counts `blockers` by its changes.
    pub(crate) open: bool,
    /// Repairs in flight before this one that may refresh it.
    pub(crate) intents: u32,
    /// A new graph does not have it; it ends as soon as what runs has ended.
    pub(crate) leaving: bool,
    pub(crate) heir: Option<u32>,
    pub(crate) cause: Cause,
    pub(crate) fault: Option<String>,
    /// Its watch has failed while a look ran.
    pub(crate) watch_fault: Option<Fault>,
    /// What it waits for that is no predecessor.
    pub(crate) awaits: Option<Box<str>>,
    pub(crate) changes: u64,
    /// Boxed, because hardly any vertex is ever repaired often.
    pub(crate) contest: Option<Box<Contest>>,
    raised: u64,
    seen: u64,
    looking: u64,
    refresh_wanted: u64,
    refresh_begun: u64,
    refresh_done: u64,
    raised_at: Option<Moment>,
    drift: String,
    attempts: u32,
    bucket: Option<Box<Bucket>>,
    recheck: Doubling,
    /// An alarm for the next recheck is set: however often it fails until then, one is enough.
    recheck_set: bool,
}

impl Vertex {
    pub(crate) fn new(id: Id, mut meta: Meta, life: u32, cause: Cause, now: Moment) -> Self {
        let mut shared: Vec<_> = meta.sema.extract_if(.., |sema| sema.is_of_mesh()).collect();
        shared.sort();
        Self {
            bucket: meta.limit.map(|limit| Box::new(Bucket::new(limit, now))),
            id,
            meta,
            shared: shared.into(),
            grant: None,
            life,
            step: Step::Idle,
            state: State::Fresh,
            armed: false,
            blockers: 0,
            open: false,
            intents: 0,
            leaving: false,
            heir: None,
            cause,
            fault: None,
            watch_fault: None,
            awaits: None,
            changes: 0,
            contest: None,
            raised: 1,
            seen: 0,
            looking: 0,
            refresh_wanted: 0,
            refresh_begun: 0,
            refresh_done: 0,
            raised_at: None,
            drift: String::new(),
            attempts: 0,
            recheck: Doubling::new(RECHECK_FIRST, RECHECK_MOST),
            recheck_set: false,
        }
    }

    /// Whether there is something to look at.
    pub(crate) fn wants_work(&self) -> bool {
        let refresh = match self.state {
            // A refresh that failed for good waits for something new, like the look that failed.
            State::Failed => self.refresh_wanted != self.refresh_begun,
            _ => self.owes_refresh(),
        };
        self.raised != self.seen || refresh
    }

    /// Whether what it holds may be somebody else's as well.
    pub(crate) fn has_lost_grant(&self) -> bool {
        self.grant.as_ref().is_some_and(|grant| grant.lost.is_some())
    }

    /// Why a repair has failed: the loss of what it held comes before what that has led to.
    pub(crate) fn cause_of_failure(&self, fault: Fault) -> Fault {
        match self.grant.as_ref().and_then(|grant| grant.lost.as_ref()) {
            Some(lost) => Fault::new(format!("{lost}; what ran was ended: {fault}")),
            None => fault,
        }
    }

    /// Whether a refresh is pending.
    pub(crate) fn owes_refresh(&self) -> bool {
        self.refresh_wanted != self.refresh_done
    }

    /// Whether successors may run.
    pub(crate) fn is_clean(&self) -> bool {
        matches!(self.state, State::Clean | State::WouldChange)
            && self.step == Step::Idle
            && self.raised == self.seen
            && !self.owes_refresh()
    }

    /// Something may have changed.
    pub(crate) fn raise(&mut self, revision: u64, cause: Cause, now: Moment) {
        self.because(cause);
        self.raised = revision;
        self.raised_at.get_or_insert(now);
        if let Some(contest) = self.contest.as_mut().filter(|contest| contest.is_contested()) {
            contest.touch(now);
        }
    }

    /// A predecessor changed, over a notify edge.
    pub(crate) fn want_refresh(&mut self, revision: u64) {
        self.because(Cause::Refresh);
        self.refresh_wanted = revision;
    }

    /// The first cause since it was last clean is the one that counts.
    fn because(&mut self, cause: Cause) {
        if self.is_clean() {
            self.cause = cause;
        }
    }

    /// Takes over a refresh that an earlier life, or an earlier run of the program, still owed.
    pub(crate) fn inherit_refresh(&mut self, revision: u64) {
        self.refresh_wanted = revision;
    }

    /// A token for a look that an event asked for, or when there will be one.
    pub(crate) fn token(&mut self, now: Moment) -> Result<(), Moment> {
        match (&mut self.bucket, self.cause) {
            (None, _) | (_, Cause::First | Cause::Reload) => Ok(()),
            (Some(bucket), _) => bucket.take(now),
        }
    }

    pub(crate) fn begin_look(&mut self) -> bool {
        self.looking = self.raised;
        self.refresh_begun = self.refresh_wanted;
        self.owes_refresh()
    }

    pub(crate) fn begin_apply(&mut self) {
        self.refresh_begun = self.refresh_wanted;
    }

    /// A look has ended well.
    pub(crate) fn looked(&mut self, found: Found, noop: bool, now: Moment, say: &mut impl FnMut(What)) -> Next {
        let drift = match found {
            Found::Converged => return self.converged(noop, say),
            Found::Drifted(drift) => drift,
            // What has been raised since may be what it waits for.
            Found::Later(_) if self.raised != self.looking => return Next::Rest,
            Found::Later(what) => {
                self.awaits = Some(what.into());
                return Next::Await;
            }
        };
        if noop || self.meta.noop {
            say(What::WouldChange { cause: self.cause, drift });
            self.refresh_done = self.refresh_begun;
            return self.settle(State::WouldChange);
        }
        if self.meta.limit.is_none() {
            match self.contest.get_or_insert_default().repair(now) {
                Verdict::Go => {}
                Verdict::GoContested => say(What::Contested),
                Verdict::Hold(until) => return Next::Pause(until),
            }
        }
        self.drift = drift;
        Next::Do(Deed::Apply)
    }

    fn converged(&mut self, noop: bool, say: &mut impl FnMut(What)) -> Next {
        if self.refresh_begun != self.refresh_done {
            if !(noop || self.meta.noop) {
                return Next::Do(Deed::Refresh);
            }
            self.refresh_done = self.refresh_begun;
        }
        if self.state == State::Failed {
            say(What::Recovered);
        }
        self.settle(State::Clean)
    }

    fn settle(&mut self, state: State) -> Next {
        self.seen = self.looking;
        self.state = state;
        self.attempts = 0;
        self.fault = None;
        self.recheck.reset();
        if self.seen == self.raised {
            self.raised_at = None;
        }
        Next::Rest
    }

    /// A repair has ended well. Says whether something changed.
    pub(crate) fn applied(
        &mut self,
        applied: Applied,
        began: Moment,
        now: Moment,
        say: &mut impl FnMut(What),
    ) -> (Next, bool) {
        let Applied::Changed { deed, refreshed } = applied else {
            return (self.converged(false, say), false);
        };
        self.changes += 1;
        if refreshed {
            self.refresh_done = self.refresh_begun;
        }
        say(What::Changed {
            cause: self.cause,
            drift: std::mem::take(&mut self.drift),
            deed: deed.into_owned(),
            since_event: self.raised_at.map(|at| now.since(at)),
            took: now.since(began),
        });
        // What failed before is right now: that is said by the change itself.
        self.state = State::Clean;
        let next = self.converged(false, say);
        if self.raised != self.seen {
            // It has been made right; whatever was reported meanwhile came after that.
            self.cause = Cause::Drift;
        }
        (next, true)
    }

    /// A refresh has ended well. Says whether something changed.
    pub(crate) fn refreshed(&mut self, applied: Applied, say: &mut impl FnMut(What)) -> (Next, bool) {
        self.refresh_done = self.refresh_begun;
        let changed = if let Applied::Changed { deed, .. } = applied {
            self.changes += 1;
            say(What::Refreshed { deed: deed.into_owned() });
            true
        } else {
            false
        };
        (self.converged(false, say), changed)
    }

    /// The alarm for a recheck has gone off. Whether to look again.
    pub(crate) fn recheck(&mut self) -> bool {
        self.recheck_set = false;
        self.state == State::Failed && self.step == Step::Idle
    }

    /// Something failed. Also says after how long to look again although retries are used up, unless it did before.
    pub(crate) fn failed(
        &mut self,
        fault: &Fault,
        now: Moment,
        say: &mut impl FnMut(What),
    ) -> (Next, Option<Duration>) {
        self.fault = Some(fault.to_string());
        if self.meta.retry.is_none_or(|most| self.attempts < most) {
            self.attempts = self.attempts.saturating_add(1);
            say(What::Failed { fault: fault.to_string(), again: Some(self.meta.delay) });
            return (Next::Pause(now.after(self.meta.delay)), None);
        }
        self.attempts = 0;
        self.seen = self.looking;
        self.state = State::Failed;
        say(What::Failed { fault: fault.to_string(), again: None });
        let set = std::mem::replace(&mut self.recheck_set, true);
        (Next::Rest, (!set).then(|| self.recheck.pause()))
    }
}
