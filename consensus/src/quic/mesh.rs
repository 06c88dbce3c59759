//! This peer's end of the mesh.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::calls::Gone;
use super::complaints::{Complaints, Kind};
use super::configs::Identity;
use super::endpoint::Endpoint;
use super::guests::Guests;
use super::inbox::Inbox;
use super::peer::Peer;
use super::{Caller, Close, Credentials, Doorkeeper, QuicReply, chance};
use crate::identity::{ClusterId, PeerId};
use crate::limits::{DEADLINE_MAX, FRAME_BYTES_MAX};
use crate::transport::{CallError, Incoming, Lane, Transport};

/// What all tasks of one end share.
pub(super) struct Shared {
    pub(super) quinn: quinn::Endpoint,
    cluster: ClusterId,
    me: PeerId,
    /// Drawn at the start, never 0: by it others know a peer that was started again.
    pub(super) life: u64,
    pub(super) doorkeeper: Arc<dyn Doorkeeper>,
    pub(super) inbox: Inbox,
    pub(super) guests: Guests,
    pub(super) complaints: Arc<Complaints>,
    /// What is shown and believed, and how others are called with it.
    face: Mutex<Face>,
    peers: Mutex<BTreeMap<PeerId, Arc<Peer>>>,
    is_closed: AtomicBool,
    /// For all who wait at that moment.
    pub(super) closed: Notify,
}

/// What is shown and believed, and how others are called with it.
#[derive(Clone)]
pub(super) struct Face {
    pub(super) identity: Identity,
    pub(super) client: quinn::ClientConfig,
}

impl Shared {
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    pub(super) fn face(&self) -> Face {
        self.face.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_face(&self, face: Face) {
        *self.face.lock().unwrap_or_else(PoisonError::into_inner) = face;
    }

    /// Would whoever has shown this certificate be let in now?
    pub(super) fn admits(&self, certificate: &[u8], identity: &Identity) -> Result<Caller, String> {
        identity.vouches(certificate)?;
        self.doorkeeper.admits(certificate)
    }

    pub(super) fn misbehaved(&self, connection: &quinn::Connection, why: &str) {
        self.complaints.note(Kind::Misbehaved, connection.remote_address(), &why);
        Close::Misbehaved.say(connection, why);
    }

    fn peers(&self) -> Vec<Arc<Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// A peer has connected to us.
    pub(super) fn has_called(&self, peer: PeerId, life: u64) {
        let known = self.peers.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned();
        if let Some(known) = known {
            known.has_called(life);
        }
    }

    /// The way to a peer; the first to ask makes it. `None` once closed.
    fn peer(self: &Arc<Self>, peer: PeerId) -> Option<Arc<Peer>> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = peers.get(&peer) {
            return Some(known.clone());
        }
        // Under the lock, which closing takes as well: no way is made after the last one was closed.
        if self.is_closed() {
            return None;
        }
        let made = Arc::new(Peer::new(peer));
        peers.insert(peer, made.clone());
        tokio::spawn(made.clone().keep(self.clone()));
        Some(made)
    }

    /// Asks again about everybody who is connected.
    fn recheck(&self) {
        let Face { identity, .. } = self.face();
        let admits = |certificate: &[u8]| self.admits(certificate, &identity);
        self.guests.recheck(admits);
        self.peers().iter().for_each(|peer| peer.recheck(admits));
    }

    pub(super) fn close(&self) {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_closed.store(true, Ordering::SeqCst);
        drop(peers);
        self.peers().iter().for_each(|peer| peer.close());
        self.guests.close();
        self.inbox.close();
        self.closed.notify_waiters();
    }
}

/// This peer's end of the mesh: a [`Transport`].
#[derive(Clone)]
pub struct Quic {
    pub(super) shared: Arc<Shared>,
    endpoint: Endpoint,
}

impl fmt::Debug for Quic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { me, cluster, .. } = &*self.shared;
        f.debug_struct("Quic").field("me", me).field("cluster", cluster).finish_non_exhaustive()
    }
}

impl Quic {
    pub(super) fn new(
        endpoint: Endpoint,
        quinn: quinn::Endpoint,
        complaints: Arc<Complaints>,
        face: Face,
        (cluster, me): (ClusterId, PeerId),
        doorkeeper: Arc<dyn Doorkeeper>,
    ) -> Self {
        let shared = Shared {
            quinn,
            cluster,
            me,
            life: u64::from_le_bytes(chance()).max(1),
            doorkeeper,
            inbox: Inbox::default(),
            guests: Guests::default(),
            complaints,
            face: Mutex::new(face),
            peers: Mutex::default(),
            is_closed: AtomicBool::new(false),
            closed: Notify::new(),
        };
        let shared = Arc::new(shared);
        tokio::spawn(recheck(Arc::downgrade(&shared), endpoint.recheck()));
        Self { shared, endpoint }
    }

    /// Shows another certificate from now on, and believes other authorities. Connections that are open stay.
    ///
    /// # Errors
    /// The credentials cannot be used; all stays as it was.
    pub fn renew(&self, credentials: Credentials) -> io::Result<()> {
        self.endpoint.renew(self, &credentials)
    }

    /// Asks again about everybody who is connected, and closes what would not be let in any more: the doorkeeper says no,
    /// the certificate has expired, or its authority is believed no more.
    pub fn recheck(&self) {
        self.shared.recheck();
    }
}

/// Certificates expire without an event, and what should have led to a recheck may have been missed: everybody is looked
/// at again every so often, until the mesh is closed or nobody has it any more.
async fn recheck(shared: Weak<Shared>, period: Duration) {
    loop {
        tokio::time::sleep(period).await;
        match shared.upgrade() {
            Some(shared) if !shared.is_closed() => shared.recheck(),
            _ => return,
        }
    }
}

/// A call that nobody waits for any more.
struct Forget<'a> {
    peer: &'a Peer,
    lane: Lane,
    call: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.peer.forget(self.lane, self.call);
    }
}

impl Transport for Quic {
    type Reply = QuicReply;

    fn me(&self) -> PeerId {
        self.shared.me
    }

    async fn call(&self, to: PeerId, lane: Lane, message: Bytes, deadline: Duration) -> Result<Bytes, CallError> {
        if message.len() > FRAME_BYTES_MAX {
            return Err(CallError::TooLarge(message.len()));
        }
        let peer = self.shared.peer(to).ok_or(CallError::Closed)?;
        let (call, answer) = peer.begin(lane, message).ok_or(CallError::Closed)?;
        let _forget = Forget { peer: &peer, lane, call };
        match tokio::time::timeout(deadline.min(DEADLINE_MAX), answer).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(Gone::Unreachable))) => Err(CallError::Unreachable(to)),
            Ok(Ok(Err(Gone::Closed)) | Err(_)) => Err(CallError::Closed),
            Err(_elapsed) => Err(CallError::Timeout(to, deadline)),
        }
    }

    async fn accept(&self) -> Option<Incoming<Self::Reply>> {
        self.shared.inbox.accept().await
    }

    fn close(&self) {
        self.shared.close();
    }
}
