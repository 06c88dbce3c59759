//! Watches against a model that knows all that ever happened.

use std::collections::BTreeMap;

use mgmt_consensus::machine::Frozen;
use mgmt_consensus::{Machine, PeerId};
use proptest::prelude::*;

use super::*;
use crate::command::{Body, Command, Op, Origin, Request, Txn};
use crate::event::Change;
use crate::key::Key;
use crate::machine::StoreMachine;
use crate::outcome::Role;

/// What a watcher is told of an event.
type Told = (u64, String, Option<Vec<u8>>);

/// A store, and the model beside it.
struct World {
    machine: StoreMachine,
    index: u64,
    /// All commands, and how many of them the replica has applied.
    log: Vec<(u64, bytes::Bytes)>,
    applied: usize,
    behind: bool,
    /// Every change that ever was.
    all: Vec<Told>,
    now: BTreeMap<String, Vec<u8>>,
}

fn key(number: u8) -> Key {
    let space = ["k/a/", "k/b/", "k/ab"][usize::from(number % 3)];
    Key::parse(&format!("{space}{}", number / 3)).unwrap()
}

impl World {
    fn new(events_max: usize) -> Self {
        let machine = StoreMachine::with_history(events_max, usize::MAX);
        Self { machine, index: 0, log: Vec::new(), applied: 0, behind: false, all: Vec::new(), now: BTreeMap::new() }
    }

    fn apply(&mut self, body: Body) {
        self.index += 1;
        let host = "web1".parse().unwrap();
        let origin = Origin { host, peer: PeerId(1), role: Role::Admin };
        let command = Command { origin, at_ms: 0, request: Request::plain(body) };
        self.log.push((self.index, command.encode()));
        if !self.behind {
            self.catch_up(self.index);
        }
    }

    /// The replica applies what it has not applied yet.
    fn catch_up(&mut self, through: u64) {
        while let Some((index, command)) = self.log.get(self.applied).filter(|(index, _)| *index <= through) {
            self.machine.apply(*index, command).unwrap();
            self.applied += 1;
        }
    }

    /// Another replica, which lags so far behind.
    fn lag(&mut self, revisions: u64) {
        let through = self.index.saturating_sub(revisions);
        (self.machine, self.applied, self.behind) = (StoreMachine::with_history(48, usize::MAX), 0, true);
        self.catch_up(through);
        self.machine.settled(through);
    }

    /// Writes or deletes, each key at most once.
    fn change(&mut self, changes: &BTreeMap<u8, Option<u16>>) {
        let mut ops = Vec::new();
        for (number, length) in changes {
            let key = key(*number);
            let index = self.index + 1;
            match length {
                Some(length) => {
                    let value = index.to_le_bytes().repeat(1 + usize::from(*length));
                    self.all.push((index, key.to_string(), Some(value.clone())));
                    self.now.insert(key.to_string(), value.clone());
                    ops.push(Op::Put { key, value: value.into(), lease: None });
                }
                None => {
                    if self.now.remove(key.as_str()).is_some() {
                        self.all.push((index, key.to_string(), None));
                    }
                    ops.push(Op::Delete { key });
                }
            }
        }
        self.apply(Body::Txn(Txn { then: ops, ..Txn::default() }));
    }

    fn settle(&mut self) {
        self.behind = false;
        self.catch_up(self.index);
        self.machine.settled(self.index);
    }

    /// A replica that was given the state as a snapshot and has no history.
    fn snapshot(&mut self) -> StoreMachine {
        self.behind = false;
        self.catch_up(self.index);
        let mut frozen = self.machine.freeze();
        let mut chunks = std::iter::from_fn(|| frozen.chunk().map(Ok));
        let mut machine = StoreMachine::with_history(64, usize::MAX);
        machine.restore(self.index, &mut chunks).unwrap();
        machine
    }
}

fn told(event: &Event) -> Told {
    let value = match &event.change {
        Change::Put(entry) => Some(entry.value.to_vec()),
        Change::Delete => None,
    };
    (event.revision.0, event.key.to_string(), value)
}

/// Batches that are small enough to be too small.
fn watches(world: &World) -> Watches {
    Watches { sizes: Sizes { batch_bytes: 700, scan_events: 5 }, ..Watches::new(world.machine.shared()) }
}

/// Somebody who watches, and what it was told since it read the state last.
struct Watcher {
    filter: Filter,
    watch: Option<Watch>,
    position: Position,
    /// Events after this revision are what it must have been told.
    since: u64,
    heard: Vec<Told>,
}

