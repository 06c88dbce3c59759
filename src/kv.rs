//! `kv`: a key that all hosts of a mesh share, or this host's entry of a map.
//!
//! Looked at in this host's replica, and written by way of the leader, with the condition in the same command: of two
//! hosts that write at once, none undoes what it has not seen. Knows the mesh by its [`Link`] alone: while this host is on
//! its way into one, it says that it cannot be looked at yet.

mod follow;
mod wrong;

use std::sync::Arc;
use std::time::Duration;

use mgmt_engine::resource::{Applied, Cause, Check, Fault, Look, Purpose, Resource, Signal, Urgency, Watch, Work};
use mgmt_resources::KindInfo;
use mgmt_resources::kind::{Built, Context, Facets, Field, Params, Problem, Shape};
use mgmt_store::command::{Compare, Op, Relation, Test, Txn};
use mgmt_store::limits::VALUE_BYTES_MAX;
use mgmt_store::replicated::Read;
use mgmt_store::{CallError, Key, Revision, Space, Value};

use crate::mesh::answers::refusals::{self, Asked};
use crate::mesh::link::{Link, Without};
use crate::mesh::node::Node;
use follow::{Hindrance, Obstacle};
use wrong::{Want, Wrong, number};

/// How long a first look waits for what is newest. Then this host's replica is taken as it is: without a quorum what is
/// known stays in force.
const FRESH: Duration = Duration::from_secs(2);
/// How long a write goes on: a change of leaders and some more.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a number that others raise at the same time is compared anew. Each time at least one of them has won.
const TRIES_MAX: usize = 64;

/// The kind's table entry.
pub static INFO: KindInfo = KindInfo {
    name: "kv",
    summary: "writes a key that all hosts of the mesh share",
    notes: "\
The key has this value, on all hosts. It is written where it differs, and again as soon as somebody else has changed it: \
this host's copy of the store is watched, nothing is asked. Two hosts that want different values of one key repair each \
other without end; that is said as contested.\n\n\
With `skiplessthan` the key is a whole number that is only ever raised, also when several hosts raise it at once. With \
`mapped` it is this host's entry of the map `key`, which every host may write for itself. Other keys are written by \
admins, and by hosts that were allowed to: `mgmt cluster allow HOST PREFIX`.\n\n\
A graph with such a resource needs a part in a mesh. Until this host is a member it waits, and what comes after it as \
well. Without a quorum nothing can be written: that is a failure, and is made up for when there is one again. A refresh \
does nothing.",
    example: "\
resources:
  kv:
  - name: app/version
    value: 7
    skiplessthan: true
  - name: where-i-am
    key: zones
    value: rack-4
    mapped: true
",
    fields: &[
        Field {
            name: "key",
            shape: Shape::Text,
            default: "the name",
            doc: "The key, as `mgmt kv get` takes it; with `mapped` the name of the map.",
        },
        Field {
            name: "value",
            shape: Shape::Text,
            default: "",
            doc: "What lies under it, at most 256 KiB. Without it the key is deleted.",
        },
        Field {
            name: "skiplessthan",
            shape: Shape::Bool,
            default: "false",
            doc: "Only ever raise it: what is there stays if it is the same number or a higher one.",
        },
        Field {
            name: "mapped",
            shape: Shape::Bool,
            default: "false",
            doc: "This host's entry of a map, instead of a key for all.",
        },
    ],
    build,
};

#[derive(Debug, PartialEq)]
struct Kv {
    place: Place,
    want: Want,
    way: Way,
}

/// Where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Key(Key),
    /// This host's entry of the map of this name.
    Entry(String),
}

/// The way to the store, and what stood in it. Always equal: it is no parameter.
#[derive(Debug, Clone)]
struct Way {
    link: Link,
    hindrance: Arc<Hindrance>,
}

impl PartialEq for Way {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Resource for Kv {
    type Drift = Wrong;

