//! Clients that read, write and compare-and-swap at the same time, while somebody makes trouble, and their history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::linear::{Act, Nanos, Operation, Value};
use super::peer::Recipe;
use super::pipe::{Answer, Pipe};
use super::{let_pass, wait};

/// Keys in use at the same time.
const KEYS_AT_ONCE: usize = 4;
/// After so many operations a client goes to another peer, so that all peers are asked at all times.
const STAY: usize = 400;
/// Between two tries of a client whose peer does not answer.
const BREATH: Duration = Duration::from_millis(30);
/// Keys must be readable by then once all trouble is over.
const HEALED: Duration = Duration::from_secs(60);

/// How much is asked, by how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) clients: u32,
    pub(crate) operations: usize,
    /// On one key: what the judge can search soon.
    pub(crate) per_key: usize,
    /// Between two operations of a client.
    pub(crate) pause: Duration,
}

impl Load {
    /// Sixteen clients; the operations as many as `MGMT_OPS` says, or so many.
    pub(crate) fn of(operations: usize) -> Self {
        let asked = std::env::var("MGMT_OPS").ok().and_then(|text| text.parse().ok());
        let pause = Duration::ZERO;
        Self { clients: 16, operations: asked.unwrap_or(operations), per_key: 300, pause }
    }

    /// A few clients that leave the machine to others, until somebody stops them.
    pub(crate) const fn light() -> Self {
        Self { clients: 4, operations: usize::MAX, per_key: 300, pause: Duration::from_millis(5) }
    }
}

/// Where a load stands, for who makes the trouble.
pub(crate) struct Progress {
    start: Instant,
    asked: AtomicUsize,
    /// When the last change was acknowledged.
    last_change: Mutex<Instant>,
    operations: usize,
    stop: AtomicBool,
}

impl Progress {
    /// Whether there is more to come.
    pub(crate) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed) && self.asked.load(Ordering::Relaxed) < self.operations
    }

    /// Which part of the work has begun, in thousandths.
    pub(crate) fn permille(&self) -> usize {
        self.asked.load(Ordering::Relaxed).min(self.operations) * 1_000 / self.operations.max(1)
    }

    /// Waits until so much has begun; `false` if that did not happen for long.
    pub(crate) fn until_permille(&self, permille: usize) -> bool {
        wait(Duration::from_secs(300), || self.permille() >= permille).is_some()
    }

    /// Waits until a change is acknowledged from now on, or there is nothing more to ask; how long that took. Almost: an
    /// answer may have been on its way.
    pub(crate) fn until_change(&self, most: Duration) -> Option<Duration> {
        let start = Instant::now();
        wait(most, || *self.last_change.lock().unwrap() > start || !self.goes_on())
    }

    /// Asks for no more.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn now(&self) -> Nanos {
        u64::try_from(self.start.elapsed().as_nanos()).expect("tests end within centuries")
    }
}

/// What a load came to.
pub(crate) struct Outcome {
    pub(crate) history: Vec<Operation>,
    pub(crate) elapsed: Duration,
}

impl Outcome {
    /// From an instant (of [`Progress`]) to the answer of the first change that was asked for after it.
    pub(crate) fn gap_after(&self, at: Duration) -> Option<Duration> {
        let at = u64::try_from(at.as_nanos()).expect("tests end within centuries");
        let changes = self.history.iter().filter(|one| one.invoked >= at && !matches!(one.act, Act::Read(_)));
        changes.filter_map(|one| one.returned).min().map(|returned| Duration::from_nanos(returned - at))
    }

    /// The longest time between two answers to changes, from one instant to another.
    pub(crate) fn longest_gap(&self, from: Duration, to: Duration) -> Duration {
        let nanos = |at: Duration| u64::try_from(at.as_nanos()).expect("tests end within centuries");
        let (from, to) = (nanos(from), nanos(to));
        let changes = self.history.iter().filter(|one| !matches!(one.act, Act::Read(_)));
        let answered = changes.filter_map(|one| one.returned).filter(|at| (from..to).contains(at));
        let mut answered: Vec<u64> = answered.chain([from, to]).collect();
        answered.sort_unstable();
        Duration::from_nanos(answered.windows(2).map(|two| two[1] - two[0]).max().unwrap_or(0))
    }

    pub(crate) fn unknown(&self) -> usize {
        self.history.iter().filter(|one| one.returned.is_none()).count()
    }
}

/// Runs a load against these peers, and trouble beside it. In the end every key is read once more.
pub(crate) fn run(peers: &[Recipe], load: Load, trouble: impl FnOnce(&Progress)) -> Outcome {
    let now = Instant::now();
    let progress = Progress {
        start: now,
        asked: AtomicUsize::new(0),
        last_change: Mutex::new(now),
        operations: load.operations,
        stop: AtomicBool::new(false),
    };
    let history = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 0..load.clients {
            let (progress, history) = (&progress, &history);
            scope.spawn(move || {
                let mut client = Client::new(number, peers, load, progress);
                client.work();
                history.lock().unwrap().append(&mut client.done);
            });
        }
        // Clients must not go on for ever if trouble panics.
        let stop = StopAtEnd(&progress);
        trouble(&progress);
        std::mem::forget(stop);
    });
    let elapsed = progress.elapsed();
    let mut history = history.into_inner().unwrap();
    let used: BTreeSet<u32> = history.iter().map(|one| one.key).collect();
    let mut reader = Client::new(load.clients, peers, load, &progress);
    for key in used {
        assert!(wait(HEALED, || reader.read(key)).is_some(), "key {key} cannot be read though all trouble is over");
    }
    history.append(&mut reader.done);
    Outcome { history, elapsed }
}

