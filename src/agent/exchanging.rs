//! The agent's side of the exchange: starts it when the graph needs one, tells it what the graph wants, brings what
//! others export to the graph, and knows when all of that is done.

use std::sync::Arc;
use std::time::Duration;

use mgmt_engine::difference::difference;
use mgmt_store::{HostName, World as _};

use super::edits::Sources;
use super::{Agent, Loaded, Source};
use crate::assemble::{self, Exchanged};
use crate::cli::{Exit, Failure};
use crate::diagnostic::Escaped;
use crate::document::Document;
use crate::exchange::remembered::{Memory, Remembered};
use crate::exchange::{Account, Board, Exchange, Publishing, Wants, inline};
use crate::kinds::KINDS;
use crate::mesh::link::Link;
use crate::mesh::standing::{Probe, View};
use crate::mesh::start::Graph as Needs;
use crate::mesh::{self, Mesh};

/// A run with an end waits so long for the exchange once all else is done.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the agent keeps for it.
pub(super) struct Exchanging {
    pub(super) account: Arc<Account>,
    /// What the present graph was assembled from.
    document: Document,
    /// The part in a mesh that there was no reason for yet.
    spare: Option<mesh::Settings>,
    /// What the exchange starts with, when it does.
    memory: Option<(Memory, Remembered)>,
    pub(super) exchange: Option<Exchange>,
    sources: Sources,
    /// The last that was wanted.
    wants: Wants,
    /// How far what was said has been heard.
    heard: u64,
}

impl Exchanging {
    pub(super) fn new(account: Arc<Account>, spare: Option<mesh::Settings>) -> Self {
        Self {
            account,
            document: Document::default(),
            spare,
            memory: None,
            exchange: None,
            sources: Sources::default(),
            wants: Wants::default(),
            heard: 0,
        }
    }

    /// Another graph; says what that means for what is collected.
    pub(super) fn enter(&mut self, document: Document, exchanged: Exchanged, collected: bool) {
        self.document = document;
        let news = self.account.enter(exchanged);
        for (id, host) in news.gone.iter().filter(|_| collected) {
            let id = id.to_string();
            tracing::info!(
                "{}: {host} exports it no more: not managed here any more, what it made stays",
                Escaped(&id)
            );
        }
        for skipped in &news.skipped {
            let text = format!("{} of {} is skipped: {}", skipped.id, skipped.host, skipped.why);
            tracing::warn!("collect at {}: {}", skipped.item, Escaped(&text));
        }
        for cut in &news.cut {
            let text = format!("{}: taken without all of it: {}", cut.id, cut.left_out.join(", "));
            tracing::warn!("{}", Escaped(&text));
        }
    }

    /// Why the exchange is not done, if it is not.
    fn open(&self) -> Option<String> {
        let (said, _) = self.exchange.as_ref()?.board.said();
        match said.publishing {
            Publishing::Pending(why) => {
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                return Some(format!("what this host exports is not published yet{why}"));
            }
            Publishing::Refused(why) => return Some(format!("what this host exports is not published: {why}")),
            Publishing::Nothing | Publishing::Done(_) => {}
        }
        let asks = !self.wants.asks.is_empty() && !said.live;
        asks.then(|| "what other hosts export is not known yet: there is no mesh".to_owned())
    }

    /// Whether waiting for the exchange is of any use.
    fn may_settle(&self) -> bool {
        let said = self.exchange.as_ref().map(|exchange| exchange.board.said().0);
        said.is_some_and(|said| !matches!(said.publishing, Publishing::Refused(_)))
    }

    /// Waits for news of the exchange; for ever, if there is none. Cancel safe.
    pub(super) async fn news(&self) {
        match &self.exchange {
            Some(exchange) => exchange.board.changed(self.heard).await,
            None => std::future::pending().await,
        }
    }

    /// Waits until a file that is exported has changed. Cancel safe.
    pub(super) async fn source_changed(&self) {
        self.sources.next().await;
    }
}

/// How far the graph corresponds to the store, for those who wait for the whole mesh.
fn probe(link: Link, board: Board) -> Probe {
    Box::new(move || {
        let (settled, publishing) = board.settled(&link.node()?.client.view());
        Some(View { settled, publishing })
    })
}

impl Agent {
    /// Takes part in a mesh, if there is a reason for that and it does not yet.
    pub(super) fn join(&mut self, needs_mesh: bool, memory: (Memory, Remembered)) -> Result<(), Failure> {
        self.exchanging.memory = Some(memory);
        self.join_now(needs_mesh)
    }

