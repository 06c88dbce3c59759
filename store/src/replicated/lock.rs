//! Locks and semaphores that end with their holder.
//!
//! A lock is held for as long as a lease lives, and the lease for as long as its holder says so in time. None of that
//! is proof: a holder that was paused may go on for a moment after the lock has gone to somebody else. What it does in
//! that moment is refused if it carries the fence, which is higher for every holder.

use std::fmt;
use std::time::Duration;

use super::{Client, Deadline, Pauses, Proposer};
use crate::command::Body;
use crate::event::LeaseId;
use crate::key::{Key, NoKey};
use crate::outcome::{Clash, Done, Missing, Refusal};
use crate::record::Lock;
use crate::revision::Revision;
use crate::session::{CallError, ProposeError};

/// A lease is renewed when so much of it has passed: twice more before it ends.
const RENEW_PARTS: u64 = 3;

/// Why a lock was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// There can be no lock of this name.
    #[error("lock: {0}")]
    Name(#[from] NoKey),
    /// Others hold it, and no longer than that should be waited.
    #[error("the lock is held by others")]
    Held,
    /// The lease ended while it was waited for: nobody renewed it, or somebody revoked it.
    #[error("the lease ended while waiting for the lock")]
    Ended,
    /// It was given up while it was waited for.
    #[error("the lock is not wanted any more")]
    GivenUp,
    /// The store could not be asked.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// A lock is not held any more, or may not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Its lease has ended.
    #[error("the lock was lost: its lease has ended")]
    Ended,
    /// The leader could not be told in time that its holder is there.
    #[error("the lock may be lost: it could not be renewed in time")]
    Silent,
}

/// A lock that is held. Give it back with [`Held::release`]; one that is only dropped goes to the next when its lease has
/// ended by itself.
pub struct Held<P> {
    client: Client<P>,
    vigil: Vigil,
    fence: Revision,
}

impl<P> fmt::Debug for Held<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("vigil", &self.vigil).field("fence", &self.fence).finish_non_exhaustive()
    }
}

/// A lease and until when it lives for sure.
#[derive(Debug, Clone, Copy)]
struct Vigil {
    lease: LeaseId,
    ttl_ms: u64,
    /// When the last renewal that was heard was sent.
    renewed_ms: u64,
}

impl<P: Proposer> Client<P> {
    /// Takes a lock, waiting for those before for at most `wait`. With a `count` above 1 it is one of so many places.
    ///
    /// If this is dropped, what it has asked for ends with its lease.
    ///
    /// # Errors
    /// When it is not held.
    pub async fn lock(&self, name: &str, count: u32, ttl_s: u32, wait: Duration) -> Result<Held<P>, LockError> {
        self.lock_all(&[(name, count)], ttl_s, wait, std::future::pending()).await
    }

    /// Takes several locks with one lease, one after the other: if everybody takes them in the same order, nobody waits in
    /// a ring. It waits for at most `wait`, and no longer once they are `given_up`: then nothing of it is left.
    ///
    /// # Errors
    /// When not all of them are held; then none is.
    pub async fn lock_all(
        &self,
        wanted: &[(&str, u32)],
        ttl_s: u32,
        wait: Duration,
        given_up: impl Future<Output = ()>,
    ) -> Result<Held<P>, LockError> {
        let locks: Result<Vec<_>, NoKey> =
            wanted.iter().map(|(name, count)| Key::lock(name).map(|lock| (lock, *count))).collect();
        let locks = locks?;
        let proposer = &self.inner.proposer;
        tokio::pin!(given_up);
        let deadline = Deadline::after(proposer, wait);
        // Asking takes a while as well, also for somebody who will not wait for others.
        let patience = wait.max(self.inner.patience);
        let renewed_ms = proposer.now_ms();
        let granted = tokio::select! {
            biased;
            () = &mut given_up => return Err(LockError::GivenUp),
            granted = self.grant(ttl_s, patience) => granted,
        };
        let (lease, ttl_s) = granted?;
        let mut vigil = Vigil { lease, ttl_ms: u64::from(ttl_s) * 1000, renewed_ms };
        let taken = async {
            let mut highest = Revision::ZERO;
            for (lock, count) in &locks {
                let asked = Body::Acquire { lock: lock.clone(), lease, count: *count, wait: !wait.is_zero() };
                highest = highest.max(self.take(lock, asked, lease, patience, deadline).await?);
            }
            Ok(highest)
        };
        let fence = tokio::select! {
            biased;
            () = &mut given_up => Err(LockError::GivenUp),
            // Beside the taking and not in it: a store that is busy must not cut every renewal short.
            _ = self.keep(&mut vigil) => Err(LockError::Ended),
            fence = taken => fence,
        };
        match fence {
            Ok(fence) => Ok(Held { client: self.clone(), vigil, fence }),
            Err(error) => {
                if let Err(left) = self.revoke(lease, self.inner.patience).await {
                    tracing::debug!(lease = lease.0, error = %left, "a lease is left to its end");
                }
                Err(error)
            }
        }
    }

