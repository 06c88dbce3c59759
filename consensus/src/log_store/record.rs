//! What the journal is told, as bytes: little endian, lengths in front, a kind that is never used for anything else.
//!
//! The bytes of one entry are the same in a frame and in the index; their CRC is what the index is checked against.
//! Adding a kind raises [`super::journal::FORMAT`]; no kind is ever changed. Golden bytes are in the test.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::identity::{Incarnation, PeerId};
use crate::limits::{COMMAND_BYTES_MAX, HOST_NAME_BYTES_MAX};
use crate::types::{Blob, CommittedLeaderId, Entry, LeaderId, LogId, Member, Membership, Payload, Vote};

/// Voter sets of a membership: one, or two while it changes. More would be a mistake of somebody.
const VOTER_SETS_MAX: usize = 8;
/// Members in a membership: above what the group allows itself, so that the log never refuses what was decided.
const MEMBERS_MAX: usize = 1024;

/// Something the journal keeps, without what it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// Who was voted for.
    Vote(Vote),
    /// An entry, of which this is where it stands. Its bytes begin at the record.
    Append(LogId),
    /// Entries behind this one are gone; `None`: all are.
    Truncate(Option<LogId>),
    /// Entries up to this one are gone.
    Purge(LogId),
    /// Everything up to here is committed.
    Committed(Option<LogId>),
    /// The first record of every segment: where things stood.
    Standing(Standing),
}

/// Everything but the entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    /// The last entry there was, if only the purged one.
    pub(super) last: Option<LogId>,
}

/// Bytes that are no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(&'static str);

mod kind {
    pub(super) const VOTE: u8 = 1;
    pub(super) const APPEND: u8 = 2;
    pub(super) const TRUNCATE: u8 = 3;
    pub(super) const PURGE: u8 = 4;
    pub(super) const COMMITTED: u8 = 5;
    pub(super) const STANDING: u8 = 6;
}

mod carries {
    pub(super) const NOTHING: u8 = 0;
    pub(super) const COMMAND: u8 = 1;
    pub(super) const MEMBERSHIP: u8 = 2;
}

/// Appends a record that is not an entry.
pub(super) fn encode(record: &Record, into: &mut Vec<u8>) {
    match record {
        Record::Vote(vote) => {
            into.push(kind::VOTE);
            put_vote(vote, into);
        }
        Record::Append(_) => unreachable!("an entry is encoded with what it carries"),
        Record::Truncate(last) => {
            into.push(kind::TRUNCATE);
            put_optional(last.as_ref(), put_log_id, into);
        }
        Record::Purge(last) => {
            into.push(kind::PURGE);
            put_log_id(last, into);
        }
        Record::Committed(last) => {
            into.push(kind::COMMITTED);
            put_optional(last.as_ref(), put_log_id, into);
        }
        Record::Standing(standing) => {
            into.push(kind::STANDING);
            put_optional(standing.vote.as_ref(), put_vote, into);
            for log_id in [&standing.committed, &standing.purged, &standing.last] {
                put_optional(log_id.as_ref(), put_log_id, into);
            }
        }
    }
}

/// Bytes that [`encode_entry`] will write.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    let payload = match &entry.payload {
        Payload::Blank => 0,
        Payload::Normal(Blob(command)) => command.len(),
        Payload::Membership(membership) => membership_bytes(membership).len(),
    };
    ENTRY_HEAD_BYTES + payload
}

/// Kind, log id, what it carries, length.
const ENTRY_HEAD_BYTES: usize = 1 + LOG_ID_BYTES + 1 + 4;
const LOG_ID_BYTES: usize = 24;

/// Appends an entry.
pub(super) fn encode_entry(entry: &Entry, into: &mut Vec<u8>) {
    into.push(kind::APPEND);
    put_log_id(&entry.log_id, into);
    let (tag, payload) = match &entry.payload {
        Payload::Blank => (carries::NOTHING, Bytes::new()),
        Payload::Normal(Blob(command)) => (carries::COMMAND, command.clone()),
        Payload::Membership(membership) => (carries::MEMBERSHIP, membership_bytes(membership).into()),
    };
    into.push(tag);
    put_u32(payload.len(), into);
    into.extend_from_slice(&payload);
}

fn put_u32(number: usize, into: &mut Vec<u8>) {
    into.extend(u32::try_from(number).expect("lengths are limited far below").to_le_bytes());
}

fn put_log_id(log_id: &LogId, into: &mut Vec<u8>) {
    for number in [log_id.leader_id.term, log_id.leader_id.node_id, log_id.index] {
        into.extend(number.to_le_bytes());
    }
}

