//! The store against a second opinion: bytes become a sequence of commands of all kinds in a small world, and what they
//! do is compared with what a naive map says, with a replica, and with what the events tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use mgmt_consensus::{Machine, PeerId};
use mgmt_store::command::{Compare, ExportChange, Op, Prefix, Relation, Test, Txn};
use mgmt_store::limits::{TXN_OPS_MAX, VALUE_BYTES_MAX};
use mgmt_store::record::{Peer, Token, Versions};
use mgmt_store::{
    Body, Change, Command, Done, Entry, Event, HostName, Key, Keyspace, LeaseId, Origin, Outcome, Request, Revision,
    Role, StoreMachine, Ticket, Value,
};

use super::store::{frozen, restored};

/// Commands of one input: enough to get somewhere, few enough to be quick.
const COMMANDS_MAX: u64 = 256;

const HOSTS: &[&str] = &["boss", "web1", "web2", "db"];
const KEYS: &[&str] = &[
    "k/a",
    "k/b",
    "k/a/b",
    "k/app/x",
    "m/n/web1",
    "m/n/web2",
    "l/x",
    "l/y",
    "x/web1",
    "x/web1/file/a",
    "_/ideal",
    "_/peers/boss",
    "_/tokens/t1",
    "_/allow/web*/app/",
];
const PREFIXES: &[&str] = &["k/", "k/a", "k/app/", "m/", "m/n/", "x/", "l/", "_/"];
const NAMES: &[&str] = &["a", "b", "t1", "t2", "", "web*", "*", "app/", "a/b", "file", "\u{7}"];
const NUMBERS: &[u64] = &[0, 1, 2, 3, 5, 7, 60, 100, 1 << 20, u32::MAX as u64, u64::MAX - 1, u64::MAX];

/// Chooses by the bytes of the input; when they are used up, always the first.
struct Choice<'a>(&'a [u8]);

