//! The file on disk to bytes, without ever waiting for it or filling the memory.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use super::BYTES_MAX;
use crate::diagnostic::Problem;

/// What helps when a file is too much.
pub(super) const LONG_CONTENTS: &str = "long contents belong in a file of their own, named by `source`";

/// Reads a graph file, or standard input if the path is `-`.
///
/// Answers at once: a pipe or device is refused instead of waited for, and a file that is too big is not read.
///
/// # Errors
/// The file is missing, not readable, not a regular file, or too big.
pub fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    if path.as_os_str() == "-" {
        return take(io::stdin().lock(), 0);
    }
    // Without NONBLOCK, opening a pipe that nobody writes to waits for ever. Regular files do not care.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(Problem::error(None, "", "is a directory, not a graph file"));
    }
    if !metadata.is_file() {
        return Err(Problem::error(None, "", "is not a regular file"));
    }
    if metadata.len() > BYTES_MAX as u64 {
        return Err(too_big());
    }
    take(file, metadata.len() as usize)
}

/// Reads to the end, but never more than is allowed: the file may grow while it is read.
fn take(source: impl Read, expected: usize) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::with_capacity(expected + 1);
    source.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > BYTES_MAX { Err(too_big()) } else { Ok(bytes) }
}

/// The file has more bytes than allowed.
pub(super) fn too_big() -> Problem {
    Problem::error(None, "", format!("is bigger than {} MiB", BYTES_MAX >> 20)).hint(LONG_CONTENTS.to_owned())
}

fn unreadable(error: io::Error) -> Problem {
    let message = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
        io::ErrorKind::NotADirectory => "a part of its path is not a directory".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    Problem::error(None, "", message)
}
