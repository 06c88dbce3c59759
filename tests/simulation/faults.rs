//! What goes wrong, and how it is put right again. Each fault is drawn, takes effect, and ends by itself; what destroys
//! a log is held within what the group promises to survive: a minority of every set of voters that may count.

use std::collections::BTreeSet;
use std::time::Duration;

use mgmt_consensus::disk::{Disk as _, DiskFile as _};
use mgmt_consensus::identity::{self, Stored};
use mgmt_consensus::log_store::inspect::{self, Contents};
use mgmt_consensus::mutant;
use mgmt_consensus::transport::memory::Path;
use mgmt_consensus::types::RaftId;
use mgmt_consensus::wire::Role;
use openraft::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;

use crate::ground::Disk;
use crate::host::Host;
use crate::oracle::history::Nanos;
use crate::stage::Stage;
use crate::swarm::{Chance, Fault};

/// Between two faults that destroy something: who was just made a voter may be the next to be destroyed.
const DESTROY_GAP: Nanos = 10_000_000_000;
/// A sync that is to fail fails within this time, or not at all.
const DISARM: Nanos = 2_000_000_000;
/// More syncs than there will be.
const NEVER: u64 = 1 << 40;
/// Faults that could not be brought about in a row, before one that can.
const MISSES_MAX: usize = 5;
/// A disk is this large.
pub(crate) const CAPACITY: u64 = 64 << 20;

