//! What one host reads of the store: the exports it collects and the keys it uses, whole, at one revision.
//!
//! A [`View`] is a pure function of the state and of what the host asks for. Two views are equal if they hold the same,
//! whatever their revisions; to ask is cheap, so that a host which nothing concerns has nothing to do.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::event::{Change, Entry, Event, Value};
use crate::host;
use crate::key::{Key, Space};
use crate::keyspace::Keyspace;
use crate::pages::Pages;
use crate::revision::Revision;

/// Exports of one kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Collect {
    /// The kind of resource.
    pub kind: String,
    /// A pattern for its name; `*` stands for anything. Whoever knows richer patterns asks for more and leaves out what
    /// it does not want.
    pub name: Option<String>,
    /// Patterns for the host that exports. None: any host, this one included.
    pub hosts: Vec<String>,
}

/// What a host asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interest {
    /// Exports.
    pub collects: Vec<Collect>,
    /// Keys.
    pub keys: BTreeSet<Key>,
    /// Maps, by their namespace: all entries of them.
    pub maps: BTreeSet<String>,
}

impl Interest {
    /// Whether a key belongs to what is asked for.
    #[must_use]
    pub fn matches(&self, key: &Key) -> bool {
        match key.space() {
            Space::Exports => {
                let Some(((kind, name), host)) = key.export().zip(key.host()) else { return false };
                self.collects.iter().any(|collect| collect.matches(kind, name, host))
            }
            Space::Maps => {
                let namespace = key.as_str().split('/').nth(1);
                self.keys.contains(key) || namespace.is_some_and(|name| self.maps.contains(name))
            }
            Space::Keys | Space::Locks | Space::Mesh => self.keys.contains(key),
        }
    }
}

impl Collect {
    fn matches(&self, kind: &str, name: &str, host: &str) -> bool {
        self.kind == kind
            && self.name.as_ref().is_none_or(|pattern| host::matches(pattern, name))
            && (self.hosts.is_empty() || self.hosts.iter().any(|pattern| host::matches(pattern, host)))
    }
}

/// An export as others see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Export<'a> {
    /// Who exports it.
    pub host: &'a str,
    /// The kind of resource.
    pub kind: &'a str,
    /// Its name.
    pub name: &'a str,
    /// What the exporter wrote.
    pub value: &'a Value,
}

/// All that one host reads, at one revision. A copy costs nothing.
#[derive(Debug, Clone, Default)]
pub struct View {
    revision: Revision,
    content: Arc<Content>,
}

#[derive(Debug, Clone, Default)]
struct Content {
    entries: BTreeMap<Key, Value>,
    /// Differs where the entries differ, as good as always. Of each entry, added up: one that changes is taken out and
    /// put in again.
    print: u64,
}

impl Content {
    fn put(&mut self, key: Key, value: Value) {
        self.print = self.print.wrapping_add(print(&key, &value));
        if let Some(before) = self.entries.insert(key.clone(), value) {
            self.print = self.print.wrapping_sub(print(&key, &before));
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(before) = self.entries.remove(key) {
            self.print = self.print.wrapping_sub(print(key, &before));
        }
    }
}

impl PartialEq for View {
    fn eq(&self, other: &Self) -> bool {
        let (own, other) = (&self.content, &other.content);
        Arc::ptr_eq(own, other) || (own.print == other.print && own.entries == other.entries)
    }
}

impl Eq for View {}

impl View {
    /// What the state holds of what is asked for.
    #[must_use]
    pub fn of(keyspace: &Keyspace, interest: &Interest) -> Self {
        Self::of_keys(keyspace.revision(), &keyspace.tables().keys, interest)
    }

    /// The same from a copy of the keys.
    pub(crate) fn of_keys(revision: Revision, keys: &Pages<Key, Entry>, interest: &Interest) -> Self {
        let mut entries = Vec::new();
        let mut gather = |prefix: &str| {
            let found = keys.from(prefix).take_while(|(key, _)| key.as_str().starts_with(prefix));
            let found = found.filter(|(key, _)| interest.matches(key));
            entries.extend(found.map(|(key, entry)| (key.clone(), Arc::clone(&entry.value))));
        };
        if !interest.collects.is_empty() {
            gather(Space::Exports.prefix());
        }
        for name in &interest.maps {
            gather(&format!("{}{name}/", Space::Maps.prefix()));
        }
        let one = |key: &Key| keys.get(key.as_str()).map(|entry| (key.clone(), Arc::clone(&entry.value)));
        entries.extend(interest.keys.iter().filter_map(one));
        Self::remembered(revision, entries)
    }

    /// A view from what was kept of one.
    #[must_use]
    pub fn remembered(revision: Revision, entries: impl IntoIterator<Item = (Key, Value)>) -> Self {
        let mut content = Content::default();
        for (key, value) in entries {
            content.put(key, value);
        }
        Self { revision, content: Arc::new(content) }
    }

    /// This view after some changes, which follow on its revision without a gap.
    #[must_use]
    pub fn after<'a>(
        &self,
        events: impl IntoIterator<Item = &'a Event>,
        through: Revision,
        interest: &Interest,
    ) -> Self {
        let mut after = Self { revision: through.max(self.revision), content: Arc::clone(&self.content) };
        for event in events.into_iter().filter(|event| event.revision > self.revision && interest.matches(&event.key)) {
            match &event.change {
                // An export that is written as it was is no change, and the two views go on sharing their content.
                Change::Put(entry) if after.content.entries.get(&event.key) == Some(&entry.value) => {}
                Change::Put(entry) => Arc::make_mut(&mut after.content).put(event.key.clone(), entry.value.clone()),
                Change::Delete if !after.content.entries.contains_key(&event.key) => {}
                Change::Delete => Arc::make_mut(&mut after.content).remove(&event.key),
            }
        }
        after
    }

    /// The state it was taken from.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Exports, in the order of host, kind and name.
    pub fn exports(&self) -> impl Iterator<Item = Export<'_>> {
        self.content.entries.iter().filter_map(|(key, value)| {
            let (kind, name) = key.export()?;
            Some(Export { host: key.host()?, kind, name, value })
        })
    }

    /// What lies under a key that was asked for.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Value> {
        self.content.entries.get(key)
    }

    /// Everything, in the order of the keys: what is worth keeping for [`View::remembered`].
    pub fn entries(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.content.entries.iter()
    }

    /// The same content as of another moment.
    #[must_use]
    pub(crate) fn at(&self, revision: Revision) -> Self {
        Self { revision, content: Arc::clone(&self.content) }
    }
}

/// A number for an entry that another entry hardly has. Never stored or sent.
fn print(key: &Key, value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, value).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
