//! The keyspace against a naive model, and against itself: whatever comes, replicas agree, a snapshot loses nothing, and
//! events tell all that changed.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mgmt_consensus::machine::Frozen;
use mgmt_consensus::mutant::{self, Mutant};
use mgmt_store::command::{Compare, DecodeError, Op, Request, Test, Txn};
use mgmt_store::key::Space;
use mgmt_store::outcome::{Clash, Denied, Missing};
use mgmt_store::snapshot::{FrozenStore, restore};
use mgmt_store::{
    Body, Change, Command, Done, Entry, Event, Key, Keyspace, LeaseId, Outcome, Refusal, Revision, Ticket,
};
use proptest::prelude::*;
use support::{Dice, admin, bodies, command, key, value};

/// A state with the plainest of means. Nobody is in the registry and everybody is admin.
#[derive(Default)]
struct Model {
    keys: BTreeMap<Key, Entry>,
    leases: BTreeSet<LeaseId>,
    locks: BTreeMap<Key, Lock>,
}

#[derive(Clone)]
struct Lock {
    count: u32,
    /// Holders come first, with their fences.
    queue: Vec<(LeaseId, u64)>,
}

impl Model {
    fn ops(&mut self, revision: Revision, ops: &[Op]) -> Result<u32, Refusal> {
        for op in ops {
            let space = match op {
                Op::Put { key, .. } | Op::Delete { key } => key.space(),
                Op::DeletePrefix { prefix } => Space::of(prefix.as_str()).unwrap(),
            };
            if !matches!(space, Space::Keys | Space::Maps) {
                return Err(Refusal::NotAllowed(Denied::Space));
            }
            if let Op::Put { lease: Some(lease), .. } = op
                && !self.leases.contains(lease)
            {
                return Err(Refusal::NotFound(Missing::Lease));
            }
        }
        let mut deleted = 0;
        for op in ops {
            let before = self.keys.len();
            match op {
                Op::Put { key, value, lease } => {
                    let old = self.keys.get(key);
                    let (create, version) = old.map_or((revision, 1), |old| (old.create, old.version + 1));
                    let entry = Entry { value: value.clone(), create, modify: revision, version, lease: *lease };
                    self.keys.insert(key.clone(), entry);
                    continue;
                }
                Op::Delete { key } => _ = self.keys.remove(key),
                Op::DeletePrefix { prefix } => self.keys.retain(|key, _| !key.as_str().starts_with(prefix.as_str())),
            }
            deleted += u32::try_from(before - self.keys.len()).unwrap();
        }
        Ok(deleted)
    }

    fn holds(&self, locks: &BTreeMap<Key, Lock>, compare: &Compare) -> bool {
        let (key, test) = match compare {
            Compare::Empty(prefix) => {
                let mut all = self.keys.keys().chain(locks.keys());
                return !all.any(|key| key.as_str().starts_with(prefix.as_str()));
            }
            Compare::Key(key, test) => (key, test),
        };
        // What lies under locks is the store's own business.
        let entry = self.keys.get(key);
        let numbers = entry.map_or((0, 0, 0, 0), |e| (e.version, e.modify.0, e.create.0, e.lease.map_or(0, |l| l.0)));
        match test {
            Test::Value(is, value) => (entry.map(|entry| &entry.value) == Some(value)) == *is,
            Test::Version(relation, number) => relation.holds(numbers.0, *number),
            Test::Modify(relation, revision) => relation.holds(numbers.1, revision.0),
            Test::Create(relation, revision) => relation.holds(numbers.2, revision.0),
            Test::Lease(relation, number) => relation.holds(numbers.3, *number),
            Test::Present(is) => entry.is_some() == *is,
        }
    }

    fn end(&mut self, revision: Revision, lease: LeaseId) {
        if self.leases.remove(&lease) {
            self.keys.retain(|_, entry| entry.lease != Some(lease));
            let locks: Vec<Key> = self.locks.keys().cloned().collect();
            locks.iter().for_each(|lock| self.leave(revision, lock, lease));
        }
    }

