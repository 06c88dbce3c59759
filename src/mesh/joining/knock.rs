//! The way to those who let others in: over the network, or in tests straight to them.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

/// The way to strangers.
pub trait Knock: Send + Sync {
    /// Says one thing to whoever is at this address, if he shows the authority with this key hash, and gives what he
    /// answers; or why there is no answer, in words.
    fn knock(
        &self,
        to: SocketAddr,
        authority: [u8; 32],
        say: impl FnOnce(&[u8; 32]) -> Bytes + Send,
        limit: Duration,
    ) -> impl Future<Output = Result<Bytes, String>> + Send;
}
