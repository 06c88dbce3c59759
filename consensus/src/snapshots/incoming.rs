//! A snapshot on its way in: pieces of the sender's file, in order, which may stop and go on.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::{Snapshot, Snapshots, file, path};
use crate::disk::{Disk as _, DiskFile as _};
use crate::ground::Ground;
use crate::types::SnapshotMeta;

/// What a piece led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    /// The sender goes on from this offset, which is where the pieces so far end.
    GoOn(u64),
    /// All bytes are here.
    Complete,
}

/// One that is being received. There is one at a time: another one takes its place.
pub struct Incoming<G: Ground> {
    snapshots: Snapshots<G>,
    meta: SnapshotMeta,
    bytes: u64,
    file: super::D<G>,
    have: u64,
}

impl<G: Ground> Incoming<G> {
    /// Begins to receive a file of this many bytes that claims to cover `meta`. At most `bytes_max`.
    ///
    /// # Errors
    /// `FileTooLarge`, and what the disk says.
    pub fn begin(snapshots: &Snapshots<G>, meta: SnapshotMeta, bytes: u64, bytes_max: u64) -> io::Result<Self> {
        if bytes > bytes_max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("a snapshot of {bytes} bytes")));
        }
        let temporary = path(TEMPORARY);
        snapshots.disk.remove(&temporary)?;
        let file = snapshots.disk.create(&temporary, 0)?;
        Ok(Self { snapshots: snapshots.clone(), meta, bytes, file, have: 0 })
    }

    /// Whether this is what is being offered, so that it can go on from where it stopped.
    #[must_use]
    pub fn is(&self, meta: &SnapshotMeta, bytes: u64) -> bool {
        self.meta == *meta && self.bytes == bytes
    }

    /// Where the pieces so far end.
    #[must_use]
    pub fn have(&self) -> u64 {
        self.have
    }

    /// Takes a piece. One that is not the next is not taken; the answer says which one would be.
    ///
    /// # Errors
    /// What the disk says.
    pub fn piece(&mut self, offset: u64, piece: &Bytes) -> io::Result<Arrived> {
        if offset == self.have && self.have + piece.len() as u64 <= self.bytes {
            self.file.write_at(piece, offset)?;
            self.have += piece.len() as u64;
        }
        Ok(if self.have == self.bytes { Arrived::Complete } else { Arrived::GoOn(self.have) })
    }

    /// Verifies all of it and gives it its name. It is on the disk, synced, when this returns.
    ///
    /// # Errors
    /// `InvalidData` if it is damaged or covers something else than it claimed; nothing is left of it then. And what
    /// the disk says.
    pub async fn finish(self) -> io::Result<Snapshot<G::Disk>> {
        let done = G::aside("mgmt-snapshot", self.finish_here());
        done.await.unwrap_or_else(|| Err(io::Error::other("whoever verified the snapshot panicked")))
    }

    async fn finish_here(self) -> io::Result<Snapshot<G::Disk>> {
        let file = Arc::new(self.file);
        let verified = file::verify::<G::Disk>(&file, self.bytes).and_then(|meta| {
            let same = meta == self.meta;
            let other = || io::Error::new(io::ErrorKind::InvalidData, "it covers something else than was said");
            if same { Ok(()) } else { Err(other()) }
        });
        let file = Arc::into_inner(file).expect("whoever verified it has let go");
        match verified {
            Ok(()) => self.snapshots.finish(file, &path(TEMPORARY), self.meta).await,
            Err(error) => {
                self.snapshots.disk.remove(&path(TEMPORARY))?;
                Err(error)
            }
        }
    }
}

/// Where the bytes lie until they are complete.
const TEMPORARY: &str = "incoming.part";
