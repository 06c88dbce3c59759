//! The whole node: beside its part of the group, every host has an agent that exports files, collects those of all
//! others, and keeps them as they should be. Hosts have their own documents, which change; what they remember of others
//! outlives their processes, unless their disk is lost; the files outlive everything.

mod agent;
mod editor;
mod files;
mod ledger;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use mgmt::exchange::remembered::Turn;
use mgmt::exchange::{Board, Keeper, Publishing, Said, Shelf, Sight, keeping};
use mgmt_consensus::clerk::{Clerk, Declined};
use mgmt_consensus::mutant::{self, Mutant};
use mgmt_consensus::{ClusterId, Member};
use mgmt_store::command::{Command, Origin};
use mgmt_store::{Client, HostName, Role, Shared, Watches};
use openraft::AsyncRuntime as _;

use crate::book::Book;
use crate::client::EPOCH_MS;
use crate::host::{CLUSTER, Part, name_of};
use crate::hosted::Hosted;
use crate::oracle::{Verdict, Violation};
use crate::stage::Stage;
use crate::swarm::Chance;
use agent::Agent;
pub(crate) use editor::Editor;
use files::Files;
use ledger::{Floors, Ledger, Set};

/// Where everybody collects to.
const COLLECTED: &str = "/c";
/// What came of changes that come this close together is written to disk once.
const SETTLE: Duration = Duration::from_millis(100);
/// That takes so long.
const WRITE: Duration = Duration::from_millis(3);
/// What a host went by for this long, it must remember.
const STEPS_UNTIL_KEPT: usize = 10;
/// How long publishing may take before it is tried anew: that of the program.
const PATIENCE: Duration = Duration::from_secs(10);

/// What all whole nodes have in common.
pub(crate) struct Whole {
    ledger: Arc<Ledger>,
    estates: Mutex<BTreeMap<usize, Arc<Estate>>>,
    chance: Mutex<Chance>,
}

/// What a host has besides its part of the group.
pub(crate) struct Estate {
    number: usize,
    name: String,
    files: Files,
    ledger: Arc<Ledger>,
    purges: bool,
    /// Held for one operation.
    state: Mutex<State>,
    changed: tokio::sync::Notify,
}

#[derive(Default)]
struct State {
    /// What it exports: names, each with the edition of the document that changed it last.
    exports: BTreeMap<usize, u64>,
    /// Every edition of its document.
    documents: Vec<String>,
    /// What is remembered, on the disk of the part.
    kept: Kept,
    image: Kept,
    /// What it has to remember.
    least: Floors,
    /// What it went by, of late.
    present: Floors,
    published: bool,
    quiet: bool,
}

#[derive(Clone, Default)]
struct Kept {
    sight: Sight,
    /// The turn of what was gone by last, and whether that is more than what is kept.
    newest: u64,
    outdated: bool,
}

impl Whole {
    pub(crate) fn new(book: Book, chance: Chance) -> Arc<Self> {
        let ledger = Arc::new(Ledger::new(book));
        Arc::new(Self { ledger, estates: Mutex::default(), chance: Mutex::new(chance) })
    }

