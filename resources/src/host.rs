//! What a resource is given of this machine: shared watches, accounts, grouped syncs, a small memory, and the paths
//! that nothing may ever remove. One per process.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::accounts::Accounts;
use crate::memory::Memory;
use crate::syncs::Syncs;
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
    /// Nothing of this machine may be changed: not even what was left behind is cleaned away.
    pub noop: bool,
    /// The state directory, the graph file: never removed, purged or replaced, nor is anything above them.
    pub protected: Vec<PathBuf>,
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
