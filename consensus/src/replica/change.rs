//! Changes of the membership, each guarded by what it was decided on.
//!
//! Whoever joins is taken in by two steps. The leader *reserves* an id by a blank entry, whose index is the id; the
//! joiner writes it down, synced, and only then asks to *enter*. No other change of the membership may come in between,
//! so that any membership that stands behind an id in the log says for certain whether the id belongs to a member
//! (see [`crate::gate`]). If one does, the id is void and another one is reserved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::Precondition;
use openraft::{AsyncRuntime, ServerState};

use super::{Replica, Runtime};
use crate::ground::Ground;
use crate::identity::Incarnation;
use crate::machine::Machine;
use crate::mutant::{self, Mutant};
use crate::types::{Group, LogId, Member, RaftId};
use crate::wire::{Answer, Refusal};

/// How long a change may take before it is reported. It is not given up: nobody can take it back.
const CHANGE_DEADLINE: Duration = Duration::from_secs(20);

/// How long somebody with a reservation has for writing it down and entering, before others get theirs.
const TURN_MS: u64 = 500;
/// How long others wait for their turn, at most: shorter than they wait for the answer.
const TURNS_MS: u64 = 3_000;
/// Between two looks whether it is one's turn.
const TURN_LOOK: Duration = Duration::from_millis(5);

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// This replica does not lead, or nobody has confirmed that it does.
    #[error("this replica does not lead")]
    NotLeader,
    /// Another one is being made.
    #[error("another change is being made")]
    Busy,
    /// What it was decided on has changed.
    #[error("the membership has changed meanwhile: {0}")]
    Outdated(String),
    /// It may be made or not.
    #[error("whether it is made is unknown: {0}")]
    Unknown(String),
}

