//! A new mesh from what one survivor still has.
