//! What hosts share: keys with revisions, exports, per-host maps, locks, leases; how all of it changes, and how changes
//! are watched.
