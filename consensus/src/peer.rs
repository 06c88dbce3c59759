//! How a peer comes up: goes on as who it was, founds a group, or asks to be let in.
//!
//! Nobody goes on under an id whose log is gone, damaged or of another life: he is somebody new then, and says whom he
//! replaces. What was found is moved aside, never deleted.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use openraft::storage::RaftLogStorage as _;
use openraft::{AsyncRuntime, Instant as _};

use crate::clerk::Clerk;
use crate::disk::Disk as _;
use crate::ground::Ground;
use crate::identity::{ClusterId, Identity, Incarnation, Life, Log, PeerId};
use crate::identity::{LoadError, SaveError, Stored, load, save};
use crate::log_store::{self, LogStore, OpenError, Options};
use crate::machine::Machine;
use crate::network::Shared;
use crate::replica::{Replica, StartError};
use crate::settings::Settings;
use crate::snapshots::Snapshots;
use crate::transport::{Lane, Transport as _};
use crate::types::RaftId;
use crate::wire::{Answer, Envelope, NOBODY, Request};

/// How long one question of a joiner waits. Reserving and entering wait for a quorum.
const QUESTION: Duration = Duration::from_secs(5);
/// How long a seed may take to say who leads: whoever is coming up himself listens to nobody yet, and is silent.
const GLANCE: Duration = Duration::from_millis(500);
/// Seeds that are asked at once.
const GLANCES_MAX: usize = 16;
/// Between two rounds of questions.
const ROUND: Duration = Duration::from_millis(200);
/// Former lives that are kept for people to look at.
const PUT_ASIDE_MAX: u32 = 3;
/// The founder's id: everybody else's is the index of an entry, and the first of those is no admission.
const FOUNDER: RaftId = 1;

/// What a peer comes up with.
pub struct Peer<G: Ground> {
    /// Times and sizes.
    pub settings: Settings,
    /// How its log is kept.
    pub options: Options,
    /// Where everything of it lies.
    pub disk: G::Disk,
    /// Its end of the network. Who the peer is to others comes from here.
    pub transport: G::Transport,
    /// Its name.
    pub host: String,
    /// Its desk, for when it leads.
    pub clerk: Arc<dyn Clerk>,
    /// Where names are drawn from.
    pub chance: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// What a peer does that is nobody yet, or nobody any more.
#[derive(Debug, Clone)]
pub enum Otherwise {
    /// It makes a group of its own.
    Found(ClusterId),
    /// It asks these until one of them lets it in, so long.
    Join {
        /// The group.
        cluster: ClusterId,
        /// Whom to ask.
        seeds: Vec<PeerId>,
        /// How long.
        patience: Duration,
    },
}

/// Why a peer does not come up.
#[derive(Debug, thiserror::Error)]
pub enum ComeError {
    /// Who it is cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Who it is cannot be written down.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// Its log.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// Its replica.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It was let into another group before.
    #[error("this directory belongs to cluster {0}")]
    OtherCluster(ClusterId),
    /// Nobody has let it in.
    #[error("nobody has let {host} in within {patience:?}; the last answer: {last}")]
    NotAdmitted {
        /// Its name.
        host: String,
        /// How long it asked.
        patience: Duration,
        /// What came of it.
        last: String,
    },
}

/// What is found of an earlier life.
enum Found<G: Ground> {
    /// All of it.
    Whole(Box<Identity>, LogStore<G>),
    /// Too little; the id it had, if that is known.
    Nothing(Option<RaftId>),
}

impl<G: Ground> Peer<G> {
    /// Comes up. `machine` makes an empty state machine.
    ///
    /// Not cancel safe: dropped, it may leave an identity behind, with which the next call goes on.
    ///
    /// # Errors
    /// [`ComeError`].
    pub async fn come<M: Machine>(
        &self,
        otherwise: Otherwise,
        machine: impl Fn() -> M,
    ) -> Result<Replica<G, M>, ComeError> {
        let old = match self.find().await? {
            Found::Whole(identity, _) if otherwise.cluster() != identity.cluster => {
                return Err(ComeError::OtherCluster(identity.cluster));
            }
            Found::Whole(identity, log) => match self.go_on(*identity, log, &otherwise, &machine).await? {
                Ok(replica) => return Ok(replica),
                Err(old) => old,
            },
            Found::Nothing(old) => old,
        };
        match otherwise {
            Otherwise::Found(cluster) => self.found(cluster, &machine).await,
            Otherwise::Join { cluster, seeds, patience } => self.join(cluster, &seeds, patience, old, &machine).await,
        }
    }

