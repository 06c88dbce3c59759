//! The key of the authority is on masters alone: handed to a candidate before it is appointed, deleted when it is
//! none.
