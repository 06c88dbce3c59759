//! What follows from how an action ended: for its vertex, for those behind it, and for what is owed to them.

use super::{Alarm, Deed, Found, Owed, Schedule, State, Step, Vertex};
use std::cmp::Reverse;
use std::time::Duration;

use crate::backoff::QUIET;
use crate::clock::Moment;
use crate::report::What;
use crate::resource::{Applied, Cause, Fault, Ticket};
use crate::vertex::Next;

impl Schedule {
    pub(super) fn looked(&mut self, ticket: Ticket, result: Result<Found, Fault>, now: Moment) {
        let noop = self.options.noop;
        let Some(vertex) = self.ended(ticket, Deed::Look) else { return };
        if vertex.leaving {
            // Nobody wants to know any more.
            self.running -= 1;
            return self.end(ticket.slot, now);
        }
        if vertex.has_lost_grant() {
            // What it has found may be somebody else's doing: it looks again when it holds it again.
            return self.follow(ticket.slot, Next::Rest, Vec::new(), now);
        }
        if result.is_err() && vertex.watch_fault.is_none() && vertex.blockers > 0 {
            // What is before it became dirty while it looked, which may well be why: it looks again when that is clean.
            return self.follow(ticket.slot, Next::Rest, Vec::new(), now);
        }
        let mut said = Vec::new();
        let watch = vertex.watch_fault.take();
        let found = match watch.map_or(result, Err) {
            Ok(found) => found,
            Err(fault) => return self.failed(ticket, &fault, now),
        };
        let next = vertex.looked(found, noop, now, &mut |what| said.push(what));
        self.follow(ticket.slot, next, said, now);
    }

    pub(super) fn applied(&mut self, ticket: Ticket, result: Result<Applied, Fault>, now: Moment) {
        if self.ended(ticket, Deed::Apply).is_none() {
            return;
        }
        self.intend(ticket.slot, false);
        let vertex = &mut self.vertices[ticket.slot as usize];
        let Step::Running(_, began) = vertex.step else { unreachable!("`ended` saw that it runs") };
        let mut said = Vec::new();
        match result {
            Ok(applied) => {
                let (next, changed) = vertex.applied(applied, began, now, &mut |what| said.push(what));
                if changed {
                    self.pass_on(ticket.slot, now);
                }
                self.follow(ticket.slot, next, said, now);
            }
            Err(fault) if vertex.blockers > 0 && !vertex.has_lost_grant() => {
                // The same as with a look; but it has begun something, so it is said.
                said.push(What::Failed { fault: fault.to_string(), again: Some(Duration::ZERO) });
                self.follow(ticket.slot, Next::Rest, said, now);
            }
            Err(fault) => {
                let fault = vertex.cause_of_failure(fault);
                self.failed(ticket, &fault, now);
            }
        }
    }

    pub(super) fn refreshed(&mut self, ticket: Ticket, result: Result<Applied, Fault>, now: Moment) {
        let Some(vertex) = self.ended(ticket, Deed::Refresh) else { return };
        let mut said = Vec::new();
        match result {
            Ok(applied) => {
                let (next, changed) = vertex.refreshed(applied, &mut |what| said.push(what));
                self.settle_debt(ticket.slot);
                if changed {
                    self.pass_on(ticket.slot, now);
                }
                self.follow(ticket.slot, next, said, now);
            }
            Err(fault) => {
                let fault = vertex.cause_of_failure(fault);
                self.failed(ticket, &fault, now);
            }
        }
    }

    /// The vertex whose action has ended, if it is the one that was given out.
    fn ended(&mut self, ticket: Ticket, deed: Deed) -> Option<&mut Vertex> {
        if !self.alive(ticket) {
            return None;
        }
        let vertex = &mut self.vertices[ticket.slot as usize];
        matches!(vertex.step, Step::Running(running, _) if running == deed).then_some(vertex)
    }

    pub(super) fn not_armed(&mut self, ticket: Ticket, fault: &Fault, now: Moment) {
        if let Some(vertex) = self.ended(ticket, Deed::Look) {
            vertex.armed = false;
            self.failed(ticket, fault, now);
        }
    }

