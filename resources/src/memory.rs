//! What resources remember over restarts: small records in the state directory, replaced atomically.

/// Records by key.
#[derive(Debug, Default)]
pub struct Memory;
