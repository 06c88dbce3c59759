//! The state on its way to disk and back. What it looks like there is the business of `command`.

use std::io;

use bytes::Bytes;
use mgmt_consensus::limits::SNAPSHOT_CHUNK_BYTES_MAX;
use mgmt_consensus::machine::Frozen;

use crate::command::{DecodeError, SectionReader, SectionWriter};
use crate::keyspace::Keyspace;

/// The state at one moment. Shares what does not change with the state that goes on; bytes are made as they are asked
/// for.
#[derive(Debug)]
pub struct FrozenStore {
    sections: SectionWriter,
    ready: Vec<u8>,
}

impl FrozenStore {
    /// Freezes a state.
    #[must_use]
    pub fn new(keyspace: &Keyspace) -> Self {
        Self { sections: SectionWriter::new(keyspace), ready: Vec::new() }
    }
}

impl Frozen for FrozenStore {
    fn chunk(&mut self) -> Option<Bytes> {
        while self.ready.len() < SNAPSHOT_CHUNK_BYTES_MAX
            && let Some(section) = self.sections.next()
        {
            self.ready.extend_from_slice(&section);
        }
        let length = self.ready.len().min(SNAPSHOT_CHUNK_BYTES_MAX);
        let chunk: Vec<u8> = self.ready.drain(..length).collect();
        (!chunk.is_empty()).then(|| chunk.into())
    }
}

/// A state from its chunks: whole and as it was, or not at all.
///
/// # Errors
/// `InvalidData` for what is no snapshot, `Unsupported` for one by a newer program; what reading the chunks failed with.
pub fn restore(chunks: &mut dyn Iterator<Item = io::Result<Bytes>>) -> io::Result<Keyspace> {
    let invalid = |error: DecodeError| {
        let newer = matches!(error, DecodeError::Unknown(_));
        io::Error::new(if newer { io::ErrorKind::Unsupported } else { io::ErrorKind::InvalidData }, error)
    };
    let mut sections = SectionReader::default();
    for chunk in chunks {
        sections.push(&chunk?).map_err(invalid)?;
    }
    sections.finish().map_err(invalid)
}
