//! The state machine that others write: what the replicated bytes mean.

use std::io;

use bytes::Bytes;

/// A deterministic state machine.
///
/// `apply` is pure and total: the same commands at the same indices give the same state and the same outcomes, byte for
/// byte, on every host and for ever. It reads no clock and no chance. A command it refuses has an outcome that says so,
/// the same one everywhere. Only what no version of it can go on from, an unknown version of a command or a broken
/// invariant, is an [`Unknown`], which stops this replica rather than let it differ from the others.
///
/// What readers need is shared by the implementor; the group only feeds it.
pub trait Machine: Send + Sync + 'static {
    /// The state at one moment, frozen, to be written beside further `apply`s.
    type Frozen: Frozen;

    /// Applies the command at this log index. Indices only grow; not every index carries a command.
    ///
    /// # Errors
    /// [`Unknown`] stops the replica.
    fn apply(&mut self, index: u64, command: &[u8]) -> Result<Bytes, Unknown>;

    /// Everything up to the log index `applied` has been applied: called once after each batch of [`Machine::apply`],
    /// also for entries that carry no command. What happened becomes visible to readers now at the latest.
    fn settled(&mut self, applied: u64);

    /// Freezes the state as it is. Quick: it holds up the group.
    fn freeze(&self) -> Self::Frozen;

    /// Replaces the state by what [`Frozen::chunk`] gave, at the log index it was frozen at. The chunks have been
    /// verified. On an error the old state must still be there.
    ///
    /// # Errors
    /// `InvalidData` for what cannot have come from a [`Frozen`]; `Unsupported` for what has come from one of a newer
    /// version, which is whole and stays where it is.
    fn restore(&mut self, applied: u64, chunks: &mut dyn Iterator<Item = io::Result<Bytes>>) -> io::Result<()>;
}

/// A state on its way to disk.
pub trait Frozen: Send + Sync + 'static {
    /// The next piece of at most [`crate::limits::SNAPSHOT_CHUNK_BYTES_MAX`]; `None` at the end.
    fn chunk(&mut self) -> Option<Bytes>;
}

/// A command from a version of the program that this one is older than, or state that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("log index {index} cannot be applied: {why}")]
pub struct Unknown {
    /// Where it stands in the log.
    pub index: u64,
    /// What is unknown.
    pub why: String,
}