fn put_vote(vote: &Vote, into: &mut Vec<u8>) {
    into.extend(vote.leader_id.term.to_le_bytes());
    into.extend(vote.leader_id.node_id.to_le_bytes());
    into.push(u8::from(vote.committed));
}

fn put_optional<T>(value: Option<&T>, put: impl Fn(&T, &mut Vec<u8>), into: &mut Vec<u8>) {
    into.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(value, into);
    }
}

fn membership_bytes(membership: &Membership) -> Vec<u8> {
    let mut into = Vec::new();
    put_u32(membership.get_joint_config().len(), &mut into);
    for voters in membership.get_joint_config() {
        put_u32(voters.len(), &mut into);
        voters.iter().for_each(|id| into.extend(id.to_le_bytes()));
    }
    put_u32(membership.nodes().count(), &mut into);
    for (id, member) in membership.nodes() {
        into.extend(id.to_le_bytes());
        into.extend(member.peer.0.to_le_bytes());
        into.extend(member.incarnation.0.to_le_bytes());
        put_u32(member.host.len(), &mut into);
        into.extend(member.host.as_bytes());
    }
    into
}

/// Reads from the front of some bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        Ok(self.take(N)?.try_into().expect("as many were taken"))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn u128(&mut self) -> Result<u128, Malformed> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    fn flag(&mut self) -> Result<bool, Malformed> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Malformed("a flag is neither 0 nor 1")),
        }
    }

    fn length(&mut self, most: usize) -> Result<usize, Malformed> {
        let length = u32::from_le_bytes(self.array()?);
        usize::try_from(length).ok().filter(|length| *length <= most).ok_or(Malformed("a length is above its limit"))
    }

    fn log_id(&mut self) -> Result<LogId, Malformed> {
        let leader_id = CommittedLeaderId { term: self.u64()?, node_id: self.u64()? };
        // The highest index there is stays free: one is added to indices.
        match self.u64()? {
            u64::MAX => Err(Malformed("an index is the last one there is")),
            index => Ok(LogId { leader_id, index }),
        }
    }

    fn vote(&mut self) -> Result<Vote, Malformed> {
        let leader_id = LeaderId { term: self.u64()?, node_id: self.u64()? };
        Ok(Vote { leader_id, committed: self.flag()? })
    }

    fn optional<T>(&mut self, value: impl Fn(&mut Self) -> Result<T, Malformed>) -> Result<Option<T>, Malformed> {
        if self.flag()? { value(self).map(Some) } else { Ok(None) }
    }

    fn standing(&mut self) -> Result<Standing, Malformed> {
        let vote = self.optional(Self::vote)?;
        let committed = self.optional(Self::log_id)?;
        let purged = self.optional(Self::log_id)?;
        Ok(Standing { vote, committed, purged, last: self.optional(Self::log_id)? })
    }

    /// An entry behind its kind: where it stands, what tag it has, what it carries.
    fn entry(&mut self) -> Result<(LogId, u8, &'a [u8]), Malformed> {
        let log_id = self.log_id()?;
        let [tag] = self.array()?;
        let length = self.length(COMMAND_BYTES_MAX)?;
        Ok((log_id, tag, self.take(length)?))
    }

    fn membership(&mut self) -> Result<Membership, Malformed> {
        let mut sets = Vec::new();
        for _ in 0..self.length(VOTER_SETS_MAX)? {
            let voters: Result<BTreeSet<_>, _> = (0..self.length(MEMBERS_MAX)?).map(|_| self.u64()).collect();
            sets.push(voters?);
        }
        let mut members = BTreeMap::new();
        for _ in 0..self.length(MEMBERS_MAX)? {
            let id = self.u64()?;
            let (peer, incarnation) = (PeerId(self.u128()?), Incarnation(self.u128()?));
            let length = self.length(HOST_NAME_BYTES_MAX)?;
            let host = str::from_utf8(self.take(length)?).map_err(|_| Malformed("a host name is not text"))?;
            members.insert(id, Member { peer, incarnation, host: host.to_owned() });
        }
        if !self.0.is_empty() {
            return Err(Malformed("there is more than a membership"));
        }
        if sets.is_empty() && members.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(sets, members).map_err(|_| Malformed("a membership that cannot be"))
    }
}

/// Reads the record at the front, and says how many bytes it has.
pub(super) fn decode(bytes: &[u8]) -> Result<(Record, usize), Malformed> {
    let mut reader = Reader(bytes);
    let [kind] = reader.array()?;
    let record = match kind {
        kind::VOTE => Record::Vote(reader.vote()?),
        kind::APPEND => Record::Append(reader.entry()?.0),
        kind::TRUNCATE => Record::Truncate(reader.optional(Reader::log_id)?),
        kind::PURGE => Record::Purge(reader.log_id()?),
        kind::COMMITTED => Record::Committed(reader.optional(Reader::log_id)?),
        kind::STANDING => Record::Standing(reader.standing()?),
        _ => return Err(Malformed("a kind of record that is not known")),
    };
    Ok((record, bytes.len() - reader.0.len()))
}

