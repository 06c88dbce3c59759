//! Carries out what [`crate::masters`] decides: looks, asks, changes, and looks again. On the leader; everybody else
//! only forgets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::AsyncRuntime;

use crate::ground::Ground;
use crate::machine::Machine;
use crate::masters::{Census, Deed, Policy, Profile, Step, Watchman, choose};
use crate::replica::{ChangeError, Replica};
use crate::types::{Member, RaftId};

/// What is known of the members beyond the log: what they say of themselves, and what the cluster has laid down.
pub trait Roster: Send + Sync + 'static {
    /// What speaks for these members as masters, and against. Of whom nothing is known is left out.
    fn profiles(&self, members: &BTreeMap<RaftId, Member>) -> BTreeMap<RaftId, Profile>;

    /// How many masters are wished for: one of [`Policy::IDEALS`].
    fn ideal(&self) -> usize;

    /// Hears of every look and of the step that follows from it, before it is carried out.
    fn looked(&self, _census: &Census, _step: Option<&Step>) {}

    /// Hears how a step ended.
    fn ended(&self, _step: &Step, _result: &Result<(), ChangeError>) {}
}

/// Looks after the masters for as long as the replica lives.
pub async fn appoint<G: Ground, M: Machine>(replica: Replica<G, M>, roster: Arc<dyn Roster>, policy: Policy) {
    let pause = Duration::from_millis(policy.look_every_ms);
    let mut watchman = Watchman::new(policy);
    while !replica.has_stopped() {
        look(&replica, &roster, &mut watchman);
        <G::Runtime as AsyncRuntime>::sleep(pause).await;
    }
}

fn look<G: Ground, M: Machine>(replica: &Replica<G, M>, roster: &Arc<dyn Roster>, watchman: &mut Watchman) {
    let Some(seen) = replica.observe() else {
        watchman.forget();
        return;
    };
    let mut profiles = roster.profiles(&seen.members);
    for former in former_lives(&seen.members) {
        profiles.entry(former).or_default().lost_data = true;
    }
    let census = watchman.observe(&seen, &profiles, roster.ideal());
    let step = choose(&census, watchman.policy());
    roster.looked(&census, step.as_ref());
    let Some(step) = step else { return };
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
