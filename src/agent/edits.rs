//! Edits of the graph file: says when it may have changed, once they have settled.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mgmt_engine::resource::{Signal, Sink, Ticket};
use mgmt_resources::Host;
use mgmt_resources::watches::Guard;
use tokio::sync::Notify;

/// An edit is read this long after its last event: editors write in several steps.
const SETTLE: Duration = Duration::from_millis(50);
/// One that goes on and on is read all the same, after so many of these.
const SETTLE_ROUNDS_MAX: usize = 10;

/// The edits of one file.
pub(super) struct Edits {
    seen: Arc<Seen>,
    file: Option<PathBuf>,
    /// Ends the watch of the file's own name.
    _watch: Option<Guard>,
    /// The same for the file that a symbolic link of that name leads to.
    behind: Option<(PathBuf, Guard)>,
}

#[derive(Debug, Default)]
struct Seen {
    notify: Notify,
    again: AtomicBool,
}

impl Sink for Seen {
    fn raised(&self, _: &[Ticket]) {
        self.again.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    fn ticked(&self, _: Ticket) {}
}

impl Edits {
    /// There will be none.
    pub(super) fn none() -> Self {
        Self { seen: Arc::default(), file: None, _watch: None, behind: None }
    }

    /// Watches a file. If that cannot be done it is said, and there will be none.
    pub(super) fn of(host: &Host, path: &Path) -> Self {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut edits = Self::none();
        edits._watch = edits.watch(host, &absolute);
        edits.file = Some(absolute);
        edits.follow(host);
        edits
    }

    /// Watches the file that the name leads to now. Call it again after each edit, which may have changed the link.
    pub(super) fn follow(&mut self, host: &Host) {
        let Some(file) = &self.file else { return };
        // Where nothing stands there is nothing to follow; the name itself is watched.
        let behind = std::fs::canonicalize(file).ok().filter(|behind| behind != file);
        if behind.as_ref() != self.behind.as_ref().map(|(path, _)| path) {
            self.behind = behind.and_then(|path| Some((path.clone(), self.watch(host, &path)?)));
        }
    }

    fn watch(&self, host: &Host, path: &Path) -> Option<Guard> {
        let sink: Arc<dyn Sink> = Arc::<Seen>::clone(&self.seen);
        match host.watches.path(path, &Signal::elsewhere(sink, 0)) {
            Ok(guard) => Some(guard),
            Err(fault) => {
                tracing::warn!("the graph file is not watched: {fault}; use HUP after an edit");
                None
            }
        }
    }

    /// Waits for the next edit. Cancel safe.
    pub(super) async fn next(&self) {
        self.seen.notify.notified().await;
    }

    /// Waits until no event has come for a moment.
    pub(super) async fn settled(&self) {
        self.seen.settled().await;
    }
}

impl Seen {
    async fn settled(&self) {
        for _ in 0..SETTLE_ROUNDS_MAX {
            if !self.again.swap(false, Ordering::AcqRel) {
                break;
            }
            tokio::time::sleep(SETTLE).await;
        }
    }
}

/// The files whose contents this host exports: they are published anew when they change.
#[derive(Default)]
pub(super) struct Sources {
    seen: Arc<Seen>,
    paths: BTreeSet<PathBuf>,
    watches: Vec<Guard>,
}

impl Sources {
    /// Watches these from now on, and no others.
    pub(super) fn follow(&mut self, host: &Host, paths: BTreeSet<PathBuf>) {
        if paths == self.paths {
            return;
        }
        self.watches.clear();
        for path in &paths {
            let sink: Arc<dyn Sink> = Arc::<Seen>::clone(&self.seen);
            match host.watches.path(path, &Signal::elsewhere(sink, 0)) {
                Ok(guard) => self.watches.push(guard),
                Err(fault) => tracing::warn!("an exported source is not watched: {fault}; use HUP after an edit"),
            }
        }
        self.paths = paths;
    }

    /// Waits until what is there may be published: at once where every file is there and not empty. Of one that is being
    /// made anew, others are to see the end. What changes again and again is merged on its way.
    pub(super) async fn settled(&self) {
        let whole = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|file| file.len() > 0);
        if !self.paths.iter().all(whole) {
            self.seen.settled().await;
        }
    }

    /// Waits for the next change. Cancel safe.
    pub(super) async fn next(&self) {
        self.seen.notify.notified().await;
    }
}
