//! A watcher: follows what begins so on one host and then on another, and writes down what it was shown.

use std::collections::BTreeMap;
use std::time::Duration;

use mgmt_store::watch::{Filter, Position, Watch, WatchError, Watches};
use openraft::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;

use crate::oracle::history::Found;
use crate::oracle::watches::{Seen, Watcher as Shown};
use crate::stage::Stage;
use crate::swarm::Chance;
use crate::translate;

/// A watcher.
pub(crate) struct Watcher {
    stage: Stage,
    chance: Chance,
    position: Position,
    opened: bool,
    shown: Shown,
}

impl Watcher {
    pub(crate) fn new(stage: Stage, mut chance: Chance) -> Self {
        let prefix = chance.pick(&["k/", "k/", "k/p", "k/t", "k/l"]).to_owned();
        Self { stage, chance, position: Position::default(), opened: false, shown: Shown { prefix, seen: Vec::new() } }
    }

    /// Watches until it has seen all there is.
    pub(crate) async fn be(mut self) {
        self.stage.watcher(true);
        while !self.has_all() {
            let host = self.chance.below(self.stage.hosts());
            if let Some(asked) = self.stage.ask(host) {
                let watches = Watches::new(asked.shared.clone());
                let filter = Filter::Prefix(self.shown.prefix.clone());
                let watch = match self.opened {
                    false => watches.open(filter, self.position.revision),
                    true => watches.resume(filter, self.position),
                };
                self.opened = true;
                self.shown.seen.push(Seen::From(self.position.revision.0));
                self.follow(&asked, watch.expect("there are few")).await;
            }
            let pause = self.chance.millis(1, 300);
            SimRuntime::sleep(pause).await;
        }
        self.stage.watcher(false);
        self.stage.book().watcher(self.shown);
    }

    fn has_all(&self) -> bool {
        self.stage.is_closed() || self.stage.until().is_some_and(|until| self.position.revision.0 >= until)
    }

    /// Follows on one host, for a while or until it dies.
    async fn follow(&mut self, asked: &crate::stage::Asked, mut watch: Watch) {
        for _ in 0..self.chance.between(1, 30) {
            let patience = self.chance.millis(1, 700);
            let looking = asked.life.run(async move {
                let next = SimRuntime::timeout(patience, watch.next()).await;
                (watch, next.ok())
            });
            let Ok(Some((back, next))) = SimRuntime::timeout(patience + Duration::from_secs(2), looking).await else {
                return;
            };
            watch = back;
            let events = match next {
                Some(Ok(batch)) => batch.events.iter().map(translate::event).collect(),
                Some(Err(WatchError::Compacted { oldest })) => {
                    self.shown.seen.push(Seen::Compacted { oldest: oldest.0 });
                    self.read(asked);
                    return;
                }
                Some(Err(error)) => panic!("{error}"),
                None => Vec::new(),
            };
            assert_eq!(watch.position().part, 0, "batches here are small");
            self.position = watch.position();
            self.shown.seen.push(Seen::Batch { events, through: self.position.revision.0 });
            if self.has_all() {
                return;
            }
        }
    }

    /// Reads everything anew, and goes on from there.
    fn read(&mut self, asked: &crate::stage::Asked) {
        let (revision, found): (u64, BTreeMap<String, Found>) = translate::read(&asked.shared, &self.shown.prefix);
        self.stage.book().trace().line(None, format_args!("a watcher reads anew at {revision}"));
        self.shown.seen.push(Seen::Read { revision, found });
        self.position = mgmt_store::Revision(revision).into();
    }
}
