//! Every bound of this crate, with its reason.

/// A command in the log. The store's transactions are at most 1 MiB; the rest is for what surrounds them.
pub const COMMAND_BYTES_MAX: usize = (1 << 20) + (64 << 10);
/// A message between two members: some commands, or one of the largest.
pub const FRAME_BYTES_MAX: usize = 4 << 20;
/// Entries sent in one message, as far as [`APPEND_BYTES_MAX`] allows.
pub const APPEND_ENTRIES_MAX: u64 = 4096;
/// Bytes of entries sent in one message, unless a single one is larger.
pub const APPEND_BYTES_MAX: usize = 1 << 20;
/// A piece of a snapshot: small enough that what matters more is never behind a long one.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 256 << 10;
/// Members of the Raft group, voters and learners: a leader pays for each of them with every write.
pub const RAFT_MEMBERS_MAX: usize = 32;
/// A host's name.
pub const HOST_NAME_BYTES_MAX: usize = 253;
/// The file in which a peer remembers who it is: a few lines, of which the host name is the longest.
pub const IDENTITY_BYTES_MAX: usize = 4096;
