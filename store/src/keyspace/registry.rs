//! The registry: which peers there are, under which hosts' names.

use std::sync::Arc;

use super::Turn;
use crate::host::HostName;
use crate::key::Key;
use crate::limits::{ADDRESS_BYTES_MAX, ADDRESSES_MAX, PEERS_MAX, ZONE_PARTS_MAX};
use crate::outcome::{Clash, Denied, Done, Missing, Quota, Refusal, Role};
use crate::record::{Peer, Versions};

impl Turn<'_> {
    pub(super) fn peer_admit(&mut self, host: &HostName, mut peer: Peer, replace: bool) -> Result<Done, Refusal> {
        self.fits(&peer.addresses, &peer.zone, peer.versions)?;
        if self.derived.peers.get(&peer.peer).is_some_and(|other| other != host) {
            return Err(Refusal::Conflict(Clash::PeerTaken));
        }
        match self.derived.members.get(host) {
            None if self.derived.members.len() >= PEERS_MAX => return Err(Refusal::QuotaExceeded(Quota::Peers)),
            // The founder: somebody has to be able to administer what begins here.
            None if self.derived.members.is_empty() && self.role.min(peer.role) < Role::Admin => {
                return Err(Refusal::NotAllowed(Denied::Role));
            }
            Some((known, _)) if *known != peer.peer && !replace => return Err(Refusal::Conflict(Clash::HostTaken)),
            Some(_) if peer.role < Role::Admin => self.admin_besides(host)?,
            _ => {}
        }
        peer.admitted = self.revision();
        self.derived.member(host.clone(), peer.peer, peer.role);
        self.write_record(Key::peer(host), &peer);
        Ok(Done::Applied)
    }

    pub(super) fn peer_update(
        &mut self,
        host: &HostName,
        addresses: Vec<Arc<str>>,
        zone: Vec<Arc<str>>,
        versions: Versions,
        key_hash: [u8; 32],
    ) -> Result<Done, Refusal> {
        self.fits(&addresses, &zone, versions)?;
        let before = self.tables.peer(host).ok_or(Refusal::NotFound(Missing::Peer))?;
        let peer = Peer { addresses, zone, versions, key_hash, ..before.clone() };
        if peer == before {
            return Ok(Done::Unchanged);
        }
        self.write_record(Key::peer(host), &peer);
        Ok(Done::Applied)
    }

    pub(super) fn peer_remove(&mut self, host: &HostName) -> Result<Done, Refusal> {
        if !self.derived.members.contains_key(host) {
            return Err(Refusal::NotFound(Missing::Peer));
        }
        self.admin_besides(host)?;
        self.derived.no_member(host);
        self.erase(Key::peer(host).as_str());
        Ok(Done::Applied)
    }

    /// The lowest level that some peer does not go beyond, or go along with, must be the one in force.
    pub(super) fn feature_level(&mut self, level: u32) -> Result<Done, Refusal> {
        let now = self.tables.feature_level();
        if level == now {
            return Ok(Done::Unchanged);
        }
        let understood = |host| self.tables.peer(host).is_some_and(|peer| peer.versions.understand(level));
        if level < now || !self.derived.members.keys().all(understood) {
            return Err(Refusal::Conflict(Clash::FeatureLevel));
        }
        self.write_record(Key::feature_level(), &level);
        Ok(Done::Applied)
    }

    /// Whether what a peer says of itself is within bounds, and it understands what is in use.
    fn fits(&self, addresses: &[Arc<str>], zone: &[Arc<str>], versions: Versions) -> Result<(), Refusal> {
        let short = |text: &Arc<str>| {
            (1..=ADDRESS_BYTES_MAX).contains(&text.len()) && !text.chars().any(|c| c.is_control() || c == '/')
        };
        let bounded = addresses.len() <= ADDRESSES_MAX && zone.len() <= ZONE_PARTS_MAX;
        if !bounded || !addresses.iter().chain(zone).all(short) || versions.min > versions.max {
            return Err(Refusal::Malformed);
        }
        if !versions.understand(self.tables.feature_level()) {
            return Err(Refusal::Conflict(Clash::FeatureLevel));
        }
        Ok(())
    }

    /// Whether another host is admin.
    fn admin_besides(&self, host: &HostName) -> Result<(), Refusal> {
        let mut others = self.derived.members.iter().filter(|(other, _)| *other != host);
        if others.any(|(_, (_, role))| *role == Role::Admin) {
            Ok(())
        } else {
            Err(Refusal::Conflict(Clash::LastAdmin))
        }
    }
}
