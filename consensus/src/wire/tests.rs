//! Round trips, golden files, and what is refused.
