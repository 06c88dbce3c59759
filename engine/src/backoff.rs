//! Waiting between attempts: growing pauses, a guard against fights over one vertex, and a bucket for events.
//!
//! Plain arithmetic on moments; whoever asks brings the time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;
use crate::meta::Limit;

/// A pause that doubles from `first` to `most`.
#[derive(Debug, Clone, Copy)]
pub struct Doubling {
    first: Duration,
    most: Duration,
    steps: u32,
}

impl Doubling {
    /// Pauses from `first`, doubling, to `most`.
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, steps: 0 }
    }

    /// The next pause.
    #[expect(clippy::should_implement_trait, reason = "pauses have no end, and nobody wants them as an iterator")]
    pub fn next(&mut self) -> Duration {
        let pause = self.first.saturating_mul(1_u32.checked_shl(self.steps).unwrap_or(u32::MAX)).min(self.most);
        self.steps = (self.steps + 1).min(31);
        pause
    }

    /// Starts again from the first pause.
    pub fn reset(&mut self) {
        self.steps = 0;
    }
}

/// In agent mode a failed vertex is looked at again after this long, doubling …
pub const RECHECK_FIRST: Duration = Duration::from_secs(60);
/// … to this long.
pub const RECHECK_MOST: Duration = Duration::from_secs(15 * 60);

/// More repairs than this of one vertex …
pub const REPAIRS_MAX: usize = 20;
/// … within this time: somebody else wants it otherwise.
pub const REPAIRS_WITHIN: Duration = Duration::from_secs(10);
const HOLD_FIRST: Duration = Duration::from_secs(1);
const HOLD_MOST: Duration = Duration::from_secs(5 * 60);
/// A contested vertex that nobody touched for so long is contested no more.
pub const QUIET: Duration = Duration::from_secs(60);

/// Watches how often one vertex is repaired.
#[derive(Debug, Clone)]
pub struct Contest {
    repairs: VecDeque<Moment>,
    hold: Option<(Doubling, Moment)>,
    touched: Moment,
}

/// What a [`Contest`] says about a repair that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Repair it.
    Go,
    /// Repair it; this is the one that makes it contested.
    GoContested,
    /// Not before then.
    Hold(Moment),
}

impl Contest {
    /// Nothing repaired so far.
    pub const fn new() -> Self {
        Self { repairs: VecDeque::new(), hold: None, touched: Moment::START }
    }

    /// Whether the vertex is contested.
    pub const fn is_contested(&self) -> bool {
        self.hold.is_some()
    }

    /// Something outside touched it. Only counts while contested.
    pub fn touch(&mut self, now: Moment) {
        self.touched = now;
    }

    /// A repair is due.
    pub fn repair(&mut self, now: Moment) -> Verdict {
        if let Some((pauses, until)) = &mut self.hold {
            if now < *until {
                return Verdict::Hold(*until);
            }
            *until = now.after(pauses.next());
            return Verdict::Go;
        }
        while self.repairs.front().is_some_and(|first| now.since(*first) >= REPAIRS_WITHIN) {
            self.repairs.pop_front();
        }
        self.repairs.push_back(now);
        if self.repairs.len() <= REPAIRS_MAX {
            return Verdict::Go;
        }
        self.repairs = VecDeque::new();
        self.touched = now;
        let mut pauses = Doubling::new(HOLD_FIRST, HOLD_MOST);
        self.hold = Some((pauses, now.after(pauses.next())));
        self.hold = self.hold.map(|(_, until)| (pauses, until));
        Verdict::GoContested
    }

    /// Ends the contest if it has been quiet long enough; otherwise says when to ask again. `None`: not contested.
    pub fn settle(&mut self, now: Moment) -> Option<Result<(), Moment>> {
        self.hold.as_ref()?;
        if now.since(self.touched) < QUIET {
            return Some(Err(self.touched.after(QUIET)));
        }
        self.hold = None;
        Some(Ok(()))
    }
}

impl Default for Contest {
    fn default() -> Self {
        Self::new()
    }
}

/// A token bucket: full at the start.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    limit: Limit,
    tokens: f64,
    at: Moment,
}

impl Bucket {
    /// A full bucket.
    pub fn new(limit: Limit, now: Moment) -> Self {
        Self { limit, tokens: f64::from(limit.burst.get()), at: now }
    }

    /// Takes a token, or says when there will be one.
    ///
    /// # Errors
    /// The moment at which to try again.
    pub fn take(&mut self, now: Moment) -> Result<(), Moment> {
        let gained = now.since(self.at).as_secs_f64() * self.limit.rate;
        self.tokens = (self.tokens + gained).min(f64::from(self.limit.burst.get()));
        self.at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        // A microsecond more, so that rounding never wakes us just too early.
        let wait = ((1.0 - self.tokens) / self.limit.rate).min(86_400.0) + 1e-6;
        Err(now.after(Duration::from_secs_f64(wait)))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn pauses_double_to_their_most() {
        let mut pauses = Doubling::new(Duration::from_secs(1), Duration::from_secs(5));
        let first: Vec<_> = (0..5).map(|_| pauses.next().as_secs()).collect();
        assert_eq!(first, [1, 2, 4, 5, 5]);
        for _ in 0..100 {
            assert_eq!(pauses.next().as_secs(), 5);
        }
        pauses.reset();
        assert_eq!(pauses.next().as_secs(), 1);
    }

    #[test]
    fn a_fight_is_at_most_25_repairs_in_the_first_ten_seconds() {
        let mut contest = Contest::new();
        let (mut repairs, mut said) = (0, 0);
        for millis in 0..10_000 {
            match contest.repair(Moment::from_millis(millis)) {
                Verdict::Go => repairs += 1,
                Verdict::GoContested => {
                    repairs += 1;
                    said += 1;
                }
                Verdict::Hold(_) => {}
            }
        }
        assert!(repairs <= 25, "{repairs} repairs");
        assert_eq!(said, 1, "said once");
    }

    #[test]
    fn a_slow_drift_is_no_fight() {
        let mut contest = Contest::new();
        for n in 0..1000 {
            assert_eq!(contest.repair(Moment::from_millis(n * 500)), Verdict::Go, "two a second are 20 within 10 s");
        }
    }

    #[test]
    fn quiet_ends_a_contest_and_only_quiet_does() {
        let mut contest = Contest::new();
        for n in 0..21 {
            contest.repair(Moment::from_millis(n));
        }
        assert!(contest.is_contested());
        contest.touch(Moment::from_millis(50_000));
        assert_eq!(contest.settle(Moment::from_millis(60_021)), Some(Err(Moment::from_millis(110_000))));
        assert_eq!(contest.settle(Moment::from_millis(110_000)), Some(Ok(())));
        assert_eq!(contest.settle(Moment::from_millis(110_000)), None);
        assert_eq!(contest.repair(Moment::from_millis(110_001)), Verdict::Go);
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let limit = Limit { rate: 2.0, burst: NonZeroU32::new(3).expect("not zero") };
        let mut bucket = Bucket::new(limit, Moment::START);
        for _ in 0..3 {
            assert_eq!(bucket.take(Moment::START), Ok(()));
        }
        let again = bucket.take(Moment::START).expect_err("empty");
        assert!(again >= Moment::from_millis(500) && again <= Moment::from_millis(501));
        assert_eq!(bucket.take(again), Ok(()));
        assert!(bucket.take(again).is_err());
    }
}
