//! The promise protocol: hosts that all start empty decide who of them founds.
//!
//! Each host promises once, on its disk, that one of them and nobody else may found; with promises of a majority that
//! one does. Two of them cannot both have a majority, whoever starts when, crashes or is cut off. The one with the lowest
//! peer id asks for promises as soon as all have been seen; this only decides how quickly it goes, not whether it is safe.
//!
//! A pure state machine: no clock, no disk, no network, no chance. A promise is given once it is written, not before.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use mgmt_engine::Moment;

use crate::mesh::messages::HexId;
use crate::mesh::messages::found::{ADDRESSES_MAX, Answer, Ask, KNOWN_MAX, Known, Mesh, What, Who};

/// Who has been silent for so long is not counted on.
const FRESH: Duration = Duration::from_secs(5);
/// Where not all have answered here, all must have been seen by somebody, the same ones for so long.
const STABLE: Duration = Duration::from_secs(3);
/// Between two questions at one place, while there are few.
const ROUND: Duration = Duration::from_millis(250);
/// Added for each place: each question is a handshake.
const ROUND_EACH: Duration = Duration::from_millis(25);
/// Places that are asked.
const PLACES_MAX: usize = 256;
/// Different things that are said once.
const SAID_MAX: usize = 64;

/// What happens.
#[derive(Debug)]
pub(super) enum Event {
    /// Time has passed.
    Tick,
    /// Somebody who knows the secret asks; answer him by the ticket.
    Asked {
        /// From where.
        from: SocketAddr,
        /// What.
        ask: Ask,
        /// Which question it is.
        ticket: u64,
    },
    /// One that was asked has answered, and knows the secret.
    Answered {
        /// Where.
        at: SocketAddr,
        /// What.
        answer: Answer,
    },
    /// One that was asked has not answered, or not sensibly.
    Silent {
        /// Where.
        at: SocketAddr,
    },
    /// Somebody was given another secret.
    Stranger {
        /// Where.
        at: SocketAddr,
    },
    /// The promise that was to be written is, and survives a crash.
    Written,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// Ask somebody; [`Event::Answered`], [`Event::Silent`] or [`Event::Stranger`] must follow.
    Ask {
        /// Where.
        at: SocketAddr,
        /// What.
        ask: Ask,
    },
    /// Answer a question.
    Answer {
        /// Which.
        ticket: u64,
        /// What.
        answer: Answer,
    },
    /// Write a promise to this one; [`Event::Written`] must follow, or the end.
    Write(Who),
    /// It is decided; nothing follows.
    Settle(Settled),
    /// Tell people.
    Say(String),
}

/// How it is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// This host founds.
    Found,
    /// There is a mesh. It has a token, and its addresses begin with where it was heard.
    Join(Mesh),
}

/// Another host.
#[derive(Debug)]
struct Other {
    who: Who,
    addresses: BTreeSet<SocketAddr>,
    /// When it was last heard itself.
    heard: Option<Moment>,
    /// When it was last heard of.
    seen: Moment,
    /// It has promised to this host.
    promised: bool,
}

/// A place to ask.
#[derive(Debug, Default)]
struct Spot {
    next: Moment,
    /// A question is on its way.
    busy: bool,
    /// It was asked at least once, with whatever outcome.
    tried: bool,
    /// It is this host itself.
    me: bool,
}

/// What a host knows while nothing is decided.
#[derive(Debug)]
pub(super) struct Promise {
    me: Who,
    expect: u16,
    /// Where the promise lies, for people.
    file: String,
    /// To whom this host has promised, on its disk.
    promised: Option<Who>,
    /// To whom it is just about to, and who waits for that.
    writing: Option<(Who, Vec<u64>)>,
    others: BTreeMap<HexId, Other>,
    spots: BTreeMap<SocketAddr, Spot>,
    /// Who has been seen, and since when nobody else.
    stable: (BTreeSet<HexId>, Moment),
    /// When whom it has promised to was heard last, or it began to wait for that.
    master_heard: Moment,
    said: BTreeSet<String>,
    status: String,
    settled: bool,
}