    fn leave(&mut self, revision: Revision, key: &Key, lease: LeaseId) {
        let lock = self.locks.get_mut(key).unwrap();
        let held = |queue: &[(LeaseId, u64)]| queue.iter().filter(|(_, fence)| *fence > 0).count();
        lock.queue.retain(|(claim, _)| *claim != lease);
        while held(&lock.queue) < lock.count as usize
            && let Some((_, fence)) = lock.queue.iter_mut().find(|(_, fence)| *fence == 0)
        {
            *fence = revision.0;
        }
        self.locks.retain(|_, lock| !lock.queue.is_empty());
    }

    fn acquire(
        &mut self,
        revision: Revision,
        key: &Key,
        lease: LeaseId,
        count: u32,
        wait: bool,
    ) -> Result<Done, Refusal> {
        if key.space() != Space::Locks || count == 0 {
            return Err(Refusal::Malformed);
        }
        if !self.leases.contains(&lease) {
            return Err(Refusal::NotFound(Missing::Lease));
        }
        let lock = self.locks.get(key).cloned().unwrap_or(Lock { count, queue: Vec::new() });
        if lock.count != count {
            return Err(Refusal::Conflict(Clash::LockCount));
        }
        let holders = lock.queue.iter().filter(|(_, fence)| *fence > 0).count();
        if let Some(at) = lock.queue.iter().position(|(claim, _)| *claim == lease) {
            let fence = Revision(lock.queue[at].1);
            let before = u32::try_from(at.saturating_sub(holders)).unwrap();
            return Ok(if at < holders { Done::Held { fence } } else { Done::Waiting { before } });
        }
        if holders == lock.count as usize && !wait {
            return Err(Refusal::Conflict(Clash::Held));
        }
        let (before, lock) = (lock.queue.len(), self.locks.entry(key.clone()).or_insert(lock));
        lock.queue.push((lease, 0));
        if before < lock.count as usize {
            lock.queue[before].1 = revision.0;
            return Ok(Done::Held { fence: revision });
        }
        Ok(Done::Waiting { before: u32::try_from(before - lock.count as usize).unwrap() })
    }

    fn apply(&mut self, revision: Revision, body: &Body) -> Result<Done, Refusal> {
        match body.clone() {
            Body::Put { key, value, lease } => {
                self.ops(revision, &[Op::Put { key: key.clone(), value, lease }])?;
                Ok(Done::Put { version: self.keys[&key].version })
            }
            Body::Delete { key } => Ok(Done::Deleted { count: self.ops(revision, &[Op::Delete { key }])? }),
            Body::DeletePrefix { prefix } => {
                Ok(Done::Deleted { count: self.ops(revision, &[Op::DeletePrefix { prefix }])? })
            }
            Body::Txn(Txn { compare, then, otherwise }) => {
                let held = compare.iter().all(|compare| self.holds(&self.locks, compare));
                let (run, other) = if held { (then, otherwise) } else { (otherwise, then) };
                // Spaces of the branch that is not taken count too; its leases do not.
                let spaces = other.iter().map(|op| match op {
                    Op::Put { key, .. } | Op::Delete { key } => key.space(),
                    Op::DeletePrefix { prefix } => Space::of(prefix.as_str()).unwrap(),
                });
                if spaces.into_iter().any(|space| !matches!(space, Space::Keys | Space::Maps)) {
                    return Err(Refusal::NotAllowed(Denied::Space));
                }
                Ok(Done::Txn { held, deleted: self.ops(revision, &run)? })
            }
            Body::LeaseGrant { ttl_s } => {
                let lease = LeaseId(revision.0);
                self.leases.insert(lease);
                Ok(Done::Leased { lease, ttl_s: ttl_s.clamp(5, 86_400) })
            }
            Body::LeaseRevoke { lease } if !self.leases.contains(&lease) => Err(Refusal::NotFound(Missing::Lease)),
            Body::LeaseRevoke { lease } => {
                self.end(revision, lease);
                Ok(Done::Applied)
            }
            Body::LeaseExpire { leases } => {
                leases.iter().for_each(|lease| self.end(revision, *lease));
                Ok(Done::Expired { through: u32::try_from(leases.len()).unwrap() })
            }
            Body::Acquire { lock, lease, count, wait } => self.acquire(revision, &lock, lease, count, wait),
            Body::Release { lock, lease } => {
                let known = self.locks.get(&lock).is_some_and(|lock| lock.queue.iter().any(|(of, _)| *of == lease));
                if !known {
                    return Err(Refusal::NotFound(Missing::Lock));
                }
                self.leave(revision, &lock, lease);
                Ok(Done::Applied)
            }
            other => panic!("not of the model: {other:?}"),
        }
    }
}

