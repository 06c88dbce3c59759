//! How long syncs take: what tells a slow disk from a busy moment.

use std::collections::VecDeque;
use std::time::Duration;

/// Syncs that are remembered, unless they are too old.
const SYNCS_MAX: usize = 1024;
/// Older ones say nothing of how the disk is now.
const AGE: Duration = Duration::from_secs(30);

/// The syncs of late.
#[derive(Debug)]
pub(super) struct Syncs<I> {
    /// When each ended, and how long it took.
    ended: VecDeque<(I, Duration)>,
    /// When the one under way began.
    since: Option<I>,
}

impl<I> Default for Syncs<I> {
    fn default() -> Self {
        Self { ended: VecDeque::new(), since: None }
    }
}

impl<I: openraft::Instant> Syncs<I> {
    pub(super) fn begin(&mut self, now: I) {
        self.since = Some(now);
    }

    pub(super) fn end(&mut self, now: I) {
        let Some(since) = self.since.take() else { return };
        if self.ended.len() == SYNCS_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back((now, now - since));
    }

    /// Ninety-nine of a hundred took no longer. One that is under way counts with the time it has taken so far: a disk
    /// that hangs ends none.
    pub(super) fn p99(&self, now: I) -> Duration {
        let recent = self.ended.iter().filter(|(at, _)| *at + AGE >= now).map(|(_, took)| *took);
        let mut all: Vec<Duration> = recent.chain(self.since.map(|since| now - since)).collect();
        all.sort_unstable();
        let nth = (all.len() * 99).div_ceil(100).saturating_sub(1);
        all.get(nth).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn one_bad_moment_in_a_hundred_is_none_and_a_sync_that_hangs_is() {
        let origin: Instant = openraft::Instant::now();
        let mut syncs = Syncs::default();
        assert_eq!(syncs.p99(origin), ms(0));
        let mut at = origin;
        for nth in 0..200 {
            syncs.begin(at);
            at += if nth == 150 { ms(900) } else { ms(3) };
            syncs.end(at);
        }
        assert_eq!(syncs.p99(at), ms(3));
        syncs.begin(at);
        assert_eq!(syncs.p99(at + ms(20_000)), ms(3), "one of two hundred");
        assert_eq!(syncs.p99(at + ms(40_000)), ms(40_000), "and later all there is");
    }

    #[test]
    fn few_are_remembered() {
        let mut at: Instant = openraft::Instant::now();
        let mut syncs = Syncs::default();
        for _ in 0..3 * SYNCS_MAX {
            syncs.begin(at);
            at += ms(1);
            syncs.end(at);
        }
        assert_eq!(syncs.ended.len(), SYNCS_MAX);
    }
}
