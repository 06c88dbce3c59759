//! How every peer of the mesh is: in its own words where it answers, else what is known of it here. All are asked at the
//! same time, so that those that are gone cost one deadline together, and nobody needs a quorum.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::members;
use crate::mesh::Mesh;
use crate::mesh::inquiry::{AskError, Asked, ask_all};
use crate::mesh::messages::inquiry::{Answer, HostStatus, Inquiry};

/// Whoever has not answered by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a member said, or why it said nothing.
type Said = Result<HostStatus, String>;

/// What `mgmt status` says of all peers; none where this host is no member now.
pub(super) async fn peers(mesh: &Mesh) -> Value {
    let Some(node) = mesh.node() else { return json!([]) };
    let asking = ask_all(mesh.runtime(), &node.replica, &Inquiry::Status {}, PATIENCE);
    let (members, asked) = tokio::join!(members::members(mesh, Some(node.clone())), asking);
    // It fails for nobody who is a member.
    let members = members.unwrap_or_default();
    told(&members, &said(asked))
}

/// What each host said. A host that came back under another id may be there twice: then the one that speaks counts.
fn said(asked: Vec<Asked>) -> BTreeMap<String, Said> {
    let mut said = BTreeMap::new();
    for Asked { member, answer, .. } in asked {
        let words = match answer {
            Ok(Answer::Status(status)) => Ok(*status),
            Ok(_) => Err(AskError::Strange.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if words.is_ok() || !said.get(&member.host).is_some_and(Result::is_ok) {
            said.insert(member.host, words);
        }
    }
    said
}

fn told(members: &Value, said: &BTreeMap<String, Said>) -> Value {
    let leader = &members["leader"];
    let known = members["members"].as_array().into_iter().flatten();
    let peer = |member: &Value| {
        let mut peer = member.clone();
        peer["leads"] = (leader.is_string() && member["host"] == *leader).into();
        match member["host"].as_str().and_then(|host| said.get(host)) {
            Some(Ok(status)) => in_its_words(&mut peer, status),
            Some(Err(why)) => silent(&mut peer, why),
            None => silent(&mut peer, "it is in the registry, and not in the group"),
        }
        peer
    };
    known.map(peer).collect::<Vec<_>>().into()
}

fn silent(peer: &mut Value, why: &str) {
    peer["answered"] = false.into();
    peer["why"] = why.into();
    for unknown in ["version", "started", "graph", "settled", "converged", "converged_since", "changes", "failures"] {
        peer[unknown] = Value::Null;
    }
    peer["counts"] = json!({});
    peer["resources"] = json!([]);
    peer["more_resources"] = 0.into();
}

fn in_its_words(peer: &mut Value, status: &HostStatus) {
    let HostStatus { version, started, role: _, leads, revision, settled, converged, changes, failures, .. } = status;
    peer["state"] = "up".into();
    peer["answered"] = true.into();
    peer["why"] = Value::Null;
    peer["version"] = json!(version);
    peer["started"] = json!(started);
    peer["leads"] = (*leads).into();
    peer["revision"] = json!(revision);
    peer["settled"] = json!(settled);
    peer["graph"] = json!({
        "name": status.graph,
        "vertices": status.vertices,
        "edges": status.edges,
        "error": status.graph_error,
    });
    peer["converged"] = json!(converged);
    peer["converged_since"] = json!(status.converged_since);
    peer["changes"] = json!(changes);
    peer["failures"] = json!(failures);
    peer["counts"] = json!(status.counts);
    peer["resources"] = json!(status.troubles);
    peer["more_resources"] = json!(status.more_troubles);
}

#[cfg(test)]
mod tests {
    use mgmt_consensus::{Incarnation, PeerId};

    use super::*;
    use crate::mesh::messages::inquiry::Trouble;

    fn asked(host: &str, id: u64, answer: Result<Answer, AskError>) -> Asked {
        let member = mgmt_consensus::Member {
            peer: PeerId(id.into()),
            incarnation: Incarnation(id.into()),
            host: host.to_owned(),
        };
        Asked { id, member, answer }
    }

    #[test]
    fn who_answers_is_up_and_who_does_not_is_what_is_known_of_it() {
        let trouble = Trouble { resource: "file[x]".to_owned(), ..Trouble::default() };
        let status = HostStatus { revision: 12, leads: true, troubles: vec![trouble], ..HostStatus::default() };
        let silent = || Err(AskError::Silent("no answer within 1s".to_owned()));
        let said = said(vec![
            asked("a", 1, Ok(Answer::Status(Box::new(status.clone())))),
            // A former life of the same host says nothing.
            asked("a", 7, silent()),
            asked("b", 2, silent()),
            asked("c", 3, Ok(Answer::Noted {})),
        ]);
        let row = |host: &str, state: &str| json!({"host": host, "state": state, "role": "master", "revision": 3});
        let members = json!({"leader": null, "members": [
            row("a", "suspect"), row("b", "down"), row("c", "up"), row("d", "suspect")]});
        let told = told(&members, &said);
        let states: Vec<_> = (0..4).map(|n| (&told[n]["answered"], &told[n]["state"])).collect();
        let is = |answered: bool, state: &str| (json!(answered), json!(state));
        let expected = [is(true, "up"), is(false, "down"), is(false, "up"), is(false, "suspect")];
        assert_eq!(states, expected.iter().map(|(a, s)| (a, s)).collect::<Vec<_>>());
        assert_eq!((&told[0]["revision"], &told[0]["leads"]), (&json!(12), &json!(true)));
        assert_eq!(told[0]["resources"][0]["resource"], "file[x]");
        assert_eq!((&told[1]["revision"], &told[1]["converged"]), (&json!(3), &Value::Null));
        assert!(told[3]["why"].as_str().unwrap().contains("registry"));
        // Whoever answers says the same, so that a program needs not know which.
        let keys = |n: usize| told[n].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(0), keys(1));
    }
}
