//! STUB until the log store lands.
use crate::{ground::Ground, types::*};
use openraft::storage::*;
use std::io;
/// STUB
pub struct LogStore<G: Ground>(std::marker::PhantomData<fn() -> G>);
impl<G: Ground> Clone for LogStore<G> {
    fn clone(&self) -> Self {
        todo!()
    }
}
/// STUB
impl<G: Ground> LogStore<G> {
    pub fn fault(&self) -> Option<String> {
        None
    }
    pub async fn stop(&self) {}
}
impl<G: Ground> RaftLogReader<Group<G>> for LogStore<G> {
    async fn try_get_log_entries<R: std::ops::RangeBounds<u64> + Clone + std::fmt::Debug + Send>(
        &mut self,
        _: R,
    ) -> io::Result<Vec<Entry>> {
        todo!()
    }
    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        todo!()
    }
}
impl<G: Ground> RaftLogStorage<Group<G>> for LogStore<G> {
    type LogReader = Self;
    async fn get_log_state(&mut self) -> io::Result<LogState<Group<G>>> {
        todo!()
    }
    async fn get_log_reader(&mut self) -> Self {
        todo!()
    }
    async fn save_vote(&mut self, _: &Vote) -> io::Result<()> {
        todo!()
    }
    async fn append<I>(&mut self, _: I, _: IOFlushed<Group<G>>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        todo!()
    }
    async fn truncate_after(&mut self, _: Option<LogId>) -> io::Result<()> {
        todo!()
    }
    async fn purge(&mut self, _: LogId) -> io::Result<()> {
        todo!()
    }
}
