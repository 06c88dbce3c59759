//! The store's state machine alone: commands as they are in the log, beside a bare map that does nothing else.
//!
//! `cargo bench -p mgmt-store --bench keyspace [-- quick]`

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench measures and prints"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mgmt_consensus::machine::Frozen;
use mgmt_consensus::{Machine, PeerId};
use mgmt_store::command::{Compare, ExportChange, Op, Relation, Request, Test, Txn};
use mgmt_store::{Body, Command, Done, Key, Origin, Outcome, Revision, Role, StoreMachine};

const KEY: &str = "k/app/host-000/";
const VALUE: usize = 100;

fn command(body: Body) -> Bytes {
    let origin = Origin { host: "boss".parse().unwrap(), peer: PeerId(1), role: Role::Admin };
    Command { origin, at_ms: 1, request: Request::plain(body) }.encode()
}

fn key(n: usize) -> Key {
    format!("{KEY}{n:07}").parse().unwrap()
}

fn put(n: usize, value: usize) -> Bytes {
    command(Body::Put { key: key(n), value: vec![7; value].into(), lease: None })
}

/// Numbers below `count` in an order that looks like chance, each once.
fn scattered(count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |n| n * 7_919 % count)
}

struct Store {
    machine: StoreMachine,
    index: u64,
}

impl Store {
    fn new() -> Self {
        Self { machine: StoreMachine::new(), index: 0 }
    }

    /// Applies in batches of 64, as the log gives them.
    fn apply(&mut self, commands: &[Bytes]) -> Duration {
        let began = Instant::now();
        for batch in commands.chunks(64) {
            for command in batch {
                self.index += 1;
                black_box(self.machine.apply(self.index, command).unwrap());
            }
            self.machine.settled(self.index);
        }
        began.elapsed()
    }
}

fn rate(name: &str, count: usize, took: Duration) {
    let each = took.as_nanos() / count as u128;
    println!("{name:<52} {:>10.0} a second  {each:>8} ns each", count as f64 / took.as_secs_f64());
}

fn operations(count: usize) {
    let mut store = Store::new();
    let bare = {
        let (mut map, began) = (BTreeMap::<Arc<str>, Arc<[u8]>>::new(), Instant::now());
        for n in scattered(count) {
            map.insert(format!("{KEY}{n:07}").into(), vec![7; VALUE].into());
        }
        black_box(map.len());
        began.elapsed()
    };
    rate("a bare BTreeMap: insert", count, bare);
    let new: Vec<_> = scattered(count).map(|n| put(n, VALUE)).collect();
    rate("put, new keys in scattered order", count, store.apply(&new));
    rate("put, keys that are there", count, store.apply(&new));
    let txns: Vec<_> = scattered(count)
        .map(|n| {
            let op = |n| Op::Put { key: key(n), value: vec![8; VALUE].into(), lease: None };
            let compare = vec![Compare::Key(key(n), Test::Version(Relation::Greater, 0))];
            command(Body::Txn(Txn { compare, then: vec![op(n), op((n + 1) % count)], otherwise: Vec::new() }))
        })
        .collect();
    rate("transaction: one comparison, two puts", count, store.apply(&txns));
    let shared = store.machine.shared();
    let began = Instant::now();
    for n in scattered(count) {
        black_box(shared.read(|keyspace| keyspace.get(key(n).as_str()).map(|entry| entry.version)));
    }
    rate("read a key", count, began.elapsed());
    let began = Instant::now();
    let seen = shared.read(|keyspace| keyspace.prefix("k/").map(|(_, entry)| entry.value.len()).sum::<usize>());
    black_box(seen);
    rate("read all keys in order", count, began.elapsed());
    let began = Instant::now();
    black_box(shared.read(mgmt_store::Keyspace::digest));
    println!("{:<52} {:>10.3} ms", "digest", began.elapsed().as_secs_f64() * 1e3);
}

