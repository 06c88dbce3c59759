//! Where something stands: an entry of a directory, and the way to that directory.
//!
//! The directory of a path that this host's own graph names is found by its name: links on the way are this host's own.
//! A path that somebody else has named is confined to a directory, and its way is opened from there, by a call with
//! which the kernel follows no link and leaves nothing (`openat2`). From then on the path is an entry of that open
//! directory, whatever becomes of the names on the way.
//!
//! Promises: nothing is looked up, made, changed or removed at a confined path except through its way. A directory that is
//! moved elsewhere while it is open stays open: whoever may move it may do so a moment later, too, with all that is in it.
//! Mounts on the way are crossed: only root makes them. Must not know what is done there, nor why.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use mgmt_engine::resource::Fault;
use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, accessat, fstat, open, openat, openat2, stat,
    statat,
};
use rustix::io::Errno;

use super::attributes::kind;
use super::desired::Desired;
use super::never;

/// An entry of a directory: a name, relative to an open directory or absolute.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) at: BorrowedFd<'a>,
    pub(super) name: &'a Path,
    /// The whole path, for messages.
    pub(super) path: &'a Path,
    /// The path is confined.
    pub(super) confined: bool,
}

impl<'a> Place<'a> {
    /// By its absolute path.
    pub(super) fn absolute(path: &'a Path) -> Place<'a> {
        Place { at: CWD, name: path, path, confined: false }
    }

    pub(super) fn stat(self) -> Result<Stat, Errno> {
        statat(self.at, self.name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Opens what stands to be read. Not what a link points to, and nothing is waited for.
    pub(super) fn open(self, only: OFlags) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | only;
        openat(self.at, self.name, flags, Mode::empty())
    }

    /// Opens the directory that stands.
    pub(super) fn open_directory(self) -> Result<OwnedFd, Errno> {
        self.open(OFlags::DIRECTORY)
    }
}

/// How the directory of a path is reached.
#[derive(Debug)]
pub(super) enum Way {
    /// By its name.
    Named,
    /// Of a confined path: it is open. Whether it can be read is another question.
    Open(OwnedFd),
    /// Of a confined path: there is none, for this reason.
    Missing(Errno),
}

impl Way {
    /// The way as it is now. That there is none is no fault yet.
    pub(super) fn to(desired: &Desired) -> Result<Self, Fault> {
        Self::reach(desired).map_err(|error| refused(desired, error))
    }

    /// The same with the kernel's answer, for those who do not report it.
    pub(super) fn reach(desired: &Desired) -> Result<Self, Errno> {
        let Some(beneath) = desired.beneath.as_deref() else { return Ok(Self::Named) };
        let open = || {
            let (from, below) = (open_confines(beneath)?, between(beneath, &desired.parent));
            if below.as_os_str().is_empty() { Ok(from) } else { descend(&from, below) }
        };
        match open() {
            Ok(directory) => Ok(Self::Open(directory)),
            Err(error @ (Errno::NOENT | Errno::NOTDIR)) => Ok(Self::Missing(error)),
            Err(error) => Err(error),
        }
    }

    /// The way in a directory that has yet to be made.
    pub(super) fn ahead(desired: &Desired) -> Self {
        desired.beneath.as_ref().map_or(Self::Named, |_| Self::Missing(Errno::NOENT))
    }

    /// The path as an entry of its directory, if there is one.
    pub(super) fn entry<'a>(&'a self, desired: &'a Desired) -> Result<Place<'a>, Errno> {
        let path = &desired.path;
        match (self, path.file_name()) {
            (Self::Named, _) => Ok(Place::absolute(path)),
            (Self::Open(directory), Some(name)) => {
                Ok(Place { at: directory.as_fd(), name: Path::new(name), path, confined: true })
            }
            (Self::Open(_), None) => Err(Errno::NOENT),
            (Self::Missing(error), _) => Err(*error),
        }
    }

    /// The same, where it is a fault if there is none.
    pub(super) fn place<'a>(&'a self, desired: &'a Desired) -> Result<Place<'a>, Fault> {
        self.entry(desired).map_err(|error| match error {
            Errno::NOENT => absent(desired, &desired.parent),
            _ => no_directory(desired, &desired.parent),
        })
    }

    /// The directory itself, to be read or synced.
    pub(super) fn directory(&self, desired: &Desired) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match self {
            Self::Named => open(&desired.parent, flags, Mode::empty()),
            Self::Open(directory) => openat(directory, c".", flags, Mode::empty()),
            Self::Missing(error) => Err(*error),
        }
    }

    /// What the directory is, which may be none.
    pub(super) fn stat(&self, desired: &Desired) -> Result<Stat, Errno> {
        match self {
            Self::Named => stat(&desired.parent),
            Self::Open(directory) => fstat(directory),
            Self::Missing(error) => Err(*error),
        }
    }

    /// Whether entries can be made in the directory.
    pub(super) fn writable(&self, desired: &Desired) -> Result<(), Fault> {
        match self {
            Self::Named => writable(CWD, &desired.parent),
            Self::Open(directory) => writable(directory, Path::new(".")),
            Self::Missing(error) => Err(*error),
        }
        .map_err(|error| Fault::path("write into", &desired.parent, error))
    }

    /// The path with every link before its last part followed, as protected paths are compared with it. Below the
    /// directory that confines a path there are none.
    pub(super) fn resolved(desired: &Desired) -> PathBuf {
        let path = &desired.path;
        let Some(beneath) = desired.beneath.as_deref() else { return never::resolved(path) };
        match beneath.canonicalize() {
            Ok(directory) => directory.join(between(beneath, path)),
            Err(_) => path.clone(),
        }
    }
}

/// Opens the directory that confines a path. It and the way to it belong to this host, with any links that are there.
fn open_confines(beneath: &Path) -> Result<OwnedFd, Errno> {
    open(beneath, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Goes on from an open directory to one below it, through no link.
fn descend(from: &OwnedFd, below: &Path) -> Result<OwnedFd, Errno> {
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(from, below, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), within)
}

/// What a path adds to the directory that confines it.
fn between<'a>(beneath: &Path, path: &'a Path) -> &'a Path {
    // Built only if it lies below; if that ever failed to hold, no absolute path would be found beneath either.
    path.strip_prefix(beneath).unwrap_or(path)
}

