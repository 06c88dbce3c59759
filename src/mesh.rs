//! This host's part in a mesh, beside the engine and on a runtime of its own.
//!
//! What a starting host does is decided in `start`; a life in the mesh is a [`Node`]; this keeps one life after the other,
//! and says how it stands. The engine goes on without a mesh: nothing here ends a run.

pub mod answers;
mod arrival;
pub mod backup;
pub mod bootstrap;
pub mod calm;
pub mod doctor;
pub mod door;
pub mod errands;
pub mod following;
pub mod handover;
pub mod house;
pub mod inquiry;
pub mod joining;
pub mod keyring;
pub mod levels;
pub mod link;
pub mod messages;
pub mod node;
pub mod once;
pub mod papers;
pub mod pipe;
pub mod place;
pub mod porter;
pub mod recovery;
pub mod registrar;
mod remains;
pub mod rendezvous;
pub mod renewal;
pub mod seeds;
mod settings;
pub mod standing;
pub mod start;
pub mod surroundings;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mgmt_consensus::quic::Endpoint;
use mgmt_store::Shared;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use arrival::{Arrived, arrive};
use errands::Errands;
use house::House;
use inquiry::Inquiries;
use node::{Ended, Node, Setup};
use place::Place;
pub use settings::Settings;
use start::Graph;

/// Threads of the mesh: the group and QUIC are not to wait for what a resource does. One, because all of it is steps of
/// microseconds that wake each other: between two threads each step costs a switch that takes longer than the step.
/// Whatever waits for the disk has threads of its own.
const THREADS: usize = 1;
/// Between two attempts to come up: grows from the first to the last.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long an attempt to be let in goes on before it is begun anew.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the founder's first commands may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long the end of the mesh may hold up the end of the program.
const FAREWELL: Duration = Duration::from_secs(10);
/// Where hosts listen for each other unless told otherwise.
pub const PORT: u16 = 6468;

/// How this host stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It is on its way in, or waits; in words.
    Coming(String),
    /// It is a member.
    Member,
    /// It has left for good.
    Left,
    /// It has no part in a mesh any more; in words.
    Stopped(String),
    /// The mesh uses what this program does not understand; in words. The run is to end.
    Outdated(String),
}

/// Why a run ends by what its mesh does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The mesh uses what this program does not understand.
    Outdated,
    /// This host has left, and has nothing else to do.
    Left,
}

/// This host's part in a mesh. Clones are the same part.
#[derive(Clone)]
pub struct Mesh(Arc<Inner>);

struct Inner {
    settings: Settings,
    stage: watch::Sender<Stage>,
    node: Mutex<Option<Arc<Node>>>,
    shared: Arc<Shared>,
    inquiries: Arc<Inquiries>,
    stop: watch::Sender<bool>,
    /// Where it runs.
    runtime: tokio::runtime::Handle,
    /// It has been let in by this run, and may not be a member yet.
    let_in: AtomicBool,
    /// What is to be given back before it ends.
    errands: Arc<Errands>,
    keeper: Mutex<Option<(JoinHandle<()>, Threads)>>,
}

