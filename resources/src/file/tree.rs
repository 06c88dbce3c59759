//! The members of a managed directory: compared with a source tree, and with what may stay when it is purged.
//!
//! Promises: comparing writes nothing; no symbolic link below the two roots is followed; other file systems below the
//! managed root are left alone. Must not know about the directory itself: that is one level up.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use mgmt_engine::resource::Fault;
use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, Stat, accessat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::attributes::{Ids, alone, bits, kept_bits, kind, may_own};
use super::contents::Stream;
use super::never::{Never, Relation, is_mount};
use super::place::Place;
use super::remove::{DEPTH_MAX, holds_mount, names, open_inside};
use super::strays::is_temporary;

/// One thing to do below the managed directory. Steps are in an order in which they can be done.
#[derive(Debug)]
pub(super) struct Step {
    /// Relative to the managed directory.
    pub(super) at: PathBuf,
    pub(super) action: Action,
    /// Something stands in the way and is removed first.
    pub(super) clear: bool,
}

/// What a step does.
#[derive(Debug)]
pub(super) enum Action {
    /// Makes a directory with these permission bits.
    Directory(u32),
    /// Writes a file like the source's; with these bits, or in place of this one.
    Copy { mode: u32, replaces: Option<Stat> },
    /// Makes a symbolic link with this text.
    Link(PathBuf),
    /// Gives what stands its owner and group.
    Own,
    /// Removes what nobody manages.
    Remove,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &self.action {
            _ if self.clear => "is of another type",
            Action::Directory(_) | Action::Copy { replaces: None, .. } => "missing",
            Action::Copy { .. } | Action::Link(_) => "differs",
            Action::Own => "has another owner or group",
            Action::Remove => "is not managed",
        };
        write!(f, "{} {what}", self.at.display())
    }
}

/// What is compared with what.
pub(super) struct Comparison<'a> {
    /// The managed directory.
    pub(super) root: &'a Path,
    /// The same with links resolved, as protected paths are compared with it.
    pub(super) resolved: PathBuf,
    /// It is confined, and so are its members.
    pub(super) confined: bool,
    pub(super) source: Option<&'a Path>,
    pub(super) ids: Ids,
    pub(super) force: bool,
    pub(super) purge: bool,
    pub(super) managed: &'a BTreeSet<PathBuf>,
    /// Directories among these whose members are somebody else's as well.
    pub(super) trees: &'a BTreeSet<PathBuf>,
    pub(super) never: &'a Never,
    /// Say which members of the source cannot be copied.
    pub(super) warn: bool,
    pub(super) steps: Vec<Step>,
}

