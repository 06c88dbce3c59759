//! A host's agent and engine in virtual time: assembles what it declares and what it sees of others, and lets the real
//! schedule decide what runs when. What runs takes a while, so that everything happens in between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mgmt::assemble::{self, Assembled};
use mgmt::document;
use mgmt::exchange::{Board, Wants, inline};
use mgmt_engine::difference::difference;
use mgmt_engine::erased::Fix;
use mgmt_engine::resource::{Check, Fault, Look, Purpose, Signal, Sink, Ticket, Watch, Work};
use mgmt_engine::schedule::{Action, Deed, Event, Found, Options, Schedule};
use mgmt_engine::{Graph, Moment};
use mgmt_store::HostName;
use openraft::AsyncRuntime as _;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Estate;
use super::files::KINDS;
use super::ledger::{Floors, number_of};
use crate::hosted::Hosted;
use crate::oracle::Violation;
use crate::swarm::Chance;

/// A look or a repair takes this long, at most.
const WORK_MAX_MS: u64 = 25;
/// The schedule is not woken earlier than it asks for, and later by less than this.
const GRAIN: Duration = Duration::from_micros(50);

/// What comes from a running action, or from a watch.
type News = (Event, Option<(Ticket, Box<dyn Fix>)>);

/// Takes raised signals.
struct Inbox(UnboundedSender<News>);

impl Sink for Inbox {
    fn raised(&self, tickets: &[Ticket]) {
        for ticket in tickets {
            // Nobody listens where the process has ended.
            drop(self.0.send((Event::Raised(*ticket), None)));
        }
    }

    fn ticked(&self, ticket: Ticket) {
        drop(self.0.send((Event::Ticked(ticket), None)));
    }
}

/// The agent of one process.
pub(super) struct Agent {
    estate: Arc<Estate>,
    board: Board,
    options: assemble::Options,
    host: Arc<mgmt_resources::Host>,
    schedule: Schedule,
    graph: Graph,
    /// Which version of its document it goes by, and how far what was said has been heard.
    edition: u64,
    heard: u64,
    floors: Floors,
    fixes: BTreeMap<Ticket, Box<dyn Fix>>,
    watches: BTreeMap<Ticket, Watch>,
    inbox: Arc<Inbox>,
    news: UnboundedReceiver<News>,
    chance: Chance,
}

impl Agent {
    pub(super) fn new(estate: Arc<Estate>, board: Board, chance: Chance) -> Self {
        let (sender, news) = unbounded_channel();
        let options = assemble::Options {
            file: "graph.yaml".to_owned(),
            directory: "/".into(),
            hostname: estate.name.clone(),
            sight: board.said().0.sight,
            ..assemble::Options::default()
        };
        Self {
            host: estate.files.host(),
            estate,
            board,
            options,
            schedule: Schedule::new(Options { noop: false, recheck: true, converged: Duration::ZERO }),
            graph: Graph::default(),
            edition: 0,
            heard: 0,
            floors: Floors::new(),
            fixes: BTreeMap::new(),
            watches: BTreeMap::new(),
            inbox: Arc::new(Inbox(sender)),
            news,
            chance,
        }
    }

    fn now(&self) -> Moment {
        Moment::START.after(Duration::from_nanos(self.estate.ledger.now()))
    }

    fn broke(&self, law: &'static str, what: impl Into<String>) {
        self.estate.ledger.broke(Violation { law, what: format!("{}: {}", self.estate.name, what.into()) });
    }

