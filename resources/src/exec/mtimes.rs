//! Which files are newer than they were when the command last succeeded.
//!
//! Compares modification times with those that were seen, never with the clock: a file of yesterday that is put in place
//! today counts, and a clock that is set back does no harm.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use mgmt_engine::resource::Fault;

use crate::memory::Memory;

const KIND: &str = "exec-mtimes";

/// Seconds and nanoseconds.
type Time = (i64, i64);

/// The times of those files that exist.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Times(BTreeMap<PathBuf, Time>);

impl Times {
    /// Looks at the files as they are.
    ///
    /// # Errors
    /// One cannot be looked at.
    pub(super) fn seen(paths: &[PathBuf]) -> Result<Self, Fault> {
        let mut times = BTreeMap::new();
        for path in paths {
            match std::fs::metadata(path) {
                Ok(found) => _ = times.insert(path.clone(), (found.mtime(), found.mtime_nsec())),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(Fault::path("look at", path, error)),
            }
        }
        Ok(Self(times))
    }

    /// The times at the start of the last success of `name`; `None` if there was none.
    ///
    /// # Errors
    /// The record cannot be read.
    pub(super) fn remembered(memory: &Memory, name: &str) -> Result<Option<Self>, Fault> {
        let record = memory.get(KIND, name).map_err(|error| Fault::new(format!("cannot remember mtimes: {error}")))?;
        Ok(record.and_then(|record| Self::decode(&record)))
    }

    /// Keeps these times as those of the last success.
    ///
    /// # Errors
    /// The record cannot be written.
    pub(super) fn remember(&self, memory: &Memory, name: &str) -> Result<(), Fault> {
        memory.put(KIND, name, &self.encode()).map_err(|error| Fault::new(format!("cannot keep mtimes: {error}")))
    }

    /// The first file that is newer than it was `then`, or was not there then.
    pub(super) fn newer_than(&self, then: &Self) -> Option<&Path> {
        let newer = |(path, time): &(&PathBuf, &Time)| then.0.get(*path).is_none_or(|then| *time > then);
        self.0.iter().find(newer).map(|(path, _)| path.as_path())
    }

    /// `SECONDS NANOSECONDS PATH`, each ended by a zero byte, which no path holds.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (path, (seconds, nanoseconds)) in &self.0 {
            bytes.extend_from_slice(format!("{seconds} {nanoseconds} ").as_bytes());
            bytes.extend_from_slice(path.as_os_str().as_bytes());
            bytes.push(0);
        }
        bytes
    }

    /// `None` if it is not what [`Self::encode`] writes, which counts as never succeeded.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut times = BTreeMap::new();
        for entry in bytes.split_inclusive(|byte| *byte == 0) {
            let mut parts = entry.strip_suffix(&[0])?.splitn(3, |byte| *byte == b' ');
            let mut number = || str::from_utf8(parts.next()?).ok()?.parse().ok();
            let time = (number()?, number()?);
            let path = std::ffi::OsString::from_vec(parts.next()?.to_vec());
            times.insert(PathBuf::from(path), time);
        }
        Some(Self(times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let times = Times(BTreeMap::from([(PathBuf::from("/a b"), (-1, 5)), (PathBuf::from("/c"), (9, 0))]));
        assert_eq!(Times::decode(&times.encode()), Some(times));
        assert_eq!(Times::decode(b""), Some(Times::default()));
        assert_eq!(Times::decode(b"1 2 /a"), None);
        assert_eq!(Times::decode(b"x 2 /a\0"), None);
    }

    #[test]
    fn newer_is_later_or_not_seen_before() {
        let at = |path: &str, time| Times(BTreeMap::from([(PathBuf::from(path), time)]));
        assert_eq!(at("/a", (5, 1)).newer_than(&at("/a", (5, 0))), Some(Path::new("/a")));
        assert_eq!(at("/a", (5, 0)).newer_than(&at("/a", (5, 0))), None);
        assert_eq!(at("/a", (4, 9)).newer_than(&at("/a", (5, 0))), None);
        assert_eq!(at("/a", (4, 9)).newer_than(&Times::default()), Some(Path::new("/a")));
        assert_eq!(Times::default().newer_than(&at("/a", (5, 0))), None);
    }
}
