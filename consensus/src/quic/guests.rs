//! Connections of members who call us.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::VarInt;
use tokio::task::JoinSet;

use super::answers::Answers;
use super::complaints::Kind;
use super::frame::{Decoder, Frame, TooLong};
use super::inbox::Share;
use super::mesh::Shared;
use super::peer::HELLO_BYTES;
use super::{Caller, Close, Doorkeeper, QuicReply, dial};
use crate::identity::PeerId;
use crate::limits::{CONNECTION_WINDOW_BYTES, GUESTS_MAX, HANDSHAKE_DEADLINE, STREAM_WINDOW_BYTES};
use crate::transport::{Incoming, Lane};

/// A member who calls us.
struct Guest {
    peer: PeerId,
    may_lead: AtomicBool,
    certificate: Vec<u8>,
    connection: quinn::Connection,
    address: SocketAddr,
}

/// All of them: one connection of each peer.
#[derive(Default)]
pub(super) struct Guests(Mutex<BTreeMap<PeerId, Arc<Guest>>>);

impl Guests {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerId, Arc<Guest>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one in; the connection he had before is closed. `false`: there are too many.
    fn enter(&self, guest: &Arc<Guest>) -> bool {
        let mut guests = self.lock();
        if guests.len() >= GUESTS_MAX && !guests.contains_key(&guest.peer) {
            return false;
        }
        if let Some(former) = guests.insert(guest.peer, guest.clone()) {
            Close::Replaced.say(&former.connection, "there is a newer connection of yours");
        }
        true
    }

    fn leave(&self, guest: &Arc<Guest>) {
        let mut guests = self.lock();
        if guests.get(&guest.peer).is_some_and(|present| Arc::ptr_eq(present, guest)) {
            guests.remove(&guest.peer);
        }
    }

    /// Asks about all of them again.
    pub(super) fn recheck(&self, admits: impl Fn(&[u8]) -> Result<Caller, String>) {
        let guests: Vec<_> = self.lock().values().cloned().collect();
        for guest in guests {
            match admits(&guest.certificate) {
                Ok(Caller { peer, may_lead }) if peer == guest.peer => {
                    guest.may_lead.store(may_lead, Ordering::Relaxed);
                }
                Ok(_) => Close::Refused.say(&guest.connection, "you are somebody else"),
                Err(why) => Close::Refused.say(&guest.connection, &why),
            }
        }
    }

    pub(super) fn close(&self) {
        for (_, guest) in std::mem::take(&mut *self.lock()) {
            Close::Stopping.say(&guest.connection, "stopping");
        }
    }
}

/// What a connection is refused for.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("no certificate")]
    NoCertificate,
    #[error("{0}")]
    NotAdmitted(String),
}

fn admitted(connection: &quinn::Connection, doorkeeper: &dyn Doorkeeper) -> Result<Guest, Refusal> {
    let certificate = dial::shown(connection).ok_or(Refusal::NoCertificate)?.to_vec();
    let Caller { peer, may_lead } = doorkeeper.admits(&certificate).map_err(Refusal::NotAdmitted)?;
    let (connection, address) = (connection.clone(), connection.remote_address());
    Ok(Guest { peer, may_lead: AtomicBool::new(may_lead), certificate, connection, address })
}

/// Lets a member in, or not, and hears him. `handshake` is what a newcomer holds until he has said something.
pub(super) async fn receive(shared: Arc<Shared>, connection: quinn::Connection, handshake: impl Send) {
    let guest = match admitted(&connection, &*shared.doorkeeper) {
        Ok(guest) => Arc::new(guest),
        Err(refusal) => {
            shared.complaints.note(Kind::Refused, connection.remote_address(), &refusal);
            Close::Refused.say(&connection, &refusal.to_string());
            return;
        }
    };
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(Lane::ALL.len() as u32));
    connection.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES));
    // One of two addresses that were tried at the same time is given up again, and must not take the other's place.
    let first = match tokio::time::timeout(HANDSHAKE_DEADLINE, hello(&connection)).await {
        Ok(Ok(first)) => first,
        Ok(Err(Misbehaved(None))) => return,
        Ok(Err(Misbehaved(Some(why)))) => return shared.misbehaved(&connection, &why),
        Err(_elapsed) => return Close::Idle.say(&connection, "nothing was said"),
    };
    if shared.is_closed() || !shared.guests.enter(&guest) {
        return Close::Busy.say(&connection, "too many connections");
    }
    drop(handshake);
    if shared.is_closed() {
        // It was closed while he came in, perhaps without seeing him.
        return shared.guests.close();
    }
    shared.has_called(guest.peer, first.life);
    // One socket calls and is called: where he comes from is where he can be reached, whatever is known of him.
    shared.doorkeeper.reached(guest.peer, guest.address);
    let ended = hear(&shared, &guest, first).await;
    shared.guests.leave(&guest);
    match ended {
        Misbehaved(Some(why)) => shared.misbehaved(&connection, &why),
        Misbehaved(None) => Close::Done.say(&connection, ""),
    }
}

