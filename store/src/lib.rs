//! What hosts share: keys with revisions, exports, per-host maps, locks, leases; how all of it changes, and how changes
//! are watched.
//!
//! [`Keyspace`] decides: a command at an index of the log in, an outcome and events out; no clock, no chance, no wait.
//! [`StoreMachine`] puts it behind the group, [`Shared`] is what readers hold. On that stand a [`Watch`], which tells every
//! change once, a [`View`], which is all that one host reads, and a [`Client`], which applies commands once.

pub mod command;
pub mod desk;
mod digest;
pub mod estate;
pub mod event;
mod group;
pub mod history;
pub mod host;
pub mod key;
pub mod keyspace;
pub mod level;
pub mod limits;
pub mod machine;
pub mod outcome;
mod pages;
pub mod presence;
pub mod record;
pub mod replicated;
pub mod revision;
pub mod session;
pub mod snapshot;
pub mod view;
pub mod watch;
pub mod world;

pub use command::{Body, Command, Origin, Request, Ticket};
pub use event::{Change, Entry, Event, LeaseId, Value};
pub use history::{Compacted, Events};
pub use host::HostName;
pub use key::{Key, Space};
pub use keyspace::Keyspace;
pub use machine::{Shared, StoreMachine};
pub use outcome::{Done, Outcome, Refusal, Role};
pub use replicated::Client;
pub use revision::Revision;
pub use session::{CallError, ProposeError, Proposer};
pub use view::{Interest, View};
pub use watch::{Watch, Watches};
pub use world::World;
