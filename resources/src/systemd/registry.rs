//! Who wants to hear of which unit, and who waits for which job. Pure bookkeeping behind one lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mgmt_engine::resource::Signal;
use tokio::sync::oneshot;

use super::unit::{self, Digest};

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
    /// As the subscriber has last seen it: a signal that tells the same is no news.
    seen: Option<Digest>,
    /// The subscriber is at work on the unit itself, and will look when it has done.
    mutes: usize,
    /// What a signal told last while it was muted.
    missed: Option<Digest>,
}

/// Names a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscriber(u64);

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

impl Guard {
    /// Its name.
    #[must_use]
    pub fn subscriber(&self) -> Subscriber {
        Subscriber(self.number)
    }
}

/// While one of these lives, what happens to the unit raises nothing by itself. Where the last look before its end does
/// not show what happened last, the signal is raised then.
#[derive(Debug)]
pub struct Mute {
    registry: Arc<Registry>,
    subscriber: Subscriber,
}

impl Drop for Mute {
    fn drop(&mut self) {
        let news = {
            let mut inner = self.registry.lock();
            let Some(subscription) = inner.subscriptions.get_mut(&self.subscriber.0) else { return };
            subscription.mutes -= 1;
            let missed = if subscription.mutes == 0 { subscription.missed.take() } else { None };
            (missed.is_some() && missed != subscription.seen).then(|| subscription.signal.clone())
        };
        if let Some(signal) = news {
            signal.raise();
        }
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
        let (signal, paths) = (signal.clone(), BTreeSet::from([path]));
        inner.subscriptions.insert(number, Subscription { signal, paths, seen: None, mutes: 0, missed: None });
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

    /// A subscriber has seen the unit like this.
    pub(super) fn saw(&self, subscriber: Subscriber, seen: Digest) {
        if let Some(subscription) = self.lock().subscriptions.get_mut(&subscriber.0) {
            subscription.seen = Some(seen);
        }
    }

    /// A subscriber begins to work on the unit itself.
    pub(super) fn mute(self: &Arc<Self>, subscriber: Subscriber) -> Mute {
        if let Some(subscription) = self.lock().subscriptions.get_mut(&subscriber.0) {
            subscription.mutes += 1;
        }
        Mute { registry: Arc::clone(self), subscriber }
    }

    /// The unit at this path is like this now; `None`: somehow.
    pub(super) fn changed(&self, path: &str, now: Option<&Digest>) {
        self.raise_those(path, |subscription| match now {
            Some(now) if subscription.mutes > 0 => {
                subscription.missed = Some(now.clone());
                false
            }
            Some(now) => subscription.seen.as_ref() != Some(now),
            None => true,
        });
    }

    /// A job of the unit at this path has ended: news for those who have seen it with that job.
    pub(super) fn without_job(&self, path: &str, job: u32) {
        self.raise_those(path, |subscription| {
            subscription.mutes == 0 && subscription.seen.as_ref().is_none_or(|seen| seen.job == Some(job))
        });
    }

    fn raise_those(&self, path: &str, mut concerns: impl FnMut(&mut Subscription) -> bool) {
        let signals: Vec<Signal> = {
            let inner = &mut *self.lock();
            let numbers = inner.by_path.get(path).into_iter().flatten();
            let mut signals = Vec::new();
            for number in numbers {
                if let Some(subscription) = inner.subscriptions.get_mut(number)
                    && concerns(subscription)
                {
                    signals.push(subscription.signal.clone());
                }
            }
            signals
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
        registry.changed(&unit::path("a.service"), None);
        assert_eq!(count(), 2);
        registry.raise_all();
        assert_eq!(count(), 3);
        drop(a);
        registry.changed(&unit::path("a.service"), None);
        assert_eq!(count(), 1);
        drop(also_a);
        registry.changed(&unit::path("a.service"), None);
        assert_eq!(count(), 0);
        assert_eq!(registry.lock().by_path.len(), 1);
    }

    #[test]
    fn what_was_seen_already_is_no_news() {
        let (registry, raises, signal) = registry();
        let guard = registry.subscribe("a.service", &signal);
        let count = || raises.0.swap(0, Ordering::SeqCst);
        let now = |invocation: &str, job| {
            let all = [("Id", "a.service"), ("ActiveState", "failed"), ("SubState", "failed"), ("LoadState", "loaded")];
            let all = all.map(|(key, value)| (key.to_owned(), value.into())).into();
            Digest::of(&unit::Unit {
                invocation: invocation.to_owned(),
                job,
                ..unit::Unit::of("a", &all, String::new())
            })
        };
        let path = unit::path("a.service");
        registry.saw(guard.subscriber(), now("1", None));
        registry.changed(&path, Some(&now("1", None)));
        registry.without_job(&path, 7);
        assert_eq!(count(), 0);
        registry.changed(&path, Some(&now("2", None)));
        assert_eq!(count(), 1);
        registry.saw(guard.subscriber(), now("2", Some(7)));
        registry.without_job(&path, 7);
        assert_eq!(count(), 1);

        // Whoever works on it itself is raised for what its own last look does not show.
        let mute = registry.mute(guard.subscriber());
        registry.changed(&path, Some(&now("3", None)));
        registry.saw(guard.subscriber(), now("3", None));
        drop(mute);
        assert_eq!(count(), 0);
        let mute = registry.mute(guard.subscriber());
        registry.saw(guard.subscriber(), now("3", None));
        registry.changed(&path, Some(&now("4", None)));
        assert_eq!(count(), 0);
        drop(mute);
        assert_eq!(count(), 1);
    }

    #[test]
    fn an_alias_hears_of_the_unit_behind_it() {
        let (registry, raises, signal) = registry();
        let guard = registry.subscribe("alias.service", &signal);
        assert!(!registry.known_as("alias.service", "alias.service"));
        assert!(registry.known_as("alias.service", "own.service"));
        assert!(!registry.known_as("alias.service", "own.service"));
        registry.changed(&unit::path("own.service"), None);
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
