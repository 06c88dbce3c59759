//! One life in the mesh, for the exchange: publishes what is wanted, follows what is asked for. Both go on for as long as
//! they are polled, and may be dropped at any await.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mgmt_consensus::ClusterId;
use mgmt_consensus::mutant::{self, Mutant};
use mgmt_store::replicated::Read;
use mgmt_store::session::{CallError, Proposer};
use mgmt_store::view::Interest;
use mgmt_store::watch::Filter;
use mgmt_store::{Client, HostName, Key, Revision, Shared, Value, View, World as _};

use super::board::{Board, Publishing};
use super::{Shelf, Sight};

/// Between two attempts at what did not work.
const PAUSE: Duration = Duration::from_millis(200);
/// How long one attempt to learn the present state may take.
const LIMIT: Duration = Duration::from_secs(10);
/// What was refused for a reason that others can take away is tried again after so long.
const REFUSED: Duration = Duration::from_secs(60);

/// The exchange's part of one life.
pub struct Keeper<P, S> {
    /// Where the agent is met.
    pub board: Board,
    /// Where what is known is kept.
    pub shelf: Arc<S>,
    /// The way into the store.
    pub client: Client<P>,
    /// The state of the store here.
    pub shared: Arc<Shared>,
    /// Which mesh it is.
    pub cluster: ClusterId,
    /// This host.
    pub host: HostName,
    /// What is remembered of another mesh: of hosts that this one has never heard of.
    pub inherited: BTreeMap<Key, Value>,
}

impl<P: Proposer, S: Shelf> Keeper<P, S> {
    /// Keeps what this host exports in force.
    pub async fn publish(&self) {
        loop {
            let (wants, count) = self.board.wants();
            let Some(exports) = &wants.exports else {
                self.board.wants_other(count).await;
                continue;
            };
            let (how, pause) = match self.client.publish(exports).await {
                Ok(_) => {
                    let revision = self.manifest();
                    self.board.publishing(count, Publishing::Done(revision.0));
                    self.until_touched(count, revision).await;
                    continue;
                }
                Err(error) if error.is_transient() => (Publishing::Pending(Some(error.to_string())), PAUSE),
                Err(error) => (Publishing::Refused(error.to_string()), REFUSED),
            };
            if let Publishing::Refused(why) = &how {
                tracing::error!("this host's exports are refused: {why}");
            }
            self.board.publishing(count, how);
            tokio::select! {
                biased;
                () = self.board.wants_other(count) => {}
                () = self.client.pause(pause), if !mutant::is(Mutant::PublicationGivenUp) => {}
            }
        }
    }

    /// The revision of this host's manifest.
    fn manifest(&self) -> Revision {
        self.shared.read(|keyspace| keyspace.manifest(&self.host)).map_or(Revision::ZERO, |(revision, _)| revision)
    }

    /// Waits until something else is to be exported, or somebody has changed what is: an admin who removed it, not
    /// knowing that this host lives.
    async fn until_touched(&self, count: u64, since: Revision) {
        let touched = async {
            let filter = Filter::key(&Key::manifest_of(&self.host));
            let Ok(mut watch) = self.client.watch(filter, self.shared.revision()) else {
                // Too many watches, or too late for this one: look from time to time.
                return self.client.pause(REFUSED).await;
            };
            while self.manifest() == since {
                if watch.next().await.is_err() {
                    return self.client.pause(PAUSE).await;
                }
            }
        };
        tokio::select! {
            biased;
            () = self.board.wants_other(count) => {}
            () = touched => {}
        }
    }

    /// Keeps up what is known of others' exports. What is remembered stays in force until this replica is known to have
    /// everything that anybody was told of: an empty store at the start of a life is no news.
    pub async fn follow(&self) {
        let read = if mutant::is(Mutant::EmptyStoreBelieved) { Read::Local } else { Read::Latest(LIMIT) };
        while let Err(error) = self.client.get(&Key::manifest_of(&self.host), read).await {
            if error == CallError::Stopped {
                return std::future::pending().await;
            }
            tracing::debug!(%error, "the exchange waits for the mesh");
            self.client.pause(PAUSE).await;
        }
        loop {
            let (wants, count) = self.board.wants();
            self.client.follow(Interest { collects: wants.asks.clone(), ..Interest::default() });
            let mut view = self.client.view();
            if wants.asks.is_empty() {
                // Nothing in the store concerns the graph: not to be woken by each of its changes.
                self.board.see(Arc::new(Sight::default()), view, None);
                self.board.wants_other(count).await;
                continue;
            }
            loop {
                let sight = Sight { asked: wants.asks.clone(), view: self.whole(&view) };
                let seen = match self.board.shows(&sight) {
                    true => self.board.said().0.seen,
                    // Before anybody goes by it.
                    false => Some((self.cluster, self.shelf.outdate())),
                };
                self.board.see(Arc::new(sight), view.clone(), seen);
                tokio::select! {
                    biased;
                    () = self.board.wants_other(count) => break,
                    next = self.client.changed(&view) => view = next,
                }
            }
        }
    }

    /// The view, and what was inherited of hosts that have not published anything here: the loss of a mesh withdraws
    /// nothing.
    fn whole(&self, view: &View) -> View {
        let stranger = |key: &Key| {
            let host = key.host().and_then(|host| HostName::parse(host).ok());
            let Some(host) = host.filter(|host| !self.board.is_forgotten(host.as_str())) else { return false };
            let stranger = self.shared.read(|keyspace| keyspace.manifest(&host)).is_none();
            if !stranger {
                // Whoever has spoken here once is known here, also after he was told to be forgotten.
                self.board.outgrow(host.as_str());
            }
            stranger
        };
        let inherited: Vec<_> = self.inherited.iter().filter(|(key, _)| stranger(key)).collect();
        if inherited.is_empty() {
            return view.clone();
        }
        let entries = view.entries().chain(inherited).map(|(key, value)| (key.clone(), value.clone()));
        View::remembered(view.revision(), entries)
    }
}
