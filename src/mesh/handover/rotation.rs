//! Another authority in the place of the one there is: after a master was lost to somebody else, who has its key.
//!
//! All masters get the new key before anything is signed with it, and a certificate of it that the former authority has
//! signed: whoever was away and knows the former one alone believes what the new one signs. Members hear whom to
//! believe within a minute and renew their certificates within a few more. The former authority is dropped when all
//! hosts of the registry have a certificate of the new one; a host that does not come back is removed first.

use mgmt_consensus::authority::{Authority, Certificate};
use mgmt_consensus::types::{Member, RaftId};
use mgmt_store::replicated::Read;
use mgmt_store::{HostName, Role};
use tokio::task::JoinSet;

use super::{HAND, LATEST, Steward, aside, hand_over, kept};
use crate::mesh::surroundings::unix_ms;

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
        self.spread(next, believed).await?;
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

    /// Drops former authorities that nobody needs any more: on the leader. `settled`: whether a host has a certificate of
    /// the authority with this key hash.
    pub(super) async fn drop_former(&self, settled: impl Fn(&str, &[u8; 32]) -> bool) {
        let (Some(authority), Some(_)) = (self.keyring.authority(), self.replica.leads()) else { return };
        if self.keyring.papers().authorities.len() < 2 {
            return;
        }
        let newest = authority.certificate().key_hash();
        let hosts: Vec<HostName> = self.shared.read(|store| store.peers().map(|(host, _)| host).collect());
        if hosts.is_empty() || !hosts.iter().all(|host| settled(host.as_str(), &newest)) {
            return;
        }
        let only = vec![authority.certificate().clone()];
        match self.spread(authority, only).await {
            Ok(()) => tracing::info!("mesh: nobody has a certificate of the former authority any more: it was dropped"),
            Err(why) => tracing::debug!(why, "the former authority stays for now"),
        }
    }
}