/// Threads of a mesh. Whoever waits for its end may be told to wait no more, on a thread that must not wait for these:
/// dropped, they end by themselves.
struct Threads(Option<tokio::runtime::Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// How one attempt ended.
enum Attempt {
    /// It was asked to end.
    Asked,
    /// It is to be tried again.
    Again(String),
    /// It has left for good.
    Left,
    /// It is of no use to try again.
    Never(String),
    /// It is of no use with this program. What this host has stays as it is, for one that is newer.
    Outdated(String),
}

impl Mesh {
    /// Begins, on threads of its own. What goes wrong later is said in [`Mesh::stage`].
    ///
    /// # Errors
    /// If the system has no threads to give.
    pub fn start(settings: Settings) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("mesh")
            .enable_all()
            .build()?;
        let shared = Arc::<Shared>::default();
        let mesh = Self(Arc::new(Inner {
            inquiries: Arc::new(Inquiries::new(settings.clock, shared.clone())),
            settings,
            stage: watch::Sender::new(Stage::Coming("starting".to_owned())),
            node: Mutex::new(None),
            shared,
            stop: watch::Sender::new(false),
            runtime: runtime.handle().clone(),
            let_in: AtomicBool::new(false),
            errands: Arc::default(),
            keeper: Mutex::new(None),
        }));
        let keeper = runtime.spawn(mesh.clone().keep());
        *mesh.0.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some((keeper, Threads(Some(runtime))));
        Ok(mesh)
    }

    /// How it stands.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.0.stage.borrow().clone()
    }

    /// Waits until it stands otherwise than now. Cancel safe.
    pub async fn changed(&self) -> Stage {
        let mut stage = self.0.stage.subscribe();
        // The sender lives as long as this.
        drop(stage.changed().await);
        stage.borrow().clone()
    }

    /// How it stands, and every change of that.
    #[must_use]
    pub fn stages(&self) -> watch::Receiver<Stage> {
        self.0.stage.subscribe()
    }

    /// Waits until the mesh is a reason for this run to end, and says so. Cancel safe.
    pub async fn over(&self) -> Over {
        let alone = self.0.settings.graph == Graph::None;
        let mut stage = self.0.stage.subscribe();
        let over = |stage: &Stage| match stage {
            Stage::Outdated(_) => true,
            Stage::Left => alone,
            _ => false,
        };
        // The sender lives as long as this.
        let outdated = stage.wait_for(over).await.is_ok_and(|stage| matches!(*stage, Stage::Outdated(_)));
        if outdated {
            tracing::error!("this run ends: nothing is changed by a program that the mesh has left behind");
            return Over::Outdated;
        }
        tracing::info!("this run ends: it has no graph, and was there for the mesh alone");
        Over::Left
    }

    /// The present life, if it is a member.
    #[must_use]
    pub fn node(&self) -> Option<Arc<Node>> {
        self.0.node.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The state of the store as it was last known here, over all lives.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    /// What others ask of this host.
    #[must_use]
    pub fn inquiries(&self) -> &Arc<Inquiries> {
        &self.0.inquiries
    }

    /// Where it runs: what asks for much of it is served there.
    #[must_use]
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        &self.0.runtime
    }

    /// What it was started with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// What is to be given back before it ends.
    #[must_use]
    pub fn errands(&self) -> &Arc<Errands> {
        &self.0.errands
    }

    /// Ends it: leadership is handed over, others are told, the log is closed. Cancel safe: it is left as it is then.
    pub async fn stop(&self) {
        self.0.errands.settled().await;
        self.0.stop.send_replace(true);
        let keeper = self.0.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((keeper, _threads)) = keeper else { return };
        match tokio::time::timeout(FAREWELL, keeper).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "mesh: its task has not ended well"),
            Err(_) => tracing::warn!("mesh: it has not ended within {} s, and is left", FAREWELL.as_secs()),
        }
    }

    /// The registry has its name from now on.
    fn was_let_in(&self) {
        self.0.let_in.store(true, Ordering::Relaxed);
    }

    fn say(&self, stage: Stage) {
        let said = self.0.stage.send_if_modified(|now| {
            let other = *now != stage;
            *now = stage.clone();
            other
        });
        if said {
            match &stage {
                Stage::Coming(why) => tracing::info!("mesh: {why}"),
                Stage::Member => {}
                Stage::Left => tracing::info!("mesh: this host has left the mesh"),
                Stage::Stopped(why) => tracing::warn!("mesh: {why}; this host goes on without it"),
                Stage::Outdated(why) => tracing::error!("mesh: {why}"),
            }
        }
    }

    /// One life after the other.
    async fn keep(self) {
        let mut stop = self.0.stop.subscribe();
        let mut pause = PAUSE_MIN;
        loop {
            let attempt = tokio::select! {
                biased;
                () = self.asked(&mut stop) => Attempt::Asked,
                attempt = self.live(&mut pause) => attempt,
            };
            let node = self.0.node.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(node) = node {
                if matches!(attempt, Attempt::Asked)
                    && self.0.settings.leave_on_exit
                    && let Err(why) = node.leave(false).await
                {
                    tracing::warn!("mesh: this host has not left: {why}");
                }
                node.stop().await;
                node.setup.endpoint.close().await;
                // Who it was goes first: a log that is nobody's is put aside by whoever comes next, but somebody without a
                // log would look for others.
                if node.has_left() {
                    self.forget(&node);
                }
                if node.has_left() || !matches!(attempt, Attempt::Asked | Attempt::Outdated(_)) {
                    self.bury(&node).await;
                }
            } else if self.0.settings.transient && matches!(attempt, Attempt::Asked) {
                self.was_nobody();
            }
            let (stage, ends) = match attempt {
                Attempt::Asked => return,
                Attempt::Again(why) => (Stage::Coming(why), false),
                Attempt::Left => (Stage::Left, true),
                Attempt::Never(why) => (Stage::Stopped(why), true),
                Attempt::Outdated(why) => (Stage::Outdated(why), true),
            };
            self.say(stage);
            if ends {
                drop(stop.wait_for(|stop| *stop).await);
                return;
            }
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            }
        }
    }

    /// Waits until this is to end. A run with an end that was just let in is a member first, if that is soon: only as one
    /// can it give back what it was given.
    async fn asked(&self, stop: &mut watch::Receiver<bool>) {
        // The sender lives as long as this.
        drop(stop.wait_for(|stop| *stop).await);
        if self.0.settings.transient && self.0.let_in.load(Ordering::Relaxed) {
            let mut stage = self.0.stage.subscribe();
            let there = stage.wait_for(|stage| !matches!(stage, Stage::Coming(_)));
            if tokio::time::timeout(FAREWELL / 2, there).await.is_err() {
                tracing::info!("mesh: this run was let in and did not become a member: its name stays in the registry");
            }
        }
    }

    /// One life, from coming up to its end.
    async fn live(&self, pause: &mut Duration) -> Attempt {
        let Arrived { node, announced } = match arrive(self).await {
            Ok(arrived) => arrived,
            Err(attempt) => return self.beyond().unwrap_or(attempt),
        };
        *self.0.node.lock().unwrap_or_else(PoisonError::into_inner) = Some(node.clone());
        self.say(Stage::Member);
        *pause = PAUSE_MIN;
        let house = House::new(node.setup.place.clone(), announced);
        let ended = tokio::select! {
            biased;
            ended = node.ended() => ended,
            never = house.keep(&*node) => match never {},
        };
        match ended {
            Ended::Failed(why) => {
                let again = format!("this host's part has stopped: {why}; it comes back under a new id");
                self.beyond().unwrap_or(Attempt::Again(again))
            }
            Ended::Removed => Attempt::Again("this host is a member no more; it asks to be let in again".to_owned()),
            Ended::Left => Attempt::Left,
        }
    }

    /// How it ends if it has come upon a feature level that this program does not understand.
    fn beyond(&self) -> Option<Attempt> {
        let level = self.0.shared.beyond()?;
        // So that the next start with this program is refused before anything is touched.
        if let Ok(place) = Place::open(&self.0.settings.state) {
            levels::write(&place, level);
        }
        Some(Attempt::Outdated(levels::outdated(level, self.0.settings.versions)))
    }

    /// What all lives of this process have in common.
    fn setup(&self, place: Place, endpoint: Endpoint) -> Setup {
        let Settings { state, host, clock, zone, transient, flags, versions, .. } = self.settings().clone();
        let founders = flags.founders();
        let (shared, inquiries) = (self.0.shared.clone(), self.0.inquiries.clone());
        Setup { state, place, host, clock, endpoint, founders, zone, transient, shared, versions, inquiries }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_no_more_does_not_wait_for_threads() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("threads");
        // Would panic here, where nobody may block.
        drop(Threads(Some(runtime)));
    }
}