    /// Looks for an earlier life. What is left of one that cannot go on is moved aside.
    async fn find(&self) -> Result<Found<G>, ComeError> {
        let stored = load(&self.disk)?;
        let incarnation = match &stored {
            Stored::Sound(identity) => identity.incarnation,
            Stored::Missing | Stored::Damaged(_) => Incarnation(0),
        };
        let opened = LogStore::<G>::open(self.disk.clone(), incarnation, self.options.clone()).await;
        let (log, state) = match opened {
            Ok(log) => (Some(log), Log::Sound(incarnation)),
            Err(OpenError::Missing) => (None, Log::Missing),
            Err(OpenError::OtherIncarnation(found)) => (None, Log::Sound(found)),
            Err(error @ OpenError::Damaged(_)) => {
                tracing::error!(%error, "the log is damaged");
                (None, Log::Damaged)
            }
            Err(error) => return Err(error.into()),
        };
        match (Life::decide(&stored, state), log) {
            (Life::Fresh, _) => Ok(Found::Nothing(None)),
            (Life::Resume(identity), Some(log)) => Ok(Found::Whole(Box::new(identity), log)),
            // Only a deliberate defect decides so: there is nothing to go on with, and a new log takes its place.
            (Life::Resume(identity), None) => {
                self.put_aside(true).await?;
                let log = LogStore::<G>::create(self.disk.clone(), identity.incarnation, self.options.clone()).await;
                Ok(Found::Whole(Box::new(identity), log.map_err(StartError::Disk)?))
            }
            (Life::Rejoin { old, why }, log) => {
                tracing::warn!(%why, old, "this peer cannot go on as who it was");
                if let Some(log) = log {
                    stop(log).await;
                }
                self.put_aside(true).await?;
                Ok(Found::Nothing(old))
            }
        }
    }

    /// Goes on as who it was; or says which id it had, if that is of no use any more.
    async fn go_on<M: Machine>(
        &self,
        identity: Identity,
        mut log: LogStore<G>,
        otherwise: &Otherwise,
        machine: &impl Fn() -> M,
    ) -> Result<Result<Replica<G, M>, Option<RaftId>>, ComeError> {
        let id = identity.raft.ok_or(StartError::NoId)?;
        let state = log.get_log_state().await.map_err(StartError::Disk)?;
        let empty = state.last_log_id.is_none() && state.last_purged_log_id.is_none();
        if empty && id != FOUNDER {
            // It has written its id down, and whether it has entered with it is not known here.
            let Otherwise::Join { seeds, patience, .. } = otherwise else { return Ok(Err(Some(id))) };
            if !self.enter_until(&identity, id, seeds, *patience).await? {
                stop(log).await;
                self.put_aside(false).await?;
                return Ok(Err(Some(id)));
            }
        }
        let started = self.start(identity, log.clone(), machine).await;
        match started {
            Ok(replica) => {
                if empty && id == FOUNDER {
                    replica.found().await.map_err(|error| StartError::Raft(error.to_string()))?;
                }
                Ok(Ok(replica))
            }
            Err(StartError::Restore(error)) if !error.is_outdated() => {
                tracing::error!(%error, "this peer cannot go on as who it was");
                stop(log).await;
                self.put_aside(true).await?;
                Ok(Err(Some(id)))
            }
            Err(error) => {
                // Another attempt, or a newer program, opens it again.
                stop(log).await;
                Err(error.into())
            }
        }
    }

    async fn start<M: Machine>(
        &self,
        identity: Identity,
        log: LogStore<G>,
        machine: &impl Fn() -> M,
    ) -> Result<Replica<G, M>, StartError> {
        let (settings, disk, transport) = (self.settings.clone(), self.disk.clone(), self.transport.clone());
        Replica::start(settings, identity, disk, transport, log, machine(), self.clerk.clone()).await
    }

    /// Writes down who it is, and makes the log that goes with it.
    async fn settle(&self, identity: &Identity) -> Result<LogStore<G>, ComeError> {
        save(&self.disk, identity).await?;
        let log = LogStore::<G>::create(self.disk.clone(), identity.incarnation, self.options.clone()).await;
        Ok(log.map_err(StartError::Disk)?)
    }

    async fn put_aside(&self, keep: bool) -> Result<(), ComeError> {
        let folder = put_aside::<G>(&self.disk, keep).await.map_err(StartError::Disk)?;
        if keep {
            tracing::warn!(folder, "what was found is put aside");
        }
        Ok(())
    }

    fn newborn(&self, cluster: ClusterId) -> Identity {
        let incarnation = Incarnation::draw(|| (self.chance)());
        Identity { cluster, peer: self.transport.me(), incarnation, raft: None, host: self.host.clone() }
    }

    async fn found<M: Machine>(
        &self,
        cluster: ClusterId,
        machine: &impl Fn() -> M,
    ) -> Result<Replica<G, M>, ComeError> {
        let identity = Identity { raft: Some(FOUNDER), ..self.newborn(cluster) };
        let log = self.settle(&identity).await?;
        let replica = self.start(identity, log, machine).await?;
        replica.found().await.map_err(|error| StartError::Raft(error.to_string()))?;
        Ok(replica)
    }

