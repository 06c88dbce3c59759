//! Syncs of many files at once: those of one file system that wait at the same time share one `syncfs`.

/// Syncs files and directories to stable storage, together where that is cheaper.
#[derive(Debug, Default)]
pub struct Syncs;
