//! Carries out what a look has found: writes, links, makes, sets and removes, and makes it durable.
//!
//! Order against power loss: where a good version stands, the next one is synced before it is renamed over it. Where
//! none does (drift, or nothing stood there), the rename comes first, so that readers are healed at once, and the sync
//! follows before the repair returns. Must not know how it was found.

use std::borrow::Cow;
use std::fs::File;

use mgmt_engine::resource::{Applied, Cause, Fault, Stop, Work};
use rustix::fs::{AtFlags, Mode, mkdirat, unlinkat};
use rustix::io::Errno;

use super::attributes::{self, Ids, wanted_bits};
use super::contents::{INLINE_BYTES_MAX, Stream};
use super::desired::{DIRECTORY_MODE, Desired, Want};
use super::drift::{Drift, Note, Repair};
use super::never::Never;
use super::place::{self, Place, Way};
use super::remove;
use super::steps;
use super::strays;
use super::write::{Temporary, Version};
use crate::host::Host;
use crate::syncs::Directory;

/// Whether a repair may take longer than a worker thread may be kept.
pub(super) fn is_heavy(drift: &Drift) -> bool {
    let (length, subtree) = match drift.repair {
        Repair::Write { clear, length } => (length, clear),
        Repair::Link { clear } | Repair::Directory { clear, .. } => (0, clear),
        Repair::Remove => (0, drift.replaces().is_none()),
        Repair::Attributes | Repair::Members | Repair::Sync => (0, false),
    };
    length > INLINE_BYTES_MAX || subtree || drift.desired.slow || !drift.steps.is_empty()
}

/// Carries a repair out. Everything that blocks happens before the first await, unless a good version has to be kept.
pub(super) async fn carry_out(host: &Host, drift: &Drift, work: &Work) -> Result<Applied, Fault> {
    let desired = &*drift.desired;
    let way = match drift.repair {
        Repair::Directory { above, .. } if above > 0 => place::made(desired, above, make_above)?,
        _ => Way::to(desired)?,
    };
    if !desired.slow {
        strays::clean(&desired.parent, || way.directory(desired));
    }
    match drift.repair {
        Repair::Write { clear, .. } => write(host, drift, way, clear, work).await,
        Repair::Link { clear } => link(host, drift, way, clear, work).await,
        Repair::Directory { clear, above } => directory(host, drift, way, (clear, above), work).await,
        Repair::Members => directory_members(host, drift, way, work).await,
        Repair::Attributes => attributes(host, drift, way, work).await,
        Repair::Remove => remove_standing(host, drift, way, work).await,
        Repair::Sync => make_up(host, desired, way).await,
    }
}

async fn write(host: &Host, drift: &Drift, way: Way, clear: bool, work: &Work) -> Result<Applied, Fault> {
    let desired = &*drift.desired;
    let place = way.place(desired)?;
    let replaces = drift.replaces();
    let temporary = {
        let stream: Option<Stream<'_>> = match &desired.want {
            Want::File(contents) => contents.stream()?,
            _ => None,
        };
        let ids = replaces.map_or(drift.ids, |stat| drift.ids.or(stat));
        let version = Version { stream: stream.as_ref(), mode: drift.final_bits(), ids, replaces };
        Temporary::written(place, &version, &work.stop)?
    };
    let good = replaces.is_some_and(|stat| stat.st_size > 0) && work.cause != Cause::Drift;
    if good && desired.durable {
        let copy = temporary.file.as_ref().map(File::try_clone).transpose();
        let copy = copy.map_err(|error| Fault::path("sync", &desired.path, error))?;
        if let Some(file) = copy {
            host.syncs.file(file).await.map_err(|error| Fault::path("sync", &desired.path, error))?;
        }
    }
    if clear {
        clear_away(host, desired, &way, &work.stop)?;
    }
    let length = temporary.length;
    let file = temporary.place(place)?;
    sync(host, desired, way, file.filter(|_| !good)).await?;
    let verb = if drift.standing.is_none() { "created" } else { "content replaced" };
    Ok(Applied::changed(format!("{verb}, {length} bytes")))
}

