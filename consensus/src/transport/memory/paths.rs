//! Who reaches whom, and how well.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::identity::PeerId;

/// How messages fare from one peer to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Path {
    /// How long each takes at least.
    pub delay: Duration,
    /// How much longer at most, evenly drawn. Messages of different lanes overtake each other by it.
    pub jitter: Duration,
    /// How many of a million are lost.
    pub lost_per_million: u32,
    /// How many requests of a million arrive twice. The second answer is dropped.
    pub doubled_per_million: u32,
}

/// All paths.
#[derive(Debug, Default)]
pub(super) struct Paths {
    /// How those are that have no values of their own.
    pub(super) every: Path,
    own: BTreeMap<(PeerId, PeerId), Path>,
    cuts: BTreeSet<(PeerId, PeerId)>,
    groups: BTreeMap<PeerId, usize>,
    unplugged: BTreeSet<PeerId>,
}

impl Paths {
    pub(super) fn get(&self, from: PeerId, to: PeerId) -> Path {
        self.own.get(&(from, to)).copied().unwrap_or(self.every)
    }

    pub(super) fn set(&mut self, from: PeerId, to: PeerId, path: Option<Path>) {
        match path {
            Some(path) => self.own.insert((from, to), path),
            None => self.own.remove(&(from, to)),
        };
    }

    /// Does anything get through? Whoever speaks to himself needs no network.
    pub(super) fn is_open(&self, from: PeerId, to: PeerId) -> bool {
        from == to
            || !self.cuts.contains(&(from, to))
                && !self.unplugged.contains(&from)
                && !self.unplugged.contains(&to)
                && self.groups.get(&from) == self.groups.get(&to)
    }

    pub(super) fn cut(&mut self, from: PeerId, to: PeerId) {
        self.cuts.insert((from, to));
    }

    pub(super) fn mend(&mut self, from: PeerId, to: PeerId) {
        self.cuts.remove(&(from, to));
    }

    pub(super) fn partition(&mut self, groups: &[&[PeerId]]) {
        let numbered = groups.iter().enumerate();
        self.groups = numbered.flat_map(|(number, group)| group.iter().map(move |peer| (*peer, number))).collect();
    }

    pub(super) fn unplug(&mut self, peer: PeerId) {
        self.unplugged.insert(peer);
    }

    pub(super) fn replug(&mut self, peer: PeerId) {
        self.unplugged.remove(&peer);
    }

    /// Nothing is cut off or lost or doubled any more.
    pub(super) fn calm(&mut self) {
        let calm = |path: &mut Path| *path = Path { lost_per_million: 0, doubled_per_million: 0, ..*path };
        calm(&mut self.every);
        self.own.values_mut().for_each(calm);
        self.cuts.clear();
        self.groups.clear();
        self.unplugged.clear();
    }
}
