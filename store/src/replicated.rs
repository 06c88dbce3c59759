//! The store as a client on one host sees it: commands through the log, reads from this host's replica.
//!
//! Writes are linearizable and applied once. A read gives a state that really was, with its revision: this replica's, or
//! if asked for no older one than anybody was told of. A watch tells every change once.

mod lock;
mod publish;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use lock::{Held, LockError, Lost};

use crate::command::{Body, Op, Prefix, Txn};
use crate::event::{Entry, LeaseId, Value};
use crate::host::HostName;
use crate::key::{Key, NoKey, Space};
use crate::keyspace::Keyspace;
use crate::limits::{LANES_MAX, LANES_WIDE_MAX};
use crate::machine::Shared;
use crate::outcome::Done;
use crate::revision::Revision;
use crate::session::{CallError, Deadline, Pauses, ProposeError, Proposer, Sessions};
use crate::view::View;
use crate::watch::{Filter, Position, Watch, WatchError, Watches};
use crate::world::{Exports, Published, World};

/// How new a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// As this replica stands, also without a quorum: some moments old, or as old as the last contact.
    Local,
    /// No older than anything that anybody was told before; waits so long for it.
    Latest(Duration),
}

/// What was found, and when it was so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<T> {
    /// The state it was read from.
    pub revision: Revision,
    /// What was read.
    pub value: T,
}

/// One host's way into the store. Copies share their sessions.
pub struct Client<P> {
    inner: Arc<Inner<P>>,
}

struct Inner<P> {
    proposer: P,
    shared: Arc<Shared>,
    watches: Watches,
    sessions: Sessions,
    host: HostName,
    /// How long publishing may take before it is given up, to be tried again by whoever publishes.
    patience: Duration,
    /// One publication at a time, and the generation of the last.
    publishing: tokio::sync::Mutex<u64>,
    viewing: Mutex<Viewing>,
    /// Wakes those who wait for another view when something else is followed.
    followed: tokio::sync::Notify,
}

/// What this host follows, and the latest view of it.
#[derive(Debug, Default)]
struct Viewing {
    interest: crate::view::Interest,
    view: View,
}

impl<P> Clone for Client<P> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<P> fmt::Debug for Client<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("host", &self.inner.host).finish_non_exhaustive()
    }
}

impl<P: Proposer> Client<P> {
    /// A client on the host of this name, whose replica shares this state. `patience` bounds what
    /// [`World::publish`] waits for.
    #[must_use]
    pub fn new(proposer: P, shared: Arc<Shared>, watches: Watches, host: HostName, patience: Duration) -> Self {
        let inner = Inner {
            proposer,
            shared,
            watches,
            sessions: Sessions::new(LANES_MAX),
            host,
            patience,
            publishing: tokio::sync::Mutex::default(),
            viewing: Mutex::default(),
            followed: tokio::sync::Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Another client on the same host, with sessions of its own and room for many commands at once: one that stands for
    /// many.
    #[must_use]
    pub fn widened(&self) -> Self
    where
        P: Clone,
    {
        let Inner { proposer, shared, watches, host, patience, .. } = &*self.inner;
        let inner = Inner {
            proposer: proposer.clone(),
            shared: shared.clone(),
            watches: watches.clone(),
            sessions: Sessions::new(LANES_WIDE_MAX),
            host: host.clone(),
            patience: *patience,
            publishing: tokio::sync::Mutex::default(),
            viewing: Mutex::default(),
            followed: tokio::sync::Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Has a command applied once; gives the revision of its outcome.
    ///
    /// # Errors
    /// Whether it was done is in the error, as far as it is known.
    pub async fn call(&self, body: Body, limit: Duration) -> Result<(Revision, Done), CallError> {
        let deadline = Deadline::after(&self.inner.proposer, limit);
        self.inner.sessions.call(&self.inner.proposer, body, deadline).await
    }

    /// Writes a key of `k/`, or this host's entry of a map.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn put(
        &self,
        key: Key,
        value: impl Into<Value>,
        lease: Option<LeaseId>,
        limit: Duration,
    ) -> Result<Revision, CallError> {
        let (revision, _) = self.call(Body::Put { key, value: value.into(), lease }, limit).await?;
        Ok(revision)
    }

    /// This host's entry of a map.
    ///
    /// # Errors
    /// When there can be no map of this name.
    pub fn map_entry(&self, namespace: &str) -> Result<Key, NoKey> {
        let key = Key::parse(&format!("{}{namespace}/{}", Space::Maps.prefix(), self.inner.host))?;
        // A namespace with a slash would end up as another map of another host.
        if namespace.contains('/') { Err(NoKey::Form(Space::Maps)) } else { Ok(key) }
    }

    /// Deletes a key; gives whether it was there.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn delete(&self, key: Key, limit: Duration) -> Result<(Revision, bool), CallError> {
        let (revision, done) = self.call(Body::Delete { key }, limit).await?;
        Ok((revision, matches!(done, Done::Deleted { count: 1.. })))
    }

    /// Deletes all keys of `k/` or `m/` that begin so; gives how many.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn delete_prefix(&self, prefix: Prefix, limit: Duration) -> Result<(Revision, u32), CallError> {
        let (revision, done) = self.call(Body::DeletePrefix { prefix }, limit).await?;
        let count = if let Done::Deleted { count } = done { count } else { 0 };
        Ok((revision, count))
    }

    /// Compares, then carries out one of two lists; gives whether the comparisons held.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn txn(&self, txn: Txn, limit: Duration) -> Result<(Revision, bool), CallError> {
        match self.call(Body::Txn(txn), limit).await? {
            (revision, Done::Txn { held, .. }) => Ok((revision, held)),
            _ => Err(CallError::Strange),
        }
    }

