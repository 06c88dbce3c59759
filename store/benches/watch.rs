//! Fan-out: from the moment a change is settled until everybody who watches has it, on one thread.
//!
//! `cargo bench -p mgmt-store --bench watch`

#![allow(missing_docs, clippy::disallowed_methods, clippy::print_stdout, reason = "a bench measures and prints")]

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mgmt_consensus::{Machine, PeerId};
use mgmt_store::command::{Body, Command, Op, Origin, Request, Txn};
use mgmt_store::watch::{Filter, Watch, Watches};
use mgmt_store::{Revision, Role, StoreMachine};
use tokio::sync::Notify;

const WATCHERS: usize = 1_000;
const ROUNDS: usize = 300;

struct Bench {
    machine: StoreMachine,
    index: u64,
}

impl Bench {
    /// Writes so many keys with one command, and gives the bytes of it.
    fn command(&self, prefix: &str, keys: usize) -> bytes::Bytes {
        let origin = Origin { host: "bench".parse().expect("a name"), peer: PeerId(1), role: Role::Admin };
        let put = |number| Op::Put {
            key: format!("{prefix}{number}").parse().expect("a key"),
            value: vec![7; 100].into(),
            lease: None,
        };
        let txn = Txn { then: (0..keys).map(put).collect(), ..Txn::default() };
        Command { origin, at_ms: 0, request: Request::plain(Body::Txn(txn)) }.encode()
    }

    fn apply(&mut self, command: &[u8]) {
        self.index += 1;
        self.machine.apply(self.index, command).expect("it is understood");
    }
}

/// What all watchers have heard, and who waits for it.
#[derive(Default)]
struct Heard {
    events: Cell<usize>,
    due: Cell<usize>,
    all: Notify,
}

async fn follow(mut watch: Watch, heard: Rc<Heard>) {
    loop {
        let batch = watch.next().await.expect("nobody falls behind");
        heard.events.set(heard.events.get() + batch.events.len());
        if heard.events.get() >= heard.due.get() {
            heard.all.notify_one();
        }
    }
}

fn median(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// Lets all watchers follow some prefix, writes, and measures until those who care have heard.
async fn measure(name: &str, prefix_of: impl Fn(usize) -> String, keys: usize) {
    let mut bench = Bench { machine: StoreMachine::new(), index: 0 };
    let watches = Watches::new(bench.machine.shared());
    let heard = Rc::new(Heard::default());
    let mut concerned = 0;
    for number in 0..WATCHERS {
        let prefix = prefix_of(number);
        concerned += usize::from("k/hot/".starts_with(&prefix));
        let watch = watches.open(Filter::Prefix(prefix), Revision::ZERO).expect("there is a place");
        tokio::task::spawn_local(follow(watch, Rc::clone(&heard)));
    }
    tokio::task::yield_now().await;
    let command = bench.command("k/hot/", keys);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        bench.apply(&command);
        heard.events.set(0);
        heard.due.set(concerned * keys);
        let start = Instant::now();
        bench.machine.settled(bench.index);
        heard.all.notified().await;
        // Those who do not care have their look as well.
        tokio::task::yield_now().await;
        times.push(start.elapsed());
    }
    let (middle, late) = median(times);
    let each = middle.as_nanos() / (WATCHERS * keys) as u128;
    println!("{name:<56} p50 {middle:>10.1?}  p99 {late:>10.1?}  {each:>6} ns an event and watcher");
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    println!("{WATCHERS} watchers, {ROUNDS} rounds, values of 100 bytes, one thread: its time is CPU time");
    local.block_on(&runtime, async {
        measure("one event, all are concerned", |_| "k/hot/".to_owned(), 1).await;
    });
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        measure("64 events of one revision, all are concerned", |_| "k/hot/".to_owned(), 64).await;
    });
    let local = tokio::task::LocalSet::new();
    let one = |number| if number == 0 { "k/hot/".to_owned() } else { format!("k/cold/{number}/") };
    local.block_on(&runtime, async {
        measure("one event, one of them is concerned, all look", one, 1).await;
    });
}
