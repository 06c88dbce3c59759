//! Looking at the schedule from outside: how each vertex stands, and what it waits for.

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
        self.slots.iter().map(|slot| self.stand(*slot, &held)).collect()
    }

    /// Which slots wait for a failure, directly or not.
    fn held(&self) -> Vec<bool> {
        let mut held = vec![false; self.vertices.len()];
        let failed = |v: &Vertex| v.state == State::Failed && v.step == Step::Idle;
        let mut front: Vec<u32> =
            self.slots.iter().copied().filter(|slot| failed(&self.vertices[*slot as usize])).collect();
        while let Some(at) = front.pop() {
            for (next, _) in &self.successors[at as usize] {
                let vertex = &self.vertices[*next as usize];
                if !held[*next as usize] && !vertex.open && vertex.step == Step::Idle {
                    held[*next as usize] = true;
                    front.push(*next);
                }
            }
        }
        held
    }

    fn stand(&self, slot: u32, held: &[bool]) -> Stand {
        let vertex = &self.vertices[slot as usize];
        let standing = match (vertex.step, vertex.state) {
            _ if vertex.contest.as_ref().is_some_and(|contest| contest.is_contested()) => Standing::Contested,
            (Step::Pausing(_), _) => Standing::Retrying,
            (Step::Running(..) | Step::Queued(_) | Step::Parked, _) => Standing::Busy,
            (Step::Idle, State::Failed) => Standing::Failed,
            (Step::Idle, _) if vertex.blockers > 0 && vertex.wants_work() => {
                if held[slot as usize] {
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
        let waits_for = self.predecessors[slot as usize].iter().filter(|p| waits && !self.vertices[**p as usize].open);
        Stand {
            id: vertex.id.clone(),
            standing,
            running_since: if let Step::Running(_, since) = vertex.step { Some(since) } else { None },
            waits_for: waits_for.take(WAITS_FOR_MAX).map(|p| self.vertices[*p as usize].id.clone()).collect(),
            fault: vertex.fault.clone(),
            changes: vertex.changes,
        }
    }
}
