//! How the mesh stands, seen from this host, without asking anybody: also while there is no quorum.

use mgmt_store::Keyspace;
use serde_json::{Value, json};

use super::members;
use crate::events::rfc3339;
use crate::mesh::node::Node;
use crate::mesh::surroundings::QUORUM_MS;
use crate::mesh::{Mesh, Stage};

/// How old what this host has may be: since when it heard of nobody who has a quorum. `None`: it never has.
pub(super) fn age_ms(node: &Node) -> Option<u64> {
    if let Some(seen) = node.replica.observe() {
        return seen.quorum_ack_ms;
    }
    if let Some(alone) = node.alone_ms() {
        // It was so for a while when it was first said.
        return Some(alone + QUORUM_MS + 1);
    }
    let silence = u64::try_from(node.replica.silence().as_millis()).unwrap_or(u64::MAX);
    // At the beginning of its life nobody was heard.
    (silence < node.replica.now_ms().saturating_sub(1)).then_some(silence)
}

/// What `mgmt status` says of the mesh.
#[must_use]
pub fn status(mesh: &Mesh) -> Value {
    let (stage, why) = match mesh.stage() {
        Stage::Coming(why) => ("coming", Some(why)),
        Stage::Member => ("member", None),
        Stage::Left => ("left", None),
        Stage::Stopped(why) => ("stopped", Some(why)),
        Stage::Outdated(why) => ("outdated", Some(why)),
    };
    let (revision, ideal) = (mesh.shared().revision().0, mesh.shared().read(Keyspace::ideal_size));
    let mut status = json!({
        "stage": stage,
        "why": why,
        "revision": revision,
        "ideal": ideal,
        "level": mesh.shared().read(Keyspace::feature_level),
        "role": null,
        "leads": false,
        "leader": null,
        "term": null,
        "quorum": false,
        "age_ms": null,
        "masters": [],
        "changing": false,
        "learners": 0,
    });
    if let Some(node) = mesh.node() {
        of_node(&mut status, &node);
    }
    status
}

fn of_node(status: &mut Value, node: &Node) {
    let standing = node.replica.standing();
    let age_ms = age_ms(node);
    let masters = members::masters(&standing);
    let has_quorum = standing.leader.is_some() && age_ms.is_some_and(|ms| ms <= QUORUM_MS) && standing.fault.is_none();
    status["cluster"] = node.identity.cluster.to_string().into();
    status["peer"] = node.identity.peer.to_string().into();
    status["raft_id"] = standing.id.into();
    status["may"] = node.role.word().into();
    status["address"] = node.setup.endpoint.local_address().to_string().into();
    // By its own id: what a former life of this host was is no merit of this one.
    status["role"] = if node.votes() { "master" } else { "learner" }.into();
    status["leads"] = node.replica.leads().is_some().into();
    status["leader"] = members::leader(&standing).into();
    status["term"] = standing.term.into();
    status["quorum"] = has_quorum.into();
    status["age_ms"] = age_ms.into();
    status["learners"] = standing.members().count().saturating_sub(masters.len()).into();
    status["masters"] = masters.into();
    // While masters are exchanged, both the old set and the new one must agree to every write.
    status["changing"] = (standing.voters().len() > 1).into();
    status["removed"] = standing.removed.into();
    if let Some(fault) = standing.fault {
        status["why"] = fault.into();
    }
    // What the choice of masters did while this host led, the latest last.
    let steps = node.surroundings.steps().into_iter().map(|step| {
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(step.at_ms);
        let (done, error) = match step.result {
            None => (None, None),
            Some(Ok(())) => (Some(true), None),
            Some(Err(why)) => (Some(false), Some(why)),
        };
        json!({"at": rfc3339(at), "step": step.sentence, "done": done, "error": error})
    });
    status["steps"] = steps.collect::<Vec<_>>().into();
}
