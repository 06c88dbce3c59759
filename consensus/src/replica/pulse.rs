//! The pulse of a replica: says when the group's own clock has to tick.
//!
//! openraft looks at its timers every 20 ms, on every host, for ever; nearly all of these looks find nothing to do. Here a
//! leader beats by one timer at the heartbeat's interval, and who hears a leader needs no clock until it was silent for
//! longer than any heartbeat takes. Nothing is decided here: where there is any doubt the clock ticks, and it is the
//! group's own timers that begin an election, no later than they would have.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::select;
use openraft::async_runtime::WatchReceiver as _;
use openraft::{AsyncRuntime, ServerState};

use super::{Replica, Runtime};
use crate::ground::Ground;
use crate::machine::Machine;

/// What there is to do until the next look.
enum Beat {
    /// It leads: a heartbeat now, and the next one after this time.
    Lead(Duration),
    /// It hears a leader: nothing for so long.
    Rest(Duration),
    /// The clock ticks meanwhile.
    Watch(Duration),
}

/// Beats for as long as the replica lives.
pub(super) async fn beat<G: Ground, M: Machine>(replica: Replica<G, M>) {
    let mut metrics = replica.0.raft.server_metrics();
    while !replica.has_stopped() {
        let state = metrics.borrow_watched().state;
        let beat = replica.beat(state);
        replica.0.raft.runtime_config().tick(matches!(beat, Beat::Watch(_)));
        if matches!(beat, Beat::Lead(_)) && replica.0.raft.trigger().heartbeat().await.is_err() {
            return;
        }
        let (Beat::Lead(pause) | Beat::Rest(pause) | Beat::Watch(pause)) = beat;
        // A replica whose group has ended has nothing to wait for but its own end.
        let _whichever = select(pin!(Runtime::<G>::sleep(pause)), pin!(metrics.changed())).await;
    }
}

impl<G: Ground, M: Machine> Replica<G, M> {
    fn beat(&self, state: ServerState) -> Beat {
        let settings = &self.0.settings;
        // A quarter is more than the clock takes to tick again, so that it ticks before anybody may stand for election.
        let calm = settings.election_min - settings.heartbeat / 4;
        let silence = Duration::from_millis(self.now_ms().saturating_sub(self.0.heard_ms.load(Ordering::Relaxed)));
        match state {
            ServerState::Leader => Beat::Lead(settings.heartbeat),
            ServerState::Follower | ServerState::Learner if self.0.heard.load(Ordering::Relaxed) && silence < calm => {
                Beat::Rest(calm - silence)
            }
            _ => Beat::Watch(settings.heartbeat),
        }
    }
}
