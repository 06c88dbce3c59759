//! Every bound of this crate, with its reason. What `apply` refuses, it refuses by these numbers on every host alike:
//! changing one changes what the log means, and takes a new feature level.

/// A key.
pub const KEY_BYTES_MAX: usize = 4 << 10;
/// A value, and so an exported resource.
pub const VALUE_BYTES_MAX: usize = 256 << 10;
/// Operations and comparisons of a transaction.
pub const TXN_OPS_MAX: usize = 512;
/// Keys and values of a transaction, or of the exports staged by one command.
pub const TXN_BYTES_MAX: usize = 1 << 20;
/// A command as a client sends it: the group takes no larger one, and the leader still says who asked.
pub const REQUEST_BYTES_MAX: usize = mgmt_consensus::limits::COMMAND_BYTES_MAX - (1 << 10);
/// Changes under one revision that no other limit holds down: what a range deletes, what leases take with them. A
/// quarter of the history, so that no single command pushes everything else out of it.
pub const CHANGES_MAX: usize = HISTORY_EVENTS_MAX / 4;

/// What everything together may occupy: above it growth is refused, and deleting goes on.
pub const STORE_BYTES_MAX: u64 = 256 << 20;
/// Above it people are told.
pub const STORE_BYTES_SOFT: u64 = 128 << 20;
/// What an entry occupies besides its key and value: in memory 150 bytes were measured, allocator included.
pub const ENTRY_BYTES: u64 = 128;

/// Events that are remembered for watches.
pub const HISTORY_EVENTS_MAX: usize = 65_536;
/// Bytes of these events.
pub const HISTORY_BYTES_MAX: usize = 64 << 20;

/// Exports of a host.
pub const EXPORTS_MAX: usize = 1_000;
/// Bytes of the exports of a host, keys included.
pub const EXPORT_BYTES_MAX: u64 = 8 << 20;
/// Changes that wait for their flip: all replaced, with other names.
pub const STAGED_MAX: usize = 2 * EXPORTS_MAX;
/// What was staged and not flipped for so long is dropped.
pub const STAGED_AGE_MS_MAX: u64 = 3_600_000;
/// A kind of resource, or a namespace of maps.
pub const NAME_BYTES_MAX: usize = 255;

/// Proposals of a host in a second, and at once after it was quiet.
pub const PROPOSALS_PER_SECOND: u64 = 50;
/// Proposals at once.
pub const PROPOSALS_BURST: u64 = 100;

/// Leases in the mesh.
pub const LEASES_MAX: usize = 100_000;
/// Leases of one host.
pub const LEASES_PER_HOST_MAX: u32 = 10_000;
/// Keys on one lease: its end deletes them all under one revision.
pub const LEASE_KEYS_MAX: usize = 4_096;
/// The shortest lease, longer than a change of leaders; shorter wishes are rounded up.
pub const LEASE_TTL_S_MIN: u32 = 5;
/// The longest lease: a day.
pub const LEASE_TTL_S_MAX: u32 = 86_400;
/// Leases that one command says have expired.
pub const LEASES_EXPIRED_MAX: usize = 1_000;

/// Who may hold one semaphore at once.
pub const LOCK_HOLDERS_MAX: u32 = 256;
/// Who may wait for one lock.
pub const LOCK_WAITERS_MAX: usize = 256;

/// Sessions in the mesh.
pub const SESSIONS_MAX: usize = 20_000;
/// Sessions of one host. Of more, the one that was used longest ago is closed.
pub const SESSIONS_PER_HOST_MAX: u32 = 256;
/// A session that was not used for so long is closed, by the leaders' time.
pub const SESSION_AGE_MS_MAX: u64 = 3_600_000;

/// Hosts in the registry.
pub const PEERS_MAX: usize = 10_000;
/// Addresses of a host.
pub const ADDRESSES_MAX: usize = 16;
/// An address, or a part of a zone.
pub const ADDRESS_BYTES_MAX: usize = 255;
/// Parts of a zone: `a/b/c`.
pub const ZONE_PARTS_MAX: usize = 8;
/// Tokens that may be alive.
pub const TOKENS_MAX: usize = 1_000;
/// The name of a token.
pub const TOKEN_ID_BYTES_MAX: usize = 64;
/// The longest life of a token: a year.
pub const TOKEN_AGE_MS_MAX: u64 = 366 * 86_400_000;
/// Rules that allow hosts a prefix.
pub const RULES_MAX: usize = 1_000;
/// A rule's pattern or prefix.
pub const RULE_BYTES_MAX: usize = 255;

/// A piece of a snapshot, before it is cut into what the group stores and sends.
pub const SECTION_BYTES: usize = 64 << 10;
/// The largest such piece: one that is not full yet, and then the largest value under the longest key.
pub const SECTION_BYTES_MAX: usize = SECTION_BYTES + VALUE_BYTES_MAX + 2 * KEY_BYTES_MAX;
/// Items of a piece.
pub const SECTION_ITEMS_MAX: usize = 4_096;

// What follows bounds one member or one client, not what the log means: it may differ between versions.

/// Watches of one member. One costs about a hundred bytes, and a look at every change.
pub const WATCHES_MAX: usize = 10_000;
/// Bytes of one batch of a watch, unless a single event has more.
pub const WATCH_BATCH_BYTES_MAX: usize = 1 << 20;
/// Events that a watch looks at in one go: whoever applies commands waits as long.
pub const WATCH_SCAN_EVENTS_MAX: usize = 4096;
/// A watch that nothing concerns says how far it is every so many revisions. The history is many times as long, so that
/// whoever resumes there is not told that it is gone.
pub const WATCH_MARK_REVISIONS: u64 = 1024;
/// Commands of one client that are on their way at once, each in a session of its own.
pub const LANES_MAX: usize = 8;
/// The same of a client that stands for many, such as all pipes of a host together: as many sessions as a host may have,
/// less those of its other clients and some of a life before this one.
pub const LANES_WIDE_MAX: usize = 192;
/// Leases that the leader ends in one second. A partition that takes thousands of hosts away must not fill the log, and
/// most of them come back.
pub const EXPIRIES_PER_S_MAX: u64 = 1_000;
