//! Removal of a whole subtree, without following a link or crossing into another file system.
//!
//! Promises: a mount point anywhere inside makes the removal fail before anything is removed. Must not know what is
//! protected: that has been asked before.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use mgmt_engine::resource::{Fault, Stop, Urgency};
use rustix::fs::{Access, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, accessat, openat2, statat, unlinkat};
use rustix::io::Errno;

use super::attributes::kind;
use super::never::is_mount;

/// How deep trees may be: each level holds a descriptor and a stack frame.
pub(super) const DEPTH_MAX: usize = 200;

/// Opens a directory that is an entry of `at`, on the same file system and not through a link.
pub(crate) fn open_inside(at: impl AsFd, name: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let within =
        ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(at, name, flags, Mode::empty(), within)
}

/// The names in a directory, sorted.
pub(super) fn names(directory: &OwnedFd) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_os_string());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether something is mounted inside (or at) an entry that is to be removed. Fails where something inside could not be
/// taken out of its directory.
pub(super) fn holds_mount(at: impl AsFd, name: &OsStr, depth: usize) -> Result<bool, Errno> {
    if is_mount(&at, name)? {
        return Ok(true);
    }
    let stat = statat(&at, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if kind(&stat) != FileType::Directory {
        return Ok(false);
    }
    if depth > DEPTH_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    let directory = match open_inside(&at, Path::new(name)) {
        Err(Errno::XDEV) => return Ok(true),
        other => other?,
    };
    let names = names(&directory)?;
    if !names.is_empty() {
        accessat(&directory, c".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?;
    }
    for name in names {
        if holds_mount(&directory, &name, depth + 1)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes an entry and everything below it. `path` is for messages.
pub(crate) fn remove(at: impl AsFd, name: &OsStr, path: &Path, stop: &Stop) -> Result<(), Fault> {
    match holds_mount(&at, name, 0) {
        Ok(false) => remove_inside(&at, name, path, stop, 0),
        Ok(true) => Err(Fault::path("remove", path, "something is mounted there or below")),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(Fault::path("remove", path, error)),
    }
}

fn remove_inside(at: &impl AsFd, name: &OsStr, path: &Path, stop: &Stop, depth: usize) -> Result<(), Fault> {
    if stop.urgency() != Urgency::None {
        return Err(Fault::path("remove", path, "told to stop"));
    }
    // Asked before for the whole tree, which others may have moved a deeper one into since.
    if depth > DEPTH_MAX {
        return Err(Fault::path("remove", path, format!("deeper than {DEPTH_MAX} directories")));
    }
    let fault = |error| Fault::path("remove", path, error);
    match unlinkat(at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux says the first for a directory, POSIX the second.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(fault(error)),
    }
    let directory = match open_inside(at, Path::new(name)) {
        Ok(directory) => directory,
        // No directory after all: unlinking it was refused for the reason it gave.
        Err(Errno::NOTDIR | Errno::LOOP) => return Err(fault(Errno::PERM)),
        Err(error) => return Err(fault(error)),
    };
    for inside in names(&directory).map_err(fault)? {
        remove_inside(&directory, &inside, &path.join(&inside), stop, depth + 1)?;
    }
    match unlinkat(at, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(fault(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_that_grew_since_it_was_looked_at_does_not_take_the_stack() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d");
        std::fs::create_dir_all((0..DEPTH_MAX + 50).fold(path.clone(), |path, _| path.join("d"))).unwrap();
        let at: OwnedFd = std::fs::File::open(directory.path()).unwrap().into();
        let removed = remove_inside(&at, OsStr::new("d"), &path, &Stop::never(), 0);
        assert!(removed.unwrap_err().to_string().contains("deeper than"));
    }
}
