//! Who wants to hear of which unit, and who waits for which job. Pure bookkeeping behind one lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mgmt_engine::resource::Signal;
use tokio::sync::oneshot;

use super::unit;

/// Ends of jobs that are kept while a call is out whose job is not known yet. Whoever misses one looks itself.
const EARLY_MAX: usize = 4_096;

/// Shared between those who ask and the one who follows.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    subscriptions: BTreeMap<u64, Subscription>,
    /// Subscriptions by a unit's path on the bus.
    by_path: BTreeMap<String, BTreeSet<u64>>,
    /// Calls that have been sent and whose job is not known yet.
    calls: usize,
    /// Jobs that have ended while such a call was out: by path, how.
    early: BTreeMap<String, String>,
    /// Who waits for a job's end, by its path.
    waiting: BTreeMap<String, Vec<oneshot::Sender<String>>>,
}

#[derive(Debug)]
struct Subscription {
    signal: Signal,
    /// The unit's path by the name that was given, and by its own where that is another.
    paths: BTreeSet<String>,
}

/// A subscription. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Guard {
    registry: Arc<Registry>,
    number: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut inner = self.registry.lock();
        let gone = inner.subscriptions.remove(&self.number);
        for path in gone.iter().flat_map(|gone| &gone.paths) {
            if let Some(numbers) = inner.by_path.get_mut(path) {
                numbers.remove(&self.number);
                if numbers.is_empty() {
                    inner.by_path.remove(path);
                }
            }
        }
        drop(inner);
        // The signal may be the last to hold its sink: it ends outside the lock.
        drop(gone);
    }
}

/// A call that is about to make a job. Ends of jobs are remembered while one of these lives.
#[derive(Debug)]
pub(super) struct Call<'r>(&'r Registry);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.calls -= 1;
        if inner.calls == 0 {
            inner.early.clear();
        }
    }
}

