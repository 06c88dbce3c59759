//! What the simulated disk consists of: names, files, sectors, and which of them have reached the medium.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

/// The unit that arrives whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Numbers from a seed (splitmix64).
#[derive(Debug, Clone)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

/// A sector that differs from the medium, or may.
#[derive(Debug, Clone)]
struct Sector {
    bytes: Box<[u8]>,
    /// A sync writes it. One that is not dirty is readable and lost with the next crash: a sync has failed.
    dirty: bool,
}

/// A file without its name.
#[derive(Debug, Clone, Default)]
struct Node {
    medium: Vec<u8>,
    size: usize,
    cache: BTreeMap<usize, Sector>,
}

impl Node {
    fn sector(&self, number: usize) -> Vec<u8> {
        if let Some(sector) = self.cache.get(&number) {
            return sector.bytes.to_vec();
        }
        let start = (number * SECTOR_BYTES).min(self.medium.len());
        let end = (start + SECTOR_BYTES).min(self.medium.len());
        let mut bytes = self.medium[start..end].to_vec();
        bytes.resize(SECTOR_BYTES, 0);
        bytes
    }

    fn read(&self, buffer: &mut [u8], offset: usize) -> usize {
        let end = self.size.min(offset.saturating_add(buffer.len()));
        let mut at = offset;
        while at < end {
            let (number, from) = (at / SECTOR_BYTES, at % SECTOR_BYTES);
            let piece = (SECTOR_BYTES - from).min(end - at);
            let into = &mut buffer[at - offset..at - offset + piece];
            match self.cache.get(&number) {
                Some(sector) => into.copy_from_slice(&sector.bytes[from..from + piece]),
                None => {
                    into.fill(0);
                    let there = self.medium.len().saturating_sub(at).min(piece);
                    if there > 0 {
                        into[..there].copy_from_slice(&self.medium[at..at + there]);
                    }
                }
            }
            at += piece;
        }
        end.saturating_sub(offset)
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        let mut at = offset;
        while at < offset + bytes.len() {
            let (number, from) = (at / SECTOR_BYTES, at % SECTOR_BYTES);
            let piece = (SECTOR_BYTES - from).min(offset + bytes.len() - at);
            let mut whole = self.sector(number);
            whole[from..from + piece].copy_from_slice(&bytes[at - offset..at - offset + piece]);
            self.cache.insert(number, Sector { bytes: whole.into(), dirty: true });
            at += piece;
        }
        self.size = self.size.max(offset + bytes.len());
    }

    /// Writes a sector to the medium, as far as the medium goes.
    fn arrive(&mut self, number: usize, bytes: &[u8]) {
        let start = (number * SECTOR_BYTES).min(self.medium.len());
        let end = (start + SECTOR_BYTES).min(self.medium.len());
        self.medium[start..end].copy_from_slice(&bytes[..end - start]);
    }

    fn sync(&mut self) {
        self.medium.resize(self.size, 0);
        for (number, sector) in std::mem::take(&mut self.cache) {
            if sector.dirty {
                self.arrive(number, &sector.bytes);
            } else {
                self.cache.insert(number, sector);
            }
        }
    }

    /// The pages are dropped: some at once, some can still be read, none is dirty any more.
    fn sync_failed(&mut self, chance: &mut Chance) {
        self.cache.retain(|_, sector| {
            sector.dirty = false;
            chance.coin()
        });
    }

    fn crash(&mut self, chance: &mut Chance) {
        if self.size != self.medium.len() && chance.coin() {
            self.medium.resize(self.size, 0);
        }
        // All, none, or each for itself: the extremes are more frequent than chance alone would make them.
        let fate = chance.below(4);
        for (number, sector) in std::mem::take(&mut self.cache) {
            if sector.dirty && (fate == 0 || (fate > 1 && chance.coin())) {
                self.arrive(number, &sector.bytes);
            }
        }
        self.size = self.medium.len();
    }
}

/// A change of names that is not on the medium yet.
#[derive(Debug, Clone)]
enum Change {
    Put { name: String, node: u64 },
    Move { from: String, to: String, node: u64 },
    Gone { name: String },
}

impl Change {
    fn name(&self) -> &str {
        match self {
            Self::Put { name, .. } | Self::Gone { name } | Self::Move { to: name, .. } => name,
        }
    }

    fn touches(&self, folder: &str) -> bool {
        folder_of(self.name()) == folder || matches!(self, Self::Move { from, .. } if folder_of(from) == folder)
    }

    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Put { name, node } => {
                names.insert(name.clone(), *node);
            }
            Self::Move { from, to, node } => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
            Self::Gone { name } => {
                names.remove(name);
            }
        }
    }
}