    /// Carries out all changes or none.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn all(&self, then: Vec<Op>, limit: Duration) -> Result<Revision, CallError> {
        let (revision, _) = self.txn(Txn { then, ..Txn::default() }, limit).await?;
        Ok(revision)
    }

    /// Opens a lease; gives how many seconds it lives without being renewed. Renew it with [`Client::renew`].
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn grant(&self, ttl_s: u32, limit: Duration) -> Result<(LeaseId, u32), CallError> {
        match self.call(Body::LeaseGrant { ttl_s }, limit).await? {
            (_, Done::Leased { lease, ttl_s }) => Ok((lease, ttl_s)),
            _ => Err(CallError::Strange),
        }
    }

    /// Ends a lease, and what is on it.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn revoke(&self, lease: LeaseId, limit: Duration) -> Result<Revision, CallError> {
        let (revision, _) = self.call(Body::LeaseRevoke { lease }, limit).await?;
        Ok(revision)
    }

    /// Waits, by the clock of the mesh's part of this process.
    pub async fn pause(&self, time: Duration) {
        self.inner.proposer.sleep(time).await;
    }

    /// Says that the holder of a lease is there; tries once. `false`: it has ended.
    ///
    /// # Errors
    /// When the leader could not be told.
    pub async fn renew(&self, lease: LeaseId, limit: Duration) -> Result<bool, ProposeError> {
        self.inner.proposer.renew(lease, limit).await
    }

    /// Reads one key.
    ///
    /// # Errors
    /// Only of a read that must be [`Read::Latest`]: it was not to be had in time.
    pub async fn get(&self, key: &Key, read: Read) -> Result<Found<Option<Entry>>, CallError> {
        self.read(read, |keyspace| keyspace.get(key.as_str()).cloned()).await
    }

    /// Reads up to `count` keys that begin so, in their order, from `start` on (the prefix itself, to begin with).
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn range(
        &self,
        prefix: &str,
        start: &str,
        count: usize,
        read: Read,
    ) -> Result<Found<Vec<(Key, Entry)>>, CallError> {
        self.read(read, |keyspace| {
            let from =
                keyspace.range(start.max(prefix), AFTER_ALL).take_while(|(key, _)| key.as_str().starts_with(prefix));
            from.take(count).map(|(key, entry)| (key.clone(), entry.clone())).collect()
        })
        .await
    }

    /// Reads the state between two commands.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn read<T>(&self, read: Read, reader: impl FnOnce(&Keyspace) -> T + Send) -> Result<Found<T>, CallError> {
        if let Read::Latest(limit) = read {
            self.catch_up(Deadline::after(&self.inner.proposer, limit)).await?;
        }
        Ok(self.inner.shared.read(|keyspace| Found { revision: keyspace.revision(), value: reader(keyspace) }))
    }

    /// Follows changes after a revision, usually that of a read.
    ///
    /// # Errors
    /// When this host has too many watches.
    pub fn watch(&self, filter: Filter, after: Revision) -> Result<Watch, WatchError> {
        self.inner.watches.open(filter, after)
    }

    /// Goes on with a watch, also with one of another host.
    ///
    /// # Errors
    /// As [`Client::watch`].
    pub fn resume(&self, filter: Filter, position: Position) -> Result<Watch, WatchError> {
        self.inner.watches.resume(filter, position)
    }

    /// Closes the sessions of this client, for politeness: they end by themselves after an hour.
    pub async fn close(&self, limit: Duration) {
        let deadline = Deadline::after(&self.inner.proposer, limit);
        for session in self.inner.sessions.open() {
            let Some(left) = deadline.left(&self.inner.proposer) else { return };
            let close = crate::command::Request::plain(Body::SessionClose { session }).encode();
            if let Err(error) = self.inner.proposer.propose(close, left).await {
                tracing::debug!(session, %error, "a session is left to its end");
            }
        }
    }

    /// Waits until this replica has everything that anybody was told of before.
    async fn catch_up(&self, deadline: Deadline) -> Result<(), CallError> {
        let proposer = &self.inner.proposer;
        let mut pauses = Pauses::new();
        while let Some(left) = deadline.left(proposer) {
            match proposer.barrier(left).await {
                Ok(revision) if self.reached(revision, deadline).await => return Ok(()),
                Err(ProposeError::Stopped) => return Err(CallError::Stopped),
                // Nothing is changed by asking, so that it never matters whether it was done.
                Ok(_) | Err(ProposeError::NoLeader | ProposeError::Unknown) => {}
            }
            pauses.pause(proposer, deadline).await;
        }
        Err(CallError::Unavailable)
    }

    /// Waits until this replica has come so far; `false` if it has not in time.
    async fn reached(&self, revision: Revision, deadline: Deadline) -> bool {
        let Some(before) = revision.0.checked_sub(1) else { return true };
        let left = deadline.left(&self.inner.proposer).unwrap_or_default();
        tokio::select! {
            biased;
            _ = self.inner.shared.changed_since(Revision(before)) => true,
            () = self.inner.proposer.sleep(left) => false,
        }
    }
}

