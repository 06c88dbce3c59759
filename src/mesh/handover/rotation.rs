//! Another authority in the place of the one there is: after a master was lost to somebody else, who has its key.
//!
//! All masters get the new key before anything is signed with it, and a certificate of it that the former authority has
//! signed: whoever was away and knows the former one alone believes what the new one signs. Members hear whom to
//! believe within a minute and renew their certificates within a few more. The former authority is dropped when all
//! hosts of the registry have a certificate of the new one; a host that does not come back is removed first.

use std::sync::Arc;
use std::time::Duration;

use mgmt_consensus::PeerId;
use mgmt_consensus::authority::{Authority, Certificate};
use mgmt_consensus::types::{Member, RaftId};
use mgmt_store::replicated::Read;
use mgmt_store::{HostName, Role};
use tokio::task::JoinSet;

use super::{HAND, LATEST, Steward, aside, hand_over, kept};
use crate::mesh::joining::authorities;
use crate::mesh::messages::hand::{Hand, Handed};
use crate::mesh::node::Replica;
use crate::mesh::surroundings::{Surroundings, unix_ms};

/// Between two looks at whether a change is finished.
const LOOK: Duration = Duration::from_secs(10);
/// How long it may take to give another authority to all masters, and to take it back.
const ROTATE: Duration = Duration::from_secs(20);

impl Steward {
    /// Makes another authority, for an admin.
    pub(super) async fn rotate(&self, from: &Member) -> Result<(), String> {
        if self.replica.leads().is_none() {
            return Err("this host does not lead: ask again".to_owned());
        }
        let host = HostName::parse(&from.host).map_err(|error| error.to_string())?;
        let peer = from.peer;
        let admin = self.client.read(Read::Latest(LATEST), |store| {
            store.peer(&host).is_some_and(|known| known.peer == peer && known.role == Role::Admin)
        });
        if !admin.await.map_err(|error| error.to_string())?.value {
            return Err(format!("only an admin makes another authority, and {host} is none"));
        }
        let former = self.keyring.authority().ok_or("this host has no key of the authority")?;
        let believed = self.keyring.papers().authorities;
        if believed.len() > 1 {
            let why = "the last change of the authority is not finished: some hosts still have a certificate of the former \
                       one; let them come back, or remove them";
            return Err(why.to_owned());
        }
        let make = || {
            let next = Authority::create(former.cluster(), unix_ms() / 1000)?;
            let bridge = former.vouch(&next, unix_ms() / 1000)?;
            Ok::<_, mgmt_consensus::authority::IssueError>((next, bridge))
        };
        let (next, bridge) = make().map_err(|error| error.to_string())?;
        let believed = vec![next.certificate().clone(), bridge, former.certificate().clone()];
        let before = self.keyring.papers().authorities;
        if let Err(why) = self.spread(next, believed).await {
            // Those who have it already are to sign as before. Who cannot be told hears it when he asks who signs.
            if let Err(error) = self.spread(former, before).await {
                tracing::warn!("mesh: {error}");
            }
            return Err(why);
        }
        tracing::info!(
            "mesh: there is another authority; certificates are renewed, and the former one is dropped then"
        );
        Ok(())
    }

    /// Gives an authority to all masters, here last. One that cannot be reached stops it: nothing is signed by the new
    /// one then where it matters, because who has it asks whoever leads.
    async fn spread(&self, next: Authority, believed: Vec<Certificate>) -> Result<(), String> {
        let message = hand_over(&next, &believed).write().map_err(|error| error.to_string())?;
        let standing = self.replica.standing();
        let others: Vec<RaftId> = standing.voters().into_iter().flatten().filter(|id| *id != standing.id).collect();
        let mut handing = JoinSet::new();
        for id in others {
            let (replica, message) = (self.replica.clone(), message.clone());
            handing.spawn(async move {
                let answer = replica.hand(id, message, HAND).await;
                answer.map_err(|error| error.to_string()).and_then(|answer| kept(&answer))
            });
        }
        while let Some(handed) = handing.join_next().await {
            let handed = handed.unwrap_or_else(|error| Err(error.to_string()));
            handed
                .map_err(|why| format!("a master has not taken the new authority: {why}; ask again when all are up"))?;
        }
        let (keyring, key) = (self.keyring.clone(), next.key().clone());
        aside(move || keyring.keep(believed, key)).await
    }

    /// Finishes what was begun, for as long as it is polled: drops former authorities on the leader once nobody needs
    /// them, and on other masters goes along with the leader.
    pub async fn settle(self, surroundings: Arc<Surroundings>) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.replica.leads().is_some() {
                self.drop_former(&surroundings).await;
            } else if self.keyring.authority().is_some() {
                self.follow().await;
            }
        }
    }

    /// A master that was away, or was left behind by a change that was not carried out, signs as the leader does.
    async fn follow(&self) {
        let Some(leader) = self.replica.standing().leader else { return };
        let Ok(message) = Hand::Authorities.write() else { return };
        let Ok(answer) = self.replica.hand(leader, message, HAND).await else { return };
        let Ok(Handed::Authorities { authorities: theirs }) = Handed::read(&answer) else { return };
        if authorities(&theirs).is_ok_and(|theirs| theirs != self.keyring.papers().authorities) {
            self.fetch_from(&[leader]).await;
        }
    }

    async fn drop_former(&self, surroundings: &Surroundings) {
        let Some(authority) = self.keyring.authority() else { return };
        if self.keyring.papers().authorities.len() < 2 {
            return;
        }
        let newest = authority.certificate().key_hash();
        let peers: Vec<PeerId> = self.shared.read(|store| store.peers().map(|(_, known)| known.peer).collect());
        if peers.is_empty() || !peers.iter().all(|peer| surroundings.is_signed_by(*peer, &newest)) {
            return;
        }
        let only = vec![authority.certificate().clone()];
        match self.spread(authority, only).await {
            Ok(()) => tracing::info!("mesh: nobody has a certificate of the former authority any more: it was dropped"),
            Err(why) => tracing::debug!(why, "the former authority stays for now"),
        }
    }
}

/// Has whoever leads make another authority.
///
/// # Errors
/// In words, why there is none.
pub async fn rotate(replica: &Replica) -> Result<(), String> {
    let leader = replica.standing().leader.ok_or("there is no leader just now")?;
    let message = Hand::Rotate.write().map_err(|error| error.to_string())?;
    let answer = replica.hand(leader, message, ROTATE).await.map_err(|error| error.to_string())?;
    kept(&answer)
}
