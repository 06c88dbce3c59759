//! The engine: runs a graph of resources in parallel, driven by events.
//!
//! It decides in `schedule` (no clock, no disk, no task) and does in `runner`. It owns the graph, its order, the
//! state of every vertex, and time. It must not know YAML, hosts, a store, or any kind of resource.

pub mod backoff;
pub mod clock;
pub mod convergence;
pub mod difference;
pub mod erased;
pub mod grants;
pub mod graph;
pub mod id;
pub mod meta;
mod permits;
pub mod report;
pub mod resource;
pub mod runner;
pub mod schedule;
mod vertex;

pub use clock::{Clock, Moment};
pub use graph::{Edge, Graph, Vertex};
pub use id::{Id, Kind};
pub use meta::{Limit, Meta, Semaphore};
