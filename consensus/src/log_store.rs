//! The replicated log on this host's disk: a journal in front, which alone makes a promise, and an index behind it.
