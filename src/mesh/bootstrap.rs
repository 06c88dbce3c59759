//! How hosts that all start empty found exactly one mesh.
mod promise;
