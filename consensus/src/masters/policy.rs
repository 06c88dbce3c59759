//! The figures by which masters are chosen, each with its reason.

/// Thresholds. The program uses [`Policy::LAN`]; a simulation may be less patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How often the leader looks. Events make it look at once; this is for what no event tells, like silence.
    pub look_every_ms: u64,
    /// A leader that has not heard from a quorum for so long changes nothing: it may not be the leader any more.
    pub quorum_ack_ms_max: u64,
    /// Heard from within so long is alive. Ten heartbeats, since two busy cores must not look like a dead host.
    pub alive_ack_ms_max: u64,
    /// A leader that has not looked for so long was stopped itself, and takes nobody's silence for a fact.
    pub gap_ms_max: u64,
    /// Entries that one may be behind the commit and count as caught up. Absolute: nine tenths of an index in the
    /// millions would be a long way.
    pub lag_entries_max: u64,
    /// Two looks that far apart must both find it caught up, so that it keeps pace and was not only near once.
    pub caught_up_apart_ms: u64,
    /// With fewer masters than this, what is young is trusted, since one master alone is the greater risk.
    pub voters_few: usize,
    /// How long alive without a break, and how long led, with few masters. Three commands typed one after the other
    /// should make three masters while one still looks at the screen.
    pub stable_few_ms: u64,
    /// The same with enough of them.
    pub stable_ms: u64,
    /// Between two changes, with enough masters.
    pub pause_ms: u64,
    /// A master silent for so long is replaced. A reboot of 25 s moves nothing.
    pub failed_ms: u64,
    /// Silent for so long counts as having been down.
    pub down_ms: u64,
    /// Downs are remembered for so long.
    pub downs_remembered_ms: u64,
    /// A learner silent for so long is no longer replicated to. It comes back under another id.
    pub learner_dead_ms: u64,
    /// Learners removed in one change: all there may be.
    pub learners_removed_max: usize,
    /// Between the last change and removing learners, which is never urgent.
    pub removal_apart_ms: u64,
    /// Masters silent for so long, and nobody to take their places: then fewer masters.
    pub shrink_ms: u64,
    /// Nobody was silent for so long: then masters may move only to be spread better.
    pub spread_quiet_ms: u64,
    /// Between two such moves.
    pub spread_apart_ms: u64,
    /// Ninety-nine of a hundred syncs take no longer, or the disk is slow: as long as the longest election timeout.
    pub sync_p99_ms_max: u64,
    /// Slow for so long, and not for a moment.
    pub slow_ms: u64,
    /// Between two attempts to hand over: each stops the writes for a moment.
    pub transfer_apart_ms: u64,
}

impl Policy {
    /// What hosts on one local network get.
    pub const LAN: Self = Self {
        look_every_ms: 2_000,
        quorum_ack_ms_max: 1_000,
        alive_ack_ms_max: 1_000,
        gap_ms_max: 10_000,
        lag_entries_max: 64,
        caught_up_apart_ms: 1_000,
        voters_few: 3,
        stable_few_ms: 1_000,
        stable_ms: 10_000,
        pause_ms: 5_000,
        failed_ms: 30_000,
        down_ms: 10_000,
        downs_remembered_ms: 3_600_000,
        learner_dead_ms: 600_000,
        learners_removed_max: crate::limits::RAFT_MEMBERS_MAX,
        removal_apart_ms: 30_000,
        shrink_ms: 24 * 3_600_000,
        spread_quiet_ms: 600_000,
        spread_apart_ms: 60_000,
        sync_p99_ms_max: 500,
        slow_ms: 60_000,
        transfer_apart_ms: 10_000,
    };

    /// Which numbers of masters may be wished for. Even ones tolerate no more failures than the odd one below.
    pub const IDEALS: [usize; 4] = [1, 3, 5, 7];
    /// What is wished for if nobody said.
    pub const IDEAL: usize = 5;

    /// How long one must be alive without a break, and how long one must have led, where there are so many masters.
    #[must_use]
    pub const fn stable(&self, voters: usize) -> u64 {
        if voters < self.voters_few { self.stable_few_ms } else { self.stable_ms }
    }

    /// How long nothing must have changed, where there are so many masters.
    #[must_use]
    pub const fn pause(&self, voters: usize) -> u64 {
        if voters < self.voters_few { self.stable_few_ms } else { self.pause_ms }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::LAN
    }
}
