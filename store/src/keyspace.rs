//! The state, and how commands change it.
//!
//! [`Keyspace::apply`] is pure and total: the same commands at the same indices give the same state, outcomes and
//! events on every host. Time comes in with the commands. A command is checked in full before it changes anything, so
//! one that is refused did nothing; what it would do to others than its author is held down by the limits.
//!
//! What can be watched lies in one ordered map, typed records too. Beside it lie leases, sessions, staged exports and
//! the hosts' rates. All of that is in snapshots. What is derived from it is not, and can be derived again.

mod authority;
mod derived;
mod exports;
mod leases;
mod locks;
mod policy;
mod quota;
mod read;
mod registry;
mod sessions;
mod tokens;
mod write;

use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::Bytes;
use mgmt_consensus::machine::Unknown;
use mgmt_consensus::mutant::{self, Mutant};

use self::derived::Derived;
pub(crate) use self::exports::Staged;
pub use self::leases::Lease;
pub(crate) use self::quota::Bucket;
pub(crate) use self::sessions::Session;
use crate::command::{Body, Command, DecodeError, Op, Origin, Request};
use crate::event::{Entry, Event};
use crate::host::HostName;
use crate::key::Key;
use crate::outcome::{Done, Outcome, Refusal, Role};
use crate::pages::Pages;
use crate::revision::Revision;

/// The whole state.
#[derive(Debug, Default)]
pub struct Keyspace {
    tables: Tables,
    derived: Derived,
}

/// What is replicated. Cheap to clone: a snapshot is made of a clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tables {
    /// The index of the last command.
    pub(crate) revision: Revision,
    /// The highest of the leaders' times.
    pub(crate) now_ms: u64,
    /// When what is too old was last looked for.
    pub(crate) swept_ms: u64,
    /// What can be read and watched.
    pub(crate) keys: Pages<Key, Entry>,
    /// Leases by their ids.
    pub(crate) leases: Pages<u64, Lease>,
    /// Sessions by their ids.
    pub(crate) sessions: Pages<u64, Session>,
    /// Exports that wait for their flip.
    pub(crate) staged: BTreeMap<HostName, Staged>,
    /// What hosts may propose, of those who proposed lately.
    pub(crate) rates: BTreeMap<HostName, Bucket>,
}

impl Keyspace {
    /// Applies a command as it is in the log.
    ///
    /// # Errors
    /// A command of a version that this program does not know, or an index that was there already, stops the replica.
    pub fn apply_bytes(&mut self, index: u64, command: &[u8], events: &mut Vec<Event>) -> Result<Bytes, Unknown> {
        if index <= self.tables.revision.0 {
            let why = format!("revision {} is there already", self.tables.revision);
            return Err(Unknown { index, why });
        }
        let outcome = match Command::decode(command) {
            Ok(command) => self.apply(Revision(index), command, events),
            Err(DecodeError::Unknown(why)) => return Err(Unknown { index, why }),
            Err(DecodeError::Refused(refusal)) => {
                self.tables.revision = Revision(index);
                Outcome { revision: Revision(index), result: Err(refusal) }
            }
        };
        Ok(outcome.encode())
    }

    /// Applies a command. Revisions only grow.
    pub fn apply(&mut self, revision: Revision, command: Command, events: &mut Vec<Event>) -> Outcome {
        let Command { origin, at_ms, request } = command;
        self.tables.revision = revision;
        let at_ms = if mutant::is(Mutant::ApplyReadsClock) { at_ms + drift() } else { at_ms };
        self.tables.now_ms = self.tables.now_ms.max(at_ms);
        self.sweep();
        if let Some(ticket) = request.ticket {
            match self.known(&origin.host, ticket) {
                Ok(None) => {}
                Ok(Some(outcome)) => return outcome,
                Err(refusal) => return Outcome { revision, result: Err(refusal) },
            }
        }
        let result = self.admit(&origin, &request.body).and_then(|role| {
            let mut turn = Turn { tables: &mut self.tables, derived: &mut self.derived, events, origin: &origin, role };
            turn.run(request.body)
        });
        let outcome = Outcome { revision, result };
        if let Some(ticket) = request.ticket {
            self.remember(ticket, &outcome);
        }
        outcome
    }