async fn link(host: &Host, drift: &Drift, way: Way, clear: bool, work: &Work) -> Result<Applied, Fault> {
    let desired = &*drift.desired;
    let place = way.place(desired)?;
    let Want::Link(target) = &desired.want else { unreachable!("only a link is repaired as one") };
    // A link keeps its owner where that is not managed.
    let ids = match (&drift.standing, drift.notes.first()) {
        (Some(stat), Some(Note::Target { .. })) => drift.ids.or(stat),
        _ => drift.ids,
    };
    let temporary = Temporary::link(place, target, ids)?;
    if clear {
        clear_away(host, desired, &way, &work.stop)?;
    }
    temporary.place(place)?;
    sync(host, desired, way, None).await?;
    Ok(Applied::changed(format!("linked to {}", target.display())))
}

async fn directory(
    host: &Host,
    drift: &Drift,
    way: Way,
    (clear, above): (bool, usize),
    work: &Work,
) -> Result<Applied, Fault> {
    let desired = &*drift.desired;
    if clear {
        clear_away(host, desired, &way, &work.stop)?;
    }
    make(way.place(desired)?, drift.ids, drift.final_bits())?;
    let members = members(host, drift, &way, work)?;
    match above > 0 || members > 0 {
        true => sync_members(host, desired, way).await?,
        false => {
            let opened = if desired.durable { Some(opened(desired, &way)?) } else { None };
            sync(host, desired, way, opened).await?;
        }
    }
    Ok(Applied::changed(deed("created", members)))
}

/// The directory stands and is right; its members are not.
async fn directory_members(host: &Host, drift: &Drift, way: Way, work: &Work) -> Result<Applied, Fault> {
    let members = members(host, drift, &way, work)?;
    sync_members(host, &drift.desired, way).await?;
    Ok(Applied::changed(deed("", members)))
}

async fn attributes(host: &Host, drift: &Drift, way: Way, work: &Work) -> Result<Applied, Fault> {
    let desired = &*drift.desired;
    let file = attributes::repair(way.place(desired)?, drift.ids, |stat| wanted_bits(desired, drift.ids, stat))?;
    if !drift.steps.is_empty() {
        let members = members(host, drift, &way, work)?;
        sync_members(host, desired, way).await?;
        return Ok(Applied::changed(deed("attributes set", members)));
    }
    sync(host, desired, way, file).await?;
    Ok(Applied::changed(set_deed(drift)))
}

fn set_deed(drift: &Drift) -> Cow<'static, str> {
    let parts = drift.notes.iter().filter_map(|note| match note {
        Note::Mode { wanted, .. } => Some(format!("mode set to {wanted:04o}")),
        Note::Owner { wanted, .. } => Some(format!("owner set to {wanted}")),
        Note::Group { wanted, .. } => Some(format!("group set to {wanted}")),
        _ => None,
    });
    parts.collect::<Vec<_>>().join(", ").into()
}

