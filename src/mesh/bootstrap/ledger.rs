//! What a host has promised while it founds together with others: one file, synced before anybody hears of it.
//!
//! It also holds the name by which the others know this host, so that it stays the same one over restarts.

use std::io;

use mgmt_consensus::PeerId;
use mgmt_consensus::ground::chance;
use serde::{Deserialize, Serialize};

use crate::mesh::messages::HexBytes;
use crate::mesh::messages::HexId;
use crate::mesh::messages::found::Who;
use crate::mesh::place::{Part, Place};

/// The version of the file.
const VERSION: u32 = 1;

/// The file.
#[derive(Debug, Clone, PartialEq)]
pub struct Ledger {
    place: Place,
    stored: Stored,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stored {
    v: u32,
    peer: HexId,
    /// Tells which secret it was: a promise under another one binds nobody.
    secret: HexBytes<8>,
    promised: Option<Who>,
}

impl Ledger {
    /// Reads it, or makes a new one.
    pub(super) fn load(place: Place, mark: [u8; 8]) -> io::Result<Self> {
        match read(&place)? {
            Some(stored) if stored.secret.0 == mark => return Ok(Self { place, stored }),
            Some(_) => tracing::warn!("mesh: the secret is another one: what this host has promised is void"),
            None => {}
        }
        let peer = HexId(PeerId::draw(chance).0);
        let stored = Stored { v: VERSION, peer, secret: HexBytes(mark), promised: None };
        let ledger = Self { place, stored };
        ledger.save()?;
        Ok(ledger)
    }

    fn save(&self) -> io::Result<()> {
        let text = serde_json::to_string(&self.stored).map_err(io::Error::other)?;
        self.place.save(Part::Promise, &(text + "\n"))
    }

    /// Who this host is to the others, under this name.
    pub fn me(&self, host: &str) -> Who {
        Who { peer: self.stored.peer, host: host.to_owned() }
    }

    /// To whom it has promised.
    pub fn promised(&self) -> Option<Who> {
        self.stored.promised.clone()
    }

    /// Where it lies, for people.
    pub fn file(&self) -> String {
        self.place.path(Part::Promise).display().to_string()
    }

    /// Promises; it survives a power cut once this returns well. Whether it does otherwise is unknown.
    ///
    /// # Errors
    /// The disk.
    pub async fn write(&mut self, whom: Who) -> io::Result<()> {
        self.stored.promised = Some(whom);
        let ledger = self.clone();
        tokio::task::spawn_blocking(move || ledger.save()).await.map_err(io::Error::other)?
    }
}

fn read(place: &Place) -> io::Result<Option<Stored>> {
    let Some(text) = place.load(Part::Promise)? else { return Ok(None) };
    let bad = |why: String| {
        let file = place.path(Part::Promise);
        let why = format!("{} cannot be read ({why}): remove it if no mesh is being founded", file.display());
        io::Error::new(io::ErrorKind::InvalidData, why)
    };
    let stored: Stored = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    if stored.v == VERSION { Ok(Some(stored)) } else { Err(bad(format!("it has version {}", stored.v))) }
}

/// Whom this host has promised to found with, if it has: the file that says so, and the host.
///
/// # Errors
/// The disk, or what lies there cannot be read.
pub fn promised(place: &Place) -> io::Result<Option<(String, String)>> {
    let whom = read(place)?.and_then(|stored| stored.promised);
    Ok(whom.map(|whom| (place.path(Part::Promise).display().to_string(), whom.host)))
}

/// The promise is kept: this host is a member.
///
/// # Errors
/// The disk.
pub fn forget(place: &Place) -> io::Result<()> {
    if place.load(Part::Promise)?.is_some() { place.remove(Part::Promise) } else { Ok(()) }
}
