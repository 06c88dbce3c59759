//! Whose messages are heard. Holding a certificate authorises nothing: a message of the Raft group is heard when the
//! membership knows its sender, under that id, in that life.

use crate::identity::PeerId;
use crate::mutant::{self, Mutant};
use crate::types::{RaftId, StoredMembership};
use crate::wire::Envelope;

/// Why a message is not heard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Of another cluster.
    #[error("it is of another cluster")]
    OtherCluster,
    /// For another id, or another life of this peer.
    #[error("it is for member {0}")]
    OtherReceiver(RaftId),
    /// Its sender claims an id that belongs to another peer or another life.
    #[error("member {0} is somebody else")]
    Impostor(RaftId),
    /// Its sender is a member no more.
    #[error("member {0} was removed")]
    Removed(RaftId),
    /// Its sender has no id yet.
    #[error("the sender is no member")]
    NoMember,
}

/// Is a message of the Raft group heard?
///
/// `committed` and `effective` are the memberships this replica knows. Ids are log indices, so what is known up to one
/// index says about every lower id whether it belongs to a member; a sender with a higher id may have been admitted
/// since, by a leader who knows more, and is heard.
///
/// # Errors
/// [`Refusal`] says why not.
pub fn hears(
    envelope: &Envelope,
    sender: PeerId,
    me: &Envelope,
    committed: &StoredMembership,
    effective: &StoredMembership,
) -> Result<(), Refusal> {
    if envelope.cluster != me.cluster {
        return Err(Refusal::OtherCluster);
    }
    if envelope.to != me.from {
        return Err(Refusal::OtherReceiver(envelope.to));
    }
    if envelope.from == 0 {
        return Err(Refusal::NoMember);
    }
    if mutant::is(Mutant::IncarnationNotChecked) {
        return Ok(());
    }
    let known = committed.membership().get_node(&envelope.from).or(effective.membership().get_node(&envelope.from));
    match known {
        Some(member) if member.peer == sender && member.incarnation == envelope.incarnation => Ok(()),
        Some(_) => Err(Refusal::Impostor(envelope.from)),
        None if committed.log_id().is_some_and(|id| envelope.from <= id.index) => Err(Refusal::Removed(envelope.from)),
        None => Ok(()),
    }
}
