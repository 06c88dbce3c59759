//! One host: takes up its part of the group or asks to be let in, and comes back under a new id when its log is lost.
//! What the program's own start does, on the simulated ground.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mgmt::exchange::Board;
use mgmt_consensus::appoint::{Roster, appoint};
use mgmt_consensus::clerk::Clerk;
use mgmt_consensus::disk::simulated::Image;
use mgmt_consensus::log_store::index::lying::Lying;
use mgmt_consensus::log_store::{self, Options};
use mgmt_consensus::masters::{Census, Deed, Policy, Profile, Step, ready};
use mgmt_consensus::peer::{ComeError, Otherwise, Peer};
use mgmt_consensus::replica::{ChangeError, Replica};
use mgmt_consensus::settings::Settings;
use mgmt_consensus::transport::memory::Network;
use mgmt_consensus::types::{Member, RaftId};
use mgmt_consensus::{ClusterId, PeerId};
use mgmt_store::{Shared, StoreMachine};
use openraft::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;

use crate::book::Book;
use crate::ground::{Disk, Recorded, Simulated};
use crate::hosted::{Hosted, Life};
use crate::oracle::history::Nanos;
use crate::oracle::invariants::{Sighting, Step as Decided};
use crate::stage::Cuts;
use crate::swarm::{Chance, Plan};
use crate::tapped::{Ear, Tapped};
use crate::whole::{Attesting, Whole};

/// The part of a host in the group.
pub(crate) type Part = Replica<Simulated, Recorded>;

/// A cluster knows its id before it is: the token says it.
pub(crate) const CLUSTER: ClusterId = ClusterId(0x51);
/// Bytes of a segment of the journal, and of its reserve.
const SEGMENT_BYTES: u64 = 64 << 10;
const RESERVE_BYTES: u64 = 64 << 10;
/// Between two looks at itself, and before it tries to come up again.
const RETRY: Duration = Duration::from_millis(100);
/// How long a member hears no leader before it asks whether it is one.
const PATIENCE_OF_MEMBERS: Duration = Duration::from_secs(5);
/// How long it asks to be let in before it says that nobody has.
const PATIENCE: Duration = Duration::from_secs(30);

/// What all hosts have in common.
pub(crate) struct Site {
    pub(crate) book: Book,
    pub(crate) network: Network<SimRuntime>,
    pub(crate) settings: Settings,
    pub(crate) policy: Policy,
    /// What makes hosts whole nodes, if they are.
    pub(crate) whole: Option<Arc<Whole>>,
    history_events: usize,
    ideal: AtomicUsize,
    ear: Ear,
    names: Mutex<Names>,
    cuts: Mutex<Cuts>,
    /// Who was seen alive under an id, and when last.
    seen: Mutex<BTreeMap<RaftId, (usize, Nanos)>>,
    /// The parts that run, by their ids.
    parts: Mutex<BTreeMap<RaftId, (usize, Part)>>,
}

