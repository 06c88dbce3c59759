//! What hosts really exported, set by set, and what others may make of it: nobody ever sees half of a set or one that was
//! replaced before what he has seen, and no file goes away that its exporter did not withdraw.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use mgmt::exchange::Sight;
use mgmt_store::{Key, Value};

use crate::book::Book;
use crate::oracle::{Verdict, Violation, broken};

/// All that a host exports at one time, as it is stored.
pub(crate) type Set = BTreeMap<Key, Value>;
/// Which set of each exporter a host goes by: the number of its place among all there were.
pub(crate) type Floors = BTreeMap<usize, usize>;

/// The sets that hosts wanted to be published, each with the number that its contents carry.
pub(crate) struct Ledger {
    book: Book,
    sets: Mutex<BTreeMap<usize, Vec<(u64, Set)>>>,
    /// Hosts that cannot know that what they remember was put back from an old copy.
    misled: Mutex<BTreeSet<usize>>,
}

impl Ledger {
    pub(crate) fn new(book: Book) -> Self {
        Self { book, sets: Mutex::default(), misled: Mutex::default() }
    }

    fn sets(&self) -> MutexGuard<'_, BTreeMap<usize, Vec<(u64, Set)>>> {
        self.sets.lock().expect("held for a moment only")
    }

    /// Virtual time, in nanoseconds.
    pub(crate) fn now(&self) -> u64 {
        self.book.trace().now()
    }

    pub(crate) fn say(&self, host: usize, what: impl std::fmt::Display) {
        self.book.trace().line(Some(host), what);
    }

    pub(crate) fn broke(&self, violation: Violation) {
        self.book.broke(violation);
    }

    /// A host wants this set published from now on.
    pub(crate) fn wanted(&self, host: usize, number: u64, set: &Set) {
        let mut sets = self.sets();
        // Before its first, it exported nothing.
        let known = sets.entry(host).or_insert_with(|| vec![(0, Set::new())]);
        if known.last().is_none_or(|(last, _)| *last < number) {
            known.push((number, set.clone()));
        }
    }

    /// A host goes by this: of each exporter one of its sets, and none before the one it went by.
    pub(crate) fn seen(&self, here: usize, floors: &mut Floors, sight: &Sight) -> Verdict {
        let mut seen: BTreeMap<usize, Set> = BTreeMap::new();
        for (key, value) in sight.view.entries() {
            if let Some(host) = key.host().and_then(number_of) {
                seen.entry(host).or_default().insert(key.clone(), value.clone());
            }
        }
        for (host, sets) in self.sets().iter().filter(|(host, _)| **host != here) {
            let got = seen.remove(host).unwrap_or_default();
            let floor = floors.get(host).copied().unwrap_or_default();
            let place = (floor..sets.len()).find(|place| sets[*place].1 == got);
            let Some(place) = place else {
                let what = format!("h{here} of h{host}, of which it has seen {}: {}", sets[floor].0, words(&got));
                return match sets[..floor].iter().any(|(_, set)| *set == got) {
                    true => broken("what is known of an exporter never goes back", what),
                    false => broken("a set of exports is seen whole", what),
                };
            };
            floors.insert(*host, place);
        }
        match seen.keys().find(|host| **host != here) {
            None => Ok(()),
            Some(host) => broken("a set of exports is seen whole", format!("h{here} sees h{host}, which wants none")),
        }
    }

    /// An old copy of its memory was put back under a host; or it has seen the store since.
    pub(crate) fn misled(&self, host: usize, misled: bool) {
        let mut all = self.misled.lock().expect("held for a moment only");
        if misled {
            all.insert(host);
        } else {
            all.remove(&host);
        }
    }

    /// A host removes a file because nothing in its graph wants it.
    pub(crate) fn removed(&self, here: usize, path: &Path, content: &str) {
        self.say(here, format_args!("removes {}: {content:?}", path.display()));
        let Some((host, name)) = path.file_name().and_then(|name| name.to_str()).and_then(exported) else { return };
        let number: u64 = content.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default();
        let key = format!("x/h{host}/file/{name}");
        let sets = self.sets();
        let lacks = |set: &Set| !set.keys().any(|known| known.as_str() == key);
        let withdrawn = sets.get(&host).is_some_and(|sets| sets.iter().any(|(at, set)| *at > number && lacks(set)));
        drop(sets);
        let misled = self.misled.lock().expect("held for a moment only").contains(&here);
        if !withdrawn && !misled {
            let what = format!("h{here} removes {} with {content:?}, and h{host} exports it", path.display());
            self.broke(Violation { law: "nothing is removed that was not withdrawn", what });
        }
    }

    /// The set of a host that is in force, if it is one of those it wanted.
    pub(crate) fn is_a_set(&self, host: usize, set: &Set) -> bool {
        self.sets().get(&host).is_some_and(|sets| sets.iter().any(|(_, known)| known == set))
    }
}

/// The number of the host of this name; clients are none.
pub(crate) fn number_of(name: &str) -> Option<usize> {
    name.strip_prefix('h')?.parse().ok()
}

/// Whose export a collected file is, and its name there.
fn exported(file: &str) -> Option<(usize, &str)> {
    let (host, name) = file.split_once('-')?;
    Some((number_of(host)?, name))
}

fn words(set: &Set) -> String {
    let words = set.iter().map(|(key, value)| format!("{key} {}", String::from_utf8_lossy(value)));
    words.collect::<Vec<_>>().join("; ")
}
