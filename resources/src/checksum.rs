//! SHA-256 of files, and what spares reading a file again that nobody has touched.
//!
//! Promises: a checksum that is remembered belongs to the contents that stand: it is only kept for a file that had been
//! left alone for a while when it was read, so that a change within one tick of the file system's clock is not missed.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use mgmt_engine::Clock;
use sha2::{Digest as _, Sha256};

/// How much is read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Times of files go on in ticks of a few milliseconds, on some file systems of two seconds.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// A SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Checksum([u8; 32]);

/// What changes whenever a file is replaced or written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The checksum of one file as it was last read.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Option<(Stamp, Checksum)>>);

/// A checksum in the making.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sum(Sha256);

impl Checksum {
    /// From 64 hexadecimal digits, in any case, with `sha256:` before them or not.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "is no SHA-256: that has 64 hexadecimal digits, as sha256sum prints them";
        let text = text.trim();
        let digits = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return Err(WRONG);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = value(pair[0]).ok_or(WRONG)? << 4 | value(pair[1]).ok_or(WRONG)?;
        }
        Ok(Self(bytes))
    }

    /// Of all that is left to read.
    pub(crate) fn read(mut from: impl io::Read) -> io::Result<Self> {
        let (mut sum, mut buffer) = (Sum::default(), vec![0; CHUNK_BYTES]);
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(sum.done()),
                Ok(count) => sum.add(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Sum {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn done(self) -> Checksum {
        Checksum(self.0.finalize().into())
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Stamp {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let of = file.metadata()?;
        Ok(Self {
            device: of.dev(),
            inode: of.ino(),
            size: of.size(),
            modified: (of.mtime(), of.mtime_nsec()),
            changed: (of.ctime(), of.ctime_nsec()),
        })
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Whether a change from now on would show. One from the future says nothing.
    fn is_settled(&self) -> bool {
        let now = Clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(self.changed.0).is_ok_and(|seconds| Duration::from_secs(seconds) + SETTLED_AFTER <= now)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, inode, size, modified, changed } = self;
        write!(f, "{device} {inode} {size} {}.{} {}.{}", modified.0, modified.1, changed.0, changed.1)
    }
}

impl Known {
    /// The checksum of an open file, if it need not be read.
    pub(crate) fn quickly(&self, file: &File) -> io::Result<Option<Checksum>> {
        let stamp = Stamp::of(file)?;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(known.filter(|(of, _)| *of == stamp).map(|(_, checksum)| checksum))
    }

    /// The checksum of an open file at its start.
    pub(crate) fn of(&self, file: &File) -> io::Result<Checksum> {
        if let Some(known) = self.quickly(file)? {
            return Ok(known);
        }
        let before = Stamp::of(file)?;
        let checksum = Checksum::read(file)?;
        if before.is_settled() && Stamp::of(file)? == before {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((before, checksum));
        }
        Ok(checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn checksums_are_read_as_they_are_written() {
        let sum = Checksum::read(&b"abc"[..]).unwrap();
        assert_eq!(sum.to_string(), OF_ABC);
        assert_eq!(Checksum::parse(&format!(" sha256:{}\n", OF_ABC.to_uppercase())), Ok(sum));
        for wrong in ["", "abc", &OF_ABC[1..], &OF_ABC.replace('b', "g"), &format!("{OF_ABC}0")] {
            assert!(Checksum::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_that_was_just_written_is_read_again_and_one_that_rests_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, "abc").unwrap();
        let open = || File::open(&path).unwrap();
        let known = Known::default();
        assert_eq!(known.of(&open()).unwrap().to_string(), OF_ABC);
        assert_eq!(known.quickly(&open()).unwrap(), None, "it may change within this tick");
        let rests = File::open("/proc/self/exe").unwrap();
        let sum = known.of(&rests).unwrap();
        let settled = Stamp::of(&rests).unwrap().is_settled();
        assert_eq!(known.quickly(&rests).unwrap(), settled.then_some(sum));
    }
}
