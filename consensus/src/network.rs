//! openraft's way to the other members: its requests in our words, over a transport.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::raft::{TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse};
use openraft::type_config::alias::SnapshotOf;

use crate::acknowledged::Acknowledged;
use crate::gate::{self, Disbelief};
use crate::ground::Ground;
use crate::identity::PeerId;
use crate::limits::{APPEND_BYTES_MAX, MEMBERS_MAX, SNAPSHOT_CHUNK_BYTES_MAX};
use crate::snapshots::Snapshot;
use crate::transport::{CallError, Lane};
use crate::types::{Entry, Group, LogId, Member, Payload, RaftId, Vote};
use crate::wire::{self, Answer, Append, Appended, Ballot, Cast, Envelope, Mismatch, Request, Transfer, Transferred};

/// How long a member may take for a piece of a snapshot: to its disk, and once at the end to all of it.
const PIECE_DEADLINE: Duration = Duration::from_secs(10);
/// How often a snapshot is offered anew before openraft is told that it failed, and tries again by itself.
const OFFERS_MAX: usize = 3;

/// What all links of a replica share.
#[derive(Debug)]
pub(crate) struct Shared<T> {
    pub(crate) transport: T,
    /// Who speaks; the receiver is filled in.
    pub(crate) me: Envelope,
    pub(crate) append_deadline: Duration,
    /// Who says that this replica is a member no more, or that its id is used up. Whether one of them must know is for the replica to judge.
    pub(crate) accusers: Mutex<BTreeSet<PeerId>>,
    /// What members have acknowledged to this replica while it led.
    pub(crate) acknowledged: Mutex<Acknowledged>,
    /// Numbers the transfers of snapshots.
    pub(crate) transfers: AtomicU64,
    /// Who votes.
    pub(crate) voters: Voters,
    /// Whose votes were not believed, so that it is said once of each.
    disbelieved: Mutex<BTreeSet<PeerId>>,
}

/// Who votes, by what this replica knows: nobody, until it is taken up.
#[derive(Default)]
pub(crate) struct Voters(OnceLock<Box<dyn Fn(RaftId) -> bool + Send + Sync>>);

impl Voters {
    /// From now on this says so. The first one counts.
    pub(crate) fn are(&self, votes: impl Fn(RaftId) -> bool + Send + Sync + 'static) {
        self.0.get_or_init(|| Box::new(votes));
    }

    pub(crate) fn has(&self, id: RaftId) -> bool {
        self.0.get().is_some_and(|votes| votes(id))
    }
}

impl std::fmt::Debug for Voters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Voters")
    }
}

