//! One subscription for all who watch packages: raises those whose own package has become another, and nobody else.
//!
//! dpkg rewrites one file for every change of any package. If each such event made all resources look again, those that
//! have failed would try again at every change, of which their own last try was one. So events are taken here, compared
//! with what was seen last, and passed on by name. While a transaction of our own runs, nothing is compared: its members
//! are judged at its end, and what was judged counts as seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mgmt_engine::resource::{Fault, Signal, Sink, Ticket};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::catalog::Catalog;
use super::queue::Queue;
use super::{Found, Offers, Provider, Watched};
use crate::watches::{self, Watches};

/// Who watches the packages of one provider.
#[derive(Debug)]
pub(super) struct Hub {
    provider: Provider,
    catalog: Arc<Catalog>,
    queue: Arc<Queue>,
    watchers: Mutex<Watchers>,
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
struct Watchers {
    next: u64,
    by_number: BTreeMap<u64, Watcher>,
    seen: BTreeMap<String, Seen>,
    /// What raises the bell while anybody watches; the second is for those who want to know what can be had.
    guards: [Vec<watches::Guard>; 2],
    task: Option<AbortHandle>,
}

#[derive(Debug)]
struct Watcher {
    name: String,
    interest: Interest,
    signal: Signal,
}

/// What a watcher wants to know of what can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    /// Nothing.
    None,
    /// Whether there is any, as long as none stands.
    Presence,
    /// Whether there is a newer one.
    Newest,
}

/// What was seen of a package.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Seen {
    pub(super) found: Found,
    /// The newest version there was, if anybody wanted to know.
    pub(super) newest: Option<String>,
}

/// Rings when anything has changed.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Notify,
    rings: AtomicU64,
}

impl Bell {
    pub(super) fn ring(&self) {
        self.rings.fetch_add(1, Ordering::SeqCst);
        self.rung.notify_one();
    }

    /// What was learned before the last of so many rings is old.
    pub(super) fn rings(&self) -> u64 {
        self.rings.load(Ordering::SeqCst)
    }
}

impl Sink for Bell {
    fn raised(&self, _: &[Ticket]) {
        self.ring();
    }
    fn ticked(&self, _: Ticket) {}
}

/// One who watches. Dropping it ends that.
#[derive(Debug)]
pub(super) struct Guard {
    hub: Arc<Hub>,
    number: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut watchers = self.hub.watchers();
        let gone = watchers.by_number.remove(&self.number);
        let name = gone.as_ref().map(|gone| gone.name.as_str());
        if let Some(name) = name.filter(|name| watchers.by_number.values().all(|other| other.name != *name)) {
            watchers.seen.remove(name);
        }
        if !watchers.by_number.is_empty() {
            return;
        }
        if let Some(task) = watchers.task.take() {
            task.abort();
        }
        let guards = std::mem::take(&mut watchers.guards);
        drop(watchers);
        // Each may be the last of its watch: not under the lock.
        drop(guards);
    }
}

impl Hub {
    pub(super) fn new(provider: Provider, catalog: Arc<Catalog>, queue: Arc<Queue>, bell: Arc<Bell>) -> Self {
        Self { provider, catalog, queue, watchers: Mutex::default(), bell }
    }

    fn watchers(&self) -> MutexGuard<'_, Watchers> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises the signal whenever this package may have become another. Armed when it returns.
    pub(super) fn watch(
        self: &Arc<Self>,
        watches: &Watches,
        name: &str,
        interest: Interest,
        signal: &Signal,
    ) -> Result<Guard, Fault> {
        let mut watchers = self.watchers();
        for (level, wanted) in [true, interest != Interest::None].into_iter().enumerate() {
            if wanted && watchers.guards[level].is_empty() {
                watchers.guards[level] = self.subscribe(watches, level == 1)?;
            }
        }
        if watchers.task.as_ref().is_none_or(AbortHandle::is_finished) {
            let (hub, bell) = (Arc::downgrade(self), Arc::clone(&self.bell));
            let follow = self.catalog.follow();
            let listen = async move {
                loop {
                    bell.rung.notified().await;
                    let Some(hub) = hub.upgrade() else { return };
                    hub.compare().await;
                }
            };
            watchers.task = Some(tokio::spawn(async { tokio::join!(follow, listen) }).abort_handle());
        }
        let number = watchers.next;
        watchers.next += 1;
        watchers.by_number.insert(number, Watcher { name: name.to_owned(), interest, signal: signal.clone() });
        Ok(Guard { hub: Arc::clone(self), number })
    }

    fn subscribe(&self, watches: &Watches, newest: bool) -> Result<Vec<watches::Guard>, Fault> {
        let bell = Signal::elsewhere(Arc::clone(&self.bell) as Arc<dyn Sink>, 0);
        let watched = self.catalog.watched(newest);
        let one = |watched: &Watched| match watched {
            Watched::Path(path) => watches.path(path, &bell),
            Watched::Tree(path) => watches.tree(path, &bell),
        };
        watched.iter().map(one).collect()
    }