impl Promise {
    /// Begins, with what the disk says was promised before.
    pub(super) fn new(
        me: Who,
        expect: u16,
        promised: Option<Who>,
        seeds: &[SocketAddr],
        file: String,
        now: Moment,
    ) -> Self {
        let mut promise = Self {
            me,
            expect,
            file,
            promised,
            writing: None,
            others: BTreeMap::new(),
            spots: BTreeMap::new(),
            stable: (BTreeSet::new(), now),
            master_heard: now,
            said: BTreeSet::new(),
            status: String::new(),
            settled: false,
        };
        promise.places(seeds, now);
        promise
    }

    /// More places to ask.
    pub(super) fn places(&mut self, places: &[SocketAddr], now: Moment) {
        for at in places {
            self.spots.entry(*at).or_insert_with(|| Spot { next: now, ..Spot::default() });
        }
    }

    /// Takes in what has happened.
    pub(super) fn step(&mut self, event: Event, now: Moment, actions: &mut Vec<Action>) {
        if self.settled {
            return;
        }
        match event {
            Event::Tick => {}
            Event::Asked { from, ask, ticket } => self.asked(from, ask, ticket, now, actions),
            Event::Answered { at, answer } => {
                self.back(at);
                self.answered(at, answer, now, actions);
            }
            Event::Silent { at } => self.back(at),
            Event::Stranger { at } => {
                self.back(at);
                self.say(format!("{} was given another secret than this host: it is not heard", at.ip()), actions);
            }
            Event::Written => self.written(now, actions),
        }
        self.look(now, actions);
    }

    /// A question at this place has come to its end.
    fn back(&mut self, at: SocketAddr) {
        if let Some(spot) = self.spots.get_mut(&at) {
            (spot.busy, spot.tried) = (false, true);
        }
    }

    fn asked(&mut self, from: SocketAddr, ask: Ask, ticket: u64, now: Moment, actions: &mut Vec<Action>) {
        if let What::Come(mesh) = ask.what {
            actions.push(Action::Answer { ticket, answer: self.pristine(now) });
            return self.join(from, mesh, actions);
        }
        // A seed that is this host itself: it will know that by the answer.
        let answer = if ask.from.peer == self.me.peer {
            self.pristine(now)
        } else if ask.expect != self.expect {
            self.disagreed(&ask.from, ask.expect, actions);
            let why =
                format!("{} expects {} hosts and {} expects {}", self.me.host, self.expect, ask.from.host, ask.expect);
            Answer::Refused { why }
        } else if !self.heard(&ask.from, from, &ask.seen, now, actions) {
            Answer::Refused { why: format!("{} is the name of another host", ask.from.host) }
        } else {
            if ask.what == What::Promise {
                match &mut self.writing {
                    None if self.promised.is_none() => {
                        self.writing = Some((ask.from.clone(), vec![ticket]));
                        actions.push(Action::Write(ask.from));
                        return;
                    }
                    // It asks again while its promise is being written.
                    Some((whom, waiting)) if *whom == ask.from && waiting.len() < KNOWN_MAX => {
                        waiting.push(ticket);
                        return;
                    }
                    _ => {}
                }
            }
            self.pristine(now)
        };
        actions.push(Action::Answer { ticket, answer });
    }

    fn written(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Some((whom, waiting)) = self.writing.take() else { return };
        (self.promised, self.master_heard) = (Some(whom), now);
        actions.extend(waiting.into_iter().map(|ticket| Action::Answer { ticket, answer: self.pristine(now) }));
    }

    fn pristine(&self, now: Moment) -> Answer {
        let (from, promised) = (self.me.clone(), self.promised.clone());
        Answer::Pristine { from, expect: self.expect, promised, seen: self.known(now) }
    }

