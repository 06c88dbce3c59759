//! Commands as they are stored and sent, version 1. These types are never edited once a release has them: see
//! `store/testdata/golden`, and the test `golden` for how another version comes in.
//!
//! A new command is a new variant at the end of [`BodyV1`]: its number is unknown to older programs, which stop at it
//! rather than pass over it, and the feature level keeps it out of the log until nobody is older.

use std::sync::Arc;

use bytes::Bytes;
use mgmt_consensus::PeerId;
use serde::{Deserialize, Serialize};

use super::codec::{Blob, DecodeError, Kind, List, MALFORMED, bare, open, parse, seal};
use super::record_v1::{PeerV1, TokenV1, texts, to_texts};
use super::{Body, Command, Compare, ExportChange, Op, Origin, Prefix, Relation, Request, Test, Ticket, Txn};
use crate::event::LeaseId;
use crate::host::HostName;
use crate::key::Key;
use crate::limits::{ADDRESSES_MAX, LEASES_EXPIRED_MAX, REQUEST_BYTES_MAX, STAGED_MAX, TXN_OPS_MAX, ZONE_PARTS_MAX};
use crate::outcome::{Large, Refusal, Role};
use crate::record::Versions;
use crate::revision::Revision;

/// The version of all that is here.
const VERSION: u8 = 1;
/// Variants of [`BodyV1`].
const BODIES: u32 = 24;

#[derive(Serialize, Deserialize)]
struct CommandV1<'a> {
    #[serde(borrow)]
    host: &'a str,
    peer: u128,
    role: u8,
    at_ms: u64,
    request: Blob<'a>,
}

#[derive(Serialize, Deserialize)]
struct RequestV1<'a> {
    ticket: Option<(u64, u64)>,
    /// A [`BodyV1`], in its own bytes so that a variant of a newer program can be told from nonsense.
    #[serde(borrow)]
    body: Blob<'a>,
}

