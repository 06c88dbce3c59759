//! The engine with real threads and tasks, on scripted resources.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mgmt_engine::grants::{Grant, Grants};
use mgmt_engine::report::{Report, Standing, What};
use mgmt_engine::resource::{Applied, Boxed, Check, Drift, Fault, Look, Resource, Signal, Urgency, Watch, Work};
use mgmt_engine::runner::{Condition, Config, Engine, Ledger, Observer};
use mgmt_engine::schedule::Options;
use mgmt_engine::{Clock, Graph, Id, Meta, Vertex};
use tokio::sync::Semaphore;

/// Generous: a bound for a broken program, not a measure of a working one.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Default)]
struct Told(Arc<Mutex<Vec<Report>>>);

impl Observer for Told {
    fn report(&self, report: &Report) {
        self.0.lock().expect("no panic here").push(report.clone());
    }
    fn converged(&self, _: bool) {}
}

struct Nowhere;
impl Ledger for Nowhere {
    fn keep(&self, _: &[Id], _: bool) -> io::Result<()> {
        Ok(())
    }
    fn lost(&self, error: &io::Error) {
        panic!("{error}");
    }
}

#[derive(Debug)]
struct Wrong;
impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("wrong")
    }
}
impl Drift for Wrong {}

/// What a scripted resource does.
#[derive(Debug, Clone)]
enum Act {
    Nothing,
    PanicInCheck,
    PanicInApply,
    HangInCheck,
    UntilStopped,
    /// Waits until as many as the semaphore has waiters run at once: proves that they do.
    Meet(Arc<tokio::sync::Barrier>),
    Gate(Arc<Semaphore>),
    Count(Arc<AtomicUsize>, Arc<Mutex<Option<Signal>>>),
}

/// What it does, which version of it this is, and a permit for each repair that has begun.
#[derive(Debug)]
struct Scripted(Act, u32, Arc<Semaphore>);

impl PartialEq for Scripted {
    fn eq(&self, other: &Self) -> bool {
        self.1 == other.1
    }
}

impl Resource for Scripted {
    type Drift = Wrong;

    fn watch(&self, signal: &Signal) -> Result<Watch, Fault> {
        if let Act::Count(_, seat) = &self.0 {
            *seat.lock().expect("no panic here") = Some(signal.clone());
        }
        Ok(Watch::Nothing)
    }

    async fn check(&self, _: &Look) -> Result<Check<Wrong>, Fault> {
        match &self.0 {
            Act::Nothing => Ok(Check::Converged),
            Act::PanicInCheck => panic!("in check"),
            Act::HangInCheck => std::future::pending().await,
            Act::Count(count, _) => {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(Check::Converged)
            }
            _ => Ok(Check::Drifted(Wrong)),
        }
    }

    async fn apply(&self, _: Wrong, work: &Work) -> Result<Applied, Fault> {
        self.2.add_permits(1);
        match &self.0 {
            Act::PanicInApply => {
                tokio::task::yield_now().await;
                panic!("in apply")
            }
            Act::UntilStopped => {
                work.stop.reached(Urgency::Cancel).await;
                Err(Fault::new("cancelled"))
            }
            Act::Meet(barrier) => {
                barrier.wait().await;
                Ok(Applied::changed("met"))
            }
            Act::Gate(gate) => {
                gate.acquire().await.expect("never closed").forget();
                Ok(Applied::changed("passed"))
            }
            _ => Ok(Applied::Unchanged),
        }
    }
}

struct Bench {
    engine: Engine,
    told: Told,
    graph: Graph,
    begun: Arc<Semaphore>,
}

impl Bench {
    fn new() -> Self {
        Self::converging(Duration::ZERO)
    }

    fn converging(converged: Duration) -> Self {
        let told = Told::default();
        let options = Options { noop: false, recheck: false, converged };
        let config = Config { options, workers: None };
        let runtime = tokio::runtime::Handle::current();
        let engine = Engine::start(config, Clock::start(), runtime, Box::new(told.clone()), Box::new(Nowhere));
        Self { engine: engine.expect("threads"), told, graph: Graph::new("test"), begun: Arc::new(Semaphore::new(0)) }
    }

    fn add(&mut self, name: &str, act: Act) -> usize {
        self.add_meta(name, act, Meta::default())
    }

    fn add_meta(&mut self, name: &str, act: Act, meta: Meta) -> usize {
        let resource = Arc::new(Scripted(act, 0, Arc::clone(&self.begun)));
        self.graph.add(Vertex { id: Id::new("s", name), resource, meta }).expect("a new name")
    }

    fn run(&self) {
        self.engine.replace(self.graph.clone(), &BTreeSet::new());
    }

    async fn until(&self, wanted: Condition) {
        let mut condition = self.engine.condition();
        let wait = condition.wait_for(|c| *c == wanted);
        tokio::time::timeout(PATIENCE, wait).await.expect("in time").expect("the engine lives");
        // A moment's work after convergence is not told, so ask: the test wants to see it done.
        while wanted == Condition::Converged && !self.engine.snapshot().converged {
            tokio::task::yield_now().await;
        }
        self.engine.flush();
    }

