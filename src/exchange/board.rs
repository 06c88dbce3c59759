//! Where the agent and the exchange meet: what the graph wants on one side, what has come of it on the other. Only the
//! latest counts, so nothing queues up.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mgmt_consensus::ClusterId;
use mgmt_store::View;
use mgmt_store::view::Collect;
use mgmt_store::world::Exports;
use tokio::sync::Notify;

use super::Sight;
use super::remembered::Turn;

/// What the graph wants of the exchange.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wants {
    /// All that this host exports; `None`: it says nothing of that, and whatever it exported before stays.
    pub exports: Option<Arc<Exports>>,
    /// Why that is not all that it is to export: it cannot be read, or there is too much of it.
    pub wrong: Option<String>,
    /// What it collects.
    pub asks: Vec<Collect>,
}

/// How publishing stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publishing {
    /// There is nothing to say.
    Nothing,
    /// It is to be published; why it is not yet, once that is known.
    Pending(Option<String>),
    /// It is in force; since this revision, if it was published by this process.
    Done(u64),
    /// It was refused, in words: trying again is of no use before something changes.
    Refused(String),
}

/// What has come of it.
#[derive(Debug, Clone)]
pub struct Said {
    /// What is known of the others' exports.
    pub sight: Arc<Sight>,
    /// It is the store's, kept up by its watch. Otherwise it is remembered.
    pub live: bool,
    /// Of which mesh this process has it, and its turn for whoever keeps it; `None`: it was kept before.
    pub seen: Option<(ClusterId, Turn)>,
    /// Own exports.
    pub publishing: Publishing,
    /// The store's view that the sight was made of, once it is live.
    pub view: Option<View>,
}

/// Both sides. Copies are the same board.
#[derive(Debug, Clone)]
pub struct Board(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Held for one operation, never across an await.
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    wants: Wants,
    said: Said,
    /// Counts changes of each side.
    wanted: u64,
    told: u64,
    /// The view that the engine's graph corresponds to.
    adopted: Option<View>,
    /// Hosts of whom nothing of an earlier mesh is kept any more.
    forgotten: BTreeSet<String>,
}