    fn chance(&self) -> MutexGuard<'_, Chance> {
        self.chance.lock().expect("held for a moment only")
    }

    /// What this host has.
    pub(crate) fn estate(&self, number: usize) -> Arc<Estate> {
        let mut estates = self.estates.lock().expect("held for a moment only");
        let found = estates.entry(number).or_insert_with(|| Arc::new(Estate::new(number, self)));
        found.clone()
    }

    /// Its process begins: the agent at once, with what it remembers.
    pub(crate) fn boot(&self, number: usize) -> Board {
        let estate = self.estate(number);
        let Kept { mut sight, outdated, .. } = estate.state().kept.clone();
        if outdated && !mutant::is(Mutant::StaleMemoryTrusted) {
            sight.asked.clear();
        }
        let board = Board::new(Arc::new(sight));
        drop(Hosted::spawn(Agent::new(estate.clone(), board.clone(), self.chance().fork()).be()));
        let (shelf, met) = (estate.clone(), board.clone());
        drop(Hosted::spawn(async move { keeping(met, &*shelf).await }));
        drop(Hosted::spawn(estate.insist(board.clone())));
        board
    }

    /// The exchange of one life, for as long as it is polled.
    pub(crate) async fn exchange(&self, number: usize, board: &Board, part: Part, shared: Arc<Shared>) {
        let host = HostName::parse(&name_of(number)).expect("it is a name");
        let watches = Watches::new(shared.clone());
        let keeper = Keeper {
            board: board.clone(),
            shelf: self.estate(number),
            client: Client::new(part, shared.clone(), watches, host.clone(), PATIENCE),
            shared,
            cluster: CLUSTER,
            host,
            inherited: BTreeMap::new(),
        };
        tokio::select! {
            biased;
            () = keeper.publish() => {}
            () = keeper.follow() => {}
        }
    }

    /// All that its part had on disk is gone.
    pub(crate) fn lost(&self, number: usize) {
        let estate = self.estate(number);
        let mut state = estate.state();
        state.kept = Kept::default();
        state.least.clear();
    }

    /// Its disk is copied, to be put back some time.
    pub(crate) fn copied(&self, number: usize) {
        let estate = self.estate(number);
        let mut state = estate.state();
        state.image = state.kept.clone();
    }

    /// The copy is put back.
    pub(crate) fn put_back(&self, number: usize) {
        let estate = self.estate(number);
        let mut state = estate.state();
        state.kept = state.image.clone();
        state.least.clear();
        drop(state);
        self.ledger.misled(number, true);
    }

    /// Why not all is as it should be at the end, if it is not: everybody has published what he wants to, and has in
    /// his directory what all others want him to.
    pub(crate) fn unfinished(&self, stage: &Stage) -> Option<String> {
        let hosts: Vec<(usize, bool)> = stage.all().iter().map(|host| (host.number, host.gone)).collect();
        let mut wanted: BTreeMap<PathBuf, String> = BTreeMap::new();
        for (number, gone) in &hosts {
            let estate = self.estate(*number);
            if !*gone {
                if !estate.state().published {
                    return Some(format!("h{number} has not published what it exports"));
                }
                wanted.extend(estate.model());
                continue;
            }
            // Who left for good may have had something in mind that nobody heard of any more.
            let Some(asked) = hosts.iter().filter(|(_, gone)| !gone).find_map(|(host, _)| stage.ask(*host)) else {
                return Some("nobody can be asked".to_owned());
            };
            let set = in_store(&asked.shared, *number);
            if !set.is_empty() && !self.ledger.is_a_set(*number, &set) {
                return Some(format!("h{number} left something behind that it never wanted: {set:?}"));
            }
            wanted.extend(files_of(*number, &set));
        }
        hosts.iter().filter(|(_, gone)| !gone).find_map(|(number, _)| self.estate(*number).differs(&wanted))
    }
}

fn in_store(shared: &Shared, number: usize) -> Set {
    let prefix = format!("x/h{number}/");
    shared.read(|keyspace| keyspace.prefix(&prefix).map(|(key, entry)| (key.clone(), entry.value.clone())).collect())
}

/// The files that come of a set.
fn files_of(number: usize, set: &Set) -> BTreeMap<PathBuf, String> {
    let file = |(key, value): (&mgmt_store::Key, &mgmt_store::Value)| {
        let (_, name) = key.export()?;
        let value: serde_json::Value = serde_json::from_slice(value).ok()?;
        let content = value.get("params")?.get("content")?.as_str()?.to_owned();
        Some((collected(number, name), content))
    };
    set.iter().filter_map(file).collect()
}

fn collected(number: usize, name: &str) -> PathBuf {
    Path::new(COLLECTED).join(format!("h{number}-{name}"))
}

impl Estate {
    fn new(number: usize, whole: &Whole) -> Self {
        let (name, ledger) = (name_of(number), whole.ledger.clone());
        let files = Files::new(number, ledger.clone());
        let mut chance = whole.chance();
        let purges = chance.percent(60);
        let (state, changed) = Default::default();
        let estate = Self { number, name, files, ledger, purges, state, changed };
        let count = 1 + chance.below(4);
        estate.edit(|exports, edition| exports.extend((0..count).map(|name| (name, edition))));
        estate
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("held for a moment only")
    }

    /// Another edition of its document.
    fn edit(&self, change: impl FnOnce(&mut BTreeMap<usize, u64>, u64)) {
        let mut state = self.state();
        let edition = state.documents.len() as u64 + 1;
        change(&mut state.exports, edition);
        let exports: Vec<_> = state.exports.iter().map(|(name, edition)| self.line(*name, *edition)).collect();
        let (host, purges, exports) = (&self.name, self.purges, exports.concat());
        let text = format!(
            "graph: {host}\nresources:\n  file:\n  - {{name: own, path: {COLLECTED}/, state: exists, recurse: yes, purge: {purges}}}\n\
             {exports}collect:\n- {{kind: file, pattern: {COLLECTED}/}}\n"
        );
        state.documents.push(text);
        state.published = false;
        drop(state);
        self.ledger.say(self.number, format_args!("edition {edition} of its document"));
        self.changed.notify_waiters();
    }

    fn line(&self, name: usize, edition: u64) -> String {
        let (host, content) = (&self.name, self.content(name, edition));
        format!("  - {{name: '@@e{name}', path: /x/{host}-e{name}, content: '{content}'}}\n")
    }

