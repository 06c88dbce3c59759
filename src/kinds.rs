//! All kinds of resource: those of this machine, and those that need what hosts share.

use mgmt_resources::KindInfo;

/// All kinds, in the order `explain` lists them.
pub static KINDS: &[&KindInfo] = &ALL;

static ALL: [&KindInfo; HERE + 1] = {
    let mut all = [&crate::kv::INFO; HERE + 1];
    let mut number = 0;
    while number < HERE {
        all[number] = mgmt_resources::KINDS[number];
        number += 1;
    }
    all
};

const HERE: usize = mgmt_resources::KINDS.len();
