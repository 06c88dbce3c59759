//! Where a run takes place: the hosts, who reaches whom, and whether it is over. Shared by all that act on it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mgmt_store::Shared;
use openraft::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;

use crate::book::Book;
use crate::host::{Host, Part, Site};
use crate::hosted::Life;
use crate::oracle::history::{Index, Nanos};
use crate::swarm::Plan;

/// The place.
#[derive(Clone)]
pub(crate) struct Stage(Arc<Inner>);

struct Inner {
    site: Arc<Site>,
    plan: Plan,
    hosts: Mutex<Vec<Host>>,
    over: AtomicBool,
    /// Clients and watchers that are not done.
    clients: AtomicU64,
    watchers: AtomicU64,
    /// What watchers must have seen before they may go; 0: not known yet.
    until: AtomicU64,
}

/// A running host that may be asked.
pub(crate) struct Asked {
    pub(crate) life: Life,
    pub(crate) part: Part,
    pub(crate) shared: Arc<Shared>,
}

impl Stage {
    pub(crate) fn new(site: Arc<Site>, plan: Plan, hosts: Vec<Host>) -> Self {
        let hosts = Mutex::new(hosts);
        Self(Arc::new(Inner {
            site,
            plan,
            hosts,
            over: AtomicBool::new(false),
            clients: AtomicU64::new(0),
            watchers: AtomicU64::new(0),
            until: AtomicU64::new(0),
        }))
    }

    pub(crate) fn site(&self) -> &Arc<Site> {
        &self.0.site
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.0.plan
    }

    pub(crate) fn book(&self) -> &Book {
        &self.0.site.book
    }

    pub(crate) fn now(&self) -> Nanos {
        self.book().trace().now()
    }

    /// All hosts there have been.
    pub(crate) fn all(&self) -> MutexGuard<'_, Vec<Host>> {
        self.0.hosts.lock().expect("held for a moment only")
    }

    /// How many hosts there have been.
    pub(crate) fn hosts(&self) -> usize {
        self.all().len()
    }

    /// A host that runs (it may be stopped) and has a part in the group.
    pub(crate) fn ask(&self, host: usize) -> Option<Asked> {
        let hosts = self.all();
        let host = &hosts[host];
        Some(Asked { life: host.life.clone()?, part: host.replica()?, shared: host.shared()? })
    }

    /// The workload ends.
    pub(crate) fn end(&self) {
        self.0.over.store(true, Ordering::Relaxed);
    }

    /// Does the workload end, or is a promise broken?
    pub(crate) fn is_over(&self) -> bool {
        self.0.over.load(Ordering::Relaxed) || self.is_closed()
    }

    /// Is a promise broken? Then nothing matters any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.book().broken().is_some()
    }

    /// A client begins, or is done.
    pub(crate) fn client(&self, begins: bool) {
        count(&self.0.clients, begins);
    }

    /// A watcher begins, or is done.
    pub(crate) fn watcher(&self, begins: bool) {
        count(&self.0.watchers, begins);
    }

    /// No client waits for an answer any more.
    pub(crate) fn idle(&self) -> bool {
        self.0.clients.load(Ordering::Relaxed) == 0
    }

    /// All watchers have seen everything.
    pub(crate) fn all_watched(&self) -> bool {
        self.0.watchers.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn set_until(&self, index: Index) {
        self.0.until.store(index, Ordering::Relaxed);
    }

    pub(crate) fn until(&self) -> Option<Index> {
        Some(self.0.until.load(Ordering::Relaxed)).filter(|until| *until > 0)
    }

    /// Waits for a condition, looking now and then, at most so long. Whether it came true.
    pub(crate) async fn wait(&self, most: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let until = self.now() + u64::try_from(most.as_nanos()).expect("short");
        while !self.is_closed() {
            if done(self) {
                return true;
            }
            if self.now() >= until {
                return false;
            }
            SimRuntime::sleep(Duration::from_millis(50)).await;
        }
        false
    }
}

fn count(counter: &AtomicU64, begins: bool) {
    if begins {
        counter.fetch_add(1, Ordering::Relaxed)
    } else {
        counter.fetch_sub(1, Ordering::Relaxed)
    };
}

/// Who reaches whom, and since when not.
#[derive(Debug, Default)]
pub(crate) struct Cuts(BTreeMap<(usize, usize), Nanos>);

impl Cuts {
    /// These ways are cut now, from the first to the second of each pair, and no others.
    pub(crate) fn set(&mut self, now: Nanos, cuts: &[(usize, usize)]) {
        let before = std::mem::take(&mut self.0);
        self.0 = cuts.iter().map(|pair| (*pair, before.get(pair).copied().unwrap_or(now))).collect();
    }

    /// Since when the two do not understand each other, if so.
    pub(crate) fn since(&self, one: usize, other: usize) -> Option<Nanos> {
        self.0.get(&(one, other)).into_iter().chain(self.0.get(&(other, one))).min().copied()
    }
}