    /// Waits until so many more repairs have begun: a look that runs shows as running as well.
    async fn until_begun(&self, repairs: u32) {
        let begun = tokio::time::timeout(PATIENCE, self.begun.acquire_many(repairs)).await;
        begun.expect("in time").expect("never closed").forget();
    }

    fn standing(&self, name: &str) -> (Standing, String) {
        let stands = self.engine.snapshot().stands;
        let stand = stands.into_iter().find(|s| &*s.id.name == name).expect("a vertex of the graph");
        (stand.standing, stand.fault.unwrap_or_default())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_ready_runs_at_once() {
    let mut bench = Bench::new();
    let barrier = Arc::new(tokio::sync::Barrier::new(200));
    for n in 0..200 {
        bench.add(&format!("{n}"), Act::Meet(Arc::clone(&barrier)));
    }
    bench.run();
    bench.until(Condition::Converged).await;
    assert_eq!(bench.told.0.lock().unwrap().len(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_that_vertex_s_failure() {
    let mut bench = Bench::new();
    let check = bench.add("check", Act::PanicInCheck);
    bench.add("apply", Act::PanicInApply);
    let after = bench.add("after", Act::Nothing);
    bench.add("other", Act::Nothing);
    bench.graph.connect(check, after, false);
    bench.run();
    bench.until(Condition::Converged).await;
    assert_eq!(bench.standing("check").0, Standing::Failed);
    assert!(bench.standing("check").1.contains("in check"), "{:?}", bench.standing("check"));
    assert!(bench.standing("apply").1.contains("in apply"), "{:?}", bench.standing("apply"));
    assert_eq!(bench.standing("after").0, Standing::Held);
    assert_eq!(bench.standing("other").0, Standing::Clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_drops_a_check_and_stops_an_apply() {
    let mut bench = Bench::new();
    let meta = Meta { timeout: Some(Duration::from_millis(20)), ..Meta::default() };
    bench.add_meta("check", Act::HangInCheck, meta.clone());
    bench.add_meta("apply", Act::UntilStopped, meta);
    bench.run();
    bench.until(Condition::Converged).await;
    for name in ["check", "apply"] {
        assert!(bench.standing(name).1.contains("took longer than meta.timeout, 20 ms"), "{:?}", bench.standing(name));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_hangs_holds_up_neither_its_next_version_nor_an_urgent_drain() {
    let mut bench = Bench::new();
    bench.add("a", Act::HangInCheck);
    bench.run();
    let running = |bench: &Bench| bench.engine.snapshot().stands.iter().filter(|s| s.running_since.is_some()).count();
    while running(&bench) < 1 {
        tokio::task::yield_now().await;
    }
    bench.graph = Graph::new("test");
    let next = Vertex {
        id: Id::new("s", "a"),
        resource: Arc::new(Scripted(Act::Nothing, 1, Arc::clone(&bench.begun))),
        meta: Meta::default(),
    };
    bench.graph.add(next).expect("a new name");
    bench.run();
    bench.until(Condition::Converged).await;
    assert_eq!(bench.standing("a").0, Standing::Clean);
    assert!(bench.told.0.lock().unwrap().is_empty(), "nobody wants to know how the old one ended");
    bench.add("b", Act::HangInCheck);
    bench.run();
    while running(&bench) < 1 {
        tokio::task::yield_now().await;
    }
    bench.engine.drain(Urgency::None);
    assert_ne!(*bench.engine.condition().borrow(), Condition::Drained, "it still runs");
    bench.engine.drain(Urgency::Cancel);
    bench.until(Condition::Drained).await;
    assert_eq!(bench.standing("b"), (Standing::Failed, "cancelled".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_waits_for_what_runs_and_an_urgent_drain_stops_it() {
    let mut bench = Bench::new();
    let gate = Arc::new(Semaphore::new(0));
    let first = bench.add("gated", Act::Gate(Arc::clone(&gate)));
    let after = bench.add("after", Act::Gate(Arc::clone(&gate)));
    bench.graph.connect(first, after, false);
    bench.add("endless", Act::UntilStopped);
    bench.run();
    let running = |bench: &Bench| bench.engine.snapshot().stands.iter().filter(|s| s.running_since.is_some()).count();
    bench.until_begun(2).await;
    bench.engine.drain(Urgency::None);
    gate.add_permits(2);
    while running(&bench) > 1 {
        tokio::task::yield_now().await;
    }
    assert_ne!(*bench.engine.condition().borrow(), Condition::Drained, "one of them still runs");
    bench.engine.drain(Urgency::Cancel);
    bench.until(Condition::Drained).await;
    let told = bench.told.0.lock().unwrap();
    assert!(told.iter().any(|r| &*r.id.name == "gated" && matches!(r.what, What::Changed { .. })));
    assert!(!told.iter().any(|r| &*r.id.name == "after"), "nothing starts any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_of_many_threads() {
    let mut bench = Bench::new();
    let (count, seat) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
    bench.add("counted", Act::Count(Arc::clone(&count), Arc::clone(&seat)));
    bench.run();
    bench.until(Condition::Converged).await;
    let signal: Signal = seat.lock().unwrap().clone().expect("it has been armed");
    for _ in 0..50 {
        let before = count.load(Ordering::SeqCst);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| signal.raise()));
            }
        });
        bench.until(Condition::Converged).await;
        let looks = count.load(Ordering::SeqCst) - before;
        assert!((1..=400).contains(&looks), "{looks} looks for 400 merged events");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_vertices_survive_a_thousand_graphs() {
    let mut bench = Bench::new();
    let (count, seat) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
    bench.add("stays", Act::Count(Arc::clone(&count), seat));
    let base = bench.graph.clone();
    for n in 0..1000 {
        bench.graph = base.clone();
        bench.add(&format!("passing {n}"), Act::Nothing);
        bench.run();
    }
    bench.until(Condition::Converged).await;
    assert_eq!(count.load(Ordering::SeqCst), 1, "looked at once, in all these graphs");
    assert_eq!(bench.engine.snapshot().stands.len(), 2);
}

/// The last thing to happen is the end of a task, which no worker sees: one must be woken to watch the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_a_task_sets_is_kept() {
    for _ in 0..20 {
        let mut bench = Bench::converging(Duration::from_millis(30));
        let gate = Arc::new(Semaphore::new(0));
        bench.add("gated", Act::Gate(Arc::clone(&gate)));
        bench.run();
        while bench.engine.snapshot().stands[0].standing != Standing::Busy {
            tokio::task::yield_now().await;
        }
        gate.add_permits(1);
        bench.until(Condition::Converged).await;
    }
}

/// Gives what is shared, one at a time, and takes it away when it is told to.
#[derive(Clone)]
struct Lender {
    places: Arc<Semaphore>,
    away: Arc<tokio::sync::Notify>,
    given: Arc<AtomicUsize>,
}

struct Lent {
    _place: tokio::sync::OwnedSemaphorePermit,
    away: Arc<tokio::sync::Notify>,
    fence: u64,
}

impl Grant for Lent {
    fn fence(&self) -> u64 {
        self.fence
    }

    fn lost(&mut self) -> std::pin::Pin<Box<dyn Future<Output = Fault> + Send + '_>> {
        Box::pin(async {
            self.away.notified().await;
            Fault::new("it was taken away")
        })
    }
}

impl Grants for Lender {
    fn acquire(&self, _: &Id, _: Vec<mgmt_engine::Semaphore>) -> Boxed<Result<Box<dyn Grant>, Fault>> {
        let Self { places, away, given } = self.clone();
        Box::pin(async move {
            let place = places.acquire_owned().await.expect("never closed");
            let fence = given.fetch_add(1, Ordering::SeqCst) as u64;
            Ok(Box::new(Lent { _place: place, away, fence }) as Box<dyn Grant>)
        })
    }
}

fn sharing() -> Meta {
    let one = std::num::NonZeroU32::MIN;
    Meta { sema: vec![mgmt_engine::Semaphore { id: "cluster/x".to_owned(), count: one }], ..Meta::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shared_is_taken_given_back_and_taken_away() {
    let mut bench = Bench::new();
    let lender = Lender { places: Arc::new(Semaphore::new(0)), away: Arc::default(), given: Arc::default() };
    bench.engine.share(Box::new(lender.clone()));
    let gate = Arc::new(Semaphore::new(0));
    for name in ["one", "other"] {
        bench.add_meta(name, Act::Gate(Arc::clone(&gate)), sharing());
    }
    bench.run();
    assert_eq!(bench.standing("one").0, Standing::Waiting);
    assert_eq!(bench.engine.snapshot().stands[0].awaits.as_deref(), Some("cluster/x:1"));
    lender.places.add_permits(1);
    let changes = |bench: &Bench| bench.engine.snapshot().stands.iter().map(|stand| stand.changes).sum::<u64>();
    for done in 1..=2 {
        gate.add_permits(1);
        while changes(&bench) < done {
            tokio::task::yield_now().await;
        }
    }
    bench.until(Condition::Converged).await;
    assert_eq!(lender.given.load(Ordering::SeqCst), 2);
    // What runs is stopped when it may not be alone any more.
    bench.graph = Graph::new("test");
    bench.add_meta("endless", Act::UntilStopped, sharing());
    bench.run();
    bench.until_begun(3).await;
    lender.away.notify_one();
    bench.until(Condition::Converged).await;
    let fault = "it was taken away; what ran was ended: cancelled".to_owned();
    assert_eq!(bench.standing("endless"), (Standing::Failed, fault));
    // Nobody holds anything, nor waits for it.
    while lender.places.available_permits() < 1 {
        tokio::task::yield_now().await;
    }
    let last = lender.places.clone().acquire_owned().await.expect("never closed");
    bench.graph = Graph::new("test");
    bench.add_meta("waits", Act::Nothing, sharing());
    bench.run();
    bench.engine.drain(Urgency::None);
    bench.until(Condition::Drained).await;
    drop(last);
    assert_eq!(lender.given.load(Ordering::SeqCst), 3, "who waited at the drain got nothing");
}
