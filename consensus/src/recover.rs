//! A new group out of what one survivor has on its disk, for when no quorum of the old one will ever be back; and in the
//! same way a group that begins with a state from elsewhere.
//!
//! [`salvage`] reads a stopped peer's disk: its newest snapshot and its whole log behind that. Entries beyond what it
//! knows to be committed are applied too: a leader may have acknowledged them, and this is the last place where they are.
//! Some of them may have been acknowledged to nobody. What others had and this one had not is lost; nothing here can say
//! how much that is.
//!
//! [`begin`] writes a group of one onto an empty disk: a snapshot at a log index of its own choice and an empty log
//! behind it. Indices go on above everything that anybody of the old group can have seen, and so do ids, which are
//! indices: see [`above`]. Whoever starts on that disk goes on like after any restart.

use std::collections::{BTreeMap, BTreeSet};

use openraft::storage::{RaftLogReader as _, RaftLogStorage as _};
use openraft::vote::RaftLeaderId as _;

use crate::ground::Ground;
use crate::identity::{self, Identity, LoadError, SaveError, Stored};
use crate::limits::NUMBER_MAX;
use crate::log_store::{LogStore, OpenError, Options};
use crate::machine::{Frozen, Machine, Unknown};
use crate::snapshots::{Snapshots, Unusable};
use crate::types::{CommittedLeaderId, LeaderId, LogId, Member, Membership, Payload, SnapshotMeta};
use crate::types::{StoredMembership, Vote};

/// How far above what is known a new group begins. Others may have been further than the survivor, by what it had not
/// been sent: far less than this in any group that was alive.
pub const GAP: u64 = 1 << 20;

/// What a stopped peer has.
#[derive(Debug)]
pub struct Salvage<M> {
    /// Who it is.
    pub identity: Identity,
    /// Its state, everything in its log applied.
    pub machine: M,
    /// Up to where its snapshot went.
    pub snapshot: Option<LogId>,
    /// Up to where it knows that the log is committed.
    pub committed: Option<LogId>,
    /// The end of its log. What lies between the two may have been acknowledged or not.
    pub last: Option<LogId>,
    /// The last membership in it.
    pub membership: StoredMembership,
    /// The highest term it has seen.
    pub term: u64,
}

