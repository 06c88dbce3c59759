//! Real peers for tests: processes that form a mesh, clients that speak to them, and a judge of what they said.
//!
//! Shared by the tests of the root: `mod mesh;`, or `#[path]` from elsewhere. Nothing here outlives its test.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(unused_imports, reason = "each test program uses its part")]
#![allow(clippy::disallowed_methods, reason = "real processes go by the real clock")]

pub(crate) mod clients;
pub(crate) mod linear;
pub(crate) mod peer;
pub(crate) mod pipe;

use std::time::{Duration, Instant};

/// How long anything may take that takes a second on a machine with nothing else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks. Nobody tells of what another process does, and each look starts a program.
const PAUSE: Duration = Duration::from_millis(25);

/// Waits until `condition` holds and says how long that took; `None` if it did not within `most`.
pub(crate) fn wait(most: Duration, mut condition: impl FnMut() -> bool) -> Option<Duration> {
    let start = Instant::now();
    loop {
        if condition() {
            return Some(start.elapsed());
        }
        if start.elapsed() >= most {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Lets time pass in which something must not happen, or may: there is no condition to wait for.
pub(crate) fn let_pass(time: Duration) {
    std::thread::sleep(time);
}
