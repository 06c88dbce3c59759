//! Sessions: what became of the last command of each, so that one that is sent again is not applied again.

use mgmt_consensus::mutant::{self, Mutant};

use super::{Keyspace, Turn};
use crate::command::Ticket;
use crate::host::HostName;
use crate::limits::{SESSIONS_MAX, SESSIONS_PER_HOST_MAX};
use crate::outcome::{Clash, Denied, Done, Missing, Outcome, Quota, Refusal};

/// A session that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) host: HostName,
    /// When it was used last, by the leaders' time.
    pub(crate) used_ms: u64,
    /// The number of its last command, and what became of that. A refusal is kept like anything else: whoever was told
    /// that a command was refused will not find it done later.
    pub(crate) last: Option<(u64, Outcome)>,
}

impl Keyspace {
    /// What became of a command that was sent before; `None` if it was not, and is next.
    pub(super) fn known(&self, host: &HostName, ticket: Ticket) -> Result<Option<Outcome>, Refusal> {
        let session = self.tables.sessions.get(&ticket.session).ok_or(Refusal::NotFound(Missing::Session))?;
        if session.host != *host {
            return Err(Refusal::NotAllowed(Denied::Owner));
        }
        match &session.last {
            Some((sequence, outcome)) if *sequence == ticket.sequence => {
                let again = mutant::is(Mutant::RetryAppliedTwice);
                Ok((!again).then(|| outcome.clone()))
            }
            Some((sequence, _)) if *sequence > ticket.sequence => Err(Refusal::Conflict(Clash::Sequence)),
            _ => Ok(None),
        }
    }

    pub(super) fn remember(&mut self, ticket: Ticket, outcome: &Outcome) {
        let used_ms = self.tables.now_ms;
        if let Some(session) = self.tables.sessions.get_mut(&ticket.session) {
            (session.used_ms, session.last) = (used_ms, Some((ticket.sequence, outcome.clone())));
        }
    }
}

impl Turn<'_> {
    pub(super) fn session_open(&mut self) -> Result<Done, Refusal> {
        let host = &self.origin.host;
        let own = self.derived.usage.get(host).map_or(0, |usage| usage.sessions);
        if own >= SESSIONS_PER_HOST_MAX {
            // A host that crashed again and again has left them behind. To refuse would lock it out until they age.
            self.close_oldest();
        } else if self.tables.sessions.len() >= SESSIONS_MAX {
            return Err(Refusal::QuotaExceeded(Quota::Sessions));
        }
        let session = self.revision().0;
        let opened = Session { host: host.clone(), used_ms: self.tables.now_ms, last: None };
        self.tables.sessions.insert(session, opened);
        self.derived.count(host, |usage| usage.sessions += 1);
        Ok(Done::Session { session })
    }

    /// Closes the session of the origin's host that was used longest ago.
    fn close_oldest(&mut self) {
        let host = &self.origin.host;
        let own = self.tables.sessions.iter().filter(|(_, session)| session.host == *host);
        if let Some(oldest) = own.min_by_key(|(id, session)| (session.used_ms, **id)).map(|(id, _)| *id) {
            self.tables.sessions.remove(&oldest);
            self.derived.count(host, |usage| usage.sessions -= 1);
        }
    }

    pub(super) fn session_close(&mut self, session: u64) -> Result<Done, Refusal> {
        let known = self.tables.sessions.get(&session).ok_or(Refusal::NotFound(Missing::Session))?;
        self.owns(known.host.as_str())?;
        if let Some(closed) = self.tables.sessions.remove(&session) {
            self.derived.count(&closed.host, |usage| usage.sessions -= 1);
        }
        Ok(Done::Applied)
    }
}
