//! What a part in a mesh is started with, and whether there is a reason for one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use mgmt_consensus::identity::Stored;
use mgmt_consensus::{disk, identity};
use mgmt_engine::Clock;
use mgmt_store::HostName;
use mgmt_store::record::Versions;

use super::place::Place;
use super::rendezvous::{Local, Scene};
use super::start::{self, Before, Facts, Flags, Graph, Start};
use super::{bootstrap, levels, recovery};
use crate::cli::{Exit, Failure};

/// What a mesh is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `PREFIX`.
    pub prefix: PathBuf,
    /// The usual prefix of this user, if there is one.
    pub usual: Option<PathBuf>,
    /// `PREFIX/HOSTNAME`, whose lock is held.
    pub state: PathBuf,
    /// This host's name.
    pub host: HostName,
    /// What was typed.
    pub flags: Flags,
    /// What the graph has to do with the mesh.
    pub graph: Graph,
    /// Where to listen, if that was said.
    pub listen: Option<SocketAddr>,
    /// Where this host stands: `a/b/c` in parts.
    pub zone: Vec<Arc<str>>,
    /// Leave for good at the end.
    pub leave_on_exit: bool,
    /// This run has an end: never a master, and its id goes with it.
    pub transient: bool,
    /// Nobody else is to be found: a prefix made for this run alone.
    pub private: bool,
    /// Time.
    pub clock: Clock,
    /// The feature levels that this program understands.
    pub versions: Versions,
}

impl Settings {
    /// Whether there is a reason to take part in a mesh, with a graph that has this to do with one.
    ///
    /// # Errors
    /// What was asked for cannot be.
    pub fn wanted(&mut self, graph: Graph) -> Result<bool, Failure> {
        self.graph = graph;
        let facts = self.facts();
        let facts = facts.map_err(|e| Failure::new(Exit::CannotCreate, format!("cannot look around: {e}")))?;
        match start::plan(&facts) {
            Start::Off { .. } => Ok(false),
            Start::Refuse(failure) => Err(failure),
            _ => Ok(true),
        }
    }

    /// All there is to know for deciding what to do.
    ///
    /// # Errors
    /// The state directory or the prefix cannot be read.
    pub fn facts(&self) -> std::io::Result<Facts> {
        // A recovery or a restore that was interrupted is brought to its end before anybody looks.
        recovery::finish(&self.state)?;
        let disk = disk::files::Files::open(&self.state)?;
        let level = levels::remembered(&Place::open(&self.state)?)?;
        let beyond = level.filter(|level| !self.versions.understand(*level));
        let before = match (identity::load(&disk).map_err(std::io::Error::other)?, beyond) {
            (Stored::Missing, _) => Before::Nobody,
            (Stored::Sound(_), Some(level)) => Before::Outdated(levels::outdated(level, self.versions)),
            (Stored::Sound(identity), None) => Before::Member(identity.cluster),
            (Stored::Damaged(why), _) => Before::Damaged(why.to_string()),
        };
        let me = self.host.as_str();
        let nobody =
            Scene { me: me.to_owned(), live: Vec::new(), sleepers: Vec::new(), new_cluster: self.flags.new_cluster };
        let scene = match Local::existing(&self.prefix)? {
            Some(local) if !self.private => local.scene(me, self.flags.new_cluster)?,
            _ => nobody,
        };
        let usual = self.usual.as_ref().filter(|usual| **usual != self.prefix);
        let elsewhere = match usual.map(|usual| Local::existing(usual)) {
            Some(Ok(Some(local))) => local.live()?,
            // Another prefix than ours is of no concern if it cannot be read.
            _ => Vec::new(),
        };
        let promised = bootstrap::promised(&Place::open(&self.state)?)?;
        Ok(Facts { flags: self.flags.clone(), graph: self.graph, before, promised, scene, elsewhere })
    }
}