    /// What a leader refuses without proposing it, so that whoever may not, or not so often, does not fill the log. It
    /// says nothing of a command that was sent before: that one may be in the log already, and may yet be applied.
    #[must_use]
    pub fn foresees(&self, origin: &Origin, at_ms: u64, request: &Request) -> Option<Refusal> {
        if request.ticket.is_some_and(|ticket| !matches!(self.known(&origin.host, ticket), Ok(None))) {
            return None;
        }
        let role = match self.derived.role(origin) {
            Ok(role) => role,
            Err(refusal) => return Some(refusal),
        };
        let limited = role < Role::Admin && !authority::keeps_the_mesh(&request.body);
        let busy = if limited { self.share(&origin.host, at_ms.max(self.tables.now_ms)).err() } else { None };
        busy.or_else(|| authority::may_use(role, origin, &request.body).err())
    }

    /// Who may speak at all, in which role, and not too often.
    fn admit(&mut self, origin: &Origin, body: &Body) -> Result<Role, Refusal> {
        let role = self.derived.role(origin)?;
        if role < Role::Admin && !authority::keeps_the_mesh(body) {
            self.spend(&origin.host)?;
        }
        Ok(role)
    }
}

/// One command while it is applied.
struct Turn<'a> {
    tables: &'a mut Tables,
    derived: &'a mut Derived,
    events: &'a mut Vec<Event>,
    origin: &'a Origin,
    /// What the origin may do, by certificate and registry.
    role: Role,
}

impl Turn<'_> {
    fn run(&mut self, body: Body) -> Result<Done, Refusal> {
        authority::may_use(self.role, self.origin, &body)?;
        match body {
            Body::Put { key, value, lease } => self.put(key, value, lease),
            Body::Delete { key } => self.delete(Op::Delete { key }),
            Body::DeletePrefix { prefix } => self.delete(Op::DeletePrefix { prefix }),
            Body::Txn(txn) => self.txn(txn),
            Body::LeaseGrant { ttl_s } => self.lease_grant(ttl_s),
            Body::LeaseRevoke { lease } => self.lease_revoke(lease),
            Body::LeaseExpire { leases } => Ok(self.lease_expire(&leases)),
            Body::Acquire { lock, lease, count, wait } => self.acquire(&lock, lease, count, wait),
            Body::Release { lock, lease } => self.release(&lock, lease),
            Body::ExportStage { generation, changes } => self.export_stage(generation, changes),
            Body::ExportFlip { generation, base, staged, changes } => {
                self.export_flip(generation, base, staged, changes)
            }
            Body::ExportForget { host } => self.export_forget(&host),
            Body::PeerAdmit { host, peer, replace } => self.peer_admit(&host, peer, replace),
            Body::PeerUpdate { host, addresses, zone, versions, key_hash } => {
                self.peer_update(&host, addresses, zone, versions, key_hash)
            }
            Body::PeerRemove { host } => self.peer_remove(&host),
            Body::TokenCreate { id, token } => self.token_create(&id, token),
            Body::TokenConsume { id, host, used } => self.token_consume(&id, &host, used),
            Body::TokenRevoke { id } => self.token_revoke(&id),
            Body::IdealSize { masters } => self.ideal_size(masters),
            Body::Allow { hosts, prefix } => self.allow(&hosts, &prefix),
            Body::Disallow { hosts, prefix } => self.disallow(&hosts, &prefix),
            Body::FeatureLevel { level } => self.feature_level(level),
            Body::SessionOpen => self.session_open(),
            Body::SessionClose { session } => self.session_close(session),
        }
    }

    fn revision(&self) -> Revision {
        self.tables.revision
    }
}

/// A clock that no two readers agree on, for [`Mutant::ApplyReadsClock`].
fn drift() -> u64 {
    thread_local! {
        static READ: Cell<u64> = const { Cell::new(0) };
    }
    READ.replace(READ.get() + 1)
}
