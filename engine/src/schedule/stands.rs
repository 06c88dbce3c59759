//! Looking at the schedule from outside: how each vertex stands, and what it waits for.

use std::collections::HashMap;

use super::{Schedule, State, Step, Vertex};
use crate::id::Id;
use crate::report::{Stand, Standing};
use crate::resource::Ticket;

/// Predecessors named in a [`Stand`] at most.
const WAITS_FOR_MAX: usize = 3;

impl Schedule {
    /// Whose life a ticket is, if it has not ended.
    pub fn name_of(&self, ticket: Ticket) -> Option<&Id> {
        self.alive(ticket).then(|| &self.vertices[ticket.slot as usize].id)
    }

    /// How each vertex of the present graph stands, by number.
    pub fn stands(&self) -> Vec<Stand> {
        let held = self.held();
        let waits_for = self.waits_for();
        self.slots.iter().map(|slot| self.stand(*slot, held[*slot as usize], &waits_for)).collect()
    }

    /// Who stands in whose way: the first few, by the slot that waits.
    fn waits_for(&self) -> HashMap<u32, Vec<Id>> {
        let mut waits_for: HashMap<u32, Vec<Id>> = HashMap::new();
        for (from, to) in self.successors.all().filter(|(from, _)| !self.vertices[*from as usize].open) {
            let named = waits_for.entry(to).or_default();
            if named.len() < WAITS_FOR_MAX {
                named.push(self.vertices[from as usize].id.clone());
            }
        }
        waits_for
    }

    /// Which slots wait for a failure, directly or not.
    fn held(&self) -> Vec<bool> {
        let mut held = vec![false; self.vertices.len()];
        let failed = |v: &Vertex| v.state == State::Failed && v.step == Step::Idle;
        let mut front: Vec<u32> =
            self.slots.iter().copied().filter(|slot| failed(&self.vertices[*slot as usize])).collect();
        while let Some(at) = front.pop() {
            for next in self.successors.of(at).map(|n| self.successors.at(n).0) {
                let vertex = &self.vertices[next as usize];
                if !held[next as usize] && !vertex.open && vertex.step == Step::Idle {
                    held[next as usize] = true;
                    front.push(next);
                }
            }
        }
        held
    }

    fn stand(&self, slot: u32, held: bool, waits_for: &HashMap<u32, Vec<Id>>) -> Stand {
        let vertex = &self.vertices[slot as usize];
        let standing = match (vertex.step, vertex.state) {
            _ if vertex.contest.as_ref().is_some_and(|contest| contest.is_contested()) => Standing::Contested,
            (Step::Pausing(_), _) => Standing::Retrying,
            (Step::Awaiting | Step::Asking, _) => Standing::Waiting,
            (Step::Running(..) | Step::Queued(_) | Step::Parked, _) => Standing::Busy,
            (Step::Idle, State::Failed) => Standing::Failed,
            // It failed with attempts left, which a drain took from it.
            (Step::Idle, _) if vertex.fault.is_some() => Standing::Retrying,
            (Step::Idle, _) if vertex.blockers > 0 && vertex.wants_work() => {
                if held {
                    Standing::Held
                } else {
                    Standing::Waiting
                }
            }
            (Step::Idle, State::Fresh) => Standing::Waiting,
            (Step::Idle, State::WouldChange) => Standing::WouldChange,
            (Step::Idle, State::Clean) if vertex.changes > 0 => Standing::Changed,
            (Step::Idle, State::Clean) => Standing::Clean,
        };
        let waits = matches!(standing, Standing::Waiting | Standing::Held);
        Stand {
            id: vertex.id.clone(),
            standing,
            running_since: if let Step::Running(_, since) = vertex.step { Some(since) } else { None },
            waits_for: waits_for.get(&slot).filter(|_| waits).cloned().unwrap_or_default(),
            awaits: vertex.awaits.as_deref().map(Into::into),
            fault: vertex.fault.clone(),
            changes: vertex.changes,
        }
    }
}
