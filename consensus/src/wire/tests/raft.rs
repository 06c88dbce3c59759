//! openraft's messages keep everything on their way through ours.

use std::future::Future;
use std::io;

use openraft::TokioRuntime;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, TransferLeaderResponse, VoteRequest,
    VoteResponse,
};

use super::*;
use crate::disk::{Disk, DiskFile};
use crate::ground::{Ground, on_thread};
use crate::transport::memory::Memory;
use crate::types::Group;

/// Something to name a [`Group`] with. There is no disk under it, and nobody stands on it.
#[derive(Debug, Clone)]
enum Nothing {}

impl Ground for Nothing {
    type Runtime = TokioRuntime;
    type Disk = Self;
    type Transport = Memory<TokioRuntime>;

    fn aside<F>(name: &'static str, work: F) -> impl Future<Output = Option<F::Output>> + Send + 'static
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        on_thread(name, work)
    }
}

impl Disk for Nothing {
    type File = Self;

    fn create(&self, _: &str, _: u64) -> io::Result<Self> {
        match *self {}
    }

    fn open(&self, _: &str) -> io::Result<Self> {
        match *self {}
    }

    fn list(&self, _: &str) -> io::Result<Vec<String>> {
        match *self {}
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        match *self {}
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        match *self {}
    }

    async fn sync_folder(&self, _: &str) -> io::Result<()> {
        match *self {}
    }

    fn free(&self) -> io::Result<u64> {
        match *self {}
    }

    fn total(&self) -> io::Result<u64> {
        match *self {}
    }
}

impl DiskFile for Nothing {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        match *self {}
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        match *self {}
    }

    fn size(&self) -> io::Result<u64> {
        match *self {}
    }

    async fn sync(&self) -> io::Result<()> {
        match *self {}
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