    fn watch(&self, signal: &Signal) -> Result<Watch, Fault> {
        let Way { link, hindrance } = self.way.clone();
        Ok(Watch::Task(Box::pin(follow::follow(link, hindrance, self.place.clone(), signal.clone()))))
    }

    async fn check(&self, look: &Look) -> Result<Check<Wrong>, Fault> {
        let planned = look.purpose != Purpose::Converge;
        let node = match self.way.link.now() {
            Ok(Some(node)) => node,
            _ if planned => return Ok(Check::Unknown("there is no view of the mesh here".to_owned())),
            Ok(None) => return Ok(Check::Later("a part in the mesh".into())),
            Err(without) => return Err(alone(&without)),
        };
        // Later ones come from a watch, and so from what is known here.
        if !planned && matches!(look.cause, Cause::First | Cause::Reload) {
            let fresh = node.client.read(Read::Latest(FRESH), |_| ()).await;
            if let Err(error) = fresh {
                tracing::debug!(%error, "kv: what is newest is not known; this host's copy is taken");
            }
        }
        let key = self.place.key(&node)?;
        let there = node.shared.read(|keyspace| keyspace.get(key.as_str()).map(|entry| entry.value.clone()));
        Ok(self.judge(there)?.map_or(Check::Converged, Check::Drifted))
    }

    async fn apply(&self, _: Wrong, work: &Work) -> Result<Applied, Fault> {
        // The next life is waited for by the watch.
        let gone = || Fault::new("this host is not in the mesh at the moment; it is written when it is back");
        let node = self.way.link.now().map_err(|without| alone(&without))?.ok_or_else(gone)?;
        let key = self.place.key(&node)?;
        let before = node.shared.revision();
        let written = tokio::select! {
            biased;
            written = self.write(&node, &key) => written,
            () = work.stop.reached(Urgency::Cancel) => return Err(Fault::new("cancelled: it may have been written")),
        };
        written.map_err(|error| match error {
            Failure::Call(error) => {
                self.way.hindrance.met(Obstacle::of(error, before));
                refused(error, &node, &self.place)
            }
            Failure::Fault(fault) => fault,
        })
    }
}

/// Why it was not written.
enum Failure {
    Call(CallError),
    Fault(Fault),
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// There is no mesh to write to.
fn alone(without: &Without) -> Fault {
    Fault::new(format!("{without}, and keys are in the mesh: it takes `mgmt run`, and not --no-network"))
}

/// The sentence of a verb that was refused the same.
fn refused(error: CallError, node: &Node, place: &Place) -> Fault {
    let key = match place {
        Place::Key(key) => key.as_str().strip_prefix(Space::Keys.prefix()),
        Place::Entry(_) => None,
    };
    let asked = Asked { host: node.setup.host.as_str(), role: node.role, key };
    Fault::new(refusals::failure(error, asked).message)
}

impl Place {
    fn key(&self, node: &Node) -> Result<Key, Fault> {
        match self {
            Self::Key(key) => Ok(key.clone()),
            Self::Entry(map) => node.client.map_entry(map).map_err(|error| Fault::new(error.to_string())),
        }
    }
}

impl Kv {
    /// What is wrong with what lies there.
    fn judge(&self, there: Option<Value>) -> Result<Option<Wrong>, Fault> {
        let right = match &self.want {
            Want::Gone => there.is_none(),
            Want::Value(value) => there.as_ref() == Some(value),
            Want::AtLeast(least) => there.as_deref().map(number).transpose()?.is_some_and(|there| there >= *least),
        };
        Ok((!right).then(|| Wrong { there, want: self.want.clone() }))
    }