impl Board {
    /// With what is remembered.
    #[must_use]
    pub fn new(sight: Arc<Sight>) -> Self {
        let said = Said { sight, live: false, seen: None, publishing: Publishing::Nothing, view: None };
        let state =
            State { wants: Wants::default(), said, wanted: 0, told: 0, adopted: None, forgotten: BTreeSet::new() };
        Self(Arc::new(Inner { state: Mutex::new(state), changed: Notify::new() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way: what a poisoned lock guards is whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The graph wants this from now on.
    pub fn want(&self, wants: Wants) {
        let mut state = self.state();
        if state.wants == wants {
            return;
        }
        if (&state.wants.exports, &state.wants.wrong) != (&wants.exports, &wants.wrong) {
            state.said.publishing = match (&wants.exports, &wants.wrong) {
                (_, Some(why)) => Publishing::Refused(why.clone()),
                (Some(_), None) => Publishing::Pending(None),
                (None, None) => Publishing::Nothing,
            };
            state.told += 1;
        }
        state.wants = wants;
        state.wanted += 1;
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// What is wanted, and the count to wait on.
    pub(super) fn wants(&self) -> (Wants, u64) {
        let state = self.state();
        (state.wants.clone(), state.wanted)
    }

    /// What has come of it, and the count to wait on.
    #[must_use]
    pub fn said(&self) -> (Said, u64) {
        let state = self.state();
        (state.said.clone(), state.told)
    }

    /// Waits until something else is wanted than at this count. Cancel safe.
    pub(super) async fn wants_other(&self, than: u64) {
        self.until(|state| state.wanted != than).await;
    }

    /// Waits until something else has come of it than at this count. Cancel safe.
    pub async fn changed(&self, than: u64) {
        self.until(|state| state.told != than).await;
    }

    async fn until(&self, there: impl Fn(&State) -> bool) {
        loop {
            let woken = self.0.changed.notified();
            tokio::pin!(woken);
            // Enlisted before looking: what changes in between wakes it.
            woken.as_mut().enable();
            if there(&self.state()) {
                return;
            }
            woken.await;
        }
    }

    /// Whether this is what was told of the store last.
    pub(super) fn shows(&self, sight: &Sight) -> bool {
        let state = self.state();
        state.said.live && *state.said.sight == *sight
    }

    /// This is what the store has now; not remembered any more. `view`: what the sight was made of; `seen`: of which mesh,
    /// and its turn for whoever keeps it.
    pub fn see(&self, sight: Arc<Sight>, view: View, seen: Option<(ClusterId, Turn)>) {
        self.tell(|said| {
            let other = !said.live || *said.sight != *sight;
            (said.sight, said.live, said.view, said.seen) = (sight, true, Some(view), seen);
            other
        });
    }

    /// Keeps nothing of this host that only an earlier mesh knew.
    pub fn forget(&self, host: &str) {
        let mut state = self.state();
        state.forgotten.insert(host.to_owned());
        state.wanted += 1;
        drop(state);
        self.0.changed.notify_waiters();
    }

    /// The same, where that is no news.
    pub(super) fn outgrow(&self, host: &str) {
        self.state().forgotten.insert(host.to_owned());
    }

    pub(super) fn is_forgotten(&self, host: &str) -> bool {
        self.state().forgotten.contains(host)
    }

    /// The engine has the graph that this view makes.
    pub fn adopted(&self, view: Option<View>) {
        self.state().adopted = view;
    }

    /// How far the graph of the engine is, where this is the store's view now: the revision up to which nothing concerns it
    /// that it does not have. And whether own exports are on their way.
    pub fn settled(&self, now: &View) -> (u64, bool) {
        let state = self.state();
        let publishing = matches!(state.said.publishing, Publishing::Pending(_));
        let settled = match &state.adopted {
            Some(adopted) if adopted == now => now.revision().0,
            Some(adopted) => adopted.revision().0,
            None if state.wants.asks.is_empty() => now.revision().0,
            None => 0,
        };
        (settled, publishing)
    }

    /// The store is away: what is known is remembered.
    pub fn lose_sight(&self) {
        self.tell(|said| std::mem::replace(&mut said.live, false));
    }

    /// How publishing of what was wanted at this count stands.
    pub(super) fn publishing(&self, of: u64, how: Publishing) {
        let state = self.state();
        // What cannot be published as a whole is not in force, whatever becomes of what was published before.
        if state.wanted != of || state.wants.wrong.is_some() {
            return;
        }
        drop(state);
        self.tell(|said| {
            let other = said.publishing != how;
            said.publishing = how;
            other
        });
    }

    fn tell(&self, change: impl FnOnce(&mut Said) -> bool) {
        let mut state = self.state();
        if !change(&mut state.said) {
            return;
        }
        state.told += 1;
        drop(state);
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_not_in_force_until_it_is_mended() {
        let board = Board::new(Arc::default());
        let publishing = || board.said().0.publishing;
        let wrong = Some("no such file".to_owned());
        board.want(Wants { wrong: wrong.clone(), ..Wants::default() });
        assert_eq!(publishing(), Publishing::Refused("no such file".into()), "although there is nothing to publish");
        let exports = Some(Arc::new(Exports::of("a".parse().unwrap())));
        board.want(Wants { exports: exports.clone(), wrong, ..Wants::default() });
        board.publishing(board.wants().1, Publishing::Done(7));
        assert_eq!(publishing(), Publishing::Refused("no such file".into()), "what was before is published, not this");
        board.want(Wants { exports, ..Wants::default() });
        assert_eq!(publishing(), Publishing::Pending(None), "although it is the same again");
        board.publishing(board.wants().1, Publishing::Done(8));
        assert_eq!(publishing(), Publishing::Done(8));
    }
}
