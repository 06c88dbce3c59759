//! Tokens.

use std::time::{Duration, UNIX_EPOCH};

use mgmt_consensus::authority::token::Token;
use mgmt_store::{Body, Role, Shared, record};
use serde_json::{Value, json};

use super::cluster::host;
use super::keys::asked;
use super::{LIMIT, refusals};
use crate::cli::{Exit, Failure};
use crate::events::rfc3339;
use crate::mesh::node::Node;
use crate::mesh::papers::Papers;
use crate::mesh::surroundings::unix_ms;

/// Makes a token; its text is in the answer and nowhere else.
pub(crate) async fn create(
    node: &Node,
    role: &str,
    ttl_s: u64,
    uses: u32,
    only: Option<&str>,
    replace: bool,
) -> Result<Value, Failure> {
    let role = Role::from_word(role)
        .ok_or_else(|| Failure::new(Exit::Usage, format!("'{role}' is no role: agent, master or admin is wanted")))?;
    let only = only.map(host).transpose()?;
    let token = draw(node)?;
    let now_ms = unix_ms().max(node.shared.read(mgmt_store::Keyspace::now_ms));
    let expires_ms = now_ms.saturating_add(ttl_s.saturating_mul(1000));
    let record = record::Token {
        public_key: token.public_key(),
        role,
        host: only.clone(),
        replace,
        expires_ms,
        uses: Some(uses),
        used: 0,
    };
    let id = token.id.clone();
    let body = Body::TokenCreate { id: id.as_str().into(), token: record };
    node.client.call(body, LIMIT).await.map_err(|error| refusals::failure(error, asked(node, None)))?;
    Ok(json!({
        "id": id,
        "token": token.to_string(),
        "role": role.word(),
        "host": only.map(|host| host.as_str().to_owned()),
        "replace": replace,
        "uses": uses,
        "expires": time(expires_ms),
    }))
}

fn draw(node: &Node) -> Result<Token, Failure> {
    let cannot = |why: &dyn std::fmt::Display| Failure::new(Exit::Disk, format!("cannot make a token: {why}"));
    let papers = Papers::load(&node.setup.place).map_err(|e| cannot(&e))?;
    let papers = papers.ok_or_else(|| cannot(&"this host has no certificate"))?;
    let authority = papers.authorities.first().ok_or_else(|| cannot(&"this host knows no authority"))?;
    Token::draw(node.identity.cluster, authority.key_hash()).map_err(|e| cannot(&e))
}

fn time(unix_ms: u64) -> String {
    rfc3339(UNIX_EPOCH + Duration::from_millis(unix_ms))
}

/// All of them, without secrets: there are none here.
pub(super) fn list(shared: &Shared) -> Value {
    let now_ms = unix_ms();
    let tokens: Vec<_> = shared.read(|keyspace| {
        let told = |(id, token): (&str, record::Token)| {
            json!({
                "id": id,
                "role": token.role.word(),
                "host": token.host.as_ref().map(|host| host.as_str().to_owned()),
                "replace": token.replace,
                "uses": token.uses,
                "used": token.used,
                "expires": time(token.expires_ms),
                "state": state(&token, now_ms.max(keyspace.now_ms())),
            })
        };
        keyspace.tokens().map(told).collect()
    });
    json!({"tokens": tokens})
}

fn state(token: &record::Token, now_ms: u64) -> &'static str {
    if token.expires_ms <= now_ms {
        "expired"
    } else if token.uses.is_some_and(|uses| token.used >= uses) {
        "used up"
    } else {
        "good"
    }
}

/// Makes one worthless, named by its id or by all of it.
pub(super) async fn revoke(node: &Node, named: &str) -> Result<Value, Failure> {
    let id = named.parse::<Token>().map_or_else(|_| named.to_owned(), |token| token.id);
    let revoked = node.client.call(Body::TokenRevoke { id: id.as_str().into() }, LIMIT).await;
    revoked.map_err(|error| refusals::failure(error, asked(node, None)))?;
    Ok(json!({"id": id}))
}
