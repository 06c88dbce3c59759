//! One leader with 10, 30 and 100 learners, in one process: messages over the transport in memory, disks in memory that
//! sync at once. What is left is the cost of the group itself: openraft, our log, our messages. The floor beside it is
//! the same leader alone.
//!
//! `cargo bench -p mgmt-consensus --bench learners [-- quick]`

#![allow(missing_docs, clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used, reason = "a bench")]

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mgmt_consensus::disk::simulated::SimulatedDisk;
use mgmt_consensus::identity::{ClusterId, PeerId};
use mgmt_consensus::log_store::Options;
use mgmt_consensus::log_store::index::memory::InMemory;
use mgmt_consensus::machine::{Frozen, Machine, Unknown};
use mgmt_consensus::peer::{Otherwise, Peer};
use mgmt_consensus::transport::memory::{Memory, Network};
use mgmt_consensus::{Ground, Replica, Settings};
use openraft_rt_tokio::TokioRuntime;

/// Tokio, and everything else in memory.
struct InMemoryGround;

impl Ground for InMemoryGround {
    type Runtime = TokioRuntime;
    type Disk = SimulatedDisk<TokioRuntime>;
    type Transport = Memory<TokioRuntime>;

    fn aside<F>(_: &'static str, work: F) -> impl Future<Output = Option<F::Output>> + Send + 'static
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let running = tokio::spawn(work);
        async move { running.await.ok() }
    }
}

/// Does nothing with what it is given.
struct Sink;

struct Nothing;

impl Frozen for Nothing {
    fn chunk(&mut self) -> Option<Bytes> {
        None
    }
}

impl Machine for Sink {
    type Frozen = Nothing;

    fn apply(&mut self, _: u64, _: &[u8]) -> Result<Bytes, Unknown> {
        Ok(Bytes::new())
    }

    fn settled(&mut self, _: u64) {}

    fn freeze(&self) -> Nothing {
        Nothing
    }

    fn restore(&mut self, _: u64, _: &mut dyn Iterator<Item = io::Result<Bytes>>) -> io::Result<()> {
        Ok(())
    }
}

type Member = Replica<InMemoryGround, Sink>;

/// CPU time of this process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// Resident memory of this process, MiB.
fn memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

async fn group(learners: u64) -> Vec<Member> {
    let network = Network::<TokioRuntime>::new(1);
    let drawn = Arc::new(AtomicU64::new(1));
    let mut members = Vec::new();
    for number in 0..=learners {
        let mut options = Options::new(Arc::new(InMemory));
        options.segment_bytes = 1 << 20;
        options.reserve_bytes = 0;
        options.room_low_bytes = 0;
        let drawn = drawn.clone();
        let peer = Peer::<InMemoryGround> {
            settings: Settings { members_max: 200, ..Settings::LAN },
            options,
            disk: SimulatedDisk::new(number, 1 << 30),
            transport: network.join(PeerId(u128::from(number) + 1)),
            host: format!("h{number}"),
            clerk: Arc::new(()),
            chance: Arc::new(move || drawn.fetch_add(1, Ordering::Relaxed)),
        };
        let otherwise = match number {
            0 => Otherwise::Found(ClusterId(1)),
            _ => Otherwise::Join { cluster: ClusterId(1), seeds: vec![PeerId(1)], patience: Duration::from_secs(60) },
        };
        members.push(peer.come(otherwise, || Sink).await.unwrap());
    }
    members
}

const COMMAND: [u8; 200] = [7; 200];
const LIMIT: Duration = Duration::from_secs(30);

async fn one_by_one(leader: &Member, writes: usize) -> Duration {
    let mut times = Vec::with_capacity(writes);
    for _ in 0..writes {
        let start = Instant::now();
        leader.propose(Bytes::from_static(&COMMAND), LIMIT).await.unwrap();
        times.push(start.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}

async fn together(leader: &Member, writers: usize, writes: usize) -> (f64, Duration) {
    let (start, before) = (Instant::now(), cpu());
    let writing: Vec<_> = (0..writers)
        .map(|_| {
            let leader = leader.clone();
            tokio::spawn(async move {
                for _ in 0..writes {
                    leader.propose(Bytes::from_static(&COMMAND), LIMIT).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writing {
        writer.await.unwrap();
    }
    let all = u32::try_from(writers * writes).unwrap();
    (f64::from(all) / start.elapsed().as_secs_f64(), (cpu() - before) / all)
}

async fn measure(learners: u64, quick: bool) {
    let before = memory();
    let start = Instant::now();
    let members = group(learners).await;
    let joined = start.elapsed();
    let leader = &members[0];
    let writes = if quick { 200 } else { 1000 };
    one_by_one(leader, writes / 4).await;
    let idle = (cpu(), Instant::now());
    tokio::time::sleep(Duration::from_secs(if quick { 1 } else { 3 })).await;
    let idle = (cpu() - idle.0).as_secs_f64() / idle.1.elapsed().as_secs_f64() * 100.0;
    let busy = cpu();
    let p50 = one_by_one(leader, writes).await;
    let alone = (cpu() - busy) / u32::try_from(writes).unwrap();
    let (rate, each) = together(leader, 32, writes / 4).await;
    println!(
        "{learners:>4} learners: joined {joined:>8.1?}  idle {idle:>4.1} % of a core  memory {:>6.1} MiB  \
         write p50 {p50:>8.1?} cpu {alone:>8.1?}  32 writers {rate:>7.0}/s cpu {each:>8.1?}",
        memory() - before
    );
    for member in members {
        member.stop().await;
    }
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "quick");
    println!("one process holds all members; CPU is of all of them together, per write");
    for learners in [0, 10, 30, 100] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(measure(learners, quick));
    }
}
