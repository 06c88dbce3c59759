//! What members say to each other that is not for the log: to the leader, to one of them, and at the door.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use openraft::AsyncRuntime;
use openraft::async_runtime::WatchReceiver as _;

use super::{ProposeError, Replica, Runtime};
use crate::ground::Ground;
use crate::identity::PeerId;
use crate::machine::Machine;
use crate::transport::Lane;
use crate::types::{Member, RaftId};
use crate::wire::{Answer, NOBODY, Request};

/// How long an answer is waited for by who asks whether he is still a member.
const KNOCK: Duration = Duration::from_millis(500);

impl<G: Ground, M: Machine> Replica<G, M> {
    /// Tells the leader something that is not for the log, once.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn tell(&self, message: Bytes, deadline: Duration) -> Result<Bytes, ProposeError> {
        let answer = match self.leader() {
            Some((id, me)) if id == self.id() => self.told_here(&me, &message),
            Some((id, leader)) => self.ask_member(id, &leader, &Request::Tell { message }, deadline).await,
            None => Answer::NotLeader { leader: None },
        };
        match answer {
            Answer::Told { answer } => Ok(answer),
            Answer::Unknown { why } => Err(ProposeError::Unknown(why)),
            Answer::Refused { why } => Err(ProposeError::Refused(why)),
            _ => Err(self.fault().map_or(ProposeError::NoLeader, ProposeError::Stopped)),
        }
    }

    /// Hands something to one member, whoever leads, once. What the answer promises is on his disk.
    ///
    /// # Errors
    /// [`ProposeError`]: [`Unknown`](ProposeError::Unknown) also if he cannot be reached.
    pub async fn hand(&self, to: RaftId, message: Bytes, deadline: Duration) -> Result<Bytes, ProposeError> {
        let Some(member) = self.known(to) else {
            return Err(ProposeError::Refused(format!("{to} is no member")));
        };
        if to == self.id() {
            let answer = Runtime::<G>::timeout(deadline, self.0.clerk.handed(&member, &message)).await;
            return answer.map_err(|_| ProposeError::Unknown("not done in time".to_owned()));
        }
        match self.ask_member(to, &member, &Request::Hand { message }, deadline).await {
            Answer::Handed { answer } => Ok(answer),
            Answer::Unknown { why } | Answer::Unavailable { why } => Err(ProposeError::Unknown(why)),
            Answer::Refused { why } => Err(ProposeError::Refused(why)),
            other => Err(ProposeError::Unknown(format!("an answer to something else: {other:?}"))),
        }
    }

    pub(super) fn told_here(&self, from: &Member, message: &[u8]) -> Answer {
        if self.0.raft.is_leader() {
            Answer::Told { answer: self.0.clerk.told(from, message) }
        } else {
            Answer::NotLeader { leader: None }
        }
    }

    /// Asks these whether it is still a member, for when nobody has been heard for long: who was removed while he was
    /// away, or was put back from an old disk, is told nothing. The answer shows in [`Standing::removed`](super::Standing::removed), and is
    /// believed: these are peers that may lead. The voters it knows are asked without being told to.
    pub async fn knock(&self, seeds: &[PeerId]) {
        self.knock_at(seeds).await;
        let accusers = self.0.shared.accusers().clone();
        if seeds.iter().any(|seed| accusers.contains(seed)) {
            self.0.dismissed.store(true, Ordering::Relaxed);
        }
    }

    pub(super) async fn knock_at(&self, seeds: &[PeerId]) {
        for peer in seeds.iter().filter(|peer| **peer != self.0.identity.peer) {
            let answer = self.0.shared.ask((NOBODY, *peer), Lane::Client, &Request::Standing, KNOCK).await;
            let Ok(Answer::Standing(standing)) = answer else { continue };
            let to = (standing.raft_id, *peer);
            if let Err(error) = self.0.shared.ask(to, Lane::Client, &Request::ReadIndex, KNOCK).await {
                tracing::debug!(%error, %peer, "knocked");
            }
        }
    }

    /// Those who vote as far as it knows.
    pub(super) fn voting_peers(&self) -> Vec<PeerId> {
        let metrics = self.0.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<RaftId> = membership.voter_ids().collect();
        membership.nodes().filter(|(id, _)| voters.contains(id)).map(|(_, member)| member.peer).collect()
    }
}
