//! When the mesh begins to use what all of it understands. Hosts of two versions live together while it is upgraded; the
//! level that is in force says what may enter the log. The leader raises it, and it never falls.
//!
//! There is no clock in here: moments are milliseconds of the leader's monotonic clock.

use crate::keyspace::Keyspace;

/// How long all must have understood a level before it is raised: one that is rolled back at once has time to.
pub const STABLE_MS: u64 = 10_000;

/// What the leader has seen of it. Empty on whoever has just begun to lead.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rising {
    /// The level that all understand, and since when.
    seen: Option<(u32, u64)>,
}

impl Rising {
    /// The level to raise to now, if there is one: all in the registry have understood it for a while.
    #[must_use]
    pub fn due(&mut self, now_ms: u64, state: &Keyspace) -> Option<u32> {
        let Some(level) = understood(state).filter(|level| *level > state.feature_level()) else {
            self.seen = None;
            return None;
        };
        let since_ms = match self.seen {
            Some((seen, since_ms)) if seen == level => since_ms,
            _ => now_ms,
        };
        self.seen = Some((level, since_ms));
        (now_ms.saturating_sub(since_ms) >= STABLE_MS).then_some(level)
    }
}

/// The highest level that everybody in the registry understands.
fn understood(state: &Keyspace) -> Option<u32> {
    let level = state.peers().map(|(_, peer)| peer.versions.max).min()?;
    state.peers().all(|(_, peer)| peer.versions.min <= level).then_some(level)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mgmt_consensus::PeerId;

    use super::*;
    use crate::record::{Peer, Versions};
    use crate::{Body, Command, HostName, Origin, Request, Revision, Role};

    fn host(name: &str) -> HostName {
        HostName::parse(name).unwrap()
    }

    struct World(Keyspace, u64);

    impl World {
        fn apply(&mut self, body: Body) {
            self.1 += 1;
            let origin = Origin { host: host("a"), peer: PeerId(1), role: Role::Admin };
            let command = Command { origin, at_ms: 0, request: Request::plain(body) };
            let outcome = self.0.apply(Revision(self.1), command, &mut Vec::new());
            assert!(outcome.result.is_ok(), "{outcome:?}");
        }

        fn admit(&mut self, name: &str, peer: u128, max: u32) {
            let peer = Peer {
                peer: PeerId(peer),
                role: Role::Admin,
                addresses: Vec::new(),
                zone: Vec::new(),
                versions: Versions { min: 0, max },
                key_hash: [0; 32],
                admitted: Revision(0),
            };
            self.apply(Body::PeerAdmit { host: host(name), peer, replace: false });
        }

        fn upgrade(&mut self, name: &str, max: u32) {
            let (addresses, zone) = (Vec::<Arc<str>>::new(), Vec::<Arc<str>>::new());
            let versions = Versions { min: 0, max };
            self.apply(Body::PeerUpdate { host: host(name), addresses, zone, versions, key_hash: [0; 32] });
        }
    }

    #[test]
    fn it_rises_once_the_last_one_understands_it_and_has_for_a_while() {
        let mut world = World(Keyspace::default(), 0);
        let mut rising = Rising::default();
        assert_eq!(rising.due(0, &world.0), None, "nobody is there");
        world.admit("a", 1, 3);
        world.admit("b", 2, 1);
        assert_eq!(rising.due(100_000, &world.0), None, "b does not understand more than is in force");
        world.upgrade("b", 2);
        assert_eq!(rising.due(200_000, &world.0), None);
        assert_eq!(rising.due(205_000, &world.0), None);
        world.upgrade("b", 1);
        assert_eq!(rising.due(207_000, &world.0), None, "rolled back");
        world.upgrade("b", 3);
        assert_eq!(rising.due(208_000, &world.0), None);
        assert_eq!(rising.due(217_999, &world.0), None);
        assert_eq!(rising.due(218_000, &world.0), Some(3), "the lowest of all their highest");
        world.apply(Body::FeatureLevel { level: 3 });
        assert_eq!(rising.due(300_000, &world.0), None);
        assert_eq!(world.0.feature_level(), 3);
    }
}
