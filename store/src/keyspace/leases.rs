//! Leases: what is on a lease is gone when nobody renews it. Renewals are not here: the leader keeps them in memory,
//! and says here only what has expired.

use super::Turn;
use crate::event::LeaseId;
use crate::host::HostName;
use crate::key::Space;
use crate::limits::{
    CHANGES_MAX, LEASE_TTL_S_MAX, LEASE_TTL_S_MIN, LEASES_EXPIRED_MAX, LEASES_MAX, LEASES_PER_HOST_MAX,
};
use crate::outcome::{Done, Quota, Refusal};

/// A lease that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Whose it is.
    pub host: HostName,
    /// How long it lives without being renewed.
    pub ttl_s: u32,
}

impl Turn<'_> {
    pub(super) fn lease_grant(&mut self, ttl_s: u32) -> Result<Done, Refusal> {
        let host = &self.origin.host;
        let own = self.derived.usage.get(host).map_or(0, |usage| usage.leases);
        if self.tables.leases.len() >= LEASES_MAX || own >= LEASES_PER_HOST_MAX {
            return Err(Refusal::QuotaExceeded(Quota::Leases));
        }
        let ttl_s = ttl_s.clamp(LEASE_TTL_S_MIN, LEASE_TTL_S_MAX);
        let lease = LeaseId(self.revision().0);
        self.tables.leases.insert(lease.0, Lease { host: host.clone(), ttl_s });
        self.derived.count(host, |usage| usage.leases += 1);
        Ok(Done::Leased { lease, ttl_s })
    }

    pub(super) fn lease_revoke(&mut self, lease: LeaseId) -> Result<Done, Refusal> {
        self.lease_takes(lease, 0)?;
        self.end(lease);
        Ok(Done::Applied)
    }

    /// Ends leases in their order, as long as there are not too many changes under one revision.
    pub(super) fn lease_expire(&mut self, leases: &[LeaseId]) -> Done {
        let mut through = 0;
        for lease in leases.iter().take(LEASES_EXPIRED_MAX) {
            let keys = self.derived.lease_keys.get(lease).map_or(0, |keys| keys.len());
            if self.events.len() + keys > CHANGES_MAX {
                break;
            }
            self.end(*lease);
            through += 1;
        }
        Done::Expired { through }
    }

    fn end(&mut self, lease: LeaseId) {
        let Some(Lease { host, .. }) = self.tables.leases.remove(&lease.0) else { return };
        self.derived.count(&host, |usage| usage.leases -= 1);
        for key in self.derived.lease_keys.get(&lease).cloned().unwrap_or_default() {
            match key.space() {
                Space::Locks => self.leave(&key, lease),
                _ => _ = self.erase(key.as_str()),
            }
        }
    }
}
