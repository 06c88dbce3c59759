//! What hosts export: staged in pieces, then made so at once. Whoever reads sees the set as it was or as it will be.

use std::collections::BTreeMap;

use super::Turn;
use super::derived::entry_bytes;
use crate::command::{ExportChange, Stored};
use crate::digest::Digest;
use crate::event::Value;
use crate::host::HostName;
use crate::key::{Key, is_name};
use crate::limits::{EXPORT_BYTES_MAX, EXPORTS_MAX, STAGED_MAX, TXN_BYTES_MAX, VALUE_BYTES_MAX};
use crate::outcome::{Clash, Done, Large, Missing, Quota, Refusal};
use crate::record::Manifest;
use crate::revision::Revision;

/// Changes of a host's exports that wait for their flip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Staged {
    pub(crate) generation: u64,
    /// When the last of them came.
    pub(crate) at_ms: u64,
    /// What they occupy.
    pub(crate) bytes: u64,
    /// The sum of their hashes.
    pub(crate) digest: u64,
    pub(crate) changes: Changes,
}

impl Staged {
    pub(crate) fn new(generation: u64, at_ms: u64) -> Self {
        Self { generation, at_ms, bytes: 0, digest: 0, changes: Changes::new() }
    }

    /// Takes a change in. Whether there was none of this key.
    pub(crate) fn insert(&mut self, key: Key, value: Option<Value>) -> bool {
        self.bytes += change_bytes(&key, value.as_ref());
        self.digest = self.digest.wrapping_add(Digest::change(&key, value.as_deref()));
        let before = self.changes.insert(key.clone(), value);
        if let Some(before) = &before {
            self.bytes -= change_bytes(&key, before.as_ref());
            self.digest = self.digest.wrapping_sub(Digest::change(&key, before.as_deref()));
        }
        before.is_none()
    }
}

/// Exports that are to be so; none is withdrawn.
pub(crate) type Changes = BTreeMap<Key, Option<Value>>;

/// What a staged change occupies.
fn change_bytes(key: &Key, value: Option<&Value>) -> u64 {
    entry_bytes(key, value.map_or(&[], |value| value))
}

