//! Commands that are applied once, however often they have to be sent.
//!
//! A client numbers its commands within sessions that the store knows, and the store keeps the last outcome of each
//! session. So one command of a session is on its way at a time, and a client has a few sessions, to have as many
//! commands on their way. A command whose outcome was not learned in time may have been applied, or may be until the
//! next one of its session is: that is said, and nothing is guessed.

use std::fmt;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::command::{Body, Request, Ticket};
use crate::event::LeaseId;
use crate::outcome::{Clash, Done, Missing, Outcome, Refusal};
use crate::revision::Revision;

/// One try: longer than it takes to elect a leader, and short of what people wait for.
const TRY: Duration = Duration::from_secs(2);
/// The first pause after a try that failed; every further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest pause: about an election.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// The way to the leader, wherever it is. What the group offers, as far as the store needs it.
pub trait Proposer: Send + Sync + 'static {
    /// Has a [`Request`] attested, appended and applied; gives the index it was applied at and its [`Outcome`] as bytes.
    /// Tries once, and not longer than `limit`. The index is 0 where a leader has foreseen a refusal.
    ///
    /// If this is dropped, the request may be applied all the same.
    fn propose(
        &self,
        request: Bytes,
        limit: Duration,
    ) -> impl Future<Output = Result<(Revision, Bytes), ProposeError>> + Send;

    /// A revision that includes everything anybody was told before this call began. To read no older state, wait until
    /// this replica has come so far.
    fn barrier(&self, limit: Duration) -> impl Future<Output = Result<Revision, ProposeError>> + Send;

    /// Tells the leader that the holder of a lease is there; see [`Presence::renew`](crate::presence::Presence::renew).
    fn renew(&self, lease: LeaseId, limit: Duration) -> impl Future<Output = Result<bool, ProposeError>> + Send;

    /// Milliseconds of a clock that never goes back, of this process.
    fn now_ms(&self) -> u64;

    /// Waits.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send;
}

/// Why a try came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// There is no leader, or it could not be reached, or it would not: nothing was proposed.
    #[error("no leader can be reached")]
    NoLeader,
    /// It may have been proposed, and may still be applied.
    #[error("the outcome is unknown")]
    Unknown,
    /// This host's part of the group has stopped for good. Nothing was proposed.
    #[error("this host's part of the group has stopped")]
    Stopped,
}

/// Why a command was not carried out, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The store refused it; it did nothing.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// No leader was reached in time. It was not applied, and will not be.
    #[error("no leader could be reached; nothing was done")]
    Unavailable,
    /// It may have been applied, once, or may be yet.
    #[error("the outcome is unknown: it may have been done")]
    Unknown,
    /// This host's part of the group has stopped for good.
    #[error("this host's part of the group has stopped; nothing was done")]
    Stopped,
    /// The outcome is one that this version does not know.
    #[error("the answer cannot be understood")]
    Strange,
}

impl CallError {
    /// Whether it may work later, with nothing changed but the mesh.
    #[must_use]
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::Unknown | Self::Refused(Refusal::Busy { .. } | Refusal::NoSpace))
    }
}

/// A moment at which whoever waits gives up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(u64);

impl Deadline {
    pub(crate) fn after(proposer: &impl Proposer, time: Duration) -> Self {
        Self(proposer.now_ms().saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }

    pub(crate) fn at(now_ms: u64) -> Self {
        Self(now_ms)
    }

    /// What is left of it.
    pub(crate) fn left(self, proposer: &impl Proposer) -> Option<Duration> {
        let left = self.0.saturating_sub(proposer.now_ms());
        (left > 0).then(|| Duration::from_millis(left))
    }
}

/// Pauses between tries.
#[derive(Debug)]
pub(crate) struct Pauses(Duration);

impl Pauses {
    pub(crate) fn new() -> Self {
        Self(PAUSE_MIN)
    }

    /// Waits for a while, not past the deadline.
    pub(crate) async fn pause(&mut self, proposer: &impl Proposer, deadline: Deadline) {
        let time = self.0.min(deadline.left(proposer).unwrap_or_default());
        self.0 = (self.0 * 2).min(PAUSE_MAX);
        proposer.sleep(time).await;
    }
}

/// One session, or a place for one.
#[derive(Debug, Default)]
struct Lane {
    session: Option<u64>,
    /// Of the last command that was sent in it.
    sequence: u64,
}

/// The sessions of one client.
pub(crate) struct Sessions {
    /// Lanes that nobody uses at the moment. Held to take one or to put it back.
    free: Mutex<Vec<Lane>>,
    places: Semaphore,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

/// A lane in use. It goes back when this is dropped, also by somebody who does not wait for the outcome: the next
/// command has a higher number, and the store refuses the one that was given up once it has seen that.
struct Taken<'a> {
    sessions: &'a Sessions,
    lane: Lane,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.sessions.lanes().push(std::mem::take(&mut self.lane));
    }
}

impl Sessions {
    /// With so many lanes. A session is opened once there is a command for it.
    pub(crate) fn new(lanes: usize) -> Self {
        let free = (0..lanes).map(|_| Lane::default()).collect();
        Self { free: Mutex::new(free), places: Semaphore::new(lanes) }
    }

