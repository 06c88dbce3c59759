//! Carries out what [`crate::masters`] decides: looks, asks, changes, and looks again. On the leader; everybody else
//! only forgets.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::select;
use openraft::AsyncRuntime;
use tokio::sync::Notify;

use crate::ground::Ground;
use crate::machine::Machine;
use crate::masters::{Census, Deed, Policy, Profile, Step, Watchman, choose};
use crate::replica::{ChangeError, Replica};
use crate::types::{Member, RaftId};

/// How long candidates may take to get ready.
const PREPARE: Duration = Duration::from_secs(15);
/// How long they stay ready: whoever has not become a master meanwhile throws away what he was given.
const PREPARED_MS: u64 = 30_000;

/// Whether newcomers have what they need.
pub type Prepared<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// What is known of the members beyond the log: what they say of themselves, and what the cluster has laid down.
pub trait Roster: Send + Sync + 'static {
    /// What speaks for these members as masters, and against. Of whom nothing is known is left out.
    fn profiles(&self, members: &BTreeMap<RaftId, Member>) -> BTreeMap<RaftId, Profile>;

    /// How many masters are wished for: one of [`Policy::IDEALS`].
    fn ideal(&self) -> usize;

    /// Gives members what they need as masters, before a step that lets them vote. Looking goes on meanwhile, and the
    /// step is chosen anew when they are ready. Asked again after half a minute, as long as the step is still wanted.
    ///
    /// # Errors
    /// In words, why the step is dropped; it will be looked at again.
    fn prepare(&self, _newcomers: Vec<(RaftId, Member)>) -> Prepared<'_> {
        Box::pin(async { Ok(()) })
    }

    /// Hears of every look and of the step that follows from it, before it is carried out.
    fn looked(&self, _census: &Census, _step: Option<&Step>) {}

    /// Hears how a step ended.
    fn ended(&self, _step: &Step, _result: &Result<(), ChangeError>) {}
}

/// Looks after the masters for as long as the replica lives.
pub async fn appoint<G: Ground, M: Machine>(replica: Replica<G, M>, roster: Arc<dyn Roster>, policy: Policy) {
    let pause = Duration::from_millis(policy.look_every_ms);
    let mut watchman = Watchman::new(policy);
    let antechamber = Arc::<Antechamber>::default();
    while !replica.has_stopped() {
        look(&replica, &roster, &mut watchman, &antechamber);
        let pause = pin!(<G::Runtime as AsyncRuntime>::sleep(pause));
        let _whichever = select(pause, pin!(antechamber.ready.notified())).await;
    }
}

fn look<G: Ground, M: Machine>(
    replica: &Replica<G, M>,
    roster: &Arc<dyn Roster>,
    watchman: &mut Watchman,
    antechamber: &Arc<Antechamber>,
) {
    let Some(seen) = replica.observe() else {
        watchman.forget();
        antechamber.empty();
        return;
    };
    let mut profiles = roster.profiles(&seen.members);
    for former in former_lives(&seen.members).into_iter().chain(replica.went_back()) {
        profiles.entry(former).or_default().lost_data = true;
    }
    // It takes no proposals until there is space.
    if replica.is_full() {
        profiles.entry(replica.id()).or_default().disk_low = true;
    }
    let census = watchman.observe(&seen, &profiles, roster.ideal());
    let step = choose(&census, watchman.policy());
    roster.looked(&census, step.as_ref());
    let Some(step) = step else { return };
    let newcomers = newcomers(&step, &census, &seen.members);
    if !antechamber.prepared::<G>(roster, newcomers, seen.now_ms) {
        return;
    }
    tracing::info!(step = step.sentence(&census), "masters");
    if matches!(step.deed, Deed::Transfer { .. }) {
        watchman.transferred(seen.now_ms);
    }
    // Beside the looking: a change may take as long as somebody's disk, and who is silent meanwhile must be seen.
    let (replica, roster) = (replica.clone(), roster.clone());
    drop(<G::Runtime as AsyncRuntime>::spawn(async move {
        let result = carry_out(&replica, &step, seen.membership_index).await;
        if let Err(error) = &result {
            tracing::info!(%error, "masters: not done");
        }
        roster.ended(&step, &result);
    }));
}

