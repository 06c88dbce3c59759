//! What is answered about the mesh on the control socket.

use std::io;

use crate::cli::{Exit, Failure};
use crate::control::Conversation;
use crate::control::mesh::Ask;

/// Answers, as far as this host's part in the mesh can.
///
/// # Errors
/// The asker has gone.
pub async fn answer(_asked: Ask, mut talk: Conversation) -> io::Result<()> {
    let none = "this host is in no mesh; it takes part in one with: mgmt run empty, or --seeds";
    talk.reply(Err(Failure::new(Exit::Unavailable, none))).await
}
