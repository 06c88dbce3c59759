//! One run from one seed: a group comes up, clients work, things go wrong; then nothing goes wrong any more, and the
//! group must come to rest as it should be, serve, and have kept all its promises.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use mgmt_consensus::masters::Policy;
use mgmt_consensus::settings::Settings;
use mgmt_consensus::transport::memory::{Network, Path};
use mgmt_consensus::wire::Role;
use openraft::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;

use crate::book::{Book, Tally};
use crate::client::Client;
use crate::faults::{CAPACITY, Nemesis};
use crate::host::{Host, Site};
use crate::hosted::last_words;
use crate::oracle::Violation;
use crate::oracle::invariants::Sighting;
use crate::stage::Stage;
use crate::swarm::{Chance, Plan};
use crate::tapped::Heard;
use crate::trace::Trace;
use crate::watcher::Watcher;
use crate::whole::{self, Editor, Whole};

/// Virtual time in which a healed group must be at rest.
const REST: Duration = Duration::from_secs(120);
/// Virtual time in which it must serve ten writes and ten reads; in which all have the same then; in which all watchers
/// have seen it.
const SERVE: Duration = Duration::from_secs(15);
/// Between two looks at everybody.
const LOOK: Duration = Duration::from_millis(20);
/// Writes and reads after all faults.
const SERVED: usize = 10;

/// How a run ended.
pub(crate) struct Outcome {
    /// The promise that was broken, if one was.
    pub(crate) broken: Option<Violation>,
    /// How much there was.
    pub(crate) tally: Tally,
    /// A number for all that happened, and how many events that was.
    pub(crate) sum: (u64, u64),
    /// The end of the trace.
    pub(crate) last: Vec<String>,
}

/// Runs a plan to its end, or to the first broken promise.
pub(crate) fn run(plan: Plan, aloud: bool) -> Outcome {
    let mut runtime = SimRuntime::with_seed(plan.seed);
    let mut trace = None;
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let trace = &mut trace;
        runtime.block_on(async move {
            let begun = Trace::begin(aloud);
            *trace = Some(begun.clone());
            world(plan, Book::new(begun)).await
        })
    }));
    let (broken, tally) = match ran {
        Ok(ended) => ended,
        Err(_) => {
            let what = last_words();
            (Some(Violation { law: "the simulation goes on", what }), Tally::default())
        }
    };
    // What is left of the tasks may panic when it is dropped, with nobody there any more whom they speak to.
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(runtime)));
    let broken = broken.or_else(|| dropped.err().map(|_| Violation { law: "the simulation ends", what: last_words() }));
    let (sum, last) = trace.map(|trace| (trace.sum(), trace.last())).unwrap_or_default();
    Outcome { broken, tally, sum, last }
}

/// Quick enough that a run sees many changes: the proportions are those of [`Policy::LAN`].
fn policy() -> Policy {
    Policy {
        look_every_ms: 200,
        caught_up_apart_ms: 300,
        stable_few_ms: 400,
        stable_ms: 1_500,
        pause_ms: 700,
        failed_ms: 3_000,
        down_ms: 5_000,
        learner_dead_ms: 8_000,
        removal_apart_ms: 1_000,
        shrink_ms: 60_000,
        spread_quiet_ms: 5_000,
        spread_apart_ms: 2_000,
        transfer_apart_ms: 1_500,
        ..Policy::LAN
    }
}

fn settings(plan: &Plan) -> Settings {
    Settings { snapshot_entries: plan.snapshot_entries, entries_kept: plan.kept_entries, ..Settings::LAN }
}

async fn world(plan: Plan, book: Book) -> (Option<Violation>, Tally) {
    let mut chance = Chance::of(plan.seed ^ 0x5eed);
    let network = Network::new(chance.next());
    network.set_paths(Path { delay: plan.hop, jitter: plan.hop, ..Path::default() });
    let ear = {
        let book = book.clone();
        Arc::new(move |heard| match heard {
            Heard::Sighting(sighting) => book.see(&sighting),
            Heard::Entry { index, term, writer, sum, membership } => {
                book.see(&Sighting::Sent { index, term, writer, entry: sum });
                book.entry(index, (term, writer), membership.map(|membership| membership.get_joint_config().clone()));
            }
        })
    };
    let whole = plan.edits.map(|_| Whole::new(book.clone(), chance.fork()));
    let site = Site::new(book.clone(), network, settings(&plan), policy(), &plan, ear, whole);
    let mut hosts = Vec::new();
    for number in 0..plan.hosts {
        let mut host = Host::new(number, &mut chance, CAPACITY);
        host.disk.set_sync_latency(plan.sync_max / 10, plan.sync_max);
        host.start(&site, number == 0);
        hosts.push(host);
    }
    let stage = Stage::new(site, plan, hosts);
    drop(SimRuntime::spawn(monitor(stage.clone())));
    let until = match run_on(&stage, &mut chance).await {
        Ok(until) => until,
        Err(stuck) => {
            // Unless it stands still because a promise was broken already.
            if book.broken().is_none() {
                book.broke(stuck);
            }
            0
        }
    };
    let tally = if book.broken().is_some() { Tally::default() } else { book.judge(until) };
    for host in stage.all().iter_mut() {
        host.kill(stage.site(), false);
    }
    SimRuntime::sleep(Duration::from_millis(1)).await;
    (book.broken(), tally)
}

