//! What happened to resources, for those who ask later or follow along.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use mgmt_engine::report::{Report, What};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// Events that are remembered.
const KEPT_MAX: usize = 4096;
/// Events that a follower may be behind before it is told that it missed some.
const BEHIND_MAX: usize = 1024;

/// One event, as it is shown and sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Happened {
    /// When, RFC 3339 in UTC with milliseconds.
    pub time: String,
    /// To whom, `kind[name]`.
    pub resource: String,
    /// What: `changed`, `refreshed`, `would-change`, `failed`, `retrying`, `recovered`, `contested`, `settled`.
    pub event: String,
    /// Why it was looked at.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<String>,
    /// What was wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub drift: Option<String>,
    /// What was done, or went wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub text: Option<String>,
    /// From the event that told of it to the end of the repair, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since_event_ms: Option<f64>,
    /// How long the repair took, in milliseconds; or after how long it is tried again.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub took_ms: Option<f64>,
}

impl Happened {
    /// The event of a report.
    pub fn of(report: &Report, time: SystemTime) -> Self {
        let mut event = Self {
            time: rfc3339(time),
            resource: report.id.to_string(),
            event: String::new(),
            cause: None,
            drift: None,
            text: None,
            since_event_ms: None,
            took_ms: None,
        };
        let word = match &report.what {
            What::Changed { cause, drift, deed, since_event, took } => {
                event.cause = Some(cause.to_string());
                event.drift = Some(drift.clone());
                event.text = Some(deed.clone());
                event.since_event_ms = since_event.map(millis);
                event.took_ms = Some(millis(*took));
                "changed"
            }
            What::Refreshed { deed } => {
                event.text = Some(deed.clone());
                "refreshed"
            }
            What::WouldChange { cause, drift } => {
                event.cause = Some(cause.to_string());
                event.drift = Some(drift.clone());
                "would-change"
            }
            What::Failed { fault, again } => {
                event.text = Some(fault.clone());
                event.took_ms = again.map(millis);
                if again.is_some() { "retrying" } else { "failed" }
            }
            What::Recovered => "recovered",
            What::Contested => "contested",
            What::Settled => "settled",
        };
        word.clone_into(&mut event.event);
        event
    }
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.as_deref().unwrap_or_default();
        write!(f, "{}: ", self.resource)?;
        match self.event.as_str() {
            "changed" => {
                write!(f, "{}: {text}", self.drift.as_deref().unwrap_or_default())?;
                write!(f, " ({}", self.cause.as_deref().unwrap_or_default())?;
                match (self.since_event_ms, self.took_ms) {
                    (Some(since), _) if self.cause.as_deref() == Some("drift") => write!(f, ", {since:.1} ms after the event)"),
                    (_, Some(took)) => write!(f, ", took {took:.1} ms)"),
                    _ => f.write_str(")"),
                }
            }
            "refreshed" => write!(f, "refreshed: {text}"),
            "would-change" => write!(
                f,
                "would change: {} ({})",
                self.drift.as_deref().unwrap_or_default(),
                self.cause.as_deref().unwrap_or_default()
            ),
            "failed" => write!(f, "failed: {text}"),
            "retrying" => write!(f, "failed: {text}; again in {:.0} ms", self.took_ms.unwrap_or_default()),
            "recovered" => f.write_str("as wanted again"),
            "contested" => f.write_str(
                "contested: repaired more than 20 times within 10 s; something else keeps changing it, so repairs back off",
            ),
            "settled" => f.write_str("contested no more: nobody touched it for a minute"),
            other => f.write_str(other),
        }
    }
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// RFC 3339 in UTC with milliseconds.
pub fn rfc3339(time: SystemTime) -> String {
    // A clock before 1970 or after 9999 is not worth a failure of its own.
    jiff::Timestamp::try_from(time).map_or_else(|_| "?".to_owned(), |at| format!("{at:.3}"))
}

/// The last events, and a way to follow.
#[derive(Debug)]
pub struct Events {
    kept: Mutex<VecDeque<Happened>>,
    followers: broadcast::Sender<Happened>,
}

impl Events {
    /// None yet.
    pub fn new() -> Self {
        Self { kept: Mutex::default(), followers: broadcast::Sender::new(BEHIND_MAX) }
    }

    /// One more.
    pub fn push(&self, event: Happened) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(event.clone());
        // Under the lock, so that a follower who starts now sees each event once. Nobody may follow: that is no error.
        drop(self.followers.send(event));
    }

    /// The last `most`, and all that come from now on.
    pub fn follow(&self, most: usize) -> (Vec<Happened>, broadcast::Receiver<Happened>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let past = kept.iter().skip(kept.len().saturating_sub(most)).cloned().collect();
        (past, self.followers.subscribe())
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_milliseconds() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_784_894_400_123_456);
        assert_eq!(rfc3339(time), "2026-07-24T12:00:00.123Z");
    }

    #[test]
    fn a_follower_sees_each_event_once() {
        let events = Events::new();
        let event = |n: usize| {
            Happened::of(
                &Report {
                    id: mgmt_engine::Id::new("noop", &n.to_string()),
                    at: mgmt_engine::Moment::START,
                    what: What::Recovered,
                },
                SystemTime::UNIX_EPOCH,
            )
        };
        (0..KEPT_MAX + 10).for_each(|n| events.push(event(n)));
        let (past, mut future) = events.follow(3);
        assert_eq!(
            past.iter().map(|e| e.resource.as_str()).collect::<Vec<_>>(),
            ["noop[4103]", "noop[4104]", "noop[4105]"]
        );
        events.push(event(7));
        assert_eq!(future.try_recv().unwrap().resource, "noop[7]");
        assert!(future.try_recv().is_err());
        assert_eq!(events.follow(usize::MAX).0.len(), KEPT_MAX);
    }
}