    /// The same at a reload.
    pub(super) fn join_now(&mut self, needs_mesh: bool) -> Result<(), Failure> {
        let link = Link::of(&self.host);
        let Some(settings) = &mut self.exchanging.spare else {
            if self.mesh.is_none() {
                link.set(None);
            }
            return Ok(());
        };
        let needs = match self.settings.source {
            Source::Empty => Needs::None,
            Source::File(_) if needs_mesh => Needs::Needs,
            Source::File(_) => Needs::Without,
        };
        if !settings.wanted(needs)? {
            link.set(None);
            return Ok(());
        }
        let (settings, memory) = (self.exchanging.spare.take(), self.exchanging.memory.take());
        let (Some(settings), Some((memory, remembered))) = (settings, memory) else { return Ok(()) };
        let mesh = Mesh::start(settings)
            .map_err(|error| Failure::new(Exit::Unavailable, format!("cannot start threads: {error}")))?;
        link.set(Some(&mesh));
        let respondent = Arc::downgrade(&self.shared);
        self.shared.mesh.attend(respondent);
        let exchange = Exchange::start(&mesh, link, memory, remembered);
        self.exchanging.account.open(exchange.board.clone());
        mesh.inquiries().exchanged().attend(probe(Link::of(&self.host), exchange.board.clone()));
        self.exchanging.exchange = Some(exchange);
        self.mesh = Some(mesh);
        Ok(())
    }

    /// Tells the exchange what the graph wants.
    pub(super) fn express(&mut self) {
        let exchanged = self.exchanging.account.exchanged();
        let Some(exchange) = &self.exchanging.exchange else { return };
        let says = !self.settings.options.noop && self.settings.source != Source::Empty;
        let exports = if says { self.exports(&exchanged) } else { None };
        let wants = Wants { exports, asks: exchanged.asks.clone() };
        exchange.board.want(wants.clone());
        self.exchanging.wants = wants;
        let paths = inline::sources(&exchanged.exports).filter(|_| says).collect();
        self.exchanging.sources.follow(&self.host, paths);
    }

    /// What is exported, as it is published; where that cannot be had, what was before.
    fn exports(&self, exchanged: &Exchanged) -> Option<Arc<mgmt_store::world::Exports>> {
        let host = HostName::parse(&self.settings.hostname).ok()?;
        match inline::exports(&host, &exchanged.exports) {
            Ok(exports) => Some(Arc::new(exports)),
            Err(wrong) => {
                for wrong in wrong {
                    tracing::error!("{}; nothing is published anew until that is mended", Escaped(&wrong));
                }
                self.exchanging.wants.exports.clone()
            }
        }
    }

    /// Brings to the graph what is known of others' exports. Whether that made another graph.
    pub(super) fn see(&mut self) -> bool {
        let Some(exchange) = &self.exchanging.exchange else { return false };
        let (said, heard) = exchange.board.said();
        self.exchanging.heard = heard;
        if Arc::ptr_eq(&said.sight, &self.settings.options.sight) {
            exchange.board.adopted(said.view);
            return false;
        }
        let board = exchange.board.clone();
        self.settings.options.sight = said.sight;
        let changed = self.reassemble();
        board.adopted(said.view);
        changed
    }

    /// Assembles the graph with what is known now. Whether that made another one.
    fn reassemble(&mut self) -> bool {
        let document = std::mem::take(&mut self.exchanging.document);
        let assembled =
            tokio::task::block_in_place(|| assemble::assemble(&document, &self.settings.options, KINDS, &self.host));
        let assemble::Assembled { graph, exchanged, needs_mesh, problems, .. } = assembled;
        let Some(graph) = graph else {
            // What others export never makes a file wrong that was right.
            tracing::error!("the graph does not load with what is collected: {problems}; the one that runs goes on");
            self.exchanging.document = document;
            return false;
        };
        let running = self.engine.graph();
        let change = difference(&running, &graph);
        let same = change.leaves.is_empty() && change.kept() == change.fates.len() && running.edges() == graph.edges();
        if same {
            self.exchanging.enter(document, exchanged, true);
            return false;
        }
        self.adopt(Loaded { document, graph, exchanged, needs_mesh }, true);
        true
    }

    /// Whether the exchange is done as well, or is not worth waiting for: from the first call on, patience runs out.
    pub(super) fn has_settled(&mut self, patience: &mut Option<tokio::time::Instant>) -> bool {
        let Some(why) = self.exchanging.open() else {
            self.why_unsettled = None;
            return true;
        };
        let may = self.exchanging.may_settle();
        let now = tokio::time::Instant::now();
        let end = *patience.get_or_insert_with(|| {
            if may {
                tracing::info!("{why}; waiting up to {} s for that", PATIENCE.as_secs());
            }
            now + PATIENCE
        });
        self.why_unsettled = Some(why);
        !may || now >= end
    }
}
