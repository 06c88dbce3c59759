//! A new mesh from what one survivor still has, and a mesh that goes on from a backup: both begin with a state, on the
//! disk of a host that does not run.
//!
//! Everything is prepared in a folder beside what is there. One rename of that folder is the moment at which it counts;
//! before, everything is as it was, and after, [`finish`] puts the parts in their places however often it is
//! interrupted. Whoever starts calls it first. What was there before is moved aside, never deleted.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mgmt_consensus::ground::{Native, chance};
use mgmt_consensus::identity::{Identity, Incarnation};
use mgmt_consensus::log_store::Options;
use mgmt_consensus::log_store::index::tree::Tree;
use mgmt_consensus::recover::{self, BeginError, Salvage, SalvageError};
use mgmt_consensus::{ClusterId, disk::files::Files};
use mgmt_store::command::DecodeError;
use mgmt_store::estate::Estate;
use mgmt_store::snapshot::FrozenStore;
use mgmt_store::{Revision, StoreMachine};

use super::papers::{Papers, PapersError};
use super::place::{Part, Place};

/// What is being prepared, and counts for nothing.
const PREPARING: &str = "recovered.new";
/// What counts, and is on its way to its places.
const PREPARED: &str = "recovered";
/// Where what was there before goes.
const ASIDE: &str = "before-recovery";
/// So many of those are kept; there is one for each recovery.
const ASIDE_MAX: u32 = 100;
/// The parts of a member. The identity goes last: without it nobody is anybody.
const PARTS: [&str; 4] = ["journal", "snapshots", "mesh", "peer.toml"];
/// Rebuilt from the journal whenever it does not fit.
const INDEX: &str = "index";

/// What was made of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Which cluster it was.
    pub old: ClusterId,
    /// Which one it is now.
    pub new: ClusterId,
    /// Up to which log index the survivor knew for certain that its log was committed.
    pub committed: u64,
    /// Where its log ended.
    pub last: u64,
    /// Where the new mesh begins: no revision of the old one is as high.
    pub at: u64,
    /// Hosts of the old mesh that have to join the new one.
    pub hosts: Vec<String>,
    /// Where everything that was here before lies now.
    pub aside: PathBuf,
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { old, new, committed, last, at, hosts, aside } = self;
        writeln!(f, "cluster {new} takes the place of {old}; this host is its only master, and its authority is new")?;
        writeln!(f, "kept: everything up to log index {last}, of which {committed} was known to be committed here")?;
        if last > committed {
            writeln!(
                f,
                "      indices {} to {last} may have been acknowledged to nobody; they are kept",
                committed + 1
            )?;
        }
        writeln!(f, "lost: whatever was acknowledged beyond index {last}; leases, locks and tokens")?;
        writeln!(f, "revisions go on at {at}")?;
        if !hosts.is_empty() {
            writeln!(f, "these hosts join again, with a new token: {}", hosts.join(", "))?;
        }
        write!(f, "what was here before is in {}", aside.display())
    }
}