    pub(super) fn watch_failed(&mut self, ticket: Ticket, fault: &Fault, now: Moment) {
        if !self.alive(ticket) || self.vertices[ticket.slot as usize].leaving {
            return;
        }
        let vertex = &mut self.vertices[ticket.slot as usize];
        vertex.armed = false;
        if matches!(vertex.step, Step::Running(Deed::Look, _)) {
            // It still runs: it has failed when it has ended.
            vertex.watch_fault = Some(fault.clone());
            return;
        }
        let mut said = Vec::new();
        let (next, recheck) = vertex.failed(fault, now, &mut |what| said.push(what));
        let idle = vertex.step == Step::Idle;
        self.say(ticket.slot, said, now);
        // Another look arms it again: after the delay, or when what runs has ended, or at a later recheck.
        if !idle || matches!(next, Next::Pause(_)) {
            let revision = self.revise();
            self.vertices[ticket.slot as usize].raise(revision, Cause::Poll, now);
        }
        match (next, recheck) {
            (Next::Pause(until), _) if idle => self.pause(ticket.slot, until),
            (_, Some(after)) if self.options.recheck => {
                self.alarms.push(Reverse((now.after(after), ticket.slot, ticket.life, Alarm::Recheck)));
            }
            _ => {}
        }
        self.gate(ticket.slot, now);
    }

    fn failed(&mut self, ticket: Ticket, fault: &Fault, now: Moment) {
        let slot = ticket.slot;
        let vertex = &mut self.vertices[slot as usize];
        let mut said = Vec::new();
        let (next, recheck) = vertex.failed(fault, now, &mut |what| said.push(what));
        if let (Some(after), true) = (recheck, self.options.recheck) {
            self.alarms.push(Reverse((now.after(after), slot, ticket.life, Alarm::Recheck)));
        }
        self.follow(slot, next, said, now);
    }

    /// Something changed: refreshes those behind notify edges, and wakes those that failed.
    fn pass_on(&mut self, slot: u32, now: Moment) {
        let from = self.vertices[slot as usize].heir.unwrap_or(slot);
        for n in self.successors.of(from) {
            let (to, notify) = self.successors.at(n);
            let revision = self.revise();
            let vertex = &mut self.vertices[to as usize];
            if notify {
                vertex.want_refresh(revision);
                self.settle_debt(to);
            }
            let vertex = &mut self.vertices[to as usize];
            if vertex.state == State::Failed {
                vertex.raise(revision, Cause::Refresh, now);
            }
            self.turn(to, now);
        }
    }

    /// Marks or unmarks those that this repair may refresh. `None` if there are none.
    pub(super) fn intend(&mut self, slot: u32, begin: bool) -> Option<Owed> {
        let from = self.vertices[slot as usize].heir.unwrap_or(slot);
        let mut any = false;
        for n in self.successors.of(from) {
            let (to, notify) = self.successors.at(n);
            if notify {
                any = true;
                let vertex = &mut self.vertices[to as usize];
                vertex.intents = if begin { vertex.intents + 1 } else { vertex.intents.saturating_sub(1) };
                self.settle_debt(to);
            }
        }
        (any && begin).then(|| self.owed())
    }

    /// Brings the set of debts up to date for one vertex.
    pub(super) fn settle_debt(&mut self, slot: u32) {
        let vertex = &self.vertices[slot as usize];
        if vertex.leaving {
            // Debts are kept by name, and the name is its heir's now.
            return;
        }
        let owes = vertex.intents > 0 || vertex.owes_refresh();
        let changed = if owes { self.owed.insert(vertex.id.clone()) } else { self.owed.remove(&vertex.id) };
        self.owed_version += u64::from(changed);
    }

    /// Carries out what follows for a vertex whose action has ended.
    fn follow(&mut self, slot: u32, next: Next, said: Vec<What>, now: Moment) {
        self.running -= 1;
        if said.contains(&What::Contested) {
            let (at, life) = (now.after(QUIET), self.vertices[slot as usize].life);
            self.alarms.push(Reverse((at, slot, life, Alarm::Settle)));
        }
        self.say(slot, said, now);
        if self.vertices[slot as usize].owes_refresh() || self.owed.contains(&self.vertices[slot as usize].id) {
            self.settle_debt(slot);
        }
        if self.vertices[slot as usize].leaving {
            return self.end(slot, now);
        }
        match next {
            Next::Do(deed) if !self.draining => {
                self.vertices[slot as usize].step = Step::Queued(deed);
                self.ready.push_front(slot);
            }
            Next::Pause(until) if !self.draining => {
                self.give_back(slot);
                self.pause(slot, until);
            }
            Next::Await if !self.draining => {
                self.set_step(slot, Step::Awaiting);
                self.give_back(slot);
            }
            _ => {
                self.set_step(slot, Step::Idle);
                self.give_back(slot);
                self.turn(slot, now);
            }
        }
    }
}
