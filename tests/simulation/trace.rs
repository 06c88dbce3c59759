//! What happened, a line an event, and one number for all of it: the same seed gives the same number, or something is
//! left to chance that must not be.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use openraft::async_runtime::Instant as _;
use openraft_rt_sim::SimInstant;

use crate::oracle::history::Nanos;

/// Lines that are kept to be shown with a failure.
const LINES_KEPT: usize = 120;

/// The record of one run. Shared by all that happens in it.
#[derive(Clone)]
pub(crate) struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    begun: SimInstant,
    hash: u64,
    events: u64,
    last: VecDeque<String>,
    /// Say every line at once.
    aloud: bool,
}

impl Trace {
    /// Begins, within the runtime.
    pub(crate) fn begin(aloud: bool) -> Self {
        let begun = SimInstant::now();
        Self(Arc::new(Mutex::new(Inner { begun, hash: SUM_BEGIN, events: 0, last: VecDeque::new(), aloud })))
    }

    /// Virtual time since the beginning.
    pub(crate) fn now(&self) -> Nanos {
        let begun = self.inner().begun;
        Nanos::try_from((SimInstant::now() - begun).as_nanos()).expect("no run lasts for centuries")
    }

    /// Something happened, on a host or to all of them.
    #[allow(clippy::print_stderr, reason = "asked for")]
    pub(crate) fn line(&self, host: Option<usize>, what: impl fmt::Display) {
        let now = self.now();
        let host = host.map_or_else(|| "    ".to_owned(), |host| format!("h{host:<3}"));
        let line = format!("{:>11.6} {host} {what}", now as f64 / 1e9);
        let mut inner = self.inner();
        inner.hash = sum(inner.hash, line.as_bytes());
        inner.events += 1;
        if inner.aloud {
            eprintln!("{line}");
        }
        if inner.last.len() == LINES_KEPT {
            inner.last.pop_front();
        }
        inner.last.push_back(line);
    }

    /// The number for all of it, and of how many lines.
    pub(crate) fn sum(&self) -> (u64, u64) {
        let inner = self.inner();
        (inner.hash, inner.events)
    }

    /// The last lines.
    pub(crate) fn last(&self) -> Vec<String> {
        self.inner().last.iter().cloned().collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("held for a moment only")
    }
}

const SUM_BEGIN: u64 = 0xcbf2_9ce4_8422_2325;

fn sum(before: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(before, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// FNV-1a: a number for bytes. For finding differences, not for hiding them.
pub(crate) fn sum_of(bytes: &[u8]) -> u64 {
    sum(SUM_BEGIN, bytes)
}
