//! The whole group in one thread, from a seed.

fn main() {}
