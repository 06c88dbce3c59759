//! The store as a file: saved from any member while it goes on, inspected, restored into an empty mesh.
//!
//! ```text
//! {"mgmt":"backup","version":1,...}\n          the head, one line of JSON that people may read
//! length u32 | bytes                           pieces of the state, as in a snapshot, until one of length 0
//! SHA-256 of all before, 32 bytes              nothing follows
//! ```
//!
//! Tokens, leases, locks and sessions are not in it (see [`mgmt_store::estate`]); nor are keys and certificates of hosts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use mgmt_consensus::limits::SNAPSHOT_CHUNK_BYTES_MAX;
use mgmt_consensus::machine::Frozen as _;
use mgmt_store::command::DecodeError;
use mgmt_store::estate::{Counts, Estate};
use mgmt_store::snapshot::{self, FrozenStore};
use mgmt_store::{Keyspace, Shared};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::levels::VERSIONS;
use super::recovery::{self, RecoveryError};

/// What the head says it is.
const MAGIC: &str = "backup";
/// The version that is written, and the highest that is read.
const VERSION: u32 = 1;
/// The head is a line of at most so many bytes.
const HEAD_BYTES_MAX: usize = 4 << 10;
/// What is behind the pieces.
const SUM_BYTES: usize = 32;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// `backup`.
    pub mgmt: String,
    /// How it is written.
    pub version: u32,
    /// Which cluster it was saved from.
    pub cluster: String,
    /// On which host.
    pub host: String,
    /// The state at this revision.
    pub revision: u64,
    /// Keys of users.
    pub keys: u64,
    /// Entries of hosts' maps.
    pub maps: u64,
    /// Exported resources.
    pub exports: u64,
    /// What all of it occupies in the store.
    pub bytes: u64,
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What the backup said of itself.
    pub head: Head,
    /// Where revisions go on.
    pub at: u64,
    /// Where everything that was here before lies now.
    pub aside: PathBuf,
}

/// Why a backup was not written, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file.
    #[error("use {path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is no backup, or is damaged.
    #[error("{path} cannot be used: {why}")]
    Damaged {
        /// Which one.
        path: PathBuf,
        /// In words.
        why: String,
    },
    /// A newer program has written it.
    #[error("{path} has version {version}, which a newer mgmt has written")]
    Newer {
        /// Which one.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// There is something in the mesh that it would take the place of.
    #[error("the mesh is not empty: {keys} keys, {maps} map entries and {exports} exports; restore into a new one")]
    NotEmpty {
        /// Keys of users.
        keys: u64,
        /// Entries of hosts' maps.
        maps: u64,
        /// Exported resources.
        exports: u64,
    },
    /// It uses what this program does not know yet.
    #[error("{path} uses feature level {level}, which this mgmt does not know")]
    FeatureLevel {
        /// Which one.
        path: PathBuf,
        /// The level.
        level: u32,
    },
    /// There are others in the mesh.
    #[error("the mesh has other members: {0}; restore into a new one")]
    NotAlone(String),
    /// The state directory.
    #[error(transparent)]
    State(#[from] RecoveryError),
    /// The state holds something that this program does not know.
    #[error("use the state: {0}")]
    Decode(#[from] DecodeError),
}

/// Writes and sums up.
struct Summed<W> {
    inner: W,
    sum: Sha256,
}

impl<W: Write> Summed<W> {
    fn all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.inner.write_all(bytes)
    }
}

/// Saves the state as it is on this member, which may be behind others: its head says up to which revision. Commands go
/// on being applied. It blocks on the disk. The file is whole, or what was there before.
///
/// # Errors
/// [`BackupError`].
pub fn save(shared: &Shared, cluster: &str, host: &str, unix_ms: u64, to: &Path) -> Result<Head, BackupError> {
    let estate = shared.read(Estate::of);
    let revision = estate.revision();
    let keyspace = estate.at(revision)?;
    let Counts { keys, maps, exports } = Counts::of(&keyspace);
    let head = Head {
        mgmt: MAGIC.to_owned(),
        version: VERSION,
        cluster: cluster.to_owned(),
        host: host.to_owned(),
        revision: revision.0,
        keys,
        maps,
        exports,
        bytes: keyspace.bytes(),
        unix_ms,
    };
    write(&head, &keyspace, to).map_err(|source| BackupError::File { path: to.to_owned(), source })?;
    Ok(head)
}

fn write(head: &Head, keyspace: &Keyspace, to: &Path) -> io::Result<()> {
    let name = to.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut part = name.to_owned();
    part.push(".part");
    let part = folder.join(part);
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    let written = pour(head, keyspace, file).and_then(|()| fs::rename(&part, to));
    if written.is_err() {
        // What cannot be removed either is named by the error that is told.
        let _left = fs::remove_file(&part);
    }
    written?;
    File::open(folder)?.sync_all()
}

fn pour(head: &Head, keyspace: &Keyspace, file: File) -> io::Result<()> {
    let mut out = Summed { inner: BufWriter::new(file), sum: Sha256::new() };
    let mut line = serde_json::to_vec(head).map_err(io::Error::other)?;
    line.push(b'\n');
    out.all(&line)?;
    let mut frozen = FrozenStore::new(keyspace);
    while let Some(chunk) = frozen.chunk() {
        out.all(&u32::try_from(chunk.len()).map_err(io::Error::other)?.to_le_bytes())?;
        out.all(&chunk)?;
    }
    out.all(&0_u32.to_le_bytes())?;
    let Summed { mut inner, sum } = out;
    inner.write_all(&sum.finalize())?;
    let file = inner.into_inner().map_err(|error| error.into_error())?;
    file.sync_all()
}

/// The pieces of a backup, summed up as they are read.
struct Pieces<R> {
    inner: R,
    sum: Sha256,
    ended: bool,
}

impl<R: Read> Pieces<R> {
    fn exactly(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut taken = vec![0; bytes];
        self.inner.read_exact(&mut taken)?;
        self.sum.update(&taken);
        Ok(taken)
    }

    fn piece(&mut self) -> io::Result<Option<Bytes>> {
        let damaged = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        let length = self.exactly(4)?;
        let length = u32::from_le_bytes(length.as_slice().try_into().map_err(io::Error::other)?) as usize;
        if length > SNAPSHOT_CHUNK_BYTES_MAX {
            return Err(damaged("a piece is too long"));
        }
        if length > 0 {
            return Ok(Some(self.exactly(length)?.into()));
        }
        let expected = self.sum.clone().finalize();
        let mut sum = [0; SUM_BYTES];
        self.inner.read_exact(&mut sum)?;
        if sum != expected.as_slice() {
            return Err(damaged("its checksum is wrong"));
        }
        if self.inner.read(&mut [0])? != 0 {
            return Err(damaged("something follows its end"));
        }
        Ok(None)
    }
}

impl<R: Read> Iterator for Pieces<R> {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let piece = self.piece().transpose();
        self.ended = !matches!(piece, Some(Ok(_)));
        piece
    }
}

