//! What a life in the mesh leaves on disk when it is over: put aside, or removed with who this host was.

use std::fs::{remove_dir_all, remove_file};

use mgmt_consensus::ground::Native;
use mgmt_consensus::peer::put_aside;
use mgmt_consensus::{disk, identity};

use super::Mesh;
use super::node::Node;
use super::place::Place;

impl Mesh {
    /// Puts the log of a life that is over out of the way: whoever has failed, or was removed, comes back as somebody new.
    /// One that has left after a run with an end leaves none.
    pub(super) async fn bury(&self, node: &Node) {
        let state = &node.setup.state;
        let keep = !(self.0.settings.transient && node.has_left());
        let buried = match disk::files::Files::open(state) {
            Ok(disk) => put_aside::<Native>(&disk, keep).await,
            Err(error) => Err(error),
        };
        match buried {
            Ok(folder) if keep => tracing::info!("mesh: the log of this host's former part lies in {folder}"),
            Ok(folder) => {
                let folders = [&folder, "journal", "snapshots", "index"].map(|name| remove_dir_all(state.join(name)));
                let reserve = remove_file(state.join("reserve"));
                for error in folders.into_iter().chain([reserve]).filter_map(Result::err) {
                    if error.kind() != std::io::ErrorKind::NotFound {
                        tracing::warn!("mesh: this run leaves something behind: {error}");
                    }
                }
            }
            Err(error) => tracing::warn!("mesh: the log of this host's former part cannot be put aside: {error}"),
        }
    }

    /// A run that was at its end before it had come into a mesh, or had founded one, leaves no papers either.
    pub(super) fn was_nobody(&self) {
        let state = &self.0.settings.state;
        if state.join(identity::FILE).exists() {
            return;
        }
        if let Err(error) = Place::open(state).and_then(|place| place.clear()) {
            tracing::warn!("mesh: what this run has prepared cannot be removed: {error}");
        }
    }

    /// Forgets who this host was in a mesh that it has left: its name there belongs to nobody any more.
    pub(super) fn forget(&self, node: &Node) {
        let who = node.setup.state.join(identity::FILE);
        let gone = remove_file(who).and_then(|()| node.setup.place.clear());
        match gone {
            Ok(()) => tracing::info!("mesh: this host has left, and has forgotten its papers"),
            Err(error) => tracing::warn!("mesh: this host has left, and cannot forget its papers: {error}"),
        }
    }
}
