//! Takes what the engine tells, and lets the log, the events, the summary and the status file have it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mgmt_engine::Clock;
use mgmt_engine::report::{Report, What};
use mgmt_engine::runner::Observer;

use crate::diagnostic::Escaped;
use crate::events::{Events, Happened};
use crate::exchange::Account;

/// Counts over the whole run.
#[derive(Debug, Default)]
pub struct Tally {
    changes: AtomicU64,
    would_change: AtomicU64,
    failures: AtomicU64,
}

impl Tally {
    /// Repairs and refreshes.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Changes that were not allowed.
    pub fn would_change(&self) -> u64 {
        self.would_change.load(Ordering::Relaxed)
    }

    /// Failures, retried ones included.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

/// Who else wants to hear of each event.
pub type Listener = Box<dyn Fn(&Happened) + Send + Sync>;

/// The engine's observer.
pub struct Teller {
    /// The last events.
    pub events: Arc<Events>,
    /// Counts.
    pub tally: Arc<Tally>,
    /// A file that gets `true` or `false` appended.
    pub status_file: Option<PathBuf>,
    /// Prints for `apply`; otherwise events go to the log.
    pub listener: Option<Listener>,
    /// Knows which vertices other hosts brought.
    pub account: Arc<Account>,
}

impl Observer for Teller {
    fn report(&self, report: &Report) {
        match &report.what {
            What::Changed { .. } | What::Refreshed { .. } => &self.tally.changes,
            What::WouldChange { .. } => &self.tally.would_change,
            What::Failed { .. } => &self.tally.failures,
            What::Recovered | What::Contested | What::Settled => {
                self.tell(report);
                return;
            }
        }
        .fetch_add(1, Ordering::Relaxed);
        self.tell(report);
    }

    fn converged(&self, converged: bool) {
        if let Some(path) = &self.status_file {
            append_status(path, converged);
        }
    }
}

/// Appends to a `--converged-status-file`.
pub fn append_status(path: &Path, converged: bool) {
    let written = OpenOptions::new().append(true).create(true).open(path).and_then(|mut f| writeln!(f, "{converged}"));
    if let Err(error) = written {
        tracing::warn!("cannot append to {}: {error}", path.display());
    }
}

impl Teller {
    fn tell(&self, report: &Report) {
        let mut event = Happened::of(report, Clock::wall());
        // That a graph is new says nothing of why it is: somebody exports this.
        if matches!(event.cause.as_deref(), Some("first" | "reload"))
            && let Some(host) = self.account.origin(&report.id)
        {
            event.cause = Some(format!("collected from {host}"));
        }
        match &self.listener {
            Some(listen) => listen(&event),
            None => log(&event),
        }
        self.events.push(event);
    }
}

/// One log line an event. The fields are for JSON logs; the text says it all.
fn log(event: &Happened) {
    let text = event.to_string();
    let text = Escaped(&text);
    match event.event.as_str() {
        "failed" => tracing::error!("{text}"),
        "retrying" | "contested" => tracing::warn!("{text}"),
        _ => tracing::info!("{text}"),
    }
}
