//! What the leader does with what members send, before it enters the log or instead of that. Others write it, because
//! only they know what the bytes mean.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::types::Member;

/// An answer that may take a disk.
pub type Handed<'a> = Pin<Box<dyn Future<Output = Bytes> + Send + 'a>>;

/// A request that does not enter the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declined {
    /// In words, why not.
    Because(String),
    /// The machine would refuse it, and this is what it would say. Whoever asked is told so at index 0, where no command
    /// stands. Of a request that was sent before it says nothing: that one may be in the log.
    Outcome(Bytes),
}

/// The leader's desk.
pub trait Clerk: Send + Sync + 'static {
    /// Makes the command that enters the log of what a member asks for: attests who asked, and when. The member is who
    /// he is by the membership and the transport, not by what the request says.
    ///
    /// # Errors
    /// [`Declined`]: it does not enter the log.
    fn attest(&self, from: &Member, request: Bytes) -> Result<Bytes, Declined>;

    /// May this one be a member of the group? Asked before an id is reserved, and again before it is taken in: whoever
    /// was removed still holds a certificate.
    ///
    /// # Errors
    /// In words, why not; he is told so.
    fn admits(&self, _newcomer: &Member) -> Result<(), String> {
        Ok(())
    }

    /// Is it known for certain that this one, and nobody else, bears its host's name? Then whoever else is a member by
    /// that name is a former life: he cannot come back, and is in nobody's way.
    fn names(&self, _newcomer: &Member) -> bool {
        false
    }

    /// Answers what is not for the log.
    fn told(&self, from: &Member, message: &[u8]) -> Bytes;

    /// Answers what a member hands to this very one, whether it leads or not. It may wait for the disk: what is promised
    /// in the answer is synced before it is given.
    fn handed<'a>(&'a self, _from: &'a Member, _message: &'a [u8]) -> Handed<'a> {
        Box::pin(async { Bytes::new() })
    }
}

/// Lets everything pass as it is, and has nothing to say.
impl Clerk for () {
    fn attest(&self, _: &Member, request: Bytes) -> Result<Bytes, Declined> {
        Ok(request)
    }

    fn told(&self, _: &Member, _: &[u8]) -> Bytes {
        Bytes::new()
    }
}