impl Comparison<'_> {
    /// Fills in the steps. `standing` is the managed directory, if it exists.
    pub(super) fn compare(&mut self, standing: Option<&OwnedFd>) -> Result<(), Fault> {
        let source = match self.source {
            None => None,
            Some(path) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let opened = rustix::fs::open(path, flags, Mode::empty());
                Some(opened.map_err(|error| Fault::path("read source", path, error))?)
            }
        };
        self.walk(Path::new(""), source.as_ref(), standing, 0)
    }

    fn walk(
        &mut self,
        at: &Path,
        source: Option<&OwnedFd>,
        standing: Option<&OwnedFd>,
        depth: usize,
    ) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::path("compare", &self.root.join(at), format!("deeper than {DEPTH_MAX} directories")));
        }
        let before = self.steps.len();
        let mut wanted: Vec<OsString> = Vec::new();
        if let Some(source) = source {
            wanted = names(source).map_err(|error| self.source_fault(at, error))?;
            wanted.retain(|name| !is_temporary(name));
            for name in &wanted {
                self.member(&at.join(name), name, source, standing, depth)?;
            }
        }
        if let (true, Some(standing)) = (self.purge, standing) {
            for name in names(standing).map_err(|error| Fault::path("read", &self.root.join(at), error))? {
                if wanted.binary_search(&name).is_err() && !is_temporary(&name) {
                    self.surplus(&at.join(&name), &name, standing, depth)?;
                }
            }
        }
        match standing {
            Some(standing) if self.steps[before..].iter().any(|step| step.at.parent() == Some(at)) => {
                accessat(standing, c".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
                    .map_err(|error| Fault::path("write into", &self.root.join(at), error))
            }
            _ => Ok(()),
        }
    }

    /// Compares one member of the source with what stands in its place.
    fn member(
        &mut self,
        at: &Path,
        name: &OsStr,
        source: &OwnedFd,
        standing: Option<&OwnedFd>,
        depth: usize,
    ) -> Result<(), Fault> {
        let wanted = statat(source, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| self.source_fault(at, error))?;
        let path = self.root.join(at);
        let found = match standing.map(|directory| statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)) {
            None | Some(Err(Errno::NOENT)) => None,
            Some(Ok(stat)) => Some(stat),
            Some(Err(error)) => return Err(Fault::path("look at", &path, error)),
        };
        let before = self.steps.len();
        match kind(&wanted) {
            // Once it stands, whoever copies its members decides what is in it.
            FileType::Directory if found.is_some() && self.trees.contains(&path) => return Ok(()),
            FileType::Directory => return self.directory(at, name, source, standing, (&wanted, found.as_ref()), depth),
            // Whoever else manages this path decides what it is.
            _ if self.managed.contains(&path) => return Ok(()),
            FileType::RegularFile => self.file(at, name, source, standing, (&wanted, found.as_ref()))?,
            FileType::Symlink => self.link(at, name, source, standing, found.as_ref())?,
            other => {
                if self.warn {
                    let place = self.source.map(|source| source.join(at)).unwrap_or_default();
                    tracing::warn!(
                        "{} is not copied: it is neither file, directory nor link ({other:?})",
                        place.display()
                    );
                }
                return Ok(());
            }
        }
        if self.steps.len() == before {
            self.owner(at, found.as_ref())?;
        }
        Ok(())
    }

    fn directory(
        &mut self,
        at: &Path,
        name: &OsStr,
        source: &OwnedFd,
        standing: Option<&OwnedFd>,
        (wanted, found): (&Stat, Option<&Stat>),
        depth: usize,
    ) -> Result<(), Fault> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let inner = openat(source, name, flags, Mode::empty()).map_err(|error| self.source_fault(at, error))?;
        let is_directory = found.is_some_and(|stat| kind(stat) == FileType::Directory);
        if !is_directory {
            let clear = self.cleared(at, name, standing, found, true)?;
            self.push(at, Action::Directory(bits(wanted)), clear);
            return self.walk(at, Some(&inner), None, depth + 1);
        }
        let Some(standing) = standing else { unreachable!("something was found in it") };
        match open_inside(standing, Path::new(name)) {
            Ok(directory) => {
                self.owner(at, found)?;
                self.walk(at, Some(&inner), Some(&directory), depth + 1)
            }
            Err(Errno::XDEV) => Err(Fault::path("copy into", &self.root.join(at), "it is on another file system")),
            Err(error) => Err(Fault::path("open", &self.root.join(at), error)),
        }
    }

    fn file(
        &mut self,
        at: &Path,
        name: &OsStr,
        source: &OwnedFd,
        standing: Option<&OwnedFd>,
        (wanted, found): (&Stat, Option<&Stat>),
    ) -> Result<(), Fault> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // Opened even if it is missing: what cannot be read could not be copied.
        let theirs: File =
            openat(source, name, flags, Mode::empty()).map_err(|error| self.source_fault(at, error))?.into();
        if let (Some(stat), Some(directory)) = (found, standing)
            && kind(stat) == FileType::RegularFile
        {
            let path = self.root.join(at);
            let mine =
                openat(directory, name, flags, Mode::empty()).map_err(|error| Fault::path("read", &path, error))?;
            if stat.st_size == wanted.st_size && Stream::Open(&theirs).equals(&mine.into(), &path)? {
                return Ok(());
            }
            may_own(&path, self.ids.or(stat), None)?;
            self.push(at, Action::Copy { mode: kept_bits(self.ids, stat), replaces: Some(*stat) }, false);
            return Ok(());
        }
        let clear = self.cleared(at, name, standing, found, false)?;
        self.push(at, Action::Copy { mode: bits(wanted) & 0o777, replaces: None }, clear);
        Ok(())
    }

    fn link(
        &mut self,
        at: &Path,
        name: &OsStr,
        source: &OwnedFd,
        standing: Option<&OwnedFd>,
        found: Option<&Stat>,
    ) -> Result<(), Fault> {
        let target = link_text(source, name).map_err(|error| self.source_fault(at, error))?;
        if let (Some(stat), Some(directory)) = (found, standing)
            && kind(stat) == FileType::Symlink
            && link_text(directory, name).map_err(|error| Fault::path("read", &self.root.join(at), error))? == target
        {
            return Ok(());
        }
        let clear = self.cleared(at, name, standing, found, false)?;
        self.push(at, Action::Link(target), clear);
        Ok(())
    }

    /// Whether something has to be removed before; fails if it must not be. A file or link that is replaced by one is
    /// renamed over, and nothing has to go.
    fn cleared(
        &self,
        at: &Path,
        name: &OsStr,
        standing: Option<&OwnedFd>,
        found: Option<&Stat>,
        for_directory: bool,
    ) -> Result<bool, Fault> {
        let (Some(found), Some(standing)) = (found, standing) else { return Ok(false) };
        let path = self.root.join(at);
        let replaceable = matches!(kind(found), FileType::RegularFile | FileType::Symlink);
        if replaceable && !for_directory {
            return Ok(false);
        }
        if !self.force {
            return Err(Fault::path(
                "replace",
                &path,
                "something of another type stands there; force would replace it",
            ));
        }
        let place = Place { at: standing.as_fd(), name: Path::new(name), path: &path, confined: self.confined };
        self.never.removable(place, &self.resolved.join(at))?;
        let manages = self.managed.contains(&path) || manages_below(self.managed, &path);
        if manages || holds_mount(standing, name, 0).map_err(|error| Fault::path("look below", &path, error))? {
            return Err(Fault::path("replace", &path, "a mount point or another resource's path lies there"));
        }
        Ok(true)
    }

    /// An entry that the source does not have.
    fn surplus(&mut self, at: &Path, name: &OsStr, standing: &OwnedFd, depth: usize) -> Result<(), Fault> {
        let path = self.root.join(at);
        let fault = |error| Fault::path("look at", &path, error);
        let protected = match self.never.relation(&self.resolved.join(at)) {
            Relation::Inside(_) => return Ok(()),
            Relation::Above(_) => true,
            Relation::Free => false,
        };
        let stat = match statat(standing, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(fault)?,
        };
        if is_mount(standing, name).map_err(fault)? {
            return Ok(());
        }
        let stays = protected || self.managed.contains(&path) || manages_below(self.managed, &path);
        if !stays && !holds_mount(standing, name, 0).map_err(fault)? {
            self.push(at, Action::Remove, false);
            return Ok(());
        }
        if kind(&stat) != FileType::Directory || self.trees.contains(&path) {
            return Ok(());
        }
        // It stays because of something inside; what else is inside does not.
        match open_inside(standing, Path::new(name)) {
            Ok(directory) => self.walk(at, None, Some(&directory), depth + 1),
            Err(Errno::XDEV) => Ok(()),
            Err(error) => Err(fault(error)),
        }
    }

    /// Members get the owner and group of their directory where these are managed.
    fn owner(&mut self, at: &Path, found: Option<&Stat>) -> Result<(), Fault> {
        let path = self.root.join(at);
        if let Some(stat) = found
            && !self.ids.unlike(stat).is_empty()
            && !self.managed.contains(&path)
        {
            may_own(&path, self.ids, Some(stat))?;
            alone(self.confined, &path, stat)?;
            self.push(at, Action::Own, false);
        }
        Ok(())
    }

    fn push(&mut self, at: &Path, action: Action, clear: bool) {
        self.steps.push(Step { at: at.to_path_buf(), action, clear });
    }

    fn source_fault(&self, at: &Path, error: Errno) -> Fault {
        Fault::path("read source", &self.source.unwrap_or(self.root).join(at), error)
    }
}

fn link_text(directory: &OwnedFd, name: &OsStr) -> Result<PathBuf, Errno> {
    let text = readlinkat(directory, name, Vec::new())?;
    Ok(PathBuf::from(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(text.to_bytes())))
}

/// Whether one of the managed paths lies below this one.
fn manages_below(managed: &BTreeSet<PathBuf>, path: &Path) -> bool {
    managed.range(path.to_path_buf()..).take_while(|at| at.starts_with(path)).any(|at| at != path)
}
