//! One life of this host in a mesh: brings it up, keeps it, and takes it down.
//!
//! A life ends when this host stops, when its log fails, or when it is a member no more; another one may follow. Must not
//! know how this host came to its papers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mgmt_consensus::appoint::appoint;
use mgmt_consensus::disk::files::Files;
use mgmt_consensus::ground::{Native, chance};
use mgmt_consensus::identity::Identity;
use mgmt_consensus::log_store::index::tree::Tree;
use mgmt_consensus::log_store::{Options, Room};
use mgmt_consensus::masters::Policy;
use mgmt_consensus::peer::{ComeError, Otherwise, Peer};
use mgmt_consensus::quic::{Endpoint, Quic};
use mgmt_consensus::types::RaftId;
use mgmt_consensus::{Member, PeerId, Settings};
use mgmt_engine::Clock;
use mgmt_store::desk::Desk;
use mgmt_store::record::Versions;
use mgmt_store::{HostName, Role, Shared, StoreMachine, Watches};
use tokio::task::JoinSet;

use super::bootstrap::{self, Founders};
use super::door;
use super::handover::{self, Bell, Steward};
use super::inquiry::Inquiries;
use super::keyring::Keyring;
use super::levels;
use super::messages::found::Who;
use super::papers::{Papers, PapersError};
use super::place::Place;
use super::porter::{self, Porter};
use super::registrar::{self, Book, Listed, Own};
use super::renewal;
use super::surroundings::{Health, Seen, Surroundings, Telling, Told, Transfer, hex};

mod leaving;

pub use leaving::LeaveError;

/// This host's part of the group.
pub type Replica = mgmt_consensus::Replica<Native, StoreMachine>;
/// A way into the store.
pub type Client = mgmt_store::Client<Replica>;

/// How long publishing may take before whoever publishes tries again.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often this host tells the leader how it is.
const TELL: Duration = Duration::from_secs(1);
/// How long handing over leadership may take when this host stops: a takeover and some more.
const HANDOVER: Duration = Duration::from_secs(2);
/// How often a hand-over is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How long a member hears no leader before it asks others whether it is one.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a leave may take: two changes of the membership.
const LEAVE: Duration = Duration::from_secs(60);

/// What all lives of this process have in common.
#[derive(Clone)]
pub struct Setup {
    /// `PREFIX/HOSTNAME`.
    pub state: PathBuf,
    /// The files of the mesh in it.
    pub place: Place,
    /// This host's name.
    pub host: HostName,
    /// Time.
    pub clock: Clock,
    /// The socket.
    pub endpoint: Endpoint,
    /// What it was given to found a mesh together with others, if it was.
    pub founders: Option<Founders>,
    /// Where this host stands, from the largest place to the smallest.
    pub zone: Vec<Arc<str>>,
    /// It runs to an end: never a master, and its id goes with it.
    pub transient: bool,
    /// The state of the store: readers hold it over all lives.
    pub shared: Arc<Shared>,
    /// The feature levels that this program understands.
    pub versions: Versions,
    /// Who answers what others want to know of this host.
    pub inquiries: Arc<Inquiries>,
}

/// Why there is no life.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The disk.
    #[error("use the state directory: {0}")]
    Io(#[from] std::io::Error),
    /// Its papers.
    #[error(transparent)]
    Papers(#[from] PapersError),
    /// The group.
    #[error(transparent)]
    Come(Box<ComeError>),
}

impl From<ComeError> for NodeError {
    fn from(error: ComeError) -> Self {
        Self::Come(Box::new(error))
    }
}

/// A member of a mesh, alive.
pub struct Node {
    /// Its part of the group.
    pub replica: Replica,
    /// The state of the store, as it is here.
    pub shared: Arc<Shared>,
    /// A way into the store.
    pub client: Client,
    /// Watches of the store on this host.
    pub watches: Watches,
    /// Who it is.
    pub identity: Identity,
    /// What its certificate says it may do.
    pub role: Role,
    /// What it knows of the others while it leads.
    pub surroundings: Arc<Surroundings>,
    /// Where the others are.
    pub book: Arc<Book>,
    /// What it can prove.
    pub keyring: Arc<Keyring>,
    /// What all lives have in common.
    pub setup: Setup,
    /// Its end of the network.
    pub quic: Quic,
    /// Since when the leader that is heard says that he hears of no quorum; else the end of time.
    alone_since: AtomicU64,
    draining: AtomicBool,
    left: AtomicBool,
    guest: AtomicBool,
    founder: AtomicBool,
    tasks: Mutex<JoinSet<()>>,
}

/// How a life ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Its log or its state has failed.
    Failed(String),
    /// It is a member no more, and was not asked.
    Removed,
    /// It has left for good.
    Left,
}

