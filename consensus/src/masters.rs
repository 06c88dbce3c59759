//! Which members vote: what is known of them ([`census`]), what follows from it ([`choose()`]), whether that may be done
//! now ([`safe()`]), and what to call it ([`step`]).
//!
//! All of it is pure. Whoever leads feeds a [`Watchman`] with what the replica says, gets a [`Census`], asks [`choose()`]
//! for at most one [`Step`] and carries it out under the log's own guards, so that what was decided on stale eyes is
//! refused there. There is no clock, no log and no network in here, and no map whose order is chance.

pub mod census;
pub mod choose;
pub mod leave;
pub mod policy;
pub mod safe;
mod span;
pub mod spread;
pub mod standing;
pub mod step;
pub mod watchman;

pub use census::{Census, Profile, Seat};
pub use choose::{Waits, choose, ready, target};
pub use leave::{Refusal, may_leave};
pub use policy::Policy;
pub use safe::{Unsafe, safe};
pub use standing::{Standing, standings};
pub use step::{Deed, Step};
pub use watchman::{Observation, Progress, Watchman};
