//! What became of a command: the same on every host, and for a command that is sent again the same as the first time.

pub use mgmt_consensus::authority::Role;

use crate::event::LeaseId;
use crate::revision::Revision;

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The revision it was applied at. Of a command that was sent again: at which it was applied the first time.
    pub revision: Revision,
    /// What it did, or why nothing.
    pub result: Result<Done, Refusal>,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// What it says, and there is nothing else to tell.
    Applied,
    /// Everything was so already. Nothing changed, and no event tells of it.
    Unchanged,
    /// A key was written so often by now.
    Put {
        /// See [`Entry::version`](crate::event::Entry::version).
        version: u64,
    },
    /// So many keys were deleted.
    Deleted {
        /// How many.
        count: u32,
    },
    /// A transaction was carried out.
    Txn {
        /// Whether all comparisons held, so that the first list was carried out and not the second.
        held: bool,
        /// How many keys were deleted.
        deleted: u32,
    },
    /// A lease was granted.
    Leased {
        /// Its id.
        lease: LeaseId,
        /// How long it lives without being renewed. May be more or less than what was wished for.
        ttl_s: u32,
    },
    /// So many leases came to their end; those at the end of a very long list must be named again.
    Expired {
        /// How many of the list were looked at.
        through: u32,
    },
    /// The lock is held.
    Held {
        /// Grows with each holder: what is done under the lock carries it, so that a late holder can be refused.
        fence: Revision,
    },
    /// The lock is held by others. Watch its key.
    Waiting {
        /// How many are before.
        before: u32,
    },
    /// Changes to exports wait for their flip.
    Staged {
        /// How many by now.
        count: u32,
    },
    /// A token was used, for this.
    TokenUsed {
        /// What it makes of the host.
        role: Role,
        /// Whether the host may take over a name that is taken.
        replace: bool,
    },
    /// A session was opened.
    Session {
        /// Its id.
        session: u64,
    },
}

/// Enumerations of one byte: the numbers are stored and never change.
macro_rules! numbered {
    ($(#[$doc:meta])* $Name:ident { $($(#[$inner:meta])* $Variant:ident = $number:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $Name { $($(#[$inner])* $Variant = $number,)* }

        impl $Name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$Variant,)*];

            /// As it is stored.
            #[must_use]
            pub const fn number(self) -> u8 {
                self as u8
            }

            /// From how it is stored.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$Variant),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$Variant => $text,)* })
            }
        }
    };
}
pub(crate) use numbered;

numbered! {
    /// Why somebody may not.
    Denied {
        /// No peer of the registry, or not this peer under this name.
        Member = 1 "this peer is not in the registry",
        /// It takes another role.
        Role = 2 "this role may not do that",
        /// It belongs to another host.
        Owner = 3 "it belongs to another host",
        /// No rule allows this host the key.
        Prefix = 4 "no rule allows this host this key",
        /// The space is written by commands of its own.
        Space = 5 "this part of the store is not written by key",
    }
}

numbered! {
    /// A quota.
    Quota {
        /// [`EXPORTS_MAX`](crate::limits::EXPORTS_MAX)
        Exports = 1 "exports of this host",
        /// [`EXPORT_BYTES_MAX`](crate::limits::EXPORT_BYTES_MAX)
        ExportBytes = 2 "bytes of exports of this host",
        /// [`LEASES_MAX`](crate::limits::LEASES_MAX)
        Leases = 3 "leases",
        /// [`LEASE_KEYS_MAX`](crate::limits::LEASE_KEYS_MAX)
        LeaseKeys = 4 "keys of this lease",
        /// [`LOCK_WAITERS_MAX`](crate::limits::LOCK_WAITERS_MAX)
        Waiters = 5 "waiters for this lock",
        /// [`SESSIONS_MAX`](crate::limits::SESSIONS_MAX)
        Sessions = 6 "sessions",
        /// [`PEERS_MAX`](crate::limits::PEERS_MAX)
        Peers = 7 "hosts",
        /// [`TOKENS_MAX`](crate::limits::TOKENS_MAX)
        Tokens = 8 "tokens",
        /// [`RULES_MAX`](crate::limits::RULES_MAX)
        Rules = 9 "rules",
    }
}