    fn answered(&mut self, at: SocketAddr, answer: Answer, now: Moment, actions: &mut Vec<Action>) {
        match answer {
            Answer::Pristine { from, .. } if from.peer == self.me.peer => {
                if let Some(spot) = self.spots.get_mut(&at) {
                    spot.me = true;
                }
            }
            Answer::Pristine { from, expect, .. } if expect != self.expect => self.disagreed(&from, expect, actions),
            Answer::Pristine { from, promised, seen, .. } => {
                if self.heard(&from, at, &seen, now, actions)
                    && let Some(other) = self.others.get_mut(&from.peer)
                {
                    other.promised = promised.is_some_and(|whom| whom.peer == self.me.peer);
                }
            }
            Answer::Member(mesh) => self.join(at, mesh, actions),
            Answer::Refused { why } => {
                self.say(format!("{at} refuses: {}", crate::mesh::messages::printable(&why)), actions);
            }
        }
    }

    /// There is a mesh already: that decides it.
    fn join(&mut self, at: SocketAddr, mut mesh: Mesh, actions: &mut Vec<Action>) {
        // One without a token cannot let anybody in just now; others can, or itself later.
        if mesh.token.is_some() {
            mesh.addresses.retain(|other| *other != at);
            mesh.addresses.insert(0, at);
            self.settled = true;
            actions.push(Action::Settle(Settled::Join(mesh)));
        }
    }

    fn disagreed(&mut self, other: &Who, expect: u16, actions: &mut Vec<Action>) {
        let why = format!("{} was started with --expect {expect}, this host with {}", other.host, self.expect);
        self.say(why, actions);
    }

    /// Somebody was heard himself; whether he may take part.
    fn heard(&mut self, who: &Who, at: SocketAddr, seen: &[Known], now: Moment, actions: &mut Vec<Action>) -> bool {
        if who.peer == self.me.peer || who.host == self.me.host {
            if who.peer != self.me.peer {
                let why = format!(
                    "another host at {} is called {} as well: give one of them a --hostname",
                    at.ip(),
                    who.host
                );
                self.say(why, actions);
            }
            return false;
        }
        // One that has lost its disk has the same name and is somebody else: what it had promised is gone as well.
        self.others.retain(|peer, other| *peer == who.peer || other.who.host != who.host);
        self.see(who, &[at], Some(now), now);
        for known in seen {
            let taken = |other: &Other| other.who.host == known.who.host && other.who.peer != known.who.peer;
            if known.who.peer != self.me.peer
                && known.who.host != self.me.host
                && !self.others.values().any(|other| taken(other) && other.heard.is_some())
            {
                self.see(&known.who, &known.addresses, None, now);
            }
        }
        if self.promised.as_ref().is_some_and(|whom| whom.peer == who.peer) {
            self.master_heard = now;
        }
        true
    }

    fn see(&mut self, who: &Who, addresses: &[SocketAddr], heard: Option<Moment>, now: Moment) {
        if self.others.len() >= KNOWN_MAX && !self.others.contains_key(&who.peer) {
            return;
        }
        let other = self.others.entry(who.peer).or_insert_with(|| Other {
            who: who.clone(),
            addresses: BTreeSet::new(),
            heard: None,
            seen: now,
            promised: false,
        });
        (other.heard, other.seen) = (heard.or(other.heard), now);
        for at in addresses {
            if other.addresses.len() < ADDRESSES_MAX && at.port() != 0 {
                other.addresses.insert(*at);
            }
            if other.addresses.contains(at) && self.spots.len() < PLACES_MAX {
                self.spots.entry(*at).or_insert_with(|| Spot { next: now, ..Spot::default() });
            }
        }
    }

    /// Whom this host has heard itself, lately.
    fn known(&self, now: Moment) -> Vec<Known> {
        let fresh = self.others.values().filter(|other| is_fresh(other.heard, now));
        fresh.map(|o| Known { who: o.who.clone(), addresses: o.addresses.iter().copied().collect() }).collect()
    }

    /// What follows from what is known.
    fn look(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.settled {
            return;
        }
        let here = 1 + self.others.values().filter(|other| is_fresh(other.heard, now)).count();
        let mut seen: BTreeSet<_> =
            self.others.iter().filter(|(_, other)| is_fresh(Some(other.seen), now)).map(|(peer, _)| *peer).collect();
        seen.insert(self.me.peer);
        if seen != self.stable.0 {
            self.stable = (seen, now);
        }
        let expect = usize::from(self.expect);
        let too_many = self.stable.0.len() > expect;
        if self.leads() {
            let promised = 1 + self.others.values().filter(|other| other.promised).count();
            if promised > expect / 2 && !too_many {
                self.settled = true;
                actions.push(Action::Settle(Settled::Found));
                return;
            }
        } else if self.promised.is_none() && self.writing.is_none() && !too_many && self.may_begin(here, now) {
            self.writing = Some((self.me.clone(), Vec::new()));
            actions.push(Action::Write(self.me.clone()));
        }
        self.tell(here, now, actions);
        self.ask(now, actions);
    }