    fn content(&self, name: usize, edition: u64) -> String {
        format!("{} e{name} {edition}", self.name)
    }

    /// The files that come of what it exports.
    fn model(&self) -> BTreeMap<PathBuf, String> {
        let state = self.state();
        let file = |(name, edition): (&usize, &u64)| {
            (collected(self.number, &format!("e{name}")), self.content(*name, *edition))
        };
        state.exports.iter().map(file).collect()
    }

    fn edition(&self) -> u64 {
        self.state().documents.len() as u64
    }

    fn document(&self, edition: u64) -> String {
        self.state().documents[usize::try_from(edition).expect("few") - 1].clone()
    }

    /// Waits for another edition than this one.
    async fn edited(&self, than: u64) {
        loop {
            let woken = self.changed.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            if self.edition() != than {
                return;
            }
            woken.await;
        }
    }

    /// Its agent begins with what it remembers: nothing older than what it had gone by for long.
    fn begins(&self, floors: &mut Floors, sight: &Sight) {
        floors.clone_from(&self.state().least);
        if let Err(violation) = self.ledger.seen(self.number, floors, sight) {
            self.ledger.broke(violation);
        }
        self.went_by(floors);
    }

    fn went_by(&self, floors: &Floors) {
        self.state().present.clone_from(floors);
    }

    fn publishes(&self, how: &Publishing) {
        self.state().published = matches!(how, Publishing::Done(_));
    }

    fn is_quiet(&self, quiet: bool) {
        self.state().quiet = quiet;
    }

    /// Whether its files are others than these.
    fn differs(&self, wanted: &BTreeMap<PathBuf, String>) -> Option<String> {
        let mut files = self.files.all();
        if !self.purges {
            files.retain(|path, _| wanted.contains_key(path));
        }
        let name = &self.name;
        if files != *wanted {
            let missing = wanted.iter().filter(|(path, content)| files.get(*path) != Some(*content));
            let more = files.iter().filter(|(path, content)| wanted.get(*path) != Some(*content));
            let (missing, more) = (missing.collect::<Vec<_>>(), more.collect::<Vec<_>>());
            return Some(format!("{name} should have {missing:?} and has {more:?}"));
        }
        (!self.state().quiet).then(|| format!("{name} is not quiet"))
    }

    /// What it has gone by for a while, it has to remember. In steps, so that one that was stopped does not count.
    async fn insist(self: Arc<Self>, board: Board) {
        loop {
            let (said, count) = board.said();
            let present = self.state().present.clone();
            for _ in 0..STEPS_UNTIL_KEPT {
                Hosted::sleep(SETTLE).await;
            }
            if said.live {
                self.state().least = present;
                self.ledger.misled(self.number, false);
            }
            board.changed(count).await;
        }
    }
}

impl Shelf for Estate {
    fn outdate(&self) -> Turn {
        let mut state = self.state();
        state.kept.newest += 1;
        state.kept.outdated = true;
        Turn(state.kept.newest)
    }

    async fn settle(&self) {
        Hosted::sleep(SETTLE).await;
    }

    async fn keep(&self, _: ClusterId, turn: Turn, said: Said) {
        Hosted::sleep(WRITE).await;
        let kept = &mut self.state().kept;
        kept.sight = (*said.sight).clone();
        kept.outdated &= kept.newest != turn.0;
    }
}

/// Attests what hosts ask for, as the leader's desk does; clients have done so themselves.
pub(crate) struct Attesting(pub(crate) Book);

impl Clerk for Attesting {
    fn attest(&self, from: &Member, request: Bytes) -> Result<Bytes, Declined> {
        if Command::decode(&request).is_ok() {
            return Ok(request);
        }
        let host = HostName::parse(&from.host).map_err(|error| Declined::Because(error.to_string()))?;
        let origin = Origin { host, peer: from.peer, role: Role::Agent };
        let at_ms = EPOCH_MS + self.0.trace().now() / 1_000_000;
        Command::attest(&request, &origin, at_ms).map_err(|refusal| Declined::Because(refusal.to_string()))
    }

    fn told(&self, _: &Member, _: &[u8]) -> Bytes {
        Bytes::new()
    }
}

/// Everybody has what he should have.
pub(crate) async fn check(stage: &Stage, most: Duration) -> Verdict {
    let Some(whole) = stage.site().whole.clone() else { return Ok(()) };
    if stage.wait(most, |stage| whole.unfinished(stage).is_none()).await || stage.is_closed() {
        return Ok(());
    }
    let what = whole.unfinished(stage).unwrap_or_default();
    Err(Violation { law: "every collected file is as its exporter wants it", what })
}
