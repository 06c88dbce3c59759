//! What a vertex holds that other hosts share: asked for before anything of this host, given back with it.

use std::cmp::Reverse;

use super::{Alarm, Ask, Schedule, Step, Wish};
use crate::clock::Moment;
use crate::resource::{Fault, Ticket};
use crate::vertex::{Grant, Next};

impl Schedule {
    /// Asks for what this vertex shares with other hosts.
    pub(super) fn ask(&mut self, slot: u32) {
        self.asks += 1;
        let ask = Ask(self.asks);
        let vertex = &mut self.vertices[slot as usize];
        let named: Vec<_> = vertex.shared.iter().map(|sema| format!("{}:{}", sema.id, sema.count)).collect();
        vertex.awaits = Some(named.join(", ").into());
        vertex.grant = Some(Box::new(Grant::of(ask)));
        let ticket = Ticket { slot, life: vertex.life };
        self.wishes.push(Wish::Have(ticket, ask, vertex.shared.to_vec()));
        self.set_step(slot, Step::Asking);
    }

    /// Gives that back, or waits for it no longer.
    pub(super) fn release(&mut self, slot: u32) {
        let vertex = &mut self.vertices[slot as usize];
        if let Some(grant) = vertex.grant.take() {
            vertex.awaits = None;
            self.wishes.push(Wish::Release(grant.ask));
        }
    }

    /// The slot whose question this was, unless it was withdrawn.
    fn asker(&self, ticket: Ticket, ask: Ask) -> Option<u32> {
        let asks = |slot: u32| self.vertices[slot as usize].grant.as_ref().is_some_and(|grant| grant.ask == ask);
        (self.alive(ticket) && asks(ticket.slot)).then_some(ticket.slot)
    }

    pub(super) fn granted(&mut self, ticket: Ticket, ask: Ask, fence: u64) {
        let Some(slot) = self.asker(ticket, ask) else { return };
        let vertex = &mut self.vertices[slot as usize];
        vertex.awaits = None;
        vertex.grant.as_mut().expect("it has asked").fence = Some(fence);
        if vertex.blockers > 0 {
            // It waits for somebody else now, and is considered again when that is done.
            self.set_step(slot, Step::Idle);
            return self.release(slot);
        }
        self.admit(slot);
    }

    /// As if a look had failed.
    pub(super) fn not_granted(&mut self, ticket: Ticket, ask: Ask, fault: &Fault, now: Moment) {
        let Some(slot) = self.asker(ticket, ask) else { return };
        self.release(slot);
        let vertex = &mut self.vertices[slot as usize];
        vertex.begin_look();
        let mut said = Vec::new();
        let (next, recheck) = vertex.failed(fault, now, &mut |what| said.push(what));
        if let (Some(after), true) = (recheck, self.options.recheck) {
            self.alarms.push(Reverse((now.after(after), slot, ticket.life, Alarm::Recheck)));
        }
        self.say(slot, said, now);
        if let Next::Pause(until) = next {
            return self.pause(slot, until);
        }
        self.set_step(slot, Step::Idle);
        self.turn(slot, now);
    }

    /// What has not begun does not begin; what runs is asked to end, since somebody else may be at it as well.
    pub(super) fn grant_lost(&mut self, ticket: Ticket, ask: Ask, fault: Fault, now: Moment) {
        let Some(slot) = self.asker(ticket, ask) else { return };
        let vertex = &mut self.vertices[slot as usize];
        vertex.grant.as_mut().expect("it has asked").lost = Some(fault);
        match vertex.step {
            Step::Running(..) => return self.wishes.push(Wish::Cancel(ticket)),
            Step::Queued(_) => {
                self.ready.retain(|queued| *queued != slot);
                self.set_step(slot, Step::Idle);
                self.give_back(slot);
            }
            _ => {
                self.permits.forget(slot);
                self.set_step(slot, Step::Idle);
                self.release(slot);
            }
        }
        self.turn(slot, now);
    }
}
