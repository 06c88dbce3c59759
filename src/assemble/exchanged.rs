//! What a graph has to do with other hosts: what it exports, what it asks for, what it took of that, and what not.

use std::path::PathBuf;

use mgmt_engine::id::Id;
use mgmt_resources::kind::Params;
use mgmt_store::view::Collect;

use crate::diagnostic::Place;

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Exchanged {
    /// What this host exports, in the order of the file.
    pub exports: Vec<Exported>,
    /// What is asked of the store.
    pub asks: Vec<Collect>,
    /// What was collected, in the order of its vertices, which come after all others.
    pub taken: Vec<Taken>,
    /// What was not, although an item wants it.
    pub skipped: Vec<Skipped>,
    /// Vertices whose purge waits until it is known what others export.
    pub waiting: Vec<Id>,
}

/// A resource that this host exports.
#[derive(Debug, Clone)]
pub struct Exported {
    /// Its kind and its name, without the `@@`.
    pub id: Id,
    /// Its parameters, as the file has them.
    pub params: Params,
    /// Its contents appear nowhere.
    pub sensitive: bool,
    /// Where it stands in the file.
    pub place: Place,
}

impl Exported {
    /// Equal wherever it may stand.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        (&self.id, &self.params, self.sensitive) == (&other.id, &other.params, other.sensitive)
    }
}

/// An export that became a vertex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The vertex.
    pub id: Id,
    /// Who exports it.
    pub host: String,
    /// Under which name.
    pub name: String,
    /// The path it owns, if it owns one.
    pub path: Option<PathBuf>,
    /// What of it was left out, and why.
    pub left_out: Vec<String>,
}

/// An export that an item wants and that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Who exports it.
    pub host: String,
    /// Its kind and name there.
    pub id: Id,
    /// The item, by its place in the graph file.
    pub item: Place,
    /// A fragment.
    pub why: String,
}
