//! All kinds of resource: those of this machine, and those that need what hosts share.

use mgmt_resources::KindInfo;

/// All kinds, in the order `explain` lists them.
pub static KINDS: &[&KindInfo] = mgmt_resources::KINDS;
