//! What a resource is given of this machine: shared watches, accounts, grouped syncs, a small memory, and the paths
//! that nothing may ever remove. One per process. Kinds that are built elsewhere find here what they need besides, of
//! which this crate knows nothing.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::accounts::Accounts;
use crate::bus::{Bus, Which};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::packages::Packages;
use crate::syncs::Syncs;
use crate::systemd::Systemd;
use crate::watches::Watches;

/// This machine, as resources see it.
pub struct Host {
    /// The one inotify instance.
    pub watches: Watches,
    /// Users and groups.
    pub accounts: Accounts,
    /// Syncs of many files at once.
    pub syncs: Syncs,
    /// What resources remember over restarts.
    pub memory: Memory,
    /// What it is: the facts that kinds choose their ways by.
    pub machine: Machine,
    /// The system bus.
    pub bus: Arc<Bus>,
    /// Services, units, scopes.
    pub systemd: Systemd,
    /// The package database, and what changes it.
    pub packages: Packages,
    /// Nothing of this machine may be changed: not even what was left behind is cleaned away.
    pub noop: bool,
    /// The state directory, the graph file: never removed, purged or replaced, nor is anything above them.
    pub protected: Vec<PathBuf>,
    /// What kinds outside of this crate need.
    pub lent: Lent,
}

/// What whoever makes the host lends to kinds that this crate does not know: one value of each type.
#[derive(Default)]
pub struct Lent(BTreeMap<TypeId, Box<dyn Any + Send + Sync>>);

impl Lent {
    /// This as well. A second one of a type takes the place of the first.
    #[must_use]
    pub fn with<T: Any + Send + Sync>(mut self, value: T) -> Self {
        self.0.insert(TypeId::of::<T>(), Box::new(value));
        self
    }

    /// The one of this type, if it was lent.
    #[must_use]
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.get(&TypeId::of::<T>())?.downcast_ref()
    }
}

impl Host {
    /// With these watches, and otherwise nothing special: nothing is remembered over restarts, nothing is protected.
    #[must_use]
    pub fn with(watches: Watches) -> Self {
        let bus = Arc::new(Bus::new(Which::System));
        let machine = Machine::gather();
        Self {
            systemd: Systemd::new(Arc::clone(&bus), &watches, &machine),
            watches,
            machine,
            packages: Packages::new(Arc::clone(&bus)),
            bus,
            accounts: Accounts::default(),
            syncs: Syncs::default(),
            memory: Memory::default(),
            noop: false,
            protected: Vec::new(),
            lent: Lent::default(),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")
    }
}

/// A resource's hold on the host. Always equal: which machine it is does not tell two resources apart.
#[derive(Debug, Clone)]
pub struct HostRef(pub Arc<Host>);

impl PartialEq for HostRef {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for HostRef {}

impl std::ops::Deref for HostRef {
    type Target = Host;
    fn deref(&self) -> &Host {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_each_type_is_lent() {
        let lent = Lent::default().with(7_u8).with("seven").with(8_u8);
        assert_eq!(lent.get::<u8>(), Some(&8));
        assert_eq!(lent.get::<&str>(), Some(&"seven"));
        assert_eq!(lent.get::<u16>(), None);
    }
}
