//! What clients asked and were told, and what hosts applied: the two records that are held against each other.

use std::collections::BTreeMap;

/// Virtual time, in nanoseconds.
pub(crate) type Nanos = u64;
/// A place in the log, which is also a revision of the store.
pub(crate) type Index = u64;

/// Which attempt-safe operation: the session and the sequence in it. Attempts of one operation share it.
pub(crate) type OperationId = (u64, u64);

/// What a client asks, and what stands in the log for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    /// Sets a key, perhaps for as long as a lease lives.
    Put { key: String, value: String, lease: Option<u64> },
    /// Removes a key.
    Delete { key: String },
    /// Looks, and changes all of one list or all of the other.
    Transaction { compares: Vec<Compare>, then: Vec<Change>, otherwise: Vec<Change> },
    /// Grants a lease; its id is where the grant stands in the log.
    Grant,
    /// Ends leases with all their keys: given back by a client, or found expired by the leader.
    End { leases: Vec<u64> },
    /// Takes a lock, or waits for it in line.
    Lock { name: String, lease: u64 },
    /// Gives a lock up, or leaves the line.
    Unlock { name: String, lease: u64 },
    /// Replaces all that a host exports.
    Publish { host: String, exports: BTreeMap<String, String> },
    /// Reads every key that begins so, linearizably or as this host has it.
    Read { prefix: String, linearizable: bool },
    /// Stands in the log and is no business of the model, as long as it changes none of the keys it knows.
    Other,
}

/// A look of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Compare {
    /// The key has this value, or is absent.
    Value { key: String, is: Option<String> },
    /// The key was last changed here; 0 if it is absent.
    Modified { key: String, at: Index },
}

/// A change by a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Sets a key.
    Put { key: String, value: String },
    /// Removes a key.
    Delete { key: String },
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Done; there was nothing to say.
    Done,
    /// How many keys were there to delete.
    Deleted(u64),
    /// Whether the looks of a transaction held.
    Held(bool),
    /// The lease that was granted.
    Leased(u64),
    /// The lock is the caller's, under this fencing revision, or he waits for it.
    Locked(Option<u64>),
    /// The session that was opened.
    Opened(u64),
    /// What was read.
    Read(BTreeMap<String, Found>),
    /// The store said no, the same way everywhere, and nothing was changed.
    Refused(String),
}

/// A key that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its value.
    pub(crate) value: String,
    /// Where it was last set.
    pub(crate) modified: Index,
    /// How often it was set since it came into being.
    pub(crate) version: u64,
}

/// One operation of a client, from the first attempt to the last word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    /// Who asked.
    pub(crate) client: usize,
    /// Under which number; reads have none.
    pub(crate) id: Option<OperationId>,
    /// When.
    pub(crate) invoked: Nanos,
    /// What.
    pub(crate) call: Call,
    /// What came of it.
    pub(crate) end: End,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// With an answer, which names the place in the log it is true at.
    Known { returned: Nanos, index: Index, reply: Reply },
    /// It was never sent anywhere, or refused before it could reach the log.
    Never,
    /// Nobody knows: it may have happened once, at any time since, or not at all.
    Unknown,
}

/// An entry of the log as the hosts that applied it agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where.
    pub(crate) index: Index,
    /// Whose.
    pub(crate) id: Option<OperationId>,
    /// What.
    pub(crate) call: Call,
    /// What the hosts answered.
    pub(crate) reply: Reply,
}