/// Why nothing can be made of a disk. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// Who it is cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It is nobody.
    #[error("there is no member of a cluster here: {0}")]
    Nobody(String),
    /// Its log.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// Its snapshots.
    #[error(transparent)]
    Snapshot(#[from] Unusable),
    /// A command that this program does not know.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// The disk.
    #[error("read the log: {0}")]
    Disk(#[from] std::io::Error),
    /// Its log and its snapshots do not meet.
    #[error("log entry {0} is missing")]
    Gap(u64),
}

/// Why a group cannot be begun on a disk.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// Who it is cannot be written down.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// The identity has no id, or cannot be a member.
    #[error("not a member: {0}")]
    Member(String),
    /// The disk.
    #[error("write the new log: {0}")]
    Disk(#[from] std::io::Error),
}

/// Reads what a stopped peer has. `machine` is empty. Nobody else may use the disk meanwhile.
///
/// # Errors
/// [`SalvageError`].
pub async fn salvage<G: Ground, M: Machine>(
    disk: G::Disk,
    options: Options,
    machine: M,
) -> Result<Salvage<M>, SalvageError> {
    let identity = match identity::load(&disk)? {
        Stored::Sound(identity) if identity.raft.is_some() => identity,
        Stored::Sound(_) => return Err(SalvageError::Nobody("it was never let in".to_owned())),
        Stored::Missing => return Err(SalvageError::Nobody(format!("there is no {}", identity::FILE))),
        Stored::Damaged(why) => return Err(SalvageError::Nobody(format!("{} is damaged: {why}", identity::FILE))),
    };
    let log = LogStore::<G>::open(disk.clone(), identity.incarnation, options).await?;
    let read = read(disk, identity, log.clone(), machine).await;
    if let Err(fault) = log.stop().await {
        tracing::warn!(%fault, "the log that was read has ended badly");
    }
    read
}

async fn read<G: Ground, M: Machine>(
    disk: G::Disk,
    identity: Identity,
    mut log: LogStore<G>,
    mut machine: M,
) -> Result<Salvage<M>, SalvageError> {
    let state = log.get_log_state().await?;
    let vote = log.read_vote().await?;
    let newest = Snapshots::<G>::new(disk).newest(state.last_purged_log_id.as_ref())?;
    let mut membership = StoredMembership::default();
    let mut applied = None;
    if let Some(newest) = &newest {
        applied = newest.meta().last_log_id;
        membership = newest.meta().last_membership.clone();
        machine.restore(index(applied.as_ref()), &mut newest.chunks())?;
    }
    let snapshot = applied;
    let end = state.last_log_id.map_or(0, |last| last.index + 1);
    // The snapshot may reach further than a log that was cut off behind it.
    let mut next = applied.map_or(0, |at| at.index + 1).max(state.last_purged_log_id.map_or(0, |at| at.index + 1));
    while next < end {
        let entries = log.limited_get_log_entries(next, end).await?;
        if entries.first().is_none_or(|entry| entry.log_id.index != next) {
            return Err(SalvageError::Gap(next));
        }
        for entry in entries {
            match entry.payload {
                Payload::Blank => {}
                Payload::Normal(command) => drop(machine.apply(entry.log_id.index, &command.0)?),
                Payload::Membership(of) => membership = StoredMembership::new(Some(entry.log_id), of),
            }
            next = entry.log_id.index + 1;
            applied = Some(entry.log_id);
        }
    }
    machine.settled(index(applied.as_ref()));
    let committed = log.read_committed().await?.max(snapshot);
    let terms = [vote.map(|vote| vote.leader_id.term), applied.map(|at| at.committed_leader_id().term)];
    let term = terms.into_iter().flatten().max().unwrap_or(0);
    let last = applied.max(state.last_log_id);
    Ok(Salvage { identity, machine, snapshot, committed, last, membership, term })
}

fn index(log_id: Option<&LogId>) -> u64 {
    log_id.map_or(0, |at| at.index)
}

/// The index at which a new group begins: above everything in what is left of the old one, and above what else is known
/// (`seen`), by [`GAP`].
#[must_use]
pub fn above<M>(salvage: &Salvage<M>, seen: u64) -> u64 {
    let ids = salvage.membership.membership().nodes().map(|(id, _)| *id).max().unwrap_or(0);
    let known = [index(salvage.last.as_ref()), ids, salvage.identity.raft.unwrap_or(0), seen];
    known.into_iter().max().unwrap_or(0).saturating_add(GAP).min(NUMBER_MAX - 1)
}

/// Makes a group of one on an empty disk: this identity, whose id must be `at`, with this state. It is all there and
/// synced once this returns; of what an interruption leaves, nothing may be used.
///
/// # Errors
/// [`BeginError`].
pub async fn begin<G: Ground>(
    disk: G::Disk,
    options: Options,
    identity: &Identity,
    term: u64,
    at: u64,
    state: impl Frozen,
) -> Result<(), BeginError> {
    let id = identity.raft.filter(|id| *id == at).ok_or_else(|| BeginError::Member(format!("its id must be {at}")))?;
    let Identity { peer, incarnation, host, .. } = identity.clone();
    let log_id = LogId { leader_id: CommittedLeaderId::new(term, id), index: at };
    let members = BTreeMap::from([(id, Member { peer, incarnation, host })]);
    let membership = Membership::new(vec![BTreeSet::from([id])], members);
    let membership = membership.map_err(|error| BeginError::Member(error.to_string()))?;
    let last_membership = StoredMembership::new(Some(log_id), membership);
    let meta = SnapshotMeta { last_log_id: Some(log_id), last_membership };
    Snapshots::<G>::new(disk.clone()).write(meta, state).await?;
    let mut log = LogStore::<G>::create(disk.clone(), incarnation, options).await?;
    log.purge(log_id).await?;
    log.save_committed(Some(log_id)).await?;
    // Waited for, and with it what came before.
    log.save_vote(&Vote { leader_id: LeaderId { term, node_id: id }, committed: false }).await?;
    log.stop().await.map_err(std::io::Error::other)?;
    Ok(identity::save(&disk, identity).await?)
}
