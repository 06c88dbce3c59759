//! The atomic writer: contents go into a temporary file beside the target, get their final owner, mode, ACL and
//! attributes there, and are renamed over the target.
//!
//! Promises: at every instant the old version stands or the new one, whole and with its final owner and mode; a
//! temporary file that was not placed is removed. Must not know why something is written, nor what else stands around.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use mgmt_engine::resource::{Fault, Stop};
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, Stat, fchmod, fchown, flock, fstat, openat, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::attributes::{self, Ids};
use super::contents::Stream;
use super::place::Place;
use super::strays;

/// What a new version shall be.
pub(super) struct Version<'a> {
    pub(super) stream: Option<&'a Stream<'a>>,
    /// Final permission bits.
    pub(super) mode: u32,
    pub(super) ids: Ids,
    /// The regular file it replaces, whose ACL and extended attributes it keeps.
    pub(super) replaces: Option<&'a Stat>,
}

/// A file under a temporary name. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct Temporary<'a> {
    at: BorrowedFd<'a>,
    name: PathBuf,
    /// `None` for a symbolic link.
    pub(super) file: Option<File>,
    pub(super) length: u64,
    placed: bool,
}

impl<'a> Temporary<'a> {
    /// A whole new version, ready to be placed.
    pub(super) fn written(place: Place<'a>, version: &Version<'_>, stop: &Stop) -> Result<Self, Fault> {
        let mut temporary = Self::create(place)?;
        let Some(file) = &temporary.file else { unreachable!("create opens a file") };
        if let Some(stream) = version.stream {
            temporary.length = stream.write(file, place.path, stop)?;
        }
        // The owner comes first, because a new owner takes the set-uid bit away.
        if !version.ids.is_empty() {
            let new = fstat(file).map_err(|e| Fault::path("look at", place.path, e))?;
            let unlike = version.ids.unlike(&new);
            if !unlike.is_empty() {
                fchown(file, unlike.uid(), unlike.gid()).map_err(|e| Fault::path("set the owner of", place.path, e))?;
            }
        }
        if version.replaces.is_some() {
            attributes::keep_extended(place, file)?;
        }
        fchmod(file, Mode::from_raw_mode(version.mode)).map_err(|e| Fault::path("set the mode of", place.path, e))?;
        Ok(temporary)
    }

    /// An empty file that nobody else may open, locked for as long as this lives: the lock says that its writer does.
    fn create(place: Place<'a>) -> Result<Self, Fault> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let name = place.name.with_file_name(strays::name());
            let file: File = match openat(place.at, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => file.into(),
                // Left behind by an earlier process of our number: take the next name.
                Err(Errno::EXIST | Errno::INTR) => continue,
                Err(error) => return Err(Fault::path("create a temporary file beside", place.path, error)),
            };
            let temporary = Self { at: place.at, name, file: Some(file), length: 0, placed: false };
            let locked = temporary.file.as_ref().map(|file| flock(file, FlockOperation::NonBlockingLockExclusive));
            match locked {
                // Another process took it for a stray in the instant before it was locked.
                Some(Err(Errno::WOULDBLOCK)) => {}
                // Or that other process has locked, removed and left it before we asked.
                Some(Ok(())) if temporary.is_gone() => {}
                // A file system without locks: strays there are never removed, because theirs cannot be taken either.
                _ => return Ok(temporary),
            }
        }
    }

    fn is_gone(&self) -> bool {
        self.file.as_ref().is_some_and(|file| fstat(file).is_ok_and(|stat| stat.st_nlink == 0))
    }

    /// A symbolic link, ready to be placed.
    pub(super) fn link(place: Place<'a>, target: &Path, ids: Ids) -> Result<Self, Fault> {
        let name = loop {
            let name = place.name.with_file_name(strays::name());
            match symlinkat(target, place.at, &name) {
                Ok(()) => break name,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(Fault::path("create a symbolic link beside", place.path, error)),
            }
        };
        let temporary = Self { at: place.at, name, file: None, length: 0, placed: false };
        if !ids.is_empty() {
            rustix::fs::chownat(place.at, &temporary.name, ids.uid(), ids.gid(), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| Fault::path("set the owner of", place.path, error))?;
        }
        Ok(temporary)
    }

    /// Renames it over the target; gives back the file, if it is one.
    pub(super) fn place(mut self, place: Place<'_>) -> Result<Option<File>, Fault> {
        renameat(self.at, &self.name, place.at, place.name).map_err(|error| refused(place.path, error))?;
        self.placed = true;
        let file = self.file.take();
        if let Some(file) = &file {
            // Whoever opens the file from now on must not find our lock on it.
            if let Err(error) = flock(file, FlockOperation::Unlock) {
                tracing::debug!("cannot unlock {}: {error}", place.path.display());
            }
        }
        Ok(file)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if self.placed {
            return;
        }
        if let Err(error) = unlinkat(self.at, &self.name, AtFlags::empty())
            && error != Errno::NOENT
        {
            tracing::warn!("cannot remove the temporary file {}: {error}", self.name.display());
        }
    }
}

/// Why a rename was refused, in words that say what to do.
fn refused(path: &Path, error: Errno) -> Fault {
    match error {
        Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST => {
            Fault::path("replace", path, "a directory stands there; force would replace it")
        }
        Errno::XDEV => {
            Fault::path("replace", path, "it is a mount point, or on another file system than its directory")
        }
        Errno::BUSY => Fault::path("replace", path, "it is a mount point, or in use by the kernel"),
        Errno::PERM => {
            Fault::path("replace", path, "not permitted: it, or its directory, is immutable or sticky (see lsattr)")
        }
        error => Fault::path("replace", path, error),
    }
}
