//! What other members ask this host about itself, and how it is asked of them.
//!
//! Any member may ask any other one, whoever leads and with or without a quorum. Promises: inquiries have places of their
//! own, so that whoever asks too much keeps nobody from handing over the authority's key, and fills no memory; nothing is
//! changed by them. Must not know what an answer means to people.

mod asking;
mod places;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use mgmt_consensus::types::Member;
use mgmt_consensus::{Incarnation, PeerId};
use mgmt_engine::{Clock, Moment};
use mgmt_store::Shared;

pub use self::asking::{AskError, Asked, ask, ask_all, ask_some};
use self::places::Places;
use super::messages::inquiry::{Answer, Collected, HostStatus, Inquiry, Since};
use super::messages::join::Kind;
use super::standing::{Exchanged, Standing, exports_at};
use crate::events::Events;

/// Inquiries that are answered at once.
const AT_ONCE_MAX: usize = 64;
/// Those of one member among them.
const AT_ONCE_PER_MEMBER_MAX: usize = 16;
/// Inquiries that wait for something to happen: a quarter of the requests that the group works on at once.
const WAITING_MAX: usize = 128;
/// Those of one member among them.
const WAITING_PER_MEMBER_MAX: usize = 16;
/// How long one may wait. Whoever asked may have gone meanwhile, and its place is taken for so long.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// A status as old as this is told again: taking stock of a large graph takes milliseconds in which the engine waits.
const STATUS_AGE_MAX: Duration = Duration::from_millis(100);
/// Members that have said farewell.
const GONE_MAX: usize = 1024;

/// Whether a host is quiet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quiet {
    /// For long enough.
    pub converged: bool,
    /// For so long, if it is.
    pub for_ms: Option<u64>,
}

/// Who speaks for this host: the agent.
pub trait Respondent: Send + Sync + 'static {
    /// How it is. May take milliseconds: it is asked on a thread where that holds up nobody.
    fn status(&self) -> HostStatus;
    /// Whether it is quiet.
    fn quiet(&self) -> Quiet;
    /// What has happened.
    fn events(&self) -> &Arc<Events>;
    /// What it collects.
    fn collected(&self) -> Collected;
    /// Keeps nothing of a host that only an earlier mesh knew. Whether there was something.
    fn forget(&self, host: &str) -> bool;
}

/// A life of a member.
type Life = (PeerId, Incarnation);

/// Where inquiries of others are answered, over all lives of this process.
pub struct Inquiries {
    clock: Clock,
    shared: Arc<Shared>,
    /// Nobody, where no agent runs. Weak: it is the agent's to end.
    respondent: OnceLock<Weak<dyn Respondent>>,
    exchanged: Exchanged,
    /// The revision of the last change of any exports, as of a revision: looked up once for each.
    exports: Mutex<(u64, u64)>,
    at_once: Arc<Places>,
    waiting: Arc<Places>,
    /// The last status that was told. Whoever takes stock holds the lock.
    status: tokio::sync::Mutex<Option<(Moment, HostStatus)>>,
    gone: Mutex<BTreeSet<Life>>,
    /// This run is at its end.
    ended: AtomicBool,
}

impl Inquiries {
    /// With nobody yet who could answer.
    #[must_use]
    pub fn new(clock: Clock, shared: Arc<Shared>) -> Self {
        Self {
            clock,
            shared,
            respondent: OnceLock::new(),
            exchanged: Exchanged::default(),
            exports: Mutex::default(),
            at_once: Places::new(AT_ONCE_MAX, AT_ONCE_PER_MEMBER_MAX),
            waiting: Places::new(WAITING_MAX, WAITING_PER_MEMBER_MAX),
            status: tokio::sync::Mutex::default(),
            gone: Mutex::default(),
            ended: AtomicBool::new(false),
        }
    }

    /// From now on this one speaks for the host. Only the first is taken.
    pub fn attend(&self, respondent: Weak<dyn Respondent>) {
        if self.respondent.set(respondent).is_err() {
            tracing::error!("mesh: somebody speaks for this host already");
        }
    }

    /// Keeps nothing here of a host that only an earlier mesh knew. Whether there was something.
    #[must_use]
    pub fn forget(&self, host: &str) -> bool {
        self.respondent().is_ok_and(|respondent| respondent.forget(host))
    }

    /// What the exchange says of itself.
    #[must_use]
    pub fn exchanged(&self) -> &Exchanged {
        &self.exchanged
    }

