//! The exchange with other hosts: what this one exports is published, what it collects is brought to its graph, and kept
//! on disk for the time when there is no mesh.
//!
//! Beside the engine and on the mesh's runtime. Nothing here ends a run, and nothing here waits for the mesh before the
//! graph runs: what is known is what was remembered, until something newer is. Must not know what a resource is.

pub mod account;
pub mod board;
pub mod inline;
mod keeper;
pub mod record;
pub mod remembered;
mod shelf;
mod sight;

use std::sync::Arc;
use std::time::Duration;

use mgmt_consensus::ClusterId;
use tokio::task::JoinHandle;

pub use account::Account;
pub use board::{Board, Publishing, Said, Wants};
pub use keeper::Keeper;
use remembered::{Memory, Remembered, Turn};
pub use shelf::{Shelf, keeping};
pub use sight::Sight;

use crate::mesh::Mesh;
use crate::mesh::link::Link;
use crate::mesh::node::Node;

/// Changes that come this close together are written to disk once.
const SETTLE: Duration = Duration::from_millis(100);

/// The exchange of one run.
#[derive(Debug)]
pub struct Exchange {
    /// Where the agent meets it.
    pub board: Board,
    working: JoinHandle<()>,
    writing: JoinHandle<()>,
    shelf: Arc<OnDisk>,
}

/// The state directory of this run.
#[derive(Debug)]
struct OnDisk(Memory);

impl Exchange {
    /// Begins, with what is remembered.
    #[must_use]
    pub fn start(mesh: &Mesh, link: Link, memory: Memory, remembered: Remembered) -> Self {
        let board = Board::new(Arc::new(remembered.sight()));
        let shelf = Arc::new(OnDisk(memory));
        let working = mesh.runtime().spawn(work(link, board.clone(), shelf.clone(), remembered));
        let (met, kept) = (board.clone(), shelf.clone());
        let writing = mesh.runtime().spawn(async move { keeping(met, &*kept).await });
        Self { board, working, writing, shelf }
    }

    /// Ends it; what is known now is remembered.
    pub async fn stop(self) {
        self.working.abort();
        self.writing.abort();
        let (said, _) = self.board.said();
        if let Some((cluster, turn)) = said.seen {
            self.shelf.keep(cluster, turn, said).await;
        }
    }
}

/// One life after the other, for as long as it is polled.
async fn work(link: Link, board: Board, shelf: Arc<OnDisk>, remembered: Remembered) {
    let mut before: Option<Arc<Node>> = None;
    loop {
        let node = link.some_life(before.as_ref()).await;
        let keeper = Keeper {
            board: board.clone(),
            shelf: shelf.clone(),
            client: node.client.clone(),
            shared: node.shared.clone(),
            cluster: node.identity.cluster,
            host: node.setup.host.clone(),
            inherited: remembered.inherited(node.identity.cluster),
        };
        tokio::select! {
            biased;
            _ = link.some_life(Some(&node)) => {}
            () = keeper.publish() => {}
            () = keeper.follow() => {}
        }
        board.lose_sight();
        before = Some(node);
    }
}

impl Shelf for OnDisk {
    fn outdate(&self) -> Turn {
        self.0.outdate().unwrap_or_else(|(turn, error)| {
            tracing::warn!("what was collected before cannot be marked as outdated: {error}");
            turn
        })
    }

    async fn settle(&self) {
        tokio::time::sleep(SETTLE).await;
    }

    async fn keep(&self, cluster: ClusterId, turn: Turn, said: Said) {
        let Some(view) = said.view else { return };
        let (memory, sight) = (self.0.clone(), said.sight);
        // The mesh has one thread, and it is not to wait for a disk.
        let kept = tokio::task::spawn_blocking(move || memory.keep(turn, cluster, &sight, &view)).await;
        let error = match kept {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(
            "what was collected cannot be remembered: {error}; without the mesh, the next start will not know it"
        );
    }
}
