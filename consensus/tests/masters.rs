//! Plays the scripts in `testdata/masters` against the choice of masters.
//!
//! A script is a list of blocks: what is so, a line `----`, what is chosen and why, an empty line. What was so stays so.
//! Everybody is up, caught up and eligible, and has been for long, unless it says otherwise. Words of what is so:
//!
//! - `ideal 5`
//! - `masters a b c` and `learners d e`: newcomers; the first master of a script leads
//! - `b silent=40s lost ...`: what is known of one, from now on; `b` alone: all is well with it. Words: `silent=TIME`,
//!   `alive=TIME`, `known=TIME`, `behind=N`, `once` (near, but only once), `downs=N`, `slow=TIME`, `sync=MILLIS`,
//!   `up=TIME`, `zone=a/b`, `prefer`, `draining`, `lost`, `disk-low`, `barred`, `unknown`, `gone` (no member)
//! - `leader b`; `joint a b d` (a change to these was begun); `in-flight`, `unsettled`, `no-quorum`, `led=TIME`,
//!   `changed=TIME`, `transferred=TIME`; `calm`: all of these are over
//! - `do`: what is chosen as of now is done
//! - `settle`: all steps are shown and done, until there is none
//! - `who`: shows everybody's standing; `leave b`: shows whether it may

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use mgmt_consensus::masters::{
    Census, Deed, Policy, Profile, Seat, Step, choose, may_leave, ready, spread, standings, target,
};
use mgmt_consensus::{Incarnation, Member, PeerId, RaftId};

const LONG_MS: u64 = 3_600_000;
const POLICY: Policy = Policy::LAN;

struct Play {
    census: Census,
    ids: BTreeMap<String, RaftId>,
    out: String,
    quiet: bool,
}

fn seat(id: RaftId, host: &str) -> Seat {
    Seat {
        member: Member {
            peer: PeerId(u128::from(id)),
            incarnation: Incarnation(u128::from(id)),
            host: host.to_owned(),
        },
        known_ms: LONG_MS,
        silent_ms: 0,
        alive_ms: Some(LONG_MS),
        behind: Some(0),
        caught_up: true,
        downs: 0,
        slow_ms: None,
        profile: Profile { eligible: Some(true), sync_p99_ms: 5, uptime_ms: LONG_MS, ..Profile::default() },
    }
}

fn millis(text: &str) -> u64 {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        other => panic!("unknown unit {other:?} in {text}"),
    };
    digits.parse::<u64>().expect("a number") * unit
}

impl Play {
    fn new() -> Self {
        let census = Census {
            me: 0,
            led_ms: LONG_MS,
            quorum_ack_ms: Some(0),
            configs: vec![BTreeSet::new()],
            settled: true,
            change_in_flight: false,
            change_ms: LONG_MS,
            transfer_ms: None,
            ideal: Policy::IDEAL,
            seats: BTreeMap::new(),
        };
        Self { census, ids: BTreeMap::new(), out: String::new(), quiet: false }
    }

    fn id(&mut self, host: &str) -> RaftId {
        let next = self.ids.len() as RaftId + 1;
        *self.ids.entry(host.to_owned()).or_insert(next)
    }

    fn enter(&mut self, hosts: &str, votes: bool) {
        for host in hosts.split(' ') {
            let id = self.id(host);
            self.census.seats.insert(id, seat(id, host));
            if votes {
                self.census.configs[0].insert(id);
                if self.census.me == 0 {
                    self.census.me = id;
                }
            }
        }
    }

    fn known(&mut self, host: &str, words: &str) {
        let id = self.id(host);
        let zone = self.census.seats.get(&id).map(|seat| seat.profile.zone.clone()).unwrap_or_default();
        let mut now = seat(id, host);
        now.profile.zone = zone;
        for word in words.split(' ').filter(|word| !word.is_empty()) {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let number = || value.parse().expect("a number");
            match key {
                "silent" => (now.silent_ms, now.alive_ms, now.caught_up) = (millis(value), None, false),
                "alive" => now.alive_ms = Some(millis(value)),
                "known" => now.known_ms = millis(value),
                "behind" => (now.behind, now.caught_up) = (Some(number()), false),
                "once" => now.caught_up = false,
                "downs" => now.downs = value.parse().expect("a number"),
                "slow" => (now.slow_ms, now.profile.sync_p99_ms) = (Some(millis(value)), 800),
                "sync" => now.profile.sync_p99_ms = number(),
                "up" => now.profile.uptime_ms = millis(value),
                "zone" => now.profile.zone = value.split('/').map(str::to_owned).collect(),
                "prefer" => now.profile.prefer = true,
                "draining" => now.profile.draining = true,
                "lost" => now.profile.lost_data = true,
                "disk-low" => now.profile.disk_low = true,
                "barred" => now.profile.eligible = Some(false),
                "unknown" => now.profile = Profile::default(),
                "gone" => {
                    self.census.seats.remove(&id);
                    return;
                }
                other => panic!("unknown word {other}"),
            }
        }
        self.census.seats.insert(id, now);
    }