/// Changes a picture of the keys as events say.
fn follow(picture: &mut BTreeMap<Key, Entry>, events: &[Event]) {
    for event in events {
        match &event.change {
            Change::Put(entry) => {
                assert_eq!(entry.modify, event.revision);
                picture.insert(event.key.clone(), entry.clone());
            }
            Change::Delete => assert!(picture.remove(&event.key).is_some(), "{} was there", event.key),
        }
    }
}

fn chunks(keyspace: &Keyspace) -> Vec<Bytes> {
    let mut frozen = FrozenStore::new(keyspace);
    std::iter::from_fn(|| frozen.chunk()).collect()
}

fn thawed(chunks: Vec<Bytes>) -> std::io::Result<Keyspace> {
    restore(&mut chunks.into_iter().map(Ok))
}

fn same(keyspace: &Keyspace, picture: &BTreeMap<Key, Entry>) {
    assert!(keyspace.prefix("").eq(picture.iter()), "the picture that events give is the state");
}

fn dice(length: usize) -> impl Strategy<Value = Vec<u16>> {
    prop::collection::vec(any::<u16>(), 0..length)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn like_the_model(numbers in dice(600)) {
        let (mut dice, mut keyspace, mut model) = (Dice::new(numbers), Keyspace::default(), Model::default());
        let mut revision = 0;
        while dice.left() {
            revision += 1;
            let body = dice.plain();
            let (mut events, at) = (Vec::new(), Revision(revision));
            // What the model does not know: how records of locks look to comparisons.
            if let Body::Txn(txn) = &body && txn.compare.iter().any(|c| matches!(c, Compare::Key(k, _) if k.space() == Space::Locks)) {
                continue;
            }
            let outcome = keyspace.apply(at, command(admin(), 0, body.clone()), &mut events);
            dice.hear(&outcome);
            prop_assert_eq!(outcome.result, model.apply(at, &body), "{:?}", body);
            let plain = keyspace.prefix("").filter(|(key, _)| key.space() != Space::Locks);
            prop_assert!(plain.eq(model.keys.iter()));
            for (key, lock) in &model.locks {
                let record = keyspace.lock(key).unwrap();
                let claims = record.holders.iter().chain(&record.waiters).map(|claim| (claim.lease, claim.fence.0));
                prop_assert!(claims.eq(lock.queue.iter().copied()));
            }
            prop_assert_eq!(keyspace.prefix("l/").count(), model.locks.len());
            prop_assert!(keyspace.adds_up());
        }
    }

    #[test]
    fn whatever_comes(numbers in dice(4000)) {
        let mut dice = Dice::new(numbers);
        let (mut one, mut two, mut picture) = (Keyspace::default(), Keyspace::default(), BTreeMap::new());
        let (mut index, mut at_ms) = (0, 0);
        // Mostly somebody lives there already.
        let mut before = if dice.roll(4) > 0 { support::founding() } else { Vec::new() }.into_iter();
        while dice.left() {
            (index, at_ms) = (index + 1 + u64::from(dice.roll(2)), at_ms + u64::from(dice.roll(3000)) * u64::from(dice.roll(100)));
            let founding = before.next();
            let origin = founding.as_ref().map_or_else(|| dice.origin(), |(origin, _)| origin.clone());
            let manifest = one.manifest(&origin.host);
            dice.manifest = manifest.map_or((0, 0), |(revision, manifest)| (revision.0, manifest.generation));
            let request = match founding {
                Some((_, body)) => Request::plain(body),
                None => Request { ticket: dice.ticket(), body: dice.body() },
            };
            let bytes = Command { origin, at_ms, request }.encode();
            let (before, mut events, mut again) = (one.bytes(), Vec::new(), Vec::new());
            let outcome = one.apply_bytes(index, &bytes, &mut events).unwrap();
            prop_assert_eq!(&outcome, &two.apply_bytes(index, &bytes, &mut again).unwrap());
            prop_assert_eq!(&events, &again);
            let outcome = Outcome::decode(&outcome).unwrap();
            dice.hear(&outcome);
            if outcome.result.is_err() {
                prop_assert!(events.is_empty(), "what is refused changes nothing");
                prop_assert!(one.bytes() <= before);
            }
            follow(&mut picture, &events);
            if dice.roll(20) == 0 {
                // One of the two goes on from a snapshot.
                let restored = thawed(chunks(&two)).unwrap();
                prop_assert_eq!(restored.bytes(), two.bytes());
                two = restored;
            }
            prop_assert_eq!(one.digest(), two.digest());
        }
        same(&one, &picture);
        prop_assert!(one.adds_up() && two.adds_up());
        prop_assert_eq!(chunks(&one), chunks(&two));
    }

    #[test]
    fn bytes_that_mean_nothing(bytes in prop::collection::vec(any::<u8>(), 0..300), index in 1u64..9) {
        let mut keyspace = Keyspace::default();
        let outcome = keyspace.apply_bytes(index, &bytes, &mut Vec::new()).unwrap();
        prop_assert_eq!(Outcome::decode(&outcome).unwrap(), Outcome { revision: Revision(index), result: Err(Refusal::Malformed) });
        prop_assert!(matches!(Request::decode(&bytes), Err(DecodeError::Refused(_))));
        prop_assert!(Outcome::decode(&bytes).is_err());
        prop_assert!(thawed(vec![bytes.into()]).is_err());
    }

    /// A frame around nonsense: the checksum is right and what is in it is not.
    #[test]
    fn frames_that_mean_nothing(at in 0usize..25, cut in any::<u16>(), bend in any::<(u16, u8)>()) {
        let (_, body) = &bodies()[at];
        let mut bytes = Request::plain(body.clone()).encode().to_vec();
        let place = 10 + usize::from(bend.0) % (bytes.len() - 10);
        bytes[place] ^= bend.1;
        bytes.truncate(bytes.len() - usize::from(cut) % (bytes.len() - 10));
        let length = u32::try_from(bytes.len() - 10).unwrap();
        bytes[2..6].copy_from_slice(&length.to_le_bytes());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..6]), &bytes[10..]);
        bytes[6..10].copy_from_slice(&checksum.to_le_bytes());
        if let Ok(request) = Request::decode(&bytes) {
            // It may still mean something: then it can be applied.
            let mut keyspace = Keyspace::default();
            keyspace.apply(Revision(1), Command { origin: admin(), at_ms: 0, request }, &mut Vec::new());
        }
    }
}

