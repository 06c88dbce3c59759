//! Keys and locks.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mgmt_store::command::Prefix;
use mgmt_store::event::{Change, Entry};
use mgmt_store::replicated::{LockError, Read};
use mgmt_store::watch::{Filter, WatchError};
use mgmt_store::{CallError, Key, Revision, Shared};
use serde_json::{Value, json};

use super::refusals::{self, Asked};
use super::status::age_ms;
use crate::cli::{Exit, Failure};
use crate::control::Conversation;
use crate::control::mesh::{Blob, hex};
use crate::mesh::Mesh;
use crate::mesh::node::Node;
use crate::mesh::pipe::KEYS;

/// Keys in one line of a list: with their values, no more than some megabytes.
const PAGE_KEYS: usize = 512;
/// Bytes of values in one line of a list, but for the last of them.
const PAGE_BYTES: usize = 4 << 20;

/// Who asks, for sentences.
pub(super) fn asked<'a>(node: &'a Node, key: Option<&'a str>) -> Asked<'a> {
    Asked { host: node.setup.host.as_str(), role: node.role, key }
}

/// The key that people call so.
fn key(name: &str) -> Result<Key, Failure> {
    let wrong =
        |error| Failure::new(Exit::Usage, format!("'{}' cannot be a key: {error}", crate::diagnostic::Printable(name)));
    Key::parse(&format!("{KEYS}{name}")).map_err(wrong)
}

/// What people call it.
fn name(key: &Key) -> &str {
    key.as_str().strip_prefix(KEYS).unwrap_or(key.as_str())
}

/// An entry as it is told.
fn told(key: &Key, entry: Option<&Entry>) -> Value {
    let Some(entry) = entry else { return json!({"key": name(key), "value": null}) };
    let mut told = json!({
        "key": name(key),
        "create_revision": entry.create.0,
        "modify_revision": entry.modify.0,
        "version": entry.version,
        "lease": entry.lease.map(|lease| lease.0),
    });
    put_value(&mut told, &entry.value);
    told
}

/// A value is a text, or where it is none the digits of its bytes under another name.
fn put_value(told: &mut Value, value: &[u8]) {
    match std::str::from_utf8(value) {
        Ok(text) => told["value"] = text.into(),
        Err(_) => told["value_hex"] = hex(value).into(),
    }
}

/// Waits, if that is wished, until this host has all that anybody was told.
async fn newest(node: Option<&Node>, latest_ms: Option<u64>) -> Result<(), Failure> {
    let Some(ms) = latest_ms else { return Ok(()) };
    let node = node.ok_or_else(|| {
        Failure::new(Exit::TryAgain, "this host is not in the mesh now; without --latest it answers all the same")
    })?;
    let newest = node.client.read(Read::Latest(Duration::from_millis(ms)), |_| ()).await;
    newest.map(|_| ()).map_err(|error| match error {
        CallError::Unavailable => Failure::new(
            Exit::TryAgain,
            format!("nobody has said within {:.1} s what is newest: there is no quorum now; without --latest this host answers from what it has", Duration::from_millis(ms).as_secs_f64()),
        ),
        error => refusals::failure(error, asked(node, None)),
    })
}

pub(super) async fn get(
    mesh: &Mesh,
    node: Option<Arc<Node>>,
    called: &str,
    latest_ms: Option<u64>,
) -> Result<Value, Failure> {
    let key = key(called)?;
    newest(node.as_deref(), latest_ms).await?;
    let (revision, entry) = mesh.shared().read(|keyspace| (keyspace.revision(), keyspace.get(key.as_str()).cloned()));
    let mut told = told(&key, entry.as_ref());
    told["revision"] = revision.0.into();
    told["age_ms"] = json!(node.as_deref().and_then(age_ms));
    Ok(told)
}

pub(super) async fn list(
    mesh: Result<Mesh, Failure>,
    node: Option<Arc<Node>>,
    start: &str,
    latest_ms: Option<u64>,
    values: bool,
    mut talk: Conversation,
) -> io::Result<()> {
    let mesh = match mesh {
        Ok(mesh) => mesh,
        Err(failure) => return talk.reply(Err(failure)).await,
    };
    if let Err(failure) = newest(node.as_deref(), latest_ms).await {
        return talk.reply(Err(failure)).await;
    }
    let start = format!("{KEYS}{start}");
    // A copy of what is asked for, all of one moment; values are shared with the store.
    let (revision, mut entries) = mesh.shared().read(|keyspace| {
        let found: Vec<_> = keyspace.prefix(&start).map(|(key, entry)| (key.clone(), entry.clone())).collect();
        (keyspace.revision(), found.into_iter())
    });
    let age_ms = node.as_deref().and_then(age_ms);
    loop {
        let (mut page, mut bytes) = (Vec::new(), 0);
        while page.len() < PAGE_KEYS && bytes < PAGE_BYTES {
            let Some((key, entry)) = entries.next() else { break };
            bytes += entry.value.len();
            page.push(if values { told(&key, Some(&entry)) } else { json!({"key": name(&key)}) });
        }
        let last = page.is_empty() || entries.len() == 0;
        talk.reply(Ok(json!({"revision": revision.0, "age_ms": age_ms, "keys": page}))).await?;
        if last {
            return Ok(());
        }
    }
}

