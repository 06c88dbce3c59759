//! Replacing the graph: what stays is not touched, what leaves ends first, what enters waits for its earlier life.

use std::collections::BTreeSet;

use super::successors::Successors;
use super::{Deed, Schedule, State, Step, Vertex, slot_number};
use crate::clock::Moment;
use crate::difference::{Difference, Fate};
use crate::graph::Graph;
use crate::id::Id;
use crate::resource::Cause;

impl Schedule {
    /// Puts a new graph in the place of the old one. `difference` compares the two; `debts` are refreshes that an
    /// earlier run of the program still owed. Returns the slot of each vertex of the new graph, by number, and the
    /// slots of those that leave but still have something running.
    ///
    /// `again`: whoever lets it have the graph is here, and may have removed what made a vertex fail, so that those that
    /// have failed are looked at again. What other hosts change is no reason to.
    pub fn replace(
        &mut self,
        graph: &Graph,
        difference: &Difference,
        debts: &BTreeSet<Id>,
        again: bool,
        now: Moment,
    ) -> (Vec<u32>, Vec<u32>) {
        let cause = if self.slots.is_empty() && self.lives == 0 { Cause::First } else { Cause::Reload };
        let old = std::mem::take(&mut self.slots);
        let more = (graph.vertices().len() - difference.kept()).saturating_sub(self.free.len());
        self.vertices.reserve(more);
        self.ready.reserve(more);
        let slots: Vec<u32> = graph
            .vertices()
            .iter()
            .zip(&difference.fates)
            .map(|(vertex, fate)| match fate {
                Fate::Stays(number) => {
                    if again {
                        self.look_again_if_failed(old[*number], now);
                    }
                    old[*number]
                }
                Fate::Enters => self.enter(vertex, cause, debts.contains(&vertex.id), now),
                Fate::Replaces(number) => {
                    let before = old[*number];
                    let owed = self.vertices[before as usize].owes_refresh() || debts.contains(&vertex.id);
                    self.enter(vertex, cause, owed, now)
                }
            })
            .collect();
        let still_running = self.leave(difference.leaves.iter().map(|n| old[*n]));
        self.slots = slots;
        self.name_heirs(graph);
        self.rewire(graph);
        for n in 0..self.slots.len() {
            self.consider(self.slots[n], now);
        }
        self.judge(now);
        (self.slots.clone(), still_running)
    }

    fn look_again_if_failed(&mut self, slot: u32, now: Moment) {
        if self.vertices[slot as usize].state == State::Failed {
            let revision = self.revise();
            self.vertices[slot as usize].raise(revision, Cause::Reload, now);
        }
    }

    fn enter(&mut self, vertex: &crate::graph::Vertex, cause: Cause, owed: bool, now: Moment) -> u32 {
        self.lives = self.lives.wrapping_add(1);
        let mut new = Vertex::new(vertex.id.clone(), vertex.meta.clone(), self.lives, cause, now);
        if owed {
            new.inherit_refresh(self.revise());
        }
        match self.free.pop() {
            Some(slot) => {
                self.vertices[slot as usize] = new;
                slot
            }
            None => {
                self.vertices.push(new);
                slot_number(self.vertices.len() - 1)
            }
        }
    }

    /// Ends those that leave, or marks them to end when what runs has ended.
    fn leave(&mut self, leaving: impl Iterator<Item = u32>) -> Vec<u32> {
        let (mut still_running, mut queued) = (Vec::new(), Vec::new());
        for slot in leaving {
            self.vertices[slot as usize].leaving = true;
            match self.vertices[slot as usize].step {
                Step::Running(..) => {
                    still_running.push(slot);
                    continue;
                }
                Step::Queued(_) => queued.push(slot),
                Step::Parked => self.permits.forget(slot),
                Step::Idle | Step::Pausing(_) | Step::Awaiting | Step::Asking => {}
            }
            self.release(slot);
            self.set_step(slot, Step::Idle);
            self.release_slot(slot);
        }
        if !queued.is_empty() {
            self.ready.retain(|slot| !self.vertices[*slot as usize].leaving);
        }
        // Those who waited for what these held are considered with all others, when the new edges are laid.
        if !queued.is_empty() {
            for slot in queued {
                self.permits.release(&self.vertices[slot as usize].meta.sema);
            }
            for other in self.permits.forget_all() {
                self.release(other);
                self.set_step(other, Step::Idle);
            }
        }
        still_running
    }

    /// What still runs although it has left is waited for by whatever bears its name now.
    fn name_heirs(&mut self, graph: &Graph) {
        for vertex in self.vertices.iter_mut().filter(|v| v.leaving && v.step != Step::Idle) {
            vertex.heir = graph.number(&vertex.id).map(|number| self.slots[number]);
        }
    }

    /// The last action of a leaving vertex has ended.
    pub(super) fn end(&mut self, slot: u32, now: Moment) {
        self.set_step(slot, Step::Idle);
        self.give_back(slot);
        let heir = self.vertices[slot as usize].heir;
        self.release_slot(slot);
        if let Some(heir) = heir {
            self.vertices[heir as usize].blockers -= 1;
            self.consider(heir, now);
        }
    }

    fn release_slot(&mut self, slot: u32) {
        let vertex = &mut self.vertices[slot as usize];
        // No ticket of the life that has ended is valid any more.
        self.lives = self.lives.wrapping_add(1);
        vertex.life = self.lives;
        self.free.push(slot);
        self.freed.push(slot);
    }

    /// Lays the edges anew, and counts anew who stands in whose way.
    fn rewire(&mut self, graph: &Graph) {
        let slots = &self.slots;
        let edges = graph.edges().iter().map(|edge| (slots[edge.from], slots[edge.to], edge.notify));
        self.successors = Successors::lay(self.vertices.len(), edges);
        for vertex in &mut self.vertices {
            vertex.blockers = 0;
            vertex.intents = 0;
        }
        for edge in graph.edges() {
            let (from, to) = (self.slots[edge.from], self.slots[edge.to]);
            self.vertices[to as usize].blockers += u32::from(!self.vertices[from as usize].open);
        }
        let before = std::mem::take(&mut self.owed);
        for slot in 0..slot_number(self.vertices.len()) {
            let vertex = &self.vertices[slot as usize];
            let (applies, heir) = (matches!(vertex.step, Step::Running(Deed::Apply, _)), vertex.heir);
            if let (true, Some(heir)) = (vertex.leaving && vertex.step != Step::Idle, heir) {
                self.vertices[heir as usize].blockers += 1;
            }
            if applies {
                self.intend(slot, true);
            }
        }
        for n in 0..self.slots.len() {
            if self.vertices[self.slots[n] as usize].owes_refresh() {
                self.settle_debt(self.slots[n]);
            }
        }
        // An empty set that stays empty is nothing to write down.
        self.owed_version += u64::from(self.owed != before);
    }
}
