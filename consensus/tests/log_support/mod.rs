//! Grounds without a network, and short ways to use a log on them.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses some of it")]

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mgmt_consensus::disk::files::Files;
use mgmt_consensus::disk::simulated::SimulatedDisk;
use mgmt_consensus::ground::on_thread;
use mgmt_consensus::log_store::index::{Opener, memory::InMemory};
use mgmt_consensus::log_store::{LogStore, OpenError, Options};
pub use mgmt_consensus::testing::Simulated;
use mgmt_consensus::transport::memory::Memory;
use mgmt_consensus::types::{Blob, CommittedLeaderId, Entry, Group, LeaderId, LogId, Payload, Vote};
use mgmt_consensus::{Ground, Incarnation};
use openraft::AsyncRuntime;
use openraft::async_runtime::Oneshot;
use openraft::impls::TokioRuntime;
use openraft::storage::{IOFlushed, RaftLogReader as _, RaftLogStorage as _};
use openraft_rt_sim::SimRuntime;

/// Tokio and files; a log needs no transport.
pub struct Real;

impl Ground for Real {
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

pub type Disk = SimulatedDisk<SimRuntime>;
pub type Log = LogStore<Simulated>;

pub const ME: Incarnation = Incarnation(7);

/// Small enough that a test turns over many.
pub fn small(index: Arc<dyn Opener>) -> Options {
    Options { segment_bytes: 32 << 10, reserve_bytes: 4096, room_low_bytes: 128 << 10, index }
}

pub fn options() -> Options {
    small(Arc::new(InMemory))
}

pub fn disk(seed: u64) -> Disk {
    Disk::new(seed, 16 << 20)
}

pub async fn create(disk: &Disk) -> Log {
    Log::create(disk.clone(), ME, options()).await.unwrap()
}

pub async fn open(disk: &Disk) -> Result<Log, OpenError> {
    Log::open(disk.clone(), ME, options()).await
}

/// Runs a test on the simulated ground.
pub fn run<T>(seed: u64, work: impl Future<Output = T>) -> T {
    SimRuntime::with_seed(seed).block_on(work)
}

pub fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: CommittedLeaderId { term, node_id: 1 }, index }
}

pub fn entry(term: u64, index: u64, command: impl Into<Bytes>) -> Entry {
    Entry { log_id: log_id(term, index), payload: Payload::Normal(Blob(command.into())) }
}

pub fn vote(term: u64) -> Vote {
    Vote { leader_id: LeaderId { term, node_id: 1 }, committed: true }
}

/// Begins to append; what comes back tells when it is durable.
pub async fn begin<G: Ground>(
    log: &LogStore<G>,
    entries: Vec<Entry>,
) -> io::Result<impl Future<Output = io::Result<()>> + use<G>> {
    let (done, told) = <G::Runtime as AsyncRuntime>::Oneshot::channel();
    log.clone().append(entries, IOFlushed::signal(done)).await?;
    Ok(async { told.await.unwrap_or_else(|_| Err(io::Error::other("nobody tells"))) })
}

/// Appends and waits until it is durable.
pub async fn append<G: Ground>(log: &LogStore<G>, entries: Vec<Entry>) -> io::Result<()> {
    begin(log, entries).await?.await
}

pub async fn read<G: Ground>(log: &LogStore<G>, range: std::ops::Range<u64>) -> Vec<Entry> {
    log.clone().try_get_log_entries(range).await.unwrap()
}

pub async fn last<G: Ground>(log: &LogStore<G>) -> Option<LogId> {
    log.clone().get_log_state().await.unwrap().last_log_id
}

/// The commands of a log, for short comparisons.
pub async fn commands<G: Ground>(log: &LogStore<G>) -> Vec<(u64, String)> {
    let entries = read(log, 0..u64::MAX).await;
    let command = |entry: Entry| match entry.payload {
        Payload::Normal(Blob(bytes)) => (entry.log_id.index, String::from_utf8(bytes.to_vec()).unwrap()),
        _ => (entry.log_id.index, String::new()),
    };
    entries.into_iter().map(command).collect()
}

/// Numbers from a seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }
}

/// Said also when the test passes.
pub fn say(text: &str) {
    use std::io::Write as _;
    io::stderr().write_all(format!("log: {text}\n").as_bytes()).unwrap();
}

pub type Set = BTreeSet<u64>;
pub type Raft = Group<Simulated>;

/// Waits until nobody has anything to do any more: virtual time passes only then, and this is more of it than anything
/// here ever waits for.
pub async fn idle() {
    SimRuntime::sleep(Duration::from_secs(60)).await;
}
