//! What one seed draws: how large the group is, what may fail and how often, how the disks and the network are, and
//! what clients do. Half of the kinds of faults are off in half of the seeds: a fault that is always on hides what is
//! only seen without it (swarm testing, reliability.md §5.4).

#![allow(dead_code, reason = "two test programs, each uses its part")]

use std::time::Duration;

/// Repeatable chance: SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Another one, that this one's further use does not change.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// At least `from` and less than `to`.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from)
    }

    /// Less than `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("less than a usize")
    }

    /// True that often, in a hundred.
    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of them.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// From `from` up to `to` milliseconds.
    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(self.between(from * 1_000, to * 1_000))
    }
}

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A process dies at any await, its disk loses what was not synced; it starts again.
    Crash,
    /// So do all of them at once.
    CrashAll,
    /// A process is stopped and goes on later, as by SIGSTOP.
    Pause,
    /// Two groups that do not hear each other.
    Halves,
    /// One that can be heard and hears nothing, or the other way round.
    OneWay,
    /// The leader and nobody else.
    LeaderAlone,
    /// Two groups with one in both.
    Bridge,
    /// Messages are lost.
    Loss,
    /// Messages take long, and overtake each other.
    Delay,
    /// Messages come twice.
    Duplicates,
    /// Syncs take long.
    SlowSync,
    /// A sync fails, and what it should have written is gone.
    FailedSync,
    /// No space is left for a while.
    Full,
    /// A bit is another one after a restart.
    BitFlip,
    /// The log is gone after a restart, the identity is not.
    LostLog,
    /// Everything is gone after a restart.
    LostAll,
    /// Yesterday's disk is put back.
    OldDisk,
    /// Another host joins.
    Join,
    /// A host leaves for good.
    Leave,
    /// The ideal number of masters is changed.
    Resize,
    /// Masters are away, and then fewer are wished for.
    Exodus,
    /// The leader hands over.
    Transfer,
    /// A snapshot is made and the log is purged.
    Purge,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 23] = [
        Self::Crash,
        Self::CrashAll,
        Self::Pause,
        Self::Halves,
        Self::OneWay,
        Self::LeaderAlone,
        Self::Bridge,
        Self::Loss,
        Self::Delay,
        Self::Duplicates,
        Self::SlowSync,
        Self::FailedSync,
        Self::Full,
        Self::BitFlip,
        Self::LostLog,
        Self::LostAll,
        Self::OldDisk,
        Self::Join,
        Self::Leave,
        Self::Resize,
        Self::Exodus,
        Self::Transfer,
        Self::Purge,
    ];

    /// How often it is drawn beside others: destructive ones seldom, or nothing is left to destroy.
    const fn weight(self) -> usize {
        match self {
            Self::Crash => 8,
            Self::CrashAll | Self::FailedSync | Self::LostLog | Self::Transfer | Self::Purge => 3,
            Self::Full | Self::BitFlip | Self::LostAll | Self::OldDisk | Self::Join | Self::Leave | Self::Resize => 2,
            _ => 4,
        }
    }
}

/// What clients do, as weights.
#[derive(Debug, Clone)]
pub(crate) struct Mix {
    pub(crate) put: usize,
    pub(crate) swap: usize,
    pub(crate) delete: usize,
    pub(crate) transaction: usize,
    pub(crate) lease: usize,
    pub(crate) lock: usize,
    pub(crate) publish: usize,
    pub(crate) read: usize,
    pub(crate) read_local: usize,
}

/// All that a seed decides at once. What happens when is drawn on the way.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Which one.
    pub(crate) seed: u64,
    /// Hosts at the beginning.
    pub(crate) hosts: usize,
    /// The ideal number of masters.
    pub(crate) ideal: usize,
    /// Clients that write and read.
    pub(crate) clients: usize,
    /// Those that watch.
    pub(crate) watchers: usize,
    /// Keys that each are touched alone.
    pub(crate) keys: usize,
    /// What clients do.
    pub(crate) mix: Mix,
    /// What fails, each as often as it is in here.
    pub(crate) faults: Vec<Fault>,
    /// How many faults.
    pub(crate) fault_count: usize,
    /// Between one fault and the next, at most.
    pub(crate) fault_gap_max: Duration,
    /// How long one lasts, at most.
    pub(crate) fault_length_max: Duration,
    /// Hops take this long, and up to twice as long.
    pub(crate) hop: Duration,
    /// Syncs take up to this long.
    pub(crate) sync_max: Duration,
    /// Entries between snapshots.
    pub(crate) snapshot_entries: u64,
    /// Entries kept behind a snapshot.
    pub(crate) kept_entries: u64,
    /// Between two operations of a client, at most; and how many it does at that pace before it slows down.
    pub(crate) pause_max: Duration,
    pub(crate) hurry: usize,
    /// Bytes of values, at most.
    pub(crate) value_bytes_max: usize,
    /// Events that the store remembers.
    pub(crate) history_events: usize,
    /// Hosts are whole nodes, and between two edits of what they export are at most so long.
    pub(crate) edits: Option<Duration>,
}

