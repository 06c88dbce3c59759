//! Every bound of this crate, with its reason.

use std::time::Duration;

/// A command in the log. The store's transactions are at most 1 MiB; the rest is for what surrounds them.
pub const COMMAND_BYTES_MAX: usize = (1 << 20) + (64 << 10);
/// A message between two members: some commands, or one of the largest.
pub const FRAME_BYTES_MAX: usize = 4 << 20;
/// Entries sent in one message, as far as [`APPEND_BYTES_MAX`] allows.
pub const APPEND_ENTRIES_MAX: u64 = 4096;
/// Bytes of entries sent in one message, unless a single one is larger.
pub const APPEND_BYTES_MAX: usize = 1 << 20;
/// Entries applied before readers see them and proposers hear of it.
pub const APPLY_ENTRIES_MAX: u64 = 256;
/// A piece of a snapshot: small enough that what matters more is never behind a long one.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 256 << 10;
/// A snapshot as it is sent: the store is at most 256 MiB, and what surrounds it is less than that again.
pub const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;
/// Requests of others that are worked on at once: so many of the group, and so many of clients.
pub const REQUESTS_MAX: usize = 512;
/// Members of the Raft group, voters and learners: a leader pays for each of them with every write.
pub const RAFT_MEMBERS_MAX: usize = 32;
/// The highest term and the highest log index that are taken from anybody. A million a second reach it in two thousand
/// years; what is above has been made up, and counting on from it must not overflow.
pub const NUMBER_MAX: u64 = 1 << 56;
/// How far a term may be ahead of the own one to be believed: an election every second for half a year. Whoever was away
/// for longer is removed meanwhile and comes back as somebody new; whoever makes terms up needs more than four thousand
/// million believed messages, each of them synced to a disk, to bring the group to [`NUMBER_MAX`], where it would end.
pub const TERM_LEAP_MAX: u64 = 1 << 24;
/// A host's name.
pub const HOST_NAME_BYTES_MAX: usize = 253;
/// Members in one membership that is read: what decoding may cost. How many there may be is [`RAFT_MEMBERS_MAX`].
pub const MEMBERS_MAX: usize = 1024;
/// Sets of voters in one membership: two while they change; more only where a change was cut short by another.
pub const CONFIGS_MAX: usize = 8;
/// What describes a snapshot: the largest membership, and some more.
pub const META_BYTES_MAX: usize = 512 << 10;
/// The longest a caller may wait for the group: what claims more is taken for this much.
pub const DEADLINE_MAX: Duration = Duration::from_secs(600);
/// Words that explain a refusal to people.
pub const WHY_BYTES_MAX: usize = 1024;
/// Parts of a zone, as in `continent/city/room/rack`.
pub const ZONE_DEPTH_MAX: usize = 8;
/// A part of a zone.
pub const ZONE_BYTES_MAX: usize = 64;
/// The file in which a peer remembers who it is: a few lines, of which the host name is the longest.
pub const IDENTITY_BYTES_MAX: usize = 4096;
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
/// More than this is enough, however large the disk: the largest store, its snapshots and its log take less. A twentieth
/// of a large disk is more than many hosts ever have free, and a mesh of such hosts would rest at one master.
pub const ROOM_ENOUGH_BYTES: u64 = 2 << 30;
/// Recent entries kept in memory: what replication to a healthy member needs.
pub const TAIL_ENTRIES_MAX: usize = 4096;
/// Their bytes.
pub const TAIL_BYTES_MAX: usize = 32 << 20;
/// Entries that the index is behind before it is woken. One batch of so many costs it little more than one of a single
/// entry does, seven threads and two writes to the disk that would wait beside the journal's; and what it lacks is read
/// from the journal.
pub const INDEX_LAG_ENTRIES: u64 = 512;
/// Handshakes under way before whoever comes next must first show that he is where he says: so that a flood from
/// addresses that are not the sender's costs nothing but packets.
pub const HANDSHAKES_CALM_MAX: usize = 128;
/// Handshakes under way. More are refused.
pub const HANDSHAKES_MAX: usize = 512;
/// Handshakes under way from one address, of those who have shown that it is theirs, and as many of those who have not: so
/// that two hosts together leave half of [`HANDSHAKES_MAX`]. A hundred processes of one machine that begin at the same
/// moment are within it.
pub const HANDSHAKES_PER_HOST_MAX: usize = 128;
/// Handshakes a second from one address, in the long run: each costs about a millisecond of a core.
pub const HANDSHAKES_PER_SECOND_MAX: u64 = 64;
/// Those that may come at once from an address that was calm: many processes of one machine, all started together.
pub const HANDSHAKES_BURST_MAX: u32 = 256;
/// Addresses whose handshakes are counted.
pub const SOURCES_MAX: usize = 4096;
/// How long one may take, and how long a member may then be silent before his first message.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// How often everybody who is connected is looked at again: a certificate may be used for this much longer than it counts.
/// A look costs one verified signature for each connection.
pub const RECHECK: Duration = Duration::from_secs(30);
/// Visitors at once: whoever has no certificate yet.
pub const VISITS_MAX: usize = 64;
/// Visitors at once from one address, so that one host cannot be all of them.
pub const VISITS_PER_HOST_MAX: usize = 32;
/// What a visitor says, and what he is told.
pub const VISIT_BYTES_MAX: usize = 64 << 10;
/// How long a visit lasts at most.
pub const VISIT_DEADLINE: Duration = Duration::from_secs(10);
/// What a visitor may send before he is read: less than this has no room for his message and a bit.
pub const VISIT_WINDOW_BYTES: u32 = 128 << 10;
/// What a member may send on one stream before it is read.
pub const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// What he may send on all of them: more than four full streams, so that none holds up another.
pub const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// What is kept of what was sent and not yet acknowledged, for one connection.
pub const SEND_WINDOW_BYTES: u64 = 8 << 20;
/// What is sent to a new connection before anything came back: the hosts are near each other.
pub const INITIAL_WINDOW_BYTES: u64 = 128 << 10;
/// Packets that may come before one is acknowledged at once. Fewer are acknowledged within 25 ms, or by what is sent.
pub const UNACKNOWLEDGED_PACKETS_MAX: u32 = 8;
/// The buffers of the socket, in the kernel, if it grants them.
pub const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Bytes of one peer on one lane that wait to be accepted. More are not read, so that he waits.
pub const WAITING_BYTES_MAX: usize = 4 << 20;
/// Bytes of all peers on one lane that wait to be accepted. More are lost like on a network.
pub const INBOX_BYTES_MAX: usize = 32 << 20;
/// Bytes of answers that wait for one peer on one lane to read them. More are lost: he does not read. As much as he may
/// have waiting himself: what he asks about at once has short answers.
pub const ANSWERS_BYTES_MAX: usize = 4 << 20;
/// Bytes handed to a stream at once.
pub const WRITE_BYTES_MAX: usize = 256 << 10;
/// Addresses of one peer that are tried.
pub const ADDRESSES_MAX: usize = 8;
/// Connections of members. More peers than a mesh has, and some that are being replaced.
pub const GUESTS_MAX: usize = 4096;
/// A certificate: a host's name, and what else is in it. Those of this program have about 600 bytes.
pub const CERTIFICATE_BYTES_MAX: usize = 2048;
/// Authorities that are trusted at once: one, two while one takes over from another, and some that are late.
pub const AUTHORITIES_MAX: usize = 4;
/// A file with keys or certificates: so many certificates as base 64, with room for line ends.
pub const PEM_BYTES_MAX: usize = AUTHORITIES_MAX * CERTIFICATE_BYTES_MAX * 2;