/// A state with something in every table.
fn some_state() -> (Keyspace, u64) {
    let (mut keyspace, mut events) = (Keyspace::default(), Vec::new());
    let mut index = 0;
    let mut apply = |body| {
        index += 1;
        keyspace.apply(Revision(index), command(admin(), 1_000, body), &mut events);
    };
    apply(Body::SessionOpen);
    apply(Body::LeaseGrant { ttl_s: 9 });
    apply(Body::Put { key: key("k/a"), value: value("1"), lease: Some(LeaseId(2)) });
    let stage = bodies().into_iter().find(|(name, _)| *name == "export stage").unwrap().1;
    apply(stage);
    for at in 0..3_000 {
        apply(Body::Put { key: key(&format!("k/{at:06}")), value: vec![7; at % 700].into(), lease: None });
    }
    (keyspace, index)
}

#[test]
fn a_snapshot_is_whole_or_refused() {
    let (keyspace, _) = some_state();
    let whole = chunks(&keyspace).concat();
    assert!(whole.len() > 4 * mgmt_consensus::limits::SNAPSHOT_CHUNK_BYTES_MAX, "{} bytes", whole.len());
    for piece in [1 << 9, 4_099, 1 << 20, whole.len()] {
        let pieces = whole.chunks(piece).map(Bytes::copy_from_slice).collect();
        assert_eq!(thawed(pieces).unwrap().digest(), keyspace.digest(), "in pieces of {piece}");
    }
    let mut cuts = (0..whole.len()).step_by(9_973);
    assert!(cuts.all(|cut| thawed(vec![Bytes::copy_from_slice(&whole[..cut])]).is_err()));
    for place in (0..whole.len()).step_by(19_937) {
        let mut bent = whole.clone();
        bent[place] ^= 0x10;
        assert!(thawed(vec![bent.into()]).is_err(), "byte {place}");
    }
    let twice = vec![Bytes::from(whole.clone()), Bytes::from(whole)];
    assert!(thawed(twice).is_err());
}

