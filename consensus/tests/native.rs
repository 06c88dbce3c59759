//! A group on the ground of the program: tokio, files, QUIC. Each host has a runtime of its own, with which it dies
//! without a word.

#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used, reason = "a test that measures")]

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mgmt_consensus::appoint::{Roster, appoint};
use mgmt_consensus::disk::files::Files;
use mgmt_consensus::ground::Native;
use mgmt_consensus::log_store::Options as LogOptions;
use mgmt_consensus::log_store::index::memory::InMemory;
use mgmt_consensus::machine::{Frozen, Machine, Unknown};
use mgmt_consensus::masters::{Policy, Profile};
use mgmt_consensus::peer::{Otherwise, Peer};
use mgmt_consensus::quic::{Endpoint, Options, Quic};
use mgmt_consensus::transport::{Lane, Transport};
use mgmt_consensus::types::Vote;
use mgmt_consensus::wire::{self, Answer, Append, Envelope, Request};
use mgmt_consensus::{Member, PeerId, RaftId, Replica, Settings};
use tokio::runtime::{Builder, Runtime};

mod quic_support;

use quic_support::{CLUSTER, Mesh, loopback};

const LONG: Duration = Duration::from_secs(30);

/// Counts commands.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicU64>);

struct Count(Option<u64>);

impl Frozen for Count {
    fn chunk(&mut self) -> Option<Bytes> {
        self.0.take().map(|count| Bytes::copy_from_slice(&count.to_le_bytes()))
    }
}

impl Machine for Counter {
    type Frozen = Count;

    fn apply(&mut self, _: u64, _: &[u8]) -> Result<Bytes, Unknown> {
        let count = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(Bytes::copy_from_slice(&count.to_le_bytes()))
    }

    fn settled(&mut self, _: u64) {}

    fn freeze(&self) -> Count {
        Count(Some(self.0.load(Ordering::SeqCst)))
    }

    fn restore(&mut self, _: u64, chunks: &mut dyn Iterator<Item = io::Result<Bytes>>) -> io::Result<()> {
        for chunk in chunks {
            self.0.store(u64::from_le_bytes(chunk?[..].try_into().unwrap()), Ordering::SeqCst);
        }
        Ok(())
    }
}

struct Everybody;

impl Roster for Everybody {
    fn profiles(&self, members: &BTreeMap<RaftId, Member>) -> BTreeMap<RaftId, Profile> {
        members.keys().map(|id| (*id, Profile { eligible: Some(true), ..Profile::default() })).collect()
    }

    fn ideal(&self) -> usize {
        3
    }
}

struct Host {
    runtime: Runtime,
    replica: Replica<Native, Counter>,
    counter: Counter,
    quic: Quic,
    address: SocketAddr,
    _endpoint: Endpoint,
}

impl Host {
    fn up(mesh: &Mesh, peer: PeerId, folder: &std::path::Path, listen: SocketAddr) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let counter = Counter::default();
        let (endpoint, quic, replica) = runtime.block_on(async {
            let options = Options { reset_secret: Some([peer.0 as u8; 32]), ..Options::lan(listen) };
            let (endpoint, quic) = mesh.join_with(peer, options);
            let mut options = LogOptions::new(Arc::new(InMemory));
            options.segment_bytes = 1 << 20;
            options.reserve_bytes = 0;
            options.room_low_bytes = 0;
            let drawn = Arc::new(Mutex::new(u64::from(endpoint.local_address().port())));
            let host = Peer::<Native> {
                settings: Settings::LAN,
                options,
                disk: Files::open(folder).unwrap(),
                transport: quic.clone(),
                host: format!("h{}", peer.0),
                clerk: Arc::new(()),
                chance: Arc::new(move || {
                    let mut drawn = drawn.lock().unwrap();
                    *drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    *drawn
                }),
            };
            let otherwise = match peer.0 {
                1 => Otherwise::Found(CLUSTER),
                _ => Otherwise::Join { cluster: CLUSTER, seeds: (1..4).map(PeerId).collect(), patience: LONG },
            };
            let machine = counter.clone();
            let replica = host.come(otherwise, move || machine.clone()).await.unwrap();
            tokio::spawn(appoint(replica.clone(), Arc::new(Everybody), Policy::LAN));
            (endpoint, quic, replica)
        });
        let address = endpoint.local_address();
        Self { runtime, replica, counter, quic, address, _endpoint: endpoint }
    }

    /// As if its process was killed.
    fn die(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    fn put(&self) {
        let began = Instant::now();
        // A leader that has just died is asked for a while; what is not known to have been done may be done twice.
        while let Err(error) = self.run(self.replica.propose(Bytes::from_static(b"x"), LONG)) {
            assert!(began.elapsed() < LONG, "{error}");
        }
    }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    while !condition() {
        assert!(began.elapsed() < LONG, "not within {LONG:?}: {what}");
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(10)).await });
    }
}