impl Choice<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()].clone()
    }

    fn flag(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    fn list<T>(&mut self, most: u8, one: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..self.byte() % (most + 1)).map(|_| one(self)).collect()
    }

    /// A revision of late, which may be the id of something; or some number.
    fn number(&mut self, now: u64) -> u64 {
        match self.byte() {
            back @ 0..=199 => now.saturating_sub(u64::from(back % 40)),
            _ => self.of(NUMBERS),
        }
    }

    fn small(&mut self) -> u32 {
        u32::try_from(self.of(NUMBERS)).unwrap_or(u32::MAX)
    }

    fn text(&mut self) -> Arc<str> {
        self.of(NAMES).into()
    }

    fn key(&mut self) -> Key {
        Key::parse(self.of(KEYS)).expect("the keys here are keys")
    }

    fn prefix(&mut self) -> Prefix {
        Prefix::parse(self.of(PREFIXES)).expect("the prefixes here are prefixes")
    }

    fn host(&mut self) -> HostName {
        HostName::parse(self.of(HOSTS)).expect("the hosts here are hosts")
    }

    fn value(&mut self) -> Value {
        let length = match self.byte() {
            255 => VALUE_BYTES_MAX + usize::from(self.flag()),
            byte => usize::from(byte % 8),
        };
        vec![self.byte(); length].into()
    }

    fn lease(&mut self, now: u64) -> Option<LeaseId> {
        (self.byte() > 150).then(|| LeaseId(self.number(now).max(1)))
    }

    fn op(&mut self, now: u64) -> Op {
        match self.byte() % 4 {
            0 | 1 => Op::Put { key: self.key(), value: self.value(), lease: self.lease(now) },
            2 => Op::Delete { key: self.key() },
            _ => Op::DeletePrefix { prefix: self.prefix() },
        }
    }

    fn compare(&mut self, now: u64) -> Compare {
        let (key, by) = (self.key(), self.of(Relation::ALL));
        let test = match self.byte() % 7 {
            0 => Test::Value(self.flag(), self.value()),
            1 => Test::Version(by, self.of(NUMBERS)),
            2 => Test::Modify(by, Revision(self.number(now))),
            3 => Test::Create(by, Revision(self.number(now))),
            4 => Test::Lease(by, self.number(now)),
            5 => Test::Present(self.flag()),
            _ => return Compare::Empty(self.prefix()),
        };
        Compare::Key(key, test)
    }

    fn txn(&mut self, now: u64) -> Txn {
        let mut then = self.list(5, |choice| choice.op(now));
        if self.byte() == 255 {
            then = vec![Op::Delete { key: self.key() }; TXN_OPS_MAX + usize::from(self.flag())];
        }
        Txn { compare: self.list(3, |choice| choice.compare(now)), then, otherwise: self.list(3, |c| c.op(now)) }
    }

    fn exports(&mut self) -> Vec<ExportChange> {
        self.list(4, |choice| {
            let (kind, name) = (choice.text(), choice.text());
            ExportChange { kind, name, value: choice.flag().then(|| choice.value()) }
        })
    }

    fn versions(&mut self) -> Versions {
        Versions { min: self.small(), max: self.small() }
    }

    fn body(&mut self, now: u64) -> Body {
        match self.byte() % 32 {
            0 | 24 | 25 => Body::Put { key: self.key(), value: self.value(), lease: self.lease(now) },
            1 => Body::Delete { key: self.key() },
            2 => Body::DeletePrefix { prefix: self.prefix() },
            3 | 26 | 27 => Body::Txn(self.txn(now)),
            4 | 28 => Body::LeaseGrant { ttl_s: self.small() },
            5 => Body::LeaseRevoke { lease: LeaseId(self.number(now)) },
            6 => Body::LeaseExpire { leases: self.list(4, |choice| LeaseId(choice.number(now))) },
            7 | 29 => {
                let (lock, lease) = (self.key(), LeaseId(self.number(now)));
                Body::Acquire { lock, lease, count: self.small(), wait: self.flag() }
            }
            8 => Body::Release { lock: self.key(), lease: LeaseId(self.number(now)) },
            9 | 30 => Body::ExportStage { generation: self.of(NUMBERS), changes: self.exports() },
            10 | 31 => {
                let (generation, base) = (self.of(NUMBERS), Revision(self.number(now)));
                Body::ExportFlip { generation, base, staged: self.small(), changes: self.exports() }
            }
            other => self.rare(other, now),
        }
    }

    fn rare(&mut self, which: u8, now: u64) -> Body {
        match which {
            11 => Body::ExportForget { host: self.host() },
            12 => {
                let peer = Peer {
                    peer: PeerId(self.byte().into()),
                    role: self.of(Role::ALL),
                    addresses: self.list(17, |choice| choice.text()),
                    zone: self.list(9, |choice| choice.text()),
                    versions: self.versions(),
                    key_hash: [self.byte(); 32],
                    admitted: Revision(self.number(now)),
                };
                Body::PeerAdmit { host: self.host(), peer, replace: self.flag() }
            }
            13 => Body::PeerUpdate {
                host: self.host(),
                addresses: self.list(17, |choice| choice.text()),
                zone: self.list(9, |choice| choice.text()),
                versions: self.versions(),
                key_hash: [self.byte(); 32],
            },
            14 => Body::PeerRemove { host: self.host() },
            15 => {
                let token = Token {
                    public_key: [self.byte(); 32],
                    role: self.of(Role::ALL),
                    host: self.flag().then(|| self.host()),
                    replace: self.flag(),
                    expires_ms: self.of(NUMBERS),
                    uses: self.flag().then(|| self.small()),
                    used: self.small(),
                };
                Body::TokenCreate { id: self.text(), token }
            }
            16 => Body::TokenConsume { id: self.text(), host: self.host(), used: self.small() },
            17 => Body::TokenRevoke { id: self.text() },
            18 => Body::IdealSize { masters: self.byte() % 9 },
            19 => Body::Allow { hosts: self.text(), prefix: self.text() },
            20 => Body::Disallow { hosts: self.text(), prefix: self.text() },
            21 => Body::FeatureLevel { level: self.small() },
            22 => Body::SessionOpen,
            _ => Body::SessionClose { session: self.number(now) },
        }
    }

    fn command(&mut self, now: u64, at_ms: u64) -> Command {
        let role = if self.byte() < 200 { Role::Admin } else { self.of(Role::ALL) };
        let origin = Origin { host: self.host(), peer: PeerId((self.byte() % 4).into()), role };
        let ticket = (self.byte() > 200).then(|| Ticket { session: self.number(now), sequence: self.of(NUMBERS) });
        Command { origin, at_ms, request: Request { ticket, body: self.body(now) } }
    }
}

