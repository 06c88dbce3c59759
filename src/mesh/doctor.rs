//! What is wrong between here and another host.
