//! Edits of the graph file: says when it may have changed, once they have settled.

use std::path::Path;
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
    /// Ends the watch.
    _watch: Option<Guard>,
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
        Self { seen: Arc::default(), _watch: None }
    }

    /// Watches a file. If that cannot be done it is said, and there will be none.
    pub(super) fn of(host: &Host, path: &Path) -> Self {
        let seen = Arc::new(Seen::default());
        let sink: Arc<dyn Sink> = Arc::<Seen>::clone(&seen);
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let watch = match host.watches.path(&absolute, &Signal::elsewhere(sink, 0)) {
            Ok(guard) => Some(guard),
            Err(fault) => {
                tracing::warn!("the graph file is not watched: {fault}; use HUP after an edit");
                None
            }
        };
        Self { seen, _watch: watch }
    }

    /// Waits for the next edit. Cancel safe.
    pub(super) async fn next(&self) {
        self.seen.notify.notified().await;
    }

    /// Waits until no event has come for a moment.
    pub(super) async fn settled(&self) {
        for _ in 0..SETTLE_ROUNDS_MAX {
            if !self.seen.again.swap(false, Ordering::AcqRel) {
                break;
            }
            tokio::time::sleep(SETTLE).await;
        }
    }
}
