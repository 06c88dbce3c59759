//! Who is in the mesh, as `mgmt members` shows it: the registry says who, the membership who is a master, the leader how
//! they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mgmt_consensus::PeerId;
use mgmt_consensus::replica::Standing;
use mgmt_consensus::types::RaftId;
use mgmt_store::HostName;
use serde_json::{Value, json};

use super::super::surroundings::Seen;
use super::status::age_ms;
use crate::cli::Failure;
use crate::mesh::Mesh;
use crate::mesh::node::Node;

/// Heard of within this, a member is up.
const UP_MS: u64 = 2_000;
/// Not heard of for longer than this, it is down: a master is replaced by then.
pub(in crate::mesh) const DOWN_MS: u64 = 30_000;

/// A member, before it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    host: String,
    peer: PeerId,
    address: Option<String>,
    zone: String,
    is_master: bool,
}

fn voters(standing: &Standing) -> BTreeSet<RaftId> {
    standing.voters().into_iter().flatten().collect()
}

/// The names of the masters, in order.
pub(super) fn masters(standing: &Standing) -> Vec<String> {
    let voters = voters(standing);
    let masters = standing.members().filter(|(id, _)| voters.contains(id));
    masters.map(|(_, member)| member.host.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Whether a host is a master now.
pub(super) fn votes(node: &Node, host: &HostName) -> bool {
    masters(&node.replica.standing()).iter().any(|master| master == host.as_str())
}

/// The leader's name.
pub(super) fn leader(standing: &Standing) -> Option<String> {
    let id = standing.leader?;
    standing.members().find(|(other, _)| *other == id).map(|(_, member)| member.host.clone())
}

/// The place of the leader among the names of all members, in order; -1: there is none.
pub(super) fn leader_place(standing: &Standing) -> i64 {
    let names: BTreeSet<_> = standing.members().map(|(_, member)| member.host.as_str()).collect();
    let leader = leader(standing);
    let place = leader.and_then(|leader| names.iter().position(|name| *name == leader));
    place.and_then(|place| i64::try_from(place).ok()).unwrap_or(-1)
}

/// What `mgmt members` prints.
pub(super) async fn members(mesh: &Mesh, node: Option<Arc<Node>>) -> Result<Value, Failure> {
    let Some(node) = node else {
        // Not a member now: what was known last, if anything was.
        let members = registered(mesh, &BTreeSet::new());
        return Ok(told(&members, None, &BTreeMap::new(), None));
    };
    let standing = node.replica.standing();
    let seen = node.look().await.unwrap_or_default();
    let seen: BTreeMap<_, _> = seen.into_iter().map(|seen| (seen.host.clone(), seen)).collect();
    let voters = voters(&standing);
    let masters: BTreeSet<_> =
        standing.members().filter(|(id, _)| voters.contains(id)).map(|(_, member)| member.peer).collect();
    let mut members = registered(mesh, &masters);
    if members.is_empty() {
        // The registry is not here yet.
        members = standing.members().map(|(_, member)| of_member(&node, member, &masters)).collect();
        members.sort_by(|a, b| a.host.cmp(&b.host));
    }
    let fresh = age_ms(&node).is_some_and(|ms| ms <= UP_MS);
    let leader = leader(&standing).filter(|_| fresh);
    let me = Own { host: node.identity.host.clone(), revision: node.shared.revision().0 };
    Ok(told(&members, leader.as_deref(), &seen, Some(&me)))
}

fn of_member(node: &Node, member: &mgmt_consensus::Member, masters: &BTreeSet<PeerId>) -> Member {
    let listed = node.book.peers().remove(&member.peer).unwrap_or_default();
    Member {
        host: member.host.clone(),
        peer: member.peer,
        address: listed.addresses.first().map(ToString::to_string),
        zone: String::new(),
        is_master: masters.contains(&member.peer),
    }
}

fn registered(mesh: &Mesh, masters: &BTreeSet<PeerId>) -> Vec<Member> {
    mesh.shared().read(|keyspace| {
        let member = |(host, peer): (HostName, mgmt_store::record::Peer)| Member {
            host: host.as_str().to_owned(),
            peer: peer.peer,
            address: peer.addresses.first().map(ToString::to_string),
            zone: peer.zone.join("/"),
            is_master: masters.contains(&peer.peer),
        };
        keyspace.peers().map(member).collect()
    })
}

/// This host itself.
struct Own {
    host: String,
    revision: u64,
}

/// How a member is called: by what the leader has heard; without a leader nobody knows of anybody but himself.
fn told(members: &[Member], leader: Option<&str>, seen: &BTreeMap<String, Seen>, own: Option<&Own>) -> Value {
    let member = |member: &Member| {
        let is_own = own.is_some_and(|own| own.host == member.host);
        let heard = seen.get(&member.host).filter(|_| leader.is_some());
        let leads = leader == Some(member.host.as_str());
        let state = match heard.map(|heard| heard.silent_ms) {
            _ if is_own || leads => "up",
            Some(0..=UP_MS) => "up",
            Some(..=DOWN_MS) => "suspect",
            Some(_) => "down",
            // The leader has not looked yet, or there is none; or it is let in and not in the group yet.
            None => "suspect",
        };
        let revision = if is_own { own.map(|own| own.revision) } else { heard.and_then(|heard| heard.revision) };
        json!({
            "host": member.host,
            "peer": member.peer.to_string(),
            "role": if member.is_master { "master" } else { "learner" },
            "state": state,
            "address": member.address,
            "zone": member.zone,
            "revision": revision,
        })
    };
    json!({"leader": leader, "members": members.iter().map(member).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(host: &str, is_master: bool) -> Member {
        Member { host: host.to_owned(), peer: PeerId(1), address: None, zone: String::new(), is_master }
    }

    fn states(told: &Value) -> Vec<(&str, &str)> {
        let members = told["members"].as_array().unwrap();
        members.iter().map(|m| (m["host"].as_str().unwrap(), m["state"].as_str().unwrap())).collect()
    }

    #[test]
    fn states_are_what_the_leader_has_heard() {
        let members: Vec<_> = ["a", "b", "c", "d"].map(|host| member(host, host != "d")).to_vec();
        let seen =
            |host: &str, silent_ms| (host.to_owned(), Seen { host: host.to_owned(), silent_ms, revision: Some(7) });
        let seen = BTreeMap::from([seen("b", 100), seen("c", 5_000), seen("d", 40_000)]);
        let own = Own { host: "a".to_owned(), revision: 9 };
        let led = told(&members, Some("a"), &seen, Some(&own));
        assert_eq!(states(&led), [("a", "up"), ("b", "up"), ("c", "suspect"), ("d", "down")]);
        assert_eq!((&led["members"][0]["revision"], &led["members"][1]["revision"]), (&json!(9), &json!(7)));
        assert_eq!((&led["leader"], &led["members"][3]["role"]), (&json!("a"), &json!("learner")));
        let lost = told(&members, None, &seen, Some(&own));
        assert_eq!(states(&lost), [("a", "up"), ("b", "suspect"), ("c", "suspect"), ("d", "suspect")]);
        assert!(lost["leader"].is_null());
    }
}