type Map = BTreeMap<Key, Entry>;

/// What the events of one command make of what was there.
fn follow(map: &mut Map, index: u64, events: &[Event]) {
    for Event { revision, key, change } in events {
        assert_eq!(revision.0, index, "an event has the revision of its command");
        match change {
            Change::Put(entry) => {
                let before = map.insert(key.clone(), entry.clone());
                let (create, version) = before.map_or((*revision, 1), |before| (before.create, before.version + 1));
                assert_eq!((entry.create, entry.modify, entry.version), (create, *revision, version), "{key}");
            }
            Change::Delete => assert!(map.remove(key).is_some(), "{key} is deleted and was not there"),
        }
    }
}

/// What a list of changes makes of what was there, and how many keys it deletes.
fn naive(map: &mut Map, revision: Revision, ops: &[Op]) -> u32 {
    let mut deleted = 0;
    for op in ops {
        match op {
            Op::Put { key, value, lease } => {
                let before = map.get(key).map_or((revision, 0), |before| (before.create, before.version));
                let (create, version) = (before.0, before.1 + 1);
                let entry = Entry { value: value.clone(), create, modify: revision, version, lease: *lease };
                map.insert(key.clone(), entry);
            }
            Op::Delete { key } => deleted += u32::from(map.remove(key).is_some()),
            Op::DeletePrefix { prefix } => {
                let there = map.len();
                map.retain(|key, _| !key.as_str().starts_with(prefix.as_str()));
                deleted += u32::try_from(there - map.len()).expect("there are few keys");
            }
        }
    }
    deleted
}

fn holds(map: &Map, compare: &Compare) -> bool {
    let (key, test) = match compare {
        Compare::Key(key, test) => (key, test),
        Compare::Empty(prefix) => return !map.keys().any(|key| key.as_str().starts_with(prefix.as_str())),
    };
    let entry = map.get(key);
    let (relation, there, given) = match test {
        Test::Value(is, value) => return (entry.map(|entry| &entry.value) == Some(value)) == *is,
        Test::Present(is) => return entry.is_some() == *is,
        Test::Version(relation, given) => (relation, entry.map(|entry| entry.version), *given),
        Test::Modify(relation, given) => (relation, entry.map(|entry| entry.modify.0), given.0),
        Test::Create(relation, given) => (relation, entry.map(|entry| entry.create.0), given.0),
        Test::Lease(relation, given) => (relation, entry.and_then(|e| e.lease.map(|lease| lease.0)), *given),
    };
    let order = there.unwrap_or(0).cmp(&given);
    match relation {
        Relation::Equal => order.is_eq(),
        Relation::NotEqual => order.is_ne(),
        Relation::Less => order.is_lt(),
        Relation::Greater => order.is_gt(),
    }
}

