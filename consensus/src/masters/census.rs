//! What the leader knows of the members at one moment. Plain data: ages instead of moments, so that a census can be
//! written down in a test and read by a person.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{Member, RaftId};

/// Everybody, as the leader sees them. All ages are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// Who looks: the leader.
    pub me: RaftId,
    /// Since when it leads.
    pub led_ms: u64,
    /// Since when it has not heard from a quorum, if it ever has.
    pub quorum_ack_ms: Option<u64>,
    /// Who votes: one set, or the old and the new one while they change.
    pub configs: Vec<BTreeSet<RaftId>>,
    /// The membership in force is committed, and so is an entry of this leader's own term.
    pub settled: bool,
    /// A change was proposed and has not ended.
    pub change_in_flight: bool,
    /// Since when the membership is as it is, as far as this leader has seen it.
    pub change_ms: u64,
    /// Since when this leader last tried to hand over.
    pub transfer_ms: Option<u64>,
    /// How many masters are wished for.
    pub ideal: usize,
    /// Everybody in the membership.
    pub seats: BTreeMap<RaftId, Seat>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Who it is.
    pub member: Member,
    /// Since when this leader knows of it.
    pub known_ms: u64,
    /// Since when nothing was heard from it.
    pub silent_ms: u64,
    /// Since when it is alive without a break, if it is.
    pub alive_ms: Option<u64>,
    /// Entries that it is behind the commit, if that is known.
    pub behind: Option<u64>,
    /// It was near enough, twice and some time apart, and always in between.
    pub caught_up: bool,
    /// How often it was down in the last hour.
    pub downs: usize,
    /// Since when its syncs are slow, if they are.
    pub slow_ms: Option<u64>,
    /// What it says of itself.
    pub profile: Profile,
}

/// What a member says of itself, or others have laid down for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// It may be a master: its certificate, its version and its kind (a batch run never is) allow it. While nobody
    /// knows, a learner stays one and a master too.
    pub eligible: Option<bool>,
    /// Somebody would like it to be one.
    pub prefer: bool,
    /// Where it stands, from the largest place to the smallest. Nothing known: a place of its own.
    pub zone: Vec<String>,
    /// It is about to leave, or was told to be no master.
    pub draining: bool,
    /// Its disk is nearly full.
    pub disk_low: bool,
    /// Its log is gone: this id stands for nobody any more.
    pub lost_data: bool,
    /// How long ninety-nine of a hundred of its syncs take at most.
    pub sync_p99_ms: u64,
    /// Since when it runs.
    pub uptime_ms: u64,
}

static NOBODY: BTreeSet<RaftId> = BTreeSet::new();

impl Census {
    /// Who votes; while that changes, who will.
    #[must_use]
    pub fn voters(&self) -> &BTreeSet<RaftId> {
        self.configs.last().unwrap_or(&NOBODY)
    }

    /// Whether it votes, in any set.
    #[must_use]
    pub fn votes(&self, id: RaftId) -> bool {
        self.configs.iter().any(|set| set.contains(&id))
    }

    /// Members that do not vote.
    pub fn learners(&self) -> impl Iterator<Item = (RaftId, &Seat)> {
        self.seats.iter().filter(|(id, _)| !self.votes(**id)).map(|(id, seat)| (*id, seat))
    }

    /// What people call it.
    #[must_use]
    pub fn name(&self, id: RaftId) -> String {
        self.seats.get(&id).map_or_else(|| format!("member {id}"), |seat| seat.member.host.clone())
    }

    /// What people call them, in a row.
    #[must_use]
    pub fn names<'a>(&self, ids: impl IntoIterator<Item = &'a RaftId>) -> String {
        let names: Vec<_> = ids.into_iter().map(|id| self.name(*id)).collect();
        match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
            Some((last, _)) => last.clone(),
            None => "nobody".to_owned(),
        }
    }
}
