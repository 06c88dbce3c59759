//! What several tests need: one of each command, and commands made of dice.

#![allow(clippy::unwrap_used, dead_code, reason = "for tests, and not each of them needs all of it")]

use std::sync::Arc;

use mgmt_consensus::PeerId;
use mgmt_store::command::{Compare, ExportChange, Op, Prefix, Relation, Test, Txn};
use mgmt_store::record::{Peer, Token, Versions};
use mgmt_store::{
    Body, Command, Done, HostName, Key, LeaseId, Origin, Outcome, Request, Revision, Role, Ticket, Value,
};

pub(crate) fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

pub(crate) fn key(key: &str) -> Key {
    key.parse().unwrap()
}

pub(crate) fn prefix(prefix: &str) -> Prefix {
    Prefix::parse(prefix).unwrap()
}

pub(crate) fn value(value: &str) -> Value {
    value.as_bytes().into()
}

pub(crate) fn peer(id: u128, role: Role) -> Peer {
    Peer {
        peer: PeerId(id),
        role,
        addresses: vec!["10.0.0.1:7".into(), "[::1]:7".into()],
        zone: vec!["a".into(), "b".into()],
        versions: Versions { min: 1, max: 2 },
        key_hash: [7; 32],
        admitted: Revision::ZERO,
    }
}

pub(crate) fn token(role: Role) -> Token {
    let host = Some(host("web1"));
    Token { public_key: [9; 32], role, host, replace: true, expires_ms: 5_000, uses: Some(3), used: 0 }
}

pub(crate) fn admin() -> Origin {
    Origin { host: host("boss"), peer: PeerId(1), role: Role::Admin }
}

pub(crate) fn command(origin: Origin, at_ms: u64, body: Body) -> Command {
    Command { origin, at_ms, request: Request::plain(body) }
}

fn change(kind: &str, name: &str, content: Option<&str>) -> ExportChange {
    ExportChange { kind: kind.into(), name: name.into(), value: content.map(value) }
}

/// One of each command, with a name.
pub(crate) fn bodies() -> Vec<(&'static str, Body)> {
    let relation = |relation, number| Test::Version(relation, number);
    let txn = Txn {
        compare: vec![
            Compare::Key(key("k/a"), Test::Value(true, value("1"))),
            Compare::Key(key("k/b"), Test::Value(false, value("2"))),
            Compare::Key(key("k/c"), relation(Relation::Equal, 3)),
            Compare::Key(key("k/c"), relation(Relation::NotEqual, 4)),
            Compare::Key(key("k/d"), Test::Modify(Relation::Less, Revision(5))),
            Compare::Key(key("k/e"), Test::Create(Relation::Greater, Revision(6))),
            Compare::Key(key("k/f"), Test::Lease(Relation::Equal, 7)),
            Compare::Key(key("k/g"), Test::Present(false)),
            Compare::Empty(prefix("k/h/")),
        ],
        then: vec![Op::Put { key: key("k/a"), value: value("3"), lease: Some(LeaseId(8)) }],
        otherwise: vec![Op::Delete { key: key("k/a") }, Op::DeletePrefix { prefix: prefix("k/b") }],
    };
    let (addresses, zone): (Vec<Arc<str>>, Vec<Arc<str>>) = (vec!["10.0.0.2:7".into()], vec!["c".into()]);
    let versions = Versions { min: 1, max: 3 };
    let changes = vec![change("file", "/etc/motd", Some("hello")), change("exec", "run", None)];
    vec![
        ("put", Body::Put { key: key("k/a"), value: value("1"), lease: Some(LeaseId(2)) }),
        ("put without a lease", Body::Put { key: key("m/ns/web1"), value: value(""), lease: None }),
        ("delete", Body::Delete { key: key("k/a") }),
        ("delete prefix", Body::DeletePrefix { prefix: prefix("k/a/") }),
        ("txn", Body::Txn(txn)),
        ("lease grant", Body::LeaseGrant { ttl_s: 10 }),
        ("lease revoke", Body::LeaseRevoke { lease: LeaseId(3) }),
        ("lease expire", Body::LeaseExpire { leases: vec![LeaseId(4), LeaseId(5)] }),
        ("acquire", Body::Acquire { lock: key("l/deploy"), lease: LeaseId(6), count: 2, wait: true }),
        ("release", Body::Release { lock: key("l/deploy"), lease: LeaseId(6) }),
        ("export stage", Body::ExportStage { generation: 7, changes: changes.clone() }),
        ("export flip", Body::ExportFlip { generation: 7, base: Revision(8), staged: 2, changes }),
        ("export forget", Body::ExportForget { host: host("web1") }),
        ("peer admit", Body::PeerAdmit { host: host("web1"), peer: peer(2, Role::Agent), replace: true }),
        ("peer update", Body::PeerUpdate { host: host("web1"), addresses, zone, versions, key_hash: [8; 32] }),
        ("peer remove", Body::PeerRemove { host: host("web1") }),
        ("token create", Body::TokenCreate { id: "abc".into(), token: token(Role::Master) }),
        ("token consume", Body::TokenConsume { id: "abc".into(), host: host("web1"), used: 1 }),
        ("token revoke", Body::TokenRevoke { id: "abc".into() }),
        ("ideal size", Body::IdealSize { masters: 3 }),
        ("allow", Body::Allow { hosts: "web*".into(), prefix: "app/".into() }),
        ("disallow", Body::Disallow { hosts: "web*".into(), prefix: "app/".into() }),
        ("feature level", Body::FeatureLevel { level: 2 }),
        ("session open", Body::SessionOpen),
        ("session close", Body::SessionClose { session: 9 }),
    ]
}

