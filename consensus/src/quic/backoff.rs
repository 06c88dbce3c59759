//! How long a peer that was not reached is left alone.

use std::time::Duration;

/// After the first failure.
const FIRST: Duration = Duration::from_millis(100);
/// After many.
const LAST: Duration = Duration::from_secs(5);

/// Failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// One more. How long to wait: each time twice as long, between half of it and all of it, so that many who lost
    /// the same peer do not come back at once. `chance` is evenly drawn.
    pub(super) fn failed(&mut self, chance: u32) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(16)).min(LAST);
        self.failures = self.failures.saturating_add(1);
        let half = whole / 2;
        half + half.mul_f64(f64::from(chance) / f64::from(u32::MAX))
    }

    /// The peer was reached, or has made itself heard.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_a_tenth_of_a_second_to_five() {
        let (mut low, mut high) = (Backoff::default(), Backoff::default());
        let waits: Vec<_> = (0..40).map(|_| (low.failed(0), high.failed(u32::MAX))).collect();
        assert_eq!(waits[0], (FIRST / 2, FIRST));
        assert_eq!(waits[1], (FIRST, FIRST * 2));
        assert_eq!(waits[39], (LAST / 2, LAST));
        assert!(waits.is_sorted());
        high.reset();
        assert_eq!(high.failed(u32::MAX), FIRST);
    }
}
