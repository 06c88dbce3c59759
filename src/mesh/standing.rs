//! What a host says of itself to those who wait for the whole mesh: whether it is converged, and as of which revision.
//!
//! A host may be quiet because it has not heard yet of what another exports. So it says up to which revision its graph
//! corresponds to the store, and whoever waits compares that with the last change of any exports.

use std::sync::OnceLock;

use mgmt_store::{Keyspace, Space};
use serde::{Deserialize, Serialize};

/// How a host stands, for those who wait. What a version does not tell, holds up nobody for the wrong reason: it is not
/// converged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// It is converged for its own reasons, whatever the others are.
    pub converged: bool,
    /// For how long it has been quiet, if it is.
    pub quiet_ms: Option<u64>,
    /// The revision of the store to which its graph corresponds.
    pub settled: u64,
    /// It has something to publish that the store does not have yet.
    pub publishing: bool,
    /// The last change of any exports that it knows of.
    pub exports: u64,
    /// Its run is at its end: it counts no more, however it is.
    pub ended: bool,
}

/// How far this host's graph corresponds to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The engine has been given the graph as of this revision.
    pub settled: u64,
    /// Something is on its way to the store.
    pub publishing: bool,
}

/// Asks the exchange how far it is; `None`: nobody knows just now.
pub type Probe = Box<dyn Fn() -> Option<View> + Send + Sync>;

/// Where those who are asked ask the exchange. While there is none, nothing in the store concerns the graph, and it
/// always corresponds.
#[derive(Default)]
pub struct Exchanged(OnceLock<Probe>);

impl std::fmt::Debug for Exchanged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exchanged")
    }
}

impl Exchanged {
    /// From now on this is asked. Only the first is taken: a run has one exchange.
    pub fn attend(&self, probe: Probe) {
        if self.0.set(probe).is_err() {
            tracing::error!("mesh: there is an exchange already");
        }
    }

    /// How far it is, where `now` is the revision of the store.
    #[must_use]
    pub fn get(&self, now: u64) -> View {
        let Some(probe) = self.0.get() else { return View { settled: now, publishing: false } };
        // Between two lives, what is known is of an earlier state.
        probe().unwrap_or(View { settled: 0, publishing: true })
    }
}

/// The revision of the last change of any host's exports; 0 if nobody ever had any. Costs two look-ups a host.
#[must_use]
pub fn exports_at(keyspace: &Keyspace) -> u64 {
    let (mut last, mut from) = (0, Space::Exports.prefix().to_owned());
    // Keys are bytes below 0xff, so this is behind the last of them.
    let end = "x0";
    loop {
        let Some((key, entry)) = keyspace.range(&from, end).next() else { return last };
        from = match key.export() {
            // The manifest: it is written with every change. What comes next may be an export of this host, or one of
            // another whose name goes on with a character before the slash.
            None => {
                last = last.max(entry.modify.0);
                format!("{key}\0")
            }
            // '0' comes right behind the slash: this is behind all exports of this host.
            Some(_) => format!("x/{}0", key.host().unwrap_or_default()),
        };
    }
}

#[cfg(test)]
mod tests {
    use mgmt_consensus::PeerId;
    use mgmt_store::command::ExportChange;
    use mgmt_store::record::{Peer, Versions};
    use mgmt_store::{Body, Command, HostName, Origin, Request, Revision, Role};

    use super::*;

    fn peer_of(host: &HostName) -> PeerId {
        PeerId(host.as_str().bytes().fold(0, |sum, byte| sum << 8 | u128::from(byte)))
    }

    /// Applies it at the next revision.
    fn apply(keyspace: &mut Keyspace, host: &str, body: Body) {
        let host = HostName::parse(host).unwrap();
        let origin = Origin { peer: peer_of(&host), host, role: Role::Admin };
        let revision = Revision(keyspace.revision().0 + 1);
        let command = Command { origin, at_ms: 60_000 * revision.0, request: Request::plain(body) };
        let outcome = keyspace.apply(revision, command, &mut Vec::new());
        assert!(outcome.result.is_ok(), "{outcome:?}");
    }

    fn admit(host: &str) -> Body {
        let versions = Versions { min: 1, max: 1 };
        let (addresses, zone) = (Vec::new(), Vec::new());
        let host = HostName::parse(host).unwrap();
        let (peer, role, admitted) = (peer_of(&host), Role::Admin, Revision(0));
        let peer = Peer { peer, role, addresses, zone, versions, key_hash: [0; 32], admitted };
        Body::PeerAdmit { host, peer, replace: false }
    }

    fn flip(names: &[&str]) -> Body {
        let change =
            |name: &&str| ExportChange { kind: "file".into(), name: (*name).into(), value: Some(b"x"[..].into()) };
        let changes = names.iter().map(change).collect();
        Body::ExportFlip { generation: 1, base: Revision(0), staged: 0, changes }
    }

    #[test]
    fn without_an_exchange_all_is_settled() {
        let exchanged = Exchanged::default();
        assert_eq!(exchanged.get(9), View { settled: 9, publishing: false });
        exchanged.attend(Box::new(|| Some(View { settled: 4, publishing: true })));
        assert_eq!(exchanged.get(9), View { settled: 4, publishing: true });
    }

    #[test]
    fn the_last_change_is_found_whosever_it_is() {
        // Names that lie before, between and behind each other's exports.
        let hosts = ["web1", "web1-a", "web1.b", "web10", "web2"];
        for last in hosts {
            let mut keyspace = Keyspace::default();
            hosts.iter().for_each(|host| apply(&mut keyspace, "web1", admit(host)));
            assert_eq!(exports_at(&keyspace), 0);
            for host in hosts.iter().filter(|host| **host != last).chain([&last]) {
                apply(&mut keyspace, host, flip(&["a", "b/c", "~"]));
            }
            let revision = keyspace.revision().0;
            apply(&mut keyspace, "web1", Body::IdealSize { masters: 3 });
            assert_eq!(exports_at(&keyspace), revision, "{last}");
        }
    }
}
