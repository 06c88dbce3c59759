//! What lies between the ends: what is on its way, and what becomes of it. No task and no clock: moments are handed in.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use openraft::async_runtime::Instant;
use tokio::sync::oneshot;

use super::chance::Chance;
use super::paths::Paths;
use super::station::{End, Held, Look, Station, Waiting};
use super::{FRAME_BYTES_MAX, Lane};
use crate::identity::PeerId;
use crate::transport::INBOX_MAX;

/// What a lane has carried, requests and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Messages sent.
    pub sent: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages that came to be accepted or taken for an answer.
    pub delivered: u64,
    /// Messages lost by chance, by a cut, or for want of room.
    pub lost: u64,
    /// Messages that arrived a second time.
    pub doubled: u64,
}

/// Something on its way.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) from: PeerId,
    pub(super) to: PeerId,
    pub(super) lane: Lane,
    pub(super) cargo: Cargo,
}

#[derive(Debug, Clone)]
pub(super) enum Cargo {
    Request {
        call: u64,
        caller_life: u64,
        message: Bytes,
    },
    /// `None`: there is nobody who could answer.
    Answer {
        call: u64,
        caller_life: u64,
        answer: Option<Bytes>,
    },
}

impl Cargo {
    fn bytes(&self) -> usize {
        match self {
            Self::Request { message, .. } => message.len(),
            Self::Answer { answer, .. } => answer.as_ref().map_or(0, Bytes::len),
        }
    }
}

/// A message that has arrived.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) from: PeerId,
    pub(super) lane: Lane,
    pub(super) message: Bytes,
    pub(super) call: u64,
    pub(super) caller_life: u64,
}

/// A way on which order is kept: from, to, lane, and whether it is for answers.
type Way = (PeerId, PeerId, Lane, bool);

/// The network as it is at one moment.
#[derive(Debug)]
pub(super) struct Switch<I> {
    pub(super) paths: Paths,
    chance: Chance,
    stations: BTreeMap<PeerId, Station>,
    /// By when it is due, and then by when it was sent.
    flying: BTreeMap<(I, u64), Packet>,
    /// When the last one of a way is due.
    last: BTreeMap<Way, I>,
    counts: [Counts; Lane::ALL.len()],
    /// Numbers what is sent, calls and lives: each number is used once.
    numbers: u64,
}

impl<I: Instant> Switch<I> {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            paths: Paths::default(),
            chance: Chance::new(seed),
            stations: BTreeMap::new(),
            flying: BTreeMap::new(),
            last: BTreeMap::new(),
            counts: Default::default(),
            numbers: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn counts(&self, lane: Lane) -> Counts {
        self.counts[lane as usize]
    }

    fn count(&mut self, lane: Lane) -> &mut Counts {
        &mut self.counts[lane as usize]
    }

    /// The station of an end, if that is still open.
    fn station(&mut self, end: &End) -> Option<&mut Station> {
        self.stations.get_mut(&end.peer).filter(|station| station.end.life == end.life)
    }

    pub(super) fn join(&mut self, peer: PeerId, now: I) -> Arc<End> {
        self.crash(peer, now);
        let end = Arc::new(End::new(peer, self.number()));
        self.stations.insert(peer, Station::new(Arc::clone(&end)));
        end
    }

    pub(super) fn crash(&mut self, peer: PeerId, now: I) {
        let Some(station) = self.stations.remove(&peer) else { return };
        station.end.close();
        let callers = self.stations.iter().flat_map(|(caller, station)| {
            let life = station.end.life;
            let to_him = station.calls.iter().filter(|(_, waiting)| waiting.to == peer);
            to_him.map(move |(call, waiting)| (*caller, *call, life, waiting.lane))
        });
        for (to, call, caller_life, lane) in callers.collect::<Vec<_>>() {
            self.send(Packet { from: peer, to, lane, cargo: Cargo::Answer { call, caller_life, answer: None } }, now);
        }
    }

    pub(super) fn close(&mut self, end: &End, now: I) {
        if self.station(end).is_some() {
            self.crash(end.peer, now);
        }
    }

    /// A call begins: its number, or `None` if this end is closed.
    pub(super) fn call(
        &mut self,
        end: &End,
        to: PeerId,
        lane: Lane,
        message: Bytes,
        answer: oneshot::Sender<Option<Bytes>>,
        now: I,
    ) -> Option<u64> {
        let call = self.number();
        self.station(end)?.calls.insert(call, Waiting { to, lane, answer });
        let cargo = Cargo::Request { call, caller_life: end.life, message };
        self.send(Packet { from: end.peer, to, lane, cargo }, now);
        Some(call)
    }

    /// Nobody waits for that answer any more.
    pub(super) fn forget(&mut self, end: &End, call: u64) {
        if let Some(station) = self.station(end) {
            station.calls.remove(&call);
        }
    }

    /// Sends an answer, if the end is still open: the dead are silent.
    pub(super) fn answer(&mut self, end: &End, packet: Packet, now: I) {
        if self.station(end).is_some() {
            self.send(packet, now);
        }
    }

