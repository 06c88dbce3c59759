//! This host's part of the group: proposes, reads, admits, changes, stands where it stands.
//!
//! It decides nothing. Who shall vote is decided in [`crate::masters`], whom to hear in [`crate::gate`], what the bytes
//! mean by the machine; this carries it out with openraft and tells what came of it.

mod awake;
mod change;
mod housekeeping;
mod inbox;
mod standing;
mod tell;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ClientWriteError, ForwardReason, ForwardToLeader, LinearizableReadError, RaftError};
use openraft::{AsyncRuntime, Instant as _, Raft, ReadPolicy, ServerState};
use tokio::sync::Notify;

use crate::applier::{Applier, RestoreError};
use crate::clerk::{Clerk, Declined};
use crate::gate;
use crate::ground::Ground;
use crate::identity::Identity;
use crate::log_store::LogStore;
use crate::machine::Machine;
use crate::network::{AskError, Links, Shared};
use crate::settings::Settings;
use crate::snapshots::Snapshots;
use crate::transport::{CallError, Lane, Transport};
use crate::types::{Blob, Group, Member, RaftId};
use crate::wire::{Answer, Envelope, Leader, NOBODY, Refusal, Request};

pub use change::ChangeError;
pub use standing::{Health, Standing};

/// Between two attempts while there is no leader.
const RETRY: Duration = Duration::from_millis(20);
/// How long an answer of a leader who leads no more is waited for.
const LAST_WORDS: Duration = Duration::from_millis(50);
type Core<G, M> = Raft<Group<G>, Applier<G, M>>;
type Runtime<G> = <G as Ground>::Runtime;

/// This host's part of the group. Clones are the same part.
pub struct Replica<G: Ground, M: Machine>(Arc<Inner<G, M>>);

impl<G: Ground, M: Machine> Clone for Replica<G, M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Inner<G: Ground, M: Machine> {
    raft: Core<G, M>,
    identity: Identity,
    shared: Arc<Shared<G::Transport>>,
    log: LogStore<G>,
    snapshots: Snapshots<G>,
    clerk: Arc<dyn Clerk>,
    settings: Settings,
    incoming: tokio::sync::Mutex<Option<inbox::Receiving<G>>>,
    /// One change of the membership at a time is begun here.
    changing: tokio::sync::Mutex<()>,
    /// Who holds a reservation now, and until when, by [`Replica::now_ms`].
    turn: Mutex<Option<(crate::identity::Incarnation, u64)>>,
    started: <Runtime<G> as AsyncRuntime>::Instant,
    commands: Arc<AtomicU64>,
    stopping: AtomicBool,
    fault: Mutex<Option<String>>,
    /// When a leader was heard last, by [`Replica::now_ms`].
    heard_ms: AtomicU64,
    /// A leader was heard since this replica was taken up: until then, whom the log names is history.
    heard: AtomicBool,
    /// Nothing more fits on the disk.
    full: AtomicBool,
    /// The fault has come.
    failed: Notify,
    /// It lacked what stands before the entries that a leader sent. Whoever lags does; so does whoever lost them.
    lags: AtomicBool,
    /// When it was last said that somebody speaks as a leader who may not, and one more; 0: never.
    usurped_ms: AtomicU64,
    /// Somebody it was told to knock at says that it is a member no more.
    dismissed: AtomicBool,
}

/// Why a replica does not start. It must not go on under its id.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The identity has no id yet.
    #[error("it was given no id yet")]
    NoId,
    /// Its state cannot be brought back.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// openraft does not start.
    #[error("the group cannot be taken up: {0}")]
    Raft(String),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] std::io::Error),
}

/// Why something proposed or asked has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Surely not done: nobody led, or there was no quorum, until the deadline.
    #[error("there is no leader that has a quorum")]
    NoLeader,
    /// It may be done or not: no answer came in time, or leadership was lost on the way.
    #[error("whether it was done is unknown: {0}")]
    Unknown(String),
    /// Surely not done, and never will be.
    #[error("refused: {0}")]
    Refused(String),
    /// This replica has stopped; surely not done.
    #[error("this replica has stopped: {0}")]
    Stopped(String),
}

/// A command that is committed and applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// Where it stands in the log; 0 if it does not, because the leader foresaw that the machine would refuse it.
    pub index: u64,
    /// What the machine said.
    pub outcome: Bytes,
}

