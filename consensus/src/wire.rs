//! The bytes that are stored and sent: our own types, versioned and bounded, converted by hand. The only door to
//! bincode.
