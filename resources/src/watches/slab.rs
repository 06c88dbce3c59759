//! Values under small numbers, which are given out again after a removal.

use std::ops::{Index, IndexMut};

/// No number: where a number may be missing and an `Option` would double the size.
pub(super) const NONE: u32 = u32::MAX;

/// A vector with holes.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(id) = self.free.pop() {
            self.slots[id as usize] = Some(value);
            return id;
        }
        let id = u32::try_from(self.slots.len()).expect("four thousand million values do not fit in memory");
        self.slots.push(Some(value));
        id
    }

    pub(super) fn get(&self, id: u32) -> Option<&T> {
        self.slots.get(id as usize)?.as_ref()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }

    pub(super) fn remove(&mut self, id: u32) -> T {
        let value = self.slots[id as usize].take().expect("a number is removed once, by whoever was given it");
        self.free.push(id);
        value
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;
    fn index(&self, id: u32) -> &T {
        self.slots[id as usize].as_ref().expect("a number is used only while its value is held")
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, id: u32) -> &mut T {
        self.slots[id as usize].as_mut().expect("a number is used only while its value is held")
    }
}
