//! What peers say to each other beside the group: to join, to find each other before there is a group, to hand over
//! the authority. JSON, versioned, bounded.
