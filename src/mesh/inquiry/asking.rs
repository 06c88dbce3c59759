//! The asking end: one member, or all at the same time.

use std::collections::BTreeMap;
use std::time::Duration;

use mgmt_consensus::replica::ProposeError;
use mgmt_consensus::types::{Member, RaftId};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::super::messages::inquiry::{Answer, Inquiry};
use super::super::messages::join::Kind;
use super::super::messages::{MessageError, printable};
use super::super::node::Replica;

/// Why there is no answer to what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It cannot be reached, or takes too long.
    #[error("{0}")]
    Silent(String),
    /// It does not answer that now.
    #[error("{0}")]
    NotNow(String),
    /// It does not know the question: another version.
    #[error("it does not understand the question: another version of the program, most likely")]
    Strange,
}

/// A member that was asked, and what it said.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Its id.
    pub id: RaftId,
    /// Who it is.
    pub member: Member,
    /// What it said.
    pub answer: Result<Answer, AskError>,
}

/// Asks a member, within the deadline.
///
/// # Errors
/// [`AskError`].
pub async fn ask(replica: &Replica, to: RaftId, inquiry: Inquiry, deadline: Duration) -> Result<Answer, AskError> {
    let message = inquiry.write().map_err(|error| AskError::NotNow(error.to_string()))?;
    match replica.hand(to, message, deadline).await {
        Ok(answer) => understood(Answer::read(&answer)),
        Err(error @ (ProposeError::Refused(_) | ProposeError::Stopped(_))) => Err(AskError::NotNow(error.to_string())),
        Err(ProposeError::Unknown(why)) => Err(AskError::Silent(named(replica, to, &why))),
        Err(error) => Err(AskError::Silent(error.to_string())),
    }
}

/// The words with the member's name in them, by which people know it.
fn named(replica: &Replica, id: RaftId, words: &str) -> String {
    let standing = replica.standing();
    let member = standing.members().find(|(other, _)| *other == id);
    member.map_or_else(|| words.to_owned(), |(_, member)| words.replace(&member.peer.to_string(), &member.host))
}

fn understood(answer: Result<Answer, MessageError>) -> Result<Answer, AskError> {
    match answer {
        Ok(Answer::Refused { kind: Kind::Malformed, .. }) | Err(_) => Err(AskError::Strange),
        Ok(Answer::Refused { why, .. }) => Err(AskError::NotNow(printable(&why))),
        Ok(answer) => Ok(answer),
    }
}

/// Asks all members of the group at the same time, this one included, each within the deadline. On the mesh's own
/// threads, where the ways to the others are kept.
pub async fn ask_all(on: &Handle, replica: &Replica, inquiry: &Inquiry, deadline: Duration) -> Vec<Asked> {
    ask_some(on, replica, |_, _| true, inquiry, deadline).await
}

/// The same, of those that are meant.
pub async fn ask_some(
    on: &Handle,
    replica: &Replica,
    is_meant: impl Fn(RaftId, &Member) -> bool,
    inquiry: &Inquiry,
    deadline: Duration,
) -> Vec<Asked> {
    let mut asking = JoinSet::new();
    for (id, member) in replica.standing().members().filter(|(id, member)| is_meant(*id, member)) {
        let (replica, member, inquiry) = (replica.clone(), member.clone(), inquiry.clone());
        let asked = async move { Asked { id, answer: ask(&replica, id, inquiry, deadline).await, member } };
        asking.spawn_on(asked, on);
    }
    let mut all = BTreeMap::new();
    while let Some(asked) = asking.join_next().await {
        match asked {
            Ok(asked) => _ = all.insert((asked.member.host.clone(), asked.id), asked),
            Err(error) => tracing::error!(%error, "mesh: a member was not asked"),
        }
    }
    all.into_values().collect()
}