/// Three hosts, each with a lease and a session.
pub(crate) fn founding() -> Vec<(Origin, Body)> {
    let origin = |name| Origin { host: host(name), peer: PeerId(peer_of(name)), role: Role::Admin };
    let admit = |name, role| {
        let peer = Peer { versions: Versions { min: 1, max: 3 }, ..peer(peer_of(name), role) };
        (origin("boss"), Body::PeerAdmit { host: host(name), peer, replace: false })
    };
    let mut found = vec![admit("boss", Role::Admin), admit("web1", Role::Admin), admit("web2", Role::Agent)];
    for name in ["boss", "web1", "web2"] {
        found.extend([(origin(name), Body::SessionOpen), (origin(name), Body::LeaseGrant { ttl_s: 9 })]);
    }
    found
}

/// The peer that mostly speaks for a host.
fn peer_of(host: &str) -> u128 {
    host.as_bytes()[3].into()
}

/// Numbers that decide what happens. After the last it is always zero, so that cases shrink.
pub(crate) struct Dice {
    numbers: std::vec::IntoIter<u16>,
    /// Leases that were granted: mostly one of them is spoken of.
    pub(crate) leases: Vec<u64>,
    /// Sessions that were opened.
    pub(crate) sessions: Vec<u64>,
    /// The revision of the manifest of whoever speaks, and its generation.
    pub(crate) manifest: (u64, u64),
}

impl Dice {
    pub(crate) fn new(numbers: Vec<u16>) -> Self {
        Self { numbers: numbers.into_iter(), leases: Vec::new(), sessions: Vec::new(), manifest: (0, 0) }
    }

    pub(crate) fn left(&self) -> bool {
        self.numbers.len() > 0
    }

    /// Less than `sides`.
    pub(crate) fn roll(&mut self, sides: u16) -> u16 {
        self.numbers.next().unwrap_or(0) % sides
    }

