//! Keeps what is known of other hosts where it outlives the process: soon, and not after every change.
//!
//! What is gone by before it is kept could be forgotten by a crash in between. So the shelf is told first, and whoever
//! finds it like that later does not take what is kept for all there was: what it does not know of is not purged.

use std::future::Future;

use mgmt_consensus::ClusterId;
use mgmt_consensus::mutant::{self, Mutant};

use super::remembered::Turn;
use super::{Board, Said};

/// Where it is kept.
pub trait Shelf: Send + Sync + 'static {
    /// Something else than what is kept is gone by from now on, in this turn.
    fn outdate(&self) -> Turn;

    /// Waits for what else may come close after a change.
    fn settle(&self) -> impl Future<Output = ()> + Send;

    /// Replaces what is kept. It is all there was, unless it was outdated in a later turn since.
    fn keep(&self, cluster: ClusterId, turn: Turn, said: Said) -> impl Future<Output = ()> + Send;
}

/// Keeps what is known, for as long as it is polled.
pub async fn keeping(board: Board, shelf: &impl Shelf) {
    let (said, mut count) = board.said();
    let mut kept = said.seen;
    loop {
        board.changed(count).await;
        shelf.settle().await;
        let (said, now) = board.said();
        count = now;
        if let Some((cluster, turn)) = said.seen.filter(|_| said.seen != kept) {
            if !mutant::is(Mutant::CollectedForgotten) {
                shelf.keep(cluster, turn, said).await;
            }
            kept = Some((cluster, turn));
        }
    }
}