fn stuck(law: &'static str, stage: &Stage) -> Violation {
    let hosts = stage.all();
    let what = |host: &Host| match host.replica() {
        None => format!("h{} no part (runs: {}, gone: {})", host.number, host.life.is_some(), host.gone),
        Some(part) => {
            let standing = part.standing();
            format!(
                "h{} id {} {:?} term {} leader {:?} voters {:?} members {:?} last {:?} applied {:?} {:?}",
                host.number,
                standing.id,
                standing.role,
                standing.term,
                standing.leader,
                standing.voters(),
                standing.members().map(|(id, _)| id).collect::<Vec<_>>(),
                standing.last,
                standing.applied,
                standing.fault
            )
        }
    };
    let what: Vec<_> = hosts.iter().map(what).collect();
    Violation { law, what: format!("ideal {}\n  {}", stage.site().ideal(), what.join("\n  ")) }
}

/// All of it, from the first election to the last answer: up to where everybody has applied.
async fn run_on(stage: &Stage, chance: &mut Chance) -> Result<u64, Violation> {
    let plan = stage.plan().clone();
    let led = |stage: &Stage| stage.ask(0).is_some_and(|asked| asked.part.standing().role == Role::Leader);
    if !stage.wait(REST, led).await {
        return Err(stuck("a group is founded", stage));
    }
    // Some begin to fail while they still grow.
    if chance.percent(60) && !stage.wait(REST, at_rest).await {
        return Err(stuck("a group grows", stage));
    }
    for number in 0..plan.clients {
        drop(SimRuntime::spawn(Client::new(number, stage.clone(), chance.fork()).be()));
    }
    for _ in 0..plan.watchers {
        drop(SimRuntime::spawn(Watcher::new(stage.clone(), chance.fork()).be()));
    }
    if let Some(pause_max) = plan.edits {
        drop(SimRuntime::spawn(Editor::new(stage.clone(), chance.fork(), pause_max).be()));
    }
    let mut nemesis = Nemesis::new(stage.clone(), chance.fork());
    nemesis.be().await;
    nemesis.heal();
    if !stage.wait(REST, at_rest).await {
        return Err(stuck("a healed group comes to rest", stage));
    }
    stage.end();
    let begun = stage.now();
    let mut served = 0;
    let mut client = Client::new(plan.clients, stage.clone(), chance.fork());
    while served < SERVED && !stage.is_closed() {
        served += usize::from(client.serves().await);
        if u128::from(stage.now() - begun) > SERVE.as_nanos() {
            return Err(stuck("a healed group serves", stage));
        }
    }
    whole::check(stage, REST).await?;
    // Whoever still waits for an answer gets it, or gives up.
    if !stage.wait(SERVE, |stage| stage.idle() && alike(stage)).await {
        return Err(stuck("a healed group converges", stage));
    }
    compare(stage).await?;
    let until = stage.book().highest();
    stage.set_until(until);
    if !stage.wait(SERVE, Stage::all_watched).await {
        return Err(stuck("watches go on", stage));
    }
    Ok(until)
}

/// One leader, as many voters as there should be, all of them alive, and nobody else a member. But three voters are not
/// made fewer because one of them will not come back and nobody can take its place: two still keep every write twice.
fn at_rest(stage: &Stage) -> bool {
    let hosts = stage.all();
    let present: Vec<&Host> = hosts.iter().filter(|host| !host.gone).collect();
    let parts: Vec<_> = present.iter().filter_map(|host| host.replica()).collect();
    let standings: Vec<_> = parts.iter().map(|part| part.standing()).collect();
    let ids: BTreeSet<u64> = standings.iter().map(|standing| standing.id).collect();
    let mut leaders = standings.iter().filter(|standing| standing.role == Role::Leader);
    let (Some(leader), None) = (leaders.next(), leaders.next()) else { return false };
    let voters = leader.voters();
    let members: BTreeSet<u64> = leader.members().map(|(id, _)| id).collect();
    let most = stage.site().ideal().min(present.len());
    let wanted = if most % 2 == 1 { most } else { most - 1 };
    let lost: BTreeSet<u64> = voters.iter().flatten().filter(|id| !ids.contains(id)).copied().collect();
    let wanted = if wanted == 1 && lost.len() == 1 { 3 } else { wanted };
    let known: BTreeSet<u64> = ids.union(&lost).copied().collect();
    let settled = leader.membership.log_id() == leader.committed_membership.log_id();
    parts.len() == present.len()
        && stage.site().names().draining.is_empty()
        && settled
        && members == known
        && voters.len() == 1
        && voters[0].len() == wanted
        && lost.len() <= usize::from(wanted == 3 && present.len() == 2)
        && standings.iter().all(|standing| standing.leader == Some(leader.id))
}