impl Watcher {
    fn at(world: &World, filter: Filter, after: u64) -> Self {
        let watch = watches(world).open(filter.clone(), Revision(after)).unwrap();
        let position = watch.position();
        Self { filter, watch: Some(watch), position, since: after, heard: Vec::new() }
    }

    /// What it must have been told by now: exactly this, in this order.
    fn due<'a>(&'a self, world: &'a World) -> impl Iterator<Item = &'a Told> {
        let position = self.position;
        let past = world.all.iter().filter(move |told| told.0 <= position.revision.0);
        let next = world.all.iter().filter(move |told| told.0 > position.revision.0).take(position.part as usize);
        past.chain(next).filter(|told| told.0 > self.since && self.filter.matches(&told.1))
    }

    /// Takes what is ready, at most `batches` of it. Whoever falls out of the history reads the state, and goes on.
    fn listen(&mut self, world: &World, batches: usize) {
        let shared = world.machine.shared();
        let watches = watches(world);
        for _ in 0..batches {
            let resumed = || watches.resume(self.filter.clone(), self.position).unwrap();
            let mut watch = self.watch.take().unwrap_or_else(resumed);
            match watch.ready() {
                Ok(Some(batch)) => {
                    let bytes: usize = batch.events.iter().map(Event::bytes).sum();
                    assert!(bytes <= watches.sizes.batch_bytes || batch.events.len() == 1);
                    assert!(batch.position > self.position, "it goes forward");
                    self.position = batch.position;
                    self.heard.extend(batch.events.iter().map(told));
                    self.watch = Some(watch);
                }
                Ok(None) => {
                    self.position = watch.position();
                    self.watch = Some(watch);
                    break;
                }
                Err(WatchError::Compacted { oldest }) => {
                    assert!(oldest > self.position.revision, "only what is gone is called so");
                    let revision = shared.read(crate::keyspace::Keyspace::revision).max(shared.revision());
                    *self = Self::at(world, self.filter.clone(), revision.0);
                }
                Err(WatchError::TooMany) => panic!("there are few"),
            }
        }
        let due: Vec<_> = self.due(world).collect();
        assert_eq!(self.heard.iter().collect::<Vec<_>>(), due, "{:?} at {:?}", self.filter, self.position);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Change(BTreeMap<u8, Option<u16>>),
    Blank,
    Settle,
    Open(u8, u8),
    Listen(u8, u8),
    Reconnect(u8),
    Move,
    Lag(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let change = prop::collection::btree_map(0u8..9, prop::option::weighted(0.7, 0u16..40), 1..6);
    prop_oneof![
        6 => change.prop_map(Step::Change),
        1 => Just(Step::Blank),
        3 => Just(Step::Settle),
        1 => (0u8..6, any::<u8>()).prop_map(|(filter, back)| Step::Open(filter, back)),
        6 => (any::<u8>(), 1u8..4).prop_map(|(who, batches)| Step::Listen(who, batches)),
        2 => any::<u8>().prop_map(Step::Reconnect),
        1 => Just(Step::Move),
        1 => (0u8..12).prop_map(Step::Lag),
    ]
}

fn filter(number: u8) -> Filter {
    match number {
        0 => Filter::Prefix(String::new()),
        1 => Filter::Prefix("k/a".to_owned()),
        2 => Filter::Prefix("k/a/".to_owned()),
        3 => Filter::Key("k/b/1".to_owned()),
        4 => Filter::Prefix("k/none/".to_owned()),
        _ => Filter::Prefix("k/b/".to_owned()),
    }
}

fn run(steps: Vec<Step>) {
    let mut world = World::new(48);
    let mut watchers: Vec<Watcher> = (0..6).map(|number| Watcher::at(&world, filter(number), 0)).collect();
    for step in steps {
        match step {
            Step::Change(changes) => world.change(&changes),
            Step::Blank => world.index += 1,
            Step::Settle => world.settle(),
            Step::Open(number, back) => {
                // Some ask for what is gone, some for what this replica has not seen yet.
                let after = (world.index + 3).saturating_sub(u64::from(back) / 4);
                watchers.push(Watcher::at(&world, filter(number), after));
            }
            Step::Listen(who, batches) => {
                let who = usize::from(who) % watchers.len();
                watchers[who].listen(&world, usize::from(batches));
            }
            Step::Reconnect(who) => {
                let who = usize::from(who) % watchers.len();
                watchers[who].watch = None;
            }
            // All go to another replica: one that was given a snapshot, or one that lags behind.
            Step::Move | Step::Lag(_) => {
                match step {
                    Step::Lag(revisions) => world.lag(u64::from(revisions)),
                    _ => world.machine = world.snapshot(),
                }
                for watcher in &mut watchers {
                    watcher.watch = None;
                }
            }
        }
    }
    world.settle();
    for watcher in &mut watchers {
        watcher.listen(&world, 10_000);
        assert!(watcher.position.revision.0 >= world.index, "at the end it has everything");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 300 } else { 3000 }))]
    #[test]
    fn every_change_once_and_in_order(steps in prop::collection::vec(step(), 1..150)) {
        run(steps);
    }
}