    pub(super) fn accept(&mut self, end: &End) -> Look {
        self.station(end).map_or(Look::Closed, Station::accept)
    }

    /// Puts something on its way.
    fn send(&mut self, packet: Packet, now: I) {
        let Packet { from, to, lane, ref cargo } = packet;
        let bytes = cargo.bytes();
        if let Some(Held { sent, .. }) = self.stations.get_mut(&from).and_then(|station| station.held.as_mut()) {
            if sent.len() < INBOX_MAX {
                sent.push_back(packet);
            } else {
                self.count(lane).lost += 1;
            }
            return;
        }
        self.count(lane).sent += 1;
        self.count(lane).bytes += bytes as u64;
        let path = self.paths.get(from, to);
        if bytes > FRAME_BYTES_MAX || !self.paths.is_open(from, to) || self.chance.happens(path.lost_per_million) {
            self.count(lane).lost += 1;
            return;
        }
        if matches!(cargo, Cargo::Request { .. }) && self.chance.happens(path.doubled_per_million) {
            self.count(lane).doubled += 1;
            self.launch(packet.clone(), now);
        }
        self.launch(packet, now);
    }

    /// Draws when it arrives: not before what was sent before it on the same way.
    fn launch(&mut self, packet: Packet, now: I) {
        let path = self.paths.get(packet.from, packet.to);
        let own = now + path.delay + self.chance.up_to(path.jitter);
        let way = (packet.from, packet.to, packet.lane, matches!(packet.cargo, Cargo::Answer { .. }));
        let due = self.last.get(&way).map_or(own, |last| own.max(*last));
        self.last.insert(way, due);
        let number = self.number();
        self.flying.insert((due, number), packet);
    }

    /// When the next one arrives.
    pub(super) fn next_due(&self) -> Option<I> {
        self.flying.keys().next().map(|(due, _)| *due)
    }

    /// Delivers what is due. What that sends in turn, and is due at once, too.
    pub(super) fn deliver_until(&mut self, now: I) {
        while let Some(first) = self.flying.first_entry().filter(|first| first.key().0 <= now) {
            let packet = first.remove();
            self.arrive(packet, now);
        }
    }

    fn arrive(&mut self, packet: Packet, now: I) {
        let Packet { from, to, lane, .. } = packet;
        let held = self.stations.get_mut(&to).and_then(|station| station.held.as_mut());
        if let Some(Held { come, .. }) = held {
            if come.len() < INBOX_MAX {
                come.push_back(packet);
            } else {
                self.count(lane).lost += 1;
            }
            return;
        }
        match packet.cargo {
            Cargo::Request { call, caller_life, message } => {
                let Some(station) = self.stations.get_mut(&to) else {
                    let cargo = Cargo::Answer { call, caller_life, answer: None };
                    self.send(Packet { from: to, to: from, lane, cargo }, now);
                    return;
                };
                if station.put(Request { from, lane, message, call, caller_life }) {
                    self.count(lane).delivered += 1;
                } else {
                    self.count(lane).lost += 1;
                }
            }
            Cargo::Answer { call, caller_life, answer } => {
                let station = self.stations.get_mut(&to).filter(|station| station.end.life == caller_life);
                let Some(waiting) = station.and_then(|station| station.calls.remove(&call)) else { return };
                // Whoever has just given up does not want it.
                if waiting.answer.send(answer).is_ok() {
                    self.count(lane).delivered += 1;
                }
            }
        }
    }

    /// Changes who reaches whom; what is on a way that is closed now is lost.
    pub(super) fn change_paths(&mut self, change: impl FnOnce(&mut Paths)) {
        change(&mut self.paths);
        let Self { paths, flying, counts, .. } = self;
        flying.retain(|_, packet| {
            let open = paths.is_open(packet.from, packet.to);
            if !open {
                counts[packet.lane as usize].lost += 1;
            }
            open
        });
    }

    pub(super) fn pause(&mut self, peer: PeerId) {
        if let Some(station) = self.stations.get_mut(&peer) {
            station.held.get_or_insert_default();
        }
    }

    pub(super) fn resume(&mut self, peer: PeerId, now: I) {
        let Some(station) = self.stations.get_mut(&peer) else { return };
        let Some(Held { sent, come }) = station.held.take() else { return };
        station.end.arrived.notify_one();
        come.into_iter().for_each(|packet| self.arrive(packet, now));
        sent.into_iter().for_each(|packet| self.send(packet, now));
    }

    /// The calls of a peer that wait for an answer.
    #[cfg(test)]
    pub(super) fn waiting(&self, peer: PeerId) -> Vec<u64> {
        self.stations.get(&peer).into_iter().flat_map(|station| station.calls.keys().copied()).collect()
    }

    pub(super) fn calm(&mut self, now: I) {
        self.paths.calm();
        for peer in self.stations.keys().copied().collect::<Vec<_>>() {
            self.resume(peer, now);
        }
    }
}
