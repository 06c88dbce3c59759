//! The network of a host with an ear in it. What leaves the host is looked at before it does: a vote is sighted when it
//! is given, and not when the host says that it gave it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mgmt_consensus::PeerId;
use mgmt_consensus::transport::{CallError, Incoming, Lane, Reply, Transport};
use mgmt_consensus::types::{Membership, Payload};
use mgmt_consensus::wire::{self, Answer, Append, Ballot, Request};

use crate::oracle::history::Index;
use crate::oracle::invariants::{Id, Sighting, Term};
use crate::trace::sum_of;

/// Something that was said.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Something for the invariants.
    Sighting(Sighting),
    /// An entry is sent to a member: where it stands, by whom it was written, a number for it, and the membership that
    /// is in it.
    Entry { term: Term, writer: Id, index: Index, sum: u64, membership: Option<Membership> },
}

/// Who listens.
pub(crate) type Ear = Arc<dyn Fn(Heard) + Send + Sync>;

/// A host's end of the network.
#[derive(Clone)]
pub(crate) struct Tapped<T> {
    end: T,
    ear: Ear,
}

impl<T> Tapped<T> {
    pub(crate) fn new(end: T, ear: Ear) -> Self {
        Self { end, ear }
    }

    fn listen(&self, message: &[u8]) {
        let Ok((envelope, request)) = wire::decode_request(message) else { return };
        if envelope.from == wire::NOBODY {
            return;
        }
        let (id, incarnation) = (envelope.from, envelope.incarnation.0);
        let term = match &request {
            Request::Vote(ballot) => Some(ballot.vote.leader_id.term),
            _ => None,
        };
        (self.ear)(Heard::Sighting(Sighting::Speaks { id, incarnation, term }));
        if let Request::Append(Append { vote, entries, .. }) = request {
            let term = vote.leader_id.term;
            (self.ear)(Heard::Sighting(Sighting::Leads { id, term, last: None }));
            for entry in entries {
                let (term, writer) = (entry.log_id.leader_id.term, entry.log_id.leader_id.node_id);
                let (sum, membership) = match entry.payload {
                    Payload::Blank => (0, None),
                    Payload::Normal(command) => (sum_of(&command.0), None),
                    Payload::Membership(membership) => (sum_of(format!("{membership:?}").as_bytes()), Some(membership)),
                };
                (self.ear)(Heard::Entry { term, writer, index: entry.log_id.index, sum, membership });
            }
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Tapped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.end.fmt(f)
    }
}

impl<T: Transport> Transport for Tapped<T> {
    type Reply = TappedReply<T::Reply>;

    fn me(&self) -> PeerId {
        self.end.me()
    }

    async fn call(&self, to: PeerId, lane: Lane, message: Bytes, deadline: Duration) -> Result<Bytes, CallError> {
        self.listen(&message);
        self.end.call(to, lane, message, deadline).await
    }

    async fn accept(&self) -> Option<Incoming<Self::Reply>> {
        let Incoming { from, may_lead, lane, message, reply } = self.end.accept().await?;
        let ballot = match wire::decode_request(&message) {
            Ok((_, Request::Vote(ballot))) => Some(ballot),
            _ => None,
        };
        let reply = TappedReply { reply, ballot, ear: self.ear.clone() };
        Some(Incoming { from, may_lead, lane, message, reply })
    }

    fn close(&self) {
        self.end.close();
    }
}

/// The way back to whoever called.
pub(crate) struct TappedReply<R> {
    reply: R,
    /// What was asked, if a vote was.
    ballot: Option<Ballot>,
    ear: Ear,
}

impl<R: fmt::Debug> fmt::Debug for TappedReply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reply.fmt(f)
    }
}

impl<R: Reply> Reply for TappedReply<R> {
    fn send(self, answer: Bytes) {
        if let Some((ballot, (envelope, Answer::Vote(cast)))) = self.ballot.zip(wire::decode_answer(&answer).ok())
            && cast.granted
        {
            let (term, candidate) = (ballot.vote.leader_id.term, ballot.vote.leader_id.node_id);
            (self.ear)(Heard::Sighting(Sighting::Granted { voter: envelope.from, term, candidate }));
        }
        self.reply.send(answer);
    }
}
