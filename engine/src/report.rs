//! What the engine tells the outside: what happened to a vertex, and how each stands.

use std::time::Duration;

use crate::clock::Moment;
use crate::id::Id;
use crate::resource::Cause;

/// Something that happened to one vertex.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Which vertex.
    pub id: Id,
    /// When.
    pub at: Moment,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// Repaired.
    Changed {
        /// Why it was looked at.
        cause: Cause,
        /// What was wrong.
        drift: String,
        /// What was done.
        deed: String,
        /// From the event that told of it to the end of the repair, where an event did.
        since_event: Option<Duration>,
        /// How long the repair took.
        took: Duration,
    },
    /// Refreshed because of a notify edge.
    Refreshed {
        /// What was done.
        deed: String,
    },
    /// Would be repaired, but may not be (`noop`).
    WouldChange {
        /// Why it was looked at.
        cause: Cause,
        /// What is wrong.
        drift: String,
    },
    /// A watch, check, apply or refresh failed.
    Failed {
        /// What went wrong.
        fault: String,
        /// When it will be tried again by itself; `None`: retries are used up, and it is *failed* now.
        again: Option<Duration>,
    },
    /// A failed vertex is as wanted again, without anything having been changed.
    Recovered,
    /// Somebody else keeps changing it: repairs back off.
    Contested,
    /// Contested no more.
    Settled,
}

/// How a vertex stands, for status, progress and pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Not looked at yet: predecessors are not done, or what it cannot be looked at without is not there.
    Waiting,
    /// Being looked at, repaired or refreshed, or about to be.
    Busy,
    /// Failed, and will be tried again by itself soon.
    Retrying,
    /// As wanted, and nothing had to be changed since it entered.
    Clean,
    /// As wanted, after changes.
    Changed,
    /// Would be changed, but may not be.
    WouldChange,
    /// Somebody else keeps changing it.
    Contested,
    /// Retries used up.
    Failed,
    /// Waits for a predecessor that failed, directly or not.
    Held,
}

impl Standing {
    /// All of them, in the order of display.
    pub const ALL: [Self; 9] = [
        Self::Failed,
        Self::Held,
        Self::Contested,
        Self::Retrying,
        Self::Busy,
        Self::Waiting,
        Self::WouldChange,
        Self::Changed,
        Self::Clean,
    ];

    /// One word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Busy => "busy",
            Self::Retrying => "retrying",
            Self::Clean => "clean",
            Self::Changed => "changed",
            Self::WouldChange => "would change",
            Self::Contested => "contested",
            Self::Failed => "failed",
            Self::Held => "held back",
        }
    }
}

/// How one vertex stands.
#[derive(Debug, Clone)]
pub struct Stand {
    /// Which vertex.
    pub id: Id,
    /// How it stands.
    pub standing: Standing,
    /// Since when it is busy, if it is and has started.
    pub running_since: Option<Moment>,
    /// Predecessors that are not clean: the first few, if it waits or is held back.
    pub waits_for: Vec<Id>,
    /// What it waits for that is no predecessor, in words.
    pub awaits: Option<String>,
    /// The last fault, while it is failed or retrying.
    pub fault: Option<String>,
    /// Repairs and refreshes since it entered.
    pub changes: u64,
}
