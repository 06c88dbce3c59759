//! One host: takes up its part of the group or asks to be let in, and comes back under a new id when its log is lost.
//! What the program's own start does, on the simulated ground.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mgmt_consensus::appoint::{Roster, appoint};
use mgmt_consensus::identity::{self, Identity, Life as Fate, Log, Stored};
use mgmt_consensus::log_store::{self, LogStore};
use mgmt_consensus::masters::{Census, Policy, Profile, Step};
use mgmt_consensus::replica::{ChangeError, Replica};
use mgmt_consensus::settings::Settings;
use mgmt_consensus::transport::memory::Network;
use mgmt_consensus::transport::{Lane, Transport as _};
use mgmt_consensus::types::{Member, RaftId};
use mgmt_consensus::wire::{self, Answer, Envelope, NOBODY, Request};
use mgmt_consensus::{ClusterId, Incarnation, PeerId};
use mgmt_store::{Shared, StoreMachine};
use openraft::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;

use crate::book::Book;
use crate::ground::{Disk, Recorded, Simulated};
use crate::hosted::{Hosted, Life};
use crate::oracle::invariants::Sighting;
use crate::swarm::Chance;
use crate::tapped::{Ear, Tapped};

/// The part of a host in the group.
pub(crate) type Part = Replica<Simulated, Recorded>;

/// A cluster knows its id before it is: the token says it.
pub(crate) const CLUSTER: ClusterId = ClusterId(0x51);
/// Between two attempts to be let in.
const RETRY: Duration = Duration::from_millis(100);
/// How long one is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What all hosts have in common.
pub(crate) struct Site {
    pub(crate) book: Book,
    pub(crate) network: Network<SimRuntime>,
    pub(crate) settings: Settings,
    pub(crate) policy: Policy,
    pub(crate) history_events: usize,
    pub(crate) ideal: AtomicUsize,
    pub(crate) ear: Ear,
    /// What an operator has laid down, and who they are.
    pub(crate) names: Mutex<Names>,
}

/// Who is who.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// The peers, by the number of their host.
    pub(crate) peers: BTreeMap<usize, PeerId>,
    /// Hosts that are to leave.
    pub(crate) draining: BTreeSet<usize>,
    /// Ids whose log is gone, as far as their hosts have said so.
    pub(crate) lost: BTreeSet<RaftId>,
}

impl Site {
    pub(crate) fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().expect("held for a moment only")
    }

    fn host_of(&self, peer: PeerId) -> Option<usize> {
        self.names().peers.iter().find(|(_, other)| **other == peer).map(|(host, _)| *host)
    }
}

/// What a running host shows.
#[derive(Default)]
pub(crate) struct Face {
    pub(crate) replica: Option<Part>,
    pub(crate) shared: Option<Arc<Shared>>,
}

/// A host.
pub(crate) struct Host {
    pub(crate) number: usize,
    pub(crate) peer: PeerId,
    pub(crate) disk: Disk,
    pub(crate) lives: u64,
    pub(crate) life: Option<Life>,
    pub(crate) face: Arc<Mutex<Face>>,
    /// It has left for good.
    pub(crate) gone: bool,
    chance: Chance,
}

pub(crate) fn name_of(number: usize) -> String {
    format!("h{number}")
}

impl Host {
    pub(crate) fn new(number: usize, chance: &mut Chance, capacity: u64) -> Self {
        let peer = PeerId(u128::from(chance.next()) << 64 | number as u128);
        let disk = Disk::new(chance.next(), capacity);
        let face = Arc::default();
        Self { number, peer, disk, lives: 0, life: None, face, gone: false, chance: chance.fork() }
    }

    /// Starts the process. The first host of a cluster founds it, if it has never been anybody.
    pub(crate) fn start(&mut self, site: &Arc<Site>, founds: bool) {
        let life = Life::begin();
        self.lives += 1;
        self.face = Arc::default();
        site.names().peers.insert(self.number, self.peer);
        let process = Process {
            site: site.clone(),
            number: self.number,
            peer: self.peer,
            founds,
            disk: self.disk.boot(),
            life: self.lives,
            face: self.face.clone(),
            chance: self.chance.fork(),
        };
        drop(life.run(process.be()));
        self.life = Some(life);
        site.book.trace().line(Some(self.number), format_args!("starts life {}", self.lives));
    }

    /// Ends the process where it stands. `power`: and the machine, with what was not synced.
    pub(crate) fn kill(&mut self, site: &Arc<Site>, power: bool) {
        let Some(life) = self.life.take() else { return };
        life.kill();
        site.network.leave(self.peer);
        if power {
            self.disk.crash();
        }
        *self.face.lock().expect("held for a moment only") = Face::default();
        site.book.trace().line(Some(self.number), if power { "loses power" } else { "is killed" });
    }

    pub(crate) fn runs(&self) -> bool {
        self.life.as_ref().is_some_and(|life| !life.is_paused())
    }

    pub(crate) fn replica(&self) -> Option<Part> {
        self.face.lock().expect("held for a moment only").replica.clone()
    }

