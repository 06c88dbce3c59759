//! The program around the engine: reads graph files, wires the parts together, speaks to people, and exits.
//!
//! The only crate that sees all others, and it knows how none of them works inside.

pub mod agent;
pub mod assemble;
pub mod cli;
pub mod control;
pub mod diagnostic;
pub mod document;
pub mod events;
pub mod exchange;
pub mod facts;
pub mod kinds;
pub mod kv;
pub mod ledger;
pub mod logging;
pub mod mesh;
pub mod observer;
pub mod picture;
pub mod plan;
pub mod progress;
pub mod semaphores;
pub mod shutdown;
pub mod state;
