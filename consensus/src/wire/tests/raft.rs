//! openraft's messages keep everything on their way through ours.

use std::future::Future;

use openraft::TokioRuntime;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, TransferLeaderResponse, VoteRequest,
    VoteResponse,
};

use super::*;
use crate::disk::files::Files;
use crate::ground::{Ground, on_thread};
use crate::transport::memory::Memory;
use crate::types::Group;

/// Something to name a [`Group`] with. Nobody stands on it.
#[derive(Debug, Clone)]
enum Nothing {}

impl Ground for Nothing {
    type Runtime = TokioRuntime;
    type Disk = Files;
    type Transport = Memory<TokioRuntime>;

    fn aside<F>(name: &'static str, work: F) -> impl Future<Output = Option<F::Output>> + Send + 'static
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        on_thread(name, work)
    }
}

type C = Group<Nothing>;

proptest! {
    #[test]
    fn nothing_is_lost_between_openraft_and_us(request in any::request(), answer in any::answer()) {
        match request {
            Request::Append(append) => {
                let theirs: AppendEntriesRequest<C> = append.clone().into();
                prop_assert_eq!(Append::from(theirs), append);
            }
            Request::Vote(ballot) => {
                let theirs: VoteRequest<C> = ballot.into();
                prop_assert_eq!(Ballot::from(theirs), ballot);
            }
            Request::Transfer(transfer) => {
                let theirs: TransferLeaderRequest<C> = transfer.into();
                prop_assert_eq!(Transfer::from(theirs), transfer);
            }
            _ => {}
        }
        match answer {
            Answer::Append(appended) => {
                let theirs: AppendEntriesResponse<C> = appended.into();
                prop_assert_eq!(Appended::from(theirs), appended);
            }
            Answer::Vote(cast) => {
                let theirs: VoteResponse<C> = cast.into();
                prop_assert_eq!(Cast::from(theirs), cast);
            }
            Answer::Transfer(transferred) => {
                let theirs: TransferLeaderResponse<C> = transferred.into();
                prop_assert_eq!(Transferred::from(theirs), transferred);
            }
            _ => {}
        }
    }
}