pub(super) async fn put(
    node: &Node,
    called: &str,
    value: Blob,
    lease_s: Option<u32>,
    limit: Duration,
) -> Result<Value, Failure> {
    let key = key(called)?;
    let value = value.bytes().ok_or_else(|| Failure::new(Exit::Usage, "the value is not in hexadecimal digits"))?;
    let refused = |error| refusals::failure(error, asked(node, Some(called)));
    let lease = match lease_s {
        Some(ttl_s) => Some(node.client.grant(ttl_s, limit).await.map_err(refused)?),
        None => None,
    };
    let put = node.client.put(key, value, lease.map(|(lease, _)| lease), limit).await;
    if let (Err(error), Some((lease, _))) = (&put, lease)
        && *error != CallError::Unknown
        && let Err(error) = node.client.revoke(lease, limit).await
    {
        tracing::debug!(%error, "a lease is left to its end");
    }
    let revision = put.map_err(refused)?;
    Ok(
        json!({"key": called, "revision": revision.0, "lease": lease.map(|(id, _)| id.0), "ttl_s": lease.map(|(_, ttl_s)| ttl_s)}),
    )
}

pub(super) async fn delete(node: &Node, called: &str, all: bool, limit: Duration) -> Result<Value, Failure> {
    let refused = |error| refusals::failure(error, asked(node, Some(called)));
    let (revision, count) = if all {
        let prefix = Prefix::parse(&format!("{KEYS}{called}"));
        let prefix = prefix.ok_or_else(|| Failure::new(Exit::Usage, "no key can begin so"))?;
        node.client.delete_prefix(prefix, limit).await.map_err(refused)?
    } else {
        let (revision, was_there) = node.client.delete(key(called)?, limit).await.map_err(refused)?;
        (revision, u32::from(was_there))
    };
    Ok(json!({"revision": revision.0, "deleted": count}))
}

pub(super) async fn watch(
    shared: Result<Arc<Shared>, Failure>,
    node: Result<Arc<Node>, Failure>,
    start: &str,
    after: Option<u64>,
    mut talk: Conversation,
) -> io::Result<()> {
    let (shared, node) = match (shared, node) {
        (Ok(shared), Ok(node)) => (shared, node),
        (Err(failure), _) | (_, Err(failure)) => return talk.reply(Err(failure)).await,
    };
    let after = after.map_or_else(|| shared.revision(), Revision);
    let mut watch = match node.watches.open(Filter::Prefix(format!("{KEYS}{start}")), after) {
        Ok(watch) => watch,
        Err(error) => return talk.reply(Err(Failure::new(Exit::TryAgain, error))).await,
    };
    // The first line says where it begins, so that whoever reads the keys as well knows that nothing is missed.
    talk.reply(Ok(json!({"event": "mark", "revision": after.0}))).await?;
    loop {
        let batch = tokio::select! {
            biased;
            () = talk.hung_up() => return Ok(()),
            batch = watch.next() => batch,
        };
        let batch = match batch {
            Ok(batch) => batch,
            Err(error @ WatchError::Compacted { .. }) => {
                let why = format!("{error}: list the keys, and watch from the revision of the list");
                return talk.reply(Err(Failure::new(Exit::TryAgain, why))).await;
            }
            Err(error) => return talk.reply(Err(Failure::new(Exit::TryAgain, error))).await,
        };
        if batch.events.is_empty() {
            talk.reply(Ok(json!({"event": "mark", "revision": batch.position.revision.0}))).await?;
        }
        for event in &batch.events {
            let mut line = match &event.change {
                Change::Put(entry) => {
                    let mut line = told(&event.key, Some(entry));
                    line["event"] = "put".into();
                    line
                }
                Change::Delete => json!({"event": "delete", "key": name(&event.key)}),
            };
            line["revision"] = event.revision.0.into();
            talk.reply(Ok(line)).await?;
        }
    }
}

pub(super) async fn lock(
    node: &Node,
    called: &str,
    count: u32,
    ttl_s: u32,
    wait: Duration,
    mut talk: Conversation,
) -> io::Result<()> {
    let held = tokio::select! {
        biased;
        // What was asked for ends with its lease.
        () = talk.hung_up() => return Ok(()),
        held = node.client.lock(called, count, ttl_s, wait) => held,
    };
    let mut held = match held {
        Ok(held) => held,
        Err(error) => {
            let failure = match error {
                LockError::Name(error) => Failure::new(Exit::Usage, error),
                LockError::Held => Failure::new(Exit::TryAgain, format!("the lock '{called}' is held by others")),
                LockError::Ended | LockError::GivenUp => Failure::new(Exit::TryAgain, error),
                LockError::Call(error) => refusals::failure(error, asked(node, None)),
            };
            return talk.reply(Err(failure)).await;
        }
    };
    talk.reply(Ok(json!({"fence": held.fence().0}))).await?;
    match held.during(talk.hung_up()).await {
        Ok(()) => {
            if let Err(error) = held.release().await {
                tracing::info!("the lock {called} was not given back, and ends by itself: {error}");
            }
            // Nobody may listen any more.
            talk.reply(Ok(json!({"released": true}))).await.or(Ok(()))
        }
        Err(lost) => talk.reply(Ok(json!({"lost": lost.to_string()}))).await,
    }
}