/// Why nothing was recovered. Everything is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// What is there cannot be used.
    #[error(transparent)]
    Salvage(#[from] SalvageError),
    /// What is there holds something that this program does not know.
    #[error("use the state that is there: {0}")]
    State(#[from] DecodeError),
    /// The new log.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The new papers.
    #[error(transparent)]
    Papers(#[from] PapersError),
    /// The disk.
    #[error("use {path}: {source}")]
    Disk {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// An error of the disk, with its place.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> RecoveryError {
    let path = path.to_owned();
    move |source| RecoveryError::Disk { path, source }
}

/// How a log is opened that nobody goes on with here: nothing is held back.
fn options(state: &Path) -> Options {
    Options { reserve_bytes: 0, ..Options::new(Arc::new(Tree::new(state.join(INDEX)))) }
}

/// What a host that does not run has. The caller holds the lock of its state directory.
///
/// # Errors
/// [`RecoveryError`].
pub(super) async fn salvage(state: &Path) -> Result<Salvage<StoreMachine>, RecoveryError> {
    finish(state).map_err(at(state))?;
    let disk = Files::open(state).map_err(at(state))?;
    Ok(recover::salvage::<Native, _>(disk, options(state), StoreMachine::new()).await?)
}

/// Makes a mesh of this host alone out of what it has, in `PREFIX/HOSTNAME`. The caller holds the lock of that directory.
/// Nothing of it counts until the last moment.
///
/// The authority is a new one, also where the key of the old one is: all must join again, and nobody who had that key
/// shall be able to let them in.
///
/// # Errors
/// [`RecoveryError`]: everything is as it was.
pub async fn recover(state: &Path) -> Result<Recovered, RecoveryError> {
    let salvage = salvage(state).await?;
    let shared = salvage.machine.shared();
    let (estate, hosts) = shared.read(|keyspace| {
        let others = keyspace.peers().map(|(host, _)| host.as_str().to_owned());
        (Estate::of(keyspace), others.filter(|host| *host != salvage.identity.host).collect())
    });
    let index = |log_id: Option<mgmt_consensus::types::LogId>| log_id.map_or(0, |log_id| log_id.index);
    let (old, new) = (salvage.identity.cluster, ClusterId::draw(chance));
    let (committed, last) = (index(salvage.committed).min(index(salvage.last)), index(salvage.last));
    let (begins, aside) = succeed(state, &salvage, estate, 0, Some(new)).await?;
    Ok(Recovered { old, new, committed, last, at: begins, hosts, aside })
}

/// Begins a log with this state in place of what is there, in a new cluster or in the same one; where it begins, and
/// where what was there before lies.
pub(super) async fn succeed(
    state: &Path,
    salvage: &Salvage<StoreMachine>,
    estate: Estate,
    seen: u64,
    cluster: Option<ClusterId>,
) -> Result<(u64, PathBuf), RecoveryError> {
    let begins = recover::above(salvage, seen.max(estate.revision().0));
    let keyspace = estate.at(Revision(begins))?;
    let preparing = state.join(PREPARING);
    let fresh = || {
        match fs::remove_dir_all(&preparing) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&preparing)
    };
    fresh().map_err(at(&preparing))?;
    let Identity { peer, host, .. } = salvage.identity.clone();
    if let Some(cluster) = cluster {
        let (before, place) = (Place::open(state), Place::open(&preparing));
        let (before, place) = (before.map_err(at(state))?, place.map_err(at(&preparing))?);
        Papers::found(&place, cluster, peer, &host)?;
        // The others know where this host listens.
        if let Some(port) = before.load(Part::Port).map_err(at(state))? {
            place.save(Part::Port, &port).map_err(at(&preparing))?;
        }
    }
    let identity = Identity {
        cluster: cluster.unwrap_or(salvage.identity.cluster),
        peer,
        incarnation: Incarnation::draw(chance),
        raft: Some(begins),
        host,
    };
    let disk = Files::open(&preparing).map_err(at(&preparing))?;
    let frozen = FrozenStore::new(&keyspace);
    let term = salvage.term.saturating_add(1);
    recover::begin::<Native>(disk, options(&preparing), &identity, term, begins, frozen).await?;
    let switch = || {
        fs::rename(&preparing, state.join(PREPARED))?;
        sync(state)
    };
    switch().map_err(at(state))?;
    let aside = finish(state).map_err(at(state))?;
    Ok((begins, aside.unwrap_or_else(|| state.join(ASIDE))))
}

/// Puts what was prepared in its places, if something was; where that which was there before lies now. To be called
/// before anything else looks at the state directory, with its lock held.
///
/// # Errors
/// What the system says. It is safe to begin again.
pub fn finish(state: &Path) -> io::Result<Option<PathBuf>> {
    let prepared = state.join(PREPARED);
    if !prepared.try_exists()? {
        return Ok(None);
    }
    let aside = aside(state, &prepared)?;
    for part in PARTS {
        let (from, to) = (prepared.join(part), state.join(part));
        if !from.try_exists()? {
            continue;
        }
        // What is aside already was moved there before an interruption.
        if to.try_exists()? {
            fs::rename(&to, aside.join(part))?;
            sync(&aside)?;
            sync(state)?;
        }
        fs::rename(&from, &to)?;
        sync(state)?;
    }
    for index in [state.join(INDEX), prepared.clone()] {
        match fs::remove_dir_all(&index) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync(state)?;
    Ok(Some(aside))
}

/// The folder for what was there before; the same one after an interruption.
fn aside(state: &Path, prepared: &Path) -> io::Result<PathBuf> {
    // Remembered in what is being put in its places, so that it ends with it.
    let note = prepared.join("aside");
    match fs::read_to_string(&note) {
        Ok(name) if name.starts_with(ASIDE) && !name.contains('/') => return made(state.join(name)),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    for number in 1..=ASIDE_MAX {
        let name = format!("{ASIDE}-{number}");
        if !state.join(&name).try_exists()? {
            let fresh = prepared.join("aside.new");
            fs::write(&fresh, &name)?;
            File::open(&fresh)?.sync_all()?;
            fs::rename(&fresh, &note)?;
            sync(prepared)?;
            return made(state.join(name));
        }
    }
    Err(io::Error::other(format!("{} has {ASIDE_MAX} folders {ASIDE}-N already: remove some", state.display())))
}

fn made(folder: PathBuf) -> io::Result<PathBuf> {
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(folder),
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
pub(in crate::mesh) mod tests;
