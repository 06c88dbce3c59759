//! What must hold at every moment, whatever fails: one file each, with where it comes from. They are fed what is
//! sighted as it happens, so that a violation is said at the moment it comes to light.

pub(crate) mod applied_alike;
pub(crate) mod committed_is_kept;
pub(crate) mod live_quorum;
pub(crate) mod one_incarnation_an_id;
pub(crate) mod one_leader_a_term;
pub(crate) mod one_step_at_a_time;
pub(crate) mod promoted_are_caught_up;
pub(crate) mod votes_stand;

use std::collections::{BTreeMap, BTreeSet};

use super::Verdict;
use super::history::Index;

/// Who somebody is in the log.
pub(crate) type Id = u64;
/// A term.
pub(crate) type Term = u64;

/// Something that was seen from outside, where no host could hide it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sighting {
    /// Somebody says that he leads, with a log up to here if that was seen too.
    Leads { id: Id, term: Term, last: Option<Index> },
    /// Somebody gave his vote to another one: this answer left his host.
    Granted { voter: Id, term: Term, candidate: Id },
    /// Somebody speaks under an id; perhaps in a term of his own: as a candidate, or from what he found on his disk.
    Speaks { id: Id, incarnation: u128, term: Option<Term> },
    /// A host applied an entry; hashes of it and of what it answered. A life is one start of the process.
    Applied { host: usize, life: u64, index: Index, entry: u64, outcome: u64 },
    /// A host took over a snapshot up to here.
    Installed { host: usize, life: u64, index: Index },
    /// The state of a host after the entry at this index, or with a snapshot up to it.
    State { host: usize, index: Index, digest: u64 },
    /// A leader has decided on a change of who votes.
    Decided(Step),
    /// The change that it had decided on last has ended, one way or the other.
    Ended { leader: Id },
    /// A membership stands in the log behind another one: the sets of voters of both.
    Membership { index: Index, old: Vec<BTreeSet<Id>>, new: Vec<BTreeSet<Id>> },
}

/// A change of who votes, with what only the world knows about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// Who has decided.
    pub(crate) leader: Id,
    /// Sets of voters before: two if a change was left half done.
    pub(crate) old: Vec<BTreeSet<Id>>,
    /// Who is to vote.
    pub(crate) new: BTreeSet<Id>,
    /// Who of all runs and is reached by the leader, or was until a moment ago.
    pub(crate) alive: BTreeSet<Id>,
    /// How many entries the logs of those who are to vote, and do not yet, are behind; of those that run.
    pub(crate) behind: BTreeMap<Id, u64>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Invariants {
    one_leader_a_term: one_leader_a_term::OneLeaderATerm,
    votes_stand: votes_stand::VotesStand,
    applied_alike: applied_alike::AppliedAlike,
    committed_is_kept: committed_is_kept::CommittedIsKept,
    one_incarnation_an_id: one_incarnation_an_id::OneIncarnationAnId,
    live_quorum: live_quorum::LiveQuorum,
    one_step_at_a_time: one_step_at_a_time::OneStepAtATime,
    promoted_are_caught_up: promoted_are_caught_up::PromotedAreCaughtUp,
}

impl Invariants {
    /// Takes in what was sighted.
    pub(crate) fn see(&mut self, sighting: &Sighting) -> Verdict {
        self.one_leader_a_term.see(sighting)?;
        self.votes_stand.see(sighting)?;
        self.applied_alike.see(sighting)?;
        self.committed_is_kept.see(sighting)?;
        self.one_incarnation_an_id.see(sighting)?;
        self.live_quorum.see(sighting)?;
        self.one_step_at_a_time.see(sighting)?;
        self.promoted_are_caught_up.see(sighting)
    }
}