/// Reads an entry that these bytes are.
pub(super) fn decode_entry(bytes: &Bytes) -> Result<Entry, Malformed> {
    let mut reader = Reader(bytes);
    if reader.array()? != [kind::APPEND] {
        return Err(Malformed("it is not an entry"));
    }
    let (log_id, tag, carried) = reader.entry()?;
    if !reader.0.is_empty() {
        return Err(Malformed("there is more than an entry"));
    }
    let payload = match tag {
        carries::NOTHING if carried.is_empty() => Payload::Blank,
        carries::COMMAND => Payload::Normal(Blob(bytes.slice_ref(carried))),
        carries::MEMBERSHIP => Payload::Membership(Reader(carried).membership()?),
        _ => return Err(Malformed("an entry that carries something unknown")),
    };
    Ok(Entry { log_id, payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write as _;

    fn log_id(term: u64, node_id: u64, index: u64) -> LogId {
        LogId { leader_id: CommittedLeaderId { term, node_id }, index }
    }

    fn entry(payload: Payload) -> Entry {
        Entry { log_id: log_id(3, 1, 7), payload }
    }

    fn membership() -> Membership {
        let member = |n: u64| Member { peer: PeerId(n.into()), incarnation: Incarnation(9), host: format!("h{n}") };
        Membership::new(vec![[1].into(), [1, 2].into()], BTreeMap::from([1, 2, 3].map(|n| (n, member(n))))).unwrap()
    }

    fn records() -> Vec<Record> {
        let vote = Vote { leader_id: LeaderId { term: 3, node_id: 1 }, committed: true };
        let standing = Standing { vote: Some(vote), purged: Some(log_id(1, 1, 2)), ..Standing::default() };
        vec![
            Record::Vote(vote),
            Record::Truncate(None),
            Record::Truncate(Some(log_id(1, 2, 3))),
            Record::Purge(log_id(1, 2, 3)),
            Record::Committed(Some(log_id(1, 2, 3))),
            Record::Standing(standing),
        ]
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    /// Never edit what is below: logs that were written must be read for ever.
    #[test]
    fn the_bytes_are_for_ever() {
        let of = |record: &Record| {
            let mut bytes = Vec::new();
            encode(record, &mut bytes);
            hex(&bytes)
        };
        let id = "010000000000000002000000000000000300000000000000";
        let seven = "030000000000000001000000000000000700000000000000";
        let golden = [
            "010300000000000000010000000000000001".to_owned(),
            "0300".to_owned(),
            format!("0301{id}"),
            format!("04{id}"),
            format!("0501{id}"),
            "0601030000000000000001000000000000000100010100000000000000010000000000000002000000000000\
             0000"
                .replace(' ', ""),
        ];
        assert_eq!(records().iter().map(of).collect::<Vec<_>>(), golden);
        let of = |payload| {
            let mut bytes = Vec::new();
            encode_entry(&entry(payload), &mut bytes);
            hex(&bytes)
        };
        assert_eq!(of(Payload::Blank), format!("02{seven}0000000000"));
        assert_eq!(of(Payload::Normal(Blob("ab".into()))), format!("02{seven}01020000006162"));
        let one = |n| format!("0{n}000000000000000{n}{}09{}02000000683{n}", "0".repeat(30), "0".repeat(30));
        let members = format!("03000000{}{}{}", one(1), one(2), one(3));
        let sets = "020000000100000001000000000000000200000001000000000000000200000000000000";
        assert_eq!(of(Payload::Membership(membership())), format!("02{seven}02b2000000{sets}{members}"));
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        for record in records() {
            let mut bytes = Vec::new();
            encode(&record, &mut bytes);
            let length = bytes.len();
            bytes.push(77);
            assert_eq!(decode(&bytes), Ok((record, length)));
        }
        let payloads = [Payload::Blank, Payload::Normal(Blob("abc".into())), Payload::Membership(membership())];
        for entry in payloads.map(entry) {
            let mut bytes = Vec::new();
            encode_entry(&entry, &mut bytes);
            assert_eq!(bytes.len(), entry_bytes(&entry));
            assert_eq!(decode(&bytes), Ok((Record::Append(entry.log_id), bytes.len())));
            assert_eq!(decode_entry(&bytes.into()), Ok(entry));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _record = decode(&bytes);
            let _entry = decode_entry(&bytes.into());
        }
    }
}
