//! What the agent sees of the other hosts: it publishes what it exports, and reads a view.
//!
//! Two implementations: [`Memory`] for a host without a mesh, whose own exports are visible to its own collects all the
//! same, and for tests; the replicated store behind [`Client`](crate::replicated::Client). Both pass one suite.

use std::collections::BTreeMap;
use std::future::Future;

use crate::event::Value;
use crate::host::HostName;
use crate::key::{Key, NoKey};
use crate::limits::{EXPORT_BYTES_MAX, EXPORTS_MAX, VALUE_BYTES_MAX};
use crate::revision::Revision;
use crate::view::{Interest, View};

mod memory;
#[cfg(test)]
pub(crate) mod tests;

pub use memory::{Memory, MemoryHost};

/// The exchange with other hosts, for one host.
pub trait World: Send + Sync {
    /// Why exports were not published.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Replaces everything this host exports, in one step that nobody sees half of. A set equal to the present one
    /// costs no entry in the log and makes no event.
    ///
    /// On an error the old set or the new one is in force; publishing again is always right.
    fn publish(&self, exports: &Exports) -> impl Future<Output = Result<Published, Self::Error>> + Send;

    /// What this host reads from now on.
    fn follow(&self, interest: Interest);

    /// The latest view. States in between may never be seen; its revision never goes back.
    fn view(&self) -> View;

    /// Waits for a view that is not equal to this one. Cancel safe.
    fn changed(&self, from: &View) -> impl Future<Output = View> + Send;
}

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It was so already.
    Unchanged,
    /// It is in force since this revision.
    Changed(Revision),
}

/// What one host exports: checked against every limit before anything is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exports {
    host: HostName,
    items: BTreeMap<Key, Value>,
    bytes: u64,
}

/// Why something cannot be exported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoExport {
    /// Its kind or name.
    #[error("export {kind}[{name}]: {source}")]
    Name {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
        /// What is wrong.
        source: NoKey,
    },
    /// Two of the same kind and name.
    #[error("export {kind}[{name}] twice")]
    Twice {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
    },
    /// A single one is too large.
    #[error("export {kind}[{name}]: {bytes} bytes, at most {VALUE_BYTES_MAX} are allowed")]
    TooLarge {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
        /// Its size.
        bytes: usize,
    },
    /// There are too many.
    #[error("export more than {EXPORTS_MAX} resources")]
    TooMany,
    /// Together they are too large.
    #[error("export more than {EXPORT_BYTES_MAX} bytes")]
    TooManyBytes,
}

impl Exports {
    /// None yet.
    #[must_use]
    pub fn of(host: HostName) -> Self {
        Self { host, items: BTreeMap::new(), bytes: 0 }
    }

    /// Adds one.
    ///
    /// # Errors
    /// When it cannot be exported, or not beside the others.
    pub fn add(&mut self, kind: &str, name: &str, value: &[u8]) -> Result<(), NoExport> {
        let (kind_of, name_of) = (|| kind.to_owned(), || name.to_owned());
        let key = Key::export_of(&self.host, kind, name).map_err(|source| NoExport::Name {
            kind: kind_of(),
            name: name_of(),
            source,
        })?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(NoExport::TooLarge { kind: kind_of(), name: name_of(), bytes: value.len() });
        }
        if self.items.contains_key(&key) {
            return Err(NoExport::Twice { kind: kind_of(), name: name_of() });
        }
        if self.items.len() == EXPORTS_MAX {
            return Err(NoExport::TooMany);
        }
        let bytes = (key.as_str().len() + value.len()) as u64;
        if self.bytes + bytes > EXPORT_BYTES_MAX {
            return Err(NoExport::TooManyBytes);
        }
        self.bytes += bytes;
        self.items.insert(key, value.into());
        Ok(())
    }

    /// Whose they are.
    #[must_use]
    pub fn host(&self) -> &HostName {
        &self.host
    }

    /// The keys they are stored under, and what is stored there.
    #[must_use]
    pub fn items(&self) -> &BTreeMap<Key, Value> {
        &self.items
    }
}
