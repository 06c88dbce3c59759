//! An ordered map that is copied in a moment and then shares what does not change.
//!
//! Entries lie in sorted pages, the pages in a row. A copy copies references to pages; a page is
//! copied only when it is written while a copy still holds it. The state is frozen for a snapshot with one such copy,
//! while commands go on being applied.

use std::borrow::Borrow;
use std::sync::Arc;

/// Entries of a page at most: a write moves half of them, a copy of the map costs one reference for each page.
const PAGE: usize = 128;
/// A page grows by so many, so that pages are not half empty.
const PAGE_STEP: usize = 16;

/// A map.
#[derive(Debug, Clone)]
pub(crate) struct Pages<K, V> {
    /// None is empty. What lies in a page is not less than its name, and less than the name of the next. The name is
    /// beside the page, so that pages which do not have what is looked for are not touched.
    pages: Vec<(K, Page<K, V>)>,
    len: usize,
}

type Page<K, V> = Arc<Vec<(K, V)>>;

impl<K, V> Default for Pages<K, V> {
    fn default() -> Self {
        Self { pages: Vec::new(), len: 0 }
    }
}

impl<K: Ord + Clone, V: Clone> Pages<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The page that a key belongs to, if there is one that begins before it.
    fn page<Q: Ord + ?Sized>(&self, key: &Q) -> Option<usize>
    where
        K: Borrow<Q>,
    {
        self.pages.partition_point(|(name, _)| name.borrow() <= key).checked_sub(1)
    }

    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (_, page) = &self.pages[self.page(key)?];
        Some(&page[search(page, key).ok()?].1)
    }

    /// The value for a change in place; a page that a copy shares is copied first.
    pub(crate) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let at = self.page(key)?;
        let (_, page) = &mut self.pages[at];
        let at = search(page, key).ok()?;
        Some(&mut Arc::make_mut(page)[at].1)
    }

    /// Puts a value in, and gives back the one that was there.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        // A key before all others renames the first page.
        let number = self.page(&key).unwrap_or_default();
        let Some((name, page)) = self.pages.get_mut(number) else {
            self.add(0, vec![(key, value)]);
            self.len = 1;
            return None;
        };
        let at = match search(page, &key) {
            Ok(at) => return Some(std::mem::replace(&mut Arc::make_mut(page)[at].1, value)),
            Err(at) => at,
        };
        self.len += 1;
        if key < *name {
            *name = key.clone();
        }
        if page.len() < PAGE {
            put(Arc::make_mut(page), at, (key, value));
        } else if at == PAGE {
            // Mostly keys that grow, as revisions do: nothing will come into the full page any more.
            self.add(number + 1, vec![(key, value)]);
        } else {
            let page = Arc::make_mut(page);
            let mut upper = page.split_off(PAGE / 2);
            page.shrink_to_fit();
            match at.checked_sub(PAGE / 2) {
                Some(at) if at > 0 => put(&mut upper, at, (key, value)),
                _ => put(page, at, (key, value)),
            }
            self.add(number + 1, upper);
        }
        None
    }

    fn add(&mut self, number: usize, page: Vec<(K, V)>) {
        self.pages.insert(number, (page[0].0.clone(), Arc::new(page)));
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let number = self.page(key)?;
        let (_, page) = &mut self.pages[number];
        let at = search(page, key).ok()?;
        let page = Arc::make_mut(page);
        let (_, value) = page.remove(at);
        self.len -= 1;
        if page.is_empty() {
            self.pages.remove(number);
        } else if page.len() <= PAGE / 4 {
            page.shrink_to(page.len() + PAGE_STEP);
            self.merge(number);
            self.merge(number.saturating_sub(1));
        }
        Some(value)
    }

    /// Makes one page of this one and the next, if they are small: what is deleted gives its memory back.
    fn merge(&mut self, number: usize) {
        if let Some([(_, page), (_, next)]) = self.pages.get_mut(number..number + 2)
            && page.len() + next.len() <= PAGE / 2
        {
            Arc::make_mut(page).append(Arc::make_mut(next));
            self.pages.remove(number + 1);
        }
    }

    /// Entries in order, from a key on.
    pub(crate) fn from<'a, Q: Ord + ?Sized>(&'a self, key: &'a Q) -> impl Iterator<Item = (&'a K, &'a V)>
    where
        K: Borrow<Q>,
    {
        let number = self.page(key).unwrap_or_default();
        let (head, rest) = self.pages.get(number..).and_then(<[_]>::split_first).unzip();
        let head = head.map(|(_, page)| &page[search(page, key).unwrap_or_else(|at| at)..]).unwrap_or_default();
        let rest = rest.unwrap_or_default().iter().flat_map(|(_, page)| page.iter());
        head.iter().chain(rest).map(|(k, v)| (k, v))
    }

    /// All entries in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.pages.iter().flat_map(|(_, page)| page.iter()).map(|(k, v)| (k, v))
    }
}

/// Where a key lies in a page, or where it would.
fn search<K: Borrow<Q>, V, Q: Ord + ?Sized>(page: &[(K, V)], key: &Q) -> Result<usize, usize> {
    page.binary_search_by(|(k, _)| k.borrow().cmp(key))
}

fn put<T>(page: &mut Vec<T>, at: usize, item: T) {
    if page.len() == page.capacity() {
        page.reserve_exact(PAGE_STEP);
    }
    page.insert(at, item);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
        let ends = pages.pages.iter().map(|(_, page)| page[page.len() - 1].0);
        assert!(ends.zip(pages.pages.iter().skip(1)).all(|(end, (name, _))| end < *name), "and ends before the next");
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
    fn what_is_deleted_gives_its_pages_back() {
        let mut pages = Pages::default();
        (0..20_000u16).for_each(|key| _ = pages.insert(key, 1));
        (0..20_000).filter(|key| key % 100 != 0).for_each(|key| _ = pages.remove(&key));
        check(&pages, &(0..20_000).step_by(100).map(|key| (key, 1)).collect());
        assert!(pages.pages.len() <= 2 * 200 / (PAGE / 2) + 1, "{} pages for 200 keys", pages.pages.len());
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
