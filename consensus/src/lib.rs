//! This host's part of the group: a replicated log with a state machine behind it, who its members are, which of them
//! are masters, and how they speak to each other.
//!
//! It does not know what the bytes it replicates mean, nor whose they are: commands go in and outcomes come out as
//! bytes, and a [`Machine`] that others write gives them meaning.
//!
//! What it stands on (runtime, disk, transport) is a [`Ground`]: tokio, files and QUIC in the program; a virtual clock,
//! a disk that loses what was not synced and a network in memory where the whole group runs in one thread from a seed.

mod acknowledged;
pub mod applier;
pub mod appoint;
pub mod authority;
pub mod clerk;
pub mod disk;
pub mod gate;
pub mod ground;
pub mod identity;
pub mod limits;
pub mod log_store;
pub mod machine;
pub mod masters;
pub mod mutant;
mod network;
pub mod peer;
pub mod quic;
pub mod recover;
pub mod replica;
pub mod settings;
pub mod snapshots;
#[cfg(feature = "testing")]
pub mod testing;
pub mod transport;
pub mod types;
pub mod wire;

pub use ground::Ground;
pub use identity::{ClusterId, Incarnation, PeerId};
pub use machine::Machine;
pub use replica::Replica;
pub use settings::Settings;
pub use types::{Group, Member, RaftId};
