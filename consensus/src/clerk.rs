//! What the leader does with what members send, before it enters the log or instead of that. Others write it, because
//! only they know what the bytes mean.

use bytes::Bytes;

use crate::types::Member;

/// The leader's desk.
pub trait Clerk: Send + Sync + 'static {
    /// Makes the command that enters the log of what a member asks for: attests who asked, and when. The member is who
    /// he is by the membership and the transport, not by what the request says.
    ///
    /// # Errors
    /// In words, why it does not enter the log.
    fn attest(&self, from: &Member, request: Bytes) -> Result<Bytes, String>;

    /// Answers what is not for the log.
    fn told(&self, from: &Member, message: &[u8]) -> Bytes;
}

/// Lets everything pass as it is, and has nothing to say.
impl Clerk for () {
    fn attest(&self, _: &Member, request: Bytes) -> Result<Bytes, String> {
        Ok(request)
    }

    fn told(&self, _: &Member, _: &[u8]) -> Bytes {
        Bytes::new()
    }
}
