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
mod sight;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

pub use account::Account;
pub use board::{Board, Publishing, Said, Wants};
pub use keeper::Keeper;
use remembered::{Memory, Remembered};
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
    memory: Memory,
}

impl Exchange {
    /// Begins, with what is remembered.
    #[must_use]
    pub fn start(mesh: &Mesh, link: Link, memory: Memory, remembered: Remembered) -> Self {
        let board = Board::new(Arc::new(remembered.sight()));
        let working = mesh.runtime().spawn(work(link, board.clone(), remembered));
        let writing = mesh.runtime().spawn(write(mesh.clone(), board.clone(), memory.clone()));
        Self { board, working, writing, memory }
    }

    /// Ends it; what is known now is remembered.
    pub async fn stop(self, mesh: &Mesh) {
        self.working.abort();
        self.writing.abort();
        let (said, _) = self.board.said();
        keep(mesh, &self.memory, &said).await;
    }
}

/// One life after the other, for as long as it is polled.
async fn work(link: Link, board: Board, remembered: Remembered) {
    let mut before: Option<Arc<Node>> = None;
    loop {
        let node = link.some_life(before.as_ref()).await;
        let keeper = Keeper {
            board: board.clone(),
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

/// Keeps on disk what is known, for as long as it is polled.
async fn write(mesh: Mesh, board: Board, memory: Memory) {
    let (mut said, mut count) = board.said();
    loop {
        board.changed(count).await;
        tokio::time::sleep(SETTLE).await;
        let before = said.sight.clone();
        (said, count) = board.said();
        if !Arc::ptr_eq(&before, &said.sight) {
            keep(&mesh, &memory, &said).await;
        }
    }
}

async fn keep(mesh: &Mesh, memory: &Memory, said: &Said) {
    let Some(cluster) = mesh.node().map(|node| node.identity.cluster).filter(|_| said.live) else { return };
    let Some(view) = said.view.clone() else { return };
    // Whoever asks for nothing learns nothing, and what an earlier graph asked for is not forgotten for that.
    if said.sight.asked.is_empty() {
        return;
    }
    let (memory, sight, turn) = (memory.clone(), said.sight.clone(), memory.turn());
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
