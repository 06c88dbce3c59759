//! Outcomes as they are sent, and kept for commands that are sent again, version 1. Never edited, as in `v1`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::codec::{DecodeError, Kind, MALFORMED, open, parse, seal};
use crate::event::LeaseId;
use crate::outcome::{Clash, Denied, Done, Large, Missing, Outcome, Quota, Refusal, Role};
use crate::revision::Revision;

const VERSION: u8 = 1;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OutcomeV1 {
    revision: u64,
    result: ResultV1,
}

#[derive(Debug, Serialize, Deserialize)]
enum ResultV1 {
    Applied,
    Unchanged,
    Put(u64),
    Deleted(u32),
    Txn(bool, u32),
    Leased(u64, u32),
    Expired(u32),
    Held(u64),
    Waiting(u32),
    Staged(u32),
    TokenUsed(u8, bool),
    Session(u64),
    Refused(RefusalV1),
}

/// The numbers are those of the enumerations in `outcome`.
#[derive(Debug, Serialize, Deserialize)]
enum RefusalV1 {
    Malformed,
    NotAllowed(u8),
    TooLarge(u8),
    QuotaExceeded(u8),
    NotFound(u8),
    Conflict(u8),
    Busy(u32),
    NoSpace,
}

pub(super) fn encode(outcome: &Outcome) -> Bytes {
    seal(Kind::Outcome, VERSION, &OutcomeV1::of(outcome)).into()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Outcome, DecodeError> {
    parse::<OutcomeV1>(open(Kind::Outcome, VERSION, bytes)?)?.to_outcome()
}

impl OutcomeV1 {
    pub(super) fn of(outcome: &Outcome) -> Self {
        let result = match &outcome.result {
            Ok(Done::Applied) => ResultV1::Applied,
            Ok(Done::Unchanged) => ResultV1::Unchanged,
            Ok(Done::Put { version }) => ResultV1::Put(*version),
            Ok(Done::Deleted { count }) => ResultV1::Deleted(*count),
            Ok(Done::Txn { held, deleted }) => ResultV1::Txn(*held, *deleted),
            Ok(Done::Leased { lease, ttl_s }) => ResultV1::Leased(lease.0, *ttl_s),
            Ok(Done::Expired { through }) => ResultV1::Expired(*through),
            Ok(Done::Held { fence }) => ResultV1::Held(fence.0),
            Ok(Done::Waiting { before }) => ResultV1::Waiting(*before),
            Ok(Done::Staged { count }) => ResultV1::Staged(*count),
            Ok(Done::TokenUsed { role, replace }) => ResultV1::TokenUsed(role.number(), *replace),
            Ok(Done::Session { session }) => ResultV1::Session(*session),
            Err(refusal) => ResultV1::Refused(RefusalV1::of(*refusal)),
        };
        Self { revision: outcome.revision.0, result }
    }

    pub(super) fn to_outcome(&self) -> Result<Outcome, DecodeError> {
        let done = match &self.result {
            ResultV1::Applied => Done::Applied,
            ResultV1::Unchanged => Done::Unchanged,
            ResultV1::Put(version) => Done::Put { version: *version },
            ResultV1::Deleted(count) => Done::Deleted { count: *count },
            ResultV1::Txn(held, deleted) => Done::Txn { held: *held, deleted: *deleted },
            ResultV1::Leased(lease, ttl_s) => Done::Leased { lease: LeaseId(*lease), ttl_s: *ttl_s },
            ResultV1::Expired(through) => Done::Expired { through: *through },
            ResultV1::Held(fence) => Done::Held { fence: Revision(*fence) },
            ResultV1::Waiting(before) => Done::Waiting { before: *before },
            ResultV1::Staged(count) => Done::Staged { count: *count },
            ResultV1::TokenUsed(role, replace) => {
                Done::TokenUsed { role: Role::from_number(*role).ok_or(MALFORMED)?, replace: *replace }
            }
            ResultV1::Session(session) => Done::Session { session: *session },
            ResultV1::Refused(refusal) => {
                let refusal = refusal.to_refusal().ok_or(MALFORMED)?;
                return Ok(Outcome { revision: Revision(self.revision), result: Err(refusal) });
            }
        };
        Ok(Outcome { revision: Revision(self.revision), result: Ok(done) })
    }
}

impl RefusalV1 {
    fn of(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed => Self::Malformed,
            Refusal::NotAllowed(denied) => Self::NotAllowed(denied.number()),
            Refusal::TooLarge(large) => Self::TooLarge(large.number()),
            Refusal::QuotaExceeded(quota) => Self::QuotaExceeded(quota.number()),
            Refusal::NotFound(missing) => Self::NotFound(missing.number()),
            Refusal::Conflict(clash) => Self::Conflict(clash.number()),
            Refusal::Busy { wait_ms } => Self::Busy(wait_ms),
            Refusal::NoSpace => Self::NoSpace,
        }
    }

    fn to_refusal(&self) -> Option<Refusal> {
        Some(match *self {
            Self::Malformed => Refusal::Malformed,
            Self::NotAllowed(number) => Refusal::NotAllowed(Denied::from_number(number)?),
            Self::TooLarge(number) => Refusal::TooLarge(Large::from_number(number)?),
            Self::QuotaExceeded(number) => Refusal::QuotaExceeded(Quota::from_number(number)?),
            Self::NotFound(number) => Refusal::NotFound(Missing::from_number(number)?),
            Self::Conflict(number) => Refusal::Conflict(Clash::from_number(number)?),
            Self::Busy(wait_ms) => Refusal::Busy { wait_ms },
            Self::NoSpace => Refusal::NoSpace,
        })
    }
}