#[derive(Serialize, Deserialize)]
enum BodyV1<'a> {
    #[serde(borrow)]
    Put(PutV1<'a>),
    Delete(&'a str),
    DeletePrefix(&'a str),
    Txn(TxnV1<'a>),
    LeaseGrant(u32),
    LeaseRevoke(u64),
    LeaseExpire(List<u64, LEASES_EXPIRED_MAX>),
    Acquire(AcquireV1<'a>),
    Release(&'a str, u64),
    ExportStage(u64, List<ExportV1<'a>, STAGED_MAX>),
    ExportFlip(FlipV1<'a>),
    ExportForget(&'a str),
    PeerAdmit(&'a str, PeerV1<'a>, bool),
    PeerUpdate(UpdateV1<'a>),
    PeerRemove(&'a str),
    TokenCreate(&'a str, TokenV1<'a>),
    TokenConsume(&'a str, &'a str, u32),
    TokenRevoke(&'a str),
    IdealSize(u8),
    Allow(&'a str, &'a str),
    Disallow(&'a str, &'a str),
    FeatureLevel(u32),
    SessionOpen,
    SessionClose(u64),
}

#[derive(Serialize, Deserialize)]
struct PutV1<'a> {
    #[serde(borrow)]
    key: &'a str,
    value: Blob<'a>,
    /// 0 is none.
    lease: u64,
}

#[derive(Serialize, Deserialize)]
struct TxnV1<'a> {
    #[serde(borrow)]
    compare: List<CompareV1<'a>, TXN_OPS_MAX>,
    then: List<OpV1<'a>, TXN_OPS_MAX>,
    otherwise: List<OpV1<'a>, TXN_OPS_MAX>,
}

#[derive(Serialize, Deserialize)]
enum CompareV1<'a> {
    Value(#[serde(borrow)] &'a str, bool, Blob<'a>),
    Version(&'a str, u8, u64),
    Modify(&'a str, u8, u64),
    Create(&'a str, u8, u64),
    Lease(&'a str, u8, u64),
    Present(&'a str, bool),
    Empty(&'a str),
}

#[derive(Serialize, Deserialize)]
enum OpV1<'a> {
    #[serde(borrow)]
    Put(PutV1<'a>),
    Delete(&'a str),
    DeletePrefix(&'a str),
}

#[derive(Serialize, Deserialize)]
struct AcquireV1<'a> {
    lock: &'a str,
    lease: u64,
    count: u32,
    wait: bool,
}

#[derive(Serialize, Deserialize)]
struct ExportV1<'a> {
    #[serde(borrow)]
    kind: &'a str,
    name: &'a str,
    value: Option<Blob<'a>>,
}

#[derive(Serialize, Deserialize)]
struct FlipV1<'a> {
    generation: u64,
    base: u64,
    staged: u32,
    #[serde(borrow)]
    changes: List<ExportV1<'a>, STAGED_MAX>,
}

#[derive(Serialize, Deserialize)]
struct UpdateV1<'a> {
    #[serde(borrow)]
    host: &'a str,
    addresses: List<&'a str, ADDRESSES_MAX>,
    zone: List<&'a str, ZONE_PARTS_MAX>,
    versions: (u32, u32),
    key_hash: [u8; 32],
}

pub(super) fn encode_command(origin: &Origin, at_ms: u64, request: &[u8]) -> Bytes {
    let Origin { host, peer, role } = origin;
    let command = CommandV1 { host: host.as_str(), peer: peer.0, role: role.number(), at_ms, request: Blob(request) };
    seal(Kind::Command, VERSION, &command).into()
}

pub(super) fn decode_command(bytes: &[u8]) -> Result<Command, DecodeError> {
    let CommandV1 { host, peer, role, at_ms, request } = parse(open(Kind::Command, VERSION, bytes)?)?;
    let role = Role::from_number(role).ok_or(MALFORMED)?;
    let origin = Origin { host: to_host(host)?, peer: PeerId(peer), role };
    Ok(Command { origin, at_ms, request: decode_request(request.0)? })
}

pub(super) fn encode_request(request: &Request) -> Bytes {
    let body = bare(&body_to_v1(&request.body));
    let ticket = request.ticket.map(|ticket| (ticket.session, ticket.sequence));
    seal(Kind::Request, VERSION, &RequestV1 { ticket, body: Blob(&body) }).into()
}

pub(super) fn decode_request(bytes: &[u8]) -> Result<Request, DecodeError> {
    if bytes.len() > REQUEST_BYTES_MAX {
        return Err(Refusal::TooLarge(Large::Command).into());
    }
    let RequestV1 { ticket, body } = parse(open(Kind::Request, VERSION, bytes)?)?;
    let variant = body.0.first_chunk().copied().map(u32::from_le_bytes).ok_or(MALFORMED)?;
    if variant >= BODIES {
        return Err(DecodeError::Unknown(format!("command {variant} is unknown")));
    }
    let ticket = ticket.map(|(session, sequence)| Ticket { session, sequence });
    Ok(Request { ticket, body: body_from_v1(parse(body.0)?)? })
}

fn body_to_v1(body: &Body) -> BodyV1<'_> {
    match body {
        Body::Put { key, value, lease } => BodyV1::Put(put_to_v1(key, value, *lease)),
        Body::Delete { key } => BodyV1::Delete(key.as_str()),
        Body::DeletePrefix { prefix } => BodyV1::DeletePrefix(prefix.as_str()),
        Body::Txn(txn) => BodyV1::Txn(TxnV1 {
            compare: List(txn.compare.iter().map(compare_to_v1).collect()),
            then: List(txn.then.iter().map(op_to_v1).collect()),
            otherwise: List(txn.otherwise.iter().map(op_to_v1).collect()),
        }),
        Body::LeaseGrant { ttl_s } => BodyV1::LeaseGrant(*ttl_s),
        Body::LeaseRevoke { lease } => BodyV1::LeaseRevoke(lease.0),
        Body::LeaseExpire { leases } => BodyV1::LeaseExpire(List(leases.iter().map(|lease| lease.0).collect())),
        Body::Acquire { lock, lease, count, wait } => {
            BodyV1::Acquire(AcquireV1 { lock: lock.as_str(), lease: lease.0, count: *count, wait: *wait })
        }
        Body::Release { lock, lease } => BodyV1::Release(lock.as_str(), lease.0),
        Body::ExportStage { generation, changes } => BodyV1::ExportStage(*generation, exports_to_v1(changes)),
        Body::ExportFlip { generation, base, staged, changes } => BodyV1::ExportFlip(FlipV1 {
            generation: *generation,
            base: base.0,
            staged: *staged,
            changes: exports_to_v1(changes),
        }),
        Body::ExportForget { host } => BodyV1::ExportForget(host.as_str()),
        Body::PeerAdmit { host, peer, replace } => BodyV1::PeerAdmit(host.as_str(), PeerV1::of(peer), *replace),
        Body::PeerUpdate { host, addresses, zone, versions, key_hash } => BodyV1::PeerUpdate(UpdateV1 {
            host: host.as_str(),
            addresses: texts(addresses),
            zone: texts(zone),
            versions: (versions.min, versions.max),
            key_hash: *key_hash,
        }),
        Body::PeerRemove { host } => BodyV1::PeerRemove(host.as_str()),
        Body::TokenCreate { id, token } => BodyV1::TokenCreate(id, TokenV1::of(token)),
        Body::TokenConsume { id, host, used } => BodyV1::TokenConsume(id, host.as_str(), *used),
        Body::TokenRevoke { id } => BodyV1::TokenRevoke(id),
        Body::IdealSize { masters } => BodyV1::IdealSize(*masters),
        Body::Allow { hosts, prefix } => BodyV1::Allow(hosts, prefix),
        Body::Disallow { hosts, prefix } => BodyV1::Disallow(hosts, prefix),
        Body::FeatureLevel { level } => BodyV1::FeatureLevel(*level),
        Body::SessionOpen => BodyV1::SessionOpen,
        Body::SessionClose { session } => BodyV1::SessionClose(*session),
    }
}

fn body_from_v1(body: BodyV1<'_>) -> Result<Body, DecodeError> {
    Ok(match body {
        BodyV1::Put(PutV1 { key, value, lease }) => {
            Body::Put { key: to_key(key)?, value: value.0.into(), lease: to_lease(lease) }
        }
        BodyV1::Delete(key) => Body::Delete { key: to_key(key)? },
        BodyV1::DeletePrefix(prefix) => Body::DeletePrefix { prefix: to_prefix(prefix)? },
        BodyV1::Txn(txn) => Body::Txn(Txn {
            compare: txn.compare.0.into_iter().map(compare_from_v1).collect::<Result<_, _>>()?,
            then: txn.then.0.into_iter().map(op_from_v1).collect::<Result<_, _>>()?,
            otherwise: txn.otherwise.0.into_iter().map(op_from_v1).collect::<Result<_, _>>()?,
        }),
        BodyV1::LeaseGrant(ttl_s) => Body::LeaseGrant { ttl_s },
        BodyV1::LeaseRevoke(lease) => Body::LeaseRevoke { lease: LeaseId(lease) },
        BodyV1::LeaseExpire(leases) => Body::LeaseExpire { leases: leases.0.into_iter().map(LeaseId).collect() },
        BodyV1::Acquire(AcquireV1 { lock, lease, count, wait }) => {
            Body::Acquire { lock: to_key(lock)?, lease: LeaseId(lease), count, wait }
        }
        BodyV1::Release(lock, lease) => Body::Release { lock: to_key(lock)?, lease: LeaseId(lease) },
        BodyV1::ExportStage(generation, changes) => Body::ExportStage { generation, changes: exports_from_v1(changes) },
        BodyV1::ExportFlip(FlipV1 { generation, base, staged, changes }) => {
            Body::ExportFlip { generation, base: Revision(base), staged, changes: exports_from_v1(changes) }
        }
        BodyV1::ExportForget(host) => Body::ExportForget { host: to_host(host)? },
        BodyV1::PeerAdmit(host, peer, replace) => {
            Body::PeerAdmit { host: to_host(host)?, peer: peer.into_peer()?, replace }
        }
        BodyV1::PeerUpdate(UpdateV1 { host, addresses, zone, versions: (min, max), key_hash }) => Body::PeerUpdate {
            host: to_host(host)?,
            addresses: to_texts(addresses),
            zone: to_texts(zone),
            versions: Versions { min, max },
            key_hash,
        },
        BodyV1::PeerRemove(host) => Body::PeerRemove { host: to_host(host)? },
        BodyV1::TokenCreate(id, token) => Body::TokenCreate { id: id.into(), token: token.into_token()? },
        BodyV1::TokenConsume(id, host, used) => Body::TokenConsume { id: id.into(), host: to_host(host)?, used },
        BodyV1::TokenRevoke(id) => Body::TokenRevoke { id: id.into() },
        BodyV1::IdealSize(masters) => Body::IdealSize { masters },
        BodyV1::Allow(hosts, prefix) => Body::Allow { hosts: hosts.into(), prefix: prefix.into() },
        BodyV1::Disallow(hosts, prefix) => Body::Disallow { hosts: hosts.into(), prefix: prefix.into() },
        BodyV1::FeatureLevel(level) => Body::FeatureLevel { level },
        BodyV1::SessionOpen => Body::SessionOpen,
        BodyV1::SessionClose(session) => Body::SessionClose { session },
    })
}

fn put_to_v1<'a>(key: &'a Key, value: &'a Arc<[u8]>, lease: Option<LeaseId>) -> PutV1<'a> {
    PutV1 { key: key.as_str(), value: Blob(value), lease: lease.map_or(0, |lease| lease.0) }
}

fn op_to_v1(op: &Op) -> OpV1<'_> {
    match op {
        Op::Put { key, value, lease } => OpV1::Put(put_to_v1(key, value, *lease)),
        Op::Delete { key } => OpV1::Delete(key.as_str()),
        Op::DeletePrefix { prefix } => OpV1::DeletePrefix(prefix.as_str()),
    }
}

fn op_from_v1(op: OpV1<'_>) -> Result<Op, DecodeError> {
    Ok(match op {
        OpV1::Put(PutV1 { key, value, lease }) => {
            Op::Put { key: to_key(key)?, value: value.0.into(), lease: to_lease(lease) }
        }
        OpV1::Delete(key) => Op::Delete { key: to_key(key)? },
        OpV1::DeletePrefix(prefix) => Op::DeletePrefix { prefix: to_prefix(prefix)? },
    })
}

fn compare_to_v1(compare: &Compare) -> CompareV1<'_> {
    let (key, test) = match compare {
        Compare::Empty(prefix) => return CompareV1::Empty(prefix.as_str()),
        Compare::Key(key, test) => (key.as_str(), test),
    };
    match test {
        Test::Value(is, value) => CompareV1::Value(key, *is, Blob(value)),
        Test::Version(relation, version) => CompareV1::Version(key, relation.number(), *version),
        Test::Modify(relation, revision) => CompareV1::Modify(key, relation.number(), revision.0),
        Test::Create(relation, revision) => CompareV1::Create(key, relation.number(), revision.0),
        Test::Lease(relation, lease) => CompareV1::Lease(key, relation.number(), *lease),
        Test::Present(is) => CompareV1::Present(key, *is),
    }
}

fn compare_from_v1(compare: CompareV1<'_>) -> Result<Compare, DecodeError> {
    let relation = |number| Relation::from_number(number).ok_or(MALFORMED);
    let (key, test) = match compare {
        CompareV1::Value(key, is, value) => (key, Test::Value(is, value.0.into())),
        CompareV1::Version(key, by, version) => (key, Test::Version(relation(by)?, version)),
        CompareV1::Modify(key, by, revision) => (key, Test::Modify(relation(by)?, Revision(revision))),
        CompareV1::Create(key, by, revision) => (key, Test::Create(relation(by)?, Revision(revision))),
        CompareV1::Lease(key, by, lease) => (key, Test::Lease(relation(by)?, lease)),
        CompareV1::Present(key, is) => (key, Test::Present(is)),
        CompareV1::Empty(prefix) => return Ok(Compare::Empty(to_prefix(prefix)?)),
    };
    Ok(Compare::Key(to_key(key)?, test))
}

fn exports_to_v1(changes: &[ExportChange]) -> List<ExportV1<'_>, STAGED_MAX> {
    List(changes.iter().map(export_to_v1).collect())
}

fn export_to_v1(change: &ExportChange) -> ExportV1<'_> {
    let ExportChange { kind, name, value } = change;
    ExportV1 { kind, name, value: value.as_ref().map(|value| Blob(value)) }
}

fn exports_from_v1(changes: List<ExportV1<'_>, STAGED_MAX>) -> Vec<ExportChange> {
    let from = |change| {
        let ExportV1 { kind, name, value } = change;
        ExportChange { kind: kind.into(), name: name.into(), value: value.map(|value| value.0.into()) }
    };
    changes.0.into_iter().map(from).collect()
}

pub(super) fn to_key(text: &str) -> Result<Key, DecodeError> {
    Key::parse(text).map_err(|_| MALFORMED)
}

fn to_prefix(text: &str) -> Result<Prefix, DecodeError> {
    Prefix::parse(text).ok_or(MALFORMED)
}

pub(super) fn to_host(text: &str) -> Result<HostName, DecodeError> {
    HostName::parse(text).map_err(|_| MALFORMED)
}

pub(super) fn to_lease(lease: u64) -> Option<LeaseId> {
    (lease != 0).then_some(LeaseId(lease))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_beyond_the_last_are_unknown_and_not_nonsense() {
        assert_eq!(bare(&BodyV1::SessionClose(0))[..4], (BODIES - 1).to_le_bytes(), "the last one");
        let sealed = |body: &[u8]| seal(Kind::Request, VERSION, &RequestV1 { ticket: None, body: Blob(body) });
        assert!(matches!(decode_request(&sealed(&BODIES.to_le_bytes())), Err(DecodeError::Unknown(_))));
        assert_eq!(decode_request(&sealed(&(BODIES - 1).to_le_bytes())), Err(MALFORMED));
        assert_eq!(decode_request(&sealed(&[0, 0])), Err(MALFORMED));
    }
}
