//! Round trips between two ends over loopback: one after the other, and 64 at a time; beside them the floor, bare UDP
//! packets of the same size there and back between two threads. CPU is of both ends together.
//!
//! `cargo bench -p mgmt-consensus --bench quic [-- quick]`

#![allow(missing_docs, clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used, reason = "a bench")]

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mgmt_consensus::quic::Quic;
use mgmt_consensus::transport::{Incoming, Lane, Reply, Transport};

#[path = "../tests/quic_support/mod.rs"]
mod quic_support;

use quic_support::{Mesh, loopback};

const MESSAGE_BYTES: usize = 256;
const PATIENCE: Duration = Duration::from_secs(10);

/// CPU time of this process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn say(what: &str, mut times: Vec<Duration>, wall: Duration, cpu: Duration) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64() * 1e6;
    let count = times.len() as f64;
    println!(
        "{what:<44} p50 {:>7.1} µs  p99 {:>7.1} µs  {:>9.0} /s  CPU {:>6.1} µs each",
        at(50),
        at(99),
        count / wall.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / count,
    );
}

fn floor(count: usize) {
    let (near, far) = (UdpSocket::bind(loopback()).unwrap(), UdpSocket::bind(loopback()).unwrap());
    near.connect(far.local_addr().unwrap()).unwrap();
    far.connect(near.local_addr().unwrap()).unwrap();
    let echo = std::thread::spawn(move || {
        let mut packet = [0; MESSAGE_BYTES];
        for _ in 0..count {
            let bytes = far.recv(&mut packet).unwrap();
            far.send(&packet[..bytes]).unwrap();
        }
    });
    let (began, spent, mut packet) = (Instant::now(), cpu(), [0; MESSAGE_BYTES]);
    let times = (0..count).map(|_| {
        let began = Instant::now();
        near.send(&[7; MESSAGE_BYTES]).unwrap();
        near.recv(&mut packet).unwrap();
        began.elapsed()
    });
    let times = times.collect();
    echo.join().unwrap();
    say("UDP alone, one after the other", times, began.elapsed(), cpu() - spent);
}

async fn callers(from: &Quic, to: &Quic, callers: usize, count: usize, what: &str) {
    let message = Bytes::from(vec![7; MESSAGE_BYTES]);
    let (began, spent) = (Instant::now(), cpu());
    let tasks = (0..callers).map(|_| {
        let (from, to, message) = (from.clone(), to.me(), message.clone());
        tokio::spawn(async move {
            let mut times = Vec::with_capacity(count / callers);
            for _ in 0..count / callers {
                let began = Instant::now();
                from.call(to, Lane::Client, message.clone(), PATIENCE).await.unwrap();
                times.push(began.elapsed());
            }
            times
        })
    });
    let mut times = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        times.extend(task.await.unwrap());
    }
    say(what, times, began.elapsed(), cpu() - spent);
}

async fn large(from: &Quic, to: &Quic, count: usize) {
    let message = Bytes::from(vec![7; 1 << 20]);
    let (began, spent) = (Instant::now(), cpu());
    for _ in 0..count {
        from.call(to.me(), Lane::Append, message.clone(), PATIENCE).await.unwrap();
    }
    let (wall, spent) = (began.elapsed(), cpu() - spent);
    let rate = count as f64 / wall.as_secs_f64();
    println!(
        "{:<44} {rate:>7.0} MiB/s  CPU {:.2} ms each",
        "1 MiB there and nothing back, one at a time",
        spent.as_secs_f64() * 1e3 / count as f64
    );
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "quick");
    let count = if quick { 5_000 } else { 50_000 };
    println!("{MESSAGE_BYTES} bytes there and back, both ends in this process");
    floor(count);
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // Each end has a runtime of its own, as in the program.
    let (here, there) = (runtime(), runtime());
    let mesh = Arc::new(Mesh::new());
    let (_near, from) = here.block_on(async { mesh.join(1) });
    let (_far, to) = there.block_on(async { mesh.join(2) });
    let end = to.clone();
    there.spawn(async move {
        while let Some(Incoming { message, reply, .. }) = end.accept().await {
            reply.send(if message.len() > MESSAGE_BYTES { Bytes::new() } else { message });
        }
    });
    here.block_on(async {
        callers(&from, &to, 1, count / 10, "warming up").await;
        callers(&from, &to, 1, count, "QUIC, one after the other").await;
        callers(&from, &to, 64, count * 4, "QUIC, 64 at a time").await;
        callers(&from, &to, 256, count * 4, "QUIC, 256 at a time").await;
        large(&from, &to, if quick { 100 } else { 1000 }).await;
    });
    floor(count);
    from.close();
    to.close();
}
