//! Snapshots as files: written aside, verified before they are believed, whole or not there at all.
//!
//! A file is a header with what it covers, chunks of the machine's own bytes, and a trailer. The checksum of each chunk
//! goes on from the one before it, so that a chunk that is missing, doubled or out of place is found like one that is
//! damaged. Names tell the index and term a snapshot covers up to. Two are kept: the newest, and the one before it for
//! when the newest turns out to be damaged.
//!
//! A file comes into being under a temporary name, is synced, renamed, and the folder synced. What lies about under a
//! temporary name at the start was never finished and is removed.

mod file;
mod incoming;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, DiskFile};
use crate::ground::Ground;
use crate::machine::Frozen;
use crate::types::{LogId, SnapshotMeta};

pub use file::Chunks;
pub use incoming::{Arrived, Incoming};

/// The folder they lie in.
const FOLDER: &str = "snapshots";
/// How many finished ones are kept.
const KEPT: usize = 2;

/// A finished snapshot that has been verified.
pub struct Snapshot<D: Disk> {
    file: Arc<D::File>,
    name: String,
    meta: SnapshotMeta,
    bytes: u64,
}

impl<D: Disk> Clone for Snapshot<D> {
    fn clone(&self) -> Self {
        Self { file: self.file.clone(), name: self.name.clone(), meta: self.meta.clone(), bytes: self.bytes }
    }
}

impl<D: Disk> fmt::Debug for Snapshot<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.name, self.bytes)
    }
}

impl<D: Disk> Snapshot<D> {
    /// What it covers.
    #[must_use]
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// The size of the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The machine's bytes, each piece verified once more.
    #[must_use]
    pub fn chunks(&self) -> Chunks<D> {
        Chunks::of(self.file.clone(), self.bytes)
    }

    /// A piece of the file as it is, for sending it.
    ///
    /// # Errors
    /// What the disk says.
    pub fn piece(&self, offset: u64, bytes: usize) -> io::Result<Bytes> {
        let mut buffer = vec![0; bytes];
        let read = self.file.read_at(&mut buffer, offset)?;
        buffer.truncate(read);
        Ok(buffer.into())
    }
}

/// Why there is no snapshot to start from although there should be one.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The log begins later than any snapshot that can be read ends.
    #[error("no usable snapshot reaches log index {needed}; {}", Found(damaged))]
    Missing {
        /// Up to where the log was purged.
        needed: u64,
        /// Those that could not be believed, and why.
        damaged: Vec<String>,
    },
    /// The disk.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

struct Found<'a>(&'a [String]);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("there is none") } else { f.write_str(&self.0.join("; ")) }
    }
}

/// The snapshots on a disk.
pub struct Snapshots<G: Ground> {
    disk: G::Disk,
}

impl<G: Ground> Clone for Snapshots<G> {
    fn clone(&self) -> Self {
        Self { disk: self.disk.clone() }
    }
}

impl<G: Ground> Snapshots<G> {
    /// Those on this disk.
    pub fn new(disk: G::Disk) -> Self {
        Self { disk }
    }

    /// The newest one that can be believed, if the log needs one or there is one, verified to its last byte. Removes
    /// what was never finished.
    ///
    /// # Errors
    /// [`Unusable::Missing`] if the log was purged up to where no snapshot reaches: this replica has lost state.
    pub fn newest(&self, purged: Option<&LogId>) -> Result<Option<Snapshot<G::Disk>>, Unusable> {
        let mut damaged = Vec::new();
        for name in self.disk.list(FOLDER)?.iter().rev() {
            if !is_finished(name) {
                self.disk.remove(&path(name))?;
                continue;
            }
            let covers = |snapshot: &Snapshot<G::Disk>| snapshot.meta.last_log_id.as_ref() >= purged;
            match self.open(name) {
                Ok(snapshot) if covers(&snapshot) => return Ok(Some(snapshot)),
                Ok(_) => damaged.push(format!("{name} is older")),
                Err(error) => {
                    tracing::error!(snapshot = name, %error, "snapshot cannot be used");
                    damaged.push(format!("{name}: {error}"));
                }
            }
        }
        match purged {
            Some(purged) => Err(Unusable::Missing { needed: purged.index, damaged }),
            None => Ok(None),
        }
    }

    /// Moves all of them into another folder: they belong to a former life.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn put_aside(&self, folder: &str) -> io::Result<()> {
        for name in self.disk.list(FOLDER)? {
            self.disk.rename(&path(&name), &format!("{folder}/{name}"))?;
        }
        self.disk.sync_folder(folder).await?;
        self.disk.sync_folder(FOLDER).await
    }

    /// Opens a finished one and verifies it to its last byte.
    ///
    /// # Errors
    /// `InvalidData` if it is damaged, and what the disk says.
    fn open(&self, name: &str) -> io::Result<Snapshot<G::Disk>> {
        let file = Arc::new(self.disk.open(&path(name))?);
        let bytes = file.size()?;
        let meta = file::verify::<G::Disk>(&file, bytes)?;
        Ok(Snapshot { file, name: name.to_owned(), meta, bytes })
    }

    /// Writes a frozen state, beside everything else. It is on the disk, synced, when this returns.
    ///
    /// # Errors
    /// What the disk says. Nothing is left then.
    pub async fn write(&self, meta: SnapshotMeta, frozen: impl Frozen) -> io::Result<Snapshot<G::Disk>> {
        let own = self.clone();
        let written = G::aside("mgmt-snapshot", async move { own.write_here(meta, frozen).await });
        written.await.unwrap_or_else(|| Err(io::Error::other("the writer of the snapshot panicked")))
    }

    async fn write_here(&self, meta: SnapshotMeta, mut frozen: impl Frozen) -> io::Result<Snapshot<G::Disk>> {
        let temporary = path("new.part");
        self.disk.remove(&temporary)?;
        let file = self.disk.create(&temporary, 0)?;
        let written = file::write::<G::Disk>(&file, &meta, &mut frozen);
        match written {
            Ok(()) => self.finish(file, &temporary, meta).await,
            Err(error) => {
                self.disk.remove(&temporary)?;
                Err(error)
            }
        }
    }

    /// Gives a complete file its name, for good.
    async fn finish(&self, file: D<G>, temporary: &str, meta: SnapshotMeta) -> io::Result<Snapshot<G::Disk>> {
        file.sync().await?;
        let name = name(meta.last_log_id.as_ref());
        self.disk.rename(temporary, &path(&name))?;
        self.disk.sync_folder(FOLDER).await?;
        self.disk.sync_folder("").await?;
        let finished: Vec<_> = self.disk.list(FOLDER)?.into_iter().filter(|name| is_finished(name)).collect();
        for old in finished.iter().rev().skip(KEPT) {
            self.disk.remove(&path(old))?;
        }
        let bytes = file.size()?;
        Ok(Snapshot { file: Arc::new(file), name, meta, bytes })
    }
}

/// A file on this ground.
type D<G> = <<G as Ground>::Disk as Disk>::File;

/// A name that sorts like what it covers.
fn name(last: Option<&LogId>) -> String {
    let (index, term) = last.map_or((0, 0), |id| (id.index, id.committed_leader_id().term));
    format!("{index:020}-{term:020}.snapshot")
}

fn is_finished(name: &str) -> bool {
    name.ends_with(".snapshot")
}

fn path(name: &str) -> String {
    format!("{FOLDER}/{name}")
}
