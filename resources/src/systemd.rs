//! systemd over its bus: what kinds ask of units, jobs and scopes.

use std::sync::Arc;

use crate::bus::{Bus, Which};

/// The service manager of this machine, and of this user.
#[derive(Debug)]
pub struct Systemd {
    /// The bus it listens on.
    pub bus: Arc<Bus>,
}

impl Systemd {
    /// Nothing is connected yet.
    #[must_use]
    pub fn new(bus: Arc<Bus>) -> Self {
        Self { bus }
    }
}

impl Default for Systemd {
    fn default() -> Self {
        Self::new(Arc::new(Bus::new(Which::System)))
    }
}
