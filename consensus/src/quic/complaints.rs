//! What is refused is said once a minute for each kind, with a count: whoever floods must not fill the log.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Once said, a kind is quiet for so long.
const QUIET: Duration = Duration::from_secs(60);

/// What is complained about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// More handshakes than may be under way.
    Flood,
    /// More handshakes than one host may begin.
    Source,
    /// A handshake that failed: a wrong certificate, most often.
    Handshake,
    /// A member without a certificate, or one that is not let in.
    Refused,
    /// Frames or streams against the rules.
    Misbehaved,
    /// More visitors than may be, or one that was too slow or said too much.
    Visit,
    /// Messages that nobody accepts.
    Inbox,
    /// Answers that are not read.
    Answers,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flood => "too many handshakes at once",
            Self::Source => "too many handshakes from one address",
            Self::Handshake => "a handshake failed",
            Self::Refused => "a peer was not let in",
            Self::Misbehaved => "a peer does not keep to the rules",
            Self::Visit => "a visitor was sent away",
            Self::Inbox => "messages were lost: nobody accepts them",
            Self::Answers => "answers were lost: their receiver does not read them",
        })
    }
}

/// How often since it was last said.
#[derive(Debug, Default)]
struct Tally {
    said: Option<Instant>,
    since: u64,
}

impl Tally {
    /// One more. If it is time to say so: how many there were since the last time.
    fn note(&mut self, now: Instant) -> Option<u64> {
        self.since += 1;
        if self.said.is_some_and(|said| now.duration_since(said) < QUIET) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<BTreeMap<Kind, Tally>>);

impl Complaints {
    pub(super) fn note(&self, kind: Kind, from: SocketAddr, why: &dyn fmt::Display) {
        let count = self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default().note(Instant::now());
        match count {
            Some(count) => tracing::warn!(%from, count, "{kind}: {why}"),
            None => tracing::trace!(%from, "{kind}: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_minute_with_a_count() {
        let start = Instant::now();
        let mut tally = Tally::default();
        assert_eq!(tally.note(start), Some(1), "the first is said at once");
        for second in 1..60 {
            assert_eq!(tally.note(start + Duration::from_secs(second)), None);
        }
        assert_eq!(tally.note(start + QUIET), Some(60), "59 that were not said, and this one");
        assert_eq!(tally.note(start + QUIET), None);
    }
}
