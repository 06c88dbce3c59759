//! The kinds of resource, and what they share of the machine.
//!
//! Knows the engine's [`Resource`](mgmt_engine::resource::Resource) trait and this machine. Must not know the graph
//! file's syntax, the schedule, a store, or (from one kind to the next) each other.

pub mod accounts;
pub mod archive;
mod aside;
#[cfg(test)]
#[path = "tests/bed.rs"]
mod bed;
pub mod bus;
mod checksum;
pub mod cron;
pub mod download;
pub mod exec;
pub mod file;
pub mod group;
pub mod host;
pub mod hostname;
pub mod kind;
pub mod line;
mod lines;
pub mod machine;
pub mod memory;
pub mod mount;
pub mod msg;
pub mod noop;
pub mod packages;
pub mod pkg;
mod procfs;
pub mod svc;
pub mod syncs;
pub mod sysctl;
pub mod systemd;
pub mod timer;
pub mod tools;
pub mod user;
pub mod watches;

pub use host::{Host, HostRef, Lent};
pub use kind::KindInfo;

/// All kinds, in the order `explain` lists them.
pub static KINDS: &[&KindInfo] = &[
    &noop::INFO,
    &file::INFO,
    &exec::INFO,
    &svc::INFO,
    &pkg::INFO,
    &download::INFO,
    &archive::INFO,
    &timer::INFO,
    &cron::INFO,
    &msg::INFO,
    &user::INFO,
    &group::INFO,
    &line::INFO,
    &sysctl::INFO,
    &hostname::INFO,
    &mount::INFO,
];
