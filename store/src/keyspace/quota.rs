//! How much a host may propose, and what is dropped because nobody came back for it. Both go by the leaders' time.

use super::Keyspace;
use crate::host::HostName;
use crate::limits::{PROPOSALS_BURST, PROPOSALS_PER_SECOND, SESSION_AGE_MS_MAX, STAGED_AGE_MS_MAX};
use crate::outcome::Refusal;

/// A thousandth of a proposal, so that a millisecond refills whole ones.
const WHOLE: u64 = 1_000;
/// A full bucket.
const FULL: u64 = PROPOSALS_BURST * WHOLE;
/// How often what is too old is looked for.
const SWEEP_MS: u64 = 60_000;

/// What a host may still propose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) level: u64,
    pub(crate) at_ms: u64,
}

impl Bucket {
    fn at(self, now_ms: u64) -> u64 {
        let elapsed = now_ms.saturating_sub(self.at_ms);
        elapsed.saturating_mul(PROPOSALS_PER_SECOND * WHOLE / 1_000).saturating_add(self.level).min(FULL)
    }
}

impl Keyspace {
    /// What a host may propose at this time, if that is a whole proposal.
    pub(super) fn share(&self, host: &HostName, now_ms: u64) -> Result<u64, Refusal> {
        let level = self.tables.rates.get(host).map_or(FULL, |bucket| bucket.at(now_ms));
        if level >= WHOLE {
            return Ok(level);
        }
        let wait = (WHOLE - level).div_ceil(PROPOSALS_PER_SECOND * WHOLE / 1_000);
        Err(Refusal::Busy { wait_ms: u32::try_from(wait).unwrap_or(u32::MAX) })
    }

    /// Takes one proposal of a host's share.
    pub(super) fn spend(&mut self, host: &HostName) -> Result<(), Refusal> {
        let at_ms = self.tables.now_ms;
        let level = self.share(host, at_ms)? - WHOLE;
        self.tables.rates.insert(host.clone(), Bucket { level, at_ms });
        Ok(())
    }

    /// Drops what is too old, once in a while.
    pub(super) fn sweep(&mut self) {
        let now_ms = self.tables.now_ms;
        if now_ms.saturating_sub(self.tables.swept_ms) < SWEEP_MS {
            return;
        }
        self.tables.swept_ms = now_ms;
        let old = |at_ms: u64, age_max: u64| now_ms.saturating_sub(at_ms) > age_max;
        let sessions = self.tables.sessions.iter().filter(|(_, session)| old(session.used_ms, SESSION_AGE_MS_MAX));
        let sessions: Vec<(u64, HostName)> = sessions.map(|(id, session)| (*id, session.host.clone())).collect();
        for (id, host) in sessions {
            self.tables.sessions.remove(&id);
            self.derived.count(&host, |usage| usage.sessions -= 1);
        }
        self.tables.staged.retain(|_, staged| {
            let kept = !old(staged.at_ms, STAGED_AGE_MS_MAX);
            self.derived.bytes -= if kept { 0 } else { staged.bytes };
            kept
        });
        self.tables.rates.retain(|_, bucket| bucket.at(now_ms) < FULL);
    }
}
