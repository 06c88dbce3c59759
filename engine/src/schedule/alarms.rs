//! What is due when time has passed: pauses that end, polls, rechecks, contests that have become quiet.

use std::cmp::Reverse;

use super::{Alarm, Schedule, Step};
use crate::clock::Moment;
use crate::report::What;
use crate::resource::{Cause, Ticket};

impl Schedule {
    pub(super) fn wake(&mut self, now: Moment) {
        while let Some(Reverse((at, slot, life, alarm))) = self.alarms.peek().copied() {
            if at > now {
                break;
            }
            self.alarms.pop();
            let ticket = Ticket { slot, life };
            if self.alive(ticket) && !self.draining {
                self.ring(ticket, alarm, now);
            }
        }
    }

    fn ring(&mut self, ticket: Ticket, alarm: Alarm, now: Moment) {
        let slot = ticket.slot;
        let vertex = &mut self.vertices[slot as usize];
        match alarm {
            Alarm::Pause => {
                if matches!(vertex.step, Step::Pausing(until) if until <= now) {
                    self.set_step(slot, Step::Idle);
                    self.turn(slot, now);
                }
            }
            Alarm::Poll => {
                let every = vertex.meta.poll.expect("only polled vertices have this alarm");
                self.alarms.push(Reverse((now.after(every), slot, ticket.life, Alarm::Poll)));
                self.raise(ticket, Cause::Poll, now);
            }
            Alarm::Recheck => {
                if vertex.recheck() {
                    self.raise(ticket, Cause::Poll, now);
                }
            }
            Alarm::Settle => match vertex.contest.as_mut().and_then(|contest| contest.settle(now)) {
                Some(Ok(())) => {
                    let held = matches!(vertex.step, Step::Pausing(_));
                    self.say(slot, vec![What::Settled], now);
                    if held {
                        self.set_step(slot, Step::Idle);
                        self.turn(slot, now);
                    }
                }
                Some(Err(again)) => self.alarms.push(Reverse((again, slot, ticket.life, Alarm::Settle))),
                None => {}
            },
        }
    }
}
