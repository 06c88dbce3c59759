//! `mgmt doctor`: what is wrong with this host's part in a mesh, or between it and another host.

use std::io::Write;

use super::{Exit, Failure, args};

/// Runs it.
///
/// # Errors
/// Something is wrong, or output cannot be written.
pub fn run(_args: &args::Doctor, _out: &mut dyn Write) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Unavailable, "this is not built yet"))
}
