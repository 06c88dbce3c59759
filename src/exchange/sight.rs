//! What this host knows of what others export: a view of the store, and how far it goes.

use mgmt_store::View;
use mgmt_store::view::Collect;

/// What is known of the exports of all hosts. Of a host that never saw a mesh: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// What was asked for when it was taken. Of anything else nothing is known: neither what there is nor that there is
    /// nothing.
    pub asked: Vec<Collect>,
    /// What there is of it.
    pub view: View,
}

impl Sight {
    /// Whether it is known what there is of this.
    #[must_use]
    pub fn knows(&self, collect: &Collect) -> bool {
        self.asked.contains(collect)
    }
}
