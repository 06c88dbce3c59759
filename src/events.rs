//! What happened to resources, for those who ask later or follow along.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use mgmt_engine::report::{Report, What};
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

/// Events that are remembered.
const KEPT_MAX: usize = 4096;
/// Events that a follower may be behind before it is told that it missed some.
const BEHIND_MAX: usize = 1024;
/// Letters of the events of one page. In JSON each may become six bytes, and a page has to fit into an answer.
const PAGE_BYTES: usize = 64 << 10;
/// A text of an event on a page.
const TEXT_BYTES_MAX: usize = 8 << 10;
/// What an event takes on a page besides its texts.
const EVENT_BYTES: usize = 128;

/// One event, as it is shown and sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Happened {
    /// On which host; it is known from whoever tells it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host: Option<String>,
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
            host: None,
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

/// How far somebody has read what a host tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Which run of the program.
    pub run: u64,
    /// So many of its events.
    pub seen: u64,
}

/// Some events, in order, as another host is told of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// How far one has read with them.
    pub next: Position,
    /// How many are missing before the first: they are not remembered any more.
    #[serde(default)]
    pub missed: u64,
    /// Whether there are more already.
    #[serde(default)]
    pub more: bool,
    /// The events.
    pub events: Vec<Happened>,
}

/// The last events, and ways to follow.
#[derive(Debug)]
pub struct Events {
    kept: Mutex<Kept>,
    followers: broadcast::Sender<Happened>,
    /// How many there were, for those who wait for the next.
    latest: watch::Sender<u64>,
    /// Which run of the program this is: when it began, in microseconds since 1970.
    run: u64,
}

/// What is remembered.
#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Happened>,
    /// How many there ever were.
    total: u64,
}

impl Kept {
    /// How many are remembered no more.
    fn gone(&self) -> u64 {
        self.total - self.events.len() as u64
    }
}