/// A host with 100 exports that publishes again and again: 10 of them have changed.
fn exports(count: usize) {
    let mut store = Store::new();
    let changes = |round: usize, names: usize| -> Vec<ExportChange> {
        let change = |n: usize| ExportChange {
            kind: "file".into(),
            name: format!("/etc/app/{n}").into(),
            value: Some(format!("{round:0300}").into_bytes().into()),
        };
        (0..names).map(change).collect()
    };
    let flip = |generation: usize, base: u64, names: usize| {
        let (generation, changes) = (generation as u64, changes(generation, names));
        command(Body::ExportFlip { generation, base: Revision(base), staged: 0, changes })
    };
    store.apply(&[flip(1, 0, 100)]);
    // Each is based on the revision before.
    let flips: Vec<_> = (2..count + 2).map(|round| flip(round, round as u64 - 1, 10)).collect();
    let took = store.apply(&flips);
    let last = store.machine.apply(store.index + 1, &flip(0, 0, 0)).unwrap();
    assert!(Outcome::decode(&last).unwrap().result != Ok(Done::Applied));
    let host = "boss".parse().unwrap();
    let generation = store.machine.shared().read(|keyspace| keyspace.manifest(&host).unwrap().1.generation);
    assert_eq!(generation, count as u64 + 1, "all of them were applied");
    rate("flip: 10 changes of 300 bytes in a set of 100", count, took);
}

fn snapshots(mib: usize, value: usize) {
    let mut store = Store::new();
    let count = (mib << 20) / value;
    store.apply(&scattered(count).map(|n| put(n, value)).collect::<Vec<_>>());
    let timed = |name: &str, took: Duration| println!("  {name:<50} {:>10.3} ms", took.as_secs_f64() * 1e3);
    println!("snapshot of {mib} MiB in {count} values of {value} bytes");
    let began = Instant::now();
    let mut frozen = store.machine.freeze();
    timed("freeze, which holds up the group", began.elapsed());
    let one_more = store.apply(&[put(count / 2, value)]);
    timed("the first put after that", one_more);
    let began = Instant::now();
    let chunks: Vec<Bytes> = std::iter::from_fn(|| frozen.chunk()).collect();
    timed("make its bytes", began.elapsed());
    let mut restored = StoreMachine::new();
    let began = Instant::now();
    restored.restore(store.index, &mut chunks.into_iter().map(Ok)).unwrap();
    timed("restore", began.elapsed());
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// In a process of its own, so that nothing that was freed before is used again.
fn memory(what: &str, count: usize) {
    let before = resident();
    // The history has bounds of its own, and is not what a key costs.
    let mut store = Store { machine: StoreMachine::with_history(1, 1), index: 0 };
    let mut map = BTreeMap::<Arc<str>, Arc<[u8]>>::new();
    for n in scattered(count) {
        if what == "bare" {
            map.insert(format!("{KEY}{n:07}").into(), vec![7; VALUE].into());
        } else {
            store.apply(&[put(n, VALUE)]);
        }
    }
    black_box((&store.machine, &map));
    println!("{}", (resident() - before) / count as u64);
}

fn memory_of(what: &str, count: usize) -> String {
    let me = std::env::current_exe().unwrap();
    let output = std::process::Command::new(me).args(["memory", what, &count.to_string()]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [word, what, count] = &arguments[..]
        && word == "memory"
    {
        return memory(what, count.parse().unwrap());
    }
    let quick = arguments.iter().any(|argument| argument == "quick");
    let count = if quick { 20_000 } else { 200_000 };
    operations(count);
    exports(count / 20);
    snapshots(if quick { 10 } else { 100 }, 1_000);
    snapshots(if quick { 10 } else { 100 }, 100);
    for count in if quick { vec![100_000] } else { vec![100_000, 1_000_000] } {
        let (bare, store) = (memory_of("bare", count), memory_of("store", count));
        let data = KEY.len() + 7 + VALUE;
        println!("{count} keys of {data} bytes: {store} bytes of memory each; a bare map {bare}");
    }
}
