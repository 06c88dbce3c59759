//! An ordered map that is copied in a moment and then shares what does not change.
//!
//! Entries lie in sorted pages, the pages in a map by their first key. A copy copies references to pages; a page is
//! copied only when it is written while a copy still holds it. The state is frozen for a snapshot with one such copy,
//! while commands go on being applied.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Entries of a page at most: a write moves half of them, a copy of the map costs one reference for each page.
const PAGE: usize = 128;
/// A page grows by so many, so that pages are not half empty.
const PAGE_STEP: usize = 16;

/// A map. The first page also takes what is less than its name; every other page begins at its name or after it.
#[derive(Debug, Clone)]
pub(crate) struct Pages<K, V> {
    pages: BTreeMap<K, Arc<Vec<(K, V)>>>,
    len: usize,
}

impl<K, V> Default for Pages<K, V> {
    fn default() -> Self {
        Self { pages: BTreeMap::new(), len: 0 }
    }
}

impl<K: Ord + Clone, V: Clone> Pages<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let page = self.pages.range::<Q, _>(until(key)).next_back()?.1;
        let at = page.binary_search_by(|(k, _)| k.borrow().cmp(key)).ok()?;
        Some(&page[at].1)
    }

    /// The value for a change in place; a page that a copy shares is copied first.
    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let page = self.pages.range_mut::<Q, _>(until(key)).next_back()?.1;
        let at = page.binary_search_by(|(k, _)| k.borrow().cmp(key)).ok()?;
        Some(&mut Arc::make_mut(page)[at].1)
    }

    /// Puts a value in, and gives back the one that was there.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let Some((_, page)) = self.pages.range_mut::<K, _>(until(&key)).next_back() else {
            self.insert_first(key, value);
            return None;
        };
        let at = match page.binary_search_by(|(k, _)| k.cmp(&key)) {
            Ok(at) => return Some(std::mem::replace(&mut Arc::make_mut(page)[at].1, value)),
            Err(at) => at,
        };
        self.len += 1;
        if page.len() < PAGE {
            put(Arc::make_mut(page), at, (key, value));
            return None;
        }
        if at == PAGE {
            // Mostly keys that grow, as revisions do: nothing will come into the full page any more.
            self.pages.insert(key.clone(), Arc::new(vec![(key, value)]));
            return None;
        }
        let page = Arc::make_mut(page);
        let mut upper = page.split_off(PAGE / 2);
        page.shrink_to_fit();
        match at.checked_sub(PAGE / 2) {
            Some(at) if at > 0 => put(&mut upper, at, (key, value)),
            _ => put(page, at, (key, value)),
        }
        self.pages.insert(upper[0].0.clone(), Arc::new(upper));
        None
    }

    /// A key before all others: the first page is named anew, or there is none yet.
    fn insert_first(&mut self, key: K, value: V) {
        self.len += 1;
        match self.pages.first_entry() {
            Some(first) if first.get().len() < PAGE => {
                let mut page = first.remove();
                put(Arc::make_mut(&mut page), 0, (key.clone(), value));
                self.pages.insert(key, page);
            }
            _ => {
                self.pages.insert(key.clone(), Arc::new(vec![(key, value)]));
            }
        }
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (name, page) = self.pages.range_mut::<Q, _>(until(key)).next_back()?;
        let at = page.binary_search_by(|(k, _)| k.borrow().cmp(key)).ok()?;
        self.len -= 1;
        if page.len() == 1 {
            let name = name.clone();
            let page = self.pages.remove(name.borrow())?;
            return page.first().map(|(_, value)| value.clone());
        }
        Some(Arc::make_mut(page).remove(at).1)
    }

    /// Entries in order, from a key on.
    pub(crate) fn from<'a, Q: Ord + ?Sized>(&'a self, key: &'a Q) -> impl Iterator<Item = (&'a K, &'a V)>
    where
        K: Borrow<Q>,
    {
        let first = self.pages.range::<Q, _>(until(key)).next_back();
        let at = first.map_or(0, |(_, page)| page.partition_point(|(k, _)| k.borrow() < key));
        let head = first.map(|(_, page)| &page[at..]).unwrap_or_default();
        let after = (Bound::Excluded(key), Bound::Unbounded);
        let rest = self.pages.range::<Q, _>(after).flat_map(|(_, page)| page.iter());
        head.iter().chain(rest).map(|(k, v)| (k, v))
    }

    /// All entries in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.pages.values().flat_map(|page| page.iter()).map(|(k, v)| (k, v))
    }
}

/// Up to a key: the last page in it is the one that the key belongs to.
fn until<Q: ?Sized>(key: &Q) -> (Bound<&Q>, Bound<&Q>) {
    (Bound::Unbounded, Bound::Included(key))
}

fn put<T>(page: &mut Vec<T>, at: usize, item: T) {
    if page.len() == page.capacity() {
        page.reserve_exact(PAGE_STEP);
    }
    page.insert(at, item);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(pages: &Pages<u16, u32>, model: &BTreeMap<u16, u32>) {
        assert_eq!(pages.len(), model.len());
        assert!(pages.iter().eq(model.iter()));
        for from in [0, 1, 77, 300, 999, u16::MAX] {
            assert!(pages.from(&from).eq(model.range(from..)), "from {from}");
        }
        for (name, page) in &pages.pages {
            assert!(!page.is_empty() && page.len() <= PAGE);
            assert!(page[0].0 >= *name, "a page begins at its name");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn like_a_map_and_copies_stay(ops in prop::collection::vec((0u8..8, 0u16..1200, any::<u32>()), 0..4000)) {
            let (mut pages, mut model) = (Pages::default(), BTreeMap::new());
            let mut copy = (pages.clone(), model.clone());
            for (op, key, value) in ops {
                match op {
                    0..4 => assert_eq!(pages.insert(key, value), model.insert(key, value)),
                    4..6 => assert_eq!(pages.remove(&key), model.remove(&key)),
                    6 => {
                        assert_eq!(pages.get(&key), model.get(&key));
                        if let (Some(a), Some(b)) = (pages.get_mut(&key), model.get_mut(&key)) {
                            (*a, *b) = (value, value);
                        }
                    }
                    _ if value % 50 == 0 => copy = (pages.clone(), model.clone()),
                    _ => {}
                }
            }
            check(&pages, &model);
            check(&copy.0, &copy.1);
        }
    }

    #[test]
    fn upwards_and_downwards() {
        let (mut up, mut down, mut model) = (Pages::default(), Pages::default(), BTreeMap::new());
        for i in 0..2000u16 {
            up.insert(i, u32::from(i));
            down.insert(1999 - i, u32::from(1999 - i));
            model.insert(i, u32::from(i));
        }
        check(&up, &model);
        check(&down, &model);
        assert_eq!(up.pages.len(), 2000usize.div_ceil(PAGE), "full pages");
    }
}
