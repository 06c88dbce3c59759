//! What admins do to the mesh.

use std::path::PathBuf;
use std::sync::Arc;

use mgmt_store::{Body, HostName, Role, Shared};
use serde_json::{Value, json};

use super::keys::asked;
use super::{LIMIT, refusals};
use crate::cli::{Exit, Failure, snapshot};
use crate::mesh::backup;
use crate::mesh::node::{LeaveError, Node};
use crate::mesh::surroundings::{Telling, unix_ms};

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | ':' | '@' | '=');
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

pub(super) fn host(name: &str) -> Result<HostName, Failure> {
    HostName::parse(name).map_err(|error| Failure::new(Exit::Usage, error))
}

async fn change(node: &Node, body: Body) -> Result<Value, Failure> {
    let (revision, _) = node.client.call(body, LIMIT).await.map_err(|e| refusals::failure(e, asked(node, None)))?;
    Ok(json!({"revision": revision.0}))
}

pub(super) async fn leave(node: &Node, even_last: bool) -> Result<Value, Failure> {
    let left = node.leave(even_last).await;
    left.map_err(|why| {
        let exit = match why {
            LeaveError::Last(_) => Exit::Usage,
            LeaveError::OnlyAdmin(_) => Exit::NotAllowed,
            LeaveError::No(_) => Exit::TryAgain,
        };
        Failure::new(exit, format!("this host has not left: {why}"))
    })?;
    Ok(Value::Null)
}

pub(super) async fn remove(node: &Node, name: &str) -> Result<Value, Failure> {
    let host = host(name)?;
    let known = node.shared.read(|keyspace| keyspace.peer(&host));
    if known.is_none() {
        return Err(Failure::new(Exit::Failed, format!("there is no host '{host}' in the mesh: see mgmt members")));
    }
    if host == node.setup.host {
        return Err(Failure::new(Exit::Usage, "this is the host itself: it leaves with mgmt cluster leave"));
    }
    if node.role < Role::Admin {
        let refusal = mgmt_store::Refusal::NotAllowed(mgmt_store::outcome::Denied::Role);
        return Err(refusals::failure(refusal.into(), asked(node, None)));
    }
    let may = node.ask(&Telling::MayLeave { host: host.as_str().to_owned() }).await;
    may.map_err(|why| Failure::new(Exit::TryAgain, format!("'{host}' was not removed: {why}")))?;
    let was_master = super::members::votes(node, &host);
    let mut done = change(node, Body::PeerRemove { host: host.clone() }).await?;
    if was_master {
        let advice = format!(
            "{host} was a master and has held the authority's key: if it is in strange hands, do mgmt cluster rotate-ca"
        );
        done["advice"] = advice.into();
    }
    Ok(done)
}

pub(super) async fn transfer(node: &Node, to: Option<String>) -> Result<Value, Failure> {
    let to = to.map(|name| host(&name).map(|host| host.as_str().to_owned())).transpose()?;
    let said = node.ask(&Telling::Transfer { to }).await;
    said.map_err(|why| Failure::new(Exit::TryAgain, format!("leadership was not handed over: {why}")))?;
    Ok(Value::Null)
}

pub(super) async fn rotate(node: &Node) -> Result<Value, Failure> {
    let said = node.rotate().await;
    said.map_err(|why| Failure::new(Exit::TryAgain, format!("there is no other authority: {why}")))?;
    Ok(Value::Null)
}

pub(super) async fn resize(node: &Node, masters: u8) -> Result<Value, Failure> {
    let mut done = change(node, Body::IdealSize { masters }).await?;
    done["ideal"] = masters.into();
    Ok(done)
}

pub(super) async fn allow(node: &Node, pattern: &str, prefix: &str, allow: bool) -> Result<Value, Failure> {
    let (hosts, prefix) = (pattern.to_ascii_lowercase().into(), prefix.into());
    let body = if allow { Body::Allow { hosts, prefix } } else { Body::Disallow { hosts, prefix } };
    change(node, body).await
}

/// Saves what this member has: on a thread that may block, because the store goes on meanwhile.
pub(super) async fn save(node: Arc<Node>, file: PathBuf) -> Result<Value, Failure> {
    // Nobody means to lose the last backup by a slip of the hand.
    if file.exists() {
        return Err(Failure::new(Exit::Usage, format!("{} is there already", file.display())));
    }
    let saved = tokio::task::spawn_blocking(move || {
        let (cluster, host) = (node.identity.cluster.to_string(), node.setup.host.clone());
        backup::save(&node.shared, &cluster, host.as_str(), unix_ms(), &file)
    });
    let saved = saved.await.map_err(|e| Failure::new(Exit::Bug, format!("saving has ended: {e}")))?;
    Ok(snapshot::told(&saved.map_err(|e| snapshot::failure(&e))?))
}

pub(super) fn rules(shared: &Shared) -> Value {
    let rules: Vec<_> = shared
        .read(|keyspace| keyspace.rules().map(|(hosts, prefix)| json!({"hosts": hosts, "prefix": prefix})).collect());
    json!({"rules": rules})
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_can_be_pasted() {
        assert_eq!(quoted("app/x"), "app/x");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