    fn happen(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word.split_once('=').unwrap_or((word, "")) {
            ("ideal", _) => self.census.ideal = rest.parse().expect("a number"),
            ("masters", _) => self.enter(rest, true),
            ("learners", _) => self.enter(rest, false),
            ("leader", _) => self.census.me = self.id(rest),
            ("joint", _) => {
                let set = rest.split(' ').map(|host| self.id(host)).collect();
                self.census.configs.push(set);
            }
            ("in-flight", _) => self.census.change_in_flight = true,
            ("unsettled", _) => self.census.settled = false,
            ("no-quorum", _) => self.census.quorum_ack_ms = Some(5_000),
            ("led", time) => self.census.led_ms = millis(time),
            ("changed", time) => self.census.change_ms = millis(time),
            ("transferred", time) => self.census.transfer_ms = Some(millis(time)),
            ("calm", _) => {
                let Census { led_ms, quorum_ack_ms, settled, change_in_flight, change_ms, transfer_ms, .. } =
                    Self::new().census;
                let now = &mut self.census;
                (now.led_ms, now.quorum_ack_ms, now.settled) = (led_ms, quorum_ack_ms, settled);
                (now.change_in_flight, now.change_ms, now.transfer_ms) = (change_in_flight, change_ms, transfer_ms);
            }
            ("do", _) => match choose(&self.census, &POLICY) {
                Some(step) => self.carry_out(&step),
                None => self.out.push_str("nothing to do\n"),
            },
            ("settle", _) => {
                for _ in 0..20 {
                    let Some(step) = choose(&self.census, &POLICY) else { break };
                    writeln!(self.out, "{}", step.sentence(&self.census)).expect("memory");
                    self.carry_out(&step);
                }
                self.quiet = choose(&self.census, &POLICY).is_some();
            }
            ("who", _) => {
                for (id, standing) in standings(&self.census, &POLICY) {
                    writeln!(self.out, "{}: {standing}", self.census.name(id)).expect("memory");
                }
                self.quiet = true;
            }
            ("leave", _) => {
                let id = self.id(rest);
                match may_leave(&self.census, &POLICY, id) {
                    Ok(()) => writeln!(self.out, "{rest} may leave").expect("memory"),
                    Err(refusal) => writeln!(self.out, "{rest} may not leave: {refusal}").expect("memory"),
                }
                self.quiet = true;
            }
            (host, _) if self.ids.contains_key(host) => self.known(host, rest),
            (other, _) => panic!("unknown word {other}"),
        }
    }

    fn carry_out(&mut self, step: &Step) {
        match &step.deed {
            Deed::Transfer { to } => self.census.me = *to,
            Deed::RemoveLearners { leave } => self.census.seats.retain(|id, _| !leave.contains(id)),
            _ => {}
        }
        self.census.configs = vec![step.voters.clone()];
        if !step.voters.contains(&self.census.me) {
            self.census.me = *step.voters.first().expect("somebody votes");
        }
    }

    fn trace(&mut self) -> String {
        if !std::mem::take(&mut self.quiet) {
            let chosen = choose(&self.census, &POLICY);
            match &chosen {
                Some(step) => writeln!(self.out, "{}", step.sentence(&self.census)).expect("memory"),
                None => {
                    let why = ready(&self.census, &POLICY).err().map(|waits| format!(": {waits}")).unwrap_or_default();
                    writeln!(self.out, "nothing{why}").expect("memory");
                }
            }
            let names = self.census.names(chosen.as_ref().map_or(self.census.voters(), |step| &step.voters));
            writeln!(self.out, "masters: {names}; wanted: {}", target(&self.census, &POLICY)).expect("memory");
            if let Some(remark) = spread::remark(&self.census) {
                writeln!(self.out, "{remark}").expect("memory");
            }
        }
        std::mem::take(&mut self.out)
    }
}

fn play(script: &str) -> String {
    let mut play = Play::new();
    let mut out = String::new();
    for block in script.split("\n\n").map(str::trim_end).filter(|b| !b.trim().is_empty()) {
        let (before, _) = block.split_once("\n----").unwrap_or((block, ""));
        for line in before.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')) {
            play.happen(line.split(" #").next().unwrap_or(line).trim());
        }
        writeln!(out, "{before}\n----\n{}", play.trace()).expect("memory");
    }
    out
}

/// With `UPDATE_EXPECT=1` the scripts are rewritten: read the difference before committing it.
#[test]
fn scripts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/masters");
    let mut played = 0;
    for entry in std::fs::read_dir(folder).expect("the scripts are part of the project") {
        let path = entry.expect("a readable folder").path();
        let script = std::fs::read_to_string(&path).expect("a readable script");
        expect_test::expect_file![&path].assert_eq(&play(&script));
        played += 1;
    }
    assert!(played >= 12, "only {played} scripts were found");
}
