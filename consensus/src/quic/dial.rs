//! Reaching a peer: his addresses one after the other, each a quarter of a second after the one before, and who answers
//! first.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quinn::ClientConfig;
use rustls::pki_types::CertificateDer;

use super::{Close, Doorkeeper};
use crate::authority::server_name;
use crate::identity::PeerId;
use crate::limits::ADDRESSES_MAX;

/// The next address is tried beside those before it after so long.
const APART: Duration = Duration::from_millis(250);
/// All of them together.
const DEADLINE: Duration = Duration::from_secs(3);

/// Why a peer was not reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("no address is known")]
    Nowhere,
    #[error("nobody answers at {0}")]
    Silent(SocketAddr),
    #[error("{0}: {1}")]
    Failed(SocketAddr, quinn::ConnectionError),
    #[error("{0}: {1}")]
    Impossible(SocketAddr, quinn::ConnectError),
    #[error("{0} is not let in: {1}")]
    Refused(SocketAddr, String),
}

/// The certificate that the other end has shown.
pub(super) fn shown(connection: &quinn::Connection) -> Option<CertificateDer<'static>> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.into_iter().next()
}

/// Dropped: nothing is left of it.
pub(super) async fn dial(
    endpoint: &quinn::Endpoint,
    config: &ClientConfig,
    peer: PeerId,
    doorkeeper: &dyn Doorkeeper,
) -> Result<quinn::Connection, DialError> {
    let mut addresses = Vec::new();
    for address in doorkeeper.addresses(peer) {
        if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let Some(last) = addresses.last().copied() else { return Err(DialError::Nowhere) };
    let mut addresses = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = DialError::Silent(last);
    let deadline = tokio::time::sleep(DEADLINE);
    tokio::pin!(deadline);
    loop {
        if let Some(address) = addresses.next() {
            attempts.push(attempt(endpoint, config.clone(), peer, address));
        }
        let apart = async {
            if addresses.len() == 0 {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(APART).await;
        };
        tokio::select! {
            biased;
            () = &mut deadline => return Err(failure),
            Some(result) = attempts.next() => match result {
                Ok(connection) => {
                    is_meant(&connection, peer, doorkeeper)?;
                    doorkeeper.reached(peer, connection.remote_address());
                    return Ok(connection);
                }
                Err(_) if attempts.is_empty() && addresses.len() == 0 => return result,
                Err(error) => failure = error,
            },
            () = apart => {}
        }
    }
}

async fn attempt(
    endpoint: &quinn::Endpoint,
    config: ClientConfig,
    peer: PeerId,
    address: SocketAddr,
) -> Result<quinn::Connection, DialError> {
    let connecting = endpoint.connect_with(config, address, &server_name(peer));
    let connecting = connecting.map_err(|error| DialError::Impossible(address, error))?;
    connecting.await.map_err(|error| match error {
        quinn::ConnectionError::TimedOut => DialError::Silent(address),
        error => DialError::Failed(address, error),
    })
}

/// The name was verified with the certificate; whether he is still one of us says the doorkeeper.
fn is_meant(connection: &quinn::Connection, peer: PeerId, doorkeeper: &dyn Doorkeeper) -> Result<(), DialError> {
    let certificate = shown(connection);
    let why = match certificate.map(|certificate| doorkeeper.admits(&certificate)) {
        Some(Ok(caller)) if caller.peer == peer => return Ok(()),
        Some(Ok(caller)) => format!("it is {}", caller.peer),
        Some(Err(why)) => why,
        None => "it shows no certificate".to_owned(),
    };
    Close::Refused.say(connection, &why);
    Err(DialError::Refused(connection.remote_address(), why))
}
