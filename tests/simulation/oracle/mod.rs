//! What is always true of a group that keeps its promises, and how to see from outside that it was. Pure: it is fed
//! what clients were told, what hosts applied and what was sighted on the way, and knows nothing of the program.

#![allow(dead_code, reason = "two test programs, each uses its part")]

pub(crate) mod history;
pub(crate) mod invariants;
pub(crate) mod model;
pub(crate) mod watches;
pub(crate) mod wgl;
pub(crate) mod witness;

use std::fmt;

/// A promise that was broken, and what shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Which promise.
    pub(crate) law: &'static str,
    /// What was seen.
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.law, self.what)
    }
}

/// Kept, or broken.
pub(crate) type Verdict<T = ()> = Result<T, Violation>;

/// Says that a law was broken.
pub(crate) fn broken<T>(law: &'static str, what: impl Into<String>) -> Verdict<T> {
    Err(Violation { law, what: what.into() })
}