    fn lanes(&self) -> std::sync::MutexGuard<'_, Vec<Lane>> {
        // Taking and putting back cannot panic half way.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a command applied once.
    pub(crate) async fn call(
        &self,
        proposer: &impl Proposer,
        body: Body,
        deadline: Deadline,
    ) -> Result<(Revision, Done), CallError> {
        let _place = self.place(proposer, deadline).await?;
        let mut taken = self.take();
        taken.lane.call(proposer, body, deadline).await
    }

    /// The number of one of this client's sessions. It is higher than that of any session of those who were here before.
    pub(crate) async fn epoch(&self, proposer: &impl Proposer, deadline: Deadline) -> Result<u64, CallError> {
        let _place = self.place(proposer, deadline).await?;
        let mut taken = self.take();
        match taken.lane.session {
            Some(session) => Ok(session),
            None => taken.lane.enter(proposer, deadline).await,
        }
    }

    /// Waits until there is a lane.
    async fn place(&self, proposer: &impl Proposer, deadline: Deadline) -> Result<SemaphorePermit<'_>, CallError> {
        let left = deadline.left(proposer).unwrap_or_default();
        tokio::select! {
            biased;
            place = self.places.acquire() => Ok(place.expect("it is never closed")),
            () = proposer.sleep(left) => Err(CallError::Unavailable),
        }
    }

    /// A lane for whoever holds a place. The one used last comes first, so that few sessions are opened by who needs few.
    fn take(&self) -> Taken<'_> {
        let lane = self.lanes().pop().expect("there is a lane for each place");
        Taken { sessions: self, lane }
    }

    /// The sessions that are open, to be closed when the client goes away.
    pub(crate) fn open(&self) -> Vec<u64> {
        self.lanes().iter_mut().filter_map(|lane| lane.session.take()).collect()
    }
}

impl Lane {
    async fn call(
        &mut self,
        proposer: &impl Proposer,
        body: Body,
        deadline: Deadline,
    ) -> Result<(Revision, Done), CallError> {
        loop {
            let session = match self.session {
                Some(session) => session,
                None => self.enter(proposer, deadline).await?,
            };
            self.sequence += 1;
            let ticket = Ticket { session, sequence: self.sequence };
            let request = Request { ticket: Some(ticket), body: body.clone() }.encode();
            let (outcome, sure) = repeat(proposer, request, deadline).await?;
            match outcome.result {
                Ok(done) => return Ok((outcome.revision, done)),
                Err(Refusal::NotFound(Missing::Session)) => {
                    // Forgotten after an hour without use. A try before this one may have been the last use of it.
                    self.session = None;
                    if !sure {
                        return Err(CallError::Unknown);
                    }
                }
                Err(Refusal::Conflict(Clash::Sequence)) => return Err(CallError::Unknown),
                Err(Refusal::Busy { wait_ms }) => wait(proposer, wait_ms, deadline).await?,
                Err(refusal) => return Err(CallError::Refused(refusal)),
            }
        }
    }

    /// Opens a session. If the outcome of a try is not learned, that session is left to its end.
    async fn enter(&mut self, proposer: &impl Proposer, deadline: Deadline) -> Result<u64, CallError> {
        loop {
            let opened = repeat(proposer, Request::plain(Body::SessionOpen).encode(), deadline).await;
            match opened.map(|(outcome, _)| outcome.result) {
                Ok(Ok(Done::Session { session })) => {
                    *self = Self { session: Some(session), sequence: 0 };
                    return Ok(session);
                }
                Ok(Ok(_)) => return Err(CallError::Strange),
                Ok(Err(Refusal::Busy { wait_ms })) => wait(proposer, wait_ms, deadline).await?,
                Ok(Err(refusal)) => return Err(refusal.into()),
                // What is not known is whether a session was opened; the command itself was not sent.
                Err(CallError::Unknown) => return Err(CallError::Unavailable),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Sends a request until its outcome is known. Whether it is the first try that may have been proposed comes with it.
async fn repeat(proposer: &impl Proposer, request: Bytes, deadline: Deadline) -> Result<(Outcome, bool), CallError> {
    let (mut sure, mut pauses) = (true, Pauses::new());
    while let Some(left) = deadline.left(proposer) {
        match proposer.propose(request.clone(), left.min(TRY)).await {
            // A leader foresees a refusal, and a try before this one may be in the log all the same.
            Ok((Revision(0), _)) if !sure => {}
            Ok((_, outcome)) => {
                let outcome = Outcome::decode(&outcome).map_err(|_| CallError::Strange)?;
                return Ok((outcome, sure));
            }
            Err(ProposeError::NoLeader) => {}
            Err(ProposeError::Unknown) => sure = false,
            Err(ProposeError::Stopped) => return Err(if sure { CallError::Stopped } else { CallError::Unknown }),
        }
        pauses.pause(proposer, deadline).await;
    }
    Err(if sure { CallError::Unavailable } else { CallError::Unknown })
}

/// A host has so many proposals in a second. That one was too many is the outcome of a command like any other: what is
/// sent after a while is another one.
async fn wait(proposer: &impl Proposer, wait_ms: u32, deadline: Deadline) -> Result<(), CallError> {
    let time = Duration::from_millis(u64::from(wait_ms).max(1));
    if deadline.left(proposer).is_none_or(|left| left <= time) {
        return Err(CallError::Refused(Refusal::Busy { wait_ms }));
    }
    proposer.sleep(time).await;
    Ok(())
}
