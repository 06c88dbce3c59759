//! Semaphores that other hosts share: who gives them, as the engine sees it.
//!
//! A vertex asks for all that it wants at once, before those of this host: whoever holds some of this host never waits for
//! any of these, so that its holders always get on, and with them whoever waits for them while holding a grant. Among
//! themselves they are taken in the order of their names, which is the same on all hosts, so that nobody waits in a ring.
//! The price is that a grant may be held while a place on this host is waited for.
//!
//! Must not know how hosts agree.

use std::future::Future;
use std::pin::Pin;

use crate::id::Id;
use crate::meta::Semaphore;
use crate::resource::{Boxed, Fault};

/// Gives what is shared with other hosts.
pub trait Grants: Send + Sync {
    /// Takes all of `wanted`, which are in the order of their names, for this vertex; waits for it however long that
    /// takes. Dropping the future gives up.
    fn acquire(&self, who: &Id, wanted: Vec<Semaphore>) -> Boxed<Result<Box<dyn Grant>, Fault>>;
}

/// What was taken. Dropping it gives it back.
pub trait Grant: Send {
    /// Higher for every holder of any of these, over all hosts.
    fn fence(&self) -> u64;
    /// Waits until it is not certain any more that nobody else has it. Cancel safe.
    fn lost(&mut self) -> Pin<Box<dyn Future<Output = Fault> + Send + '_>>;
}
