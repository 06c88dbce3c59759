//! What lies behind the journal: entries by their index. Nothing depends on it. It is off the path of acknowledgement,
//! everything it says is checked against the journal's register, and it is built anew when it is missing, behind, ahead
//! or wrong, when it panics and when it hangs.

#[cfg(feature = "testing")]
pub mod lying;
pub mod memory;
pub mod tree;

use std::fmt::Debug;
use std::io;
use std::ops::ControlFlow;

use bytes::Bytes;

/// Entries by index. Calls may block.
pub trait Index: Debug + Send + Sync + 'static {
    /// The bytes of an entry.
    ///
    /// # Errors
    /// Whatever; it is built anew then.
    fn get(&self, index: u64) -> io::Result<Option<Bytes>>;

    /// Puts entries in, over what is there.
    ///
    /// # Errors
    /// Whatever; it is built anew then.
    fn put(&self, entries: &[(u64, Bytes)]) -> io::Result<()>;

    /// Removes entries from `end` on, and those before `first`.
    ///
    /// # Errors
    /// Whatever; it is built anew then.
    fn keep(&self, first: u64, end: u64) -> io::Result<()>;

    /// Visits all entries in order, until told to stop.
    ///
    /// # Errors
    /// The first one it meets.
    fn visit(&self, see: &mut dyn FnMut(u64, Bytes) -> ControlFlow<()>) -> io::Result<()>;
}

/// How to get one.
pub trait Opener: Debug + Send + Sync + 'static {
    /// Opens what is there; if `anew`, puts that out of the way first. May block, hang and panic.
    ///
    /// # Errors
    /// Whatever; it is built anew then.
    fn open(&self, anew: bool) -> io::Result<Box<dyn Index>>;
}
