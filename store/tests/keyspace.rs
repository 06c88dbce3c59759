//! Plays the scripts in `testdata/keyspace` against the keyspace.
//!
//! A script is a list of blocks: commands, a line `----`, what became of each and which events it made, an empty line.
//! Every command goes through its bytes, and a second replica applies it too and must come to the same state. Words:
//!
//! - `as HOST [agent|master|admin] [peer=N]`: who speaks from now on. `at MS`, `wait MS`: the leader's time.
//! - `4/1 COMMAND`: as number 1 of session 4. `again`: the last command once more, byte for byte.
//! - `put KEY VALUE [lease=N]` (a value `*100` is 100 bytes), `delete KEY`, `delete-prefix PREFIX`,
//!   `txn if k/a version = 0, k/b absent then put k/a 1, delete k/b else put k/c 2`
//! - `grant SECONDS`, `revoke LEASE`, `expire LEASE…`; `lock NAME LEASE [count=N] [try]`, `unlock NAME LEASE`
//! - `stage GENERATION KIND:NAME=VALUE… KIND:NAME…` (without a value: withdrawn; a NAME may be `1..9`), `flip GENERATION base=N staged=N …`,
//!   `forget HOST`
//! - `admit HOST peer=N ROLE [replace] [levels=1-2] [zone=a/b] [address=A]`, `update HOST …`, `remove HOST`
//! - `token ID ROLE [host=H] [uses=N] [replace] expires=MS`, `consume ID HOST USED`, `revoke-token ID`
//! - `ideal N`, `allow PATTERN PREFIX`, `disallow …`, `feature N`, `open`, `close SESSION`
//! - `quiet N COMMAND`: N times, only the last one told; `%` is the number.
//! - `show PREFIX`: what is there. `events AFTER`: what the history has. `snapshot`: goes on from a snapshot.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;

use mgmt_consensus::machine::Frozen;
use mgmt_consensus::{Machine, PeerId};
use mgmt_store::command::{Compare, ExportChange, Op, Prefix, Relation, Test, Txn};
use mgmt_store::record::{Claim, Peer, Token, Versions};
use mgmt_store::{
    Body, Change, Command, Done, Entry, Event, HostName, Key, Keyspace, LeaseId, Origin, Outcome, Request, Revision,
    Role, Shared, StoreMachine, Ticket, Value,
};

struct Play {
    machine: StoreMachine,
    twin: Keyspace,
    origin: Origin,
    at_ms: u64,
    index: u64,
    last: bytes::Bytes,
    out: String,
}

fn text(value: &[u8]) -> String {
    if value.len() > 40 && value.iter().all(|byte| *byte == value[0]) {
        return format!("*{}", value.len());
    }
    String::from_utf8_lossy(value).into_owned()
}

fn value(word: &str) -> Value {
    match word.strip_prefix('*') {
        Some(length) => vec![b'x'; length.parse().unwrap()].into(),
        None => word.as_bytes().into(),
    }
}