    /// Whether this host has promised to itself.
    fn leads(&self) -> bool {
        self.promised.as_ref().is_some_and(|whom| whom.peer == self.me.peer)
    }

    /// Whether it is for this host to ask for promises, and time to.
    fn may_begin(&self, here: usize, now: Moment) -> bool {
        let expect = usize::from(self.expect);
        let lowest = self.stable.0.first() == Some(&self.me.peer);
        let all_seen = self.stable.0.len() == expect && now.since(self.stable.1) >= STABLE;
        // One that expects nobody else still asks first whether somebody is a member.
        let tried = expect > 1 || self.spots.values().all(|spot| spot.tried);
        lowest && tried && (here == expect || all_seen)
    }

    /// Asks wherever it is time to.
    fn ask(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let what = if self.leads() { What::Promise } else { What::Hello };
        let count = u32::try_from(self.spots.len()).unwrap_or(u32::MAX);
        let round = ROUND.max(ROUND_EACH.saturating_mul(count));
        let due = |spot: &Spot| !spot.busy && !spot.me && spot.next <= now;
        if !self.spots.values().any(due) {
            return;
        }
        let ask = Ask { from: self.me.clone(), expect: self.expect, what, seen: self.known(now) };
        for (at, spot) in self.spots.iter_mut().filter(|(_, spot)| due(spot)) {
            (spot.busy, spot.next) = (true, now.after(round));
            actions.push(Action::Ask { at: *at, ask: ask.clone() });
        }
    }

    /// Says how it stands, if that has changed.
    fn tell(&mut self, here: usize, now: Moment, actions: &mut Vec<Action>) {
        let expect = usize::from(self.expect);
        let list = |hosts: String| if hosts.is_empty() { hosts } else { format!(", {hosts}") };
        let hosts = |of: &dyn Fn(&&Other) -> bool| {
            let mut hosts: Vec<_> = self.others.values().filter(of).map(|other| other.who.host.clone()).collect();
            hosts.sort();
            hosts.join(", ")
        };
        let status = if self.stable.0.len() > expect {
            let all = hosts(&|other| is_fresh(Some(other.seen), now));
            format!(
                "--expect {expect} is less than the hosts that are there ({}, {all}): give all of them the same number, \
                     and not more of them than that",
                self.me.host
            )
        } else {
            match &self.promised {
                Some(whom) if whom.peer != self.me.peer && now.since(self.master_heard) > FRESH => format!(
                    "this host has promised to found a mesh with {}, which is silent: start that again; if it is lost for \
                     good and no mesh was founded, stop these hosts, remove {} on each, and start them again",
                    whom.host, self.file
                ),
                Some(whom) if whom.peer != self.me.peer => format!("waiting for {} to found the mesh", whom.host),
                Some(_) => {
                    let given = list(hosts(&|other| other.promised));
                    format!("founding a mesh of {expect}: this host{given} agreed so far, and most of them must")
                }
                None => {
                    let there = list(hosts(&|other| is_fresh(other.heard, now)));
                    format!("{here} of {expect} hosts are here to found a mesh: this one{there}")
                }
            }
        };
        if status != self.status {
            self.status.clone_from(&status);
            actions.push(Action::Say(status));
        }
    }

    fn say(&mut self, what: String, actions: &mut Vec<Action>) {
        if self.said.len() < SAID_MAX && self.said.insert(what.clone()) {
            actions.push(Action::Say(what));
        }
    }
}

fn is_fresh(at: Option<Moment>, now: Moment) -> bool {
    at.is_some_and(|at| now.since(at) <= FRESH)
}

#[cfg(test)]
mod tests;
