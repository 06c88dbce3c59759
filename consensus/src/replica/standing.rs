//! Where a replica stands: what its members and its users ask.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use openraft::{Instant as _, ServerState};

use super::{Replica, Runtime};
use crate::ground::Ground;
use crate::log_store::Room;
use crate::machine::Machine;
use crate::masters::{Observation, Progress};
use crate::types::{Member, RaftId, StoredMembership};
use crate::wire::{self, Leader, Role};

/// Where a replica stands, all of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its own id.
    pub id: RaftId,
    /// What it is.
    pub role: Role,
    /// The term it is in.
    pub term: u64,
    /// Whom it takes for the leader.
    pub leader: Option<RaftId>,
    /// The membership it goes by.
    pub membership: StoredMembership,
    /// The last one that is committed, as far as it knows.
    pub committed_membership: StoredMembership,
    /// The end of its log.
    pub last: Option<u64>,
    /// Up to where it has applied.
    pub applied: Option<u64>,
    /// Up to where its newest snapshot goes.
    pub snapshot: Option<u64>,
    /// Somebody who must know says it is a member no more, or cannot be: its disk went back in time.
    pub removed: bool,
    /// Why it has stopped for good.
    pub fault: Option<String>,
}

impl Standing {
    /// Who votes: one set, or two while they change.
    #[must_use]
    pub fn voters(&self) -> Vec<BTreeSet<RaftId>> {
        self.membership.membership().get_joint_config().clone()
    }

    /// All members.
    pub fn members(&self) -> impl Iterator<Item = (RaftId, &Member)> {
        self.membership.membership().nodes().map(|(id, member)| (*id, member))
    }
}

/// How this host's disk is, as far as leading goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Ninety-nine of a hundred syncs of late took no longer.
    pub sync_p99_ms: u64,
    /// How much space there is; nothing if that cannot be known.
    pub room: Option<Room>,
}

impl<G: Ground, M: Machine> Replica<G, M> {
    /// How its disk is.
    #[must_use]
    pub fn health(&self) -> Health {
        Health { sync_p99_ms: ms(self.0.log.sync_p99()), room: self.0.log.room().ok() }
    }

    /// Whether nothing more fits on its disk.
    pub(crate) fn is_full(&self) -> bool {
        self.0.full.load(Ordering::Relaxed)
    }

    /// Where it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let (fault, removed) = (self.fault(), self.removed());
        let leader = self.leader().map(|(id, _)| id);
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        Standing {
            id: self.id(),
            role: if fault.is_some() { Role::Stopped } else { role(metrics.state) },
            term: metrics.current_term,
            leader,
            membership: (*metrics.membership_config).clone(),
            committed_membership: (*metrics.committed_membership_config).clone(),
            last: metrics.last_log_index,
            applied: metrics.last_applied.as_ref().map(|id| id.index),
            snapshot: metrics.snapshot.as_ref().map(|id| id.index),
            removed,
            fault,
        }
    }

    /// Whether somebody who must know says that it is a member no more: one of its voters, or one whom it was told to
    /// knock at. Any other member may say what it likes.
    fn removed(&self) -> bool {
        let metrics = self.0.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let known = [&metrics.membership_config, &metrics.committed_membership_config];
        let accusers = self.0.shared.accusers();
        let votes = |id: &RaftId| known.iter().any(|known| known.membership().voter_ids().any(|voter| voter == *id));
        let mut members = known.iter().flat_map(|known| known.membership().nodes());
        self.0.dismissed.load(Ordering::Relaxed)
            || (!accusers.is_empty() && members.any(|(id, member)| accusers.contains(&member.peer) && votes(id)))
    }

    /// The term in which it leads, if it does.
    #[must_use]
    pub fn leads(&self) -> Option<u64> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        (metrics.state == ServerState::Leader).then_some(metrics.current_term)
    }

    /// The same for another member.
    pub(super) fn standing_told(&self) -> wire::Standing {
        let leader = self.leader().map(|(raft_id, member)| Leader { raft_id, peer: member.peer });
        let fault = self.fault();
        let last = self.0.raft.data_metrics().borrow_watched().last_log;
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        wire::Standing {
            raft_id: self.id(),
            role: role(metrics.state),
            term: metrics.current_term,
            leader,
            last,
            committed: metrics.local_committed,
            applied: metrics.last_applied,
            snapshot: metrics.snapshot,
            fault,
            profile: wire::Profile::default(),
        }
    }

    /// Members that lack what they have acknowledged to this replica.
    pub(crate) fn went_back(&self) -> Vec<RaftId> {
        self.0.shared.acknowledged().lost().collect()
    }

    /// What the leader sees of everybody; `None` from whoever does not lead.
    #[must_use]
    pub fn observe(&self) -> Option<Observation> {
        let now_ms = self.now_ms();
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader {
            return None;
        }
        let replication = metrics.replication.as_ref()?;
        let heartbeat = metrics.heartbeat.as_ref()?;
        let membership = metrics.membership_config.membership();
        let progress = |id: &RaftId| Progress {
            matched: replication.get(id).and_then(|log_id| log_id.as_ref()).map(|log_id| log_id.index),
            ack_ms: heartbeat.get(id).and_then(|at| at.as_ref()).map(|at| ms(at.elapsed())),
        };
        let committed = metrics.local_committed.as_ref();
        let own_term = committed.is_some_and(|id| id.committed_leader_id().term == metrics.current_term);
        let same = metrics.membership_config.log_id() == metrics.committed_membership_config.log_id();
        // openraft looks at the clock when somebody answers, and a leader that is all the quorum there is may have nobody
        // who does.
        let alone = membership.get_joint_config().iter().all(|set| set.len() == 1 && set.contains(&metrics.id));
        let quorum_ack_ms = if alone { Some(0) } else { metrics.last_quorum_acked.as_ref().map(|at| ms(at.elapsed())) };
        Some(Observation {
            now_ms,
            me: metrics.id,
            term: metrics.current_term,
            quorum_ack_ms,
            configs: membership.get_joint_config().clone(),
            members: membership.nodes().map(|(id, member)| (*id, member.clone())).collect(),
            membership_index: metrics.membership_config.log_id().as_ref().map_or(0, |id| id.index),
            settled: own_term && same,
            change_in_flight: self.0.changing.try_lock().is_err(),
            committed: committed.map_or(0, |id| id.index),
            progress: membership.nodes().map(|(id, _)| (*id, progress(id))).collect::<BTreeMap<_, _>>(),
        })
    }

    /// Milliseconds since this replica was taken up: a clock that never goes back.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        ms(<Runtime<G> as openraft::AsyncRuntime>::Instant::now() - self.0.started)
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn role(state: ServerState) -> Role {
    match state {
        ServerState::Learner => Role::Learner,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Leader => Role::Leader,
        ServerState::Shutdown => Role::Stopped,
    }
}