impl<G: Ground, M: Machine> Replica<G, M> {
    /// Takes up this identity's part: brings back the state, and listens.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        settings: Settings,
        identity: Identity,
        disk: G::Disk,
        transport: G::Transport,
        mut log: LogStore<G>,
        machine: M,
        clerk: Arc<dyn Clerk>,
    ) -> Result<Self, StartError> {
        let id = identity.raft.ok_or(StartError::NoId)?;
        let snapshots = Snapshots::<G>::new(disk);
        let purged = openraft::storage::RaftLogStorage::get_log_state(&mut log).await?.last_purged_log_id;
        let applier = Applier::open(snapshots.clone(), machine, purged.as_ref())?;
        let commands = applier.commands();
        let me = Envelope { cluster: identity.cluster, from: id, incarnation: identity.incarnation, to: NOBODY };
        let shared = Arc::new(Shared::new(transport, me, settings.append_deadline()));
        let config = settings.openraft().validate().map_err(|error| StartError::Raft(error.to_string()))?;
        let raft = Raft::new(id, Arc::new(config), Links::<G>(shared.clone()), log.clone(), applier);
        let raft = raft.await.map_err(|error| StartError::Raft(error.to_string()))?;
        let metrics = raft.server_metrics();
        shared.voters.are(move |id| {
            let metrics = metrics.borrow_watched();
            gate::votes(&metrics.membership_config, id) || gate::votes(&metrics.committed_membership_config, id)
        });
        let replica = Self(Arc::new(Inner {
            raft,
            identity,
            shared,
            log,
            snapshots,
            clerk,
            settings,
            incoming: tokio::sync::Mutex::new(None),
            changing: tokio::sync::Mutex::new(()),
            turn: Mutex::new(None),
            started: <Runtime<G> as AsyncRuntime>::Instant::now(),
            commands,
            stopping: AtomicBool::new(false),
            fault: Mutex::new(None),
            heard_ms: AtomicU64::new(0),
            heard: AtomicBool::new(false),
            full: AtomicBool::new(false),
            failed: Notify::new(),
            lags: AtomicBool::new(false),
            usurped_ms: AtomicU64::new(0),
            dismissed: AtomicBool::new(false),
        }));
        drop(Runtime::<G>::spawn(inbox::serve(replica.clone())));
        drop(Runtime::<G>::spawn(housekeeping::housekeep(replica.clone())));
        drop(Runtime::<G>::spawn(awake::awaken(replica.clone())));
        Ok(replica)
    }

    /// Makes this replica the only member of a new group.
    ///
    /// # Errors
    /// In words: it belongs to a group already, or has stopped.
    pub async fn found(&self) -> Result<(), ProposeError> {
        let member = self.member();
        match self.0.raft.initialize(std::collections::BTreeMap::from([(self.id(), member)])).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(error)) => Err(ProposeError::Refused(error.to_string())),
            Err(RaftError::Fatal(fatal)) => Err(self.stopped(&fatal.to_string())),
        }
    }

    /// Its own id.
    #[must_use]
    pub fn id(&self) -> RaftId {
        self.0.shared.me.from
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// As the membership records it.
    #[must_use]
    pub fn member(&self) -> Member {
        let Identity { incarnation, host, peer, .. } = self.0.identity.clone();
        Member { peer, incarnation, host }
    }

    /// Puts a request into the log, wherever the leader is, as what his [`Clerk`] makes of it; it is committed and applied there when this returns, and
    /// perhaps not here yet. Tries until the deadline as long as it is sure that nothing was done.
    ///
    /// Dropped: it may be done or not.
    ///
    /// # Errors
    /// [`ProposeError`], of which each says whether it may have been done.
    pub async fn propose(&self, request: Bytes, deadline: Duration) -> Result<Proposed, ProposeError> {
        let until = Deadline::<G>::of(deadline);
        loop {
            let answer = match self.leader() {
                Some((id, me)) if id == self.id() => self.propose_here(&me, request.clone(), until.left()).await,
                Some((id, leader)) => {
                    let left = until.left();
                    let propose = Request::Propose { command: request.clone(), deadline: left };
                    self.ask_leader(id, &leader, &propose, left).await
                }
                None => Answer::NotLeader { leader: None },
            };
            match answer {
                Answer::Proposed { index, outcome } => return Ok(Proposed { index, outcome }),
                Answer::Unknown { why } => return Err(ProposeError::Unknown(why)),
                Answer::Refused { why } => return Err(ProposeError::Refused(why)),
                _ => {}
            }
            self.again(&until).await?;
        }
    }

    /// Waits until this replica has applied all that was committed anywhere when this was called, as confirmed by a
    /// quorum: whoever reads then reads linearizably. Up to which log index.
    ///
    /// # Errors
    /// [`ProposeError::NoLeader`] or [`ProposeError::Stopped`].
    pub async fn barrier(&self, deadline: Duration) -> Result<u64, ProposeError> {
        let until = Deadline::<G>::of(deadline);
        let index = loop {
            let answer = match self.leader() {
                Some((id, _)) if id == self.id() => self.read_here(until.left()).await,
                Some((id, leader)) => self.ask_leader(id, &leader, &Request::ReadIndex, until.left()).await,
                None => Answer::NotLeader { leader: None },
            };
            match answer {
                Answer::ReadAt { index } => break index,
                // Nothing is done by reading: it may be asked again.
                _ => self.again(&until).await?,
            }
        };
        self.applied(index, until.left()).await?;
        Ok(index)
    }

    /// Waits until this replica has applied up to this log index.
    ///
    /// # Errors
    /// [`ProposeError::NoLeader`] at the deadline, [`ProposeError::Stopped`].
    pub async fn applied(&self, index: u64, deadline: Duration) -> Result<(), ProposeError> {
        let mut metrics = self.0.raft.data_metrics();
        let until = Deadline::<G>::of(deadline);
        loop {
            let applied = metrics.borrow_watched().last_applied.as_ref().map_or(0, |id| id.index);
            if applied >= index {
                return Ok(());
            }
            match Runtime::<G>::timeout(until.left(), metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(self.stopped("")),
                Err(_) => return Err(ProposeError::NoLeader),
            }
        }
    }

    /// Waits a little before another attempt, if there is time for one.
    async fn again(&self, until: &Deadline<G>) -> Result<(), ProposeError> {
        if let Some(fault) = self.fault() {
            return Err(ProposeError::Stopped(fault));
        }
        if until.left() <= RETRY {
            return Err(ProposeError::NoLeader);
        }
        Runtime::<G>::sleep(RETRY).await;
        Ok(())
    }

    /// The member with this id, as far as this replica knows.
    fn known(&self, id: RaftId) -> Option<Member> {
        let metrics = self.0.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let known = |membership: &crate::types::StoredMembership| membership.membership().get_node(&id).cloned();
        known(&metrics.membership_config).or_else(|| known(&metrics.committed_membership_config))
    }

    /// Whom this replica takes for the leader. After a start it knows nobody until it hears from one: whom its log names
    /// led in an earlier life.
    fn leader(&self) -> Option<(RaftId, Member)> {
        let id = {
            let metrics = self.0.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let heard = self.0.heard.load(std::sync::atomic::Ordering::Relaxed);
            metrics.current_leader.filter(|_| heard || metrics.state == ServerState::Leader)?
        };
        Some((id, self.known(id)?))
    }

    /// A leader was heard just now.
    fn hears_a_leader(&self) {
        use std::sync::atomic::Ordering;
        self.0.heard_ms.store(self.now_ms(), Ordering::Relaxed);
        self.0.heard.store(true, Ordering::Relaxed);
    }

    /// Asks the leader. If another one is heard of meanwhile, this one may be dead without a word, and the transport
    /// takes long to see that: he is given up soon after. Whether it was done is not known then.
    async fn ask_leader(&self, id: RaftId, leader: &Member, request: &Request, deadline: Duration) -> Answer {
        let answer = pin!(self.ask_member(id, leader, request, deadline));
        let deposed = pin!(async {
            let mut metrics = self.0.raft.server_metrics();
            // A leader who hands over answers before he goes, or soon after.
            while self.leader().is_none_or(|(now, _)| now == id) && metrics.changed().await.is_ok() {}
            Runtime::<G>::sleep(LAST_WORDS).await;
        });
        match select(answer, deposed).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Answer::Unknown { why: "another leads by now".to_owned() },
        }
    }

    /// Asks a member, with an answer in any case.
    async fn ask_member(&self, id: RaftId, member: &Member, request: &Request, deadline: Duration) -> Answer {
        match self.0.shared.ask((id, member.peer), Lane::Client, request, deadline).await {
            Ok(answer) => answer,
            Err(AskError::Call(error @ CallError::TooLarge(_))) => Answer::Refused { why: error.to_string() },
            Err(AskError::Wire(error)) => Answer::Refused { why: error.to_string() },
            Err(error @ AskError::Mismatch(_)) => Answer::Unavailable { why: error.to_string() },
            Err(error) => Answer::Unknown { why: error.to_string() },
        }
    }

    /// Waits, by the clock of this ground.
    pub async fn sleep(&self, time: Duration) {
        Runtime::<G>::sleep(time).await;
    }

    /// Proposes as the leader, if this is the leader.
    async fn propose_here(&self, from: &Member, request: Bytes, deadline: Duration) -> Answer {
        if self.0.full.load(std::sync::atomic::Ordering::Relaxed) {
            return Refusal::Unavailable("the leader's disk is full".to_owned()).into();
        }
        let command = match self.0.clerk.attest(from, request) {
            Ok(command) => command,
            Err(Declined::Because(why)) => return Refusal::Refused(why).into(),
            Err(Declined::Outcome(outcome)) => return Answer::Proposed { index: 0, outcome },
        };
        let written = Runtime::<G>::timeout(deadline, self.0.raft.client_write(Blob(command))).await;
        match written {
            Ok(Ok(response)) => Answer::Proposed { index: response.log_id.index, outcome: response.data.0 },
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => not_here(&forward).into(),
            Ok(Err(error)) => Answer::Unknown { why: error.to_string() },
            Err(_) => Answer::Unknown { why: "the leader has not finished it in time".to_owned() },
        }
    }

    /// Finds the read index as the leader, if this is the leader.
    async fn read_here(&self, deadline: Duration) -> Answer {
        let read = self.0.raft.get_read_log_id(ReadPolicy::ReadIndex);
        match Runtime::<G>::timeout(deadline, read).await {
            Ok(Ok((at, _))) => Answer::ReadAt { index: at.index() },
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)))) => not_here(&forward).into(),
            Ok(Err(error)) => Answer::Unavailable { why: error.to_string() },
            Err(_) => Answer::Unavailable { why: "no quorum has answered".to_owned() },
        }
    }

    /// How long it has heard no leader, and does not lead.
    #[must_use]
    pub fn silence(&self) -> Duration {
        if self.leader().is_some_and(|(id, _)| id == self.id()) {
            return Duration::ZERO;
        }
        let heard_ms = self.0.heard_ms.load(std::sync::atomic::Ordering::Relaxed);
        Duration::from_millis(self.now_ms().saturating_sub(heard_ms))
    }

    /// Takes a snapshot now.
    ///
    /// # Errors
    /// [`ProposeError::Stopped`].
    pub async fn snapshot(&self) -> Result<(), ProposeError> {
        self.0.raft.trigger().snapshot().await.map_err(|fatal| self.stopped(&fatal.to_string()))
    }

    /// Cuts off the log up to here, as far as a snapshot covers it.
    ///
    /// # Errors
    /// [`ProposeError::Stopped`].
    pub async fn purge(&self, upto: u64) -> Result<(), ProposeError> {
        self.0.raft.trigger().purge_log(upto).await.map_err(|fatal| self.stopped(&fatal.to_string()))
    }

    /// Stands for election, asking first whether it would win one.
    ///
    /// # Errors
    /// [`ProposeError::Stopped`].
    pub async fn stand(&self) -> Result<(), ProposeError> {
        self.0.raft.trigger().elect(true).await.map_err(|fatal| self.stopped(&fatal.to_string()))
    }

    /// Why this half has stopped for good, if it has.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.0.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it was stopped, or has stopped for good.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.0.stopping.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn stopped(&self, why: &str) -> ProposeError {
        ProposeError::Stopped(self.fault().unwrap_or_else(|| why.to_owned()))
    }

    /// Stops: nothing is heard, said or written after this returns.
    pub async fn stop(&self) {
        use std::sync::atomic::Ordering;
        self.0.stopping.store(true, Ordering::Relaxed);
        self.0.shared.transport.close();
        if let Err(error) = self.0.raft.shutdown().await {
            tracing::error!(?error, "the group's task has not ended well");
        }
        if let Err(fault) = self.0.log.stop().await {
            tracing::error!(%fault, "the log has ended badly");
        }
    }
}

/// What to do instead of asking this replica.
fn not_here<G: Ground>(forward: &ForwardToLeader<Group<G>>) -> Refusal {
    match (forward.leader_id, &forward.leader_node) {
        (Some(raft_id), Some(member)) => Refusal::NotLeader(Some(Leader { raft_id, peer: member.peer })),
        _ if forward.reason == ForwardReason::LeaseExpired => {
            Refusal::Unavailable("no quorum has confirmed it".to_owned())
        }
        _ => Refusal::NotLeader(None),
    }
}

/// A moment by which something must be done.
struct Deadline<G: Ground>(<Runtime<G> as AsyncRuntime>::Instant);

impl<G: Ground> Deadline<G> {
    fn of(time: Duration) -> Self {
        Self(<Runtime<G> as AsyncRuntime>::Instant::now() + time)
    }

    fn left(&self) -> Duration {
        let now = <Runtime<G> as AsyncRuntime>::Instant::now();
        if self.0 > now { self.0 - now } else { Duration::ZERO }
    }
}