impl<G: Ground, M: Machine> Replica<G, M> {
    /// What a change is decided on, if this replica leads: who leads, and where the membership stands.
    fn guards(&self) -> Option<Vec<Precondition<Group<G>>>> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader {
            return None;
        }
        let last_membership_log_id = *metrics.membership_config.log_id();
        Some(self.guarded(last_membership_log_id))
    }

    fn guarded(&self, last_membership_log_id: Option<LogId>) -> Vec<Precondition<Group<G>>> {
        if mutant::is(Mutant::TwoStepsInFlight) {
            return Vec::new();
        }
        vec![Precondition::LastMembershipLogId { last_membership_log_id }]
    }

    /// Makes these the voters, in one joint change; whoever leaves them stays as a learner. `decided_on` is the log
    /// index of the membership that this was decided on.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn appoint(&self, voters: BTreeSet<RaftId>, decided_on: u64) -> Result<(), ChangeError> {
        self.change(ChangeMembers::ReplaceAllVoters(voters), Some(decided_on)).await
    }

    /// Completes a change that a leader before this one has left half done.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn complete(&self, decided_on: u64) -> Result<(), ChangeError> {
        self.change(ChangeMembers::AddVoterIds(BTreeSet::new()), Some(decided_on)).await
    }

    /// Removes learners.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn remove(&self, learners: BTreeSet<RaftId>, decided_on: u64) -> Result<(), ChangeError> {
        self.change(ChangeMembers::RemoveNodes(learners), Some(decided_on)).await
    }

    /// Hands leadership over. Whether it was taken shows in who leads.
    ///
    /// # Errors
    /// [`ChangeError::Unknown`] if this replica has stopped.
    pub async fn transfer(&self, to: RaftId) -> Result<(), ChangeError> {
        // openraft stops leading at once and for good, and relies on others to elect somebody. One that hands over to
        // itself, or as the only voter, would never be relieved.
        if to == self.id() {
            return Ok(());
        }
        if !self.standing().voters().iter().any(|set| set.contains(&to)) {
            return Err(ChangeError::Outdated(format!("{to} does not vote")));
        }
        let transfer = self.0.raft.trigger().transfer_leader(to).await;
        transfer.map_err(|fatal| ChangeError::Unknown(fatal.to_string()))
    }

    async fn change(&self, change: ChangeMembers<RaftId, Member>, decided_on: Option<u64>) -> Result<(), ChangeError> {
        let alone = self.0.changing.try_lock();
        if alone.is_err() && !mutant::is(Mutant::TwoStepsInFlight) {
            return Err(ChangeError::Busy);
        }
        let now = {
            let metrics = self.0.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.log_id().as_ref().map_or(0, |id| id.index)
        };
        if decided_on.is_some_and(|index| index != now) && !mutant::is(Mutant::TwoStepsInFlight) {
            return Err(ChangeError::Outdated(format!("it stands at {now}")));
        }
        let guards = self.guards().ok_or(ChangeError::NotLeader)?;
        let changed = self.0.raft.change_membership_if(change, true, guards);
        match Runtime::<G>::timeout(CHANGE_DEADLINE, changed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(ChangeError::NotLeader),
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => {
                Err(ChangeError::Outdated(error.to_string()))
            }
            Ok(Err(RaftError::APIError(ClientWriteError::PreconditionFailed(error)))) => {
                Err(ChangeError::Outdated(error.to_string()))
            }
            Ok(Err(error)) => Err(ChangeError::Unknown(error.to_string())),
            Err(_) => Err(ChangeError::Unknown(format!("not committed within {CHANGE_DEADLINE:?}"))),
        }
    }

    /// The former life of a host that comes back: whoever bears its name, or is the same peer.
    fn former(members: &BTreeMap<RaftId, Member>, member: &Member) -> Option<RaftId> {
        members.iter().find(|(_, other)| other.host == member.host || other.peer == member.peer).map(|(id, _)| *id)
    }

    /// As the leader: reserves an id for somebody who wants to join. Nobody is a member by that yet.
    pub(super) async fn reserve(&self, member: &Member, replaces: Option<RaftId>) -> Answer {
        if let Err(why) = self.0.clerk.admits(member) {
            return Answer::Refused { why };
        }
        let members = self.members();
        if let Some((id, _)) = members.iter().find(|(_, other)| other.incarnation == member.incarnation) {
            return self.reserved(*id);
        }
        if let Some(id) = Self::former(&members, member) {
            if members[&id].peer != member.peer && replaces != Some(id) && !self.0.clerk.names(member) {
                let why = format!("{} is a member already, under id {id}", member.host);
                return Answer::Refused { why };
            }
            if mutant::is(Mutant::IdReused) {
                return self.reserved(id);
            }
        }
        self.turn(member.incarnation).await;
        if members.len() >= self.0.settings.members_max {
            return Answer::Unavailable { why: format!("there are {} members already", members.len()) };
        }
        let written = Runtime::<G>::timeout(CHANGE_DEADLINE, self.0.raft.write_blank()).await;
        match written {
            Ok(Ok(response)) => self.reserved(response.log_id.index),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => {
                super::not_here(&forward).into()
            }
            Ok(Err(error)) => Answer::Unavailable { why: error.to_string() },
            Err(_) => Answer::Unavailable { why: "the reservation was not committed in time".to_owned() },
        }
    }

    /// Waits until nobody else holds a reservation that he may yet enter with: if many come at once, each would make the
    /// reservations of all others void, over and over.
    async fn turn(&self, newcomer: Incarnation) {
        let until = self.now_ms() + TURNS_MS;
        loop {
            let now_ms = self.now_ms();
            {
                let mut turn = self.0.turn.lock().unwrap_or_else(PoisonError::into_inner);
                match *turn {
                    Some((other, ends_ms)) if other != newcomer && now_ms < ends_ms && now_ms < until => {}
                    _ => {
                        *turn = Some((newcomer, now_ms + TURN_MS));
                        return;
                    }
                }
            }
            Runtime::<G>::sleep(TURN_LOOK).await;
        }
    }

    fn reserved(&self, raft_id: RaftId) -> Answer {
        Answer::Reserved { cluster: self.0.identity.cluster, raft_id }
    }

    fn members(&self) -> BTreeMap<RaftId, Member> {
        let metrics = self.0.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().nodes().map(|(id, member)| (*id, member.clone())).collect()
    }

    /// As the leader: makes whoever holds a reservation a member, as a learner. Twice is as good as once.
    pub(super) async fn enter(&self, raft_id: RaftId, member: &Member) -> Answer {
        if let Err(why) = self.0.clerk.admits(member) {
            return Answer::Refused { why };
        }
        let members = self.members();
        match members.get(&raft_id) {
            Some(same) if same == member => return self.admitted(raft_id),
            Some(_) if !mutant::is(Mutant::IdReused) => {
                return Answer::Refused { why: format!("the id {raft_id} belongs to somebody else") };
            }
            _ => {}
        }
        let standing = self.standing();
        let behind = standing.membership.log_id().as_ref().is_some_and(|id| id.index > raft_id);
        if !mutant::is(Mutant::IdReused) && (behind || standing.last.is_none_or(|last| last < raft_id)) {
            return Refusal::Refused(format!("the reservation of {raft_id} is void, ask for another one")).into();
        }
        let decided_on = standing.membership.log_id().as_ref().map(|id| id.index);
        let nodes = BTreeMap::from([(raft_id, member.clone())]);
        let change = if members.contains_key(&raft_id) {
            ChangeMembers::SetNodes(nodes)
        } else {
            ChangeMembers::AddNodes(nodes)
        };
        let changed = self.change(change, decided_on).await;
        self.0.turn.lock().unwrap_or_else(PoisonError::into_inner).take_if(|(who, _)| *who == member.incarnation);
        match changed {
            Ok(()) => self.admitted(raft_id),
            Err(ChangeError::NotLeader) => Answer::NotLeader { leader: None },
            Err(error) => Refusal::Unavailable(error.to_string()).into(),
        }
    }

    fn admitted(&self, raft_id: RaftId) -> Answer {
        Answer::Admitted { cluster: self.0.identity.cluster, raft_id, members: self.members() }
    }
}
