//! Who may do what.

use super::{Tables, Turn};
use crate::command::{Body, Op, Origin};
use crate::host::matches;
use crate::key::{Key, Space};
use crate::outcome::{Denied, Refusal, Role};

/// What leaders do for everybody: it is not counted against their hosts.
pub(super) fn keeps_the_mesh(body: &Body) -> bool {
    matches!(
        body,
        Body::LeaseExpire { .. } | Body::PeerAdmit { .. } | Body::TokenConsume { .. } | Body::FeatureLevel { .. }
    )
}

/// Whether a role may use this command at all. Whose things it may touch is checked where they are known.
pub(super) fn may_use(role: Role, origin: &Origin, body: &Body) -> Result<(), Refusal> {
    let (least, denied) = match body {
        Body::Put { .. }
        | Body::Delete { .. }
        | Body::DeletePrefix { .. }
        | Body::Txn(_)
        | Body::LeaseGrant { .. }
        | Body::LeaseRevoke { .. }
        | Body::Acquire { .. }
        | Body::Release { .. }
        | Body::ExportStage { .. }
        | Body::ExportFlip { .. }
        | Body::SessionOpen
        | Body::SessionClose { .. } => (Role::Agent, Denied::Role),
        Body::PeerUpdate { host, .. } | Body::PeerRemove { host } if *host == origin.host => {
            (Role::Agent, Denied::Role)
        }
        Body::PeerUpdate { .. } | Body::PeerRemove { .. } => (Role::Admin, Denied::Owner),
        body if keeps_the_mesh(body) => (Role::Master, Denied::Role),
        _ => (Role::Admin, Denied::Role),
    };
    if role >= least { Ok(()) } else { Err(Refusal::NotAllowed(denied)) }
}

impl Turn<'_> {
    /// Whether the origin may make this change.
    pub(super) fn may(&self, op: &Op) -> Result<(), Refusal> {
        let denied = match op {
            Op::Put { key, .. } | Op::Delete { key } => self.denied(key),
            Op::DeletePrefix { prefix } => match Space::of(prefix.as_str()) {
                Some(Space::Keys | Space::Maps) if self.role == Role::Admin => None,
                Some(Space::Keys) => (!self.tables.allows(self.origin, prefix.as_str())).then_some(Denied::Prefix),
                Some(Space::Maps) => Some(Denied::Role),
                _ => Some(Denied::Space),
            },
        };
        denied.map_or(Ok(()), |denied| Err(Refusal::NotAllowed(denied)))
    }

    fn denied(&self, key: &Key) -> Option<Denied> {
        match key.space() {
            Space::Exports | Space::Locks | Space::Mesh => Some(Denied::Space),
            _ if self.role == Role::Admin => None,
            Space::Keys => (!self.tables.allows(self.origin, key.as_str())).then_some(Denied::Prefix),
            Space::Maps => (key.host() != Some(self.origin.host.as_str())).then_some(Denied::Owner),
        }
    }

    /// Whether something that belongs to a host may be touched.
    pub(super) fn owns(&self, host: &str) -> Result<(), Refusal> {
        if self.role == Role::Admin || host == self.origin.host.as_str() {
            Ok(())
        } else {
            Err(Refusal::NotAllowed(Denied::Owner))
        }
    }
}

impl Tables {
    /// Whether a rule lets the host write what begins so.
    fn allows(&self, origin: &Origin, key: &str) -> bool {
        let rules = Key::RULES;
        let mut rules = self.keys.from(rules).map_while(|(key, _)| key.as_str().strip_prefix(rules)?.split_once('/'));
        rules.any(|(hosts, prefix)| {
            matches(hosts, origin.host.as_str()) && key[Space::Keys.prefix().len()..].starts_with(prefix)
        })
    }
}
