//! mgmt.

pub mod assemble;
pub mod diagnostic;
pub mod document;
