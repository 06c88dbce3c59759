//! Convergence: quiet for long enough. Quiet means that no vertex is queued, running, or waiting to try again.

use std::time::Duration;

use crate::clock::Moment;

/// Watches for quiet.
#[derive(Debug)]
pub struct Convergence {
    timeout: Duration,
    quiet_since: Option<Moment>,
    converged: bool,
}

impl Convergence {
    /// Converged means quiet for `timeout`.
    pub const fn new(timeout: Duration) -> Self {
        Self { timeout, quiet_since: None, converged: false }
    }

    /// Tells how many are busy now; returns the new state when it changed.
    pub fn update(&mut self, busy: usize, now: Moment) -> Option<bool> {
        if busy > 0 {
            self.quiet_since = None;
        } else if self.quiet_since.is_none() {
            self.quiet_since = Some(now);
        }
        let converged = self.quiet_since.is_some_and(|since| now.since(since) >= self.timeout);
        (converged != self.converged).then(|| {
            self.converged = converged;
            converged
        })
    }

    /// When to call [`update`](Self::update) even if nothing happens.
    pub fn wake_at(&self) -> Option<Moment> {
        if self.converged { None } else { self.quiet_since.map(|since| since.after(self.timeout)) }
    }

    /// Since when all is quiet.
    pub const fn quiet_since(&self) -> Option<Moment> {
        self.quiet_since
    }

    /// Whether it has been quiet for long enough.
    pub const fn is_converged(&self) -> bool {
        self.converged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_must_last() {
        let mut c = Convergence::new(Duration::from_secs(5));
        let at = Moment::from_millis;
        assert_eq!(c.update(1, at(0)), None);
        assert_eq!(c.update(0, at(1000)), None);
        assert_eq!(c.wake_at(), Some(at(6000)));
        assert_eq!(c.update(1, at(5999)), None, "one event starts it again");
        assert_eq!(c.update(0, at(6000)), None);
        assert_eq!(c.update(0, at(10_999)), None);
        assert_eq!(c.update(0, at(11_000)), Some(true));
        assert_eq!(c.wake_at(), None);
        assert_eq!(c.update(2, at(11_001)), Some(false));
    }

    #[test]
    fn no_timeout_is_at_once() {
        assert_eq!(Convergence::new(Duration::ZERO).update(0, Moment::START), Some(true));
    }
}