/// How long after it died a leader may take somebody for alive: [`Policy::alive_ack_ms_max`], and what is on its way.
const ALIVE_GRACE: Nanos = 1_300_000_000;

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
    pub(crate) fn new(
        book: Book,
        network: Network<SimRuntime>,
        settings: Settings,
        policy: Policy,
        plan: &Plan,
        ear: Ear,
        whole: Option<Arc<Whole>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            book,
            network,
            settings,
            policy,
            whole,
            history_events: plan.history_events,
            ideal: AtomicUsize::new(plan.ideal),
            ear,
            names: Mutex::default(),
            cuts: Mutex::default(),
            seen: Mutex::default(),
            parts: Mutex::default(),
        })
    }

    pub(crate) fn ideal(&self) -> usize {
        self.ideal.load(Ordering::Relaxed)
    }

    pub(crate) fn set_ideal(&self, ideal: usize) {
        self.ideal.store(ideal, Ordering::Relaxed);
    }

    pub(crate) fn cuts(&self) -> MutexGuard<'_, Cuts> {
        self.cuts.lock().expect("held for a moment only")
    }

    /// Somebody was seen alive.
    pub(crate) fn lives(&self, host: usize, id: RaftId, now: Nanos) {
        self.seen.lock().expect("held for a moment only").insert(id, (host, now));
    }

    /// The id that a host had last.
    pub(crate) fn id_of(&self, host: usize) -> Option<RaftId> {
        let seen = self.seen.lock().expect("held for a moment only");
        seen.iter().rev().find(|(_, (other, _))| *other == host).map(|(id, _)| *id)
    }

    /// Who runs and understands this host, or did until a moment ago.
    fn alive(&self, from: usize) -> BTreeSet<RaftId> {
        let now = self.book.trace().now();
        let cuts = self.cuts();
        let seen = self.seen.lock().expect("held for a moment only");
        let lately = |since: Nanos| now.saturating_sub(since) < ALIVE_GRACE;
        let reached = |host: usize| cuts.since(from, host).is_none_or(lately);
        seen.iter().filter(|(_, (host, at))| lately(*at) && reached(*host)).map(|(id, _)| *id).collect()
    }

    /// The host on which the part with this id runs.
    pub(crate) fn host_with(&self, id: RaftId) -> Option<usize> {
        self.parts().get(&id).map(|(host, _)| *host)
    }

    fn last_of(&self, id: RaftId) -> Option<u64> {
        let parts = self.parts.lock().expect("held for a moment only");
        parts.get(&id).map(|(_, part)| part.standing().last.unwrap_or_default())
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<RaftId, (usize, Part)>> {
        self.parts.lock().expect("held for a moment only")
    }

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
    /// What its disk was before it was destroyed, and under which id.
    pub(crate) image: Option<(Option<RaftId>, Image)>,
    index: Lying,
    past: Vec<Life>,
    chance: Chance,
}

pub(crate) fn name_of(number: usize) -> String {
    format!("h{number}")
}

impl Host {
    pub(crate) fn new(number: usize, chance: &mut Chance, capacity: u64) -> Self {
        let peer = PeerId(u128::from(chance.next()) << 64 | number as u128);
        let disk = Disk::new(chance.next(), capacity);
        let (face, index) = (Arc::default(), Lying::new(chance.next()));
        let (past, chance) = (Vec::new(), chance.fork());
        Self { number, peer, disk, lives: 0, life: None, face, gone: false, image: None, index, past, chance }
    }

    /// Starts the process. The first host of a cluster founds it, if it has never been anybody.
    pub(crate) fn start(&mut self, site: &Arc<Site>, founds: bool) {
        let life = Life::begin();
        self.lives += 1;
        self.face = Arc::default();
        site.names().peers.insert(self.number, self.peer);
        site.network.replug(self.peer);
        let process = Process {
            site: site.clone(),
            number: self.number,
            peer: self.peer,
            founds,
            disk: self.disk.boot(),
            life: self.lives,
            face: self.face.clone(),
            chance: self.chance.fork(),
            index: self.index.clone(),
            comings: 0,
        };
        drop(life.run(process.be()));
        self.life = Some(life);
        site.book.trace().line(Some(self.number), format_args!("starts life {}", self.lives));
    }

    /// Ends the process where it stands. `power`: and the machine, with what was not synced.
    pub(crate) fn kill(&mut self, site: &Arc<Site>, power: bool) {
        let Some(life) = self.life.take() else { return };
        life.kill();
        self.past.push(life);
        if power {
            // Nobody is told of it.
            site.network.unplug(self.peer);
            self.disk.crash();
        }
        site.network.crash(self.peer);
        site.parts().retain(|_, (host, _)| *host != self.number);
        *self.face.lock().expect("held for a moment only") = Face::default();
        site.book.trace().line(Some(self.number), if power { "loses power" } else { "is killed" });
    }