fn folder_of(name: &str) -> &str {
    name.split_once('/').map_or("", |(folder, _)| folder)
}

/// The whole of it.
#[derive(Debug, Clone)]
pub(super) struct Platter {
    chance: Chance,
    nodes: BTreeMap<u64, Node>,
    names: BTreeMap<String, u64>,
    medium_names: BTreeMap<String, u64>,
    medium_folders: BTreeSet<String>,
    changes: Vec<Change>,
    next_node: u64,
    pub(super) capacity: u64,
    pub(super) life: u64,
    pub(super) syncs: u64,
    pub(super) writes: u64,
    pub(super) failing_sync: Option<u64>,
    pub(super) failing_write: Option<u64>,
    pub(super) latency: (Duration, Duration),
}

impl Platter {
    pub(super) const fn new(seed: u64, capacity: u64) -> Self {
        Self {
            chance: Chance(seed),
            nodes: BTreeMap::new(),
            names: BTreeMap::new(),
            medium_names: BTreeMap::new(),
            medium_folders: BTreeSet::new(),
            changes: Vec::new(),
            next_node: 0,
            capacity,
            life: 0,
            syncs: 0,
            writes: 0,
            failing_sync: None,
            failing_write: None,
            latency: (Duration::ZERO, Duration::ZERO),
        }
    }

    pub(super) fn used(&self) -> u64 {
        self.names.values().filter_map(|node| self.nodes.get(node)).map(|node| node.size as u64).sum()
    }

    fn node(&mut self, node: u64) -> io::Result<&mut Node> {
        self.nodes.get_mut(&node).ok_or_else(|| io::Error::other("the file was wiped"))
    }