    pub(crate) fn shared(&self) -> Option<Arc<Shared>> {
        self.face.lock().expect("held for a moment only").shared.clone()
    }
}

/// A process of a host.
struct Process {
    site: Arc<Site>,
    number: usize,
    peer: PeerId,
    founds: bool,
    disk: Disk,
    life: u64,
    face: Arc<Mutex<Face>>,
    chance: Chance,
}

/// Why a process cannot go on as it is.
#[derive(Debug)]
enum Halt {
    /// The disk does not let it; it may try again.
    Disk(String),
    /// What it was is gone: it comes back as somebody else.
    Lost(Option<RaftId>, String),
}

fn disk(error: impl std::fmt::Display) -> Halt {
    Halt::Disk(error.to_string())
}

impl Process {
    fn say(&self, what: impl std::fmt::Display) {
        self.site.book.trace().line(Some(self.number), what);
    }

    /// Lives until it is killed.
    async fn be(mut self) {
        let mut lost: Option<(Option<RaftId>, String)> = None;
        loop {
            let replica = match lost.take() {
                None => self.take_up().await,
                Some((old, why)) => self.rejoin(old, &why).await,
            };
            match replica {
                Ok(replica) => lost = self.serve(replica).await,
                Err(Halt::Lost(old, why)) => lost = Some((old, why)),
                Err(Halt::Disk(why)) => self.say(format_args!("waits: {why}")),
            }
            Hosted::sleep(RETRY).await;
        }
    }

    /// Looks at what is there, and goes on from it.
    async fn take_up(&mut self) -> Result<Part, Halt> {
        let stored = identity::load(&self.disk).map_err(disk)?;
        let expected = match &stored {
            Stored::Sound(identity) => Some(identity.incarnation),
            _ => None,
        };
        let (log, found) = self.open_log(expected).await?;
        let fate = Fate::decide(&stored, found);
        self.say(format_args!("is {fate:?}"));
        match fate {
            Fate::Fresh if self.founds => self.found().await,
            Fate::Fresh => self.rejoin(None, "fresh").await,
            Fate::Resume(identity) => {
                let log = match log {
                    Some(log) => log,
                    None => self.create_log(identity.incarnation).await?,
                };
                let old = identity.raft;
                let start = self.start(identity, log).await;
                start.map_err(|why| Halt::Lost(old, why))
            }
            Fate::Rejoin { old, why } => self.rejoin(old, &why.to_string()).await,
        }
    }

    async fn open_log(&self, expected: Option<Incarnation>) -> Result<(Option<LogStore<Simulated>>, Log), Halt> {
        let incarnation = expected.unwrap_or(Incarnation(0));
        match LogStore::<Simulated>::open(self.disk.clone(), incarnation, options()).await {
            Ok(log) => Ok((Some(log), Log::Sound(incarnation))),
            Err(error) => {
                self.say(format_args!("log: {error}"));
                match log_store::verdict(&error) {
                    Some(found) => Ok((None, found)),
                    None => Err(disk(error)),
                }
            }
        }
    }

    async fn create_log(&self, incarnation: Incarnation) -> Result<LogStore<Simulated>, Halt> {
        log_store::quarantine(&self.disk).await.map_err(disk)?;
        LogStore::create(self.disk.clone(), incarnation, options()).await.map_err(disk)
    }

    /// The first of all.
    async fn found(&mut self) -> Result<Part, Halt> {
        let identity = self.drawn(Some(1));
        let log = self.create_log(identity.incarnation).await?;
        identity::save(&self.disk, &identity).await.map_err(disk)?;
        let replica = self.start(identity, log).await.map_err(Halt::Disk)?;
        replica.found().await.map_err(disk)?;
        Ok(replica)
    }

    fn drawn(&mut self, raft: Option<RaftId>) -> Identity {
        let chance = &mut self.chance;
        let incarnation = Incarnation::draw(|| chance.next());
        Identity { cluster: CLUSTER, peer: self.peer, incarnation, raft, host: name_of(self.number) }
    }

    /// Asks to be let in, as somebody new, until it is.
    async fn rejoin(&mut self, old: Option<RaftId>, why: &str) -> Result<Part, Halt> {
        self.say(format_args!("asks to be let in (was {old:?}: {why})"));
        self.site.names().lost.extend(old);
        let mut identity = self.drawn(None);
        identity::save(&self.disk, &identity).await.map_err(disk)?;
        let end = self.end();
        let id = loop {
            let request = Request::Admit {
                peer: self.peer,
                incarnation: identity.incarnation,
                host: identity.host.clone(),
                replaces: old,
            };
            match self.ask_around(&end, &identity, &request).await {
                Some(Answer::Reserved { raft_id, .. }) => break raft_id,
                other => self.say(format_args!("no id: {other:?}")),
            }
            Hosted::sleep(RETRY).await;
        };
        identity.raft = Some(id);
        let log = self.create_log(identity.incarnation).await?;
        identity::save(&self.disk, &identity).await.map_err(disk)?;
        self.say(format_args!("enters as {id}"));
        for _ in 0..20 {
            let request = Request::Enter {
                raft_id: id,
                peer: self.peer,
                incarnation: identity.incarnation,
                host: identity.host.clone(),
            };
            match self.ask_around(&end, &identity, &request).await {
                Some(Answer::Admitted { .. }) => {
                    return self.start_on(end, identity, log).await.map_err(|why| Halt::Lost(Some(id), why));
                }
                other => self.say(format_args!("not in as {id}: {other:?}")),
            }
            Hosted::sleep(RETRY).await;
        }
        log.stop().await;
        end.close();
        Err(Halt::Lost(Some(id), "the reservation was void".to_owned()))
    }