/// How many of the directories above a path are missing, with a fault if they could not be made.
pub(super) fn missing_above(desired: &Desired) -> Result<usize, Fault> {
    let Some(beneath) = desired.beneath.as_deref() else { return missing_by_name(desired) };
    let from = open_confines(beneath).map_err(|error| match error {
        Errno::NOENT => absent(desired, beneath),
        error => Fault::path("open", beneath, error),
    })?;
    let confined = desired.path.ancestors().skip(1).take_while(|above| above.starts_with(beneath));
    for (missing, above) in confined.enumerate() {
        let below = if above == beneath { Path::new(".") } else { between(beneath, above) };
        match descend(&from, below) {
            Ok(directory) => {
                let writable = writable(directory, Path::new("."));
                return writable.map(|()| missing).map_err(|error| Fault::path("write into", above, error));
            }
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR) => return Err(no_directory(desired, above)),
            Err(error) => return Err(refused(desired, error)),
        }
    }
    Ok(0)
}

fn missing_by_name(desired: &Desired) -> Result<usize, Fault> {
    for (missing, above) in desired.path.ancestors().skip(1).enumerate() {
        match stat(above) {
            Ok(stat) if kind(&stat) == FileType::Directory => {
                let writable = writable(CWD, above);
                return writable.map(|()| missing).map_err(|error| Fault::path("write into", above, error));
            }
            Ok(_) => return Err(no_directory(desired, above)),
            Err(Errno::NOENT) if Place::absolute(above).stat().is_ok() => {
                let why = format!("{} is a symbolic link to nothing", above.display());
                return Err(Fault::path("create", &desired.path, why));
            }
            Err(Errno::NOENT) => {}
            Err(error) => return Err(Fault::path("create", &desired.path, error)),
        }
    }
    Ok(0)
}

/// Makes the missing directories above a path with `make`, and gives back the way.
pub(super) fn made(
    desired: &Desired,
    missing: usize,
    make: impl Fn(Place<'_>) -> Result<(), Fault>,
) -> Result<Way, Fault> {
    let above: Vec<&Path> = desired.path.ancestors().skip(1).take(missing).collect();
    let Some(beneath) = desired.beneath.as_deref() else {
        for directory in above.into_iter().rev() {
            make(Place::absolute(directory))?;
        }
        return Ok(Way::Named);
    };
    let mut directory = open_confines(beneath).map_err(|error| Fault::path("open", beneath, error))?;
    let mut path = beneath.to_path_buf();
    for name in between(beneath, &desired.parent) {
        path.push(name);
        let name = Path::new(name);
        if above.contains(&path.as_path()) {
            make(Place { at: directory.as_fd(), name, path: &path, confined: true })?;
        }
        directory = descend(&directory, name).map_err(|error| refused(desired, error))?;
    }
    Ok(Way::Open(directory))
}

fn writable(at: impl AsFd, directory: &Path) -> Result<(), Errno> {
    accessat(at, directory, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
}

/// The directory that a path needs does not exist.
pub(super) fn absent(desired: &Desired, directory: &Path) -> Fault {
    Fault::path("create", &desired.path, format!("its directory {} does not exist", directory.display()))
}

/// Something else stands where a path needs a directory.
pub(super) fn no_directory(desired: &Desired, above: &Path) -> Fault {
    Fault::path("create", &desired.path, format!("{} is not a directory", above.display()))
}

/// Why a confined path could not be reached, in words that say what to do.
fn refused(desired: &Desired, error: Errno) -> Fault {
    let Some(beneath) = desired.beneath.as_deref() else { return Fault::path("reach", &desired.path, error) };
    let why = match error {
        Errno::LOOP => {
            // By name, and only to name it: it may have gone by now.
            let parts = desired.path.ancestors().skip(1).take_while(|above| *above != beneath);
            let link = parts.filter(|above| above.is_symlink()).last();
            let link = link.map_or("something on the way".to_owned(), |link| link.display().to_string());
            format!(
                "{link} is a symbolic link, which could lead out of {}; put a directory in its place",
                beneath.display()
            )
        }
        Errno::XDEV => format!("it leads out of {}", beneath.display()),
        Errno::NOSYS => {
            format!("nothing can be confined below {} without openat2, which Linux has since 5.6", beneath.display())
        }
        error => error.to_string(),
    };
    Fault::path("reach", &desired.path, why)
}
