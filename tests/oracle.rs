//! The judge of the simulation, judged: doctored histories that it must refuse, true ones that it must believe. The
//! simulation itself takes arguments and so has no test harness of its own.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "simulation/oracle/mod.rs"]
mod oracle;
#[path = "simulation/swarm.rs"]
mod swarm;
