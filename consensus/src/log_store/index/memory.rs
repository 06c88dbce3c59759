//! An index in memory: empty after every start, and filled from the journal.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;

use super::{Index, Opener};

/// Entries in memory.
#[derive(Debug, Default)]
pub struct Memory(Mutex<BTreeMap<u64, Bytes>>);

impl Memory {
    pub(super) fn entries(&self) -> MutexGuard<'_, BTreeMap<u64, Bytes>> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}

impl Index for Memory {
    fn get(&self, index: u64) -> io::Result<Option<Bytes>> {
        Ok(self.entries().get(&index).cloned())
    }

    fn put(&self, entries: &[(u64, Bytes)]) -> io::Result<()> {
        self.entries().extend(entries.iter().cloned());
        Ok(())
    }

    fn keep(&self, first: u64, end: u64) -> io::Result<()> {
        let mut entries = self.entries();
        entries.split_off(&end);
        *entries = entries.split_off(&first);
        Ok(())
    }

    fn visit(&self, see: &mut dyn FnMut(u64, Bytes) -> ControlFlow<()>) -> io::Result<()> {
        for (index, bytes) in self.entries().iter() {
            if see(*index, bytes.clone()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Opens empty ones.
#[derive(Debug, Default)]
pub struct InMemory;

impl Opener for InMemory {
    fn open(&self, _: bool) -> io::Result<Box<dyn Index>> {
        Ok(Box::new(Memory::default()))
    }
}
