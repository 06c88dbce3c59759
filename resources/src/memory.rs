//! What resources remember over restarts: small records in the state directory, replaced atomically.
//!
//! A record is read whole or not at all: one that is damaged, or belongs to another name, counts as absent and is said
//! so. Knows nothing of what a record means.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The longest record. What a resource remembers is a few paths and numbers; more is a mistake of the caller.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// Names longer than this are refused, so that a record's file stays bounded too.
const NAME_BYTES_MAX: usize = 64 * 1024;

const MAGIC: &[u8; 8] = b"mgmtmem1";
/// Magic, hash of the rest, length of the name.
const HEADER_BYTES: usize = 8 + 16 + 4;

/// Records by kind and name.
#[derive(Debug, Default)]
pub struct Memory {
    directory: PathBuf,
}

impl Memory {
    /// Records below `directory`, which is made when the first one is put.
    pub fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The record of `name`; `None` if there is none, or only a damaged one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn get(&self, kind: &str, name: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.file(kind, name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        // One byte more than the longest file is enough to see that a file is too long.
        let limit = HEADER_BYTES + NAME_BYTES_MAX + RECORD_BYTES_MAX + 1;
        file.take(limit as u64).read_to_end(&mut bytes)?;
        let record = decode(&bytes, name).map(<[u8]>::to_vec);
        if record.is_none() {
            tracing::warn!(path = %path.display(), "a remembered record is damaged, and counts as absent");
        }
        Ok(record)
    }

    /// Replaces the record of `name`. After a crash the old or the new one is there, whole.
    ///
    /// # Errors
    /// It is too long, or cannot be written.
    pub fn put(&self, kind: &str, name: &str, record: &[u8]) -> io::Result<()> {
        if record.len() > RECORD_BYTES_MAX || name.len() > NAME_BYTES_MAX {
            let message = format!("a record of {} bytes is longer than {RECORD_BYTES_MAX}", record.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let path = self.file(kind, name);
        let temporary = temporary(&path);
        let written = write(&temporary, &encode(name, record)).and_then(|()| std::fs::rename(&temporary, &path));
        if written.is_err() {
            // The first error is the one to tell; what is left is overwritten or ignored by the next put.
            std::fs::remove_file(&temporary).ok();
        }
        written
    }

    /// Removes the record of `name`, if there is one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn forget(&self, kind: &str, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.file(kind, name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Names may hold slashes and be longer than a file's name, so the file is named by their hash.
    fn file(&self, kind: &str, name: &str) -> PathBuf {
        self.directory.join(format!("{kind}-{:032x}", hash(&[name.as_bytes()])))
    }
}

/// Two puts at the same time must not share a temporary file.
fn temporary(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    path.with_extension(format!("{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_data()
}

fn encode(name: &str, record: &[u8]) -> Vec<u8> {
    let length = u32::try_from(name.len()).expect("names are bounded by NAME_BYTES_MAX").to_le_bytes();
    let mut bytes = Vec::with_capacity(HEADER_BYTES + name.len() + record.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&hash(&[&length, name.as_bytes(), record]).to_le_bytes());
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(record);
    bytes
}

/// The record inside, if the bytes are whole and belong to `name`.
fn decode<'a>(bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let rest = bytes.strip_prefix(MAGIC.as_slice())?;
    let (sum, rest) = rest.split_first_chunk::<16>()?;
    let (length, body) = rest.split_first_chunk::<4>()?;
    let (stored, record) = body.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let whole = hash(&[length, body]) == u128::from_le_bytes(*sum);
    (whole && stored == name.as_bytes() && record.len() <= RECORD_BYTES_MAX).then_some(record)
}

/// FNV-1a with 128 bits: stable over versions and machines, which the standard library's hashers do not promise.
fn hash(parts: &[&[u8]]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let bytes = parts.iter().flat_map(|part| part.iter());
    bytes.fold(OFFSET, |sum, byte| (sum ^ u128::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn memory() -> (tempfile::TempDir, Memory) {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::at(directory.path().join("memory"));
        (directory, memory)
    }

    #[test]
    fn remembers_replaces_and_forgets() {
        let (_directory, memory) = memory();
        assert_eq!(memory.get("exec-mtimes", "a/b").unwrap(), None);
        memory.put("exec-mtimes", "a/b", b"one").unwrap();
        memory.put("exec-mtimes", "a/b", b"two").unwrap();
        memory.put("exec-mtimes", "c", b"").unwrap();
        assert_eq!(memory.get("exec-mtimes", "a/b").unwrap().unwrap(), b"two");
        assert_eq!(memory.get("exec-mtimes", "c").unwrap().unwrap(), b"");
        assert_eq!(memory.get("other", "a/b").unwrap(), None);
        memory.forget("exec-mtimes", "a/b").unwrap();
        memory.forget("exec-mtimes", "a/b").unwrap();
        assert_eq!(memory.get("exec-mtimes", "a/b").unwrap(), None);
    }

    #[test]
    fn leaves_private_files_and_nothing_else() {
        let (_directory, memory) = memory();
        memory.put("kind", "name", b"x").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&memory.directory), 0o700);
        assert_eq!(mode(&memory.file("kind", "name")), 0o600);
        assert_eq!(std::fs::read_dir(&memory.directory).unwrap().count(), 1);
    }

    #[test]
    fn damage_counts_as_absent() {
        let (_directory, memory) = memory();
        memory.put("kind", "name", b"record").unwrap();
        let path = memory.file("kind", "name");
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert_eq!(memory.get("kind", "name").unwrap(), None, "byte {at}");
            std::fs::write(&path, &good[..at]).unwrap();
            assert_eq!(memory.get("kind", "name").unwrap(), None, "cut at {at}");
        }
    }

    #[test]
    fn another_name_in_the_file_counts_as_absent() {
        let (_directory, memory) = memory();
        memory.put("kind", "name", b"record").unwrap();
        std::fs::rename(memory.file("kind", "name"), memory.file("kind", "other")).unwrap();
        assert_eq!(memory.get("kind", "other").unwrap(), None);
    }

    #[test]
    fn too_long_is_refused() {
        let (_directory, memory) = memory();
        assert!(memory.put("kind", "name", &vec![0; RECORD_BYTES_MAX]).is_ok());
        assert!(memory.put("kind", "name", &vec![0; RECORD_BYTES_MAX + 1]).is_err());
    }
}
