//! One life of this host in a mesh: brings it up, keeps it, and takes it down.
