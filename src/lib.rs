//! mgmt.

pub mod assemble;
pub mod cli;
pub mod diagnostic;
pub mod document;
pub mod facts;
pub mod picture;
