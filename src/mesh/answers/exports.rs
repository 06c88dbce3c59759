//! Who exports what, who collects it, and what was skipped and why: the first from the state of the store as it is here,
//! the rest as the hosts themselves say it.

use std::collections::BTreeMap;
use std::time::Duration;

use mgmt_consensus::Member;
use mgmt_store::{Body, Space};
use serde_json::{Value, json};

use super::cluster;
use super::keys::asked;
use super::{LIMIT, refusals};
use crate::cli::{Exit, Failure};
use crate::mesh::Mesh;
use crate::mesh::inquiry::{AskError, Asked, ask_some};
use crate::mesh::messages::inquiry::{Answer, Collected, Inquiry, Row};
use crate::mesh::node::Node;

/// Whoever has not answered by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// An export: host, kind and name.
type Export = (String, String, String);

/// What `mgmt exports` prints.
pub(super) async fn exports(mesh: &Mesh) -> Value {
    let mut said = Vec::new();
    if let Some(node) = mesh.node() {
        let is_meant = |_, member: &Member| node.has_registered(member);
        said = ask_some(mesh.runtime(), &node.replica, is_meant, &Inquiry::Collected {}, PATIENCE).await;
    }
    let stored: Vec<_> = mesh.shared().read(|keyspace| {
        let entries = keyspace.prefix(Space::Exports.prefix());
        let export = |(key, entry): (&mgmt_store::Key, &mgmt_store::Entry)| {
            let (kind, name) = key.export()?;
            let export = (key.host()?.to_owned(), kind.to_owned(), name.to_owned());
            Some((export, entry.value.len(), entry.modify.0))
        };
        entries.filter_map(export).collect()
    });
    told(stored, said)
}

fn told(stored: Vec<(Export, usize, u64)>, said: Vec<Asked>) -> Value {
    let mut taken: BTreeMap<Export, Vec<Value>> = BTreeMap::new();
    let mut skipped = taken.clone();
    let (mut silent, mut more) = (Vec::new(), 0);
    for Asked { member, answer, .. } in said {
        let Collected { taken: takes, skipped: skips, more: untold } = match answer {
            Ok(Answer::Collected(collected)) => collected,
            Ok(_) => {
                silent.push(json!({"host": member.host, "why": AskError::Strange.to_string()}));
                continue;
            }
            Err(error) => {
                silent.push(json!({"host": member.host, "why": error.to_string()}));
                continue;
            }
        };
        more += untold;
        for (rows, into) in [(takes, &mut taken), (skips, &mut skipped)] {
            for Row { host, kind, name, why } in rows {
                let why = Some(why).filter(|why| !why.is_empty());
                into.entry((host, kind, name)).or_default().push(json!({"host": member.host, "why": why}));
            }
        }
    }
    let exports = stored.into_iter().map(|(export, bytes, revision)| {
        let (taken, skipped) = (taken.remove(&export).unwrap_or_default(), skipped.remove(&export).unwrap_or_default());
        let (host, kind, name) = export;
        json!({"host": host, "kind": kind, "name": name, "bytes": bytes, "revision": revision, "collected": taken,
            "skipped": skipped})
    });
    let exports: Vec<_> = exports.collect();
    // What is in force somewhere although the store does not have it: of a mesh that was lost, or not published yet.
    let unpublished: Vec<_> = taken
        .into_iter()
        .map(|((host, kind, name), by)| json!({"host": host, "kind": kind, "name": name, "collected": by}))
        .collect();
    json!({"exports": exports, "not_in_the_store": unpublished, "silent": silent, "more": more})
}

/// Removes all that a host exports, which will not come back.
pub(super) async fn forget(mesh: &Mesh, node: &Node, name: &str) -> Result<Value, Failure> {
    let host = cluster::host(name)?;
    let here = mesh.inquiries().forget(host.as_str());
    let known = node.shared.read(|keyspace| keyspace.manifest(&host)).is_some();
    if !known {
        if here {
            return Ok(json!({"forgotten": 0, "here": true}));
        }
        return Err(Failure::new(Exit::Failed, format!("'{host}' exports nothing: see mgmt exports")));
    }
    let forgotten = node.client.call(Body::ExportForget { host: host.clone() }, LIMIT).await;
    let (revision, done) = forgotten.map_err(|error| refusals::failure(error, asked(node, None)))?;
    let count = if let mgmt_store::Done::Deleted { count } = done { count } else { 0 };
    Ok(json!({"forgotten": count, "revision": revision.0}))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use mgmt_consensus::{Incarnation, PeerId};

    use super::*;

    #[test]
    fn who_exports_who_collects_and_who_skips() {
        let export = |host: &str| (host.to_owned(), "file".to_owned(), "f".to_owned());
        let row =
            |host: &str, why: &str| Row { host: host.into(), kind: "file".into(), name: "f".into(), why: why.into() };
        let asked = |host: &str, answer| {
            let member = Member { peer: PeerId(1), incarnation: Incarnation(1), host: host.to_owned() };
            Asked { id: 1, member, answer }
        };
        let collected =
            Collected { taken: vec![row("a", ""), row("lost", "")], skipped: vec![row("b", "taken")], more: 2 };
        let said = vec![
            asked("a", Ok(Answer::Collected(collected))),
            asked("b", Ok(Answer::Noted {})),
            asked("c", Err(AskError::Silent("gone".into()))),
        ];
        let told = told(vec![(export("a"), 10, 7), (export("b"), 11, 8)], said);
        expect![[r#"
            {
              "exports": [
                {
                  "bytes": 10,
                  "collected": [
                    {
                      "host": "a",
                      "why": null
                    }
                  ],
                  "host": "a",
                  "kind": "file",
                  "name": "f",
                  "revision": 7,
                  "skipped": []
                },
                {
                  "bytes": 11,
                  "collected": [],
                  "host": "b",
                  "kind": "file",
                  "name": "f",
                  "revision": 8,
                  "skipped": [
                    {
                      "host": "a",
                      "why": "taken"
                    }
                  ]
                }
              ],
              "more": 2,
              "not_in_the_store": [
                {
                  "collected": [
                    {
                      "host": "a",
                      "why": null
                    }
                  ],
                  "host": "lost",
                  "kind": "file",
                  "name": "f"
                }
              ],
              "silent": [
                {
                  "host": "b",
                  "why": "it does not understand the question: another version of the program, most likely"
                },
                {
                  "host": "c",
                  "why": "gone"
                }
              ]
            }
        "#]]
        .assert_eq(&format!("{told:#}\n"));
    }
}