impl Turn<'_> {
    pub(super) fn export_stage(&mut self, generation: u64, changes: Vec<ExportChange>) -> Result<Done, Refusal> {
        let host = &self.origin.host;
        let changes = self.checked(changes)?;
        let before = self.tables.staged.get(host);
        let newest = before.map(|staged| staged.generation);
        if generation <= self.manifest().1.generation || newest.is_some_and(|newest| newest > generation) {
            return Err(Refusal::Conflict(Clash::Generation));
        }
        let (now, kept) = (before.map_or(0, |staged| staged.bytes), before.filter(|_| newest == Some(generation)));
        let mut bytes = kept.map_or(0, |staged| staged.bytes);
        let mut count = kept.map_or(0, |staged| staged.changes.len());
        for (key, value) in &changes {
            let replaced = kept.and_then(|staged| staged.changes.get(key));
            bytes += change_bytes(key, value.as_ref());
            bytes -= replaced.map_or(0, |value| change_bytes(key, value.as_ref()));
            count += usize::from(replaced.is_none());
        }
        if count > STAGED_MAX {
            return Err(Refusal::QuotaExceeded(Quota::Exports));
        }
        if bytes > 2 * EXPORT_BYTES_MAX {
            return Err(Refusal::QuotaExceeded(Quota::ExportBytes));
        }
        self.room(bytes.saturating_sub(now))?;
        self.unstage();
        let at_ms = self.tables.now_ms;
        let staged = self.tables.staged.entry(self.origin.host.clone());
        let staged = staged.or_insert_with(|| Staged::new(generation, at_ms));
        if staged.generation != generation {
            *staged = Staged::new(generation, at_ms);
        }
        staged.at_ms = at_ms;
        for (key, value) in changes {
            staged.insert(key, value);
        }
        self.derived.bytes += staged.bytes;
        Ok(Done::Staged { count: u32::try_from(count).unwrap_or(u32::MAX) })
    }

    /// Takes what is staged out of the account. Its bytes come back with it, or are gone.
    fn unstage(&mut self) {
        let bytes = self.tables.staged.get(&self.origin.host).map_or(0, |staged| staged.bytes);
        self.derived.bytes -= bytes;
    }

    pub(super) fn export_flip(
        &mut self,
        generation: u64,
        base: Revision,
        staged: u32,
        changes: Vec<ExportChange>,
    ) -> Result<Done, Refusal> {
        let inline = self.checked(changes)?;
        let (at, mut manifest) = self.manifest();
        if base != at {
            return Err(Refusal::Conflict(Clash::Exports));
        }
        if generation <= manifest.generation {
            return Err(Refusal::Conflict(Clash::Generation));
        }
        let mut changes = Changes::new();
        if staged > 0 {
            let fits = |found: &&Staged| found.generation == generation && found.changes.len() == staged as usize;
            let found = self.tables.staged.get(&self.origin.host).filter(fits);
            changes = found.ok_or(Refusal::NotFound(Missing::Staged))?.changes.clone();
        }
        changes.extend(inline);
        changes.retain(|key, value| {
            let now = self.tables.keys.get(key.as_str()).map(|entry| &entry.value);
            now != value.as_ref()
        });
        let growth = self.account(&changes, &mut manifest)?;
        if !changes.is_empty() {
            manifest.generation = generation;
            let key = Key::manifest_of(&self.origin.host);
            // What is staged leaves when the flip comes, but a full store should not depend on that.
            self.room(growth + self.growth(&key, &manifest.store()))?;
            for (key, value) in changes {
                match value {
                    Some(value) => _ = self.write(key, value, None),
                    None => _ = self.erase(key.as_str()),
                }
            }
            self.write_record(key, &manifest);
        }
        let done = if manifest.generation == generation { Done::Applied } else { Done::Unchanged };
        self.unstage();
        self.tables.staged.remove(&self.origin.host);
        Ok(done)
    }

    pub(super) fn export_forget(&mut self, host: &HostName) -> Result<Done, Refusal> {
        let count = self.erase_all(&format!("x/{host}/"));
        if !self.erase(Key::manifest_of(host).as_str()) {
            return Err(Refusal::NotFound(Missing::Exports));
        }
        Ok(Done::Deleted { count })
    }

    /// The manifest as these changes make it, within its quotas; and how much more the exports occupy.
    fn account(&self, changes: &Changes, manifest: &mut Manifest) -> Result<u64, Refusal> {
        let mut growth = 0;
        let (mut count, mut bytes) = (u64::from(manifest.count), manifest.bytes);
        for (key, value) in changes {
            let size = |value: &[u8]| (key.as_str().len() + value.len()) as u64;
            if let Some(value) = value {
                growth += self.growth(key, value);
                count += 1;
                bytes += size(value);
            }
            if let Some(entry) = self.tables.keys.get(key.as_str()) {
                count -= 1;
                bytes -= size(&entry.value);
            }
        }
        if count > EXPORTS_MAX as u64 {
            return Err(Refusal::QuotaExceeded(Quota::Exports));
        }
        if bytes > EXPORT_BYTES_MAX {
            return Err(Refusal::QuotaExceeded(Quota::ExportBytes));
        }
        manifest.count = u32::try_from(count).unwrap_or(u32::MAX);
        manifest.bytes = bytes;
        Ok(growth)
    }

    /// Changes of the origin's own exports, as keys, within what one command may carry.
    fn checked(&self, changes: Vec<ExportChange>) -> Result<Changes, Refusal> {
        if changes.len() > STAGED_MAX {
            return Err(Refusal::TooLarge(Large::Ops));
        }
        let (mut checked, mut bytes) = (Changes::new(), 0);
        for ExportChange { kind, name, value } in changes {
            if !is_name(&kind) {
                return Err(Refusal::Malformed);
            }
            let key = Key::export_of(&self.origin.host, &kind, &name).map_err(|_| Refusal::Malformed)?;
            let length = value.as_ref().map_or(0, |value| value.len());
            if length > VALUE_BYTES_MAX {
                return Err(Refusal::TooLarge(Large::Value));
            }
            bytes += key.as_str().len() + length;
            checked.insert(key, value);
        }
        if bytes > TXN_BYTES_MAX {
            return Err(Refusal::TooLarge(Large::Bytes));
        }
        Ok(checked)
    }

    /// The origin's manifest and its revision; those of nothing, if it has none.
    fn manifest(&self) -> (Revision, Manifest) {
        match self.tables.keys.get(Key::manifest_of(&self.origin.host).as_str()) {
            None => (Revision::ZERO, Manifest { generation: 0, count: 0, bytes: 0 }),
            Some(entry) => {
                let checked = "records are written by this crate and checked when they are restored";
                (entry.modify, Manifest::load(&entry.value).expect(checked))
            }
        }
    }
}
