//! Who may hand over what, and whether the key is needed here. No clock, no disk, no network.

use std::time::Duration;

use mgmt_consensus::replica::Standing;
use mgmt_consensus::types::Member;

use crate::mesh::messages::hand::Hand;

/// What is known of who hands something over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct May {
    /// He votes by the membership this host goes by.
    votes: bool,
    /// He votes by one that is committed: nothing can take that back but another change.
    votes_for_sure: bool,
}

impl May {
    pub(super) fn of(standing: &Standing, from: &Member) -> Self {
        let votes = |membership: &mgmt_consensus::types::StoredMembership| {
            let membership = membership.membership();
            membership.voter_ids().any(|id| membership.get_node(&id) == Some(from))
        };
        Self { votes: votes(&standing.membership), votes_for_sure: votes(&standing.committed_membership) }
    }

    #[cfg(test)]
    pub(super) fn new(votes: bool, votes_for_sure: bool) -> Self {
        Self { votes, votes_for_sure }
    }
}

/// Whether he may.
pub(super) fn may(who: &May, hand: &Hand) -> Result<(), String> {
    match hand {
        // The transport and the registry have said who he is, and that is all it takes.
        Hand::Renew { .. } | Hand::Authorities => Ok(()),
        // What his role lets him do is looked up where the registry is.
        Hand::Rotate => Ok(()),
        Hand::Authority { .. } if who.votes => Ok(()),
        Hand::Authority { .. } => Err("only a master hands over the authority's key".to_owned()),
        Hand::Fetch if who.votes && who.votes_for_sure => Ok(()),
        Hand::Fetch => Err("only a master is given the authority's key".to_owned()),
    }
}

/// What is to be done about the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// All is as it should be.
    Nothing,
    /// Ask another master for it.
    Fetch,
    /// Delete it.
    Forget,
}

/// Since when the key is not needed.
#[derive(Debug)]
pub(super) struct Needs {
    patience: Duration,
    idle_since_ms: Option<u64>,
}

impl Needs {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, idle_since_ms: None }
    }

    /// Looks: whether this host votes, whether the key is here, and what the time is.
    pub(super) fn look(&mut self, votes: bool, has: bool, now_ms: u64) -> Deed {
        if votes || !has {
            self.idle_since_ms = None;
            return if votes && !has { Deed::Fetch } else { Deed::Nothing };
        }
        let since = *self.idle_since_ms.get_or_insert(now_ms);
        if Duration::from_millis(now_ms.saturating_sub(since)) >= self.patience { Deed::Forget } else { Deed::Nothing }
    }
}
