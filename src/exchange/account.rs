//! What there is to tell of the exchange: who supplies a vertex, what was published, collected and skipped.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use mgmt_engine::Id;
use serde_json::{Value, json};

use super::{Board, Publishing};
use crate::assemble::{Exchanged, Skipped, Taken};
use crate::mesh::messages::inquiry::{Collected, Row};

/// What is told of what is collected: it fits into an answer of the mesh.
const TOLD_BYTES_MAX: usize = 512 << 10;

/// The present account of one run.
#[derive(Debug, Default)]
pub struct Account {
    board: OnceLock<Board>,
    /// Held for one operation, never across an await.
    present: Mutex<Present>,
}

#[derive(Debug, Default)]
struct Present {
    exchanged: Arc<Exchanged>,
    /// Who exports what became these vertices.
    origins: HashMap<Id, String>,
}

/// What another graph means for what is collected.
#[derive(Debug, Default)]
pub struct News {
    /// Vertices that are managed no more, and who exported them.
    pub gone: Vec<(Id, String)>,
    /// What is skipped from now on.
    pub skipped: Vec<Skipped>,
    /// What is taken without all of it from now on.
    pub cut: Vec<Taken>,
}

impl Account {
    fn present(&self) -> MutexGuard<'_, Present> {
        // Nothing in here panics half way: what a poisoned lock guards is whole.
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is an exchange from now on.
    pub fn open(&self, board: Board) {
        // A run has one mesh at most, and so one exchange.
        self.board.get_or_init(|| board);
    }

    /// This is what the graph has to do with other hosts from now on. Gives what is new in it.
    pub fn enter(&self, exchanged: Exchanged) -> News {
        let mut present = self.present();
        let before = std::mem::replace(&mut present.exchanged, Arc::new(exchanged));
        let now = present.exchanged.clone();
        let origins = now.taken.iter().map(|taken| (taken.id.clone(), taken.host.clone())).collect();
        let origins = std::mem::replace(&mut present.origins, origins);
        let mut gone: Vec<_> = origins.into_iter().filter(|(id, _)| !present.origins.contains_key(id)).collect();
        gone.sort();
        let knew: HashMap<_, _> = before.taken.iter().map(|taken| (&taken.id, taken)).collect();
        let cut = now.taken.iter().filter(|t| !t.left_out.is_empty() && knew.get(&t.id).is_none_or(|b| *b != *t));
        let knew: HashSet<_> = before.skipped.iter().map(|s| (&s.host, &s.id, s.item, &s.why)).collect();
        let skipped = now.skipped.iter().filter(|s| !knew.contains(&(&s.host, &s.id, s.item, &s.why)));
        News { gone, skipped: skipped.cloned().collect(), cut: cut.cloned().collect() }
    }

    /// Who exports what became this vertex.
    pub fn origin(&self, id: &Id) -> Option<String> {
        self.present().origins.get(id).cloned()
    }

    /// What the graph has to do with other hosts.
    pub fn exchanged(&self) -> Arc<Exchanged> {
        self.present().exchanged.clone()
    }

    /// Where the exchange is met, once there is one.
    pub fn board(&self) -> Option<&Board> {
        self.board.get()
    }

    /// As `mgmt status` tells it: counts, and how own exports stand.
    pub fn status(&self) -> Value {
        let exchanged = self.exchanged();
        let said = self.board().map(|board| board.said().0);
        let mut hosts: BTreeMap<&str, usize> = BTreeMap::new();
        for taken in &exchanged.taken {
            *hosts.entry(&taken.host).or_default() += 1;
        }
        let (state, why, revision) = match said.as_ref().map(|said| &said.publishing) {
            None | Some(Publishing::Nothing) => ("nothing", None, None),
            Some(Publishing::Pending(why)) => ("pending", why.clone(), None),
            Some(Publishing::Done(revision)) => ("published", None, Some(*revision)),
            Some(Publishing::Refused(why)) => ("refused", Some(why.clone()), None),
        };
        json!({
            "exports": exchanged.exports.len(),
            "publishing": state,
            "why": why,
            "published": revision,
            "collected": exchanged.taken.len(),
            "hosts": hosts,
            "skipped": exchanged.skipped.len(),
            "live": said.as_ref().is_some_and(|said| said.live),
            "purges_waiting": exchanged.waiting.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }

    /// What this host takes and what it skips, as it is told to whoever asks who collects what.
    pub fn collected(&self) -> Collected {
        let exchanged = self.exchanged();
        let row = |host: &str, id: &Id, name: &str, why: String| Row {
            host: host.to_owned(),
            kind: id.kind.as_str().to_owned(),
            name: name.to_owned(),
            why,
        };
        let taken =
            exchanged.taken.iter().map(|taken| row(&taken.host, &taken.id, &taken.name, taken.left_out.join(", ")));
        let skipped = exchanged.skipped.iter().map(|s| row(&s.host, &s.id, &s.id.name, s.why.clone()));
        let mut told = Collected::default();
        let mut room = TOLD_BYTES_MAX;
        for (rows, list) in [(&mut told.skipped, skipped.collect::<Vec<_>>()), (&mut told.taken, taken.collect())] {
            for row in list {
                // What JSON adds, and escapes that double a text.
                let bytes = 64 + 2 * (row.host.len() + row.kind.len() + row.name.len() + row.why.len());
                if bytes > room {
                    told.more += 1;
                    continue;
                }
                room -= bytes;
                rows.push(row);
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Place;

    fn taken(nth: usize, why: &str) -> Taken {
        let name = format!("f{nth}@b");
        let (host, path, left_out) = ("b".to_owned(), None, vec![why.to_owned()]);
        Taken { id: Id::new("file", &name), host, name: format!("f{nth}"), path, left_out }
    }

    #[test]
    fn only_what_is_new_is_news() {
        let account = Account::default();
        let place = Place { line: 1, column: 1 };
        let skipped = |nth: usize| Skipped {
            host: "c".into(),
            id: Id::new("file", &format!("s{nth}")),
            item: place,
            why: "no".into(),
        };
        // As much as this host takes, none of it whole: a look at each pair would take minutes.
        let all = |why: &str| Exchanged {
            taken: (0..100_000).map(|nth| taken(nth, if nth == 7 { why } else { "owner" })).collect(),
            skipped: (0..1_000).map(skipped).collect(),
            ..Exchanged::default()
        };
        let news = account.enter(all("owner"));
        assert_eq!((news.gone.len(), news.skipped.len(), news.cut.len()), (0, 1_000, 100_000));
        let news = account.enter(all("group"));
        assert_eq!((news.gone.len(), news.skipped.len(), news.cut), (0, 0, vec![taken(7, "group")]));
        let news = account.enter(Exchanged::default());
        assert_eq!((news.gone.len(), news.skipped.len(), news.cut.len()), (100_000, 0, 0));
    }
}
