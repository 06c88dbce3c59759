//! What a process says of itself to the others of its user: one line of JSON.

use std::fmt;
use std::net::SocketAddr;

use mgmt_consensus::identity::check_host;
use mgmt_consensus::{ClusterId, PeerId};
use serde::{Deserialize, Serialize};

/// The version of the line.
const VERSION: u32 = 1;
/// A token's text.
const TOKEN_BYTES_MAX: usize = 1024;

/// A process that lives.
#[derive(Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Which cluster it is a member of.
    pub cluster: ClusterId,
    /// Who it is to the transport.
    pub peer: PeerId,
    /// Its name.
    pub host: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process.
    pub pid: u32,
    /// Lets others of this user in, if it has one.
    pub token: Option<String>,
}

impl fmt::Debug for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, peer, host, address, pid, token } = self;
        let token = if token.is_some() { "a token" } else { "no token" };
        write!(f, "{host} (process {pid}, peer {peer}, cluster {cluster}, {address}, {token})")
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    v: u32,
    cluster: String,
    peer: String,
    host: String,
    address: SocketAddr,
    pid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl Announcement {
    /// The line.
    pub fn render(&self) -> String {
        let line = Line {
            v: VERSION,
            cluster: self.cluster.to_string(),
            peer: self.peer.to_string(),
            host: self.host.clone(),
            address: self.address,
            pid: self.pid,
            token: self.token.clone(),
        };
        let text = serde_json::to_string(&line).expect("texts and numbers are JSON");
        text + "\n"
    }

    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let line: Line = serde_json::from_str(text).map_err(|error| format!("it cannot be read: {error}"))?;
        if line.v != VERSION {
            return Err(format!("it has version {}, this program reads {VERSION}", line.v));
        }
        check_host(&line.host).map_err(|error| error.to_string())?;
        if line.token.as_ref().is_some_and(|token| token.is_empty() || token.len() > TOKEN_BYTES_MAX) {
            return Err("its token is none".to_owned());
        }
        if line.address.port() == 0 || line.address.ip().is_unspecified() {
            return Err(format!("nobody is reached at {}", line.address));
        }
        Ok(Self {
            cluster: ClusterId(number(&line.cluster)?),
            peer: PeerId(number(&line.peer)?),
            host: line.host,
            address: line.address,
            pid: line.pid,
            token: line.token,
        })
    }
}

/// The number of an identifier's 32 digits.
pub(in crate::mesh) fn number(text: &str) -> Result<u128, String> {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() == 32 && text.bytes().all(digit) {
        return u128::from_str_radix(text, 16).map_err(|error| error.to_string());
    }
    Err("an identifier has 32 digits of 0-9 and a-f".to_owned())
}
