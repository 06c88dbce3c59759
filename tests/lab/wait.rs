//! Waiting for a condition. Nobody sleeps for a time that "should be enough".

use std::time::{Duration, Instant};

/// How long most things may take on a busy machine.
pub(crate) const GENEROUS: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until `condition` holds; panics with what was waited for after `most`.
pub(crate) fn until_within(most: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < most, "waited {most:?} in vain until {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Waits a generous time.
pub(crate) fn until(what: &str, condition: impl FnMut() -> bool) {
    until_within(GENEROUS, what, condition);
}

/// Waits until what `look` sees has stayed the same for `time`; panics after `most`.
pub(crate) fn until_steady<T: PartialEq>(time: Duration, most: Duration, what: &str, mut look: impl FnMut() -> T) -> T {
    let mut seen = look();
    let mut since = Instant::now();
    until_within(most, what, || {
        let now = look();
        if now != seen {
            seen = now;
            since = Instant::now();
        }
        since.elapsed() >= time
    });
    seen
}