/// A text after all keys.
const AFTER_ALL: &str = "\u{10ffff}";

impl<P: Proposer> World for Client<P> {
    type Error = CallError;

    async fn publish(&self, exports: &Exports) -> Result<Published, CallError> {
        publish::publish(self, exports).await
    }

    fn follow(&self, interest: crate::view::Interest) {
        let mut viewing = self.inner.viewing.lock().unwrap_or_else(PoisonError::into_inner);
        if viewing.interest != interest {
            viewing.interest = interest;
            viewing.anew(&self.inner.shared);
            drop(viewing);
            self.inner.followed.notify_waiters();
        }
    }

    fn view(&self) -> View {
        let mut viewing = self.inner.viewing.lock().unwrap_or_else(PoisonError::into_inner);
        viewing.catch_up(&self.inner.shared);
        viewing.view.clone()
    }

    async fn changed(&self, from: &View) -> View {
        loop {
            let followed = self.inner.followed.notified();
            tokio::pin!(followed);
            // Enlisted before looking: what is followed from here on wakes it.
            followed.as_mut().enable();
            let view = self.view();
            if view != *from {
                return view;
            }
            tokio::select! {
                biased;
                () = followed => {}
                _ = self.inner.shared.changed_since(view.revision()) => {}
            }
        }
    }
}

impl Viewing {
    /// Brings the view up to date: by what has changed, or from the whole state where that is not known.
    fn catch_up(&mut self, shared: &Shared) {
        let after = self.view.revision();
        let next = shared.scan(after, |events, settled| self.view.after(events, settled, &self.interest));
        match next {
            Ok(view) => self.view = view,
            Err(_) => self.anew(shared),
        }
    }

    /// Takes the view from the whole state. The keys are copied first, which is quick: commands wait meanwhile.
    fn anew(&mut self, shared: &Shared) {
        // Asked for before: the state may have more, and never has less.
        let settled = shared.revision();
        let (revision, keys) = shared.read(|keyspace| (keyspace.revision(), keyspace.tables().keys.clone()));
        let view = View::of_keys(revision, &keys, &self.interest);
        let view = view.at(view.revision().max(settled).max(self.view.revision()));
        // What holds the same is the same: whoever compares the two has nothing to do.
        self.view = if view == self.view { self.view.at(view.revision()) } else { view };
    }
}