#[test]
fn three_hosts_write_lose_their_leader_and_get_it_back() {
    let mesh = Mesh::new();
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let up = |number: usize, listen| Host::up(&mesh, PeerId(number as u128 + 1), folders[number].path(), listen);
    let mut hosts: BTreeMap<usize, Host> = (0..3).map(|number| (number, up(number, loopback()))).collect();
    until("three masters", || {
        hosts.values().all(|host| host.replica.standing().voters().first().is_some_and(|v| v.len() == 3))
    });
    let writers: Vec<_> = hosts
        .values()
        .flat_map(|host| {
            (0..8).map(|_| {
                let replica = host.replica.clone();
                host.runtime.spawn(async move {
                    for _ in 0..50 {
                        replica.propose(Bytes::from_static(b"x"), LONG).await.unwrap();
                    }
                })
            })
        })
        .collect();
    let began = Instant::now();
    for writer in writers {
        hosts[&0].run(writer).unwrap();
    }
    println!("1,200 writes of 24 writers on three hosts in {:?}", began.elapsed());
    until("all have all", || hosts.values().all(|host| host.counter.0.load(Ordering::SeqCst) == 1200));
    let leader = hosts[&0].replica.standing().leader.unwrap();
    let dead = *hosts.iter().find(|(_, host)| host.replica.id() == leader).unwrap().0;
    let other = (dead + 1) % 3;
    let killed = hosts.remove(&dead).unwrap();
    let address = killed.address;
    killed.die();
    let began = Instant::now();
    hosts[&other].put();
    println!("written again {:?} after the leader was killed", began.elapsed());
    hosts.insert(dead, up(dead, address));
    hosts[&dead].put();
    let most = || hosts.values().map(|host| host.counter.0.load(Ordering::SeqCst)).max();
    until("all have all again", || hosts.values().all(|host| Some(host.counter.0.load(Ordering::SeqCst)) == most()));
    assert!(most() >= Some(1202));
    who_may_not_lead_is_not_heard(&mesh, &hosts);
    for host in hosts.values() {
        host.run(host.replica.stop());
    }
}

/// A member like all others, whose certificate is one of an agent: what leaders say is not heard from him.
fn who_may_not_lead_is_not_heard(mesh: &Mesh, hosts: &BTreeMap<usize, Host>) {
    let leader = hosts[&0].replica.standing().leader.unwrap();
    let leader = hosts.values().find(|host| host.replica.id() == leader).unwrap();
    let agent = hosts.values().find(|host| host.replica.id() != leader.replica.id()).unwrap();
    let peer = agent.quic.me();
    let caller = |may_lead| {
        let mut callers = mesh.book.callers.lock().unwrap();
        callers.values_mut().filter(|caller| caller.peer == peer).for_each(|caller| caller.may_lead = may_lead);
        drop(callers);
        leader.quic.recheck();
    };
    caller(false);
    let incarnation = agent.replica.identity().incarnation;
    let envelope = Envelope { cluster: CLUSTER, from: agent.replica.id(), incarnation, to: leader.replica.id() };
    let append = Append { vote: Vote::new_committed(0, envelope.from), prev: None, entries: Vec::new(), commit: None };
    let message = wire::encode_request(&envelope, &Request::Append(append)).unwrap();
    let ask = || agent.run(agent.quic.call(leader.quic.me(), Lane::Control, message.clone(), LONG)).unwrap();
    let (_, answer) = wire::decode_answer(&ask()).unwrap();
    assert!(matches!(answer, Answer::Unavailable { .. }), "{answer:?}");
    agent.put();
    caller(true);
    let (_, answer) = wire::decode_answer(&ask()).unwrap();
    assert!(matches!(answer, Answer::Append(_)), "{answer:?}");
}
