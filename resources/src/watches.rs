//! Watches on paths: one inotify instance for the process, watches on directories, counted and shared.

/// Watches paths and raises signals.
#[derive(Debug, Default)]
pub struct Watches;
