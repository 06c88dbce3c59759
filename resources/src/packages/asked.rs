//! When the sources of packages were last asked what they have: not again and again, for they belong to others.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// They are asked again after this, if somebody wants what is not known; after a failure, sooner.
const EVERY: Duration = Duration::from_secs(3_600);
const AGAIN: Duration = Duration::from_secs(45);

/// When, and what went wrong.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<Option<(Instant, Option<String>)>>);

impl Asked {
    /// What came of it, if it was so short a time ago that it is of no use to ask again.
    pub(super) fn recently(&self) -> Option<Option<String>> {
        let asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = |trouble: &Option<String>| if trouble.is_some() { AGAIN } else { EVERY };
        asked.as_ref().filter(|(when, trouble)| when.elapsed() < pause(trouble)).map(|(_, trouble)| trouble.clone())
    }

    /// What they said has turned out to be old: whether it is of use to ask again. If it is, they will be.
    pub(super) fn forget(&self) -> bool {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let just = asked.as_ref().is_some_and(|(when, _)| when.elapsed() < AGAIN);
        if !just {
            *asked = None;
        }
        !just
    }

    /// They have been asked, with this trouble or none.
    pub(super) fn now(&self, trouble: Option<String>) -> Option<String> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), trouble.clone()));
        trouble
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn they_are_asked_once_an_hour_and_sooner_after_a_failure() {
        let asked = Asked::default();
        assert_eq!(asked.recently(), None);
        asked.now(Some("no network".to_owned()));
        assert_eq!(asked.recently(), Some(Some("no network".to_owned())));
        assert!(!asked.forget());
        tokio::time::advance(AGAIN).await;
        assert_eq!(asked.recently(), None);
        asked.now(None);
        tokio::time::advance(AGAIN).await;
        assert_eq!(asked.recently(), Some(None));
        assert!(asked.forget());
        assert_eq!(asked.recently(), None);
    }
}
