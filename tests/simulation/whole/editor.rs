//! Whoever edits the hosts' documents, and meddles with their files, while everything else goes wrong.

use std::path::Path;
use std::time::Duration;

use openraft::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;

use super::COLLECTED;
use crate::stage::Stage;
use crate::swarm::Chance;

/// Names of exports are drawn from so many.
const NAMES: usize = 5;

/// The editor.
pub(crate) struct Editor {
    stage: Stage,
    chance: Chance,
    /// Between two edits, at most.
    pause_max: Duration,
}

impl Editor {
    pub(crate) fn new(stage: Stage, chance: Chance, pause_max: Duration) -> Self {
        Self { stage, chance, pause_max }
    }

    /// Edits until it is told to stop.
    pub(crate) async fn be(mut self) {
        while !self.stage.is_over() {
            let pause = self.chance.millis(5, self.pause_max.as_millis() as u64);
            SimRuntime::sleep(pause).await;
            self.act();
        }
    }

    fn act(&mut self) {
        let stay: Vec<usize> = self.stage.all().iter().filter(|host| !host.gone).map(|host| host.number).collect();
        let Some(whole) = self.stage.site().whole.clone().filter(|_| !stay.is_empty()) else { return };
        let number = self.chance.pick(&stay);
        let estate = whole.estate(number);
        if self.chance.percent(15) {
            return self.meddle(&estate);
        }
        let changes = 1 + self.chance.below(3);
        let chance = &mut self.chance;
        estate.edit(|exports, edition| {
            for _ in 0..changes {
                let name = chance.below(NAMES);
                if chance.percent(70) {
                    exports.insert(name, edition);
                } else {
                    exports.remove(&name);
                }
            }
        });
    }

    /// Changes, removes or adds a file where collected ones are.
    fn meddle(&mut self, estate: &super::Estate) {
        let there: Vec<_> = estate.files.all().into_keys().collect();
        match self.chance.below(3) {
            0 => estate.files.put(&Path::new(COLLECTED).join("stray"), Some("nobody's")),
            _ if there.is_empty() => {}
            1 => estate.files.put(&there[self.chance.below(there.len())], None),
            _ => {
                let path = &there[self.chance.below(there.len())];
                let content = estate.files.all()[path].replace(' ', "_ ");
                estate.files.put(path, Some(&content));
            }
        }
    }
}