    fn end(&self) -> Tapped<mgmt_consensus::transport::memory::Memory<SimRuntime>> {
        Tapped::new(self.site.network.join(self.peer), self.site.ear.clone())
    }

    /// Asks the others one after the other, until the leader has answered.
    async fn ask_around(
        &mut self,
        end: &Tapped<mgmt_consensus::transport::memory::Memory<SimRuntime>>,
        identity: &Identity,
        request: &Request,
    ) -> Option<Answer> {
        let envelope = Envelope { cluster: CLUSTER, from: NOBODY, incarnation: identity.incarnation, to: NOBODY };
        let message = wire::encode_request(&envelope, request).expect("it is short");
        let mut others: Vec<PeerId> = self.site.names().peers.values().copied().collect();
        others.retain(|peer| *peer != self.peer);
        let mut said = None;
        while !others.is_empty() {
            let to = others.swap_remove(self.chance.below(others.len()));
            let Ok(answer) = end.call(to, Lane::Client, message.clone(), PATIENCE).await else { continue };
            match wire::decode_answer(&answer) {
                Ok((_, Answer::NotLeader { .. } | Answer::Mismatch(_))) => {}
                Ok((_, answer @ (Answer::Reserved { .. } | Answer::Admitted { .. }))) => return Some(answer),
                Ok((_, answer)) => said = Some(answer),
                Err(error) => self.say(format_args!("an answer that cannot be read: {error}")),
            }
        }
        said
    }

    async fn start(&self, identity: Identity, log: LogStore<Simulated>) -> Result<Part, String> {
        self.start_on(self.end(), identity, log).await
    }

    async fn start_on(
        &self,
        end: Tapped<mgmt_consensus::transport::memory::Memory<SimRuntime>>,
        identity: Identity,
        log: LogStore<Simulated>,
    ) -> Result<Part, String> {
        let site = &self.site;
        let store = StoreMachine::with_history(site.history_events, usize::MAX);
        let machine = Recorded::new(store, self.number, self.life, site.book.clone());
        let shared = machine.shared();
        let (id, incarnation) = (identity.raft.expect("it has one"), identity.incarnation.0);
        let started = Replica::start(site.settings.clone(), identity, self.disk.clone(), end, log, machine).await;
        let replica: Part = started.map_err(|error| error.to_string())?;
        let term = Some(replica.standing().term);
        site.book.see(&Sighting::Speaks { id, incarnation, term });
        let roster = Arc::new(Known { site: site.clone(), host: self.number });
        drop(Hosted::spawn(appoint(replica.clone(), roster, site.policy.clone())));
        *self.face.lock().expect("held for a moment only") =
            Face { replica: Some(replica.clone()), shared: Some(shared) };
        self.say(format_args!("is member {id}"));
        Ok(replica)
    }

    /// Serves until its part has stopped or is not wanted any more: what was lost then.
    async fn serve(&self, replica: Part) -> Option<(Option<RaftId>, String)> {
        let id = replica.id();
        let why = loop {
            Hosted::sleep(RETRY).await;
            let standing = replica.standing();
            if let Some(fault) = standing.fault {
                break fault;
            }
            if standing.removed {
                break "removed".to_owned();
            }
        };
        self.say(format_args!("stops as {id}: {why}"));
        *self.face.lock().expect("held for a moment only") = Face::default();
        replica.stop().await;
        Some((Some(id), why))
    }
}

fn options() -> log_store::Options {
    log_store::Options::testing()
}

/// What the operator knows of the hosts.
struct Known {
    site: Arc<Site>,
    host: usize,
}

impl Roster for Known {
    fn profiles(&self, members: &BTreeMap<RaftId, Member>) -> BTreeMap<RaftId, Profile> {
        let profile = |id: RaftId, member: &Member| {
            let host = self.site.host_of(member.peer);
            let names = self.site.names();
            Profile {
                eligible: true,
                draining: host.is_some_and(|host| names.draining.contains(&host)),
                lost_data: names.lost.contains(&id),
                ..Profile::default()
            }
        };
        members.iter().map(|(id, member)| (*id, profile(*id, member))).collect()
    }

    fn ideal(&self) -> usize {
        self.site.ideal.load(Ordering::Relaxed)
    }

    fn looked(&self, census: &Census, step: Option<&Step>) {
        if let Some(step) = step {
            self.site.book.trace().line(Some(self.host), step.sentence(census));
        }
    }

    fn ended(&self, step: &Step, result: &Result<(), ChangeError>) {
        self.site.book.trace().line(Some(self.host), format_args!("{:?}: {result:?}", step.deed));
    }
}
