//! A part in a mesh for as long as something takes: comes up, does it, goes down. What `mgmt join` and `mgmt cluster init`
//! do where no agent runs; the next run goes on with what they leave.

use std::sync::Arc;
use std::time::Duration;

use mgmt_consensus::disk::files::Files;
use mgmt_consensus::identity::{self, Stored};

use super::node::Node;
use super::start::Flags;
use super::{Mesh, Settings, Stage};
use crate::cli::{Exit, Failure};

/// Comes up with these flags, does the work, and goes down.
///
/// # Errors
/// It has not come up within its patience, or never will; and what the work says.
pub fn once<T>(
    settings: Settings,
    patience: Duration,
    work: impl AsyncFnOnce(&Node) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let cannot = |e: std::io::Error| Failure::new(Exit::Unavailable, format!("cannot start threads: {e}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
    runtime.block_on(async {
        let mesh = Mesh::start(settings).map_err(cannot)?;
        let mut last = String::new();
        let up = tokio::time::timeout(patience, up(&mesh, &mut last)).await;
        let done = match up {
            Ok(Ok(node)) => work(&node).await,
            Ok(Err(failure)) => Err(failure),
            Err(_) => {
                let why = format!("this host is not in a mesh after {} s: {last}", patience.as_secs());
                Err(Failure::new(Exit::TryAgain, why))
            }
        };
        mesh.stop().await;
        done
    })
}

/// Waits until it is a member; what it said last on its way is kept for whoever has no more patience.
async fn up(mesh: &Mesh, last: &mut String) -> Result<Arc<Node>, Failure> {
    let mut stage = mesh.stage();
    loop {
        match stage {
            Stage::Member => {
                if let Some(node) = mesh.node() {
                    return Ok(node);
                }
            }
            Stage::Left => return Err(Failure::new(Exit::Unavailable, "this host has left the mesh")),
            Stage::Stopped(why) => return Err(Failure::new(Exit::NotAllowed, why)),
            Stage::Outdated(why) => return Err(Failure::new(Exit::Outdated, why)),
            Stage::Coming(why) => *last = why,
        }
        stage = mesh.changed().await;
    }
}

/// Refuses where this host is a member of a mesh already.
///
/// # Errors
/// It is, or that cannot be read.
pub fn nobody_yet(settings: &Settings) -> Result<(), Failure> {
    let cannot = |e: &dyn std::fmt::Display| {
        Failure::new(Exit::CannotCreate, format!("cannot use {}: {e}", settings.state.display()))
    };
    let disk = Files::open(&settings.state).map_err(|e| cannot(&e))?;
    let host = &settings.host;
    match identity::load(&disk).map_err(|e| cannot(&e))? {
        Stored::Missing => Ok(()),
        Stored::Sound(identity) => Err(Failure::new(
            Exit::CannotCreate,
            format!(
                "{host} is a member of cluster {} already: start it with mgmt run, and leave with mgmt cluster leave",
                identity.cluster
            ),
        )),
        Stored::Damaged(why) => Err(cannot(&why)),
    }
}

/// What is typed on a run, as far as it matters here.
#[must_use]
pub fn flags(seeds: Vec<super::seeds::Seed>, token: Option<String>, new_cluster: bool) -> Flags {
    let any = Some(if new_cluster { "--new-cluster" } else { "--seeds" });
    Flags { seeds, token: token.map(Ok), expect: None, new_cluster, no_network: false, any }
}
