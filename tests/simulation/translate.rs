//! The program's commands and outcomes in the oracle's words. The one place that knows both.

use std::collections::BTreeMap;

use bytes::Bytes;
use mgmt_store::command::{self, Op, Test};
use mgmt_store::outcome::Done;
use mgmt_store::{Body, Command, Event, Key, Outcome, Shared};

use crate::oracle::history::{Call, Change, Compare, Entry, Found, Index, Reply};
use crate::oracle::{Verdict, broken, model};

/// The log as the oracle reads it.
pub(crate) fn entries(log: &BTreeMap<Index, (Bytes, Bytes)>) -> Verdict<Vec<Entry>> {
    let read = |(index, (command, outcome)): (&Index, &(Bytes, Bytes))| {
        let Ok(command) = Command::decode(command) else {
            return broken("the log can be read", format!("the command at {index}"));
        };
        let Some(reply) = reply(outcome) else {
            return broken("the log can be read", format!("the outcome at {index}"));
        };
        // What hosts themselves publish has judges of its own.
        let of_client = !matches!(command.request.body, Body::ExportStage { .. } | Body::ExportFlip { .. });
        let id = command.request.ticket.filter(|_| of_client).map(|ticket| (ticket.session, ticket.sequence));
        Ok(Entry { index: *index, id, call: call(&command.request.body), reply })
    };
    log.iter().map(read).collect()
}

/// What a command asks.
pub(crate) fn call(body: &Body) -> Call {
    match body {
        Body::Put { key, value, lease } => {
            let lease = lease.map(|lease| lease.0);
            Call::Put { key: key.as_str().to_owned(), value: text(value), lease }
        }
        Body::Delete { key } => Call::Delete { key: key.as_str().to_owned() },
        Body::Txn(txn) => Call::Transaction {
            compares: txn.compare.iter().filter_map(compare).collect(),
            then: txn.then.iter().filter_map(change).collect(),
            otherwise: txn.otherwise.iter().filter_map(change).collect(),
        },
        Body::LeaseGrant { .. } => Call::Grant,
        Body::LeaseRevoke { lease } => Call::End { leases: vec![lease.0] },
        Body::LeaseExpire { leases } => Call::End { leases: leases.iter().map(|lease| lease.0).collect() },
        Body::Acquire { lock, lease, .. } => Call::Lock { name: lock.as_str().to_owned(), lease: lease.0 },
        Body::Release { lock, lease } => Call::Unlock { name: lock.as_str().to_owned(), lease: lease.0 },
        _ => Call::Other,
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

fn compare(compare: &command::Compare) -> Option<Compare> {
    let command::Compare::Key(key, test) = compare else { return None };
    let key = key.as_str().to_owned();
    match test {
        Test::Value(true, value) => Some(Compare::Value { key, is: Some(text(value)) }),
        Test::Present(false) => Some(Compare::Value { key, is: None }),
        Test::Modify(command::Relation::Equal, at) => Some(Compare::Modified { key, at: at.0 }),
        _ => None,
    }
}

fn change(op: &Op) -> Option<Change> {
    match op {
        Op::Put { key, value, .. } => Some(Change::Put { key: key.as_str().to_owned(), value: text(value) }),
        Op::Delete { key } => Some(Change::Delete { key: key.as_str().to_owned() }),
        Op::DeletePrefix { .. } => None,
    }
}

/// What was answered.
pub(crate) fn reply(outcome: &[u8]) -> Option<Reply> {
    let outcome = Outcome::decode(outcome).ok()?;
    Some(match outcome.result {
        Err(refusal) => Reply::Refused(refusal.to_string()),
        Ok(Done::Deleted { count }) => Reply::Deleted(count.into()),
        Ok(Done::Txn { held, .. }) => Reply::Held(held),
        Ok(Done::Leased { lease, .. }) => Reply::Leased(lease.0),
        Ok(Done::Held { fence }) => Reply::Locked(Some(fence.0)),
        Ok(Done::Waiting { .. }) => Reply::Locked(None),
        Ok(Done::Session { session }) => Reply::Opened(session),
        Ok(_) => Reply::Done,
    })
}

/// An event as a watcher was shown it.
pub(crate) fn event(event: &Event) -> model::Event {
    let now = match &event.change {
        mgmt_store::Change::Put(entry) => Some((text(&entry.value), entry.version)),
        mgmt_store::Change::Delete => None,
    };
    model::Event { revision: event.revision.0, key: event.key.as_str().to_owned(), now }
}

/// The keys of a host's replica that begin so, and the revision they are of.
pub(crate) fn read(shared: &Shared, prefix: &str) -> (Index, BTreeMap<String, Found>) {
    shared.read(|keyspace| {
        let found = |(key, entry): (&Key, &mgmt_store::Entry)| {
            let found = Found { value: text(&entry.value), modified: entry.modify.0, version: entry.version };
            (key.as_str().to_owned(), found)
        };
        (keyspace.revision().0, keyspace.prefix(prefix).map(found).collect())
    })
}
