//! One change of who votes, and why.

use std::collections::BTreeSet;
use std::fmt;

use super::census::Census;
use crate::types::RaftId;

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub deed: Deed,
    /// Who votes when it is done. Not changed by some deeds.
    pub voters: BTreeSet<RaftId>,
    /// Why, for people: a sentence without its full stop.
    pub why: String,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// A change that was left half done is ended.
    Finish,
    /// A master is exchanged for a learner, in one change.
    Replace {
        /// Who was one.
        leave: RaftId,
        /// Who becomes one.
        enter: RaftId,
    },
    /// Learners become masters.
    Grow {
        /// These.
        enter: BTreeSet<RaftId>,
    },
    /// Masters become learners.
    Shrink {
        /// These.
        leave: BTreeSet<RaftId>,
    },
    /// Another master is asked to lead.
    Transfer {
        /// This one.
        to: RaftId,
    },
    /// Learners are no longer members.
    RemoveLearners {
        /// These.
        leave: BTreeSet<RaftId>,
    },
    /// A master is exchanged for a learner that stands elsewhere, in one change.
    Spread {
        /// Who was one.
        leave: RaftId,
        /// Who becomes one.
        enter: RaftId,
    },
}

impl Deed {
    /// Whether it changes the membership. Only a transfer does not.
    #[must_use]
    pub const fn changes_membership(&self) -> bool {
        !matches!(self, Self::Transfer { .. })
    }
}

impl Step {
    /// The whole step as people read it.
    #[must_use]
    pub fn sentence(&self, census: &Census) -> String {
        let (name, names) = (|id: &RaftId| census.name(*id), |ids: &BTreeSet<RaftId>| census.names(ids));
        let deed = match &self.deed {
            Deed::Finish => format!("the masters become {}, as was begun", names(&self.voters)),
            Deed::Replace { leave, enter } | Deed::Spread { leave, enter } => {
                format!("{} becomes a master in place of {}", name(enter), name(leave))
            }
            Deed::Grow { enter } if enter.len() == 1 => format!("{} becomes a master", names(enter)),
            Deed::Grow { enter } => format!("{} become masters", names(enter)),
            Deed::Shrink { leave } if leave.len() == 1 => format!("{} becomes a learner", names(leave)),
            Deed::Shrink { leave } => format!("{} become learners", names(leave)),
            Deed::Transfer { to } => format!("{} is asked to lead", name(to)),
            Deed::RemoveLearners { leave } if leave.len() == 1 => format!("{} is no longer a member", names(leave)),
            Deed::RemoveLearners { leave } => format!("{} are no longer members", names(leave)),
        };
        format!("{deed}: {}", self.why)
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finish => "finish",
            Self::Replace { .. } => "replace",
            Self::Grow { .. } => "grow",
            Self::Shrink { .. } => "shrink",
            Self::Transfer { .. } => "transfer",
            Self::RemoveLearners { .. } => "remove learners",
            Self::Spread { .. } => "spread",
        })
    }
}
