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
/// Records of one batch, as bytes: what is written and synced at once.
pub const BATCH_BYTES_MAX: usize = 4 << 20;
/// Records of one batch.
pub const BATCH_RECORDS_MAX: usize = 4096;
/// Requests that wait for the log's writer. openraft sends the next ones when these are done.
pub const WRITER_REQUESTS_MAX: usize = 4096;
/// Bytes of entries that wait for the log's writer; whoever brings more waits.
pub const WRITER_BYTES_MAX: usize = 32 << 20;
/// A file of the journal: large enough that turning to another is rare, small enough that little lies idle.
pub const SEGMENT_BYTES: u64 = 16 << 20;
/// Files of the journal that wait to be used again. More are removed.
pub const SPARE_SEGMENTS_MAX: usize = 2;
/// Space held back for an orderly stop on a full disk.
pub const RESERVE_BYTES: u64 = 32 << 20;
/// Less free space than this is little: such a host should not lead.
pub const ROOM_LOW_BYTES: u64 = 512 << 20;
/// So is less than this share of the disk.
pub const ROOM_LOW_SHARE: u64 = 20;
/// Recent entries kept in memory: what replication to a healthy member needs.
pub const TAIL_ENTRIES_MAX: usize = 4096;
/// Their bytes.
pub const TAIL_BYTES_MAX: usize = 32 << 20;