    /// What a transaction has judged is not news to its members.
    pub(super) fn judged(&self, seen: impl IntoIterator<Item = (String, Seen)>) {
        let mut watchers = self.watchers();
        let mut signals = Vec::new();
        for (name, now) in seen {
            let of_it = || watchers.by_number.values().filter(|watcher| watcher.name == name);
            // Of several who want something of one package, only one has taken part.
            if of_it().nth(1).is_some() {
                signals.extend(of_it().map(|watcher| watcher.signal.clone()));
            }
            let before = watchers.seen.entry(name).or_default();
            let newest = now.newest.or_else(|| before.newest.take());
            *before = Seen { found: now.found, newest };
        }
        drop(watchers);
        Signal::raise_all(&signals);
    }

    /// Those of whom somebody wants to know what can be had.
    fn curious(&self, found: &BTreeMap<String, Found>) -> BTreeSet<String> {
        let watchers = self.watchers();
        let missing = |name: &str| found.get(name).is_none_or(|found| found.version.is_none());
        let curious = watchers.by_number.values().filter(|watcher| match watcher.interest {
            Interest::None => false,
            Interest::Presence => missing(&watcher.name),
            Interest::Newest => true,
        });
        curious.map(|watcher| watcher.name.clone()).collect()
    }

    /// Looks at all that is watched, and raises those who see something else than before.
    async fn compare(&self) {
        while let Some(transaction) = self.queue.transaction() {
            self.queue.ended(Some(transaction)).await;
        }
        let names: Vec<_> = {
            let watchers = self.watchers();
            watchers.by_number.values().map(|watcher| watcher.name.clone()).collect::<BTreeSet<_>>()
        }
        .into_iter()
        .collect();
        let found = self.catalog.found(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let curious = found.as_ref().map(|found| self.curious(found)).unwrap_or_default();
        let offers = match curious.is_empty() {
            true => Ok(Offers::new()),
            false => self.catalog.offers(&curious.iter().map(String::as_str).collect::<Vec<_>>()).await,
        };
        let (Ok(mut found), Ok(offers)) = (found, offers) else {
            // Whoever looks for itself says what is wrong.
            let all: Vec<_> = self.watchers().by_number.values().map(|watcher| watcher.signal.clone()).collect();
            Signal::raise_all(&all);
            return;
        };
        let mut watchers = self.watchers();
        let mut changed = BTreeSet::new();
        for name in names {
            let now = found.remove(&name).unwrap_or_default();
            let before = watchers.seen.get(&name);
            let kept = before.and_then(|before| before.newest.clone());
            let newest = match curious.contains(&name) {
                true => offers.get(&name).and_then(|offer| offer.newest.clone()),
                false => kept,
            };
            let now = Seen { found: now, newest };
            if before != Some(&now) {
                watchers.seen.insert(name.clone(), now);
                changed.insert(name);
            }
        }
        let of_them = watchers.by_number.values().filter(|watcher| changed.contains(&watcher.name));
        let signals: Vec<_> = of_them.map(|watcher| watcher.signal.clone()).collect();
        drop(watchers);
        tracing::debug!(provider = %self.provider, packages = changed.len(), "packages have changed");
        Signal::raise_all(&signals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::transaction::tests::Scripted;
    use std::time::Duration;
    use tokio::time::timeout;

    /// Who was raised, by number.
    #[derive(Debug, Default)]
    struct Raised(Mutex<Vec<Ticket>>, Notify);

    impl Sink for Raised {
        fn raised(&self, tickets: &[Ticket]) {
            self.0.lock().unwrap().extend(tickets);
            self.1.notify_one();
        }
        fn ticked(&self, _: Ticket) {}
    }

    #[tokio::test]
    async fn only_those_whose_package_has_changed_are_raised() {
        let catalog = Arc::new(Catalog::Scripted(Scripted::default()));
        let Catalog::Scripted(script) = &*catalog else { unreachable!() };
        let bell = Arc::<Bell>::default();
        let queue = Arc::<Queue>::default();
        let hub = Arc::new(Hub::new(Provider::Apt, Arc::clone(&catalog), queue, Arc::clone(&bell)));
        let raised = Arc::<Raised>::default();
        let signal = |number| Signal::elsewhere(Arc::clone(&raised) as Arc<dyn Sink>, number);
        let watch = |name: &str, number| hub.watch(&Watches::shared(), name, Interest::None, &signal(number)).unwrap();
        let guards = [watch("a", 1), watch("b", 2)];
        let told = async |most: Duration| {
            timeout(most, raised.1.notified()).await.ok();
            std::mem::take(&mut *raised.0.lock().unwrap()).len()
        };
        let (soon, never) = (Duration::from_secs(10), Duration::from_millis(50));
        bell.ring();
        assert_eq!(told(soon).await, 2, "nothing had been seen of either");
        script.put("a", "1");
        bell.ring();
        assert_eq!(told(soon).await, 1);
        bell.ring();
        assert_eq!(told(never).await, 0, "nothing is new");
        script.put("b", "1");
        let found = Found { version: Some("1".to_owned()), ..Found::default() };
        hub.judged([("b".to_owned(), Seen { found, newest: None })]);
        bell.ring();
        assert_eq!(told(never).await, 0, "it has been judged already");
        drop(guards);
        assert!(hub.watchers().task.is_none() && hub.watchers().seen.is_empty());
    }
}
