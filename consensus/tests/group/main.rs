//! A whole group in one thread: founded, joined, led, cut, restarted, wiped.
#![expect(clippy::unwrap_used, reason = "a test")]

mod liars;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mgmt_consensus::appoint::{Roster, appoint};
use mgmt_consensus::disk::simulated::SimulatedDisk;
use mgmt_consensus::identity::{ClusterId, PeerId};
use mgmt_consensus::identity::{Identity, Incarnation};
use mgmt_consensus::log_store::Options;
use mgmt_consensus::log_store::index::memory::InMemory;
use mgmt_consensus::machine::{Frozen, Machine, Unknown};
use mgmt_consensus::masters::{Policy, Profile};
use mgmt_consensus::peer::{ComeError, Otherwise, Peer};
use mgmt_consensus::recover;
use mgmt_consensus::replica::ProposeError;
use mgmt_consensus::testing::Simulated;
use mgmt_consensus::transport::memory::Network;
use mgmt_consensus::{Member, RaftId, Replica, Settings};
use openraft::{AsyncRuntime, Instant as _};
use openraft_rt_sim::SimRuntime;

const CLUSTER: ClusterId = ClusterId(7);
const LONG: Duration = Duration::from_secs(60);

/// Remembers every command; its outcome is how many there were.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<Bytes>>>);

struct Copy(Vec<Bytes>);

impl Frozen for Copy {
    fn chunk(&mut self) -> Option<Bytes> {
        if self.0.is_empty() { None } else { Some(self.0.remove(0)) }
    }
}

impl Machine for Journal {
    type Frozen = Copy;

    fn apply(&mut self, _: u64, command: &[u8]) -> Result<Bytes, Unknown> {
        let mut commands = self.0.lock().unwrap();
        commands.push(Bytes::copy_from_slice(command));
        Ok(commands.len().to_string().into())
    }

    fn settled(&mut self, _: u64) {}

    fn freeze(&self) -> Copy {
        Copy(self.0.lock().unwrap().clone())
    }

    fn restore(&mut self, _: u64, chunks: &mut dyn Iterator<Item = io::Result<Bytes>>) -> io::Result<()> {
        *self.0.lock().unwrap() = chunks.collect::<io::Result<_>>()?;
        Ok(())
    }
}

/// Everybody may be a master, of three.
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
    name: &'static str,
    peer: PeerId,
    disk: SimulatedDisk<SimRuntime>,
    journal: Journal,
    replica: Option<Replica<Simulated, Journal>>,
}

struct World {
    drawn: Arc<AtomicU64>,
    network: Network<SimRuntime>,
    hosts: Vec<Host>,
}