    pub(super) fn find(&self, name: &str) -> io::Result<u64> {
        self.names.get(name).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    pub(super) fn create(&mut self, name: &str, bytes: u64) -> io::Result<u64> {
        if self.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if self.used() + bytes > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let node = self.next_node;
        self.next_node += 1;
        self.nodes.insert(node, Node { size: size_of_file(bytes)?, ..Node::default() });
        self.change(Change::Put { name: name.to_owned(), node });
        Ok(node)
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let node = self.find(from)?;
        self.change(Change::Move { from: from.to_owned(), to: to.to_owned(), node });
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) {
        if self.names.contains_key(name) {
            self.change(Change::Gone { name: name.to_owned() });
        }
    }

    pub(super) fn list(&self, folder: &str) -> Vec<String> {
        let inside = |name: &String| (folder_of(name) == folder).then(|| name.rsplit('/').next().map(str::to_owned));
        self.names.keys().filter_map(inside).flatten().collect()
    }

    pub(super) fn read(&mut self, node: u64, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let offset = size_of_file(offset)?;
        Ok(self.node(node)?.read(buffer, offset))
    }

    pub(super) fn size(&mut self, node: u64) -> io::Result<u64> {
        Ok(self.node(node)?.size as u64)
    }

    pub(super) fn write(&mut self, node: u64, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = size_of_file(offset)?;
        let number = self.writes;
        self.writes += 1;
        let grows = (offset + bytes.len()).saturating_sub(self.node(node)?.size) as u64;
        if grows > 0 && self.used() + grows > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if self.failing_write == Some(number) {
            let part = size_of_file(self.chance.below(bytes.len() as u64))?;
            self.node(node)?.write(&bytes[..part], offset);
            return Err(io::Error::from(rustix::io::Errno::IO));
        }
        self.node(node)?.write(bytes, offset);
        Ok(())
    }

    /// How long this sync takes, and whether it fails.
    pub(super) fn begin_sync(&mut self) -> (Duration, bool) {
        let number = self.syncs;
        self.syncs += 1;
        let (least, most) = self.latency;
        let spread = u64::try_from((most - least).as_nanos()).unwrap_or(u64::MAX);
        let latency = if spread == 0 { least } else { least + Duration::from_nanos(self.chance.below(spread)) };
        (latency, self.failing_sync == Some(number))
    }

    pub(super) fn sync(&mut self, node: u64, fails: bool) -> io::Result<()> {
        let mut chance = self.chance.clone();
        let file = self.node(node)?;
        if fails {
            file.sync_failed(&mut chance);
        } else {
            file.sync();
        }
        self.chance = chance;
        Ok(())
    }

    pub(super) fn sync_folder(&mut self, folder: &str) {
        if folder.is_empty() {
            // The entries of the directory itself: its files, and the folders that have come into being.
            self.medium_folders.extend(self.names.keys().map(|name| folder_of(name).to_owned()));
        }
        for change in std::mem::take(&mut self.changes) {
            if change.touches(folder) {
                change.apply(&mut self.medium_names);
            } else {
                self.changes.push(change);
            }
        }
    }

    pub(super) fn crash(&mut self) {
        self.life += 1;
        (self.failing_sync, self.failing_write) = (None, None);
        // In order up to some point, as a journalling file system would, or each for itself, as none promises not to.
        let changes = std::mem::take(&mut self.changes);
        let prefix = self.chance.coin().then(|| self.chance.below(changes.len() as u64 + 1));
        for (number, change) in changes.iter().enumerate() {
            let happened = prefix.map_or_else(|| self.chance.coin(), |prefix| (number as u64) < prefix);
            if happened {
                change.apply(&mut self.medium_names);
            }
        }
        for node in self.nodes.values_mut() {
            node.crash(&mut self.chance);
        }
        let folders: BTreeSet<_> = self.medium_names.keys().map(|name| folder_of(name).to_owned()).collect();
        for folder in folders.iter().filter(|folder| !folder.is_empty()) {
            if !self.medium_folders.contains(folder) && self.chance.coin() {
                self.medium_names.retain(|name, _| folder_of(name) != folder);
            }
        }
        self.settle();
    }

    /// What is on the medium is all there is.
    fn settle(&mut self) {
        self.names = self.medium_names.clone();
        self.medium_folders = self.names.keys().map(|name| folder_of(name).to_owned()).collect();
        let named: BTreeSet<_> = self.names.values().copied().collect();
        self.nodes.retain(|number, _| named.contains(number));
    }

    pub(super) fn medium(&self) -> Self {
        let mut medium = self.clone();
        medium.changes.clear();
        medium.medium_names.retain(|name, _| {
            let folder = folder_of(name);
            folder.is_empty() || self.medium_folders.contains(folder)
        });
        for node in medium.nodes.values_mut() {
            node.cache.clear();
            node.size = node.medium.len();
        }
        medium.settle();
        medium
    }

    pub(super) fn restore(&mut self, image: &Self) {
        self.life += 1;
        self.nodes = image.nodes.clone();
        self.medium_names = image.medium_names.clone();
        self.changes.clear();
        // Numbers of files are not used again: a dead handle must not find another file.
        self.next_node = self.next_node.max(image.next_node);
        self.settle();
    }

    pub(super) fn wipe(&mut self, folder: &str) {
        let gone = |name: &str| folder.is_empty() || folder_of(name) == folder;
        self.names.retain(|name, _| !gone(name));
        self.medium_names.retain(|name, _| !gone(name));
        self.changes.retain(|change| !gone(change.name()));
        let named: BTreeSet<_> = self.names.values().chain(self.medium_names.values()).copied().collect();
        self.nodes.retain(|number, _| named.contains(number));
    }

    pub(super) fn flip(&mut self, name: &str, offset: u64, bit: u8) -> bool {
        let Some(node) = self.names.get(name).and_then(|node| self.nodes.get_mut(node)) else { return false };
        let Ok(at) = usize::try_from(offset) else { return false };
        if at >= node.size {
            return false;
        }
        let mask = 1 << (bit % 8);
        if let Some(sector) = node.cache.get_mut(&(at / SECTOR_BYTES)) {
            sector.bytes[at % SECTOR_BYTES] ^= mask;
        }
        if let Some(byte) = node.medium.get_mut(at) {
            *byte ^= mask;
        }
        true
    }

    pub(super) fn flip_somewhere(&mut self, folder: &str) -> Option<(String, u64, u8)> {
        let names: Vec<_> = self.names.keys().filter(|name| folder_of(name) == folder).cloned().collect();
        let name = names.get(usize::try_from(self.chance.below(names.len() as u64)).ok()?)?.clone();
        let size = self.nodes.get(self.names.get(&name)?)?.size as u64;
        let (offset, bit) = (self.chance.below(size), u8::try_from(self.chance.below(8)).ok()?);
        self.flip(&name, offset, bit).then_some((name, offset, bit))
    }

    pub(super) fn resize(&mut self, name: &str, bytes: u64) -> bool {
        let Some(node) = self.names.get(name).and_then(|node| self.nodes.get_mut(node)) else { return false };
        let Ok(bytes) = usize::try_from(bytes) else { return false };
        node.medium.resize(bytes, 0);
        node.size = bytes;
        node.cache.retain(|number, _| number * SECTOR_BYTES < bytes);
        true
    }
}

/// A file in memory is as long as memory can be.
fn size_of_file(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::StorageFull))
}
