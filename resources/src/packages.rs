//! The packages of this machine: what is installed, and changes of many at once.

use std::sync::Arc;

use crate::bus::{Bus, Which};

/// The package database and the tool that changes it.
#[derive(Debug)]
pub struct Packages {
    /// The bus that PackageKit listens on.
    pub bus: Arc<Bus>,
}

impl Packages {
    /// Nothing is connected or read yet.
    #[must_use]
    pub fn new(bus: Arc<Bus>) -> Self {
        Self { bus }
    }
}

impl Default for Packages {
    fn default() -> Self {
        Self::new(Arc::new(Bus::new(Which::System)))
    }
}