    async fn join<M: Machine>(
        &self,
        cluster: ClusterId,
        seeds: &[PeerId],
        patience: Duration,
        old: Option<RaftId>,
        machine: &impl Fn() -> M,
    ) -> Result<Replica<G, M>, ComeError> {
        let until = now::<G>() + patience;
        loop {
            let identity = self.newborn(cluster);
            let Identity { peer, incarnation, host, .. } = identity.clone();
            let admit = Request::Admit { peer, incarnation, host, replaces: old };
            let mut last = "no seed has answered".to_owned();
            match self.ask_leader(&identity, seeds, &admit, &mut last).await {
                Some(Answer::Reserved { raft_id, .. }) => {
                    let identity = Identity { raft: Some(raft_id), ..identity };
                    let log = self.settle(&identity).await?;
                    let left = until.max(now::<G>()) - now::<G>();
                    if self.enter_until(&identity, raft_id, seeds, left).await? {
                        return Ok(self.start(identity, log, machine).await?);
                    }
                    stop(log).await;
                    self.put_aside(false).await?;
                }
                Some(answer) => last = format!("{answer:?}"),
                None => {}
            }
            if now::<G>() >= until {
                return Err(ComeError::NotAdmitted { host: self.host.clone(), patience, last });
            }
            <G::Runtime as AsyncRuntime>::sleep(ROUND).await;
        }
    }

    /// Enters with a reserved id: whether it is a member now, or the reservation is void.
    async fn enter_until(
        &self,
        identity: &Identity,
        raft_id: RaftId,
        seeds: &[PeerId],
        patience: Duration,
    ) -> Result<bool, ComeError> {
        let until = now::<G>() + patience;
        let Identity { peer, incarnation, host, .. } = identity.clone();
        let enter = Request::Enter { raft_id, peer, incarnation, host: host.clone() };
        let mut last = "no seed has answered".to_owned();
        loop {
            match self.ask_leader(identity, seeds, &enter, &mut last).await {
                Some(Answer::Admitted { .. }) => return Ok(true),
                Some(Answer::Refused { .. }) => return Ok(false),
                Some(answer) => last = format!("{answer:?}"),
                None => {}
            }
            if now::<G>() >= until {
                return Err(ComeError::NotAdmitted { host, patience, last });
            }
            <G::Runtime as AsyncRuntime>::sleep(ROUND).await;
        }
    }

    /// Asks whoever leads, as far as the seeds know; the first answer that is not about who leads.
    async fn ask_leader(
        &self,
        identity: &Identity,
        seeds: &[PeerId],
        request: &Request,
        last: &mut String,
    ) -> Option<Answer> {
        let from = identity.raft.unwrap_or(NOBODY);
        let me = Envelope { cluster: identity.cluster, from, incarnation: identity.incarnation, to: NOBODY };
        let shared = Shared::new(self.transport.clone(), me, QUESTION);
        let others: Vec<PeerId> = seeds.iter().copied().filter(|seed| *seed != identity.peer).collect();
        // Side by side, since of those who were members lately many may be gone, and each takes its time to be silent.
        let glances = stream::iter(others).map(|seed| {
            let shared = &shared;
            async move { shared.ask((NOBODY, seed), Lane::Client, &Request::Standing, GLANCE).await }
        });
        let mut glances = pin!(glances.buffer_unordered(GLANCES_MAX));
        while let Some(answer) = glances.next().await {
            let leader = match answer {
                Ok(Answer::Standing(standing)) => standing.leader,
                Ok(_) => None,
                Err(error) => {
                    *last = error.to_string();
                    None
                }
            };
            let Some(leader) = leader else { continue };
            match shared.ask((leader.raft_id, leader.peer), Lane::Client, request, QUESTION).await {
                Ok(Answer::NotLeader { .. }) => *last = "it does not lead".to_owned(),
                Ok(answer) => return Some(answer),
                Err(error) => *last = error.to_string(),
            }
        }
        None
    }
}

/// Moves journal and snapshots of a former life out of the way, into a folder that people may look at, whose name this
/// gives; those of one that never held anything, or never meant to stay, are deleted. Nobody may have them open.
///
/// # Errors
/// What the disk says.
pub async fn put_aside<G: Ground>(disk: &G::Disk, keep: bool) -> std::io::Result<String> {
    let empty = |folder: &str| disk.list(folder)?.iter().try_for_each(|file| disk.remove(&format!("{folder}/{file}")));
    if (1..=PUT_ASIDE_MAX).all(|number| disk.list(&folder(number)).is_ok_and(|files| !files.is_empty())) {
        tracing::warn!("there are {PUT_ASIDE_MAX} former lives put aside already: they are deleted");
        (1..=PUT_ASIDE_MAX).try_for_each(|number| empty(&folder(number)))?;
    }
    let folder = log_store::quarantine(disk).await?;
    Snapshots::<G>::new(disk.clone()).put_aside(&folder).await?;
    if !keep {
        empty(&folder)?;
    }
    Ok(folder)
}

/// Ends a log that nobody will use.
async fn stop<G: Ground>(log: LogStore<G>) {
    if let Err(fault) = log.stop().await {
        tracing::warn!(%fault, "the log of a former life has ended badly");
    }
}

fn folder(number: u32) -> String {
    format!("damaged-{number}")
}

impl Otherwise {
    fn cluster(&self) -> ClusterId {
        match self {
            Self::Found(cluster) | Self::Join { cluster, .. } => *cluster,
        }
    }
}

fn now<G: Ground>() -> <G::Runtime as AsyncRuntime>::Instant {
    <G::Runtime as AsyncRuntime>::Instant::now()
}
