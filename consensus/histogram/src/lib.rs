//! What openraft asks of the crate of this name, without its tables.
//!
//! The real one computes, at its first use in a process, tables for sixteen resolutions, of which openraft uses one: 20 MiB
//! that stay, and a tenth of a second (docs/decisions/0009). openraft keeps statistics of itself in it, which this program
//! does not read. So the counts here are kept by powers of two, in half a kibibyte, and are right to a factor of two.

use std::fmt;
use std::marker::PhantomData;

/// Values are counted by their number of bits, 0 to 64.
const BUCKETS: usize = 65;

/// Counts of values by powers of two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    slots: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Histogram<T> {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        Self { counts: [0; BUCKETS], slots: PhantomData }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value so many times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let counted = &mut self.counts[bucket(value)];
        *counted = counted.saturating_add(count);
    }

    /// How many values were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count))
    }

    /// The least value of the bucket in which this share of all values is reached, from 0 to 1.
    #[must_use]
    pub fn percentile(&self, share: f64) -> u64 {
        #[expect(clippy::cast_precision_loss, reason = "a statistic")]
        let wanted = self.total() as f64 * share;
        let mut seen = 0_u64;
        for (number, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            seen = seen.saturating_add(*count);
            #[expect(clippy::cast_precision_loss, reason = "a statistic")]
            if seen as f64 >= wanted {
                return floor(number);
            }
        }
        0
    }

    /// The usual ones.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }
}

fn bucket(value: u64) -> usize {
    (u64::BITS - value.leading_zeros()) as usize
}

/// The least value with so many bits.
fn floor(bits: usize) -> u64 {
    if bits == 0 { 0 } else { 1 << (bits - 1) }
}

/// Shares of what was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values.
    pub samples: u64,
    /// One in a thousand is at most about this.
    pub p0_1: u64,
    /// One in a hundred.
    pub p1: u64,
    /// Five in a hundred.
    pub p5: u64,
    /// Ten in a hundred.
    pub p10: u64,
    /// Half of them.
    pub p50: u64,
    /// Ninety in a hundred.
    pub p90: u64,
    /// Ninety-nine in a hundred.
    pub p99: u64,
    /// 999 in a thousand.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p50, p90, p99, .. } = self;
        write!(f, "[samples: {samples}, P50: {p50}, P90: {p90}, P99: {p99}]")
    }
}

/// Several of them in a row, as text.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart {
    rows: Vec<(String, PercentileStats)>,
}

impl AsciiChart {
    /// Empty.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more.
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.rows.push((name.into(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.iter().try_for_each(|(name, stats)| writeln!(f, "{name}: {stats}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_right_to_a_factor_of_two() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile(0.5), 0);
        (1..=1000).for_each(|value| histogram.record(value));
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p50, stats.p99), (1000, 256, 512));
        histogram.record_n(u64::MAX, 5);
        histogram.record(0);
        assert_eq!((histogram.total(), histogram.percentile(1.0)), (1006, 1 << 63));
    }
}