    /// Takes one lock for a lease that somebody else keeps alive; gives its fence.
    async fn take(
        &self,
        lock: &Key,
        asked: Body,
        lease: LeaseId,
        patience: Duration,
        deadline: Deadline,
    ) -> Result<Revision, LockError> {
        match self.call(asked, patience).await {
            Ok((_, Done::Held { fence })) => Ok(fence),
            Ok((asked, Done::Waiting { .. })) => self.wait_for(lock, lease, asked, deadline).await,
            Ok(_) => Err(CallError::Strange.into()),
            Err(CallError::Refused(Refusal::Conflict(Clash::Held))) => Err(LockError::Held),
            Err(CallError::Refused(Refusal::NotFound(Missing::Lease))) => Err(LockError::Ended),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the turn of a lease.
    async fn wait_for(
        &self,
        lock: &Key,
        lease: LeaseId,
        asked: Revision,
        deadline: Deadline,
    ) -> Result<Revision, LockError> {
        let shared = &self.inner.shared;
        let turn = async {
            loop {
                let seen = shared.revision();
                let mut claims = shared.read(|keyspace| keyspace.lock(lock)).into_iter().flat_map(Lock::claims);
                match claims.find(|claim| claim.lease == lease) {
                    Some(claim) if claim.fence > Revision::ZERO => return Ok(claim.fence),
                    // This replica has seen that it waited, and it waits no more.
                    None if seen >= asked => return Err(LockError::Ended),
                    Some(_) | None => shared.changed_since(seen).await,
                };
            }
        };
        let left = deadline.left(&self.inner.proposer).unwrap_or_default();
        tokio::select! {
            biased;
            fence = turn => fence,
            () = self.inner.proposer.sleep(left) => Err(LockError::Held),
        }
    }

    /// Renews a lease for as long as that is possible. Cancel safe.
    async fn keep(&self, vigil: &mut Vigil) -> Lost {
        let proposer = &self.inner.proposer;
        loop {
            let due = Deadline::at(vigil.renewed_ms + vigil.ttl_ms / RENEW_PARTS);
            if let Some(early) = due.left(proposer) {
                proposer.sleep(early).await;
            }
            let end = Deadline::at(vigil.renewed_ms + vigil.ttl_ms);
            let mut pauses = Pauses::new();
            loop {
                let Some(left) = end.left(proposer) else { return Lost::Silent };
                let sent_ms = proposer.now_ms();
                match proposer.renew(vigil.lease, left.min(Duration::from_millis(vigil.ttl_ms / RENEW_PARTS))).await {
                    Ok(true) => {
                        vigil.renewed_ms = sent_ms;
                        break;
                    }
                    Ok(false) | Err(ProposeError::Stopped) => return Lost::Ended,
                    Err(ProposeError::NoLeader | ProposeError::Unknown) => pauses.pause(proposer, end).await,
                }
            }
        }
    }
}

impl<P: Proposer> Held<P> {
    /// Higher for every holder of this lock. Carry it with what is done under the lock, and refuse what carries less.
    #[must_use]
    pub fn fence(&self) -> Revision {
        self.fence
    }

    /// The lease it lives with: keys put on it go with it.
    #[must_use]
    pub fn lease(&self) -> LeaseId {
        self.vigil.lease
    }

    /// Does some work and keeps the lock meanwhile. The work is dropped when the lock is lost.
    ///
    /// # Errors
    /// When it was lost before the work was done.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Lost> {
        tokio::select! {
            biased;
            lost = self.client.keep(&mut self.vigil) => Err(lost),
            done = work => Ok(done),
        }
    }

    /// Gives it back.
    ///
    /// # Errors
    /// When that could not be said; it goes to the next when its lease has ended.
    pub async fn release(self) -> Result<(), CallError> {
        match self.client.revoke(self.vigil.lease, self.client.inner.patience).await {
            Ok(_) | Err(CallError::Refused(Refusal::NotFound(Missing::Lease))) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