    /// What its tasks have died of since this was asked last.
    pub(crate) fn panics(&self) -> Vec<String> {
        self.past.iter().chain(&self.life).flat_map(Life::panics).collect()
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
    index: Lying,
    /// How often it has come up, or tried to.
    comings: u64,
}

impl Process {
    fn say(&self, what: impl std::fmt::Display) {
        self.site.book.trace().line(Some(self.number), what);
    }

    /// Lives until it is killed.
    async fn be(mut self) {
        let board = self.site.whole.as_ref().map(|whole| whole.boot(self.number));
        loop {
            match self.come().await {
                Ok((replica, shared)) => self.serve(replica, shared, board.as_ref()).await,
                Err(error) => self.say(format_args!("does not come up: {error}")),
            }
            self.founds = false;
            Hosted::sleep(RETRY).await;
        }
    }

    /// Comes up as the program does.
    async fn come(&mut self) -> Result<(Part, Arc<Shared>), ComeError> {
        let end = Tapped::new(self.site.network.join(self.peer), self.site.ear.clone());
        let drawn = Mutex::new(self.chance.fork());
        let clerk: Arc<dyn Clerk> = match self.site.whole {
            Some(_) => Arc::new(Attesting(self.site.book.clone())),
            None => Arc::new(()),
        };
        let peer = Peer::<Simulated> {
            settings: self.site.settings.clone(),
            options: self.options(),
            disk: self.disk.clone(),
            transport: end,
            host: name_of(self.number),
            clerk,
            chance: Arc::new(move || drawn.lock().expect("held for a moment only").next()),
        };
        let seeds = self.site.names().peers.values().copied().collect();
        let otherwise = match self.founds {
            true => Otherwise::Found(CLUSTER),
            false => Otherwise::Join { cluster: CLUSTER, seeds, patience: PATIENCE },
        };
        // Somebody new begins from nothing, in the same process.
        self.comings += 1;
        let life = self.life * 1_000 + self.comings;
        let shared = Mutex::new(None);
        let machine = || {
            let store = StoreMachine::with_history(self.site.history_events, usize::MAX);
            *shared.lock().expect("held for a moment only") = Some(store.shared());
            Recorded::new(store, self.number, life, self.site.book.clone())
        };
        let replica = peer.come(otherwise, machine).await?;
        let shared = shared.into_inner().expect("held for a moment only").expect("the part has a machine");
        Ok((replica, shared))
    }

    /// Small segments, so that they are recycled; no more room than a small disk has.
    fn options(&self) -> Options {
        let index = Arc::new(self.index.clone());
        Options { segment_bytes: SEGMENT_BYTES, reserve_bytes: RESERVE_BYTES, room_low_bytes: 0, index }
    }

    /// Serves until its part has stopped or is not wanted any more. It is somebody new then.
    async fn serve(&self, replica: Part, shared: Arc<Shared>, board: Option<&Board>) {
        let id = replica.id();
        // From now on it answers: whoever leads may count on it before the world looks around the next time.
        self.site.lives(self.number, id, self.site.book.trace().now());
        // What it found on its disk is told by the first metrics, which come after the start.
        Hosted::sleep(Duration::from_millis(1)).await;
        let (incarnation, term) = (replica.identity().incarnation.0, Some(replica.standing().term));
        self.say(format_args!("is member {id} in term {term:?}"));
        self.site.book.see(&Sighting::Speaks { id, incarnation, term });
        // Whatever it had begun in an earlier life, it knows nothing of.
        self.site.book.see(&Sighting::Ended { leader: id });
        let roster = Arc::new(Known { site: self.site.clone(), host: self.number, id, said: Mutex::default() });
        drop(Hosted::spawn(appoint(replica.clone(), roster, self.site.policy.clone())));
        self.site.parts().insert(id, (self.number, replica.clone()));
        *self.face.lock().expect("held for a moment only") =
            Face { replica: Some(replica.clone()), shared: Some(shared.clone()) };
        let why = tokio::select! {
            biased;
            why = self.end_of(&replica) => why,
            () = self.exchange(&replica, shared, board) => "its exchange ended".to_owned(),
        };
        if let Some(board) = board {
            board.lose_sight();
        }
        self.say(format_args!("stops as {id}: {why}"));
        *self.face.lock().expect("held for a moment only") = Face::default();
        self.site.parts().remove(&id);
        replica.stop().await;
        self.site.names().lost.insert(id);
        match log_store::quarantine(&self.disk).await {
            Ok(folder) => self.say(format_args!("its log is {folder} now")),
            Err(error) => self.say(format_args!("its log cannot be moved: {error}")),
        }
    }

