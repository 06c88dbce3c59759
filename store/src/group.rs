//! The group as the store's clients see it: one replica's way to the leader.

use std::time::Duration;

use bytes::Bytes;
use mgmt_consensus::{Ground, Machine, Replica, replica};

use crate::desk;
use crate::event::LeaseId;
use crate::revision::Revision;
use crate::session::{ProposeError, Proposer};

impl<G: Ground, M: Machine> Proposer for Replica<G, M> {
    async fn propose(&self, request: Bytes, limit: Duration) -> Result<(Revision, Bytes), ProposeError> {
        let proposed = Self::propose(self, request, limit).await?;
        Ok((Revision(proposed.index), proposed.outcome))
    }

    async fn barrier(&self, limit: Duration) -> Result<Revision, ProposeError> {
        Ok(Revision(Self::barrier(self, limit).await?))
    }

    async fn renew(&self, lease: LeaseId, limit: Duration) -> Result<bool, ProposeError> {
        let answer = self.tell(desk::renew(lease), limit).await?;
        Ok(desk::renewed(&answer))
    }

    fn now_ms(&self) -> u64 {
        Self::now_ms(self)
    }

    async fn sleep(&self, time: Duration) {
        Self::sleep(self, time).await;
    }
}

impl From<replica::ProposeError> for ProposeError {
    fn from(error: replica::ProposeError) -> Self {
        match error {
            // A clerk refuses what no version here understands; the client has checked it by the same rules.
            replica::ProposeError::NoLeader | replica::ProposeError::Refused(_) => Self::NoLeader,
            replica::ProposeError::Unknown(_) => Self::Unknown,
            replica::ProposeError::Stopped(_) => Self::Stopped,
        }
    }
}