/// How a fault ends.
#[derive(Debug)]
enum Undo {
    Start(usize),
    Resume(usize),
    Cuts(Vec<(usize, usize)>),
    Path(PathFault),
    Sync(usize),
    Capacity(usize),
    /// A sync that has not failed yet does not.
    Disarm(usize),
    /// Not an end: somebody leaves.
    Leave,
    /// Not an end: so many masters are wished for.
    Wish(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathFault {
    Loss(u32),
    Delay(Duration),
    Duplicates(u32),
}

/// Whoever brings it about.
pub(crate) struct Nemesis {
    stage: Stage,
    chance: Chance,
    undos: Vec<(Nanos, Undo)>,
    /// Ids whose log was destroyed.
    destroyed: BTreeSet<RaftId>,
    destroyed_last: Option<Nanos>,
}

impl Nemesis {
    pub(crate) fn new(stage: Stage, chance: Chance) -> Self {
        Self { stage, chance, undos: Vec::new(), destroyed: BTreeSet::new(), destroyed_last: None }
    }

    /// Brings about all the faults of the plan, one after the other, overlapping.
    pub(crate) async fn be(&mut self) {
        let plan = self.stage.plan().clone();
        let (mut done, mut missed) = (0, 0);
        while done < plan.fault_count && !self.stage.is_closed() {
            let gap = self.chance.millis(10, plan.fault_gap_max.as_millis() as u64);
            self.wait(gap).await;
            // There may be nobody to do it to just now, or never with this plan: something always can crash.
            let fault = if missed < MISSES_MAX { self.chance.pick(&plan.faults) } else { Fault::Crash };
            if self.strike(fault) {
                (done, missed) = (done + 1, 0);
                self.stage.book().fault(fault);
            } else {
                missed += 1;
            }
        }
    }

    /// Puts everything right.
    pub(crate) fn heal(&mut self) {
        self.stage.book().trace().line(None, "all faults end");
        self.undos.retain(|(_, undo)| !matches!(undo, Undo::Leave | Undo::Wish(_)));
        self.undos.sort_by_key(|(at, _)| *at);
        while !self.undos.is_empty() {
            for (_, undo) in std::mem::take(&mut self.undos) {
                self.undo(undo);
            }
        }
        let site = self.stage.site();
        for host in self.stage.all().iter_mut().filter(|host| !host.gone) {
            host.disk.set_capacity(CAPACITY);
            host.disk.set_sync_latency(Duration::ZERO, Duration::from_millis(1));
            match &host.life {
                None => host.start(site, false),
                Some(life) => life.pause(false),
            }
        }
        self.apply_network();
    }

    /// Waits, and ends what ends meanwhile.
    async fn wait(&mut self, length: Duration) {
        let until = self.stage.now() + nanos(length);
        loop {
            let next = self.undos.iter().map(|(at, _)| *at).min().unwrap_or(Nanos::MAX).min(until);
            let now = self.stage.now();
            if next > now {
                SimRuntime::sleep(Duration::from_nanos(next - now)).await;
            }
            let now = self.stage.now();
            while let Some(at) = self.undos.iter().position(|(at, _)| *at <= now) {
                let (_, undo) = self.undos.remove(at);
                self.undo(undo);
            }
            if now >= until || self.stage.is_closed() {
                return;
            }
        }
    }

    fn later(&mut self, undo: Undo) {
        let most = self.stage.plan().fault_length_max.as_millis() as u64;
        let at = self.stage.now() + nanos(self.chance.millis(50, most.max(51)));
        self.undos.push((at, undo));
    }

    fn undo(&mut self, undo: Undo) {
        let stage = self.stage.clone();
        match undo {
            Undo::Start(host) => {
                let host = &mut stage.all()[host];
                if host.life.is_none() && !host.gone {
                    host.start(stage.site(), false);
                }
            }
            Undo::Resume(host) => {
                stage.book().trace().line(Some(host), "goes on");
                if let Some(life) = &stage.all()[host].life {
                    life.pause(false);
                }
            }
            Undo::Cuts(_) | Undo::Path(_) => self.apply_network(),
            Undo::Sync(host) => {
                let most = stage.plan().sync_max;
                stage.all()[host].disk.set_sync_latency(most / 10, most);
            }
            Undo::Capacity(host) => stage.all()[host].disk.set_capacity(CAPACITY),
            Undo::Disarm(host) => {
                stage.all()[host].disk.fail_sync(NEVER);
                // It may have failed where nobody has noticed yet: a spare segment is looked at when it is needed.
                self.kill(host, true);
                self.later(Undo::Start(host));
            }
            Undo::Leave => drop(self.leave()),
            Undo::Wish(ideal) if self.is_settled() => self.wish(ideal),
            Undo::Wish(_) => {}
        }
    }

    /// Makes the network as the faults that last want it.
    fn apply_network(&self) {
        let (site, plan) = (self.stage.site(), self.stage.plan());
        let hop = plan.hop;
        let mut path = Path { delay: hop, jitter: hop, ..Path::default() };
        let mut cuts = Vec::new();
        for (_, undo) in &self.undos {
            match undo {
                Undo::Cuts(more) => cuts.extend(more.iter().copied()),
                Undo::Path(PathFault::Loss(loss)) => path.lost_per_million = *loss,
                Undo::Path(PathFault::Delay(delay)) => path.jitter = *delay,
                Undo::Path(PathFault::Duplicates(doubled)) => path.doubled_per_million = *doubled,
                _ => {}
            }
        }
        let peers = site.names().peers.clone();
        site.network.calm();
        site.network.set_paths(path);
        for (from, to) in &cuts {
            site.network.cut(peers[from], peers[to]);
        }
        site.cuts().set(self.stage.now(), &cuts);
    }

    /// Brings one about. Whether there was anything to do it to.
    fn strike(&mut self, fault: Fault) -> bool {
        match fault {
            Fault::Crash | Fault::CrashAll => self.crash(fault == Fault::CrashAll),
            Fault::Pause => self.pause(),
            Fault::Halves | Fault::OneWay | Fault::LeaderAlone | Fault::Bridge => self.cut(fault),
            Fault::Loss | Fault::Delay | Fault::Duplicates => self.paths(fault),
            Fault::SlowSync => self.slow(),
            Fault::FailedSync | Fault::Full => self.fail(fault),
            Fault::BitFlip | Fault::LostLog | Fault::LostAll => self.destroy(fault),
            Fault::OldDisk => self.old_disk(),
            Fault::Join => self.join(),
            Fault::Leave => self.leave(),
            Fault::Resize => self.resize(),
            Fault::Exodus => self.exodus(),
            Fault::Transfer => self.transfer(),
            Fault::Purge => self.purge(),
        }
    }

    fn say(&self, host: Option<usize>, what: impl std::fmt::Display) {
        self.stage.book().trace().line(host, format_args!("! {what}"));
    }

    fn pick(&mut self, wanted: impl Fn(&Host) -> bool) -> Option<usize> {
        let hosts: Vec<_> =
            self.stage.all().iter().filter(|host| !host.gone && wanted(host)).map(|host| host.number).collect();
        if hosts.is_empty() { None } else { Some(self.chance.pick(&hosts)) }
    }

    fn crash(&mut self, all: bool) -> bool {
        let running: Vec<usize> =
            self.stage.all().iter().filter(|host| host.life.is_some()).map(|host| host.number).collect();
        if running.is_empty() {
            return false;
        }
        let struck = if all { running } else { vec![self.chance.pick(&running)] };
        // A process that dies leaves what the system has of its writes; a machine that dies does not.
        let power = self.chance.percent(70);
        for host in struck {
            self.kill(host, power);
            self.later(Undo::Start(host));
        }
        true
    }

    fn kill(&mut self, host: usize, power: bool) {
        let stage = self.stage.clone();
        stage.all()[host].kill(stage.site(), power);
    }

    fn pause(&mut self) -> bool {
        let Some(host) = self.pick(Host::runs) else { return false };
        self.say(Some(host), "stands still");
        if let Some(life) = &self.stage.all()[host].life {
            life.pause(true);
        }
        self.later(Undo::Resume(host));
        true
    }

    fn cut(&mut self, fault: Fault) -> bool {
        let hosts: Vec<usize> = self.stage.all().iter().filter(|host| !host.gone).map(|host| host.number).collect();
        if hosts.len() < 2 {
            return false;
        }
        let leader = self.leader();
        let one = self.chance.pick(&hosts);
        let sides: Vec<bool> = hosts.iter().map(|_| self.chance.percent(50)).collect();
        let hears = self.chance.percent(50);
        let mut cuts = Vec::new();
        for (at, from) in hosts.iter().enumerate() {
            for (to_at, to) in hosts.iter().enumerate().filter(|(_, to)| *to != from) {
                let severed = match fault {
                    Fault::Halves => sides[at] != sides[to_at],
                    Fault::OneWay if hears => *from == one,
                    Fault::OneWay => *to == one,
                    Fault::LeaderAlone => {
                        let alone = leader.unwrap_or(one);
                        *from == alone || *to == alone
                    }
                    _ => sides[at] != sides[to_at] && *from != one && *to != one,
                };
                if severed {
                    cuts.push((*from, *to));
                }
            }
        }
        if cuts.is_empty() {
            return false;
        }
        self.say(None, format_args!("{fault:?}: {cuts:?}"));
        self.later(Undo::Cuts(cuts));
        self.apply_network();
        true
    }

    fn paths(&mut self, fault: Fault) -> bool {
        let fault = match fault {
            Fault::Loss => PathFault::Loss(self.chance.between(10_000, 300_000) as u32),
            Fault::Delay => PathFault::Delay(self.chance.millis(5, 200)),
            _ => PathFault::Duplicates(self.chance.between(10_000, 300_000) as u32),
        };
        self.say(None, format_args!("{fault:?}"));
        self.later(Undo::Path(fault));
        self.apply_network();
        true
    }

    fn slow(&mut self) -> bool {
        let Some(host) = self.pick(|_| true) else { return false };
        let latency = self.chance.pick(&[30, 100, 400, 1_500]);
        self.say(Some(host), format_args!("syncs take up to {latency} ms"));
        let disk = self.stage.all()[host].disk.clone();
        disk.set_sync_latency(Duration::from_millis(latency / 2), Duration::from_millis(latency));
        self.later(Undo::Sync(host));
        true
    }

    /// May this host's log be destroyed? Counts it as destroyed if so.
    fn spend(&mut self, host: usize) -> bool {
        let now = self.stage.now();
        let voters = self.stage.book().voters();
        let site = self.stage.site();
        let shrinks = !site.names().draining.is_empty() || voters.iter().any(|set| set.len() > site.ideal());
        if !self.is_settled() || shrinks {
            return false;
        }
        let id = self.stage.site().id_of(host);
        let mut destroyed = self.destroyed.clone();
        destroyed.extend(id);
        let survives = |set: &BTreeSet<RaftId>| 2 * set.intersection(&destroyed).count() < set.len();
        if voters.is_empty() || !voters.iter().all(survives) {
            return false;
        }
        self.destroyed = destroyed;
        self.destroyed_last = Some(now);
        true
    }

    fn fail(&mut self, fault: Fault) -> bool {
        let Some(host) = self.pick(Host::runs) else { return false };
        if !self.spend(host) {
            return false;
        }
        let disk = self.stage.all()[host].disk.clone();
        if fault == Fault::Full {
            self.say(Some(host), "disk full");
            // Nothing more fits; what is given up can be used again.
            disk.set_capacity(CAPACITY - disk.boot().free().expect("it is there"));
            self.later(Undo::Capacity(host));
        } else {
            let nth = self.chance.between(0, 6);
            self.say(Some(host), format_args!("sync {nth} from now fails"));
            disk.fail_sync(nth);
            self.undos.push((self.stage.now() + DISARM, Undo::Disarm(host)));
        }
        true
    }

    fn destroy(&mut self, fault: Fault) -> bool {
        let Some(host) = self.pick(|_| true) else { return false };
        if !self.spend(host) {
            return false;
        }
        self.kill(host, true);
        let disk = {
            let mut hosts = self.stage.all();
            let image = hosts[host].disk.image();
            hosts[host].image = Some((self.stage.site().id_of(host), image));
            hosts[host].disk.clone()
        };
        let whole = self.stage.site().whole.clone();
        if let Some(whole) = &whole {
            whole.copied(host);
        }
        match fault {
            Fault::BitFlip => {
                let flipped = flip(&disk);
                self.say(Some(host), format_args!("a bit flips: {flipped:?}"));
            }
            Fault::LostLog => {
                disk.wipe("journal");
                self.say(Some(host), "the log is lost");
            }
            _ => {
                disk.wipe("");
                if let Some(whole) = &whole {
                    whole.lost(host);
                }
                self.say(Some(host), "everything is lost");
            }
        }
        self.later(Undo::Start(host));
        true
    }

    /// Puts a disk back as it was when it was destroyed: its id has had no other log since.
    fn old_disk(&mut self) -> bool {
        let site = self.stage.site().clone();
        let other = |host: &Host| host.image.as_ref().is_some_and(|(id, _)| *id != site.id_of(host.number));
        let Some(host) = self.pick(other) else { return false };
        if !self.spend(host) {
            return false;
        }
        self.kill(host, true);
        let mut hosts = self.stage.all();
        let (_, image) = hosts[host].image.take().expect("it was picked for it");
        hosts[host].disk.restore(&image);
        drop(hosts);
        if let Some(whole) = &site.whole {
            whole.put_back(host);
        }
        self.say(Some(host), "an old disk is put back");
        self.later(Undo::Start(host));
        true
    }

    fn join(&mut self) -> bool {
        let mut hosts = self.stage.all();
        if hosts.iter().filter(|host| !host.gone).count() >= 8 {
            return false;
        }
        let number = hosts.len();
        let mut host = Host::new(number, &mut self.chance, CAPACITY);
        let most = self.stage.plan().sync_max;
        host.disk.set_sync_latency(most / 10, most);
        host.start(self.stage.site(), false);
        hosts.push(host);
        true
    }

    fn leave(&mut self) -> bool {
        if !self.is_settled() {
            return false;
        }
        let draining = self.stage.site().names().draining.clone();
        let stay = |host: &&Host| !host.gone && !draining.contains(&host.number);
        if self.stage.all().iter().filter(stay).count() < 2 {
            return false;
        }
        let Some(host) = self.pick(|host| !draining.contains(&host.number)) else { return false };
        self.say(Some(host), "is to leave");
        self.stage.site().names().draining.insert(host);
        true
    }

    /// As many masters as may be are away, and then fewer are wished for, or one more is to go: who is away must not be
    /// who stays.
    fn exodus(&mut self) -> bool {
        let Some(leader) = self.leader().filter(|_| self.is_settled()) else { return false };
        let Some(asked) = self.stage.ask(leader) else { return false };
        let voters = asked.part.standing().voters();
        let [voters] = &voters[..] else { return false };
        let mut others: Vec<usize> =
            voters.iter().filter_map(|id| self.stage.site().host_with(*id)).filter(|host| *host != leader).collect();
        for _ in 0..voters.len().saturating_sub(1) / 2 {
            if others.is_empty() {
                break;
            }
            let host = others.swap_remove(self.chance.below(others.len()));
            self.kill(host, true);
            let at = self.stage.now() + nanos(self.chance.millis(4_000, 7_000));
            self.undos.push((at, Undo::Start(host)));
        }
        let at = self.stage.now() + nanos(self.chance.millis(1_400, 2_900));
        let fewer = self.chance.percent(80);
        self.undos.push((at, if fewer { Undo::Wish(voters.len().saturating_sub(2).max(1)) } else { Undo::Leave }));
        true
    }

    fn resize(&mut self) -> bool {
        if !self.is_settled() {
            return false;
        }
        let ideal = self.chance.pick(&[1, 3, 5, 7]);
        self.wish(ideal);
        true
    }

    fn wish(&self, ideal: usize) {
        self.say(None, format_args!("{ideal} masters are wished for"));
        self.stage.site().set_ideal(ideal);
    }

    /// Whether the last destruction is known to everybody by now. Before that masters are not made fewer: one that was
    /// destroyed and is still taken for alive could be who stays, or who takes the place of the only one.
    fn is_settled(&self) -> bool {
        self.destroyed_last.is_none_or(|last| self.stage.now() >= last + DESTROY_GAP)
    }

    /// The host that leads, as far as it knows.
    fn leader(&self) -> Option<usize> {
        let hosts = self.stage.all();
        let leads = |host: &&Host| host.replica().is_some_and(|part| part.standing().role == Role::Leader);
        hosts.iter().find(leads).map(|host| host.number)
    }

    fn transfer(&mut self) -> bool {
        let Some(asked) = self.leader().and_then(|host| self.stage.ask(host)) else { return false };
        let voters: Vec<RaftId> = asked.part.standing().voters().into_iter().flatten().collect();
        let to = self.chance.pick(&voters);
        self.say(None, format_args!("{to} is asked to lead"));
        drop(asked.life.run(async move { asked.part.transfer(to).await }));
        true
    }

    fn purge(&mut self) -> bool {
        let Some(host) = self.pick(Host::runs) else { return false };
        let Some(asked) = self.stage.ask(host) else { return false };
        self.say(Some(host), "takes a snapshot and purges");
        drop(asked.life.run(async move {
            if asked.part.snapshot().await.is_ok() {
                SimRuntime::sleep(Duration::from_millis(100)).await;
                let applied = asked.part.standing().applied.unwrap_or_default();
                // What it says does not matter: a part that has stopped purges nothing.
                let _stopped = asked.part.purge(applied).await;
            }
        }));
        true
    }
}

/// Flips a bit of a journal at rest, but none of its very last frame after a power cut: one that was synced and is damaged
/// there cannot be told from one that was never complete, and docs/reliability.md says so.
fn flip(disk: &Disk) -> Option<(String, u64, u8)> {
    // What the journal is, by a reader without defects.
    let _none = mutant::choose(None);
    let whole = contents(disk);
    for _ in 0..20 {
        let (name, offset, bit) = disk.flip_somewhere(FOLDER)?;
        if whole.is_none() || contents(disk).is_none_or(|now| Some(now) == whole) {
            return Some((name, offset, bit));
        }
        disk.flip(&name, offset, bit);
    }
    None
}

const FOLDER: &str = "journal";

/// What a journal amounts to; `None` if it is refused.
fn contents(disk: &Disk) -> Option<Contents> {
    let disk = disk.boot();
    let read = |name: &String| {
        let file = disk.open(&format!("{FOLDER}/{name}")).ok()?;
        let mut bytes = vec![0; usize::try_from(file.size().ok()?).ok()?];
        file.read_at(&mut bytes, 0).ok()?;
        Some(bytes)
    };
    let names: Vec<String> = disk.list(FOLDER).ok()?;
    let files: Vec<Vec<u8>> = names.iter().filter(|name| *name != "new").filter_map(read).collect();
    let (first, incarnation) = (files.first()?, identity::load(&disk).ok()?);
    let Stored::Sound(identity) = incarnation else { return None };
    if first.is_empty() { None } else { inspect::recover(&files, identity.incarnation).ok() }
}

fn nanos(time: Duration) -> Nanos {
    Nanos::try_from(time.as_nanos()).expect("no run lasts for centuries")
}
