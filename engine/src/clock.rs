//! Time. A [`Moment`] is time since the start of a [`Clock`]; decisions are given moments, only shells ask the clock.

use std::time::{Duration, Instant, SystemTime};

/// A point in monotonic time, as nanoseconds since the clock's start. Made freely in tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The start of the clock.
    pub const START: Self = Self(0);

    /// The moment `millis` milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }

    /// Time from `earlier` to this moment; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This moment moved on by a duration; saturates after 584 years.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Hands out moments. Monotonic: wall-clock changes do not touch it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[expect(clippy::disallowed_methods, reason = "the one place where monotonic time is read")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The present moment.
    pub fn now(&self) -> Moment {
        Moment(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Wall-clock time, for people and records only: never for ordering or waiting.
    #[expect(clippy::disallowed_methods, reason = "the one place where wall-clock time is read")]
    pub fn wall() -> SystemTime {
        SystemTime::now()
    }
}
