//! What is mounted where. The kernel tells that the table has changed, not how; inotify tells nothing at all when a
//! directory is mounted over.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The mount table of the process, as last read.
#[derive(Debug)]
pub(super) struct Mounts {
    file: File,
    /// Mount points with the identity of what is mounted there.
    known: BTreeSet<(PathBuf, u64)>,
}

impl Mounts {
    /// Opens and reads the table. Where there is no `/proc`, mounts go unseen.
    pub(super) fn open() -> io::Result<Self> {
        let mut mounts = Self { file: File::open("/proc/self/mountinfo")?, known: BTreeSet::new() };
        mounts.changed()?;
        Ok(mounts)
    }

    /// Reads the table again and hands out the points where something else is mounted now.
    pub(super) fn changed(&mut self) -> io::Result<BTreeSet<PathBuf>> {
        let mut text = Vec::new();
        self.file.rewind()?;
        self.file.read_to_end(&mut text)?;
        let now: BTreeSet<_> = text.split(|byte| *byte == b'\n').filter_map(parse).collect();
        let changed = now.symmetric_difference(&self.known).map(|(point, _)| point.clone()).collect();
        self.known = now;
        Ok(changed)
    }
}

impl AsFd for Mounts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// `36 35 98:0 /root /point options…`: the first and the fifth field.
fn parse(line: &[u8]) -> Option<(PathBuf, u64)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    Some((PathBuf::from(OsString::from_vec(unescape(fields.nth(3)?))), id))
}

/// Spaces, tabs, line ends and backslashes are written as a backslash and three octal digits.
pub(crate) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok();
        match (first, tail.get(..3).and_then(octal)) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                rest = &tail[3..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_escapes_is_understood() {
        let line = br"36 35 98:0 /mnt1 /mnt/a\040b\134c rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(parse(line), Some((PathBuf::from(r"/mnt/a b\c"), 36)));
        assert_eq!(parse(b""), None);
        assert_eq!(unescape(br"a\9"), br"a\9".to_vec());
    }
}