    async fn write(&self, node: &Node, key: &Key) -> Result<Applied, Failure> {
        let client = &node.client;
        match &self.want {
            Want::Gone => {
                let (_, was_there) = client.delete(key.clone(), PATIENCE).await?;
                Ok(if was_there { Applied::changed("deleted") } else { Applied::Unchanged })
            }
            Want::Value(value) => {
                let txn = put_if(key, Test::Value(false, value.clone()), value.clone());
                let (_, written) = client.txn(txn, PATIENCE).await?;
                let deed = format!("written, {} bytes", value.len());
                Ok(if written { Applied::changed(deed) } else { Applied::Unchanged })
            }
            Want::AtLeast(least) => self.raise(node, key, *least).await,
        }
    }

    /// Writes a number unless it is there, or a higher one: as it was when it was compared, or not at all.
    async fn raise(&self, node: &Node, key: &Key, least: i64) -> Result<Applied, Failure> {
        for _ in 0..TRIES_MAX {
            let found = node.client.get(key, Read::Latest(PATIENCE)).await?;
            let there = found.value.as_ref().map(|entry| number(&entry.value)).transpose()?;
            if there.is_some_and(|there| there >= least) {
                return Ok(Applied::Unchanged);
            }
            let seen = found.value.map_or(Revision::ZERO, |entry| entry.modify);
            let value = least.to_string().into_bytes().into();
            let txn = put_if(key, Test::Modify(Relation::Equal, seen), value);
            if let (_, true) = node.client.txn(txn, PATIENCE).await? {
                return Ok(Applied::changed(format!("raised to {least}")));
            }
        }
        Err(Fault::new(format!("others have written it {TRIES_MAX} times meanwhile")).into())
    }
}

fn put_if(key: &Key, test: Test, value: Value) -> Txn {
    Txn {
        compare: vec![Compare::Key(key.clone(), test)],
        then: vec![Op::Put { key: key.clone(), value, lease: None }],
        otherwise: Vec::new(),
    }
}

fn build(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let mut problems = Vec::new();
    let name = params.filled("key").unwrap_or_else(|| context.called.to_owned());
    let value = params.bytes("value");
    let (raise, mapped) = (params.bool("skiplessthan").unwrap_or(false), params.bool("mapped").unwrap_or(false));
    let field = "key";
    let place = if mapped {
        entry(&name).map_err(|why| problems.push(Problem::new(field, why))).ok()
    } else {
        let key = Key::parse(&format!("{}{name}", Space::Keys.prefix()));
        key.map(Place::Key).map_err(|error| problems.push(Problem::new(field, error.to_string()))).ok()
    };
    if let Some(value) = value.as_ref().filter(|value| value.len() > VALUE_BYTES_MAX) {
        problems.push(Problem::new("value", format!("has {} bytes, and may have {VALUE_BYTES_MAX}", value.len())));
    }
    let want = match (value, raise) {
        (None, false) => Some(Want::Gone),
        (Some(value), false) => Some(Want::Value(value.into())),
        (None, true) => {
            problems.push(Problem::new("skiplessthan", "needs a value to raise the key to"));
            None
        }
        (Some(value), true) => {
            let number = number(&value).map(Want::AtLeast);
            number.map_err(|_| problems.push(Problem::new("value", "has to be a whole number with skiplessthan"))).ok()
        }
    };
    match (place, want) {
        (Some(place), Some(want)) if problems.is_empty() => {
            let resource = Arc::new(Kv { place, want, way: Way::of(Link::of(context.host)) });
            let facets = Facets { shared: true, ..Facets::default() };
            Ok(Built { resource, facets, warnings: Vec::new() })
        }
        _ => Err(problems),
    }
}

/// A map has the name of a key's part; which host's entry it is is known later.
fn entry(map: &str) -> Result<Place, String> {
    if map.contains('/') {
        return Err("the name of a map has no slash".to_owned());
    }
    let some = Key::parse(&format!("{}{map}/h", Space::Maps.prefix()));
    some.map(|_| Place::Entry(map.to_owned())).map_err(|error| error.to_string())
}

impl Way {
    fn of(link: Link) -> Self {
        Self { link, hindrance: Arc::default() }
    }
}

#[cfg(test)]
mod tests;
