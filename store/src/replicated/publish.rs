//! What a host exports, as one manifest: the difference to what is stored is sent, set aside in pieces if it is large,
//! and takes effect in one step.

use std::sync::Arc;

use mgmt_consensus::limits::HOST_NAME_BYTES_MAX;

use super::{Client, Deadline, Pauses, Proposer};
use crate::command::{Body, ExportChange};
use crate::key::Key;
use crate::keyspace::Keyspace;
use crate::limits::{TXN_BYTES_MAX, TXN_OPS_MAX};
use crate::outcome::{Clash, Done, Missing, Refusal};
use crate::revision::Revision;
use crate::session::CallError;
use crate::world::{Exports, Published};

/// Times that somebody else may come between: an admin who removes what this host exports.
const ATTEMPTS_MAX: u32 = 16;
/// What its host's name and the like add to a change, at most.
const CHANGE_BYTES: usize = HOST_NAME_BYTES_MAX + 16;

/// What has to change, and from which state on.
#[derive(Debug)]
struct Difference {
    /// When the host's exports changed last; zero if it has none.
    base: Revision,
    /// In pieces that fit into one command each; the last goes with the flip.
    pieces: Vec<Vec<ExportChange>>,
}

/// Makes these exports the stored ones.
pub(super) async fn publish<P: Proposer>(client: &Client<P>, exports: &Exports) -> Result<Published, CallError> {
    let inner = &client.inner;
    if *exports.host() != inner.host {
        return Err(CallError::Refused(Refusal::NotAllowed(crate::outcome::Denied::Owner)));
    }
    let deadline = Deadline::after(&inner.proposer, inner.patience);
    let mut last = inner.publishing.lock().await;
    // A generation is above whatever a process of this host that is gone may have on its way: it counted from an earlier
    // session on.
    let (mut caught_up, mut pauses) = (false, Pauses::new());
    for attempt in 0..ATTEMPTS_MAX {
        let difference = inner.shared.read(|keyspace| difference(keyspace, exports));
        if difference.pieces.is_empty() {
            // This replica may lag behind what this host itself published before it was started anew.
            if caught_up {
                return Ok(Published::Unchanged);
            }
            client.catch_up(deadline).await?;
            caught_up = true;
            continue;
        }
        // Farther with every attempt: somebody may have counted on while no revision passed.
        let generation = (*last + (1 << attempt)).max(inner.sessions.epoch(&inner.proposer, deadline).await?);
        *last = generation;
        match flip(client, difference, generation, deadline).await {
            Ok((_, Done::Unchanged)) => return Ok(Published::Unchanged),
            Ok((revision, _)) => return Ok(Published::Changed(revision)),
            // The state is another one than this replica has seen, or another publication of this host is under way,
            // of a process that is gone: look again, and count on from there.
            Err(CallError::Refused(
                Refusal::Conflict(Clash::Exports | Clash::Generation) | Refusal::NotFound(Missing::Staged),
            )) => {
                pauses.pause(&inner.proposer, deadline).await;
                client.catch_up(deadline).await?;
                caught_up = true;
            }
            Err(error) => return Err(error),
        }
    }
    Err(CallError::Refused(Refusal::Conflict(Clash::Exports)))
}

/// Sets aside all pieces but the last, and makes everything effective with that.
async fn flip<P: Proposer>(
    client: &Client<P>,
    difference: Difference,
    generation: u64,
    deadline: Deadline,
) -> Result<(Revision, Done), CallError> {
    let inner = &client.inner;
    let Difference { base, mut pieces } = difference;
    let changes = pieces.pop().unwrap_or_default();
    let mut staged = 0;
    for piece in pieces {
        staged += u32::try_from(piece.len()).expect("a piece is bounded");
        let stage = Body::ExportStage { generation, changes: piece };
        inner.sessions.call(&inner.proposer, stage, deadline).await?;
    }
    let flip = Body::ExportFlip { generation, base, staged, changes };
    inner.sessions.call(&inner.proposer, flip, deadline).await
}

/// What has to change for these exports to be the stored ones.
fn difference(keyspace: &Keyspace, exports: &Exports) -> Difference {
    let base = keyspace.manifest(exports.host()).map_or(Revision::ZERO, |(revision, _)| revision);
    let own = format!("x/{}/", exports.host());
    let change = |key: &Key, value| {
        let (kind, name) = key.export()?;
        Some(ExportChange { kind: kind.into(), name: name.into(), value })
    };
    let gone = keyspace.prefix(&own).filter(|(key, _)| !exports.items().contains_key(*key));
    let gone = gone.filter_map(|(key, _)| change(key, None));
    let other = exports
        .items()
        .iter()
        .filter(|(key, value)| keyspace.get(key.as_str()).is_none_or(|entry| entry.value != **value));
    let other = other.filter_map(|(key, value)| change(key, Some(Arc::clone(value))));
    Difference { base, pieces: pieces(gone.chain(other)) }
}

/// Cuts changes into pieces that are small enough for a command.
fn pieces(changes: impl Iterator<Item = ExportChange>) -> Vec<Vec<ExportChange>> {
    let mut pieces: Vec<Vec<ExportChange>> = Vec::new();
    let mut bytes = 0;
    for change in changes {
        let value = change.value.as_ref().map_or(0, |value| value.len());
        let more = change.kind.len() + change.name.len() + value + CHANGE_BYTES;
        let full = |piece: &Vec<ExportChange>| piece.len() == TXN_OPS_MAX || bytes + more > TXN_BYTES_MAX;
        match pieces.last_mut() {
            Some(piece) if !full(piece) => piece.push(change),
            _ => {
                pieces.push(vec![change]);
                bytes = 0;
            }
        }
        bytes += more;
    }
    pieces
}