/// Why a question has no answer that fits.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error(transparent)]
    Call(#[from] CallError),
    /// Nothing was sent.
    #[error(transparent)]
    Wire(#[from] wire::WireError),
    #[error("not heard: {0:?}")]
    Mismatch(Mismatch),
    #[error("an answer that cannot be read: {0}")]
    Unreadable(wire::WireError),
    #[error("an answer to something else")]
    Answer,
    #[error("its disk went back in time")]
    WentBack,
    #[error(transparent)]
    Disbelief(#[from] Disbelief),
}

impl<T: crate::transport::Transport> Shared<T> {
    /// For whoever speaks as `me`.
    pub(crate) fn new(transport: T, me: Envelope, append_deadline: Duration) -> Self {
        let transfers = AtomicU64::new(1);
        Self {
            transport,
            me,
            append_deadline,
            accusers: Mutex::default(),
            acknowledged: Mutex::default(),
            transfers,
            voters: Voters::default(),
            disbelieved: Mutex::default(),
        }
    }

    /// Says once of each peer that his votes are not believed. Of so many, and no more: they have certificates, and an
    /// operator who reads of the first ones knows.
    pub(crate) fn disbelieves(&self, sender: PeerId, why: &Disbelief) {
        if matches!(why, Disbelief::Own) {
            // Most likely late, and no news.
            return;
        }
        let mut known = self.disbelieved.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MEMBERS_MAX && known.insert(sender) {
            tracing::warn!(%sender, %why, "a vote is not believed, and so is none of his to come that is like it");
        }
    }

    pub(crate) fn acknowledged(&self) -> MutexGuard<'_, Acknowledged> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At most as many as are ever asked: members, and those who are knocked at.
    pub(crate) fn accusers(&self) -> MutexGuard<'_, BTreeSet<PeerId>> {
        self.accusers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a member. Not cancel safe as to whether it was heard.
    pub(crate) async fn ask(
        &self,
        to: (RaftId, PeerId),
        lane: Lane,
        request: &Request,
        deadline: Duration,
    ) -> Result<Answer, AskError> {
        let envelope = Envelope { to: to.0, ..self.me };
        let message = wire::encode_request(&envelope, request)?;
        let answer = self.transport.call(to.1, lane, message, deadline).await?;
        match wire::decode_answer(&answer).map_err(AskError::Unreadable)? {
            (_, Answer::Mismatch(mismatch)) => {
                if matches!(mismatch, Mismatch::NotMember | Mismatch::Incarnation) {
                    self.accusers().insert(to.1);
                }
                Err(AskError::Mismatch(mismatch))
            }
            (_, answer) => Ok(answer),
        }
    }
}

/// Makes links.
pub(crate) struct Links<G: Ground>(pub(crate) Arc<Shared<G::Transport>>);

impl<G: Ground> RaftNetworkFactory<Group<G>> for Links<G> {
    type Network = Link<G>;

    async fn new_client(&mut self, target: RaftId, member: &Member) -> Link<G> {
        Link { shared: self.0.clone(), target, member: member.clone() }
    }
}

/// The way to one member.
pub(crate) struct Link<G: Ground> {
    shared: Arc<Shared<G::Transport>>,
    target: RaftId,
    member: Member,
}

type Rpc<G> = RPCError<Group<G>>;

fn rpc<G: Ground>(error: &AskError) -> Rpc<G> {
    match error {
        // openraft waits longer before it tries an unreachable peer again.
        AskError::Call(CallError::Unreachable(_) | CallError::Closed)
        | AskError::Mismatch(_)
        | AskError::WentBack
        | AskError::Disbelief(_) => RPCError::Unreachable(Unreachable::new(error)),
        _ => RPCError::Network(NetworkError::new(error)),
    }
}

impl<G: Ground> Link<G> {
    async fn ask(&self, lane: Lane, request: &Request, deadline: Duration) -> Result<Answer, AskError> {
        self.shared.ask((self.target, self.member.peer), lane, request, deadline).await
    }

    /// It has everything up to there.
    fn has(&self, term: u64, matched: Option<LogId>, commit: Option<LogId>) {
        let index = |log_id: Option<LogId>| log_id.map_or(0, |log_id| log_id.index);
        self.shared.acknowledged().has(self.target, term, index(matched), index(commit));
    }

    /// The vote in its answer, if that is believed.
    fn believed(&self, vote: Vote, asked: &Vote) -> Result<Vote, AskError> {
        gate::believes_answer(&vote, self.target, asked, self.shared.voters.has(self.target))
            .inspect_err(|why| self.shared.disbelieves(self.member.peer, why))?;
        Ok(vote)
    }

    async fn ballot(&self, request: Request, asked: &Vote, option: &RPCOption) -> Result<Cast, Rpc<G>> {
        match self.ask(Lane::Control, &request, option.hard_ttl()).await {
            Ok(Answer::Vote(cast) | Answer::PreVote(cast)) => {
                self.believed(cast.vote, asked).map_err(|error| rpc::<G>(&error))?;
                Ok(cast)
            }
            Ok(_) => Err(rpc::<G>(&AskError::Answer)),
            Err(error) => Err(rpc::<G>(&error)),
        }
    }

    /// Sends a snapshot: offered, sent from where the receiver says, installed.
    async fn send(&self, vote: Vote, snapshot: &Snapshot<G::Disk>) -> Result<Vote, StreamingError<Group<G>>> {
        let transfer = self.shared.transfers.fetch_add(1, Ordering::Relaxed);
        let (meta, bytes) = (snapshot.meta().clone(), snapshot.bytes());
        let offer = Request::SnapshotOffer { vote, meta, transfer, bytes };
        let failed = |error: AskError| StreamingError::from(rpc::<G>(&error));
        for _ in 0..OFFERS_MAX {
            let mut answer = self.ask(Lane::Snapshot, &offer, PIECE_DEADLINE).await.map_err(failed)?;
            loop {
                let request = match answer {
                    Answer::SnapshotNext { offset } if offset >= bytes => Request::SnapshotEnd { transfer, bytes },
                    Answer::SnapshotNext { offset } => {
                        let piece = snapshot.piece(offset, SNAPSHOT_CHUNK_BYTES_MAX);
                        let piece = piece.map_err(|error| StreamingError::Network(NetworkError::new(&error)))?;
                        Request::SnapshotChunk { transfer, offset, piece }
                    }
                    Answer::SnapshotDone { vote: now } => return self.believed(now, &vote).map_err(failed),
                    Answer::SnapshotUnknown => break,
                    _ => return Err(failed(AskError::Answer)),
                };
                answer = self.ask(Lane::Snapshot, &request, PIECE_DEADLINE).await.map_err(failed)?;
            }
        }
        Err(failed(AskError::Answer))
    }
}

/// As many of the entries as one message should carry, at least one.
fn fitting(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &Entry| {
        bytes += match &entry.payload {
            Payload::Normal(command) => command.0.len(),
            Payload::Blank | Payload::Membership(_) => 0,
        };
        bytes <= APPEND_BYTES_MAX
    };
    entries.iter().map(fits).take_while(|fits| *fits).count().max(1).min(entries.len())
}

impl<G: Ground> RaftNetworkV2<Group<G>> for Link<G> {
    type SnapshotData = Snapshot<G::Disk>;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Group<G>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Group<G>>, Rpc<G>> {
        let mut entries = request.entries;
        // A heartbeat must not stand behind entries, and an answer to entries may wait for a disk.
        let heartbeat = entries.is_empty();
        let lane = if heartbeat { Lane::Control } else { Lane::Append };
        let deadline = if heartbeat { option.hard_ttl() } else { self.shared.append_deadline.max(option.hard_ttl()) };
        let all = entries.len();
        entries.truncate(fitting(&entries));
        let sent = (entries.len() < all).then(|| entries.last().map(|entry| entry.log_id));
        let (vote, prev, commit) = (request.vote, request.prev_log_id, request.leader_commit);
        let term = vote.leader_id.term;
        let end = entries.last().map(|entry| entry.log_id).or(prev);
        // What it had acknowledged before this went out: answers may overtake each other.
        let must_have = self.shared.acknowledged().must_have(self.target, term);
        let append = Append { vote, prev, entries, commit };
        match self.ask(lane, &Request::Append(append), deadline).await {
            Ok(Answer::Append(Appended::All)) => {
                self.has(term, end, commit);
                Ok(match sent {
                    None => AppendEntriesResponse::Success,
                    Some(last) => AppendEntriesResponse::PartialSuccess(last),
                })
            }
            // Nobody has more of it than was sent.
            Ok(Answer::Append(Appended::Until(last))) if last > end => Err(rpc::<G>(&AskError::Answer)),
            Ok(Answer::Append(Appended::Until(last))) => {
                self.has(term, last, commit);
                Ok(AppendEntriesResponse::PartialSuccess(last))
            }
            Ok(Answer::Append(Appended::Conflict)) if prev.is_some_and(|prev| prev.index <= must_have) => {
                if self.shared.acknowledged().lose(self.target) {
                    let (host, id) = (&self.member.host, self.target);
                    tracing::error!(
                        host,
                        id,
                        must_have,
                        "its disk went back in time: it lacks what it has acknowledged; it has to come back as somebody new"
                    );
                }
                // For openraft this cannot be, and it would stop.
                Err(rpc::<G>(&AskError::WentBack))
            }
            Ok(Answer::Append(Appended::Conflict)) => Ok(AppendEntriesResponse::Conflict),
            Ok(Answer::Append(Appended::HigherVote(higher))) => match self.believed(higher, &vote) {
                Ok(higher) => Ok(AppendEntriesResponse::HigherVote(higher)),
                Err(error) => Err(rpc::<G>(&error)),
            },
            Ok(_) => Err(rpc::<G>(&AskError::Answer)),
            Err(error) => Err(rpc::<G>(&error)),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Group<G>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Group<G>>, Rpc<G>> {
        let Cast { vote, granted, last } = self.ballot(Request::Vote(ballot(&request)), &request.vote, &option).await?;
        Ok(VoteResponse::new(vote, last, granted))
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Group<G>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Group<G>>, Rpc<G>> {
        let Cast { vote, granted, last } =
            self.ballot(Request::PreVote(ballot(&request)), &request.vote, &option).await?;
        Ok(VoteResponse::new(vote, last, granted))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<Group<G>, Snapshot<G::Disk>>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Group<G>>, StreamingError<Group<G>>> {
        match select(pin!(cancel), pin!(self.send(vote, &snapshot.snapshot))).await {
            Either::Left((closed, _)) => Err(StreamingError::Closed(closed)),
            Either::Right((vote, _)) => Ok(SnapshotResponse::new(vote?)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Group<G>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Group<G>>, Rpc<G>> {
        let transfer =
            Transfer { from: *request.from_leader(), to: *request.to_node_id(), last: request.last_log_id().copied() };
        match self.ask(Lane::Control, &Request::Transfer(transfer), option.hard_ttl()).await {
            Ok(Answer::Transfer(Transferred::Accepted)) => Ok(Ok(())),
            Ok(Answer::Transfer(Transferred::VoteChanged { expected, actual })) => {
                Ok(Err(TransferLeaderError::VoteChanged { expected, actual }))
            }
            Ok(Answer::Transfer(Transferred::LogNotFlushed { expected, actual })) => {
                Ok(Err(TransferLeaderError::LogNotFlushed { expected, actual }))
            }
            Ok(_) => Err(rpc::<G>(&AskError::Answer)),
            Err(error) => Err(rpc::<G>(&error)),
        }
    }
}

fn ballot<G: Ground>(request: &VoteRequest<Group<G>>) -> Ballot {
    Ballot { vote: request.vote, last: request.last_log_id, transfer: request.leadership_transfer }
}

/// An answer that says nothing was looked at.
pub(crate) fn mismatch(me: &Envelope, mismatch: Mismatch) -> Bytes {
    wire::encode_answer(me, &Answer::Mismatch(mismatch)).expect("it is short")
}