/// Everybody has applied everything.
fn alike(stage: &Stage) -> bool {
    let hosts = stage.all();
    let parts = hosts.iter().filter(|host| !host.gone).map(|host| host.replica());
    let places: Option<BTreeSet<_>> =
        parts.map(|part| part.map(|part| (part.standing().last, part.standing().applied))).collect();
    places.is_some_and(|places| places.len() == 1 && places.iter().all(|(last, applied)| last == applied))
}

/// The states of all are the same: each is frozen, and the book compares.
async fn compare(stage: &Stage) -> Result<(), Violation> {
    let mut states = BTreeMap::new();
    for host in 0..stage.hosts() {
        let Some(asked) = stage.ask(host) else { continue };
        let (revision, found) = crate::translate::read(&asked.shared, "");
        states.insert(host, (revision, found));
        let frozen = asked.life.run(async move { asked.part.snapshot().await }).await;
        if !matches!(frozen, Some(Ok(()))) {
            return Err(stuck("a healed group takes snapshots", stage));
        }
    }
    let mut all = states.iter();
    let Some((first, state)) = all.next() else { return Ok(()) };
    match all.find(|(_, other)| *other != state) {
        None => Ok(()),
        Some((other, _)) => Err(Violation { law: "states are equal", what: format!("h{first} and h{other} differ") }),
    }
}

/// Looks at everybody, again and again: who leads, who lives, what has died.
async fn monitor(stage: Stage) {
    let mut judged = 0;
    loop {
        SimRuntime::sleep(LOOK).await;
        let now = stage.now();
        let mut leads = Vec::new();
        {
            let mut hosts = stage.all();
            for host in hosts.iter_mut() {
                for panic in host.panics() {
                    let what = format!("h{}: {panic}", host.number);
                    stage.book().broke(Violation { law: "nothing panics", what });
                }
                let Some(part) = host.replica().filter(|_| host.runs()) else { continue };
                let standing = part.standing();
                stage.site().lives(host.number, standing.id, now);
                if standing.role == Role::Leader {
                    leads.push((
                        host.number,
                        Sighting::Leads { id: standing.id, term: standing.term, last: standing.last },
                    ));
                    if standing.term > judged {
                        judged = standing.term;
                        stage.book().leader();
                        let line = format!("leads as {} in term {}", standing.id, standing.term);
                        stage.book().trace().line(Some(host.number), line);
                    }
                }
            }
        }
        // All at the same moment, before anything is waited for.
        leads.iter().for_each(|(_, sighting)| stage.book().see(sighting));
        for (host, _) in leads {
            release(&stage, host).await;
        }
    }
}

/// As the operator: takes out of the group who was told to leave and votes no more.
async fn release(stage: &Stage, leader: usize) {
    let Some(asked) = stage.ask(leader).filter(|asked| !asked.life.is_paused()) else { return };
    let standing = asked.part.standing();
    let votes: BTreeSet<u64> = standing.voters().into_iter().flatten().collect();
    let draining = stage.site().names().draining.clone();
    for host in draining {
        let peer = stage.site().names().peers[&host];
        let ids: BTreeSet<u64> =
            standing.members().filter(|(_, member)| member.peer == peer).map(|(id, _)| id).collect();
        if ids.iter().any(|id| votes.contains(id)) {
            continue;
        }
        let part = asked.part.clone();
        let at = standing.membership.log_id().as_ref().map_or(0, |id| id.index);
        let done = ids.is_empty() || {
            let removed = asked.life.run(async move { part.remove(ids, at).await });
            matches!(SimRuntime::timeout(Duration::from_secs(2), removed).await, Ok(Some(Ok(()))))
        };
        if done {
            let mut hosts = stage.all();
            hosts[host].kill(stage.site(), false);
            hosts[host].gone = true;
            stage.site().names().draining.remove(&host);
            stage.book().trace().line(Some(host), "has left");
        }
    }
}
