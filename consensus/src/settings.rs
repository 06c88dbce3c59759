//! Times and sizes of a group. All members use the same.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

use crate::limits::{APPEND_ENTRIES_MAX, RAFT_MEMBERS_MAX};

/// Times and sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Between two heartbeats of a leader. Longer than a round trip and a sync of a bad moment.
    pub heartbeat: Duration,
    /// A follower that has heard nothing stands for election after `election_max` and a chance time from
    /// `election_min` to `election_max`; so that is how long it takes to replace a leader.
    pub election_min: Duration,
    /// See `election_min`. Also how long a follower refuses its vote to others after it has heard its leader.
    pub election_max: Duration,
    /// How long a leader without a quorum goes on before it lets others try. At least twice `election_max`.
    pub quorum_probe: Duration,
    /// Entries after which a snapshot is taken.
    pub snapshot_entries: u64,
    /// Bytes of commands after which a snapshot is taken.
    pub snapshot_bytes: u64,
    /// Members, voters and learners, that a leader lets in.
    pub members_max: usize,
    /// Entries that stay in the log behind a snapshot, for those who lag a little.
    pub entries_kept: u64,
}

impl Settings {
    /// For hosts of one network (DESIGN: calm wins over haste).
    pub const LAN: Self = Self {
        heartbeat: Duration::from_millis(100),
        election_min: Duration::from_millis(300),
        election_max: Duration::from_millis(500),
        quorum_probe: Duration::from_secs(1),
        snapshot_entries: 5_000,
        snapshot_bytes: 8 << 20,
        members_max: RAFT_MEMBERS_MAX,
        entries_kept: 5_000,
    };

    /// How long an answer to entries is waited for: a disk may have a bad moment.
    pub(crate) fn append_deadline(&self) -> Duration {
        self.election_max.max(self.heartbeat)
    }

    /// The same in openraft's words.
    pub(crate) fn openraft(&self) -> Config {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Config {
            cluster_name: "mgmt".to_owned(),
            heartbeat_interval: ms(self.heartbeat),
            election_timeout_min: ms(self.election_min),
            election_timeout_max: ms(self.election_max),
            quorum_loss_probe_interval: Some(ms(self.quorum_probe)),
            enable_pre_vote: Some(true),
            // A restarted leader that resumed without an election would believe that nothing went back in time.
            enable_leader_restore: Some(false),
            allow_log_reversion: None,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_entries),
            max_in_snapshot_log_to_keep: self.entries_kept,
            replication_lag_threshold: self.entries_kept + self.snapshot_entries,
            purge_batch_size: 256,
            max_payload_entries: APPEND_ENTRIES_MAX,
            install_snapshot_timeout: 60_000,
            ..Config::default()
        }
    }
}