struct StopAtEnd<'a>(&'a Progress);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

struct Client<'a> {
    number: u32,
    peers: &'a [Recipe],
    at: usize,
    pipe: Option<Pipe>,
    stayed: usize,
    load: Load,
    progress: &'a Progress,
    seen: BTreeMap<u32, Value>,
    written: u64,
    dice: u64,
    done: Vec<Operation>,
}

impl<'a> Client<'a> {
    fn new(number: u32, peers: &'a [Recipe], load: Load, progress: &'a Progress) -> Self {
        let at = number as usize % peers.len();
        let dice = u64::from(number) * 7_919 + 1;
        let (seen, done) = (BTreeMap::new(), Vec::new());
        Self { number, peers, at, pipe: None, stayed: 0, load, progress, seen, written: 0, dice, done }
    }

    fn below(&mut self, most: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % most
    }

    fn work(&mut self) {
        while self.progress.goes_on() {
            let number = self.progress.asked.fetch_add(1, Ordering::Relaxed);
            let group = number / (self.load.per_key * KEYS_AT_ONCE);
            let among = usize::try_from(self.below(KEYS_AT_ONCE as u64)).expect("few");
            let key = u32::try_from(group * KEYS_AT_ONCE + among).expect("not so many keys");
            if !self.load.pause.is_zero() {
                let_pass(self.load.pause);
            }
            let was = self.seen.get(&key).copied();
            match self.below(10) {
                0..5 => {
                    self.read(key);
                }
                5..8 => self.change(key, |new| Act::Swap { was, new, held: None }),
                _ => self.change(key, Act::Write),
            }
        }
    }

    fn ask(&mut self, request: &str) -> Answer {
        if self.stayed >= STAY || self.pipe.as_ref().is_some_and(Pipe::is_broken) {
            self.pipe = None;
            self.at = (self.at + 1) % self.peers.len();
            self.stayed = 0;
        }
        self.stayed += 1;
        if self.pipe.is_none() {
            // A connection on which nothing was answered yet has lost nothing.
            let answers = |pipe: &mut Pipe| !matches!(pipe.ask("LEADER"), Answer::Unknown(_));
            self.pipe = self.peers[self.at].pipe().and_then(|mut pipe| answers(&mut pipe).then_some(pipe));
        }
        let never = || Answer::Never("no connection".to_owned());
        let answer = self.pipe.as_mut().map_or_else(never, |pipe| pipe.ask(request));
        if matches!(answer, Answer::Never(_) | Answer::Unknown(_)) {
            // Whatever the reason: somebody else may know better.
            self.stayed = STAY;
            let_pass(BREATH);
        }
        answer
    }

    /// Whether it was answered.
    fn read(&mut self, key: u32) -> bool {
        let invoked = self.progress.now();
        // What nobody can have written is for the judge to see.
        let number = |text: &str| text.strip_prefix('v').and_then(|text| text.parse().ok()).unwrap_or(Value::MAX);
        let value = match self.ask(&format!("GET linear/{key}")) {
            Answer::Ok(text) => Some(number(&text)),
            Answer::Missing => None,
            Answer::Other | Answer::Never(_) | Answer::Unknown(_) => return false,
        };
        let returned = Some(self.progress.now());
        self.know(key, value);
        self.done.push(Operation { client: self.number, key, invoked, returned, act: Act::Read(value) });
        true
    }

    fn know(&mut self, key: u32, value: Option<Value>) {
        // Keys go up, and are not touched again.
        let few = u32::try_from(4 * KEYS_AT_ONCE).expect("few");
        self.seen.retain(|other, _| other + few > key);
        match value {
            Some(value) => self.seen.insert(key, value),
            None => self.seen.remove(&key),
        };
    }

    fn change(&mut self, key: u32, act: impl Fn(Value) -> Act) {
        self.written += 1;
        let new = (u64::from(self.number) << 32) | self.written;
        let mut act = act(new);
        let request = match act {
            Act::Swap { was: Some(was), .. } => format!("CAS linear/{key} v{was} v{new}"),
            Act::Swap { was: None, .. } => format!("CAS linear/{key} - v{new}"),
            Act::Write(_) | Act::Read(_) => format!("PUT linear/{key} v{new}"),
        };
        let invoked = self.progress.now();
        let answer = self.ask(&request);
        let mut returned = Some(self.progress.now());
        match (&mut act, &answer) {
            // Of what has never happened no value is ever seen: if one is, the judge finds that nobody has written it.
            (_, Answer::Never(_)) => return,
            (_, Answer::Unknown(_)) => returned = None,
            (Act::Swap { held, .. }, Answer::Ok(_)) => *held = Some(true),
            (Act::Swap { held, .. }, Answer::Other | Answer::Missing) => *held = Some(false),
            (_, Answer::Ok(_)) => {}
            (act, answer) => panic!("{answer:?} to {act:?}"),
        }
        if returned.is_some() {
            *self.progress.last_change.lock().unwrap() = Instant::now();
        }
        self.know(key, matches!(answer, Answer::Ok(_)).then_some(new));
        self.done.push(Operation { client: self.number, key, invoked, returned, act });
    }
}
