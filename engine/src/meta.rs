//! Meta parameters: how the engine treats a vertex, whatever its kind.

use std::num::NonZeroU32;
use std::time::Duration;

/// Meta parameters of one vertex. The defaults are those of the graph file.
#[derive(Debug, Clone, PartialEq)]
pub struct Meta {
    /// Check, never apply. A vertex that would change counts as quiet, and its successors are checked as well.
    pub noop: bool,
    /// Attempts after a failure, of watch and of check/apply each; `None`: for ever.
    pub retry: Option<u32>,
    /// Between attempts.
    pub delay: Duration,
    /// For one check or apply; `None`: no limit.
    pub timeout: Option<Duration>,
    /// Instead of watching, check every so often.
    pub poll: Option<Duration>,
    /// Token bucket on events; `None`: no limit.
    pub limit: Option<Limit>,
    /// Semaphores held while the vertex checks and applies.
    pub sema: Vec<Semaphore>,
    /// Takes part in automatic edges.
    pub autoedge: bool,
    /// Takes part in grouping.
    pub autogroup: bool,
    /// Contents, commands and diffs appear nowhere.
    pub sensitive: bool,
}

impl Default for Meta {
    fn default() -> Self {
        Self {
            noop: false,
            retry: Some(0),
            delay: Duration::ZERO,
            timeout: None,
            poll: None,
            limit: None,
            sema: Vec::new(),
            autoedge: true,
            autogroup: true,
            sensitive: false,
        }
    }
}

/// A token bucket: `rate` events a second on average, `burst` at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// Events a second; finite and above zero.
    pub rate: f64,
    /// Events that may come at once.
    pub burst: NonZeroU32,
}

/// A counting semaphore, `id:count` in the graph file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Semaphore {
    /// Its name; equal names share it.
    pub id: String,
    /// How many may hold it at once.
    pub count: NonZeroU32,
}

/// What the names of semaphores begin with that all hosts of a mesh share.
const OF_MESH: &str = "cluster/";

impl Semaphore {
    /// Whether all hosts of a mesh share it.
    pub fn is_of_mesh(&self) -> bool {
        self.of_mesh().is_some()
    }

    /// What it is called in the mesh, if all hosts share it.
    pub fn of_mesh(&self) -> Option<&str> {
        self.id.strip_prefix(OF_MESH)
    }
}
