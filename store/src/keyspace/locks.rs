//! Locks, and semaphores, which are locks that several may hold.
//!
//! Who asks is queued in the order of the log. A part in a lock ends with its lease, and since a lease is never proof
//! that its holder has noticed, every holder gets a fence that is higher than all before: what is guarded refuses a
//! lower one.

use super::Turn;
use crate::command::Stored;
use crate::event::LeaseId;
use crate::key::{Key, Space};
use crate::limits::{LOCK_HOLDERS_MAX, LOCK_WAITERS_MAX};
use crate::outcome::{Clash, Done, Missing, Quota, Refusal};
use crate::record::{Claim, Lock};
use crate::revision::Revision;

impl Turn<'_> {
    pub(super) fn acquire(&mut self, key: &Key, lease: LeaseId, count: u32, wait: bool) -> Result<Done, Refusal> {
        if key.space() != Space::Locks || !(1..=LOCK_HOLDERS_MAX).contains(&count) {
            return Err(Refusal::Malformed);
        }
        self.lease_takes(lease, 0)?;
        let mut lock = self.lock(key).unwrap_or(Lock { count, holders: Vec::new(), waiters: Vec::new() });
        if lock.count != count {
            return Err(Refusal::Conflict(Clash::LockCount));
        }
        if let Some(held) = lock.holders.iter().find(|claim| claim.lease == lease) {
            return Ok(Done::Held { fence: held.fence });
        }
        if let Some(before) = lock.waiters.iter().position(|claim| claim.lease == lease) {
            return Ok(Done::Waiting { before: number(before) });
        }
        let free = lock.holders.len() < lock.count as usize;
        if !free && !wait {
            return Err(Refusal::Conflict(Clash::Held));
        }
        if !free && lock.waiters.len() >= LOCK_WAITERS_MAX {
            return Err(Refusal::QuotaExceeded(Quota::Waiters));
        }
        self.lease_takes(lease, 1)?;
        let (asked, before) = (self.revision(), lock.waiters.len());
        lock.waiters.push(Claim { lease, host: self.origin.host.clone(), asked, fence: Revision::ZERO });
        give(&mut lock, asked);
        let record = lock.store();
        self.room(self.growth(key, &record))?;
        self.write(key.clone(), record, None);
        self.derived.attach(lease, key);
        Ok(if free { Done::Held { fence: asked } } else { Done::Waiting { before: number(before) } })
    }

    pub(super) fn release(&mut self, key: &Key, lease: LeaseId) -> Result<Done, Refusal> {
        let lock = self.lock(key).ok_or(Refusal::NotFound(Missing::Lock))?;
        let mut claims = lock.holders.iter().chain(&lock.waiters);
        let claim = claims.find(|claim| claim.lease == lease).ok_or(Refusal::NotFound(Missing::Lock))?;
        self.owns(claim.host.as_str())?;
        self.leave(key, lease);
        Ok(Done::Applied)
    }

    /// A lease has no part in a lock any more; whoever is next gets it.
    pub(super) fn leave(&mut self, key: &Key, lease: LeaseId) {
        self.derived.detach(lease, key);
        let Some(mut lock) = self.lock(key) else { return };
        lock.holders.retain(|claim| claim.lease != lease);
        lock.waiters.retain(|claim| claim.lease != lease);
        give(&mut lock, self.revision());
        if lock.holders.is_empty() {
            self.erase(key.as_str());
        } else {
            self.write_record(key.clone(), &lock);
        }
    }

    fn lock(&self, key: &Key) -> Option<Lock> {
        let entry = self.tables.keys.get(key.as_str()).filter(|_| key.space() == Space::Locks)?;
        Some(Lock::load(&entry.value).expect("records are written by this crate and checked when they are restored"))
    }
}

/// Gives what is free to those who wait the longest.
fn give(lock: &mut Lock, revision: Revision) {
    let free = (lock.count as usize).saturating_sub(lock.holders.len()).min(lock.waiters.len());
    lock.holders.extend(lock.waiters.drain(..free).map(|claim| Claim { fence: revision, ..claim }));
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
