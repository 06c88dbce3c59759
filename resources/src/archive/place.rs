//! The directory that an archive is unpacked to: what stands there, by the mark in it, and how another one takes its
//! place, whole or not at all.
//!
//! Promises: at every instant the old directory stands or the new one; what is left of an unpacking that was interrupted
//! is found again and removed; a directory with files that no archive has brought is not removed unasked.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use mgmt_engine::resource::{Fault, Stop};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, open, openat, renameat_with};
use rustix::io::Errno;

use super::MARK;
use crate::checksum::{Checksum, Sum};
use crate::file;

/// The first line of a mark.
const TITLE: &str = "mgmt archive 1";
/// A mark has a quarter of it.
const MARK_BYTES_MAX: usize = 4096;

/// What a mark says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// Of the archive that was unpacked.
    pub(super) checksum: Checksum,
    /// What told that archive from others without reading it.
    pub(super) stamp: String,
    /// How it was unpacked.
    pub(super) manner: String,
}

/// What stands at the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    Nothing,
    Empty,
    /// A directory that was unpacked from an archive.
    Marked(Mark),
    /// A directory with other files.
    Foreign,
    /// No directory.
    Other,
}

impl Mark {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(TITLE) {
            return None;
        }
        let mut next = |key: &str| Some(lines.next()?.strip_prefix(key)?.strip_prefix(' ')?.to_owned());
        let checksum = Checksum::parse(&next("sha256")?).ok()?;
        Some(Self { checksum, stamp: next("stamp")?, manner: next("manner")? })
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { checksum, stamp, manner } = self;
        write!(f, "{TITLE}\nsha256 {checksum}\nstamp {stamp}\nmanner {manner}\n")
    }
}

/// Looks at what stands.
pub(super) fn standing(path: &Path) -> Result<Standing, Fault> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Ok(Standing::Other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Standing::Nothing),
        Err(error) => return Err(Fault::path("look at", path, error)),
    }
    let mark = path.join(MARK);
    match fs::symlink_metadata(&mark) {
        Ok(found) if found.is_file() && found.len() <= MARK_BYTES_MAX as u64 => {
            let text = fs::read_to_string(&mark).map_err(|error| Fault::path("read", &mark, error))?;
            Ok(Mark::parse(&text).map_or(Standing::Foreign, Standing::Marked))
        }
        Ok(_) => Ok(Standing::Foreign),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut names = fs::read_dir(path).map_err(|error| Fault::path("read", path, error))?;
            Ok(if names.next().is_none() { Standing::Empty } else { Standing::Foreign })
        }
        Err(error) => Err(Fault::path("look at", &mark, error)),
    }
}

/// Where it is unpacked first: beside the path, and always at the same place, so that it is found again.
pub(super) fn workshop(path: &Path) -> PathBuf {
    let mut sum = Sum::default();
    sum.add(path.as_os_str().as_encoded_bytes());
    let sum = sum.done().to_string();
    path.with_file_name(format!(".mgmt-unpack-{}", &sum[..16]))
}

/// A directory in the making. Dropped, it is removed; its lock says that its maker lives.
#[derive(Debug)]
pub(super) struct Workshop {
    path: PathBuf,
    directory: OwnedFd,
}

impl Workshop {
    /// An empty one. What an earlier unpacking has left is removed.
    pub(super) fn open(path: PathBuf, stop: &Stop) -> Result<Self, Fault> {
        clear(&path, stop)?;
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| Fault::path("create", &path, error))?;
        let directory = locked(&path)?;
        Ok(Self { path, directory })
    }

    pub(super) fn directory(&self) -> Result<OwnedFd, Fault> {
        self.directory.try_clone().map_err(|error| Fault::path("open", &self.path, error))
    }

    /// Leaves a mark in it.
    pub(super) fn mark(&self, mark: &Mark) -> Result<(), Fault> {
        let fault = |error: io::Error| Fault::path("write", &self.path.join(MARK), error);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            openat(&self.directory, MARK, flags, Mode::from_raw_mode(0o644)).map_err(|error| fault(error.into()))?;
        io::Write::write_all(&mut fs::File::from(file), mark.to_string().as_bytes()).map_err(fault)
    }

    /// Puts it in the place of what stands, which is then here, and removed with this.
    pub(super) fn take_place(&self, path: &Path, replaces: bool) -> Result<(), Fault> {
        let flags = if replaces { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        renameat_with(CWD, &self.path, CWD, path, flags).map_err(|error| match error {
            Errno::INVAL | Errno::NOSYS if replaces => {
                Fault::path("replace", path, "this file system cannot exchange two directories; remove the old one")
            }
            Errno::BUSY | Errno::XDEV => Fault::path("replace", path, format!("is it a mount point? ({error})")),
            error => Fault::path("replace", path, error),
        })
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // It is the new one, if that has no other name yet, or else the old one.
        if let Err(fault) = remove(&self.path, &Stop::never()) {
            tracing::warn!("{fault}; it is removed with the next unpacking");
        }
    }
}

/// Removes what an interrupted unpacking has left.
pub(super) fn clear(path: &Path, stop: &Stop) -> Result<(), Fault> {
    match locked(path) {
        Ok(_locked) => remove(path, stop),
        Err(_) if !path.exists() => Ok(()),
        Err(fault) => Err(fault),
    }
}

/// Opens the directory, with a lock on it.
fn locked(path: &Path) -> Result<OwnedFd, Fault> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = open(path, flags, Mode::empty()).map_err(|error| Fault::path("open", path, error))?;
    match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Fault::path("unpack in", path, "another process does")),
        // A file system without locks has no other process either, as far as can be told.
        _ => Ok(directory),
    }
}

fn remove(path: &Path, stop: &Stop) -> Result<(), Fault> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = open(parent, flags, Mode::empty()).map_err(|error| Fault::path("open", parent, error))?;
    file::remove_tree(parent, name, path, stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_is_written_and_only_whole() {
        let mark = Mark {
            checksum: Checksum::read(&b"x"[..]).unwrap(),
            stamp: "1 2 3 4.5 6.7".into(),
            manner: "strip=1 owner= group=app".into(),
        };
        let text = mark.to_string();
        assert_eq!(Mark::parse(&text), Some(mark));
        for end in 0..text.len() - 1 {
            assert_ne!(Mark::parse(&text[..end]), Mark::parse(&text), "{end}");
        }
    }
}
