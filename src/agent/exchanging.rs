//! The agent's side of the exchange: starts it when the graph needs one, tells it what the graph wants, brings what
//! others export to the graph, and knows when all of that is done.

use std::sync::Arc;
use std::time::Duration;

use mgmt_engine::difference::difference;
use mgmt_store::world::Exports;
use mgmt_store::{HostName, World as _};

use super::edits::Sources;
use super::{Agent, Loaded, Source};
use crate::assemble::{self, Exchanged};
use crate::cli::{Exit, Failure};
use crate::diagnostic::Escaped;
use crate::document::Document;
use crate::exchange::remembered::{Memory, Remembered};
use crate::exchange::{Account, Board, Exchange, Publishing, Sight, Wants, inline};
use crate::kinds::KINDS;
use crate::mesh::link::Link;
use crate::mesh::standing::{Probe, View};
use crate::mesh::start::Graph as Needs;
use crate::mesh::{self, Mesh};

/// A run with an end waits so long for the exchange once all else is done.
const PATIENCE: Duration = Duration::from_secs(30);
/// Own exports that cannot be published, said one by one.
const SAID_MAX: usize = 20;

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
    ration: Ration,
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
            ration: Ration::default(),
        }
    }

    /// Another graph; says what that means for what is collected.
    pub(super) fn enter(&mut self, document: Document, exchanged: Exchanged, collected: bool) {
        self.document = document;
        let news = self.account.enter(exchanged);
        let now = tokio::time::Instant::now();
        for (id, host) in news.gone.iter().filter(|_| collected) {
            let id = id.to_string();
            if self.ration.take(now) {
                tracing::info!(
                    "{}: {host} exports it no more: not managed here any more, what it made stays",
                    Escaped(&id)
                );
            }
        }
        for skipped in &news.skipped {
            let text = format!("{} of {} is skipped: {}", skipped.id, skipped.host, skipped.why);
            if self.ration.take(now) {
                tracing::warn!("collect at {}: {}", skipped.item, Escaped(&text));
            }
        }
        for cut in &news.cut {
            let text = format!("{}: taken without all of it: {}", cut.id, cut.left_out.join(", "));
            if self.ration.take(now) {
                tracing::warn!("{}", Escaped(&text));
            }
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
        let known = said.live && self.knows(&said.sight);
        (!known && !self.wants.asks.is_empty())
            .then(|| "what other hosts export is not known yet: there is no mesh".to_owned())
    }

    /// Whether this says something of all that the graph asks for. What was seen for another graph does not: not that
    /// there is nothing either.
    fn knows(&self, sight: &Sight) -> bool {
        self.wants.asks.iter().all(|collect| sight.knows(collect))
    }

    /// Whether there is news that the graph has not been assembled with yet.
    fn has_news(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.board.said().1 != self.heard)
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

    /// Waits until such a change is complete.
    pub(super) async fn sources_settled(&self) {
        self.sources.settled().await;
    }

    /// Waits until a file that is exported has changed. Cancel safe.
    pub(super) async fn source_changed(&self) {
        self.sources.next().await;
    }
}

/// Lines in the log about what other hosts export: what they do is theirs, how much is written of it here is not.
#[derive(Debug, Default)]
struct Ration {
    since: Option<tokio::time::Instant>,
    taken: usize,
}

impl Ration {
    const LINES: usize = 100;
    const EVERY: Duration = Duration::from_secs(60);

    /// Whether one more may be written. The first that may not is said.
    fn take(&mut self, now: tokio::time::Instant) -> bool {
        if self.since.is_none_or(|since| now >= since + Self::EVERY) {
            *self = Self { since: Some(now), taken: 0 };
        }
        self.taken += 1;
        if self.taken == Self::LINES + 1 {
            tracing::warn!("more of what other hosts export is left out here for a minute: mgmt exports tells it");
        }
        self.taken <= Self::LINES
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

    /// Tells the exchange what the graph wants. Whether that is something else than before.
    pub(super) fn express(&mut self) -> bool {
        let exchanged = self.exchanging.account.exchanged();
        let Some(exchange) = &self.exchanging.exchange else { return false };
        let says = !self.settings.options.noop && self.settings.source != Source::Empty;
        // Before they are read: what changes while it is read is to be read again.
        let paths = inline::sources(&exchanged.exports).filter(|_| says).collect();
        self.exchanging.sources.follow(&self.host, paths);
        let (exports, wrong) = if says { self.exports(&exchanged) } else { (None, None) };
        let wants = Wants { exports, wrong, asks: exchanged.asks.clone() };
        exchange.board.want(wants.clone());
        let other = wants != self.exchanging.wants;
        self.exchanging.wants = wants;
        other
    }

    /// What is exported, as it is published; where that cannot be had, what was before, and why.
    fn exports(&self, exchanged: &Exchanged) -> (Option<Arc<Exports>>, Option<String>) {
        let Ok(host) = HostName::parse(&self.settings.hostname) else { return (None, None) };
        let wrong = match tokio::task::block_in_place(|| inline::exports(&host, &exchanged.exports)) {
            Ok(exports) => return (Some(Arc::new(exports)), None),
            Err(wrong) => wrong,
        };
        for wrong in wrong.iter().take(SAID_MAX) {
            tracing::error!("{}; nothing is published anew until that is mended", Escaped(wrong));
        }
        let more = wrong.len().saturating_sub(SAID_MAX);
        if more > 0 {
            tracing::error!("and {more} more exports that cannot be published");
        }
        (self.exchanging.wants.exports.clone(), wrong.into_iter().next())
    }

    /// Brings to the graph what is known of others' exports. Whether that made another graph.
    pub(super) fn see(&mut self) -> bool {
        let Some(exchange) = &self.exchanging.exchange else { return false };
        let (said, heard) = exchange.board.said();
        self.exchanging.heard = heard;
        // What was seen for a graph that asks for less would take from this one what it does not know of.
        if !self.exchanging.knows(&said.sight) {
            return false;
        }
        // A graph that asks for nothing keeps what it was told before: its next edit may ask again without a mesh.
        if self.exchanging.wants.asks.is_empty() || Arc::ptr_eq(&said.sight, &self.settings.options.sight) {
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
        // What has come and was not heard yet may be more to do.
        if self.exchanging.has_news() {
            return false;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_hosts_do_not_fill_the_log() {
        let (mut ration, start) = (Ration::default(), tokio::time::Instant::now());
        let lines = |ration: &mut Ration, at| (0..1_000).filter(|_| ration.take(at)).count();
        assert_eq!(lines(&mut ration, start), 100);
        assert_eq!(lines(&mut ration, start + Duration::from_secs(59)), 0);
        assert_eq!(lines(&mut ration, start + Duration::from_secs(60)), 100);
    }
}