/// What a command that was not refused must have done, of those that write by key.
fn expected(map: &mut Map, revision: Revision, body: &Body) -> Option<Done> {
    let op = match body.clone() {
        Body::Put { key, value, lease } => Op::Put { key, value, lease },
        Body::Delete { key } => Op::Delete { key },
        Body::DeletePrefix { prefix } => Op::DeletePrefix { prefix },
        Body::Txn(txn) => {
            let held = txn.compare.iter().all(|compare| holds(map, compare));
            let deleted = naive(map, revision, if held { &txn.then } else { &txn.otherwise });
            return Some(Done::Txn { held, deleted });
        }
        _ => return None,
    };
    let count = naive(map, revision, std::slice::from_ref(&op));
    Some(match op {
        Op::Put { key, .. } => Done::Put { version: map[&key].version },
        Op::Delete { .. } | Op::DeletePrefix { .. } => Done::Deleted { count },
    })
}

/// The store, a replica of it, and what the events have told so far.
struct World {
    machine: StoreMachine,
    twin: Keyspace,
    told: Map,
}

impl World {
    fn apply(&mut self, index: u64, command: &Command) {
        let (bytes, mut events) = (command.encode(), Vec::new());
        let attested = Command::attest(&command.request.encode(), &command.origin, command.at_ms);
        assert_eq!(Command::decode(&bytes).is_ok(), attested.is_ok());
        let outcome = self.machine.apply(index, &bytes).expect("this program knows its own commands");
        let same = self.twin.apply_bytes(index, &bytes, &mut events).expect("this program knows its own commands");
        assert_eq!(outcome, same, "replicas agree");
        let outcome = Outcome::decode(&outcome).expect("it was made by this program");
        let before = self.told.clone();
        follow(&mut self.told, index, &events);
        let Ok(done) = outcome.result else {
            assert!(events.is_empty(), "what is refused does nothing");
            return;
        };
        // Of what is sent again, only the outcome is there: it was done before.
        if command.request.ticket.is_none() {
            let mut map = before;
            if let Some(expected) = expected(&mut map, Revision(index), &command.request.body) {
                assert_eq!(done, expected, "{:?}", command.request.body);
                assert!(map == self.told, "{:?}", command.request.body);
            }
        }
    }

    fn agrees(&self) {
        self.machine.shared().read(|keyspace| {
            assert!(keyspace.prefix("").eq(&self.told), "the events tell all that happened");
            assert_eq!(keyspace.digest(), self.twin.digest());
            for (key, entry) in &self.told {
                assert_eq!(keyspace.get(key.as_str()), Some(entry));
            }
            for prefix in PREFIXES {
                let naive = self.told.iter().filter(|(key, _)| key.as_str().starts_with(prefix));
                assert!(keyspace.prefix(prefix).eq(naive), "{prefix}");
            }
        });
    }
}

/// Replicas agree, events tell everything, writing by key does what a naive map does, and a snapshot in between changes
/// nothing.
pub fn keyspace(bytes: &[u8]) {
    let mut choice = Choice(bytes);
    let mut world = World { machine: StoreMachine::new(), twin: Keyspace::default(), told: Map::new() };
    let (mut index, mut at_ms) = (0, 0_u64);
    while !choice.0.is_empty() && index < COMMANDS_MAX {
        index += 1;
        at_ms = match choice.byte() {
            255 => choice.of(NUMBERS),
            250..255 => at_ms.saturating_add(100_000_000),
            byte => at_ms.saturating_add(u64::from(byte) * 20),
        };
        let command = choice.command(index, at_ms);
        world.apply(index, &command);
        if choice.byte() > 250 {
            world.agrees();
            let chunks = frozen(&world.machine);
            world.machine = restored(&chunks).expect("a state comes back from its own snapshot");
            assert_eq!(frozen(&world.machine), chunks);
        }
    }
    world.agrees();
    let again = restored(&frozen(&world.machine)).expect("a state comes back from its own snapshot");
    let bytes = |machine: &StoreMachine| machine.shared().read(Keyspace::bytes);
    assert_eq!(bytes(&again), bytes(&world.machine), "what is derived is derived again");
}

/// There is nothing to read: the commands are made here.
pub fn read_keyspace(_: &[u8]) -> Box<dyn FnOnce()> {
    Box::new(|| ())
}