impl Call<'_> {
    /// The call has made this job: hears how it ends, or has ended already.
    pub(super) fn made(&self, job: &str) -> oneshot::Receiver<String> {
        self.0.wait(job)
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change below is complete in itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises `signal` when something happens to the unit of this name.
    pub(super) fn subscribe(self: &Arc<Self>, name: &str, signal: &Signal) -> Guard {
        let mut inner = self.lock();
        let (number, path) = (inner.next, unit::path(name));
        inner.next += 1;
        inner.by_path.entry(path.clone()).or_default().insert(number);
        inner.subscriptions.insert(number, Subscription { signal: signal.clone(), paths: BTreeSet::from([path]) });
        Guard { registry: Arc::clone(self), number }
    }

    /// The unit that was asked for by `name` calls itself `id`, and that is what signals call it. Whether this is news
    /// to some subscription: what happened to the unit before was not heard.
    pub(super) fn known_as(&self, name: &str, id: &str) -> bool {
        if name == id {
            return false;
        }
        let (asked, own) = (unit::path(name), unit::path(id));
        let mut inner = self.lock();
        let numbers = inner.by_path.get(&asked).cloned().unwrap_or_default();
        let mut news = false;
        for number in numbers {
            let added = inner.subscriptions.get_mut(&number).is_some_and(|sub| sub.paths.insert(own.clone()));
            if added {
                inner.by_path.entry(own.clone()).or_default().insert(number);
                news = true;
            }
        }
        news
    }

    /// Something happened to the unit at this path.
    pub(super) fn raise(&self, path: &str) {
        let signals: Vec<Signal> = {
            let inner = self.lock();
            let numbers = inner.by_path.get(path).into_iter().flatten();
            numbers.filter_map(|number| Some(inner.subscriptions.get(number)?.signal.clone())).collect()
        };
        Signal::raise_all(&signals);
    }

    /// Something may have happened to any unit.
    pub(super) fn raise_all(&self) {
        let signals: Vec<Signal> = self.lock().subscriptions.values().map(|sub| sub.signal.clone()).collect();
        Signal::raise_all(&signals);
    }

    /// A job is about to be made.
    pub(super) fn call(&self) -> Call<'_> {
        self.lock().calls += 1;
        Call(self)
    }

    /// Hears how this job ends. If it ended before, and nobody's call was out then, it never does.
    pub(super) fn wait(&self, job: &str) -> oneshot::Receiver<String> {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.lock();
        if let Some(result) = inner.early.get(job) {
            // The receiver is ours, so it is there.
            sender.send(result.clone()).ok();
        } else {
            inner.waiting.entry(job.to_owned()).or_default().push(sender);
        }
        receiver
    }

    /// A job has ended.
    pub(super) fn ended(&self, job: &str, result: &str) {
        let mut inner = self.lock();
        if inner.calls > 0 && inner.early.len() < EARLY_MAX {
            inner.early.insert(job.to_owned(), result.to_owned());
        }
        let waiting = inner.waiting.remove(job);
        drop(inner);
        for sender in waiting.into_iter().flatten() {
            // Who does not wait any more has been told otherwise.
            sender.send(result.to_owned()).ok();
        }
    }

    /// Signals may have been lost: whoever waits for a job has to look itself.
    pub(super) fn interrupted(&self) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mgmt_engine::resource::{Sink, Ticket};
    use std::sync::atomic::{AtomicU32, Ordering};

    #[derive(Default)]
    struct Raises(AtomicU32);

    impl Sink for Raises {
        fn raised(&self, tickets: &[Ticket]) {
            self.0.fetch_add(u32::try_from(tickets.len()).unwrap(), Ordering::SeqCst);
        }
        fn ticked(&self, _: Ticket) {}
    }

    fn registry() -> (Arc<Registry>, Arc<Raises>, Signal) {
        let raises = Arc::new(Raises::default());
        (Arc::default(), raises.clone(), Signal::elsewhere(raises, 0))
    }

    #[test]
    fn only_who_asked_for_a_unit_hears_of_it() {
        let (registry, raises, signal) = registry();
        let a = registry.subscribe("a.service", &signal);
        let also_a = registry.subscribe("a.service", &signal);
        let _b = registry.subscribe("b.service", &signal);
        let count = || raises.0.swap(0, Ordering::SeqCst);
        registry.raise(&unit::path("a.service"));
        assert_eq!(count(), 2);
        registry.raise_all();
        assert_eq!(count(), 3);
        drop(a);
        registry.raise(&unit::path("a.service"));
        assert_eq!(count(), 1);
        drop(also_a);
        registry.raise(&unit::path("a.service"));
        assert_eq!(count(), 0);
        assert_eq!(registry.lock().by_path.len(), 1);
    }

    #[test]
    fn an_alias_hears_of_the_unit_behind_it() {
        let (registry, raises, signal) = registry();
        let guard = registry.subscribe("alias.service", &signal);
        assert!(!registry.known_as("alias.service", "alias.service"));
        assert!(registry.known_as("alias.service", "own.service"));
        assert!(!registry.known_as("alias.service", "own.service"));
        registry.raise(&unit::path("own.service"));
        assert_eq!(raises.0.load(Ordering::SeqCst), 1);
        drop(guard);
        assert!(registry.lock().by_path.is_empty());
    }

    #[test]
    fn a_job_that_ends_before_its_caller_knows_it_is_heard() {
        let (registry, _, _) = registry();
        let call = registry.call();
        registry.ended("/job/1", "done");
        assert_eq!(call.made("/job/1").try_recv().unwrap(), "done");
        let mut later = call.made("/job/2");
        assert!(later.try_recv().is_err());
        drop(call);
        assert!(registry.lock().early.is_empty());
        registry.ended("/job/2", "failed");
        assert_eq!(later.try_recv().unwrap(), "failed");
        let mut lost = registry.wait("/job/3");
        registry.interrupted();
        assert!(matches!(lost.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert!(registry.lock().waiting.is_empty());
    }
}
