//! The judges of the simulation and of real processes, judged: doctored histories that they must refuse, true ones that
//! they must believe. The simulation itself takes arguments and so has no test harness of its own.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "what is judged is made elsewhere")]

#[path = "mesh/linear.rs"]
mod linear;
#[path = "simulation/oracle/mod.rs"]
mod oracle;
#[path = "simulation/swarm.rs"]
mod swarm;
