//! openraft's messages and ours, both ways. Only these name a [`Group`]; ours are the same on every [`Ground`].

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};

use super::message::{Append, Appended, Ballot, Cast, Transfer, Transferred};
use crate::ground::Ground;
use crate::types::Group;

impl<G: Ground> From<AppendEntriesRequest<Group<G>>> for Append {
    fn from(request: AppendEntriesRequest<Group<G>>) -> Self {
        let AppendEntriesRequest { vote, prev_log_id, entries, leader_commit } = request;
        Self { vote, prev: prev_log_id, entries, commit: leader_commit }
    }
}

impl<G: Ground> From<Append> for AppendEntriesRequest<Group<G>> {
    fn from(append: Append) -> Self {
        let Append { vote, prev, entries, commit } = append;
        Self { vote, prev_log_id: prev, entries, leader_commit: commit }
    }
}

impl<G: Ground> From<AppendEntriesResponse<Group<G>>> for Appended {
    fn from(response: AppendEntriesResponse<Group<G>>) -> Self {
        match response {
            AppendEntriesResponse::Success => Self::All,
            AppendEntriesResponse::PartialSuccess(last) => Self::Until(last),
            AppendEntriesResponse::Conflict => Self::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Self::HigherVote(vote),
        }
    }
}

impl<G: Ground> From<Appended> for AppendEntriesResponse<Group<G>> {
    fn from(appended: Appended) -> Self {
        match appended {
            Appended::All => Self::Success,
            Appended::Until(last) => Self::PartialSuccess(last),
            Appended::Conflict => Self::Conflict,
            Appended::HigherVote(vote) => Self::HigherVote(vote),
        }
    }
}

impl<G: Ground> From<VoteRequest<Group<G>>> for Ballot {
    fn from(request: VoteRequest<Group<G>>) -> Self {
        let VoteRequest { vote, last_log_id, leadership_transfer } = request;
        Self { vote, last: last_log_id, transfer: leadership_transfer }
    }
}

impl<G: Ground> From<Ballot> for VoteRequest<Group<G>> {
    fn from(ballot: Ballot) -> Self {
        let Ballot { vote, last, transfer } = ballot;
        Self { vote, last_log_id: last, leadership_transfer: transfer }
    }
}

impl<G: Ground> From<VoteResponse<Group<G>>> for Cast {
    fn from(response: VoteResponse<Group<G>>) -> Self {
        let VoteResponse { vote, vote_granted, last_log_id } = response;
        Self { vote, granted: vote_granted, last: last_log_id }
    }
}

impl<G: Ground> From<Cast> for VoteResponse<Group<G>> {
    fn from(cast: Cast) -> Self {
        let Cast { vote, granted, last } = cast;
        Self { vote, vote_granted: granted, last_log_id: last }
    }
}

impl<G: Ground> From<TransferLeaderRequest<Group<G>>> for Transfer {
    fn from(request: TransferLeaderRequest<Group<G>>) -> Self {
        // Its fields are its own; these are all there are.
        Self { from: *request.from_leader(), to: *request.to_node_id(), last: request.last_log_id().copied() }
    }
}

impl<G: Ground> From<Transfer> for TransferLeaderRequest<Group<G>> {
    fn from(transfer: Transfer) -> Self {
        let Transfer { from, to, last } = transfer;
        Self::new(from, to, last)
    }
}

impl<G: Ground> From<TransferLeaderResponse<Group<G>>> for Transferred {
    fn from(response: TransferLeaderResponse<Group<G>>) -> Self {
        match response {
            Ok(()) => Self::Accepted,
            Err(TransferLeaderError::VoteChanged { expected, actual }) => Self::VoteChanged { expected, actual },
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => Self::LogNotFlushed { expected, actual },
        }
    }
}

impl<G: Ground> From<Transferred> for TransferLeaderResponse<Group<G>> {
    fn from(transferred: Transferred) -> Self {
        match transferred {
            Transferred::Accepted => Ok(()),
            Transferred::VoteChanged { expected, actual } => Err(TransferLeaderError::VoteChanged { expected, actual }),
            Transferred::LogNotFlushed { expected, actual } => {
                Err(TransferLeaderError::LogNotFlushed { expected, actual })
            }
        }
    }
}
