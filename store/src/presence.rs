//! Whose lease is still being renewed, as the leader of the moment has heard. Leases are granted and ended in the log;
//! that they go on is not: it would be most of what the log holds.
//!
//! What it promises: a lease that is renewed in time does not end; one that is not ends at most its TTL, and the time
//! that a backlog takes, after it was heard of last; what has been called expired cannot be renewed any more. Nothing
//! of this is proof that a holder has stopped: for that, locks have a fencing revision.
//!
//! There is no clock in here. Moments are milliseconds of the leader's monotonic clock, and every leader starts anew: it
//! gives each lease its full TTL again, since it cannot know what the one before has heard.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::Body;
use crate::event::LeaseId;
use crate::limits::EXPIRIES_PER_S_MAX;

/// Leases that are ended at once: what comes together in the time between two looks.
const EXPIRIES_BURST: u64 = EXPIRIES_PER_S_MAX / 2;
/// A lease that was called expired and is still there is called so again after so long: the proposal was lost.
pub const EXPIRE_AGAIN_MS: u64 = 1_000;
/// A leader that has not looked for so long was paused, and deaf as well: renewals have waited in its sockets
/// meanwhile. The time it missed counts for nobody. Whoever drives this looks at least four times as often.
pub const LOOK_MS_MAX: u64 = 2_000;

/// One lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    ttl_ms: u64,
    /// When there is something to do about it: it expires, or it is called expired again.
    due_ms: u64,
    /// It has been called expired: too late for a renewal.
    called: bool,
}

/// When every lease ends unless it is renewed. Empty on whoever does not lead.
#[derive(Debug, Default)]
pub struct Presence {
    held: BTreeMap<LeaseId, Held>,
    /// `held` by what is due first.
    due: BTreeSet<(u64, LeaseId)>,
    /// The last moment it was told.
    seen_ms: u64,
    /// Time during which this process stood still, taken off all moments.
    missed_ms: u64,
    /// Expiries that may be called now, in thousandths: refilled by time.
    allowance: u64,
    leads: bool,
}

impl Presence {
    /// What a peer has that does not lead: nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// This peer leads now. `leases` are all there are, with their TTL, once everything has been applied that earlier
    /// leaders may have proposed: an expiry among it would end a lease that is renewed here.
    pub fn promote(&mut self, now_ms: u64, leases: impl IntoIterator<Item = (LeaseId, u64)>) {
        *self = Self { seen_ms: now_ms, allowance: EXPIRIES_BURST * 1000, leads: true, ..Self::default() };
        for (id, ttl_ms) in leases {
            self.grant(now_ms, id, ttl_ms);
        }
    }

    /// This peer leads no more.
    pub fn demote(&mut self) {
        *self = Self::default();
    }

    /// Whether this peer leads, as far as it was told.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leads
    }

    /// The log has granted a lease. Granting one that is there changes its TTL and renews it.
    pub fn grant(&mut self, now_ms: u64, id: LeaseId, ttl_ms: u64) {
        if self.leads {
            let due_ms = self.look(now_ms).saturating_add(ttl_ms);
            self.place(id, Held { ttl_ms, due_ms, called: false });
        }
    }

    /// The log has ended a lease.
    pub fn ended(&mut self, id: LeaseId) {
        if let Some(held) = self.held.remove(&id) {
            self.due.remove(&(held.due_ms, id));
        }
    }

    /// These are all leases there are now, with their TTL: what [`Presence::grant`] and [`Presence::ended`] say one by one.
    /// Worth a call when something was applied since the last one.
    pub fn sync(&mut self, now_ms: u64, leases: impl IntoIterator<Item = (LeaseId, u64)>) {
        let mut gone: BTreeSet<LeaseId> = self.held.keys().copied().collect();
        for (id, ttl_ms) in leases {
            if !gone.remove(&id) {
                self.grant(now_ms, id, ttl_ms);
            }
        }
        for id in gone {
            self.ended(id);
        }
    }

    /// Its holder has been heard of. `false`: this peer does not lead, there is no such lease, or it is too late.
    #[must_use]
    pub fn renew(&mut self, now_ms: u64, id: LeaseId) -> bool {
        let now_ms = self.look(now_ms);
        match self.held.get(&id).copied() {
            Some(held) if !held.called => {
                self.place(id, Held { due_ms: now_ms.saturating_add(held.ttl_ms), ..held });
                true
            }
            _ => false,
        }
    }

    /// Which leases have ended by now: to be proposed with [`Presence::expire`]. Those longest due come first.
    #[must_use]
    pub fn expired(&mut self, now_ms: u64) -> Vec<LeaseId> {
        let now_ms = self.look(now_ms);
        let mut expired = Vec::new();
        while let Some(&(due_ms, id)) = self.due.first() {
            if due_ms > now_ms || self.allowance < 1000 {
                break;
            }
            self.allowance -= 1000;
            let held = self.held[&id];
            self.place(id, Held { due_ms: now_ms.saturating_add(EXPIRE_AGAIN_MS), called: true, ..held });
            expired.push(id);
        }
        expired
    }

    /// The command that ends them. A lease that is gone by then is passed over.
    #[must_use]
    pub fn expire(leases: Vec<LeaseId>) -> Body {
        Body::LeaseExpire { leases }
    }

    /// How many leases it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The moment it is, without the time this process has missed; refills the allowance.
    fn look(&mut self, now_ms: u64) -> u64 {
        let gap_ms = now_ms.saturating_sub(self.seen_ms);
        self.seen_ms = self.seen_ms.max(now_ms);
        if gap_ms > LOOK_MS_MAX {
            self.missed_ms += gap_ms - LOOK_MS_MAX;
        }
        // A thousand a second is one a millisecond, which is a thousand thousandths.
        self.allowance = gap_ms.saturating_mul(EXPIRIES_PER_S_MAX).saturating_add(self.allowance);
        self.allowance = self.allowance.min(EXPIRIES_BURST * 1000);
        self.seen_ms - self.missed_ms
    }

    /// Puts a lease where it belongs in both maps.
    fn place(&mut self, id: LeaseId, held: Held) {
        if let Some(before) = self.held.insert(id, held) {
            self.due.remove(&(before.due_ms, id));
        }
        self.due.insert((held.due_ms, id));
    }
}

#[cfg(test)]
mod tests;
