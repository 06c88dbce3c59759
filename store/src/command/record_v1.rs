//! Records as they lie under their keys, version 1. Never edited, as in `v1`.

use std::sync::Arc;

use mgmt_consensus::PeerId;
use serde::{Deserialize, Serialize};

use super::codec::{DecodeError, Kind, List, MALFORMED, open, parse, seal};
use super::v1::to_host;
use crate::event::{LeaseId, Value};
use crate::limits::{ADDRESSES_MAX, LOCK_HOLDERS_MAX, LOCK_WAITERS_MAX, ZONE_PARTS_MAX};
use crate::outcome::Role;
use crate::record::{Claim, Lock, Manifest, Peer, Token, Versions};
use crate::revision::Revision;

const VERSION: u8 = 1;

/// What has a form under a key.
pub(crate) trait Stored: Sized {
    /// The bytes under the key.
    fn store(&self) -> Value;
    /// From these bytes.
    fn load(bytes: &[u8]) -> Result<Self, DecodeError>;
}

#[derive(Serialize, Deserialize)]
pub(super) struct PeerV1<'a> {
    peer: u128,
    role: u8,
    #[serde(borrow)]
    addresses: List<&'a str, ADDRESSES_MAX>,
    zone: List<&'a str, ZONE_PARTS_MAX>,
    versions: (u32, u32),
    key_hash: [u8; 32],
    admitted: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct TokenV1<'a> {
    public_key: [u8; 32],
    role: u8,
    host: Option<&'a str>,
    replace: bool,
    expires_ms: u64,
    uses: Option<u32>,
    used: u32,
}

#[derive(Serialize, Deserialize)]
struct LockV1<'a> {
    count: u32,
    #[serde(borrow)]
    holders: List<ClaimV1<'a>, { LOCK_HOLDERS_MAX as usize }>,
    waiters: List<ClaimV1<'a>, LOCK_WAITERS_MAX>,
}

#[derive(Serialize, Deserialize)]
struct ClaimV1<'a> {
    lease: u64,
    host: &'a str,
    asked: u64,
    fence: u64,
}

#[derive(Serialize, Deserialize)]
struct ManifestV1 {
    generation: u64,
    count: u32,
    bytes: u64,
}

impl<'a> PeerV1<'a> {
    pub(super) fn of(peer: &'a Peer) -> Self {
        let Peer { peer, role, addresses, zone, versions, key_hash, admitted } = peer;
        Self {
            peer: peer.0,
            role: role.number(),
            addresses: texts(addresses),
            zone: texts(zone),
            versions: (versions.min, versions.max),
            key_hash: *key_hash,
            admitted: admitted.0,
        }
    }

    pub(super) fn into_peer(self) -> Result<Peer, DecodeError> {
        Ok(Peer {
            peer: PeerId(self.peer),
            role: Role::from_number(self.role).ok_or(MALFORMED)?,
            addresses: to_texts(self.addresses),
            zone: to_texts(self.zone),
            versions: Versions { min: self.versions.0, max: self.versions.1 },
            key_hash: self.key_hash,
            admitted: Revision(self.admitted),
        })
    }
}

impl<'a> TokenV1<'a> {
    pub(super) fn of(token: &'a Token) -> Self {
        Self {
            public_key: token.public_key,
            role: token.role.number(),
            host: token.host.as_ref().map(|host| host.as_str()),
            replace: token.replace,
            expires_ms: token.expires_ms,
            uses: token.uses,
            used: token.used,
        }
    }

    pub(super) fn into_token(self) -> Result<Token, DecodeError> {
        Ok(Token {
            public_key: self.public_key,
            role: Role::from_number(self.role).ok_or(MALFORMED)?,
            host: self.host.map(to_host).transpose()?,
            replace: self.replace,
            expires_ms: self.expires_ms,
            uses: self.uses,
            used: self.used,
        })
    }
}

impl Stored for Peer {
    fn store(&self) -> Value {
        seal(Kind::Peer, VERSION, &PeerV1::of(self)).into()
    }

    fn load(bytes: &[u8]) -> Result<Self, DecodeError> {
        parse::<PeerV1<'_>>(open(Kind::Peer, VERSION, bytes)?)?.into_peer()
    }
}

impl Stored for Token {
    fn store(&self) -> Value {
        seal(Kind::Token, VERSION, &TokenV1::of(self)).into()
    }

    fn load(bytes: &[u8]) -> Result<Self, DecodeError> {
        parse::<TokenV1<'_>>(open(Kind::Token, VERSION, bytes)?)?.into_token()
    }
}

impl Stored for Lock {
    fn store(&self) -> Value {
        let lock = LockV1 {
            count: self.count,
            holders: List(self.holders.iter().map(claim_to_v1).collect()),
            waiters: List(self.waiters.iter().map(claim_to_v1).collect()),
        };
        seal(Kind::Lock, VERSION, &lock).into()
    }

    fn load(bytes: &[u8]) -> Result<Self, DecodeError> {
        let LockV1 { count, holders, waiters } = parse(open(Kind::Lock, VERSION, bytes)?)?;
        Ok(Self {
            count,
            holders: holders.0.into_iter().map(claim_from_v1).collect::<Result<_, _>>()?,
            waiters: waiters.0.into_iter().map(claim_from_v1).collect::<Result<_, _>>()?,
        })
    }
}

fn claim_to_v1(claim: &Claim) -> ClaimV1<'_> {
    let Claim { lease, host, asked, fence } = claim;
    ClaimV1 { lease: lease.0, host: host.as_str(), asked: asked.0, fence: fence.0 }
}

fn claim_from_v1(claim: ClaimV1<'_>) -> Result<Claim, DecodeError> {
    let ClaimV1 { lease, host, asked, fence } = claim;
    Ok(Claim { lease: LeaseId(lease), host: to_host(host)?, asked: Revision(asked), fence: Revision(fence) })
}

impl Stored for Manifest {
    fn store(&self) -> Value {
        let Self { generation, count, bytes } = *self;
        seal(Kind::Manifest, VERSION, &ManifestV1 { generation, count, bytes }).into()
    }

    fn load(bytes: &[u8]) -> Result<Self, DecodeError> {
        let ManifestV1 { generation, count, bytes } = parse(open(Kind::Manifest, VERSION, bytes)?)?;
        Ok(Self { generation, count, bytes })
    }
}

/// The ideal size, and the feature level.
impl Stored for u32 {
    fn store(&self) -> Value {
        seal(Kind::Number, VERSION, self).into()
    }

    fn load(bytes: &[u8]) -> Result<Self, DecodeError> {
        parse(open(Kind::Number, VERSION, bytes)?)
    }
}

pub(super) fn texts<const MAX: usize>(texts: &[Arc<str>]) -> List<&str, MAX> {
    List(texts.iter().map(|text| &**text).collect())
}

pub(super) fn to_texts<const MAX: usize>(texts: List<&str, MAX>) -> Vec<Arc<str>> {
    texts.0.into_iter().map(Arc::from).collect()
}
