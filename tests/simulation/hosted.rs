//! A runtime in which the tasks of one host can be killed and stopped at any await: openraft's deterministic one, where
//! every task belongs to the life of the host that spawned it. A kill drops all of them at once where they stand, as
//! `kill -9` does; a pause stops them and nothing else, as SIGSTOP does: time goes on, and messages heap up.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use openraft::{AsyncRuntime, OptionalSend};
use openraft_rt_sim::SimRuntime;

thread_local! {
    /// Whose task is polled now; nobody's outside of hosts.
    static CURRENT: RefCell<Option<Life>> = const { RefCell::new(None) };
    /// What the last panic said: the hook hears more than `catch_unwind` does.
    static LAST_WORDS: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps the words of panics for [`Life::panics`] instead of printing them.
pub(crate) fn listen_to_panics() {
    std::panic::set_hook(Box::new(|panic| LAST_WORDS.set(panic.to_string())));
}

/// What the last panic on this thread said.
pub(crate) fn last_words() -> String {
    LAST_WORDS.with_borrow(String::clone)
}

/// One life of a host's process.
#[derive(Clone, Debug)]
pub(crate) struct Life(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dead: AtomicBool,
    paused: AtomicBool,
    next: AtomicU64,
    /// The tasks, each with whom to wake so that it is polled.
    tasks: Mutex<BTreeMap<u64, Waker>>,
    panics: Mutex<Vec<String>>,
}

impl Life {
    /// A process begins.
    pub(crate) fn begin() -> Self {
        Self(Arc::new(Inner {
            dead: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            next: AtomicU64::new(0),
            tasks: Mutex::new(BTreeMap::new()),
            panics: Mutex::new(Vec::new()),
        }))
    }

    /// It ends, wherever its tasks are. None of them is polled again; each is dropped within this instant.
    pub(crate) fn kill(&self) {
        self.0.dead.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Is it over?
    pub(crate) fn is_dead(&self) -> bool {
        self.0.dead.load(Ordering::Relaxed)
    }

    /// Stops it, or lets it go on.
    pub(crate) fn pause(&self, paused: bool) {
        self.0.paused.store(paused, Ordering::Relaxed);
        if !paused {
            self.wake();
        }
    }

    /// Is it stopped?
    pub(crate) fn is_paused(&self) -> bool {
        self.0.paused.load(Ordering::Relaxed)
    }

    /// What its tasks died of.
    pub(crate) fn panics(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.panics.lock().expect("held for a moment only"))
    }

    /// Runs something as a task of this process. `None` if it ended before.
    pub(crate) fn run<F>(&self, work: F) -> impl Future<Output = Option<F::Output>> + Send + use<F>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        // The sender lives in the task, and dies with it: that is how the end is told.
        let (done, result) = tokio::sync::oneshot::channel();
        let work = async move {
            let _nobody_waits = done.send(work.await);
        };
        drop(SimRuntime::spawn(Bound::to(Some(self.clone()), work)));
        async { result.await.ok() }
    }

    fn wake(&self) {
        let tasks: Vec<_> = self.0.tasks.lock().expect("held for a moment only").values().cloned().collect();
        tasks.into_iter().for_each(Waker::wake);
    }

    /// Does something in the name of this process.
    fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        struct Back(Option<Life>);
        impl Drop for Back {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        let _back = Back(CURRENT.replace(Some(self.clone())));
        work()
    }
}

/// A task of a life.
struct Bound<F> {
    life: Option<Life>,
    number: u64,
    /// Gone once it is done, or the life is over.
    work: Option<Pin<Box<F>>>,
}

impl<F> Bound<F> {
    fn to(life: Option<Life>, work: F) -> Self {
        let number = life.as_ref().map_or(0, |life| life.0.next.fetch_add(1, Ordering::Relaxed));
        Self { life, number, work: Some(Box::pin(work)) }
    }
}

impl<F: Future> Future for Bound<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(life) = self.life.clone() else {
            return self.work.as_mut().expect("polled until it is done").as_mut().poll(context);
        };
        let number = self.number;
        if life.is_dead() {
            let work = self.work.take();
            life.within(|| drop(work));
            return Poll::Pending;
        }
        life.0.tasks.lock().expect("held for a moment only").insert(number, context.waker().clone());
        let Some(work) = self.work.as_mut() else { return Poll::Pending };
        if life.is_paused() {
            return Poll::Pending;
        }
        let polled = life.within(|| catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))));
        if !matches!(polled, Ok(Poll::Pending)) {
            life.0.tasks.lock().expect("held for a moment only").remove(&number);
            let work = self.work.take();
            life.within(|| drop(work));
        }
        polled.unwrap_or_else(|panic| died(&life, panic))
    }
}

fn died(life: &Life, panic: Box<dyn Any + Send>) -> ! {
    life.0.panics.lock().expect("held for a moment only").push(last_words());
    resume_unwind(panic)
}

/// The runtime under a host.
#[derive(Debug)]
pub(crate) struct Hosted(SimRuntime);

impl AsyncRuntime for Hosted {
    type JoinError = <SimRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <SimRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <SimRuntime as AsyncRuntime>::Sleep;
    type Instant = <SimRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <SimRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <SimRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <SimRuntime as AsyncRuntime>::ThreadLocalRng;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        SimRuntime::spawn(Bound::to(CURRENT.with_borrow(Option::clone), future))
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        SimRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        SimRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        SimRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        SimRuntime::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        SimRuntime::is_panic(error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        SimRuntime::thread_rng()
    }

    type Mpsc = <SimRuntime as AsyncRuntime>::Mpsc;
    type Watch = <SimRuntime as AsyncRuntime>::Watch;
    type Oneshot = <SimRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <SimRuntime as AsyncRuntime>::Mutex<T>;

    fn new(threads: usize) -> Self {
        Self(SimRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}