/// What a record says, for those keys whose values are records.
fn content(keyspace: &Keyspace, key: &Key, entry: &Entry) -> String {
    let claims = |claims: &[Claim]| {
        let one = |claim: &Claim| format!("{}@{} fence {}", claim.lease.0, claim.host, claim.fence);
        claims.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    if let Some(lock) = keyspace.lock(key) {
        return format!(
            "{} of {}: [{}] waiting [{}]",
            lock.holders.len(),
            lock.count,
            claims(&lock.holders),
            claims(&lock.waiters)
        );
    }
    if let Some(host) = key.as_str().strip_prefix("x/").filter(|host| !host.contains('/')) {
        let (_, manifest) = keyspace.manifest(&host.parse().unwrap()).unwrap();
        return format!("generation {}, {} exports, {} bytes", manifest.generation, manifest.count, manifest.bytes);
    }
    if let Some(host) = key.as_str().strip_prefix(Key::PEERS) {
        let peer = keyspace.peer(&host.parse().unwrap()).unwrap();
        let (zone, addresses) = (peer.zone.join("/"), peer.addresses.join(","));
        let Versions { min, max } = peer.versions;
        return format!(
            "peer {} {} admitted {} levels {min}-{max} [{zone}] [{addresses}]",
            peer.peer.0, peer.role, peer.admitted
        );
    }
    if let Some(id) = key.as_str().strip_prefix(Key::TOKENS) {
        let (_, token) = keyspace.tokens().find(|(known, _)| *known == id).unwrap();
        return format!("{} used {} of {:?} until {}", token.role, token.used, token.uses, token.expires_ms);
    }
    match key.as_str() {
        "_/ideal" => keyspace.ideal_size().to_string(),
        "_/feature" => keyspace.feature_level().to_string(),
        _ => text(&entry.value),
    }
}

fn told(outcome: &Outcome) -> String {
    let what = match &outcome.result {
        Ok(Done::Applied) => "done".into(),
        Ok(Done::Unchanged) => "unchanged".into(),
        Ok(Done::Put { version }) => format!("version {version}"),
        Ok(Done::Deleted { count }) => format!("deleted {count}"),
        Ok(Done::Txn { held, deleted }) => format!("held {held}, deleted {deleted}"),
        Ok(Done::Leased { lease, ttl_s }) => format!("lease {} for {ttl_s} s", lease.0),
        Ok(Done::Expired { through }) => format!("through {through}"),
        Ok(Done::Held { fence }) => format!("held, fence {fence}"),
        Ok(Done::Waiting { before }) => format!("waiting, {before} before"),
        Ok(Done::Staged { count }) => format!("staged {count}"),
        Ok(Done::TokenUsed { role, replace }) => format!("makes {role}, replace {replace}"),
        Ok(Done::Session { session }) => format!("session {session}"),
        Err(refusal) => format!("refused: {refusal}"),
    };
    format!("{}: {what}", outcome.revision)
}

impl Play {
    fn new() -> Self {
        Self {
            machine: StoreMachine::with_history(16, 1 << 20),
            twin: Keyspace::default(),
            origin: Origin { host: "boss".parse().unwrap(), peer: PeerId(1), role: Role::Admin },
            at_ms: 0,
            index: 0,
            last: bytes::Bytes::new(),
            out: String::new(),
        }
    }

    fn shared(&self) -> Arc<Shared> {
        self.machine.shared()
    }

    fn apply(&mut self, bytes: bytes::Bytes, tell: bool) {
        self.index += 1;
        let foreseen = Command::decode(&bytes)
            .ok()
            .and_then(|command| self.twin.foresees(&command.origin, command.at_ms, &command.request));
        self.last = bytes.clone();
        let outcome = self.machine.apply(self.index, &bytes).unwrap();
        let mut events = Vec::new();
        assert_eq!(self.twin.apply_bytes(self.index, &bytes, &mut events).unwrap(), outcome, "replicas agree");
        if let Some(refusal) = foreseen {
            assert_eq!(Outcome::decode(&outcome).unwrap().result, Err(refusal), "as the leader foresaw");
        }
        self.machine.settled(self.index);
        let (shared, out) = (self.shared(), &mut self.out);
        if tell {
            writeln!(out, "{}", told(&Outcome::decode(&outcome).unwrap())).unwrap();
            shared.read(|keyspace| events.iter().take(8).for_each(|event| tell_event(out, keyspace, event)));
            if events.len() > 8 {
                writeln!(out, "  and {} more", events.len() - 8).unwrap();
            }
        }
        assert_eq!(shared.read(Keyspace::digest), self.twin.digest());
    }

    fn happen(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut words: VecDeque<&str> = rest.split(' ').filter(|word| !word.is_empty()).collect();
        match word {
            "as" => {
                let host: HostName = words.pop_front().unwrap().parse().unwrap();
                let role = words.iter().find_map(|word| role(word)).unwrap_or(Role::Agent);
                let peer = option(&words, "peer").map(|peer| peer.parse().unwrap());
                let known = self.twin.peer(&host).map(|peer| peer.peer);
                self.origin = Origin { host, peer: peer.map(PeerId).or(known).unwrap_or(PeerId(0)), role };
            }
            "at" => self.at_ms = rest.parse().unwrap(),
            "wait" => self.at_ms += rest.parse::<u64>().unwrap(),
            "again" => self.apply(self.last.clone(), true),
            "show" => {
                let (shared, out) = (self.shared(), &mut self.out);
                shared.read(|keyspace| {
                    for (key, entry) in keyspace.prefix(rest) {
                        let lease = entry.lease.map_or(String::new(), |lease| format!(", lease {}", lease.0));
                        let Entry { create, modify, version, .. } = entry;
                        let content = content(keyspace, key, entry);
                        writeln!(out, "{key} = {content} ({create}, {modify}, {version}{lease})").unwrap();
                    }
                });
            }
            "events" => match self.shared().events(Revision(rest.parse().unwrap()), usize::MAX) {
                Ok(events) => {
                    let keys: Vec<_> = events.items.iter().map(|e| format!("{} {}", e.revision, e.key)).collect();
                    writeln!(self.out, "through {}: {}", events.through, keys.join(", ")).unwrap();
                }
                Err(compacted) => writeln!(self.out, "{compacted}").unwrap(),
            },
            "snapshot" => self.snapshot(),
            "quiet" => {
                let times: u64 = words.pop_front().unwrap().parse().unwrap();
                let line = Vec::from(words).join(" ");
                for time in 1..=times {
                    self.command(&line.replace('%', &time.to_string()), time == times);
                }
            }
            _ => self.command(line, true),
        }
    }

    fn command(&mut self, line: &str, tell: bool) {
        let (ticket, line) = match line.split_once(' ') {
            Some((ticket, line)) if ticket.starts_with(|c: char| c.is_ascii_digit()) => (Some(ticket), line),
            _ => (None, line),
        };
        let ticket = ticket.map(|ticket| {
            let (session, sequence) = ticket.split_once('/').unwrap();
            Ticket { session: session.parse().unwrap(), sequence: sequence.parse().unwrap() }
        });
        let request = Request { ticket, body: body(line) };
        let command = Command { origin: self.origin.clone(), at_ms: self.at_ms, request };
        let bytes = command.encode();
        match Command::attest(&command.request.encode(), &self.origin, self.at_ms) {
            Ok(attested) => {
                assert_eq!(attested, bytes, "what a leader makes of it");
                assert_eq!(Command::decode(&bytes).unwrap(), command, "{line}");
            }
            Err(_) => self.out.push_str("(not proposed) "),
        }
        self.apply(bytes, tell);
    }

    fn snapshot(&mut self) {
        let (again, bytes) = (snapshot(&self.machine), snapshot(&self.machine));
        assert_eq!(again, bytes, "equal states make equal bytes");
        let before = self.shared().read(Keyspace::digest);
        let mut restored = StoreMachine::with_history(16, 1 << 20);
        restored.restore(self.index, &mut bytes.iter().cloned().map(Ok)).unwrap();
        assert_eq!(snapshot(&restored), bytes);
        assert_eq!(restored.shared().read(Keyspace::bytes), self.twin.bytes());
        assert_eq!(restored.shared().read(Keyspace::digest), before);
        self.machine = restored;
    }
}

fn snapshot(machine: &StoreMachine) -> Vec<bytes::Bytes> {
    let mut frozen = machine.freeze();
    std::iter::from_fn(|| frozen.chunk()).collect()
}

fn tell_event(out: &mut String, keyspace: &Keyspace, event: &Event) {
    let key = &event.key;
    match &event.change {
        Change::Put(entry) => writeln!(out, "  {key} = {}", content(keyspace, key, entry)).unwrap(),
        Change::Delete => writeln!(out, "  {key} deleted").unwrap(),
    }
}

fn option<'a>(words: &VecDeque<&'a str>, name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn role(word: &str) -> Option<Role> {
    Role::ALL.iter().copied().find(|role| role.to_string() == word)
}

fn versions(words: &VecDeque<&str>) -> Versions {
    let (min, max) = option(words, "levels").unwrap_or("1-1").split_once('-').unwrap();
    Versions { min: min.parse().unwrap(), max: max.parse().unwrap() }
}

fn parts(words: &VecDeque<&str>, name: &str) -> Vec<Arc<str>> {
    option(words, name).map(|list| list.split('/').map(Arc::from).collect()).unwrap_or_default()
}

fn changes(words: &VecDeque<&str>) -> Vec<ExportChange> {
    let changes = words.iter().filter_map(|word| {
        let (kind, rest) = word.split_once(':')?;
        let (name, content) = rest.split_once('=').map_or((rest, None), |(name, content)| (name, Some(content)));
        let names = match name.split_once("..") {
            Some((from, to)) => (from.parse().unwrap()..=to.parse::<u32>().unwrap()).map(|n| n.to_string()).collect(),
            None => vec![name.to_owned()],
        };
        let change = |name: String| ExportChange { kind: kind.into(), name: name.into(), value: content.map(value) };
        Some(names.into_iter().map(change).collect::<Vec<_>>())
    });
    changes.flatten().collect()
}

fn op(text: &str) -> Op {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[0] {
        "put" => {
            let lease = words.get(3).and_then(|word| word.strip_prefix("lease="));
            let lease = lease.map(|lease| LeaseId(lease.parse().unwrap()));
            Op::Put { key: words[1].parse().unwrap(), value: value(words.get(2).unwrap_or(&"")), lease }
        }
        "delete" => Op::Delete { key: words[1].parse().unwrap() },
        "delete-prefix" => Op::DeletePrefix { prefix: Prefix::parse(words[1]).unwrap() },
        other => panic!("unknown operation {other}"),
    }
}

fn compare(text: &str) -> Compare {
    let words: Vec<&str> = text.split_whitespace().collect();
    let relation = || *Relation::ALL.iter().find(|relation| relation.to_string() == words[2]).unwrap();
    let number = || words[3].parse().unwrap();
    let test = match words[1] {
        "value" => Test::Value(words[2] == "=", value(words[3])),
        "version" => Test::Version(relation(), number()),
        "modify" => Test::Modify(relation(), Revision(number())),
        "create" => Test::Create(relation(), Revision(number())),
        "lease" => Test::Lease(relation(), number()),
        "present" => Test::Present(true),
        "absent" => Test::Present(false),
        "empty" => return Compare::Empty(Prefix::parse(words[0]).unwrap()),
        other => panic!("unknown comparison {other}"),
    };
    Compare::Key(words[0].parse().unwrap(), test)
}

fn txn(text: &str) -> Txn {
    let (rest, otherwise) = text.split_once("else ").unwrap_or((text, ""));
    let (rest, then) = rest.split_once("then ").unwrap_or((rest, ""));
    let list = |text: &str| {
        let items = text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty());
        items.collect::<Vec<_>>()
    };
    Txn {
        compare: list(rest.trim_start_matches("if ")).iter().map(|text| compare(text)).collect(),
        then: list(then).iter().map(|text| op(text)).collect(),
        otherwise: list(otherwise).iter().map(|text| op(text)).collect(),
    }
}

