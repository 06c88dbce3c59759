//! systemd over its bus: what kinds ask of units, jobs and scopes, and how they hear of what happens to them.
//!
//! Promises: a subscription that was made before a look misses nothing that systemd tells after it. A lost bus, a
//! restarted or re-executed systemd: everything is subscribed again, and everybody told to look. A job is waited for to
//! its end, also where its signal is lost. Nothing connects before somebody asks. Must not know what is wanted of a unit.

mod follow;
mod jobs;
mod manager;
mod registry;
mod unit;

use std::sync::Arc;

pub use jobs::{Ended, Verb};
pub use manager::{Changes, Manager, Property};
pub use registry::{Guard, Mute, Subscriber};
pub use unit::{Active, Load, Unit};

use crate::bus::{Bus, Which};
use crate::machine::Machine;
use crate::watches::Watches;

/// The service manager of this machine, and of this user.
#[derive(Debug)]
pub struct Systemd {
    system: Arc<Manager>,
    session: Arc<Manager>,
}

impl Systemd {
    /// Nothing is connected yet.
    #[must_use]
    pub fn new(bus: Arc<Bus>, watches: &Watches, machine: &Machine) -> Self {
        let missing = (!machine.has_systemd())
            .then(|| format!("this needs systemd, and here '{}' runs as the first process", machine.init_shown()));
        let session = Arc::new(Bus::new(Which::Session));
        Self {
            system: Arc::new(Manager::new(bus, watches.clone(), missing.clone())),
            session: Arc::new(Manager::new(session, watches.clone(), missing)),
        }
    }

    /// The machine's.
    #[must_use]
    pub fn system(&self) -> &Arc<Manager> {
        &self.system
    }

    /// The user's.
    #[must_use]
    pub fn session(&self) -> &Arc<Manager> {
        &self.session
    }
}
