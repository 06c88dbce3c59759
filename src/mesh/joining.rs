//! How this host is let into a mesh by a token.

use std::net::SocketAddr;
use std::time::Duration;

use mgmt_consensus::PeerId;
use mgmt_consensus::authority::token::Token;
use mgmt_consensus::authority::{Certificate, KeyPair};
use mgmt_consensus::quic::Endpoint;

use super::registrar::Listed;

/// STUB
pub struct Joined {
    /// c
    pub certificate: Certificate,
    /// a
    pub authorities: Vec<Certificate>,
    /// m
    pub members: Vec<(PeerId, Listed)>,
}
/// STUB
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct JoinError;
impl JoinError {
    /// f
    pub fn is_final(&self) -> bool {
        true
    }
}
/// STUB
#[expect(clippy::too_many_arguments)]
pub async fn join(
    _: &Endpoint,
    _: &[SocketAddr],
    _: &Token,
    _: &str,
    _: PeerId,
    _: &KeyPair,
    _: bool,
    _: Duration,
) -> Result<Joined, JoinError> {
    Err(JoinError)
}
