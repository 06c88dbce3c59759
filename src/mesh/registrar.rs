//! Keeps this host's entry in the registry right, and knows where everybody else is.
