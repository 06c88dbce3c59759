//! An index that survives a crash as the worst of its kind would: not at all, in part, or with entries in it that were
//! never written. For simulations; all chance comes from a seed.

use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::memory::Memory;
use super::{Index, Opener};

/// Opens what an earlier life has left, after something has happened to it.
#[derive(Debug, Clone)]
pub struct Lying(Arc<Mutex<Left>>);

#[derive(Debug)]
struct Left {
    chance: u64,
    index: Arc<Memory>,
}

impl Lying {
    /// An empty one.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Left { chance: seed, index: Arc::default() })))
    }
}

impl Left {
    /// A number below `end` (splitmix64).
    fn below(&mut self, end: u64) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.chance ^ (self.chance >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }

    fn mangle(&mut self) {
        let index = Arc::clone(&self.index);
        let mut entries = index.entries();
        let (Some(first), count) = (entries.keys().next().copied(), entries.len() as u64) else { return };
        match self.below(4) {
            0 => entries.clear(),
            1 => {
                entries.split_off(&(first + self.below(count)));
            }
            2 => {
                // An entry of another history: everything about it is plausible but what it carries.
                for _ in 0..=self.below(count / 2) {
                    let which = first + self.below(count);
                    if let Some(bytes) = entries.get_mut(&which) {
                        let mut other = bytes.to_vec();
                        if let Some(last) = other.last_mut() {
                            *last ^= 1;
                        }
                        *bytes = other.into();
                    }
                }
            }
            _ => {}
        }
    }
}

/// Entries that stay where the next life finds them.
#[derive(Debug)]
struct Kept(Arc<Memory>);

impl Index for Kept {
    fn get(&self, index: u64) -> io::Result<Option<Bytes>> {
        self.0.get(index)
    }

    fn put(&self, entries: &[(u64, Bytes)]) -> io::Result<()> {
        self.0.put(entries)
    }

    fn keep(&self, first: u64, end: u64) -> io::Result<()> {
        self.0.keep(first, end)
    }

    fn visit(&self, see: &mut dyn FnMut(u64, Bytes) -> ControlFlow<()>) -> io::Result<()> {
        self.0.visit(see)
    }
}

impl Opener for Lying {
    fn open(&self, anew: bool) -> io::Result<Box<dyn Index>> {
        let mut left = self.0.lock().expect("nothing panics while it holds this lock");
        // What an earlier life still holds of it is no longer this index.
        let entries = if anew { Default::default() } else { left.index.entries().clone() };
        left.index = Arc::new(Memory::default());
        left.index.entries().extend(entries);
        left.mangle();
        Ok(Box::new(Kept(Arc::clone(&left.index))))
    }
}
