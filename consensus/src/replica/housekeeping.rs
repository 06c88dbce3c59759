//! What a replica does beside everything else, without hurry: notices that its log has failed, that it has grown, that
//! the disk is full, that nobody leads it any more.

use std::pin::pin;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::async_runtime::WatchReceiver as _;

use super::{Replica, Runtime};
use crate::ground::Ground;
use crate::log_store::Room;
use crate::machine::Machine;

/// How long nobody leads, as far as a member hears, before it asks whether it is one; and between two times of asking.
const SILENCE: Duration = Duration::from_secs(5);
/// Between two looks at what needs no hurry.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Looks after what needs no hurry: a log that has failed, a log that has grown.
pub(super) async fn housekeep<G: Ground, M: Machine>(replica: Replica<G, M>) {
    let mut knocks_at = 0;
    while !replica.0.stopping.load(Ordering::Relaxed) {
        if let Some(fault) = replica.broken() {
            tracing::error!(%fault, "this host's part of the group has stopped for good");
            *replica.0.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
            replica.stop().await;
            replica.0.failed.notify_waiters();
            return;
        }
        if replica.0.commands.load(Ordering::Relaxed) >= replica.0.settings.snapshot_bytes
            && replica.snapshot().await.is_err()
        {
            return;
        }
        let full = matches!(replica.0.log.room(), Ok(Room::None));
        if full != replica.0.full.swap(full, Ordering::Relaxed) {
            if full {
                tracing::error!("the disk is full: this host leads nobody until there is space");
            } else {
                tracing::info!("there is space on the disk again");
            }
        }
        if replica.0.lags.swap(false, Ordering::Relaxed)
            && let Some((_, leader)) = replica.leader()
        {
            // He knows whether it may have lost them.
            replica.knock_at(&[leader.peer]).await;
        }
        if replica.silence() >= SILENCE && replica.now_ms() >= knocks_at {
            replica.knock_at(&replica.voting_peers()).await;
            knocks_at = replica.now_ms() + SILENCE.as_millis() as u64;
        }
        Runtime::<G>::sleep(HOUSEKEEPING).await;
    }
}

impl<G: Ground, M: Machine> Replica<G, M> {
    /// Waits until this half has stopped for good, and says why. Never ends if it is stopped in good order. Cancel safe.
    pub async fn failed(&self) -> String {
        loop {
            let failed = pin!(self.0.failed.notified());
            if let Some(fault) = self.fault()
                && self.has_stopped()
            {
                return fault;
            }
            failed.await;
        }
    }

    /// What has gone wrong for good underneath, if something has.
    fn broken(&self) -> Option<String> {
        let metrics = self.0.raft.metrics();
        let state = metrics.borrow_watched().running_state.clone();
        self.0.log.fault().map(|fault| fault.to_string()).or_else(|| state.err().map(|fatal| fatal.to_string()))
    }
}