impl Node {
    /// Comes up: goes on as who it was, or does what is said otherwise.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn come(
        setup: Setup,
        keyring: Arc<Keyring>,
        listed: BTreeMap<PeerId, Listed>,
        otherwise: Otherwise,
    ) -> Result<Arc<Self>, NodeError> {
        let papers = keyring.papers();
        let badge = papers.badge()?;
        let (transfers, wanted) = tokio::sync::mpsc::channel(1);
        let me = (badge.peer, badge.role);
        let (bell, rung) = Bell::new();
        let (shared, asked) = (setup.shared.clone(), (bell, setup.inquiries.clone()));
        let surroundings = Arc::new(Surroundings::new(shared, me, Policy::LAN, setup.clock, transfers, asked));
        let book = Arc::new(Book::new(badge.cluster, listed, surroundings.clone()));
        let credentials = papers.credentials();
        setup.endpoint.appear(papers.credentials())?;
        let quic = setup.endpoint.mesh(badge.cluster, badge.peer, credentials, book.clone())?;
        let desk = Arc::new(Desk::new(surroundings.clone(), setup.shared.clone()));
        let peer = Peer::<Native> {
            settings: Settings::LAN,
            options: Options::new(Arc::new(Tree::new(setup.state.join("index")))),
            disk: Files::open(&setup.state)?,
            transport: quic.clone(),
            host: setup.host.as_str().to_owned(),
            clerk: desk.clone(),
            chance: Arc::new(chance),
        };
        let replica = peer.come(otherwise, || StoreMachine::anew(setup.shared.clone(), setup.versions)).await?;
        let watches = Watches::new(setup.shared.clone());
        let client = Client::new(replica.clone(), setup.shared.clone(), watches.clone(), setup.host.clone(), PATIENCE);
        let node = Arc::new(Self {
            identity: replica.identity().clone(),
            replica,
            shared: setup.shared.clone(),
            client,
            watches,
            role: badge.role,
            surroundings,
            book,
            quic,
            keyring,
            alone_since: AtomicU64::new(u64::MAX),
            draining: AtomicBool::new(false),
            left: AtomicBool::new(false),
            guest: AtomicBool::new(false),
            founder: AtomicBool::new(false),
            tasks: Mutex::new(JoinSet::new()),
            setup,
        });
        node.begin(&papers, desk, wanted);
        let steward =
            Steward::new(node.replica.clone(), node.client.clone(), node.shared.clone(), node.keyring.clone());
        let here = node.here(steward.clone());
        node.spawn(async move { renewal::keep(&here).await });
        node.spawn(steward.clone().settle(node.surroundings.clone()));
        node.spawn(steward.clone().watch());
        node.spawn(steward.work(rung));
        Ok(node)
    }

    /// Starts what runs for as long as this life.
    fn begin(self: &Arc<Self>, papers: &Papers, desk: Arc<Desk>, wanted: tokio::sync::mpsc::Receiver<Transfer>) {
        let Setup { place, host, zone, endpoint, versions, .. } = self.setup.clone();
        let listen = endpoint.local_address();
        let own = Own { host, listen, zone, versions, key_hash: papers.certificate.key_hash() };
        let quic = self.quic.clone();
        self.spawn(desk.sit(self.replica.clone()));
        self.spawn(appoint(self.replica.clone(), self.surroundings.clone(), Policy::LAN));
        self.spawn(levels::remember(self.shared.clone(), place.clone()));
        self.spawn(registrar::follow(self.book.clone(), self.shared.clone(), place, move || quic.recheck()));
        self.spawn(registrar::say(own, self.book.clone(), self.shared.clone(), self.client.clone()));
        self.spawn(tell(self.clone()));
        let who = porter::Own {
            cluster: self.identity.cluster,
            peer: self.identity.peer,
            host: self.setup.host.clone(),
            versions,
        };
        let world = Arc::new(door::World(self.replica.clone()));
        let porter = Porter::new(who, self.client.clone(), self.shared.clone(), self.keyring.clone(), world);
        let founded = self.setup.founders.clone().map(|founders| {
            let (cluster, place) = (self.identity.cluster, self.setup.place.clone());
            Arc::new(door::Founded { founders, cluster, place, listen })
        });
        self.spawn(door::serve(endpoint.visits(), Arc::new(porter), founded.clone()));
        if let Some(founded) = founded {
            let me = Who::new(self.identity.peer, &self.identity.host);
            let founders = founded.founders.clone();
            self.spawn(bootstrap::greet(endpoint, founders, me, listen, move || founded.mesh()));
        }
        self.spawn(transfer(self.replica.clone(), wanted));
    }

    fn here(&self, steward: Steward) -> renewal::Here {
        renewal::Here {
            replica: self.replica.clone(),
            steward,
            keyring: self.keyring.clone(),
            book: self.book.clone(),
            quic: self.quic.clone(),
            endpoint: self.setup.endpoint.clone(),
            shown: Mutex::new(self.keyring.papers()),
        }
    }

    /// Runs something for as long as this life.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(work);
    }

    /// Waits until it ends by itself. Cancel safe.
    pub async fn ended(&self) -> Ended {
        loop {
            if self.has_left() {
                return Ended::Left;
            }
            if let Some(fault) = self.replica.fault() {
                return Ended::Failed(fault);
            }
            if self.replica.standing().removed {
                return Ended::Removed;
            }
            if self.replica.silence() > SILENCE {
                self.replica.knock(&self.elders()).await;
            }
            tokio::time::sleep(TELL).await;
        }
    }

    /// Those whose word counts when this host asks whether it is a member still: who may lead.
    fn elders(&self) -> Vec<PeerId> {
        self.shared.read(|keyspace| {
            let elders = keyspace.peers().filter(|(_, peer)| peer.role >= Role::Master).map(|(_, peer)| peer.peer);
            elders.filter(|peer| *peer != self.identity.peer).collect()
        })
    }

    /// How long the leader has said that he hears of no quorum, if he does: what he says is heard, and worth nothing.
    #[must_use]
    pub fn alone_ms(&self) -> Option<u64> {
        let since = self.alone_since.load(Ordering::Relaxed);
        (since != u64::MAX).then(|| self.replica.now_ms().saturating_sub(since))
    }

    /// Whether it is a master now.
    #[must_use]
    pub fn votes(&self) -> bool {
        let me = self.replica.id();
        self.replica.standing().voters().iter().any(|set| set.contains(&me))
    }

    async fn tell(&self, telling: &Telling) -> Told {
        match self.replica.tell(telling.encode(), TELL).await {
            Ok(answer) => Told::decode(&answer),
            Err(error) => Told::No(error.to_string()),
        }
    }

    /// Asks the leader, and says what it answered.
    ///
    /// # Errors
    /// Its no, or that there is nobody to ask.
    pub async fn ask(&self, telling: &Telling) -> Result<(), String> {
        match self.tell(telling).await {
            Told::No(why) => Err(why),
            Told::Yes | Told::Alone | Told::Seen(_) => Ok(()),
        }
    }

    /// Has whoever leads make another authority.
    ///
    /// # Errors
    /// In words, why there is none.
    pub async fn rotate(&self) -> Result<(), String> {
        handover::rotate(&self.replica).await
    }

    /// Whether the registry, as it is here, has this member: one that has left for good may be in the group for some time
    /// longer, and is nobody's concern any more.
    pub fn has_registered(&self, member: &Member) -> bool {
        let peer =
            HostName::parse(&member.host).ok().and_then(|host| self.shared.read(|keyspace| keyspace.peer(&host)));
        peer.is_some_and(|peer| peer.peer == member.peer)
    }

    /// How everybody is, as the leader sees it; `None` if there is nobody who knows.
    pub async fn look(&self) -> Option<Vec<Seen>> {
        match self.tell(&Telling::Look {}).await {
            Told::Seen(seen) => Some(seen),
            Told::Yes | Told::Alone | Told::No(_) => None,
        }
    }

    async fn tell_health(&self, gone: bool) {
        let disk = self.replica.health();
        let health = Health {
            disk_low: disk.room.is_some_and(|room| room < Room::Plenty),
            sync_p99_ms: disk.sync_p99_ms,
            uptime_ms: self.replica.now_ms(),
            transient: self.setup.transient,
            draining: self.draining.load(Ordering::Relaxed),
            gone,
            signer: self.keyring.signer().map(|hash| hex(&hash)).unwrap_or_default(),
            ..Health::default()
        };
        match self.tell(&Telling::Health(health)).await {
            Told::No(why) => tracing::trace!(why, "the leader does not know how this host is"),
            Told::Alone => _ = self.alone_since.fetch_min(self.replica.now_ms(), Ordering::Relaxed),
            Told::Yes | Told::Seen(_) => self.alone_since.store(u64::MAX, Ordering::Relaxed),
        }
    }

    /// Ends it: hands leadership over, and if this host only ran to an end gives its id back. Its membership stays otherwise.
    pub async fn stop(&self) {
        if self.setup.transient {
            self.farewell().await;
        }
        if let Some(to) = self.heir() {
            tracing::info!("mesh: handing over leadership");
            if let Err(error) = self.replica.transfer(to).await {
                tracing::warn!(%error, "mesh: leadership was not handed over");
            }
            let handed = async {
                while self.replica.leads().is_some() || self.replica.standing().leader.is_none() {
                    tokio::time::sleep(LOOK).await;
                }
            };
            if tokio::time::timeout(HANDOVER, handed).await.is_err() {
                tracing::warn!("mesh: nobody has taken over yet");
            }
        }
        if self.setup.transient {
            self.give_back().await;
        }
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        self.replica.stop().await;
        tasks.shutdown().await;
    }

    /// It has founded its mesh by this very run.
    pub(super) fn is_founder(&self) {
        self.founder.store(true, Ordering::Relaxed);
    }

    /// It has come by a run that has an end.
    pub(super) fn is_guest(&self) {
        self.guest.store(true, Ordering::Relaxed);
    }

    /// Who shall lead if this host does and stops: the master that is nearest.
    fn heir(&self) -> Option<RaftId> {
        let seen = self.replica.observe()?;
        let voters = seen.configs.last()?;
        let alive = |id: &&RaftId| {
            let ack_ms = seen.progress.get(*id).and_then(|progress| progress.ack_ms);
            **id != seen.me && ack_ms.is_some_and(|ms| ms <= Policy::LAN.alive_ack_ms_max)
        };
        voters
            .iter()
            .filter(alive)
            .max_by_key(|id| seen.progress.get(*id).and_then(|progress| progress.matched))
            .copied()
    }
}

/// Tells the leader how this host is, for as long as it is polled.
async fn tell(node: Arc<Node>) {
    loop {
        node.tell_health(false).await;
        if node.replica.leads().is_none() {
            node.surroundings.step_down();
        }
        tokio::time::sleep(TELL).await;
    }
}

/// Carries out what admins want of the leader.
async fn transfer(replica: Replica, mut wanted: tokio::sync::mpsc::Receiver<Transfer>) {
    while let Some(Transfer(to)) = wanted.recv().await {
        if let Err(error) = replica.transfer(to).await {
            tracing::warn!(%error, "mesh: leadership was not handed over");
        }
    }
}
