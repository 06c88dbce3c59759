//! `mgmt snapshot`: saves what the mesh holds, and founds a mesh from it.

use std::io::Write;

use super::{Exit, Failure, args};

/// Runs one of its verbs.
///
/// # Errors
/// There is no agent or mesh to ask, it could not do it, or output cannot be written.
pub fn run(_verb: &args::Snapshot, _out: &mut dyn Write) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Unavailable, "this is not built yet"))
}
