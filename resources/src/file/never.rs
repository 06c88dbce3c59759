//! What is never removed, whoever asks: the root directory, mount points, what lies on another file system, and the
//! paths that the program itself needs. Must not know why something is to be removed.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use mgmt_engine::resource::Fault;
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;

use super::place::Place;

/// The protected paths, as they are written and as they resolve.
#[derive(Debug)]
pub(super) struct Never(Vec<PathBuf>);

/// How a path relates to a protected one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Relation<'a> {
    /// Not at all.
    Free,
    /// This one lies below it.
    Above(&'a Path),
    /// It is this one, or lies below it.
    Inside(&'a Path),
}

/// Whether one of two paths lies below the other, or both are the same.
pub(super) fn touches(path: &Path, protected: &Path) -> bool {
    path.starts_with(protected) || protected.starts_with(path)
}

impl Never {
    pub(super) fn of(protected: &[PathBuf]) -> Self {
        let mut all = protected.to_vec();
        all.extend(protected.iter().filter_map(|path| path.canonicalize().ok()));
        Self(all)
    }

    /// How a path relates to the protected ones. `path` has no symbolic link before its last part.
    pub(super) fn relation(&self, path: &Path) -> Relation<'_> {
        let mut relation = Relation::Free;
        for protected in &self.0 {
            if path.starts_with(protected) {
                return Relation::Inside(protected);
            }
            if protected.starts_with(path) {
                relation = Relation::Above(protected);
            }
        }
        relation
    }

    /// Fails for a path that must stay. `resolved` is the path with every symbolic link before its last part followed.
    pub(super) fn removable(&self, place: Place<'_>, resolved: &Path) -> Result<(), Fault> {
        let path = place.path;
        if resolved.parent().is_none() {
            return Err(Fault::path("remove", path, "it is the root directory"));
        }
        for spelling in [path, resolved] {
            match self.relation(spelling) {
                Relation::Free => {}
                Relation::Above(protected) | Relation::Inside(protected) => {
                    let why = format!("{} must stay, because this program lives by it", protected.display());
                    return Err(Fault::path("remove", path, why));
                }
            }
        }
        match is_mount(place.at, place.name.as_os_str()) {
            Ok(false) | Err(Errno::NOENT) => Ok(()),
            Ok(true) => Err(Fault::path("remove", path, "it is a mount point")),
            Err(error) => Err(Fault::path("look at", path, error)),
        }
    }
}

/// The path with every symbolic link before its last part followed.
pub(super) fn resolved(path: &Path) -> PathBuf {
    match (path.parent().and_then(|parent| parent.canonicalize().ok()), path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path.to_path_buf(),
    }
}

/// Whether something is mounted exactly here.
pub(super) fn is_mount(at: impl AsFd, name: &OsStr) -> Result<bool, Errno> {
    let stat = statx(at, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::TYPE)?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}