    pub(crate) fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::from(self.roll(u16::try_from(of.len()).unwrap()))].clone()
    }

    fn key(&mut self) -> Key {
        key(self.one(&["k/a", "k/a/1", "k/b", "k/b/c", "k/c", "m/ns/web1", "m/ns/web2", "l/lock", "_/ideal", "x/web1"]))
    }

    fn prefix(&mut self) -> Prefix {
        prefix(self.one(&["k/", "k/a", "k/b/", "m/", "m/ns/", "l/", "x/", "_/"]))
    }

    /// What an outcome told of new leases and sessions.
    pub(crate) fn hear(&mut self, outcome: &Outcome) {
        match outcome.result {
            Ok(Done::Leased { lease, .. }) => self.leases.push(lease.0),
            Ok(Done::Session { session }) => self.sessions.push(session),
            _ => {}
        }
    }

    /// One of the last few, or any.
    fn id(&mut self, of: fn(&Self) -> &Vec<u64>) -> u64 {
        let (back, any) = (usize::from(self.roll(5)), self.roll(24));
        let known = of(self).iter().rev().nth(back).copied();
        known.filter(|_| any > 0).unwrap_or_else(|| any.into())
    }

    fn lease(&mut self) -> LeaseId {
        LeaseId(self.id(|dice| &dice.leases))
    }

    fn op(&mut self) -> Op {
        match self.roll(5) {
            0..3 => {
                let lease = (self.roll(3) == 0).then(|| self.lease());
                Op::Put { key: self.key(), value: vec![b'v'; self.roll(9).into()].into(), lease }
            }
            3 => Op::Delete { key: self.key() },
            _ => Op::DeletePrefix { prefix: self.prefix() },
        }
    }

    fn ops(&mut self) -> Vec<Op> {
        (0..self.roll(4)).map(|_| self.op()).collect()
    }

    fn compare(&mut self) -> Compare {
        let (relation, number) = (self.one(Relation::ALL), u64::from(self.roll(9)));
        let test = match self.roll(7) {
            0 => Test::Value(self.roll(2) == 0, vec![b'v'; self.roll(9).into()].into()),
            1 => Test::Version(relation, number),
            2 => Test::Modify(relation, Revision(number)),
            3 => Test::Create(relation, Revision(number)),
            4 => Test::Lease(relation, number),
            5 => Test::Present(self.roll(2) == 0),
            _ => return Compare::Empty(self.prefix()),
        };
        Compare::Key(self.key(), test)
    }

    fn changes(&mut self) -> Vec<ExportChange> {
        let one = |dice: &mut Self| {
            let content = (dice.roll(3) > 0).then(|| dice.one(&["1", "2", "3"]));
            change(dice.one(&["file", "exec"]), dice.one(&["a", "b", "/c", "d", "e", "f", "g", ""]), content)
        };
        (0..self.roll(4)).map(|_| one(self)).collect()
    }

    fn host(&mut self) -> HostName {
        host(self.one(&["boss", "web1", "web2"]))
    }

    /// Mostly the same peer for the same host.
    fn peer_of(&mut self, host: &HostName) -> u128 {
        if self.roll(16) > 0 { peer_of(host.as_str()) } else { self.roll(3).into() }
    }

    /// What clients do to keys, leases and locks.
    pub(crate) fn plain(&mut self) -> Body {
        match self.roll(12) {
            0..4 => match self.op() {
                Op::Put { key, value, lease } => Body::Put { key, value, lease },
                Op::Delete { key } => Body::Delete { key },
                Op::DeletePrefix { prefix } => Body::DeletePrefix { prefix },
            },
            4..6 => {
                let compare = (0..self.roll(3)).map(|_| self.compare()).collect();
                Body::Txn(Txn { compare, then: self.ops(), otherwise: self.ops() })
            }
            6 => Body::LeaseGrant { ttl_s: self.roll(100).into() },
            7 => Body::LeaseRevoke { lease: self.lease() },
            8 => Body::LeaseExpire { leases: (0..self.roll(4)).map(|_| self.lease()).collect() },
            9 | 10 => {
                let (lease, count, wait) = (self.lease(), self.roll(3).into(), self.roll(3) > 0);
                Body::Acquire { lock: key(self.one(&["l/lock", "l/sema", "k/a"])), lease, count, wait }
            }
            _ => Body::Release { lock: key(self.one(&["l/lock", "l/sema", "k/a"])), lease: self.lease() },
        }
    }

    /// Anything.
    pub(crate) fn body(&mut self) -> Body {
        let id: Arc<str> = self.one(&["one", "two", "NO"]).into();
        let versions = Versions { min: self.roll(3).into(), max: self.roll(4).into() };
        let role = self.one(Role::ALL);
        match self.roll(28) {
            0..10 => self.plain(),
            10 | 11 => {
                let generation = (self.manifest.1 + u64::from(self.roll(4))).saturating_sub(1);
                Body::ExportStage { generation, changes: self.changes() }
            }
            12..15 => {
                let generation = (self.manifest.1 + u64::from(self.roll(4))).saturating_sub(1);
                let staged = self.one(&[0, 0, 0, 1, 1, 2, 3]);
                let base = Revision(if self.roll(8) > 0 { self.manifest.0 } else { self.roll(60).into() });
                Body::ExportFlip { generation, base, staged, changes: self.changes() }
            }
            15 => Body::ExportForget { host: self.host() },
            16 | 17 => {
                let host = self.host();
                let versions = if self.roll(3) > 0 { Versions { min: 1, max: 3 } } else { versions };
                let peer = Peer { versions, ..peer(self.peer_of(&host), role) };
                Body::PeerAdmit { host, peer, replace: self.roll(2) == 0 }
            }
            18 => {
                let addresses = vec![self.one(&["a", "a", ""]).into(); self.roll(3).into()];
                Body::PeerUpdate { host: self.host(), addresses, zone: Vec::new(), versions, key_hash: [1; 32] }
            }
            19 => Body::PeerRemove { host: self.host() },
            20 => {
                let expires_ms = u64::from(self.roll(9999)) * u64::from(self.roll(9999));
                Body::TokenCreate { id, token: Token { expires_ms, ..token(role) } }
            }
            21 => Body::TokenConsume { id, host: self.host(), used: self.roll(3).into() },
            22 => Body::TokenRevoke { id },
            23 => Body::IdealSize { masters: u8::try_from(self.roll(9)).unwrap() },
            24 => {
                let (hosts, prefix) = (self.one(&["web*", "*", "/"]).into(), self.one(&["a", "", "b/"]).into());
                if self.roll(3) > 0 { Body::Allow { hosts, prefix } } else { Body::Disallow { hosts, prefix } }
            }
            25 => Body::FeatureLevel { level: self.roll(4).into() },
            26 => Body::SessionOpen,
            _ => Body::SessionClose { session: self.id(|dice| &dice.sessions) },
        }
    }

    pub(crate) fn ticket(&mut self) -> Option<Ticket> {
        let (session, sequence) =
            (self.id(|dice| &dice.sessions), u64::from(self.roll(6)) + self.numbers.len() as u64 / 99);
        (self.roll(4) == 0).then_some(Ticket { session, sequence })
    }

    /// Anybody, as whom he says he is.
    pub(crate) fn origin(&mut self) -> Origin {
        let host = self.host();
        let peer = PeerId(self.peer_of(&host));
        let role = if self.roll(2) == 0 { Role::Admin } else { self.one(Role::ALL) };
        Origin { host, peer, role }
    }
}
