//! What others ask of this replica: heard or not, answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use openraft::AsyncRuntime;
use openraft::async_runtime::WatchReceiver as _;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use openraft::raft::{TransferLeaderError, TransferLeaderRequest};

use super::{Replica, Runtime};
use crate::gate;
use crate::ground::Ground;
use crate::limits::{REQUESTS_MAX, SNAPSHOT_BYTES_MAX};
use crate::machine::Machine;
use crate::network::mismatch;
use crate::snapshots::{Arrived, Incoming};
use crate::transport::{self, Lane, Reply as _, Transport};
use crate::types::{Group, Member, RaftId, SnapshotMeta, Vote};
use crate::wire::{self, Answer, Append, Appended, Ballot, Cast, Envelope, Mismatch, Request, Transfer, Transferred};

/// What somebody does who may not lead is said once, and then not for so long.
const QUIET: Duration = Duration::from_secs(60);

/// A snapshot that somebody sends.
pub(super) struct Receiving<G: Ground> {
    from: RaftId,
    transfer: u64,
    vote: Vote,
    meta: SnapshotMeta,
    incoming: Incoming<G>,
}

/// Listens until the transport is closed.
///
/// So many requests of each lane are worked on at once. Proposals may wait for a quorum, and must not keep out the votes
/// that bring it about: whoever comes with one too many is told so at once.
pub(super) async fn serve<G: Ground, M: Machine>(replica: Replica<G, M>) {
    let room = || Arc::new(tokio::sync::Semaphore::new(REQUESTS_MAX));
    let (group, clients) = (room(), room());
    let transport = replica.0.shared.transport.clone();
    while let Some(incoming) = transport.accept().await {
        let transport::Incoming { from, may_lead, lane, message, reply } = incoming;
        let permit = if lane == Lane::Client {
            let Ok(permit) = clients.clone().try_acquire_owned() else {
                reply.send(replica.busy(&message));
                continue;
            };
            permit
        } else {
            group.clone().acquire_owned().await.expect("nobody closes it")
        };
        let replica = replica.clone();
        drop(Runtime::<G>::spawn(async move {
            if let Some(answer) = replica.hear(from, may_lead, &message).await {
                reply.send(answer);
            }
            drop(permit);
        }));
    }
}

impl<G: Ground, M: Machine> Replica<G, M> {
    /// Answers a message; `None` where silence is the answer.
    async fn hear(&self, sender: crate::identity::PeerId, may_lead: bool, message: &[u8]) -> Option<Bytes> {
        let me = self.0.shared.me;
        let (envelope, request) = match wire::decode_request(message) {
            Ok(read) => read,
            Err(error) => return Some(mismatch(&me, Mismatch::Unreadable(error.to_string()))),
        };
        let back = Envelope { to: envelope.from, ..me };
        if let Err(refusal) = self.may(&envelope, sender, &request) {
            tracing::debug!(%sender, from = envelope.from, %refusal, "not heard");
            return Some(mismatch(&back, what(&refusal, &me)));
        }
        if !may_lead && leads(&request) {
            self.usurped(sender, envelope.from);
            return wire::encode_answer(&back, &Answer::Unavailable { why: "you may not lead".to_owned() }).ok();
        }
        if let Err(why) = self.believes(envelope.from, &request) {
            self.0.shared.disbelieves(sender, &why);
            return wire::encode_answer(&back, &Answer::Unavailable { why: why.to_string() }).ok();
        }
        let answer = self.answer(envelope.from, request).await?;
        Some(wire::encode_answer(&back, &answer).unwrap_or_else(|error| {
            tracing::error!(%error, "an answer cannot be sent");
            mismatch(&back, Mismatch::Unreadable(error.to_string()))
        }))
    }

