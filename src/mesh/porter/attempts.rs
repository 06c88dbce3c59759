//! Who has tried in vain, how often: guessing must be slow, and so must be asking for nothing.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// Failed attempts from one place within [`WINDOW_MS`].
pub(super) const FAILED_MAX: usize = 5;
/// For so long an attempt counts.
const WINDOW_MS: u64 = 60_000;
/// Places that are remembered.
const PLACES_MAX: usize = 1024;

/// Failed attempts, by where they came from.
#[derive(Debug, Default)]
pub(super) struct Attempts(BTreeMap<IpAddr, VecDeque<u64>>);

impl Attempts {
    /// How long somebody from there has to wait, if he has to.
    pub(super) fn must_wait(&mut self, from: IpAddr, now_ms: u64) -> Option<Duration> {
        let failed = self.0.get_mut(&place(from))?;
        forget(failed, now_ms);
        if failed.len() < FAILED_MAX {
            return None;
        }
        let oldest = failed.front()?;
        Some(Duration::from_millis((oldest + WINDOW_MS).saturating_sub(now_ms)))
    }

    /// Somebody from there has failed.
    pub(super) fn failed(&mut self, from: IpAddr, now_ms: u64) {
        let from = place(from);
        if self.0.len() >= PLACES_MAX && !self.0.contains_key(&from) {
            self.0.retain(|_, failed| {
                forget(failed, now_ms);
                !failed.is_empty()
            });
            // Whoever has that many places gets a little more than others.
            if self.0.len() >= PLACES_MAX {
                self.0.pop_first();
            }
        }
        let failed = self.0.entry(from).or_default();
        forget(failed, now_ms);
        failed.push_back(now_ms);
        while failed.len() > FAILED_MAX {
            failed.pop_front();
        }
    }
}

/// What is too old, or of a clock that was set back since.
fn forget(failed: &mut VecDeque<u64>, now_ms: u64) {
    failed.retain(|at| *at <= now_ms && now_ms - at < WINDOW_MS);
}

/// One host has whole networks of addresses where they are long.
fn place(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(long) => {
            let [a, b, c, d, ..] = long.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        short @ IpAddr::V4(_) => short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_in_a_minute_and_then_a_wait() {
        let mut attempts = Attempts::default();
        let (here, there): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        for at in 0..5 {
            assert_eq!(attempts.must_wait(here, at * 1000), None);
            attempts.failed(here, at * 1000);
        }
        assert_eq!(attempts.must_wait(here, 10_000), Some(Duration::from_secs(50)));
        assert_eq!(attempts.must_wait("::ffff:10.0.0.1".parse().unwrap(), 10_000), Some(Duration::from_secs(50)));
        assert_eq!(attempts.must_wait(there, 10_000), None);
        assert_eq!(attempts.must_wait(here, 60_000), None);
        attempts.failed(here, 60_000);
        assert_eq!(attempts.must_wait(here, 60_500), Some(Duration::from_millis(500)));
    }

    #[test]
    fn a_network_of_long_addresses_is_one_place_and_places_are_bounded() {
        let mut attempts = Attempts::default();
        for n in 0..5_u16 {
            attempts.failed(IpAddr::from([0x2001, 0xdb8, 0, 1, n, n, n, n]), 0);
        }
        assert!(attempts.must_wait("2001:db8:0:1::99".parse().unwrap(), 1).is_some());
        assert!(attempts.must_wait("2001:db8:0:2::99".parse().unwrap(), 1).is_none());
        for n in 0..5000_u32 {
            attempts.failed(IpAddr::from(n.to_be_bytes()), 2);
            assert!(attempts.0.len() <= PLACES_MAX);
        }
    }
}