numbered! {
    /// What is not there.
    Missing {
        /// A lease, or not any more.
        Lease = 1 "lease",
        /// A lock, or this lease has no part in it.
        Lock = 2 "lock",
        /// A host in the registry.
        Peer = 3 "host",
        /// A token.
        Token = 4 "token",
        /// A rule.
        Rule = 5 "rule",
        /// A session, or not any more: whether the command was applied is not known to the store.
        Session = 6 "session",
        /// Changes of exports under this generation.
        Staged = 7 "staged exports",
        /// Exports of this host.
        Exports = 8 "exports",
    }
}

numbered! {
    /// What stands against it.
    Clash {
        /// The host's name belongs to another peer.
        HostTaken = 1 "the host name is taken by another peer",
        /// The peer is known under another name.
        PeerTaken = 2 "the peer is known under another host name",
        /// Without it nobody could administer the mesh.
        LastAdmin = 3 "the last admin stays",
        /// There is a token of this name.
        TokenTaken = 4 "there is such a token",
        /// The token was used so often as it may be, or meanwhile by somebody else.
        TokenUsed = 5 "the token is used up, or was used meanwhile",
        /// The token is for another host.
        TokenHost = 6 "the token is for another host",
        /// The token's time is over.
        TokenExpired = 7 "the token has expired",
        /// Somebody in the mesh does not understand that level, or it would go down.
        FeatureLevel = 8 "the feature level does not fit those in the mesh",
        /// The lock is held, and waiting was not wished for.
        Held = 9 "the lock is held",
        /// The semaphore is in use with another count.
        LockCount = 10 "the semaphore is in use with another count",
        /// The exports are others than those that the change began from.
        Exports = 11 "the exports have changed meanwhile",
        /// A newer generation is there.
        Generation = 12 "a newer generation of the exports is there",
        /// A later command of the session was applied.
        Sequence = 13 "a later command of this session was applied",
    }
}

numbered! {
    /// What is larger than its limit.
    Large {
        /// [`VALUE_BYTES_MAX`](crate::limits::VALUE_BYTES_MAX)
        Value = 1 "the value is too large",
        /// [`TXN_OPS_MAX`](crate::limits::TXN_OPS_MAX)
        Ops = 2 "too many operations at once",
        /// [`TXN_BYTES_MAX`](crate::limits::TXN_BYTES_MAX)
        Bytes = 3 "too many bytes at once",
        /// [`CHANGES_MAX`](crate::limits::CHANGES_MAX)
        Changes = 4 "too many keys at once",
        /// [`REQUEST_BYTES_MAX`](crate::limits::REQUEST_BYTES_MAX)
        Command = 5 "the command is too large",
    }
}

/// Why a command did nothing. It did nothing at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes say nothing that could be done.
    #[error("the command makes no sense")]
    Malformed,
    /// Whoever asked may not.
    #[error("not allowed: {0}")]
    NotAllowed(Denied),
    /// Something is larger than its limit.
    #[error("{0}")]
    TooLarge(Large),
    /// The owner has all that it may have.
    #[error("no more {0} allowed")]
    QuotaExceeded(Quota),
    /// What it speaks of is not there.
    #[error("no such {0}")]
    NotFound(Missing),
    /// The state is not as it would have to be.
    #[error("{0}")]
    Conflict(Clash),
    /// The host proposed too much in the last second.
    #[error("too many proposals of this host; the next in {wait_ms} ms")]
    Busy {
        /// When it may try again.
        wait_ms: u32,
    },
    /// The store is full: deleting is possible.
    #[error("the store is full")]
    NoSpace,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        assert!(Role::ALL.iter().all(|role| Role::from_number(role.number()) == Some(*role)));
        assert!(Clash::ALL.iter().all(|clash| Clash::from_number(clash.number()) == Some(*clash)));
        assert_eq!(Quota::from_number(0), None);
        assert_eq!(Quota::from_number(200), None);
    }
}