impl World {
    fn new(names: &[&'static str]) -> Self {
        let host = |(number, name): (usize, &&'static str)| Host {
            name,
            peer: PeerId(number as u128 + 1),
            disk: SimulatedDisk::new(number as u64, 1 << 28),
            journal: Journal::default(),
            replica: None,
        };
        Self { drawn: Arc::default(), network: Network::new(1), hosts: names.iter().enumerate().map(host).collect() }
    }

    async fn up(&mut self, number: usize) {
        self.come(number, CLUSTER, number == 0).await.unwrap();
    }

    async fn come(&mut self, number: usize, cluster: ClusterId, founds: bool) -> Result<(), ComeError> {
        let seeds: Vec<_> = self.hosts.iter().map(|host| host.peer).collect();
        let host = &mut self.hosts[number];
        host.disk = host.disk.boot();
        host.journal = Journal::default();
        let drawn = self.drawn.clone();
        let options = options();
        let peer = Peer::<Simulated> {
            settings: Settings { snapshot_entries: 50, entries_kept: 10, ..Settings::LAN },
            options,
            disk: host.disk.clone(),
            transport: self.network.join(host.peer),
            host: host.name.to_owned(),
            clerk: Arc::new(()),
            chance: Arc::new(move || drawn.fetch_add(1, Ordering::Relaxed)),
        };
        let otherwise = match founds {
            true => Otherwise::Found(cluster),
            false => Otherwise::Join { cluster, seeds, patience: LONG },
        };
        let journal = host.journal.clone();
        let replica = peer.come(otherwise, move || journal.clone()).await?;
        drop(SimRuntime::spawn(appoint(replica.clone(), Arc::new(Everybody), Policy::LAN)));
        host.replica = Some(replica);
        Ok(())
    }

    async fn crash(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        self.network.crash(host.peer);
        host.disk.crash();
        host.replica.take().unwrap().stop().await;
    }

    fn replica(&self, number: usize) -> &Replica<Simulated, Journal> {
        self.hosts[number].replica.as_ref().unwrap()
    }

    async fn put(&self, number: usize, command: &'static str) -> Result<String, String> {
        loop {
            match self.replica(number).propose(command.into(), LONG).await {
                Ok(done) => return Ok(String::from_utf8(done.outcome.to_vec()).unwrap()),
                // Nobody here hears what arrives after this: a dead process takes nothing.
                Err(ProposeError::Unknown(why)) if why.contains("cannot be reached") => {
                    SimRuntime::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        for _ in 0..6000 {
            if condition(self) {
                return;
            }
            SimRuntime::sleep(Duration::from_millis(20)).await;
        }
        let standings: Vec<_> = self.hosts.iter().map(|host| host.replica.as_ref().map(Replica::standing)).collect();
        panic!("not within two minutes: {what}: {standings:#?}");
    }

    fn voters(&self, number: usize) -> usize {
        let voters = self.replica(number).standing().voters();
        if voters.len() == 1 { voters[0].len() } else { 0 }
    }
}

fn options() -> Options {
    let mut options = Options::new(Arc::new(InMemory));
    options.segment_bytes = 64 << 10;
    options.reserve_bytes = 0;
    options.room_low_bytes = 0;
    options
}

fn run<T>(test: impl Future<Output = T>) -> T {
    SimRuntime::with_seed(3).block_on(test)
}

async fn three() -> World {
    let mut world = World::new(&["a", "b", "c"]);
    for number in 0..3 {
        world.up(number).await;
    }
    world.until("three masters", |world| (0..3).all(|number| world.voters(number) == 3)).await;
    world
}

#[test]
fn three_hosts_become_three_masters_and_one_log() {
    run(async {
        let world = three().await;
        assert_eq!(world.put(0, "x").await, Ok("1".to_owned()));
        assert_eq!(world.put(1, "y").await, Ok("2".to_owned()));
        assert_eq!(world.put(2, "z").await, Ok("3".to_owned()));
        for number in 0..3 {
            world.replica(number).barrier(LONG).await.unwrap();
            assert_eq!(*world.hosts[number].journal.0.lock().unwrap(), ["x", "y", "z"].map(Bytes::from));
        }
        let ids: Vec<_> = (0..3).map(|number| world.replica(number).id()).collect();
        assert!(ids[0] == 1 && ids[0] < ids[1] && ids[1] < ids[2], "{ids:?}");
    });
}

#[test]
fn the_leader_dies_and_comes_back() {
    run(async {
        let mut world = three().await;
        world.put(0, "before").await.unwrap();
        let leader = world.replica(0).standing().leader.unwrap();
        let dead = (0..3).find(|number| world.replica(*number).id() == leader).unwrap();
        let other = (dead + 1) % 3;
        world.crash(dead).await;
        assert_eq!(world.put(other, "meanwhile").await, Ok("2".to_owned()));
        world.up(dead).await;
        assert_eq!(world.replica(dead).id(), leader, "its disk is whole, so it is who it was");
        assert_eq!(world.put(dead, "after").await, Ok("3".to_owned()));
        world.replica(dead).barrier(LONG).await.unwrap();
        assert_eq!(world.hosts[dead].journal.0.lock().unwrap().len(), 3);
    });
}

#[test]
fn a_host_that_lost_its_disk_comes_back_as_somebody_else_by_a_snapshot() {
    run(async {
        let mut world = three().await;
        for _ in 0..200 {
            world.put(0, "filler").await.unwrap();
        }
        let old = world.replica(2).id();
        world.crash(2).await;
        world.hosts[2].disk.wipe("journal");
        world.hosts[2].disk.wipe("snapshots");
        world.up(2).await;
        let new = world.replica(2).id();
        assert!(new > old);
        world.put(2, "here").await.unwrap();
        world.replica(2).barrier(LONG).await.unwrap();
        assert_eq!(world.hosts[2].journal.0.lock().unwrap().len(), 201);
        assert!(world.replica(2).standing().snapshot.is_some());
        world
            .until("it votes in place of its former life, which is gone", |world| {
                let standing = world.replica(0).standing();
                let ids: Vec<_> = standing.members().map(|(id, _)| id).collect();
                world.voters(0) == 3 && standing.voters()[0].contains(&new) && !ids.contains(&old)
            })
            .await;
    });
}

#[test]
fn all_die_at_once_and_nothing_is_lost() {
    run(async {
        let mut world = three().await;
        for _ in 0..70 {
            world.put(1, "x").await.unwrap();
        }
        for number in 0..3 {
            world.crash(number).await;
        }
        for number in 0..3 {
            world.up(number).await;
        }
        assert_eq!(world.put(1, "y").await, Ok("71".to_owned()));
    });
}

/// How long it takes to write again after all were killed, in virtual time: no disk, no start of processes.
async fn back(world: &mut World, numbers: &[usize]) -> Duration {
    for number in numbers {
        world.crash(*number).await;
    }
    let begin = <SimRuntime as AsyncRuntime>::Instant::now();
    for number in numbers {
        world.up(*number).await;
    }
    world.put(0, "again").await.unwrap();
    <SimRuntime as AsyncRuntime>::Instant::now() - begin
}

#[test]
fn after_a_restart_of_all_nobody_waits_until_his_patience_ends() {
    for seed in 0..3 {
        SimRuntime::with_seed(seed).block_on(async {
            let mut world = three().await;
            world.put(1, "x").await.unwrap();
            let took = back(&mut world, &[0, 1, 2]).await;
            assert!(took < Duration::from_millis(400), "{took:?} with seed {seed}");
            // Two of three are a quorum, and the third is nowhere.
            world.crash(2).await;
            let took = back(&mut world, &[0, 1]).await;
            assert!(took < Duration::from_millis(700), "two of three: {took:?} with seed {seed}");
        });
    }
}

#[test]
fn who_votes_alone_leads_at_once() {
    run(async {
        let mut world = World::new(&["a"]);
        world.up(0).await;
        world.put(0, "x").await.unwrap();
        let took = back(&mut world, &[0]).await;
        assert!(took < Duration::from_millis(100), "{took:?}");
    });
}

/// Begins a group of one from what this host has on its disk; gives where it begins.
async fn recovered(world: &mut World, survivor: usize, cluster: ClusterId) -> u64 {
    let disk = world.hosts[survivor].disk.boot();
    let salvage = recover::salvage::<Simulated, _>(disk, options(), Journal::default()).await.unwrap();
    let at = recover::above(&salvage, 0);
    assert!(salvage.committed <= salvage.last && salvage.last.unwrap().index < at);
    let incarnation = Incarnation(0x4e_0000 + u128::from(at));
    let identity = Identity { cluster, incarnation, raft: Some(at), ..salvage.identity.clone() };
    let fresh = SimulatedDisk::new(at, 1 << 28);
    let frozen = salvage.machine.freeze();
    recover::begin::<Simulated>(fresh.clone(), options(), &identity, salvage.term + 1, at, frozen).await.unwrap();
    fresh.crash();
    world.hosts[survivor].disk = fresh;
    at
}

#[test]
fn one_survivor_of_three_is_enough_to_begin_anew() {
    const NEW: ClusterId = ClusterId(8);
    for (seed, writes) in [(1, 5), (2, 60), (3, 130)] {
        SimRuntime::with_seed(seed).block_on(async {
            let mut world = three().await;
            for _ in 0..writes {
                world.put(0, "x").await.unwrap();
            }
            // What is on all of them when they die is all there is.
            world.replica(2).barrier(LONG).await.unwrap();
            let ids: Vec<RaftId> = (0..3).map(|number| world.replica(number).id()).collect();
            for number in 0..3 {
                world.crash(number).await;
            }
            let at = recovered(&mut world, 2, NEW).await;
            assert!(ids.iter().all(|id| *id < at), "{ids:?} {at}");
            world.come(2, NEW, true).await.unwrap();
            assert_eq!(world.put(2, "after").await, Ok((writes + 1).to_string()));
            assert!(world.replica(2).standing().applied.unwrap() > at);
            // A second time, out of a group that was begun like that, and before it has written much.
            world.crash(2).await;
            let again = recovered(&mut world, 2, NEW).await;
            assert!(again > at);
            world.come(2, NEW, true).await.unwrap();
            // Whoever was a member of the old one is not one of this, and says so instead of joining by chance.
            let old = world.come(0, NEW, false).await;
            assert!(matches!(old, Err(ComeError::OtherCluster(CLUSTER))), "{old:?}");
            // With an empty directory he is let in.
            for folder in ["journal", "snapshots", ""] {
                world.hosts[0].disk.wipe(folder);
            }
            world.come(0, NEW, false).await.unwrap();
            assert!(world.replica(0).id() > again);
            world.replica(0).barrier(LONG).await.unwrap();
            assert_eq!(world.hosts[0].journal.0.lock().unwrap().len(), writes + 1);
        });
    }
}

#[test]
fn nothing_is_made_of_a_disk_that_is_nobodys() {
    run(async {
        let empty = SimulatedDisk::new(1, 1 << 28);
        let salvage = recover::salvage::<Simulated, _>(empty, options(), Journal::default()).await;
        assert!(matches!(salvage, Err(recover::SalvageError::Nobody(_))));
    });
}

#[test]
fn a_disk_that_went_back_in_time_makes_somebody_new_and_harms_nobody() {
    for seed in 1..3 {
        SimRuntime::with_seed(seed).block_on(async {
            let mut world = three().await;
            world.put(0, "x").await.unwrap();
            let leader = world.replica(0).standing().leader.unwrap();
            let victim = (0..3).find(|number| world.replica(*number).id() != leader).unwrap();
            let (old, image) = (world.replica(victim).id(), world.hosts[victim].disk.image());
            for _ in 0..30 {
                world.put(0, "y").await.unwrap();
            }
            world.replica(victim).barrier(LONG).await.unwrap();
            world.crash(victim).await;
            world.hosts[victim].disk.restore(&image);
            world.up(victim).await;
            assert_eq!(world.replica(victim).id(), old, "its disk says so");
            world.until("it is told", |world| world.replica(victim).standing().removed).await;
            // What the program does then.
            world.crash(victim).await;
            for folder in ["journal", "snapshots", ""] {
                world.hosts[victim].disk.wipe(folder);
            }
            world.come(victim, CLUSTER, false).await.unwrap();
            assert!(world.replica(victim).id() > old);
            let swapped = |world: &World| {
                let mut members = world.replica(0).standing();
                members.fault.take().is_none() && members.members().all(|(id, _)| id != old) && world.voters(0) == 3
            };
            world.until("three masters again, without its former life", swapped).await;
            for number in 0..3 {
                assert_eq!(world.replica(number).fault(), None);
                world.replica(number).barrier(LONG).await.unwrap();
                assert_eq!(world.hosts[number].journal.0.lock().unwrap().len(), 31, "nothing is lost");
            }
        });
    }
}