    fn respondent(&self) -> Result<Arc<dyn Respondent>, Answer> {
        let none = || Answer::refused(Kind::TryAgain, "no agent runs there just now");
        self.respondent.get().and_then(Weak::upgrade).ok_or_else(none)
    }

    fn gone(&self) -> MutexGuard<'_, BTreeSet<Life>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this life of a member has said that its run ends, and was not seen again.
    #[must_use]
    pub fn is_gone(&self, member: &Member) -> bool {
        self.gone().contains(&(member.peer, member.incarnation))
    }

    /// It was seen again: a run may go on with the identity of one before.
    pub fn is_back(&self, member: &Member) {
        self.gone().remove(&(member.peer, member.incarnation));
    }

    /// This host's run is at its end: from now on it says so to whoever waits for it.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// How this host stands; `None` where no agent runs.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        let Quiet { converged, for_ms: quiet_ms } = self.respondent().ok()?.quiet();
        let (revision, exports) = self.exports();
        let view = self.exchanged.get(revision);
        let (settled, publishing, ended) = (view.settled, view.publishing, self.ended.load(Ordering::Relaxed));
        Some(Standing { converged, quiet_ms, settled, publishing, exports, ended })
    }

    /// The revision of the store, and of the last change of any exports.
    fn exports(&self) -> (u64, u64) {
        let mut known = self.exports.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != self.shared.revision().0 {
            *known = self.shared.read(|keyspace| (keyspace.revision().0, exports_at(keyspace)));
        }
        *known
    }

    /// What is answered to a member.
    pub async fn answer(&self, from: &Member, message: &[u8]) -> Bytes {
        let answer = match Inquiry::read(message) {
            Ok(inquiry) => self.to(from, inquiry).await,
            Err(error) => Answer::refused(Kind::Malformed, error.to_string()),
        };
        let written = answer.write().or_else(|error| Answer::refused(Kind::Other, error.to_string()).write());
        written.expect("a refusal is short")
    }

    async fn to(&self, from: &Member, inquiry: Inquiry) -> Answer {
        let Some(place) = self.at_once.take(from.peer) else {
            return Answer::refused(Kind::TryAgain, "it is asked too much at once");
        };
        match inquiry {
            Inquiry::Status {} => self.status().await.map_or_else(|no| no, |status| Answer::Status(Box::new(status))),
            Inquiry::Standing {} => match self.standing() {
                Some(standing) => Answer::Standing(standing),
                None => Answer::refused(Kind::TryAgain, "no agent runs there just now"),
            },
            Inquiry::Events(since) => {
                drop(place);
                match self.respondent() {
                    Ok(respondent) => Answer::Events(self.events(from.peer, &respondent.events().clone(), since).await),
                    Err(no) => no,
                }
            }
            Inquiry::Collected {} => match self.respondent() {
                Ok(respondent) => Answer::Collected(respondent.collected()),
                Err(no) => no,
            },
            Inquiry::Farewell {} => {
                let mut gone = self.gone();
                if gone.len() < GONE_MAX {
                    gone.insert((from.peer, from.incarnation));
                }
                Answer::Noted {}
            }
        }
    }

    async fn status(&self) -> Result<HostStatus, Answer> {
        let mut last = self.status.lock().await;
        if let Some((at, status)) = &*last
            && self.clock.now().since(*at) <= STATUS_AGE_MAX
        {
            return Ok(status.clone());
        }
        let respondent = self.respondent()?;
        let taken = tokio::task::spawn_blocking(move || respondent.status()).await;
        let mut status = taken.map_err(|error| Answer::refused(Kind::Other, error.to_string()))?;
        status.settled = self.exchanged.get(status.revision).settled;
        *last = Some((self.clock.now(), status.clone()));
        Ok(status)
    }

    /// A page of events, which waits for one if there is room to wait.
    async fn events(&self, from: PeerId, events: &Events, since: Since) -> crate::events::Page {
        let last = usize::try_from(since.last).unwrap_or(usize::MAX);
        let page = events.page(since.after, last);
        let wait = Duration::from_millis(since.wait_ms.into()).min(WAIT_MAX);
        if !page.events.is_empty() || page.missed > 0 || wait.is_zero() {
            return page;
        }
        let Some(_place) = self.waiting.take(from) else { return page };
        if tokio::time::timeout(wait, events.beyond(page.next)).await.is_err() {
            return page;
        }
        events.page(Some(page.next), 0)
    }
}
