//! This host's part in a mesh, beside the engine and on a runtime of its own.
//!
//! What a starting host does is decided in `start`; a life in the mesh is a [`Node`]; this keeps one life after the other,
//! and says how it stands. The engine goes on without a mesh: nothing here ends a run.

pub mod answers;
pub mod backup;
pub mod bootstrap;
pub mod doctor;
pub mod handover;
pub mod joining;
pub mod keyring;
pub mod messages;
pub mod node;
pub mod papers;
pub mod place;
pub mod porter;
pub mod recovery;
pub mod registrar;
pub mod rendezvous;
pub mod renewal;
pub mod surroundings;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mgmt_consensus::ground::chance;
use mgmt_consensus::identity::Stored;
use mgmt_consensus::peer::Otherwise;
use mgmt_consensus::quic::{Endpoint, Options};
use mgmt_consensus::{ClusterId, PeerId, disk, identity};
use mgmt_engine::Clock;
use mgmt_store::record::Peer;
use mgmt_store::{Body, HostName, Revision, Role, Shared};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use node::{Ended, Node, Setup, VERSIONS};
use papers::Papers;
use place::Place;

/// Threads of the mesh: the group, its disk and QUIC are not to wait for what a resource does.
const THREADS: usize = 2;
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

/// What was asked for on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// Whom to ask to be let in.
    pub seeds: Vec<String>,
    /// Where to listen.
    pub listen: Option<String>,
    /// What lets this host in.
    pub token: Option<String>,
    /// The file that holds it, or the secret of `expect`.
    pub token_file: Option<PathBuf>,
    /// So many hosts found the mesh together.
    pub expect: Option<u16>,
    /// `a/b/c`.
    pub zone: Option<String>,
    /// Found another mesh though there was one.
    pub new_cluster: bool,
    /// Leave for good at the end.
    pub leave_on_exit: bool,
}

/// What a mesh is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `PREFIX`.
    pub prefix: PathBuf,
    /// `PREFIX/HOSTNAME`, whose lock is held.
    pub state: PathBuf,
    /// This host's name.
    pub host: HostName,
    /// What was asked for.
    pub flags: Flags,
    /// This run has an end: never a master, and its id goes with it.
    pub transient: bool,
    /// Nobody else is to be found: a prefix made for this run alone.
    pub private: bool,
    /// Time.
    pub clock: Clock,
}

/// How this host stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It is on its way in, or waits; in words.
    Coming(String),
    /// It is a member.
    Member,
    /// It has no part in a mesh any more; in words.
    Stopped(String),
}

/// This host's part in a mesh. Clones are the same part.
#[derive(Clone)]
pub struct Mesh(Arc<Inner>);

struct Inner {
    settings: Settings,
    stage: watch::Sender<Stage>,
    node: Mutex<Option<Arc<Node>>>,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    keeper: Mutex<Option<(JoinHandle<()>, tokio::runtime::Runtime)>>,
}

/// How one attempt ended.
enum Attempt {
    /// It was asked to end.
    Asked,
    /// It is to be tried again.
    Again(String),
    /// It is of no use to try again.
    Never(String),
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
        let mesh = Self(Arc::new(Inner {
            settings,
            stage: watch::Sender::new(Stage::Coming("starting".to_owned())),
            node: Mutex::new(None),
            shared: Arc::default(),
            stop: watch::Sender::new(false),
            keeper: Mutex::new(None),
        }));
        let keeper = runtime.spawn(mesh.clone().keep());
        *mesh.0.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some((keeper, runtime));
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