/// Whom a step lets vote who does not yet.
fn newcomers(step: &Step, census: &Census, members: &BTreeMap<RaftId, Member>) -> Vec<(RaftId, Member)> {
    if !step.deed.changes_membership() {
        return Vec::new();
    }
    let new = step.voters.iter().filter(|id| !census.votes(**id));
    new.filter_map(|id| Some((*id, members.get(id)?.clone()))).collect()
}

/// Where candidates get what they need as masters, before they vote. That takes their disks and the network, so the
/// step is not carried out behind it: it would rest on an old look. It is chosen anew once they are ready.
#[derive(Default)]
struct Antechamber {
    /// Who is ready, since when.
    prepared: Mutex<BTreeMap<RaftId, u64>>,
    busy: AtomicBool,
    ready: Notify,
}

impl Antechamber {
    /// Whether all of these are ready. If not, they are made so, unless others are just now.
    fn prepared<G: Ground>(
        self: &Arc<Self>,
        roster: &Arc<dyn Roster>,
        mut newcomers: Vec<(RaftId, Member)>,
        now_ms: u64,
    ) -> bool {
        {
            let mut prepared = self.lock();
            prepared.retain(|_, at_ms| now_ms.saturating_sub(*at_ms) < PREPARED_MS);
            newcomers.retain(|(id, _)| !prepared.contains_key(id));
        }
        if newcomers.is_empty() {
            return true;
        }
        if self.busy.swap(true, Ordering::Relaxed) {
            return false;
        }
        let ids: Vec<RaftId> = newcomers.iter().map(|(id, _)| *id).collect();
        let roster = roster.clone();
        let mut preparing = Box::pin(async move { roster.prepare(newcomers).await });
        // Where there is nothing to prepare, nobody is kept waiting.
        if let Some(result) = (&mut preparing).now_or_never() {
            return self.done(&result, &ids, now_ms);
        }
        let chamber = self.clone();
        drop(<G::Runtime as AsyncRuntime>::spawn(async move {
            let result = <G::Runtime as AsyncRuntime>::timeout(PREPARE, preparing).await;
            let result = result.unwrap_or_else(|_| Err(format!("not ready within {PREPARE:?}")));
            if chamber.done(&result, &ids, now_ms) {
                chamber.ready.notify_one();
            }
        }));
        false
    }

    fn done(&self, result: &Result<(), String>, ids: &[RaftId], now_ms: u64) -> bool {
        match result {
            Ok(()) => self.lock().extend(ids.iter().map(|id| (*id, now_ms))),
            Err(why) => tracing::info!(?ids, why, "masters: candidates are not ready"),
        }
        self.busy.store(false, Ordering::Relaxed);
        result.is_ok()
    }

    fn empty(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RaftId, u64>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A host that is a member twice has come back under a new id: whoever bears the lower one is gone for good.
fn former_lives(members: &BTreeMap<RaftId, Member>) -> Vec<RaftId> {
    let newest: BTreeMap<&str, RaftId> = members.iter().map(|(id, member)| (member.host.as_str(), *id)).collect();
    members.iter().filter(|(id, member)| newest[member.host.as_str()] != **id).map(|(id, _)| *id).collect()
}

async fn carry_out<G: Ground, M: Machine>(
    replica: &Replica<G, M>,
    step: &Step,
    decided_on: u64,
) -> Result<(), ChangeError> {
    match &step.deed {
        Deed::Finish => replica.complete(decided_on).await,
        Deed::Transfer { to } => replica.transfer(*to).await,
        Deed::RemoveLearners { leave } => replica.remove(leave.clone(), decided_on).await,
        Deed::Replace { .. } | Deed::Grow { .. } | Deed::Shrink { .. } | Deed::Spread { .. } => {
            replica.appoint(step.voters.clone(), decided_on).await
        }
    }
}