fn deed(first: &'static str, members: usize) -> Cow<'static, str> {
    match (first, members) {
        (first, 0) => first.into(),
        ("", members) => format!("{members} members put right").into(),
        (first, members) => format!("{first}, {members} members put right").into(),
    }
}

async fn remove_standing(host: &Host, drift: &Drift, way: Way, work: &Work) -> Result<Applied, Fault> {
    clear_away(host, &drift.desired, &way, &work.stop)?;
    sync(host, &drift.desired, way, None).await?;
    Ok(Applied::changed("removed"))
}

/// An earlier repair was seen but could not be synced: everything on the file system is, because what it touched is
/// not known any more.
async fn make_up(host: &Host, desired: &Desired, way: Way) -> Result<Applied, Fault> {
    let opened = parent(desired, &way)?;
    drop(way);
    host.syncs.file_system(opened).await.map_err(|error| Fault::path("sync", &desired.path, error))?;
    Ok(Applied::changed("synced"))
}

/// Removes what stands. What must stay is asked again, because the look was a while ago.
fn clear_away(host: &Host, desired: &Desired, way: &Way, stop: &Stop) -> Result<(), Fault> {
    let (path, place) = (&desired.path, way.place(desired)?);
    Never::of(&host.protected).removable(place, &Way::resolved(desired))?;
    match unlinkat(place.at, place.name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(Fault::path("remove", path, error)),
    }
    match unlinkat(place.at, place.name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR) => return Err(Fault::path("remove", path, Errno::PERM)),
        // To make room for something else takes force alone, as the check has it.
        Err(Errno::NOTEMPTY | Errno::EXIST)
            if desired.force && (desired.recurse || !matches!(desired.want, Want::Nothing { .. })) => {}
        Err(error) => return Err(Fault::path("remove", path, error)),
    }
    remove::remove(parent(desired, way)?, &desired.name(), path, stop)
}

/// Makes a directory above the managed one. One that somebody made meanwhile is as good, and stays as it is.
fn make_above(place: Place<'_>) -> Result<(), Fault> {
    match mkdirat(place.at, place.name, Mode::from_raw_mode(DIRECTORY_MODE)) {
        Ok(()) => attributes::repair_directory(place, Ids::default(), DIRECTORY_MODE),
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(Fault::path("create", place.path, error)),
    }
}

/// Makes a directory, whatever the umask, or takes over one that somebody made meanwhile.
fn make(place: Place<'_>, ids: Ids, mode: u32) -> Result<(), Fault> {
    // Nobody else shall enter before it has its owner.
    let first = if ids.is_empty() { mode } else { 0o700 };
    match mkdirat(place.at, place.name, Mode::from_raw_mode(first)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(Fault::path("create", place.path, error)),
    }
    attributes::repair_directory(place, ids, mode)
}

fn members(host: &Host, drift: &Drift, way: &Way, work: &Work) -> Result<usize, Fault> {
    if drift.steps.is_empty() {
        return Ok(0);
    }
    let keep_good = drift.desired.durable && work.cause != Cause::Drift;
    steps::carry_out(drift, way.place(&drift.desired)?, &Never::of(&host.protected), keep_good, &work.stop)?;
    Ok(drift.steps.len())
}

async fn sync_members(host: &Host, desired: &Desired, way: Way) -> Result<(), Fault> {
    if !desired.durable {
        return Ok(());
    }
    let opened = opened(desired, &way)?;
    drop(way);
    host.syncs.file_system(opened).await.map_err(|error| Fault::path("sync", &desired.path, error))
}

async fn sync(host: &Host, desired: &Desired, way: Way, file: Option<File>) -> Result<(), Fault> {
    if !desired.durable {
        return Ok(());
    }
    let synced = match way {
        Way::Named => host.syncs.sync(file, Directory::Named(desired.parent.clone())),
        way => {
            let directory = Directory::Open(parent(desired, &way)?);
            // Many may wait, and hold no descriptors meanwhile.
            drop(way);
            host.syncs.sync(file, directory)
        }
    };
    synced.await.map_err(|error| Fault::path("sync", &desired.path, error))
}

/// Opens the managed directory, to be synced.
fn opened(desired: &Desired, way: &Way) -> Result<File, Fault> {
    let opened = way.place(desired)?.open_directory();
    opened.map(File::from).map_err(|error| Fault::path("open", &desired.path, error))
}

/// Opens the directory of the path, to be synced or gone on from.
fn parent(desired: &Desired, way: &Way) -> Result<File, Fault> {
    way.directory(desired).map(File::from).map_err(|error| Fault::path("open", &desired.parent, error))
}
