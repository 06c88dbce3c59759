//! The way to one peer: a connection that is opened when somebody calls, kept, and opened again when it is lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::calls::{Calls, Gone};
use super::frame::{Batch, Decoder, Frame};
use super::mesh::Shared;
use super::{Caller, Close, chance, dial};
use crate::identity::PeerId;
use crate::limits::STREAM_WINDOW_BYTES;
use crate::transport::Lane;

/// A connection on which nobody calls for so long is closed.
const UNUSED: Duration = Duration::from_secs(60);
/// A handshake between hosts that are near each other takes less than this; no two connections are opened within it.
const BRISK: Duration = Duration::from_millis(100);
/// What is sent first on a stream: which lane it is, and which life of its sender's this is.
pub(super) const HELLO_BYTES: usize = 1 + LIFE_BYTES;
/// What comes back first: which life of the answerer's.
pub(super) const LIFE_BYTES: usize = 8;

/// One lane to a peer.
#[derive(Default)]
struct Way {
    calls: Mutex<Calls>,
    /// There is something to send.
    work: Notify,
}

impl Way {
    /// The calls are whole at every moment at which the lock is not held.
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to one peer.
pub(super) struct Peer {
    pub(super) peer: PeerId,
    ways: [Way; Lane::ALL.len()],
    /// Somebody calls while there is no connection.
    demand: Notify,
    /// He has made himself heard, by a connection of his own.
    heard: Notify,
    connected: AtomicBool,
    /// How many calls there were: whether the connection is used.
    begun: AtomicU64,
    /// The connection there is.
    open: Mutex<Option<Open>>,
}

/// The connection there is, and which life of the peer's is at its other end; 0 until he said so.
#[derive(Clone)]
struct Open {
    connection: quinn::Connection,
    life: Arc<AtomicU64>,
}

impl Peer {
    pub(super) fn new(peer: PeerId) -> Self {
        Self {
            peer,
            ways: Default::default(),
            demand: Notify::new(),
            heard: Notify::new(),
            connected: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            open: Mutex::default(),
        }
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call; it is in line when this returns. `None`: this end is closed.
    pub(super) fn begin(&self, lane: Lane, message: Bytes) -> Option<(u64, oneshot::Receiver<Result<Bytes, Gone>>)> {
        let way = &self.ways[lane as usize];
        let begun = way.lock().begin(message)?;
        self.begun.fetch_add(1, Ordering::Relaxed);
        way.work.notify_one();
        // Whoever ends the connection says so first and looks at the calls then: one of us sees the other.
        if !self.connected.load(Ordering::SeqCst) {
            self.demand.notify_one();
        }
        Some(begun)
    }

    /// Nobody waits for this one any more.
    pub(super) fn forget(&self, lane: Lane, call: u64) {
        let way = &self.ways[lane as usize];
        if way.lock().forget(call) {
            way.work.notify_one();
        }
    }

    /// The peer has connected to us, in this life of his. If ours leads to another one, there is nobody at its end.
    pub(super) fn has_called(&self, life: u64) {
        if let Some(Open { connection, life: known }) = &*self.open()
            && ![0, life].contains(&known.load(Ordering::SeqCst))
        {
            Close::Replaced.say(connection, "there is a newer life of yours");
        }
        self.heard.notify_one();
    }

    /// Closes the connection if its other end would not be let in any more.
    pub(super) fn recheck(&self, admits: impl Fn(&[u8]) -> Result<Caller, String>) {
        let Some(Open { connection, .. }) = self.open().clone() else { return };
        let Some(certificate) = dial::shown(&connection) else { return };
        match admits(&certificate) {
            Ok(caller) if caller.peer == self.peer => {}
            Ok(_) => Close::Refused.say(&connection, "you are somebody else"),
            Err(why) => Close::Refused.say(&connection, &why),
        }
    }

    /// No more calls.
    pub(super) fn close(&self) {
        self.ways.iter().for_each(|way| way.lock().close());
        if let Some(Open { connection, .. }) = self.open().take() {
            Close::Stopping.say(&connection, "stopping");
        }
    }

    fn fail_all(&self) {
        self.ways.iter().for_each(|way| way.lock().fail_all(Gone::Unreachable));
    }

    fn anybody_calls(&self) -> bool {
        self.ways.iter().any(|way| !way.lock().is_empty())
    }

    /// Keeps the way open while somebody calls, until the mesh is closed.
    pub(super) async fn keep(self: Arc<Self>, shared: Arc<Shared>) {
        let closed = shared.closed.notified();
        tokio::pin!(closed);
        if shared.is_closed() {
            return;
        }
        tokio::select! {
            biased;
            () = &mut closed => {}
            () = self.keep_open(&shared) => {}
        }
    }

    async fn keep_open(self: &Arc<Self>, shared: &Arc<Shared>) {
        let mut backoff = Backoff::default();
        loop {
            while !self.anybody_calls() {
                self.demand.notified().await;
            }
            match self.dial(shared).await {
                Ok(connection) => {
                    let opened = Instant::now();
                    if self.clone().run(shared, &connection).await {
                        // What was not sent yet goes over the next one: at once, unless they come and go.
                        backoff.reset();
                        tokio::time::sleep_until(opened + BRISK).await;
                        continue;
                    }
                }
                Err(error) => tracing::debug!(peer = %self.peer, %error, "not reached"),
            }
            self.fail_all();
            let until = Instant::now() + backoff.failed(u32::from_le_bytes(chance()));
            if self.rest(until).await {
                backoff.reset();
            }
        }
    }

    /// Reaches him. If he makes himself heard meanwhile he has just begun to listen, and is asked anew.
    async fn dial(&self, shared: &Shared) -> Result<quinn::Connection, dial::DialError> {
        let config = shared.face().client;
        let doorkeeper = &*shared.doorkeeper;
        let _heard_before = self.heard.notified().now_or_never();
        let began_to_listen = async {
            // Two who start at the same time reach each other within this.
            tokio::time::sleep(BRISK).await;
            self.heard.notified().await;
        };
        tokio::select! {
            biased;
            result = dial::dial(&shared.quinn, &config, self.peer, doorkeeper) => return result,
            () = began_to_listen => {}
        }
        dial::dial(&shared.quinn, &config, self.peer, doorkeeper).await
    }

    /// Leaves him alone for a while: whoever calls now is told at once. Whether he has made himself heard.
    async fn rest(&self, until: Instant) -> bool {
        loop {
            tokio::select! {
                biased;
                () = self.heard.notified() => return true,
                () = tokio::time::sleep_until(until) => return false,
                () = self.demand.notified() => self.fail_all(),
            }
        }
    }

    /// Carries calls over a connection until it ends. Whether the other end has listened at all.
    async fn run(self: Arc<Self>, shared: &Arc<Shared>, connection: &quinn::Connection) -> bool {
        let life = Arc::new(AtomicU64::new(0));
        *self.open() = Some(Open { connection: connection.clone(), life: life.clone() });
        self.connected.store(true, Ordering::SeqCst);
        let mut lanes = JoinSet::new();
        for lane in Lane::ALL {
            lanes.spawn(carry(self.clone(), lane, connection.clone(), shared.life, life.clone()));
        }
        let reason = tokio::select! {
            biased;
            reason = connection.closed() => reason.to_string(),
            Some(_) = lanes.join_next() => connection.close_reason().map_or_else(String::new, |reason| reason.to_string()),
            () = self.unused() => "unused".to_owned(),
        };
        tracing::debug!(peer = %self.peer, reason, "the connection has ended");
        Close::Idle.say(connection, "");
        lanes.shutdown().await;
        self.open().take();
        self.connected.store(false, Ordering::SeqCst);
        self.ways.iter().for_each(|way| way.lock().fail_sent(Gone::Unreachable));
        life.load(Ordering::SeqCst) != 0
    }

    /// Ends once nobody has called for long, and nobody waits for an answer.
    async fn unused(&self) {
        loop {
            let before = self.begun.load(Ordering::Relaxed);
            tokio::time::sleep(UNUSED).await;
            if before == self.begun.load(Ordering::Relaxed) && !self.anybody_calls() {
                return;
            }
        }
    }
}

/// Carries one lane over one connection. The stream is opened with the first message. Ends when it fails.
async fn carry(peer: Arc<Peer>, lane: Lane, connection: quinn::Connection, own_life: u64, life: Arc<AtomicU64>) {
    let way = &peer.ways[lane as usize];
    while !way.lock().any_waiting() {
        way.work.notified().await;
    }
    let Ok((mut sender, receiver)) = connection.open_bi().await else { return };
    if sender.set_priority(priority(lane)).is_err() {
        return;
    }
    let mut hello = [0; HELLO_BYTES];
    hello[0] = lane as u8;
    hello[1..].copy_from_slice(&own_life.to_le_bytes());
    if sender.write_all(&hello).await.is_err() {
        return;
    }
    tokio::select! {
        biased;
        _ = write(way, &mut sender) => {}
        read = read(way, receiver, &life) => if let Err(Broken(why)) = read {
            Close::Misbehaved.say(&connection, &why);
        },
    }
}

/// Control before entries, entries before clients, snapshots last.
const fn priority(lane: Lane) -> i32 {
    Lane::ALL.len() as i32 - lane as i32
}

async fn write(way: &Way, stream: &mut quinn::SendStream) -> Result<(), quinn::WriteError> {
    let mut batch = Batch::default();
    loop {
        way.lock().send(&mut batch);
        if batch.is_empty() {
            way.work.notified().await;
        } else {
            stream.write_all_chunks(&mut batch.take()).await?;
        }
    }
}

/// What the other end says is against the rules.
struct Broken(String);

/// Reads answers until the stream ends.
async fn read(way: &Way, mut stream: quinn::RecvStream, life: &AtomicU64) -> Result<(), Broken> {
    let mut first = [0; LIFE_BYTES];
    if stream.read_exact(&mut first).await.is_err() {
        return Ok(());
    }
    life.store(u64::from_le_bytes(first), Ordering::SeqCst);
    let mut decoder = Decoder::default();
    while let Ok(Some(chunk)) = stream.read_chunk(STREAM_WINDOW_BYTES as usize, true).await {
        let mut piece = chunk.bytes;
        let mut calls = way.lock();
        let mut more = false;
        while let Some(Frame { call, body }) = decoder.next(&mut piece).map_err(|error| Broken(error.to_string()))? {
            more |= calls.answered(call, body);
        }
        drop(calls);
        if more {
            way.work.notify_one();
        }
    }
    Ok(())
}
