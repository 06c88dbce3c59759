//! The first moments of a replica. After a restart of all nobody leads, and nobody need wait until his patience is at an
//! end to find that out: whoever comes up asks the other voters. Once a quorum says that it knows no leader, the one with
//! the longest log stands for election at once, and the others only if nothing comes of it.
//!
//! It is a shortcut and nothing else: votes are given by the same rules, and without it openraft's timers do the same a
//! second later. A leader who lives is not disturbed: his followers know him, and say so.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use openraft::async_runtime::WatchReceiver as _;
use openraft::{AsyncRuntime, Instant as _};

use super::{Replica, Runtime};
use crate::ground::Ground;
use crate::machine::Machine;
use crate::transport::Lane;
use crate::types::{LogId, RaftId};
use crate::wire::{Answer, Request, Role};

/// How long a replica is new.
const YOUTH: Duration = Duration::from_secs(10);
/// Between two rounds of questions.
const ROUND: Duration = Duration::from_millis(50);
/// How long a voter may take to answer: he reads it from memory, unless he is just coming up himself and silent.
const GLANCE: Duration = Duration::from_millis(100);

/// What the others say.
enum Muster {
    /// Somebody leads, or too few have answered.
    Wait,
    /// A quorum knows no leader; so many of it should stand before this one.
    Rank(u32),
}

/// Looks for a leader, and for a quorum without one, until there is one.
pub(super) async fn awaken<G: Ground, M: Machine>(replica: Replica<G, M>) {
    let mut leaderless = None;
    while !replica.has_stopped() && replica.now_ms() < u64::try_from(YOUTH.as_millis()).unwrap_or(u64::MAX) {
        if replica.0.heard.load(Ordering::Relaxed) || replica.leads().is_some() {
            return;
        }
        match replica.muster().await {
            Muster::Wait => leaderless = None,
            Muster::Rank(rank) => {
                let now = <Runtime<G> as AsyncRuntime>::Instant::now();
                let since = *leaderless.get_or_insert(now);
                if now - since >= replica.0.settings.election_min * rank {
                    if replica.stand().await.is_err() {
                        return;
                    }
                    // A round of questions and one of votes; whoever is next waits as long.
                    Runtime::<G>::sleep(replica.0.settings.election_min).await;
                    continue;
                }
            }
        }
        Runtime::<G>::sleep(ROUND).await;
    }
}

impl<G: Ground, M: Machine> Replica<G, M> {
    /// Asks the other voters whether they know a leader.
    async fn muster(&self) -> Muster {
        let (configs, others) = {
            let metrics = self.0.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let membership = metrics.membership_config.membership();
            let votes = |id: &RaftId| membership.get_joint_config().iter().any(|set| set.contains(id));
            if !votes(&self.id()) {
                return Muster::Wait;
            }
            let others = membership.nodes().filter(|(id, _)| **id != self.id() && votes(id));
            let others: Vec<_> = others.map(|(id, member)| (*id, member.peer)).collect();
            (membership.get_joint_config().clone(), others)
        };
        let asked = others.into_iter().map(|to| self.0.shared.ask(to, Lane::Client, &Request::Standing, GLANCE));
        let own = self.0.raft.data_metrics().borrow_watched().last_log;
        let mut without: BTreeMap<RaftId, Option<LogId>> = BTreeMap::from([(self.id(), own)]);
        for answer in join_all(asked).await {
            let Ok(Answer::Standing(standing)) = answer else { continue };
            if standing.leader.is_some() || standing.role == Role::Leader {
                return Muster::Wait;
            }
            if standing.fault.is_none() {
                without.insert(standing.raft_id, standing.last);
            }
        }
        let quorum = configs.iter().all(|set| set.iter().filter(|id| without.contains_key(id)).count() > set.len() / 2);
        if !quorum {
            return Muster::Wait;
        }
        let before = |(id, last): (&RaftId, &Option<LogId>)| *last > own || (*last == own && *id < self.id());
        Muster::Rank(u32::try_from(without.iter().filter(|entry| before(*entry)).count()).unwrap_or(u32::MAX))
    }
}
