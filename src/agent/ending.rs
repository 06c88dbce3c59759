//! How a run ends: what runs is drained, the mesh is left, and stock is taken.

use std::sync::Arc;
use std::time::Duration;

use mgmt_engine::report::Standing;
use mgmt_engine::resource::Urgency;
use mgmt_engine::runner::{Condition, Snapshot};

use super::{Agent, Ended};
use crate::shutdown::Asked;

/// Children that outlive the engine's drain are waited for no longer than this.
const LEFTOVERS: Duration = Duration::from_secs(11);

impl Agent {
    /// Ends this host's part in the mesh, in order unless a further signal wants it otherwise.
    async fn leave_the_mesh(&mut self) {
        let Some(mesh) = self.mesh.take() else { return };
        if let Some(exchange) = self.exchanging.exchange.take() {
            exchange.stop(&mesh).await;
        }
        let stopped = mesh.stop();
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                biased;
                asked = self.signals.next() => if let Asked::End { times: 2.., by } = asked {
                    tracing::warn!("{by}: the mesh is left as it is");
                    self.hurry(asked);
                    return;
                },
                () = &mut stopped => return,
            }
        }
    }

    /// Drains the engine, listening to further signals, and takes stock.
    pub(super) async fn end(mut self) -> Ended {
        // An event of its own last write may have come since: a look at it would have been due, and is not any more.
        let here = *self.engine.condition().borrow() == Condition::Converged;
        let converged = self.reached || (here && !self.together.is_asked());
        self.together.end();
        let (graph, exchanged) = (self.engine.graph(), self.exchanging.account.exchanged());
        // Taken before draining: what was still to be done is told as such.
        let before = self.engine.snapshot();
        self.engine.drain(if self.late { Urgency::Cancel } else { Urgency::None });
        let mut condition = self.engine.condition();
        loop {
            tokio::select! {
                biased;
                asked = self.signals.next() => self.hurry(asked),
                drained = condition.wait_for(|c| *c == Condition::Drained) => {
                    drained.expect("the engine is ours, so it is alive");
                    break;
                }
            }
        }
        self.settings.progress.hide();
        self.leave_the_mesh().await;
        let snapshot = merged(before, self.engine.snapshot(), converged);
        self.socket = None;
        let Self { engine, shared, settings, clock, late, outdated, why_unsettled: unsettled, mut signals, .. } = self;
        let tally = Arc::clone(&shared.tally);
        drop(shared);
        match Arc::try_unwrap(engine) {
            Ok(engine) => tokio::task::block_in_place(|| engine.stop()),
            // A task of the socket still holds it for a moment; its drop ends it as well.
            Err(engine) => drop(engine),
        }
        let leftovers = tokio::time::timeout(LEFTOVERS, mgmt_resources::exec::reaper::settle());
        tokio::pin!(leftovers);
        loop {
            tokio::select! {
                biased;
                settled = &mut leftovers => {
                    if settled.is_err() {
                        tracing::warn!("some child processes did not end in time");
                    }
                    break;
                }
                // What was cancelled may still be on its way out.
                asked = signals.next() => if let Asked::End { times: 3.., by } = asked {
                    tracing::warn!("{by}: killing what runs");
                    mgmt_resources::exec::reaper::kill_all();
                },
            }
        }
        drop(settings.state);
        Ended {
            graph,
            exchanged,
            snapshot,
            tally,
            late,
            outdated,
            unsettled,
            converged,
            took: clock.now().since(mgmt_engine::Moment::START),
        }
    }

    fn hurry(&self, asked: Asked) {
        let Asked::End { times, by } = asked else { return };
        // After --max-runtime the first signal already finds what runs cancelled.
        if times <= 2 {
            tracing::warn!("{by}: cancelling what runs; again to kill it");
            self.engine.drain(Urgency::Cancel);
        } else {
            tracing::warn!("{by}: killing what runs");
            self.engine.drain(Urgency::Kill);
            mgmt_resources::exec::reaper::kill_all();
        }
    }
}

/// What was pending before the drain is no longer visible after it; what ran then has ended since. Once all was quiet,
/// whatever is due again is the echo of our last repair, which is no longer waited for.
fn merged(before: Snapshot, after: Snapshot, converged: bool) -> Snapshot {
    let stands = before.stands.into_iter().zip(after.stands).map(|(before, mut after)| match after.standing {
        _ if before.standing == Standing::Retrying => before,
        Standing::Busy | Standing::Waiting if converged => {
            after.standing = if after.changes > 0 { Standing::Changed } else { Standing::Clean };
            after
        }
        _ => after,
    });
    Snapshot { stands: stands.collect(), quiet_since: after.quiet_since, converged: after.converged, now: after.now }
}