impl Plan {
    /// Draws one.
    pub(crate) fn of(seed: u64) -> Self {
        let mut chance = Chance::of(seed);
        let hosts = chance.pick(&[1, 3, 3, 3, 4, 5, 5, 6, 7]);
        let few = chance.percent(50);
        let on = |chance: &mut Chance, _: &Fault| !few || chance.percent(40);
        let mut faults: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| on(&mut chance, fault)).collect();
        if faults.is_empty() {
            faults.push(Fault::Crash);
        }
        let faults = faults.into_iter().flat_map(|fault| vec![fault; fault.weight()]).collect();
        let mut weight = |on: usize, most: u64| {
            let drawn = usize::try_from(chance.between(1, most)).expect("small");
            if chance.percent(on) { drawn } else { 0 }
        };
        let mix = Mix {
            put: 1 + weight(100, 8),
            swap: weight(80, 5),
            delete: weight(80, 3),
            transaction: weight(70, 4),
            lease: weight(60, 3),
            lock: weight(50, 3),
            publish: weight(50, 3),
            read: 1 + weight(100, 6),
            read_local: weight(70, 3),
        };
        Self {
            seed,
            hosts,
            ideal: chance.pick(&[1, 3, 3, 5, 5, 7]),
            clients: 1 + chance.below(5),
            watchers: chance.below(5),
            keys: 1 + chance.below(10),
            mix,
            faults,
            fault_count: 20 + chance.below(10),
            fault_gap_max: chance.millis(300, 3_000),
            fault_length_max: chance.millis(200, 6_000),
            hop: Duration::from_micros(chance.pick(&[50, 200, 1_000, 5_000, 15_000])),
            sync_max: Duration::from_micros(chance.pick(&[100, 1_000, 5_000, 20_000])),
            snapshot_entries: chance.pick(&[20, 60, 200, 5_000]),
            kept_entries: chance.pick(&[0, 5, 50, 1_000]),
            pause_max: Duration::from_millis(chance.pick(&[4, 40, 150, 400, 1_000])),
            hurry: 150 + chance.below(300),
            value_bytes_max: chance.pick(&[8, 64, 600, 6_000]),
            history_events: chance.pick(&[16, 100, 65_536]),
            edits: None,
        }
    }

    /// Draws one in which hosts are whole nodes: there is less of everything else, for them to be many.
    pub(crate) fn whole(seed: u64) -> Self {
        let mut chance = Chance::of(seed ^ 0x0a11);
        let plan = Self::of(seed);
        Self {
            clients: chance.below(3),
            watchers: 0,
            hurry: 60,
            pause_max: Duration::from_millis(chance.pick(&[150, 500, 1_000])),
            value_bytes_max: 64,
            fault_count: 10 + chance.below(8),
            edits: Some(Duration::from_millis(chance.pick(&[60, 300, 1_000, 3_000]))),
            ..plan
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_draws_the_same_each_time() {
        for seed in 0..50 {
            assert_eq!(format!("{:?}", Plan::of(seed)), format!("{:?}", Plan::of(seed)));
        }
    }

    #[test]
    fn seeds_differ_and_every_kind_of_fault_comes_up() {
        let plans: Vec<_> = (0..200).map(Plan::of).collect();
        let kinds: BTreeSet<_> = plans.iter().flat_map(|plan| plan.faults.iter().copied()).collect();
        assert_eq!(kinds.len(), Fault::ALL.len());
        let hosts: BTreeSet<_> = plans.iter().map(|plan| plan.hosts).collect();
        assert!(hosts.contains(&1) && hosts.contains(&7));
        let few = plans.iter().filter(|plan| BTreeSet::from_iter(&plan.faults).len() < 15).count();
        assert!((50..150).contains(&few), "{few} of 200 leave most kinds off");
        assert!(plans.iter().all(|plan| plan.fault_count >= 20));
    }
}
