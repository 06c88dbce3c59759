//! `peer.toml`: the file in which a peer remembers who it is.
//!
//! ```text
//! # Who this peer is. Written by mgmt; a copy of it on another host is nobody.
//! format = "1"
//! cluster = "000102030405060708090a0b0c0d0e0f"
//! peer = "101112131415161718191a1b1c1d1e1f"
//! incarnation = "202122232425262728292a2b2c2d2e2f"
//! raft = "17"
//! host = "web1.example"
//! crc = "1234abcd"
//! ```
//!
//! One identity has exactly one file: what is read must be what would be written, byte for byte, so that whatever
//! happened to it shows. Two things hold in every format to come: the second line names it, and the last one is the
//! CRC-32C of all before. So a newer file is told from a damaged one, and is refused instead of given up.

use std::io;

use super::{ClusterId, Identity, Incarnation, PeerId, check_host};
use crate::disk::{Disk, DiskFile};
use crate::limits::IDENTITY_BYTES_MAX;

/// What it is called.
pub const FILE: &str = "peer.toml";
/// Where it is written before it takes its place.
const FRESH: &str = "peer.toml.new";
/// Its first line.
const HEAD: &str = "# Who this peer is. Written by mgmt; a copy of it on another host is nobody.\n";
/// The format that is written here.
const FORMAT: &str = "1";
/// In place of an id where there is none.
const NONE: &str = "none";

/// What is found of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// None.
    Missing,
    /// One that cannot be trusted, and why.
    Damaged(String),
    /// A sound one.
    Sound(Identity),
}

/// Why the file could not be read. Whoever it belongs to must not go on without it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A later version wrote it.
    #[error("{FILE} has format {0:?}, which a newer version has written; this one reads {FORMAT:?}")]
    Newer(String),
    /// What the disk said.
    #[error("{FILE} cannot be read")]
    Disk(#[from] io::Error),
}

/// Why the file could not be written. What is there is the old one or the new one.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// It would not be read again.
    #[error(transparent)]
    Host(#[from] super::HostError),
    /// What the disk said.
    #[error("{FILE} cannot be written")]
    Disk(#[from] io::Error),
}

/// What the file of this peer says.
#[must_use]
pub fn render(identity: &Identity) -> String {
    let Identity { cluster, peer, incarnation, raft, host } = identity;
    let raft = raft.map_or_else(|| NONE.to_owned(), |raft| raft.to_string());
    let body = format!(
        "{HEAD}format = \"{FORMAT}\"\ncluster = \"{cluster}\"\npeer = \"{peer}\"\nincarnation = \"{incarnation}\"\n\
         raft = \"{raft}\"\nhost = \"{host}\"\n"
    );
    let crc = crc32c::crc32c(body.as_bytes());
    format!("{body}crc = \"{crc:08x}\"\n")
}

/// Reads what a file says. Whatever is not exactly what [`render`] makes of an identity is damaged.
///
/// # Errors
/// If it is sound and of a newer format.
pub fn parse(bytes: &[u8]) -> Result<Stored, LoadError> {
    match read(bytes) {
        Ok(Read::Own(identity)) => Ok(Stored::Sound(identity)),
        Ok(Read::Newer(format)) => Err(LoadError::Newer(format)),
        Err(why) => Ok(Stored::Damaged(why)),
    }
}

enum Read {
    Own(Identity),
    Newer(String),
}

fn read(bytes: &[u8]) -> Result<Read, String> {
    if bytes.len() > IDENTITY_BYTES_MAX {
        return Err(format!("it has {} bytes", bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let last = text.strip_suffix('\n').and_then(|text| text.rfind('\n')).ok_or("it has no end")? + 1;
    let crc = value(&text[last..], "crc")?;
    if crc != format!("{:08x}", crc32c::crc32c(&bytes[..last])) {
        return Err("its checksum is wrong".to_owned());
    }
    let mut lines = text.split_inclusive('\n').skip(1);
    let mut next = |key| value(lines.next().unwrap_or_default(), key);
    let format = next("format")?;
    if format != FORMAT {
        return Ok(Read::Newer(format.to_owned()));
    }
    let drawn = |text: &str| u128::from_str_radix(text, 16).map_err(|error| format!("{text:?}: {error}"));
    let identity = Identity {
        cluster: ClusterId(drawn(next("cluster")?)?),
        peer: PeerId(drawn(next("peer")?)?),
        incarnation: Incarnation(drawn(next("incarnation")?)?),
        raft: match next("raft")? {
            NONE => None,
            number => Some(number.parse().map_err(|error| format!("{number:?}: {error}"))?),
        },
        host: next("host")?.to_owned(),
    };
    check_host(&identity.host).map_err(|error| error.to_string())?;
    if render(&identity) != text {
        return Err("it is not as it would be written".to_owned());
    }
    Ok(Read::Own(identity))
}

/// What a line gives to a key.
fn value<'a>(line: &'a str, key: &str) -> Result<&'a str, String> {
    let value = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(" = \"")?.strip_suffix("\"\n"));
    value.ok_or_else(|| format!("it has no {key} where that belongs"))
}

/// Reads the file of a directory.
///
/// # Errors
/// If it is of a newer format, or the disk fails: then nothing may be concluded from it.
pub fn load(disk: &impl Disk) -> Result<Stored, LoadError> {
    let file = match disk.open(FILE) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stored::Missing),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = vec![0; IDENTITY_BYTES_MAX + 1];
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], length as u64)? {
            0 => break,
            read => length += read,
        }
    }
    parse(&bytes[..length])
}

/// Writes the file of a directory, whole or not at all. When this returns well it survives a crash. It blocks as the
/// disk does; dropped in the middle it leaves the old file or the new one, and the next call clears up.
///
/// # Errors
/// If the host name is none, or the disk fails.
pub async fn save(disk: &impl Disk, identity: &Identity) -> Result<(), SaveError> {
    check_host(&identity.host)?;
    let text = render(identity);
    // What a crash left of an earlier attempt.
    disk.remove(FRESH)?;
    let file = disk.create(FRESH, text.len() as u64)?;
    file.write_at(text.as_bytes(), 0)?;
    file.sync().await?;
    disk.rename(FRESH, FILE)?;
    disk.sync_folder("").await?;
    Ok(())
}

#[cfg(test)]
mod tests;