    /// Says that somebody speaks as a leader who may not: not each time, or he could fill the log.
    fn usurped(&self, sender: crate::identity::PeerId, from: RaftId) {
        let quiet_ms = u64::try_from(QUIET.as_millis()).expect("a minute");
        let (now, said) = (self.now_ms() + 1, &self.0.usurped_ms);
        let due = |last: u64| (last == 0 || now.saturating_sub(last) >= quiet_ms).then_some(now);
        match said.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due) {
            Ok(_) => tracing::warn!(%sender, from, "not heard: its certificate does not let it lead"),
            Err(_) => tracing::debug!(%sender, from, "not heard: its certificate does not let it lead"),
        }
    }

    /// What one too many is told.
    fn busy(&self, message: &[u8]) -> Bytes {
        let me = self.0.shared.me;
        let to = wire::decode_request(message).map_or(0, |(envelope, _)| envelope.from);
        let answer = Answer::Unavailable { why: format!("{REQUESTS_MAX} requests are being worked on") };
        wire::encode_answer(&Envelope { to, ..me }, &answer).expect("it is short")
    }

    /// Is it heard? Whoever is no member yet may only ask how things stand and to be taken in.
    fn may(
        &self,
        envelope: &Envelope,
        sender: crate::identity::PeerId,
        request: &Request,
    ) -> Result<(), gate::Refusal> {
        let same = envelope.cluster == self.0.identity.cluster;
        match request {
            Request::Standing => Ok(()),
            Request::Admit { peer, .. } | Request::Enter { peer, .. } if same => {
                if *peer == sender {
                    Ok(())
                } else {
                    Err(gate::Refusal::Impostor(envelope.from))
                }
            }
            _ => {
                let metrics = self.0.raft.server_metrics();
                let metrics = metrics.borrow_watched();
                let (committed, effective) = (&metrics.committed_membership_config, &metrics.membership_config);
                gate::hears(envelope, sender, &self.0.shared.me, committed, effective)?;
                let lost = self.0.shared.acknowledged().has_lost(envelope.from);
                if lost { Err(gate::Refusal::WentBack(envelope.from)) } else { Ok(()) }
            }
        }
    }

    /// Is the vote believed with which a leader or a candidate asks?
    fn believes(&self, from: RaftId, request: &Request) -> Result<(), gate::Disbelief> {
        let vote = match request {
            Request::Append(append) => &append.vote,
            Request::Vote(ballot) | Request::PreVote(ballot) => &ballot.vote,
            Request::Transfer(transfer) => &transfer.from,
            Request::SnapshotOffer { vote, .. } => vote,
            _ => return Ok(()),
        };
        let metrics = self.0.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let is_new = metrics.membership_config.log_id().is_none();
        gate::believes_request(vote, from, (!is_new).then_some(metrics.vote.leader_id.term))
    }

    async fn answer(&self, from: RaftId, request: Request) -> Option<Answer> {
        Some(match request {
            Request::Append(append) => Answer::Append(self.append(append).await?),
            Request::Vote(ballot) => {
                let cast = self.0.raft.vote(self.vote_request(from, ballot)).await.ok()?;
                Answer::Vote(Cast { vote: cast.vote, granted: cast.vote_granted, last: cast.last_log_id })
            }
            Request::PreVote(ballot) => {
                let cast = self.0.raft.pre_vote(self.vote_request(from, ballot)).await.ok()?;
                Answer::PreVote(Cast { vote: cast.vote, granted: cast.vote_granted, last: cast.last_log_id })
            }
            Request::Transfer(transfer) => Answer::Transfer(self.take_over(transfer).await?),
            Request::SnapshotOffer { vote, meta, transfer, bytes } => {
                self.offered(from, transfer, vote, meta, bytes).await?
            }
            Request::SnapshotChunk { transfer, offset, piece } => self.piece(from, transfer, offset, &piece).await?,
            Request::SnapshotEnd { transfer, .. } => self.ended(from, transfer).await?,
            Request::Propose { command, deadline } => match self.known(from) {
                Some(member) => self.propose_here(&member, command, deadline).await,
                None => unknown(),
            },
            Request::Tell { message } => match self.known(from) {
                Some(member) => self.told_here(&member, &message),
                None => unknown(),
            },
            Request::Hand { message } => match self.known(from) {
                Some(member) => Answer::Handed { answer: self.0.clerk.handed(&member, &message).await },
                None => unknown(),
            },
            Request::ReadIndex => self.read_here(self.0.settings.election_max * 2).await,
            Request::Admit { peer, incarnation, host, replaces } => {
                self.reserve(&Member { peer, incarnation, host }, replaces).await
            }
            Request::Enter { raft_id, peer, incarnation, host } => {
                self.enter(raft_id, &Member { peer, incarnation, host }).await
            }
            Request::Standing => Answer::Standing(Box::new(self.standing_told())),
        })
    }

    fn vote_request(&self, from: RaftId, ballot: Ballot) -> VoteRequest<Group<G>> {
        let mut request = VoteRequest::new(ballot.vote, ballot.last);
        // Leadership is handed over to voters: nobody else can say so and disturb a leader who is well.
        request.leadership_transfer = ballot.transfer && self.0.shared.voters.has(from);
        request
    }

    async fn append(&self, append: Append) -> Option<Appended> {
        let Append { vote, prev, entries, commit } = append;
        let request = AppendEntriesRequest { vote, prev_log_id: prev, entries, leader_commit: commit };
        let answer = self.0.raft.append_entries(request).await.ok()?;
        if matches!(answer, AppendEntriesResponse::Conflict) {
            self.0.lags.store(true, Ordering::Relaxed);
        }
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            self.hears_a_leader();
        }
        Some(match answer {
            AppendEntriesResponse::Success => Appended::All,
            AppendEntriesResponse::PartialSuccess(last) => Appended::Until(last),
            AppendEntriesResponse::Conflict => Appended::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Appended::HigherVote(vote),
        })
    }

    async fn take_over(&self, transfer: Transfer) -> Option<Transferred> {
        let request = TransferLeaderRequest::new(transfer.from, transfer.to, transfer.last);
        Some(match self.0.raft.handle_transfer_leader(request).await.ok()? {
            Ok(()) => Transferred::Accepted,
            Err(TransferLeaderError::VoteChanged { expected, actual }) => Transferred::VoteChanged { expected, actual },
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                Transferred::LogNotFlushed { expected, actual }
            }
        })
    }

    /// A snapshot is offered: goes on with one that stopped, or begins.
    async fn offered(&self, from: RaftId, transfer: u64, vote: Vote, meta: SnapshotMeta, bytes: u64) -> Option<Answer> {
        let mut place = self.0.incoming.lock().await;
        let incoming = match place.take() {
            Some(stopped) if stopped.incoming.is(&meta, bytes) => stopped.incoming,
            _ => self.said(Incoming::begin(&self.0.snapshots, meta.clone(), bytes, SNAPSHOT_BYTES_MAX))?,
        };
        let offset = incoming.have();
        *place = Some(Receiving { from, transfer, vote, meta, incoming });
        Some(Answer::SnapshotNext { offset })
    }

    async fn piece(&self, from: RaftId, transfer: u64, offset: u64, piece: &Bytes) -> Option<Answer> {
        let mut place = self.0.incoming.lock().await;
        let receiving = place.as_mut().filter(|receiving| (receiving.from, receiving.transfer) == (from, transfer));
        let Some(receiving) = receiving else { return Some(Answer::SnapshotUnknown) };
        let arrived = receiving.incoming.piece(offset, piece);
        let (Arrived::GoOn(_) | Arrived::Complete) = self.said(arrived)?;
        Some(Answer::SnapshotNext { offset: receiving.incoming.have() })
    }

    /// All pieces are here: verifies and installs it.
    async fn ended(&self, from: RaftId, transfer: u64) -> Option<Answer> {
        let mut place = self.0.incoming.lock().await;
        let this = |receiving: &mut Receiving<G>| (receiving.from, receiving.transfer) == (from, transfer);
        let Some(receiving) = place.take_if(this) else { return Some(Answer::SnapshotUnknown) };
        let Receiving { vote, meta, incoming, .. } = receiving;
        let snapshot = match incoming.finish().await {
            Ok(snapshot) => snapshot,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                tracing::warn!(%error, from, "a snapshot that came is not used");
                return Some(Answer::SnapshotUnknown);
            }
            Err(error) => return self.said(Err(error)),
        };
        let snapshot = openraft::storage::Snapshot { meta, snapshot };
        let installed = self.0.raft.install_full_snapshot(vote, snapshot).await.ok()?;
        self.hears_a_leader();
        Some(Answer::SnapshotDone { vote: installed.vote })
    }

    /// Says what the disk says; whoever asked hears nothing, and will ask again.
    fn said<T>(&self, result: std::io::Result<T>) -> Option<T> {
        result.inspect_err(|error| tracing::error!(%error, "a snapshot cannot be received")).ok()
    }
}

/// What only a leader says, or who wants to be one.
fn leads(request: &Request) -> bool {
    match request {
        Request::Append(_)
        | Request::Vote(_)
        | Request::PreVote(_)
        | Request::Transfer(_)
        | Request::SnapshotOffer { .. }
        | Request::SnapshotChunk { .. }
        | Request::SnapshotEnd { .. } => true,
        Request::Propose { .. }
        | Request::Tell { .. }
        | Request::ReadIndex
        | Request::Admit { .. }
        | Request::Enter { .. }
        | Request::Standing
        | Request::Hand { .. } => false,
    }
}

/// An answer to somebody whose admission has not arrived here.
fn unknown() -> Answer {
    Answer::Unavailable { why: "the sender is not known here yet".to_owned() }
}

fn what(refusal: &gate::Refusal, me: &Envelope) -> Mismatch {
    match refusal {
        gate::Refusal::OtherCluster => Mismatch::Cluster(me.cluster),
        gate::Refusal::OtherReceiver(_) => Mismatch::NotMe(me.from),
        gate::Refusal::Impostor(_) | gate::Refusal::WentBack(_) => Mismatch::Incarnation,
        gate::Refusal::Removed(_) | gate::Refusal::NoMember => Mismatch::NotMember,
    }
}
