//! This host's part in a mesh, beside the engine and on a runtime of its own.

pub mod answers;
pub mod backup;
pub mod bootstrap;
pub mod doctor;
pub mod handover;
pub mod joining;
pub mod messages;
pub mod node;
pub mod pipe;
pub mod place;
pub mod porter;
pub mod recovery;
pub mod registrar;
pub mod rendezvous;
pub mod renewal;
pub mod surroundings;