/// A stream whose first bytes were read.
struct Opened {
    lane: Lane,
    life: u64,
    sender: quinn::SendStream,
    receiver: quinn::RecvStream,
}

/// What was wrong, if it was not just an end.
struct Misbehaved(Option<String>);

async fn hello(connection: &quinn::Connection) -> Result<Opened, Misbehaved> {
    let (sender, mut receiver) = connection.accept_bi().await.map_err(|_ended| Misbehaved(None))?;
    let mut hello = [0; HELLO_BYTES];
    receiver.read_exact(&mut hello).await.map_err(|error| match error {
        quinn::ReadExactError::FinishedEarly(_) => Misbehaved(Some("a stream without a beginning".to_owned())),
        quinn::ReadExactError::ReadError(_) => Misbehaved(None),
    })?;
    let (lane, life) = hello.split_first().expect("it has more than one byte");
    let lane = *Lane::ALL.get(usize::from(*lane)).ok_or_else(|| Misbehaved(Some(format!("a lane {lane}"))))?;
    let life = u64::from_le_bytes(life.try_into().expect("it has eight bytes"));
    Ok(Opened { lane, life, sender, receiver })
}

/// Hears all lanes until one of them ends, which only happens with the connection: lanes stand.
async fn hear(shared: &Arc<Shared>, guest: &Arc<Guest>, first: Opened) -> Misbehaved {
    let mut lanes = JoinSet::new();
    let mut used = [false; Lane::ALL.len()];
    let mut next = Some(first);
    loop {
        if let Some(opened) = next.take() {
            if std::mem::replace(&mut used[opened.lane as usize], true) {
                return Misbehaved(Some("one lane twice".to_owned()));
            }
            lanes.spawn(lane(shared.clone(), guest.clone(), opened));
        }
        tokio::select! {
            biased;
            Some(ended) = lanes.join_next() => return ended.unwrap_or(Misbehaved(None)),
            opened = hello(&guest.connection) => match opened {
                Ok(opened) => next = Some(opened),
                Err(ended) => return ended,
            }
        }
    }
}

async fn lane(shared: Arc<Shared>, guest: Arc<Guest>, opened: Opened) -> Misbehaved {
    let Opened { lane, mut sender, receiver, .. } = opened;
    let answers = Arc::new(Answers::new(guest.address, shared.complaints.clone()));
    let ended = tokio::select! {
        biased;
        ended = read(&shared, &guest, lane, receiver, &answers) => ended,
        ended = async {
            sender.write_all(&shared.life.to_le_bytes()).await?;
            answers.write(&mut sender).await
        } => Misbehaved(ended.err().and_then(|error| match error {
            quinn::WriteError::Stopped(_) => Some("answers are refused".to_owned()),
            _ => None,
        })),
    };
    answers.close();
    ended
}

async fn read(
    shared: &Shared,
    guest: &Guest,
    lane: Lane,
    mut stream: quinn::RecvStream,
    answers: &Arc<Answers>,
) -> Misbehaved {
    let share = Arc::new(Share::default());
    let mut decoder = Decoder::default();
    loop {
        let mut piece = match stream.read_chunk(STREAM_WINDOW_BYTES as usize, true).await {
            Ok(Some(chunk)) => chunk.bytes,
            Ok(None) => return Misbehaved(Some("a lane that ends".to_owned())),
            Err(quinn::ReadError::Reset(_)) => return Misbehaved(Some("a lane that was cut".to_owned())),
            Err(_) => return Misbehaved(None),
        };
        loop {
            let Frame { call, body } = match decoder.next(&mut piece) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(TooLong(bytes)) => return Misbehaved(Some(format!("a message of {bytes} bytes"))),
            };
            let reply = QuicReply { answers: answers.clone(), call };
            let may_lead = guest.may_lead.load(Ordering::Relaxed);
            let incoming = Incoming { from: guest.peer, may_lead, lane, message: body, reply };
            shared.inbox.put(incoming, &share, guest.address, &shared.complaints);
            share.room().await;
        }
    }
}