#[test]
fn the_mutant_is_caught() {
    let steps = vec![
        Step::Change(BTreeMap::from([(0, Some(0))])),
        Step::Settle,
        Step::Listen(0, 1),
        Step::Change(BTreeMap::from([(0, Some(1))])),
        Step::Settle,
        Step::Reconnect(0),
        Step::Listen(0, 1),
    ];
    run(steps.clone());
    let caught = std::panic::catch_unwind(|| {
        let _chosen = mutant::choose(Some(Mutant::WatchDropsOnReconnect));
        run(steps);
    });
    assert!(caught.is_err());
}

/// A transaction that is larger than a batch comes in several, and a watch may be resumed between them.
#[test]
fn a_revision_in_parts() {
    let mut world = World::new(10_000);
    world.change(&(0..9).map(|number| (number, Some(20))).collect());
    world.change(&BTreeMap::from([(0, None)]));
    world.settle();
    let mut watcher = Watcher::at(&world, filter(0), 0);
    let mut positions = Vec::new();
    loop {
        let before = watcher.position;
        watcher.watch = None;
        watcher.listen(&world, 1);
        if watcher.position == before {
            break;
        }
        positions.push((watcher.position.revision.0, watcher.position.part));
    }
    assert_eq!(positions, [(0, 2), (0, 4), (0, 6), (0, 8), (2, 0)]);
}

/// A part of a revision was given by one member, and the next member is not there yet: what it has settled meanwhile is
/// before that revision, and must not make the part be given again.
#[test]
fn a_part_that_the_next_member_has_not_seen() {
    let nothing = || Step::Change(BTreeMap::from([(1, None)]));
    let mut steps = vec![
        Step::Change(BTreeMap::from([(0, Some(8)), (5, Some(0))])),
        nothing(),
        Step::Change(BTreeMap::from([(0, Some(35)), (5, None)])),
        Step::Settle,
        Step::Listen(0, 1),
    ];
    steps.extend([nothing(), Step::Lag(2), Step::Listen(0, 1), Step::Settle, Step::Listen(0, 9)]);
    run(steps);
}

#[tokio::test]
async fn it_wakes_up_and_waits_for_nothing_else() {
    let mut world = World::new(100);
    let watches = Watches::new(world.machine.shared());
    let mut watch = watches.open(filter(3), Revision::ZERO).unwrap();
    let mut next = Box::pin(watch.next());
    let mut pending = async || futures_pending(&mut next).await;
    assert!(pending().await);
    world.change(&BTreeMap::from([(0, Some(0))]));
    world.settle();
    assert!(pending().await, "it is about another key");
    world.change(&BTreeMap::from([(4, Some(0))]));
    assert!(pending().await, "not settled");
    world.settle();
    let batch = next.await.unwrap();
    assert_eq!(batch.events.len(), 1);
    assert_eq!(batch.position, Position::from(Revision(2)));
}

/// Whether a future is not done after one look.
async fn futures_pending<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
    tokio::select! {
        biased;
        _ = future => false,
        () = std::future::ready(()) => true,
    }
}

#[test]
fn whom_nothing_concerns_is_told_how_far_it_is() {
    let mut world = World::new(100);
    let watches = Watches::new(world.machine.shared());
    let mut watch = watches.open(filter(4), Revision::ZERO).unwrap();
    let mut marks = Vec::new();
    for _ in 0..5000 {
        world.change(&BTreeMap::from([(0, Some(0))]));
        world.settle();
        if let Some(batch) = watch.ready().unwrap() {
            assert_eq!(batch.events, []);
            marks.push(batch.position.revision.0);
        }
    }
    assert_eq!(marks, [1024, 2048, 3072, 4096]);
    assert_eq!(watch.position(), Position::from(Revision(5000)));
}

#[test]
fn only_so_many() {
    let watches = Watches::new(StoreMachine::new().shared());
    let open = || watches.open(filter(0), Revision::ZERO);
    let mut all: Vec<_> = (0..WATCHES_MAX).map(|_| open().unwrap()).collect();
    assert_eq!(open().unwrap_err(), WatchError::TooMany);
    all.pop();
    assert!(open().is_ok());
    assert_eq!(watches.count(), WATCHES_MAX - 1, "one that was refused or dropped takes no place");
}
