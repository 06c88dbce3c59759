//! The store as a few maps: so simple that it is plainly right, and slow wherever that is simpler.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::history::{Call, Change, Compare, Found, Index, OperationId, Reply};

/// What happened to a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Event {
    /// When.
    pub(crate) revision: Index,
    /// To which.
    pub(crate) key: String,
    /// Its value and version, or that it is gone.
    pub(crate) now: Option<(String, u64)>,
}

/// The state after some entries.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    keys: BTreeMap<String, Kept>,
    leases: BTreeSet<u64>,
    /// Each lock: its holder with his fence, then who waits.
    locks: BTreeMap<String, VecDeque<(u64, Index)>>,
    /// The first answer to each operation.
    answers: BTreeMap<OperationId, Reply>,
}

#[derive(Debug, Clone)]
struct Kept {
    found: Found,
    lease: Option<u64>,
}

impl Model {
    /// Applies an entry: what it answers, and what happened. An operation that was answered before answers the same
    /// again and changes nothing.
    ///
    /// What hosts refuse is not for the model to foresee (quotas, rates): it follows them, and nothing happens.
    pub(crate) fn apply(
        &mut self,
        index: Index,
        id: Option<OperationId>,
        call: &Call,
        said: &Reply,
    ) -> (Reply, Vec<Event>) {
        if let Reply::Refused(_) = said {
            return (said.clone(), Vec::new());
        }
        if let Some(before) = id.and_then(|id| self.answers.get(&id)) {
            return (before.clone(), Vec::new());
        }
        let (reply, events) = self.change(index, call);
        if let Some(id) = id {
            self.answers.insert(id, reply.clone());
        }
        (reply, events)
    }

    fn change(&mut self, index: Index, call: &Call) -> (Reply, Vec<Event>) {
        match call {
            Call::Put { key, value, lease } => (Reply::Done, vec![self.put(index, key, value, *lease)]),
            Call::Delete { key } => {
                let events: Vec<_> = self.delete(index, key).into_iter().collect();
                (Reply::Deleted(events.len() as u64), events)
            }
            Call::Transaction { compares, then, otherwise } => {
                let held = compares.iter().all(|compare| self.holds(compare));
                let changes = if held { then } else { otherwise };
                (Reply::Held(held), changes.iter().filter_map(|change| self.one(index, change)).collect())
            }
            Call::Grant => {
                self.leases.insert(index);
                (Reply::Leased(index), Vec::new())
            }
            Call::End { leases } => (Reply::Done, self.end(index, leases)),
            Call::Lock { name, lease } => (self.lock(index, name, *lease), Vec::new()),
            Call::Unlock { name, lease } => {
                self.unlock(index, name, *lease);
                (Reply::Done, Vec::new())
            }
            Call::Publish { host, exports } => (Reply::Done, self.publish(index, host, exports)),
            Call::Read { prefix, .. } => (Reply::Read(self.read(prefix)), Vec::new()),
            Call::Other => (Reply::Done, Vec::new()),
        }
    }

    /// All keys that begin so.
    pub(crate) fn read(&self, prefix: &str) -> BTreeMap<String, Found> {
        let beginning = self.keys.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        beginning.map(|(key, kept)| (key.clone(), kept.found.clone())).collect()
    }

    fn put(&mut self, index: Index, key: &str, value: &str, lease: Option<u64>) -> Event {
        let version = self.keys.get(key).map_or(1, |kept| kept.found.version + 1);
        let found = Found { value: value.to_owned(), modified: index, version };
        self.keys.insert(key.to_owned(), Kept { found, lease });
        Event { revision: index, key: key.to_owned(), now: Some((value.to_owned(), version)) }
    }

    fn delete(&mut self, index: Index, key: &str) -> Option<Event> {
        self.keys.remove(key).map(|_| Event { revision: index, key: key.to_owned(), now: None })
    }

    fn one(&mut self, index: Index, change: &Change) -> Option<Event> {
        match change {
            Change::Put { key, value } => Some(self.put(index, key, value, None)),
            Change::Delete { key } => self.delete(index, key),
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Value { key, is } => self.keys.get(key).map(|kept| &kept.found.value) == is.as_ref(),
            Compare::Modified { key, at } => self.keys.get(key).map_or(0, |kept| kept.found.modified) == *at,
        }
    }

    fn end(&mut self, index: Index, leases: &[u64]) -> Vec<Event> {
        let ended: BTreeSet<u64> = leases.iter().copied().filter(|lease| self.leases.remove(lease)).collect();
        let theirs = |kept: &Kept| kept.lease.is_some_and(|lease| ended.contains(&lease));
        let keys: Vec<_> = self.keys.iter().filter(|(_, kept)| theirs(kept)).map(|(key, _)| key.clone()).collect();
        let names: Vec<_> = self.locks.keys().cloned().collect();
        for (name, lease) in names.iter().flat_map(|name| ended.iter().map(move |lease| (name, *lease))) {
            self.unlock(index, name, lease);
        }
        keys.iter().filter_map(|key| self.delete(index, key)).collect()
    }

    fn lock(&mut self, index: Index, name: &str, lease: u64) -> Reply {
        let line = self.locks.entry(name.to_owned()).or_default();
        if !line.iter().any(|(one, _)| *one == lease) {
            line.push_back((lease, index));
        }
        Reply::Locked(line.front().filter(|(holder, _)| *holder == lease).map(|(_, fence)| *fence))
    }

    fn unlock(&mut self, index: Index, name: &str, lease: u64) {
        let Some(line) = self.locks.get_mut(name) else { return };
        let held = line.front().is_some_and(|(holder, _)| *holder == lease);
        line.retain(|(one, _)| *one != lease);
        // Who moves up is fenced by the moment he does, not by the one he began to wait at.
        if let (true, Some(next)) = (held, line.front_mut()) {
            next.1 = index;
        }
    }

    fn publish(&mut self, index: Index, host: &str, exports: &BTreeMap<String, String>) -> Vec<Event> {
        let prefix = format!("x/{host}/");
        let before = self.read(&prefix);
        let gone = before.keys().filter(|key| !exports.contains_key(key[prefix.len()..].to_owned().as_str()));
        let gone: Vec<_> = gone.cloned().collect();
        let mut events: Vec<_> = gone.iter().filter_map(|key| self.delete(index, key)).collect();
        for (name, value) in exports {
            let key = format!("{prefix}{name}");
            if before.get(&key).is_none_or(|found| found.value != *value) {
                events.push(self.put(index, &key, value, None));
            }
        }
        events
    }
}