fn body(line: &str) -> Body {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words: VecDeque<&str> = rest.split(' ').filter(|word| !word.is_empty()).collect();
    let first = words.front().copied().unwrap_or_default();
    let host = || first.parse().unwrap();
    let number = |at: usize| words[at].parse().unwrap();
    let count = |name| option(&words, name).map_or(0, |count| count.parse().unwrap());
    match word {
        "put" | "delete" | "delete-prefix" => match op(line) {
            Op::Put { key, value, lease } => Body::Put { key, value, lease },
            Op::Delete { key } => Body::Delete { key },
            Op::DeletePrefix { prefix } => Body::DeletePrefix { prefix },
        },
        "txn" => Body::Txn(txn(rest)),
        "grant" => Body::LeaseGrant { ttl_s: rest.parse().unwrap() },
        "revoke" => Body::LeaseRevoke { lease: LeaseId(number(0)) },
        "expire" => Body::LeaseExpire { leases: (0..words.len()).map(|at| LeaseId(number(at))).collect() },
        "lock" => {
            let (lock, lease) = (Key::lock(first).unwrap(), LeaseId(number(1)));
            let count = option(&words, "count").map_or(1, |count| count.parse().unwrap());
            Body::Acquire { lock, lease, count, wait: !words.contains(&"try") }
        }
        "unlock" => Body::Release { lock: Key::lock(first).unwrap(), lease: LeaseId(number(1)) },
        "stage" => Body::ExportStage { generation: number(0), changes: changes(&words) },
        "flip" => {
            let (base, staged) = (Revision(count("base")), u32::try_from(count("staged")).unwrap());
            Body::ExportFlip { generation: number(0), base, staged, changes: changes(&words) }
        }
        "forget" => Body::ExportForget { host: host() },
        "admit" => {
            let peer = Peer {
                peer: PeerId(option(&words, "peer").unwrap().parse().unwrap()),
                role: words.iter().find_map(|word| role(word)).unwrap(),
                addresses: parts(&words, "address"),
                zone: parts(&words, "zone"),
                versions: versions(&words),
                key_hash: [7; 32],
                admitted: Revision::ZERO,
            };
            Body::PeerAdmit { host: host(), peer, replace: words.contains(&"replace") }
        }
        "update" => Body::PeerUpdate {
            host: host(),
            addresses: parts(&words, "address"),
            zone: parts(&words, "zone"),
            versions: versions(&words),
            key_hash: [7; 32],
        },
        "remove" => Body::PeerRemove { host: host() },
        "token" => {
            let token = Token {
                public_key: [9; 32],
                role: words.iter().find_map(|word| role(word)).unwrap(),
                host: option(&words, "host").map(|host| host.parse().unwrap()),
                replace: words.contains(&"replace"),
                expires_ms: count("expires"),
                uses: option(&words, "uses").map(|uses| uses.parse().unwrap()),
                used: 0,
            };
            Body::TokenCreate { id: first.into(), token }
        }
        "consume" => {
            Body::TokenConsume { id: first.into(), host: words[1].parse().unwrap(), used: words[2].parse().unwrap() }
        }
        "revoke-token" => Body::TokenRevoke { id: first.into() },
        "ideal" => Body::IdealSize { masters: rest.parse().unwrap() },
        "allow" => Body::Allow { hosts: first.into(), prefix: words.get(1).copied().unwrap_or_default().into() },
        "disallow" => Body::Disallow { hosts: first.into(), prefix: words.get(1).copied().unwrap_or_default().into() },
        "feature" => Body::FeatureLevel { level: rest.parse().unwrap() },
        "open" => Body::SessionOpen,
        "close" => Body::SessionClose { session: number(0) },
        other => panic!("unknown word {other}"),
    }
}

fn play(script: &str) -> String {
    let (mut play, mut out) = (Play::new(), String::new());
    for block in script.split("\n\n").map(str::trim_end).filter(|block| !block.trim().is_empty()) {
        let (before, _) = block.split_once("\n----").unwrap_or((block, ""));
        for line in before.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
            play.happen(line.split(" #").next().unwrap_or(line).trim());
        }
        writeln!(out, "{before}\n----\n{}", std::mem::take(&mut play.out)).unwrap();
    }
    // Whatever happened, it can be stored and goes on as if it had not been.
    play.snapshot();
    out
}

/// With `UPDATE_EXPECT=1` the scripts are rewritten: read the difference before committing it.
#[test]
fn scripts() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/keyspace");
    let mut played = 0;
    for entry in std::fs::read_dir(folder).expect("the scripts are part of the project") {
        let path = entry.expect("a readable folder").path();
        let script = std::fs::read_to_string(&path).expect("a readable script");
        expect_test::expect_file![&path].assert_eq(&play(&script));
        played += 1;
    }
    assert!(played >= 11, "only {played} scripts were found");
}