impl Events {
    /// None yet.
    pub fn new() -> Self {
        let since = mgmt_engine::Clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            kept: Mutex::default(),
            followers: broadcast::Sender::new(BEHIND_MAX),
            latest: watch::Sender::new(0),
            run: u64::try_from(since.as_micros()).unwrap_or_default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more.
    pub fn push(&self, event: Happened) {
        let mut kept = self.kept();
        if kept.events.len() == KEPT_MAX {
            kept.events.pop_front();
        }
        kept.events.push_back(event.clone());
        kept.total += 1;
        // Under the lock, so that a follower who starts now sees each event once. Nobody may follow: that is no error.
        drop(self.followers.send(event));
        self.latest.send_replace(kept.total);
    }

    /// The last `most`, and all that come from now on.
    pub fn follow(&self, most: usize) -> (Vec<Happened>, broadcast::Receiver<Happened>) {
        let kept = self.kept();
        let past = kept.events.iter().skip(kept.events.len().saturating_sub(most)).cloned().collect();
        (past, self.followers.subscribe())
    }

    /// The events after a position, or the last `last`; as many as fit on a page.
    pub fn page(&self, after: Option<Position>, last: usize) -> Page {
        let kept = self.kept();
        let gone = kept.gone();
        let from = match after {
            Some(position) if position.run == self.run => position.seen.min(kept.total),
            // Of another run: it has seen nothing of this one.
            Some(_) => 0,
            None => kept.total.saturating_sub(last as u64).max(gone),
        };
        let first = from.max(gone);
        let next = Position { run: self.run, seen: first };
        let mut page = Page { next, missed: first - from, more: false, events: Vec::new() };
        let mut bytes = 0;
        for event in kept.events.iter().skip(usize::try_from(first - gone).unwrap_or(usize::MAX)) {
            page.more = bytes >= PAGE_BYTES;
            if page.more {
                break;
            }
            let event = event.clipped();
            bytes += event.bytes();
            page.next.seen += 1;
            page.events.push(event);
        }
        page
    }

    /// Waits until there is something after a position. Cancel safe.
    pub async fn beyond(&self, position: Position) {
        if position.run == self.run {
            let mut latest = self.latest.subscribe();
            // The sender lives as long as this.
            drop(latest.wait_for(|total| *total > position.seen).await);
        }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

impl Happened {
    fn bytes(&self) -> usize {
        let Self { resource, cause, drift, text, .. } = self;
        let texts = [Some(resource), cause.as_ref(), drift.as_ref(), text.as_ref()];
        EVENT_BYTES + texts.into_iter().flatten().map(String::len).sum::<usize>()
    }

    /// The same with no text longer than fits on a page.
    #[must_use]
    pub fn clipped(&self) -> Self {
        let mut event = self.clone();
        let Self { host: _, time, resource, event: word, cause, drift, text, .. } = &mut event;
        let texts = [Some(time), Some(resource), Some(word), cause.as_mut(), drift.as_mut(), text.as_mut()];
        for text in texts.into_iter().flatten() {
            if text.len() > TEXT_BYTES_MAX {
                text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
                text.push('…');
            }
        }
        event
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

    fn event(n: usize) -> Happened {
        let id = mgmt_engine::Id::new("noop", &n.to_string());
        let report = Report { id, at: mgmt_engine::Moment::START, what: What::Recovered };
        Happened::of(&report, SystemTime::UNIX_EPOCH)
    }

    fn names(events: &[Happened]) -> Vec<&str> {
        events.iter().map(|event| event.resource.as_str()).collect()
    }

    #[test]
    fn a_follower_sees_each_event_once() {
        let events = Events::new();
        (0..KEPT_MAX + 10).for_each(|n| events.push(event(n)));
        let (past, mut future) = events.follow(3);
        assert_eq!(names(&past), ["noop[4103]", "noop[4104]", "noop[4105]"]);
        events.push(event(7));
        assert_eq!(future.try_recv().unwrap().resource, "noop[7]");
        assert!(future.try_recv().is_err());
        assert_eq!(events.follow(usize::MAX).0.len(), KEPT_MAX);
    }

    #[test]
    fn pages_follow_each_other_and_say_what_is_missing() {
        let events = Events::new();
        (0..5).for_each(|n| events.push(event(n)));
        let page = events.page(None, 2);
        assert_eq!((names(&page.events), page.missed, page.more), (vec!["noop[3]", "noop[4]"], 0, false));
        assert!(events.page(Some(page.next), 9).events.is_empty());
        events.push(event(5));
        let next = events.page(Some(page.next), 0);
        assert_eq!((names(&next.events), next.next.seen), (vec!["noop[5]"], 6));
        (6..KEPT_MAX + 16).for_each(|n| events.push(event(n)));
        let late = events.page(Some(next.next), 0);
        assert_eq!((late.missed, late.events[0].resource.as_str(), late.more), (10, "noop[16]", true));
        let (mut seen, mut position) = (late.events.len(), late.next);
        loop {
            let page = events.page(Some(position), 0);
            assert_eq!(page.missed, 0);
            seen += page.events.len();
            position = page.next;
            if !page.more {
                break;
            }
        }
        assert_eq!(seen, KEPT_MAX);
        // Of another run, all of this one is new; and nobody is ahead of it.
        let other = events.page(Some(Position { run: 1, seen: 99 }), 0);
        assert_eq!((other.missed, other.events[0].resource.as_str()), (16, "noop[16]"));
        assert!(events.page(Some(Position { seen: u64::MAX, ..position }), 0).events.is_empty());
    }

    #[test]
    fn a_page_fits_into_an_answer_whatever_is_in_it() {
        let events = Events::new();
        for n in 0..100 {
            let text = "\u{1}".repeat(100 << 10);
            events.push(Happened { drift: Some(text.clone()), text: Some(text), ..event(n) });
        }
        let page = events.page(None, usize::MAX);
        assert!(page.more && !page.events.is_empty());
        let answer = crate::mesh::messages::inquiry::Answer::Events(page);
        answer.write().unwrap();
    }

    #[tokio::test]
    async fn who_waits_hears_of_the_next_one() {
        let events = Events::new();
        let position = events.page(None, 0).next;
        let mut beyond = std::pin::pin!(events.beyond(position));
        assert!(futures_util::FutureExt::now_or_never(beyond.as_mut()).is_none());
        events.push(event(0));
        beyond.await;
        events.beyond(position).await;
    }
}
