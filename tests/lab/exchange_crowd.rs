//! Many hosts, each of which collects what all of them export: how long that takes, and what a change costs.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::exchange::{EACH, Exchange};
use crate::machine;
use crate::mesh::wait;
use crate::netns::NETWORK;

/// In CI; `MGMT_HOSTS` says how many by hand.
const HOSTS: usize = 12;
/// Starting processes by the dozen on two cores takes its time.
const LONG: Duration = Duration::from_secs(300);
/// Nothing happens for so long: then everything has come to its end.
const QUIET: Duration = Duration::from_secs(2);
/// How many changes are measured.
const CHANGES: u32 = 10;

/// What all hosts together have used.
#[derive(Debug, Clone, Copy)]
struct Used {
    packets: u64,
    bytes: u64,
    cpu: Duration,
}

impl std::ops::Sub for Used {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        let (packets, bytes) = (self.packets - before.packets, self.bytes - before.bytes);
        Self { packets, bytes, cpu: self.cpu.saturating_sub(before.cpu) }
    }
}

/// What the threads of a process have run for, by the scheduler's clock.
fn cpu(pid: u32) -> Duration {
    let tasks = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task")).unwrap();
    let of = |task: &Path| {
        let stat = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(tasks.flatten().map(|task| of(&task.path())).sum())
}

/// How much memory a process has that is nobody else's, in KiB.
fn memory_kib(pid: u32) -> u64 {
    crate::process::Process::new(pid).holdings().memory_kib
}

struct Crowd {
    exchange: Exchange,
    hosts: usize,
}

impl Crowd {
    fn pids(&self) -> Vec<u32> {
        self.exchange.field.peers.0.values().map(crate::mesh::peer::Peer::pid).collect()
    }

    fn used(&self) -> Used {
        let (packets, bytes) = self.exchange.field.network().passed();
        Used { packets, bytes, cpu: self.pids().into_iter().map(cpu).sum() }
    }

    fn files(&self) -> usize {
        let count = |host: usize| fs::read_dir(self.exchange.directory(host)).unwrap().count();
        (1..=self.hosts).map(count).sum()
    }

    fn changes(&self) -> u64 {
        (1..=self.hosts).map(|host| self.exchange.figure(host, "/changes")).sum()
    }

    /// One host exports something else; how long until all have it.
    fn change(&mut self, host: usize, content: &str) -> Duration {
        let wanted = [(format!("p{host}-1"), content.to_owned())];
        let copies: Vec<_> = (1..=self.hosts).map(|host| self.exchange.directory(host).join(&wanted[0].0)).collect();
        self.exchange.export(host, 1, content);
        let there = || copies.iter().all(|copy| fs::read_to_string(copy).is_ok_and(|is| is == wanted[0].1));
        wait(LONG, there).unwrap_or_else(|| panic!("not all have it\n{}", self.exchange.field.peers.show()))
    }
}

/// A mesh of so many, all of whom start at once when the first has founded it.
fn gather(hosts: usize) -> Crowd {
    let mut crowd = Crowd { exchange: Exchange::new(hosts), hosts };
    let start = Instant::now();
    for host in 1..=hosts {
        crowd.exchange.start(host, &[]);
    }
    let started = start.elapsed();
    let all = hosts * (EACH + hosts * EACH);
    let there = wait(LONG, || crowd.files() >= all);
    assert!(there.is_some(), "{} files of {all}\n{}", crowd.files(), crowd.exchange.field.peers.show());
    machine::say(&format!(
        "{hosts} hosts, each exports {EACH} and collects all: {all} files {:.2} s after the first start, of which {:.2} s \
         were starting processes; {:.2} s of CPU in all, {} MiB the largest",
        start.elapsed().as_secs_f64(),
        started.as_secs_f64(),
        crowd.used().cpu.as_secs_f64(),
        crowd.pids().into_iter().map(memory_kib).max().unwrap_or_default() >> 10,
    ));
    crowd
}

#[test]
fn everybody_collects_everything_and_one_change_runs_once_a_host() {
    needs!(NETWORK);
    let hosts = std::env::var("MGMT_HOSTS").ok().and_then(|hosts| hosts.parse().ok()).unwrap_or(HOSTS);
    let mut crowd = gather(hosts);
    let masters = hosts.min(5);
    let took = crowd.exchange.field.peers.until_formed(masters, hosts - masters);
    machine::say(&format!("and {masters} masters {:.1} s later", took.as_secs_f64()));
    // What idle hosts use has to be known before what a change does.
    let (before, start) = (crowd.used(), Instant::now());
    crate::mesh::let_pass(QUIET);
    let (idle, time) = (crowd.used() - before, start.elapsed().as_secs_f64());
    machine::say(&format!(
        "idle, all together: {:.0} packets and {:.0} KiB a second, {:.1} % of a core",
        idle.packets as f64 / time,
        idle.bytes as f64 / time / 1024.0,
        idle.cpu.as_secs_f64() / time * 100.0
    ));
    let (changes, before, start) = (crowd.changes(), crowd.used(), Instant::now());
    let times: Vec<Duration> =
        (0..CHANGES).map(|number| crowd.change(1 + number as usize % hosts, &format!("change {number}\n"))).collect();
    let (used, took) = (crowd.used() - before, start.elapsed().as_secs_f64());
    let per = |all: f64, idle: f64| ((all - idle * took / time) / f64::from(CHANGES)).max(0.0);
    machine::say(&format!(
        "a change, beyond what idling takes: {:.0} packets, {:.1} KiB, {:.1} ms of CPU, all hosts together; everywhere \
         after {} (an edit is read 50 ms late)",
        per(used.packets as f64, idle.packets as f64),
        per(used.bytes as f64, idle.bytes as f64) / 1024.0,
        per(used.cpu.as_secs_f64(), idle.cpu.as_secs_f64()) * 1e3,
        crate::meshes::times(&times)
    ));
    let ran = crowd.changes() - changes;
    assert_eq!(ran, u64::from(CHANGES) * hosts as u64, "a change has run more than one vertex a host");
    for host in 1..=hosts {
        assert_eq!(crowd.exchange.figure(host, "/failures"), 0);
    }
}
