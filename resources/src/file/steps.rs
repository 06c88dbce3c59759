//! Carries out what a comparison of trees has found, step by step, each relative to an open directory.
//!
//! Promises: never follows a symbolic link below the managed directory nor leaves its file system; each file is whole at
//! every instant. Must not know how the steps were found.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use mgmt_engine::resource::{Fault, Stop, Urgency};
use rustix::fs::{FileType, Mode, OFlags, Stat, fdatasync, fstat, mkdirat, openat};
use rustix::io::Errno;

use super::attributes::{self, kept_bits, kind};
use super::contents::Stream;
use super::desired::Want;
use super::drift::Drift;
use super::never::{Never, Relation};
use super::place::{Place, Way};
use super::remove::{open_inside, remove};
use super::strays;
use super::tree::{Action, Step};
use super::write::{Temporary, Version};

/// The directory that the present step works in. Steps of one directory follow each other.
struct Inside {
    at: PathBuf,
    directory: OwnedFd,
}

/// Carries out all steps; `keep_good`: sync a new version before it replaces one that may be good.
pub(super) fn carry_out(
    drift: &Drift,
    place: Place<'_>,
    never: &Never,
    keep_good: bool,
    stop: &Stop,
) -> Result<(), Fault> {
    let root = &drift.desired.path;
    let root_fd = place.open_directory().map_err(|error| Fault::path("open", root, error))?;
    let resolved = Way::resolved(&drift.desired);
    let mut inside: Option<Inside> = None;
    for step in &drift.steps {
        if stop.urgency() != Urgency::None {
            return Err(Fault::path("put right", root, "told to stop; the rest follows at the next start"));
        }
        let path = root.join(&step.at);
        let parent = step.at.parent().unwrap_or(Path::new(""));
        if inside.as_ref().is_none_or(|inside| inside.at != parent) {
            let below = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            let directory =
                open_inside(&root_fd, below).map_err(|error| Fault::path("open", &root.join(parent), error))?;
            if !drift.desired.slow {
                strays::clean(&root.join(parent), || Ok(&directory));
            }
            inside = Some(Inside { at: parent.to_path_buf(), directory });
        }
        let Some(Inside { directory, .. }) = &inside else { unreachable!("opened above") };
        let removes = step.clear || matches!(step.action, Action::Remove);
        if removes && never.relation(&resolved.join(&step.at)) != Relation::Free {
            return Err(Fault::path("remove", &path, "this program lives by it"));
        }
        take(drift, step, directory, &path, keep_good, stop)?;
    }
    Ok(())
}

fn take(drift: &Drift, step: &Step, at: &OwnedFd, path: &Path, keep_good: bool, stop: &Stop) -> Result<(), Fault> {
    let Some(name) = step.at.file_name() else { unreachable!("a step names an entry") };
    let place = Place { at: at.as_fd(), name: Path::new(name), path, confined: drift.desired.beneath.is_some() };
    let clear = || if step.clear { remove(at, name, path, stop) } else { Ok(()) };
    match &step.action {
        Action::Remove => remove(at, name, path, stop),
        Action::Own => attributes::repair(place, drift.ids, |stat| kept_bits(drift.ids, stat)).map(drop),
        Action::Directory(mode) => {
            clear()?;
            match mkdirat(at, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(Fault::path("create", path, error)),
            }
            attributes::repair_directory(place, drift.ids, *mode)
        }
        Action::Link(target) => {
            let temporary = Temporary::link(place, target, drift.ids)?;
            clear()?;
            temporary.place(place).map(drop)
        }
        Action::Copy { mode, replaces } => {
            let source = open_source(drift, &step.at)?;
            let stream = Stream::Open(&source);
            let ids = replaces.as_ref().map_or(drift.ids, |stat: &Stat| drift.ids.or(stat));
            let version = Version { stream: Some(&stream), mode: *mode, ids, replaces: replaces.as_ref() };
            copy(place, &version, keep_good, clear, stop)
        }
    }
}

fn copy(
    place: Place<'_>,
    version: &Version<'_>,
    keep_good: bool,
    clear: impl Fn() -> Result<(), Fault>,
    stop: &Stop,
) -> Result<(), Fault> {
    let temporary = Temporary::written(place, version, stop)?;
    let good = keep_good && version.replaces.is_some_and(|stat| stat.st_size > 0);
    if let (true, Some(file)) = (good, &temporary.file) {
        fdatasync(file).map_err(|error| Fault::path("sync", place.path, error))?;
    }
    clear()?;
    temporary.place(place).map(drop)
}

/// The member of the source tree, reached through no link.
fn open_source(drift: &Drift, at: &Path) -> Result<File, Fault> {
    let Want::Directory(Some(source)) = &drift.desired.want else { unreachable!("a copy has a source") };
    let fault = |error| Fault::path("read source", &source.join(at), error);
    let root = attributes::open_directory(source)?;
    let parent = at.parent().unwrap_or(Path::new(""));
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let within = rustix::fs::ResolveFlags::NO_SYMLINKS | rustix::fs::ResolveFlags::BENEATH;
    let directory = match parent.as_os_str().is_empty() {
        true => root.into(),
        false => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat2(&root, parent, flags, Mode::empty(), within).map_err(fault)?
        }
    };
    let name: &Path = at.file_name().map_or(at, Path::new);
    let file: File = openat(&directory, name, flags, Mode::empty()).map_err(fault)?.into();
    match fstat(&file).map_err(fault)? {
        stat if kind(&stat) == FileType::RegularFile => Ok(file),
        _ => Err(Fault::path("read source", &source.join(at), "it is not a regular file")),
    }
}
