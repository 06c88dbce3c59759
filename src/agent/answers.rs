//! What a running agent answers on its control socket.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use mgmt_engine::Clock;
use mgmt_engine::report::Standing;
use mgmt_engine::runner::Engine;
use mgmt_resources::Host;
use serde_json::json;

use crate::control::mesh::Ask;
use crate::control::{Answers, Conversation};
use crate::events::{Events, rfc3339};
use crate::observer::Tally;

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
}

impl Answers for Shared {
    fn status(&self, all: bool) -> serde_json::Value {
        let snapshot = self.engine.snapshot();
        let (graph, vertices, edges) = self.engine.shape();
        let ago = |at: mgmt_engine::Moment| rfc3339(Clock::wall() - snapshot.now.since(at));
        let mut counts = serde_json::Map::new();
        for standing in Standing::ALL {
            let count = snapshot.stands.iter().filter(|s| s.standing == standing).count();
            if count > 0 {
                counts.insert(standing.word().to_owned(), json!(count));
            }
        }
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
            "converged": snapshot.converged,
            "quiet_since": snapshot.quiet_since.map(ago),
            "changes": self.tally.changes(),
            "failures": self.tally.failures(),
            "counts": counts,
            "resources": resources,
            "watches": {
                "watches": watches.watches,
                "subscriptions": watches.subscriptions,
                "polled": watches.polled,
                "overflows": watches.overflows,
            },
        })
    }

    fn events(&self) -> &Events {
        &self.events
    }

    async fn mesh(&self, asked: Ask, talk: Conversation) -> std::io::Result<()> {
        self.mesh.answer(asked, talk).await
    }
}