    /// Lives until it is killed.
    pub(super) async fn be(mut self) {
        self.estate.begins(&mut self.floors, &self.options.sight);
        self.load();
        loop {
            self.act();
            let wake = self.schedule.wake_at().map(|at| at.since(self.now()) + GRAIN);
            let woken = async {
                match wake {
                    Some(after) => Hosted::sleep(after).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some((event, fix)) = self.news.recv() => {
                    self.fixes.extend(fix);
                    let now = self.now();
                    self.schedule.step(event, now);
                }
                () = self.board.changed(self.heard) => self.see(),
                () = self.estate.edited(self.edition) => self.load(),
                () = woken => {
                    let now = self.now();
                    self.schedule.step(Event::Wake, now);
                }
            }
        }
    }

    /// Goes by its document as it is now.
    fn load(&mut self) {
        let edition = self.estate.edition();
        self.edition = edition;
        if let Some(assembled) = self.assemble() {
            self.express(&assembled, edition);
            self.adopt(assembled, true);
        }
    }

    /// Brings to the graph what is known of others' exports.
    fn see(&mut self) {
        let (said, heard) = self.board.said();
        self.heard = heard;
        self.estate.publishes(&said.publishing);
        if Arc::ptr_eq(&said.sight, &self.options.sight) {
            return;
        }
        if let Err(violation) = self.estate.ledger.seen(self.estate.number, &mut self.floors, &said.sight) {
            self.estate.ledger.broke(violation);
        }
        self.estate.went_by(&self.floors);
        self.options.sight = said.sight;
        // What is exported is what was read then: a document that has been edited since is another event.
        if let Some(assembled) = self.assemble() {
            self.adopt(assembled, false);
        }
    }

    fn assemble(&self) -> Option<Assembled> {
        let text = self.estate.document(self.edition);
        let document = document::parse(text.as_bytes()).expect("the document is right");
        let assembled = assemble::assemble(&document, &self.options, KINDS, &self.host);
        if assembled.graph.is_none() {
            self.broke("no host makes another's graph fail", assembled.problems.to_string());
            return None;
        }
        let skipped = &assembled.exchanged.skipped;
        if let Some(skipped) = skipped.iter().find(|skipped| number_of(&skipped.host).is_some()) {
            self.broke("what hosts export is taken", format!("{skipped:?}"));
        }
        Some(assembled)
    }

    /// Tells the exchange what the graph wants.
    fn express(&self, assembled: &Assembled, edition: u64) {
        let host = HostName::parse(&self.estate.name).expect("it is a name");
        match inline::exports(&host, &assembled.exchanged.exports) {
            Ok(exports) => {
                self.estate.ledger.wanted(self.estate.number, edition, exports.items());
                let asks = assembled.exchanged.asks.clone();
                self.board.want(Wants { exports: Some(Arc::new(exports)), wrong: None, asks });
                // An edit that changed nothing of it has been published already.
                self.estate.publishes(&self.board.said().0.publishing);
            }
            Err(wrong) => self.broke("what a host exports can be published", wrong.join("; ")),
        }
    }

    fn adopt(&mut self, assembled: Assembled, again: bool) {
        let Some(graph) = assembled.graph else { return };
        let change = difference(&self.graph, &graph);
        let now = self.now();
        self.estate.ledger.say(
            self.estate.number,
            format_args!(
                "graph: {} stay, {} replaced, {} enter, {} leave",
                change.kept(),
                change.replaced(),
                change.entered(),
                change.left()
            ),
        );
        self.schedule.replace(&graph, &change, &BTreeSet::new(), again, now);
        self.graph = graph;
        self.watches.retain(|ticket, _| self.schedule.name_of(*ticket).is_some());
        self.fixes.retain(|ticket, _| self.schedule.name_of(*ticket).is_some());
    }

    /// Begins all that is ready.
    fn act(&mut self) {
        let now = self.now();
        while let Some(action) = self.schedule.next(now) {
            self.begin(&action);
        }
        drop(self.schedule.take_reports());
        let converged = self.schedule.take_converged();
        if let Some(last) = converged.last() {
            self.estate.is_quiet(*last);
        }
        drop(self.schedule.take_freed());
    }

    fn begin(&mut self, action: &Action) {
        let ticket = action.ticket;
        let id = self.schedule.name_of(ticket).expect("its life has just begun to act");
        let number = self.graph.number(id).expect("only what is in the graph begins something");
        let resource = self.graph.vertices()[number].resource.clone();
        if action.arm {
            let sink: Arc<dyn Sink> = self.inbox.clone();
            let watch = resource.watch(&Signal::new(sink, ticket)).expect("files can be watched");
            self.watches.insert(ticket, watch);
        }
        let fix = self.fixes.remove(&ticket);
        let (deed, cause, refresh) = (action.deed, action.cause, action.refresh);
        let work = async move {
            match deed {
                Deed::Look => {
                    let look = Look { refresh, purpose: Purpose::Converge, ..Look::because(cause) };
                    let (found, fix) = match resource.check(look).await {
                        Ok(Check::Converged) => (Ok(Found::Converged), None),
                        Ok(Check::Drifted(fix)) => (Ok(Found::Drifted(fix.to_string())), Some((ticket, fix))),
                        Ok(Check::Unknown(what)) => (Err(Fault::new(what)), None),
                        Ok(Check::Later(what)) => (Ok(Found::Later(what.into_owned())), None),
                        Err(fault) => (Err(fault), None),
                    };
                    (Event::Looked(ticket, found), fix)
                }
                Deed::Apply => {
                    let fix = fix.expect("the look before it left one");
                    (Event::Applied(ticket, fix.apply(Work::because(cause)).await), None)
                }
                Deed::Refresh => (Event::Refreshed(ticket, resource.refresh(Work::because(cause)).await), None),
            }
        };
        let (before, after) = (self.chance.millis(0, WORK_MAX_MS), self.chance.millis(0, WORK_MAX_MS));
        let sender = self.inbox.0.clone();
        drop(Hosted::spawn(async move {
            Hosted::sleep(before).await;
            let done = work.await;
            Hosted::sleep(after).await;
            drop(sender.send(done));
        }));
    }
}