    /// Waits until a part has to stop, and says why.
    async fn end_of(&self, replica: &Part) -> String {
        loop {
            Hosted::sleep(RETRY).await;
            let standing = replica.standing();
            if let Some(fault) = standing.fault {
                return fault;
            }
            if standing.removed {
                return "removed".to_owned();
            }
            if replica.silence() > PATIENCE_OF_MEMBERS {
                let seeds: Vec<PeerId> = self.site.names().peers.values().copied().collect();
                replica.knock(&seeds).await;
            }
        }
    }

    /// Exchanges with others, for as long as it is polled.
    async fn exchange(&self, replica: &Part, shared: Arc<Shared>, board: Option<&Board>) {
        match self.site.whole.as_ref().zip(board) {
            Some((whole, board)) => whole.exchange(self.number, board, replica.clone(), shared).await,
            None => std::future::pending().await,
        }
    }
}

/// What the operator knows of the hosts.
struct Known {
    site: Arc<Site>,
    host: usize,
    id: RaftId,
    /// What it said last of why it does nothing.
    said: Mutex<String>,
}

impl Roster for Known {
    fn profiles(&self, members: &BTreeMap<RaftId, Member>) -> BTreeMap<RaftId, Profile> {
        let profile = |id: RaftId, member: &Member| {
            let host = self.site.host_of(member.peer);
            let names = self.site.names();
            Profile {
                eligible: Some(true),
                draining: host.is_some_and(|host| names.draining.contains(&host)),
                lost_data: names.lost.contains(&id),
                ..Profile::default()
            }
        };
        members.iter().map(|(id, member)| (*id, profile(*id, member))).collect()
    }

    fn ideal(&self) -> usize {
        self.site.ideal()
    }

    fn looked(&self, census: &Census, step: Option<&Step>) {
        let Some(step) = step else {
            // At rest nobody waits for anything; what is waited for is worth a line when it is something new.
            let why = match ready(census, &self.site.policy) {
                Ok(()) => "sees nothing to do".to_owned(),
                Err(waits) => waits.to_string().chars().filter(|c| !c.is_ascii_digit()).collect(),
            };
            let mut said = self.said.lock().expect("held for a moment only");
            if *said != why {
                self.site.book.trace().line(Some(self.host), &why);
                *said = why;
            }
            return;
        };
        self.site.book.trace().line(Some(self.host), step.sentence(census));
        if !step.deed.changes_membership() || matches!(step.deed, Deed::RemoveLearners { .. }) {
            return;
        }
        let (leader, old) = (census.me, census.configs.clone());
        let last = self.site.last_of(leader).unwrap_or_default();
        let promoted = step.voters.iter().filter(|id| !census.votes(**id));
        let behind = promoted.filter_map(|id| Some((*id, last.saturating_sub(self.site.last_of(*id)?)))).collect();
        let alive = self.site.alive(self.host);
        self.site.book.see(&Sighting::Decided(Decided { leader, old, new: step.voters.clone(), alive, behind }));
    }

    fn ended(&self, step: &Step, result: &Result<(), ChangeError>) {
        self.site.book.trace().line(Some(self.host), format_args!("{:?}: {result:?}", step.deed));
        if step.deed.changes_membership() && !matches!(step.deed, Deed::RemoveLearners { .. }) {
            self.site.book.see(&Sighting::Ended { leader: self.id });
        }
    }
}