    /// What it was started with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Ends it: leadership is handed over, others are told, the log is closed.
    pub async fn stop(&self) {
        self.0.stop.send_replace(true);
        let keeper = self.0.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((keeper, runtime)) = keeper else { return };
        match tokio::time::timeout(FAREWELL, keeper).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "mesh: its task has not ended well"),
            Err(_) => tracing::warn!("mesh: it has not ended within {} s, and is left", FAREWELL.as_secs()),
        }
        runtime.shutdown_background();
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
                Stage::Stopped(why) => tracing::warn!("mesh: {why}; this host goes on without it"),
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
                _ = stop.wait_for(|stop| *stop) => Attempt::Asked,
                attempt = self.live(&mut pause) => attempt,
            };
            let node = self.0.node.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(node) = node {
                if matches!(attempt, Attempt::Asked)
                    && self.0.settings.flags.leave_on_exit
                    && let Err(why) = node.leave().await
                {
                    tracing::warn!("mesh: this host has not left: {why}");
                }
                node.stop().await;
                node.setup.endpoint.close().await;
            }
            match attempt {
                Attempt::Asked => return,
                Attempt::Again(why) => self.say(Stage::Coming(why)),
                Attempt::Never(why) => {
                    self.say(Stage::Stopped(why));
                    drop(stop.wait_for(|stop| *stop).await);
                    return;
                }
            }
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            }
        }
    }

    /// One life, from coming up to its end.
    async fn live(&self, pause: &mut Duration) -> Attempt {
        let node = match self.come().await {
            Ok(node) => node,
            Err(attempt) => return attempt,
        };
        *self.0.node.lock().unwrap_or_else(PoisonError::into_inner) = Some(node.clone());
        self.say(Stage::Member);
        *pause = PAUSE_MIN;
        match node.ended().await {
            Ended::Failed(why) => {
                Attempt::Again(format!("this host's part has stopped: {why}; it comes back under a new id"))
            }
            Ended::Removed => Attempt::Again("this host is a member no more; it asks to be let in again".to_owned()),
        }
    }

    /// Comes up.
    async fn come(&self) -> Result<Arc<Node>, Attempt> {
        let settings = &self.0.settings;
        let again = |what: &str, error: &dyn std::fmt::Display| Attempt::Again(format!("cannot {what}: {error}"));
        let place = Place::open(&settings.state).map_err(|e| again("use the state directory", &e))?;
        let disk = disk::files::Files::open(&settings.state).map_err(|e| again("use the state directory", &e))?;
        let stored = identity::load(&disk).map_err(|e| again("read who this host is", &e))?;
        let listen: SocketAddr = ([127, 0, 0, 1], 0).into();
        let endpoint = Endpoint::bind(Options::lan(listen)).map_err(|e| again("listen", &e))?;
        let setup = Setup {
            state: settings.state.clone(),
            place: place.clone(),
            host: settings.host.clone(),
            clock: settings.clock,
            endpoint,
            zone: settings.flags.zone.iter().flat_map(|zone| zone.split('/')).map(Arc::from).collect(),
            transient: settings.transient,
            shared: self.0.shared.clone(),
        };
        match stored {
            Stored::Sound(identity) => {
                let papers = Papers::load(&place).map_err(|e| again("use this host's papers", &e))?;
                let Some(papers) = papers else {
                    return Err(Attempt::Never("this host has no certificate: join again with a token".to_owned()));
                };
                let seeds = registrar::remembered(&place).into_keys().collect();
                let otherwise = Otherwise::Join { cluster: identity.cluster, seeds, patience: PATIENCE };
                Node::come(setup, &papers, otherwise).await.map_err(|e| again("go on as a member", &e))
            }
            Stored::Missing | Stored::Damaged(_) => self.found(setup).await,
        }
    }

    /// Founds a cluster.
    async fn found(&self, setup: Setup) -> Result<Arc<Node>, Attempt> {
        let again = |what: &str, error: &dyn std::fmt::Display| Attempt::Again(format!("cannot {what}: {error}"));
        let cluster = ClusterId::draw(chance);
        let host = setup.host.as_str().to_owned();
        let papers =
            Papers::found(&setup.place, cluster, PeerId::draw(chance), &host).map_err(|e| again("found a mesh", &e))?;
        let node =
            Node::come(setup, &papers, Otherwise::Found(cluster)).await.map_err(|e| again("found a mesh", &e))?;
        first_entry(&node, &papers).await.map_err(|e| again("enter the registry", &e))?;
        tracing::info!("mesh: {host} has founded cluster {cluster}");
        Ok(node)
    }
}

/// The founder's own entry in the registry, and the token for the others of this house.
async fn first_entry(node: &Arc<Node>, papers: &Papers) -> Result<(), mgmt_store::CallError> {
    let addresses = registrar::reachable(node.setup.endpoint.local_address(), &[]);
    let peer = Peer {
        peer: node.identity.peer,
        role: Role::Admin,
        addresses: addresses.iter().map(|address| address.to_string().into()).collect(),
        zone: node.setup.zone.clone(),
        versions: VERSIONS,
        key_hash: papers.certificate.key_hash(),
        admitted: Revision(0),
    };
    node.client.call(Body::PeerAdmit { host: node.setup.host.clone(), peer, replace: false }, LIMIT).await?;
    Ok(())
}
