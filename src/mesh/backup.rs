//! The store as a file: saved from any member, inspected, restored into an empty mesh.
