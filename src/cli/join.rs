//! `mgmt join`: makes this host a member of a mesh.

use std::io::Write;

use super::{Exit, Failure, args};

/// Runs it.
///
/// # Errors
/// It was not let in, or nobody was reached.
pub fn run(_args: &args::Join, _out: &mut dyn Write) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Unavailable, "this is not built yet"))
}