/// Reads a backup to its last byte: what it says of itself, and whether that is so.
///
/// # Errors
/// [`BackupError`].
pub fn inspect(from: &Path) -> Result<Head, BackupError> {
    read(from).map(|(head, _)| head)
}

fn read(from: &Path) -> Result<(Head, Keyspace), BackupError> {
    let damaged = |why: String| BackupError::Damaged { path: from.to_owned(), why };
    let file = |source: io::Error| match source.kind() {
        io::ErrorKind::InvalidData => damaged(source.to_string()),
        io::ErrorKind::UnexpectedEof => damaged("it ends too early".to_owned()),
        _ => BackupError::File { path: from.to_owned(), source },
    };
    let mut pieces =
        Pieces { inner: BufReader::new(File::open(from).map_err(file)?), sum: Sha256::new(), ended: false };
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        if line.len() == HEAD_BYTES_MAX {
            return Err(damaged("it is no backup of a mesh".to_owned()));
        }
        line.extend(pieces.exactly(1).map_err(file)?);
    }
    let value: serde_json::Value =
        serde_json::from_slice(&line).map_err(|_| damaged("it is no backup of a mesh".to_owned()))?;
    let version = value.get("version").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if let Some(version) = u32::try_from(version).ok().filter(|version| *version > VERSION) {
        return Err(BackupError::Newer { path: from.to_owned(), version });
    }
    let head: Head = serde_json::from_value(value).map_err(|error| damaged(format!("its head: {error}")))?;
    if head.mgmt != MAGIC {
        return Err(damaged("it is no backup of a mesh".to_owned()));
    }
    let keyspace = snapshot::restore(&mut pieces).map_err(file)?;
    let Counts { keys, maps, exports } = Counts::of(&keyspace);
    let is = (keyspace.revision().0, keys, maps, exports);
    if is != (head.revision, head.keys, head.maps, head.exports) {
        return Err(damaged("its head says something else than what is in it".to_owned()));
    }
    Ok((head, keyspace))
}

/// Restores a backup into a mesh of one host that is empty, while that host does not run; the caller holds the lock of
/// its state directory. The mesh stays the one it is: cluster, authority and this host's certificate, and with them the
/// certificates of hosts that this authority has signed. Tokens are made anew. Revisions go on above those of the
/// backup and those of the mesh.
///
/// # Errors
/// [`BackupError`]: everything is as it was.
pub async fn restore(state: &Path, from: &Path) -> Result<Restored, BackupError> {
    let (head, keyspace) = read(from)?;
    let level = keyspace.feature_level();
    if !VERSIONS.understand(level) {
        return Err(BackupError::FeatureLevel { path: from.to_owned(), level });
    }
    let salvage = recovery::salvage(state).await?;
    let me = salvage.identity.host.clone();
    let (there, others) = salvage.machine.shared().read(|there| {
        let others = there.peers().map(|(host, _)| host.as_str().to_owned()).filter(|host| *host != me);
        (Counts::of(there), others.collect::<Vec<_>>())
    });
    if !there.is_empty() {
        let Counts { keys, maps, exports } = there;
        return Err(BackupError::NotEmpty { keys, maps, exports });
    }
    if !others.is_empty() {
        return Err(BackupError::NotAlone(others.join(", ")));
    }
    let (at, aside) = recovery::succeed(state, &salvage, Estate::of(&keyspace), head.revision, None).await?;
    Ok(Restored { head, at, aside })
}

#[cfg(test)]
mod tests;