#[test]
fn a_frozen_state_stays_as_it_was() {
    let (mut keyspace, index) = some_state();
    let before = chunks(&keyspace);
    let mut frozen = FrozenStore::new(&keyspace);
    let mut written = vec![frozen.chunk().unwrap()];
    for at in 1..1_000 {
        let body = Body::DeletePrefix { prefix: support::prefix(&format!("k/00{:02}", at % 40)) };
        keyspace.apply(Revision(index + at), command(admin(), 0, body), &mut Vec::new());
    }
    written.extend(std::iter::from_fn(|| frozen.chunk()));
    assert_eq!(written, before);
    assert_ne!(chunks(&keyspace), before);
}

#[test]
fn an_index_that_was_there_and_a_version_to_come_stop_the_replica() {
    let mut keyspace = Keyspace::default();
    let bytes = command(admin(), 0, Body::SessionOpen).encode();
    keyspace.apply_bytes(5, &bytes, &mut Vec::new()).unwrap();
    assert!(keyspace.apply_bytes(5, &bytes, &mut Vec::new()).is_err());
    let mut newer = bytes.to_vec();
    newer[1] += 1;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&newer[..6]), &newer[10..]);
    newer[6..10].copy_from_slice(&checksum.to_le_bytes());
    assert!(keyspace.apply_bytes(6, &newer, &mut Vec::new()).is_err());
    assert_eq!(keyspace.revision(), Revision(5));
}

/// Two replicas that are given the same commands; what the tests above would say with a defect in force.
fn replicas_agree(snapshot: bool) -> bool {
    let (mut one, mut two) = (Keyspace::default(), Keyspace::default());
    let put = |sequence| {
        let body = Body::Put { key: key("k/a"), value: value("1"), lease: None };
        Command { origin: admin(), at_ms: 1, request: Request { ticket: Some(Ticket { session: 1, sequence }), body } }
    };
    let commands = [command(admin(), 0, Body::SessionOpen), put(1), put(2), put(2)];
    for (at, command) in (1..).zip(commands) {
        one.apply(Revision(at), command.clone(), &mut Vec::new());
        two.apply(Revision(at), command, &mut Vec::new());
        if snapshot && at == 3 {
            let Ok(restored) = thawed(chunks(&two)) else { return false };
            two = restored;
        }
    }
    one.digest() == two.digest() && one.get("k/a").unwrap().version == 2
}

#[test]
fn defects_are_seen() {
    assert!(replicas_agree(false) && replicas_agree(true));
    for (defect, snapshot) in
        [(Mutant::ApplyReadsClock, false), (Mutant::RetryAppliedTwice, false), (Mutant::SnapshotMissesSpace, true)]
    {
        let _chosen = mutant::choose(Some(defect));
        assert!(!replicas_agree(snapshot), "{defect:?}");
    }
}
