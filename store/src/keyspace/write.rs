//! Writing keys: put, delete, transactions; and the two functions that everything else writes through.

use super::Turn;
use super::derived::entry_bytes;
use crate::command::{Compare, Op, Stored, Test, Txn};
use crate::event::{Change, Entry, Event, LeaseId, Value};
use crate::key::Key;
use crate::limits::{CHANGES_MAX, LEASE_KEYS_MAX, STORE_BYTES_MAX, TXN_BYTES_MAX, TXN_OPS_MAX, VALUE_BYTES_MAX};
use crate::outcome::{Done, Large, Missing, Quota, Refusal};
use crate::revision::Revision;

impl Turn<'_> {
    pub(super) fn put(&mut self, key: Key, value: Value, lease: Option<LeaseId>) -> Result<Done, Refusal> {
        let op = Op::Put { key, value, lease };
        self.check(std::slice::from_ref(&op))?;
        let Op::Put { key, value, lease } = op else { unreachable!("it was made above") };
        Ok(Done::Put { version: self.write(key, value, lease) })
    }

    pub(super) fn delete(&mut self, op: Op) -> Result<Done, Refusal> {
        self.check(std::slice::from_ref(&op))?;
        Ok(Done::Deleted { count: self.carry_out(op) })
    }

    pub(super) fn txn(&mut self, txn: Txn) -> Result<Done, Refusal> {
        let Txn { compare, then, otherwise } = txn;
        if [compare.len(), then.len(), otherwise.len()].into_iter().any(|ops| ops > TXN_OPS_MAX) {
            return Err(Refusal::TooLarge(Large::Ops));
        }
        let bytes: usize = compare.iter().map(compare_bytes).chain(then.iter().chain(&otherwise).map(op_bytes)).sum();
        if bytes > TXN_BYTES_MAX {
            return Err(Refusal::TooLarge(Large::Bytes));
        }
        let held = compare.iter().all(|compare| self.holds(compare));
        let (run, other) = if held { (then, otherwise) } else { (otherwise, then) };
        // Who may not do the one may not ask which of the two it would be.
        other.iter().try_for_each(|op| self.may(op))?;
        self.check(&run)?;
        let deleted = run.into_iter().map(|op| self.carry_out(op)).sum();
        Ok(Done::Txn { held, deleted })
    }

    fn holds(&self, compare: &Compare) -> bool {
        let (key, test) = match compare {
            Compare::Key(key, test) => (key, test),
            Compare::Empty(prefix) => {
                let mut keys = self.tables.keys.from(prefix.as_str());
                return !keys.next().is_some_and(|(key, _)| key.as_str().starts_with(prefix.as_str()));
            }
        };
        let entry = self.tables.keys.get(key.as_str());
        let number = |of: fn(&Entry) -> u64| entry.map_or(0, of);
        match test {
            Test::Value(is, value) => entry.is_some_and(|entry| entry.value == *value) == *is,
            Test::Version(relation, version) => relation.holds(number(|entry| entry.version), *version),
            Test::Modify(relation, revision) => relation.holds(number(|entry| entry.modify.0), revision.0),
            Test::Create(relation, revision) => relation.holds(number(|entry| entry.create.0), revision.0),
            Test::Lease(relation, lease) => {
                relation.holds(number(|entry| entry.lease.map_or(0, |lease| lease.0)), *lease)
            }
            Test::Present(is) => entry.is_some() == *is,
        }
    }

    /// Whether all of these may be done: nothing is done before that is known.
    fn check(&self, ops: &[Op]) -> Result<(), Refusal> {
        let (mut size, mut changes, mut leased) = (0, 0, 0);
        for op in ops {
            self.may(op)?;
            changes += match op {
                Op::DeletePrefix { prefix } => self.under(prefix.as_str()).take(CHANGES_MAX + 1).count(),
                Op::Put { .. } | Op::Delete { .. } => 1,
            };
            let Op::Put { key, value, lease } = op else { continue };
            if value.len() > VALUE_BYTES_MAX {
                return Err(Refusal::TooLarge(Large::Value));
            }
            size += entry_bytes(key, value);
            if let Some(lease) = lease {
                leased += 1;
                self.lease_takes(*lease, leased)?;
            }
        }
        if changes > CHANGES_MAX {
            return Err(Refusal::TooLarge(Large::Changes));
        }
        // What is there already is only looked for when it matters.
        if self.room(size).is_ok() {
            return Ok(());
        }
        let growth = |op: &Op| if let Op::Put { key, value, .. } = op { self.growth(key, value) } else { 0 };
        self.room(ops.iter().map(growth).sum())
    }

    /// Whether a lease is there, belongs to the origin, and takes so many more keys.
    pub(super) fn lease_takes(&self, lease: LeaseId, more: usize) -> Result<(), Refusal> {
        let known = self.tables.leases.get(&lease.0).ok_or(Refusal::NotFound(Missing::Lease))?;
        self.owns(known.host.as_str())?;
        let keys = self.derived.lease_keys.get(&lease).map_or(0, |keys| keys.len());
        if keys + more > LEASE_KEYS_MAX {
            return Err(Refusal::QuotaExceeded(Quota::LeaseKeys));
        }
        Ok(())
    }

    /// How much more a key occupies with this value than now.
    pub(super) fn growth(&self, key: &Key, value: &[u8]) -> u64 {
        let now = self.tables.keys.get(key.as_str()).map_or(0, |entry| entry_bytes(key, &entry.value));
        entry_bytes(key, value).saturating_sub(now)
    }

    /// Whether the store may grow so much. It may always stay as it is.
    pub(super) fn room(&self, growth: u64) -> Result<(), Refusal> {
        if growth > 0 && self.derived.bytes + growth > STORE_BYTES_MAX {
            return Err(Refusal::NoSpace);
        }
        Ok(())
    }

    /// Does what was checked; the number of keys that were deleted.
    fn carry_out(&mut self, op: Op) -> u32 {
        match op {
            Op::Put { key, value, lease } => {
                self.write(key, value, lease);
                0
            }
            Op::Delete { key } => u32::from(self.erase(key.as_str())),
            Op::DeletePrefix { prefix } => self.erase_all(prefix.as_str()),
        }
    }

    /// Writes a key; how often it was written by now.
    pub(super) fn write(&mut self, key: Key, value: Value, lease: Option<LeaseId>) -> u64 {
        let revision = self.revision();
        let mut entry = Entry { value, create: revision, modify: revision, version: 1, lease };
        if let Some(before) = self.tables.keys.get_mut(key.as_str()) {
            entry.create = before.create;
            entry.version = before.version.saturating_add(1);
            self.derived.left(&key, before);
            *before = entry.clone();
        } else {
            self.tables.keys.insert(key.clone(), entry.clone());
        }
        self.derived.entered(&key, &entry);
        let version = entry.version;
        self.events.push(Event { revision, key, change: Change::Put(entry) });
        version
    }

    /// Writes a record of the store's own.
    pub(super) fn write_record(&mut self, key: Key, record: &impl Stored) {
        self.write(key, record.store(), None);
    }

    /// Deletes a key, if it is there.
    pub(super) fn erase(&mut self, key: &str) -> bool {
        let found = self.tables.keys.from(key).next().filter(|(found, _)| found.as_str() == key);
        let Some(key) = found.map(|(key, _)| key.clone()) else { return false };
        if let Some(before) = self.tables.keys.remove(key.as_str()) {
            self.derived.left(&key, &before);
        }
        let revision: Revision = self.revision();
        self.events.push(Event { revision, key, change: Change::Delete });
        true
    }

    /// Deletes what begins so; how many.
    pub(super) fn erase_all(&mut self, prefix: &str) -> u32 {
        let keys: Vec<Key> = self.under(prefix).cloned().collect();
        keys.iter().map(|key| u32::from(self.erase(key.as_str()))).sum()
    }

    /// Keys that begin so.
    pub(super) fn under<'b>(&'b self, prefix: &'b str) -> impl Iterator<Item = &'b Key> {
        self.tables.keys.from(prefix).map(|(key, _)| key).take_while(move |key| key.as_str().starts_with(prefix))
    }
}

fn op_bytes(op: &Op) -> usize {
    match op {
        Op::Put { key, value, .. } => key.as_str().len() + value.len(),
        Op::Delete { key } => key.as_str().len(),
        Op::DeletePrefix { prefix } => prefix.as_str().len(),
    }
}

fn compare_bytes(compare: &Compare) -> usize {
    match compare {
        Compare::Key(key, Test::Value(_, value)) => key.as_str().len() + value.len(),
        Compare::Key(key, _) => key.as_str().len(),
        Compare::Empty(prefix) => prefix.as_str().len(),
    }
}
