//! What a running agent answers on its control socket.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use mgmt_engine::Clock;
use mgmt_engine::report::{Stand, Standing};
use mgmt_engine::runner::{Engine, Snapshot};
use mgmt_resources::Host;
use serde_json::{Value, json};

use crate::control::mesh::Ask;
use crate::control::{Answers, Conversation};
use crate::events::{Events, rfc3339};
use crate::exchange::Account;
use crate::mesh::following::Stream;
use crate::mesh::inquiry::{Quiet, Respondent};
use crate::mesh::messages::inquiry::{Collected, HostStatus, Trouble};
use crate::mesh::messages::printable;
use crate::observer::Tally;

/// Resources that are not as wanted, of which other hosts are told.
const TROUBLES_MAX: usize = 10;

/// What the socket answers from.
pub(super) struct Shared {
    pub(super) mesh: crate::mesh::answers::Desk,
    pub(super) engine: Arc<Engine>,
    pub(super) events: Arc<Events>,
    pub(super) tally: Arc<Tally>,
    pub(super) host: Arc<Host>,
    pub(super) hostname: String,
    pub(super) file: String,
    pub(super) started: SystemTime,
    pub(super) graph_error: Mutex<Option<String>>,
    pub(super) account: Arc<Account>,
}

impl Answers for Shared {
    async fn status(&self, all: bool, local: bool) -> Value {
        let mut status = self.own(all);
        if !local {
            status["peers"] = self.mesh.peers().await;
        }
        status
    }

    fn events(&self) -> &Events {
        &self.events
    }

    fn hostname(&self) -> &str {
        &self.hostname
    }

    fn everywhere(&self, last: usize, follow: bool) -> Option<Stream> {
        self.mesh.follow(&self.events, last, follow)
    }

    async fn mesh(&self, asked: Ask, talk: Conversation) -> std::io::Result<()> {
        self.mesh.answer(asked, talk).await
    }
}

impl Shared {
    /// How this host is, in full.
    fn own(&self, all: bool) -> Value {
        let snapshot = self.engine.snapshot();
        let (graph, vertices, edges) = self.engine.shape();
        let quiet = |s: Standing| matches!(s, Standing::Clean | Standing::Changed);
        let resources: Vec<_> = snapshot
            .stands
            .iter()
            .filter(|s| all || !quiet(s.standing))
            .map(|s| {
                json!({
                    "resource": s.id.to_string(),
                    "standing": s.standing.word(),
                    "changes": s.changes,
                    "fault": s.fault,
                    "awaits": s.awaits,
                    "waits_for": s.waits_for.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    "running_ms": s.running_since.map(|at| snapshot.now.since(at).as_millis()),
                })
            })
            .collect();
        let watches = self.host.watches.counts();
        json!({
            "format_version": 1,
            "hostname": self.hostname,
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "started": rfc3339(self.started),
            "graph": {
                "name": graph,
                "file": self.file,
                "vertices": vertices,
                "edges": edges,
                "error": *self.graph_error.lock().unwrap_or_else(PoisonError::into_inner),
            },
            "mesh": self.mesh.status(),
            "exchange": self.account.status(),
            "converged": snapshot.converged,
            "quiet_since": snapshot.quiet_since.map(|at| ago(&snapshot, at)),
            "changes": self.tally.changes(),
            "failures": self.tally.failures(),
            "counts": counts(&snapshot),
            "resources": resources,
            "watches": {
                "watches": watches.watches,
                "subscriptions": watches.subscriptions,
                "polled": watches.polled,
                "overflows": watches.overflows,
            },
        })
    }
}

impl Respondent for Shared {
    fn collected(&self) -> Collected {
        self.account.collected()
    }

    fn forget(&self, host: &str) -> bool {
        let Some(board) = self.account.board() else { return false };
        let known = self.account.exchanged().taken.iter().any(|taken| taken.host == host);
        board.forget(host);
        known
    }

    fn status(&self) -> HostStatus {
        let snapshot = self.engine.snapshot();
        let (graph, vertices, edges) = self.engine.shape();
        let since = snapshot.quiet_since.filter(|_| snapshot.converged);
        let is_trouble = |stand: &&Stand| matches!(stand.standing, Standing::Failed | Standing::Contested);
        let mut troubles: Vec<_> = snapshot.stands.iter().filter(is_trouble).collect();
        troubles.sort_by_key(|stand| &stand.id);
        let more_troubles = troubles.len().saturating_sub(TROUBLES_MAX) as u64;
        let trouble = |stand: &&Stand| Trouble {
            resource: printable(&stand.id.to_string()),
            standing: stand.standing.word().to_owned(),
            fault: stand.fault.as_deref().map(printable),
        };
        let (role, leads, revision) = self.mesh.place();
        HostStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: rfc3339(self.started),
            role: role.to_owned(),
            leads,
            revision,
            settled: revision,
            graph: printable(&graph),
            vertices: vertices as u64,
            edges: edges as u64,
            graph_error: self.graph_error.lock().unwrap_or_else(PoisonError::into_inner).as_deref().map(printable),
            converged: snapshot.converged,
            converged_since: since.map(|at| ago(&snapshot, at)),
            changes: self.tally.changes(),
            failures: self.tally.failures(),
            counts: counts(&snapshot),
            troubles: troubles.iter().take(TROUBLES_MAX).map(trouble).collect(),
            more_troubles,
        }
    }

    fn quiet(&self) -> Quiet {
        let (since, converged) = self.engine.quiet();
        let for_ms = since.map(|since| self.engine.clock().now().since(since).as_millis());
        Quiet { converged, for_ms: for_ms.and_then(|ms| u64::try_from(ms).ok()) }
    }

    fn events(&self) -> &Arc<Events> {
        &self.events
    }
}

/// A moment, as people read it.
fn ago(snapshot: &Snapshot, at: mgmt_engine::Moment) -> String {
    rfc3339(Clock::wall() - snapshot.now.since(at))
}

/// How many resources stand how; nobody stands as is not named.
fn counts(snapshot: &Snapshot) -> BTreeMap<String, u64> {
    snapshot.stands.iter().fold(BTreeMap::new(), |mut counts, stand| {
        *counts.entry(stand.standing.word().to_owned()).or_default() += 1;
        counts
    })
}
