//! Owner, group, mode, ACL and extended attributes of one file: what is wanted against what is, and repairs in place.
//!
//! Promises: never follows a symbolic link. Must not know about contents.

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use mgmt_engine::resource::Fault;
use rustix::fs::{
    Access, AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, accessat, chmod, chownat, fchmod, fremovexattr, fsetxattr,
    fstat, lgetxattr, llistxattr, open, openat,
};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid, getgroups};
use rustix::thread::{CapabilitySet, capabilities};

use super::desired::Desired;
use super::drift::Note;
use super::place::Place;
use crate::accounts::Accounts;

/// The attribute that holds a file's access control list.
const ACL: &[u8] = b"system.posix_acl_access";

/// Wanted owner and group, as numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) user: Option<u32>,
    pub(super) group: Option<u32>,
}

impl Ids {
    /// Nothing is wanted.
    pub(super) const fn is_empty(self) -> bool {
        self.user.is_none() && self.group.is_none()
    }

    pub(super) fn uid(self) -> Option<Uid> {
        self.user.map(Uid::from_raw)
    }

    pub(super) fn gid(self) -> Option<Gid> {
        self.group.map(Gid::from_raw)
    }

    /// These, and those of `stat` where nothing is wanted.
    pub(super) fn or(self, stat: &Stat) -> Self {
        Self { user: self.user.or(Some(stat.st_uid)), group: self.group.or(Some(stat.st_gid)) }
    }

    /// Only those that differ from what stands.
    pub(super) fn unlike(self, stat: &Stat) -> Self {
        Self { user: self.user.filter(|uid| *uid != stat.st_uid), group: self.group.filter(|gid| *gid != stat.st_gid) }
    }
}

/// Permission bits of what stands.
pub(super) const fn bits(stat: &Stat) -> u32 {
    stat.st_mode & 0o7777
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The permission bits that stay where no mode is wanted. Set-id bits that another user has put on a file do not come
/// with it to a new owner: whoever may write there could make any program run as that one.
pub(super) fn kept_bits(ids: Ids, stat: &Stat) -> u32 {
    let given_away = kind(stat) == FileType::RegularFile
        && bits(stat) & 0o6000 != 0
        && !ids.unlike(stat).is_empty()
        && stat.st_uid != geteuid().as_raw();
    if given_away { bits(stat) & !0o6000 } else { bits(stat) }
}

/// The permission bits wanted where `stat` stands, once it has these owners.
pub(super) fn wanted_bits(desired: &Desired, ids: Ids, stat: &Stat) -> u32 {
    wanted_from(kept_bits(ids, stat), desired, stat)
}

/// The same for a file that gets other contents. At a confined path these are somebody else's, and do not come to run as
/// the owner of what stood there.
pub(super) fn rewritten_bits(desired: &Desired, ids: Ids, stat: &Stat) -> u32 {
    let trusted = if desired.beneath.is_some() { !0o6000 } else { !0 };
    wanted_from(kept_bits(ids, stat) & trusted, desired, stat)
}

fn wanted_from(standing: u32, desired: &Desired, stat: &Stat) -> u32 {
    desired.mode.as_ref().map_or(standing, |mode| mode.bits(standing, kind(stat) == FileType::Directory))
}

/// What is wrong with the attributes of what stands. Allocates nothing if nothing is.
pub(super) fn notes(desired: &Desired, ids: Ids, stat: &Stat, accounts: &Accounts, notes: &mut Vec<Note>) {
    let (is, wanted) = (bits(stat), wanted_bits(desired, ids, stat));
    if is != wanted {
        notes.push(Note::Mode { is, wanted });
    }
    let unlike = ids.unlike(stat);
    if unlike.user.is_some() {
        let is = accounts.user_name(stat.st_uid).unwrap_or_else(|| stat.st_uid.to_string());
        notes.push(Note::Owner { is, wanted: desired.owner.clone().unwrap_or_default() });
    }
    if unlike.group.is_some() {
        let is = accounts.group_name(stat.st_gid).unwrap_or_else(|| stat.st_gid.to_string());
        notes.push(Note::Group { is, wanted: desired.group.clone().unwrap_or_default() });
    }
}

/// Whether this process has a capability. Root in a container may lack some.
pub(super) fn may(capability: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

/// Whether this process may give a file these owners: the file that stands, or a new one, which would be its own.
pub(super) fn may_own(path: &Path, ids: Ids, stat: Option<&Stat>) -> Result<(), Fault> {
    let euid = geteuid().as_raw();
    let (user, group) = match stat {
        None => (ids.user.is_none_or(|uid| uid == euid), ids.group.is_none_or(is_member)),
        Some(stat) => {
            let unlike = ids.unlike(stat);
            (unlike.user.is_none(), unlike.group.is_none_or(|gid| stat.st_uid == euid && is_member(gid)))
        }
    };
    match (user && group) || may(CapabilitySet::CHOWN) {
        true => Ok(()),
        false => Err(Fault::path("set or keep the owner and group of", path, "only root may")),
    }
}

fn is_member(gid: u32) -> bool {
    getegid().as_raw() == gid || getgroups().is_ok_and(|groups| groups.iter().any(|group| group.as_raw() == gid))
}

/// Whether the attributes of what stands could be repaired in place.
pub(super) fn may_repair(place: Place<'_>, ids: Ids, stat: &Stat) -> Result<(), Fault> {
    may_own(place.path, ids, Some(stat))?;
    if stat.st_uid != geteuid().as_raw() && !may(CapabilitySet::FOWNER) {
        return Err(Fault::path("change the mode of", place.path, "only its owner or root may"));
    }
    alone(place.confined, place.path, stat)?;
    changeable(place, stat)
}

/// Whether what stands is not immutable, nor on a read-only file system.
pub(super) fn changeable(place: Place<'_>, stat: &Stat) -> Result<(), Fault> {
    if kind(stat) == FileType::Symlink {
        // The question would be answered for what it points to.
        return Ok(());
    }
    match accessat(place.at, place.name, Access::WRITE_OK, AtFlags::EACCESS) {
        Err(Errno::PERM) => Err(Fault::path("change", place.path, "it is immutable (see lsattr)")),
        Err(Errno::ROFS) => Err(Fault::path("change", place.path, Errno::ROFS)),
        // Other answers are about writing into the file, which nobody is going to do.
        _ => Ok(()),
    }
}

/// Whether a file has other names, too, which may lie anywhere: at a confined path it is then not changed in place.
pub(super) fn is_shared(confined: bool, stat: &Stat) -> bool {
    confined && kind(stat) != FileType::Directory && stat.st_nlink > 1
}

/// Fails for such a file.
pub(super) fn alone(confined: bool, path: &Path, stat: &Stat) -> Result<(), Fault> {
    match is_shared(confined, stat) {
        true => {
            let why = "it has other names (hard links), which may lie anywhere; remove it, or give it content";
            Err(Fault::path("change the owner or mode of", path, why))
        }
        false => Ok(()),
    }
}

/// Sets owner and mode of the directory that stands. Anything else that has taken its place is not touched.
pub(super) fn repair_directory(place: Place<'_>, ids: Ids, mode: u32) -> Result<(), Fault> {
    set(place, ids, |_| mode, OFlags::DIRECTORY).map(drop)
}

/// Sets owner and mode of what stands, in place. Gives back the file if it could be opened for reading, to be synced.
pub(super) fn repair(place: Place<'_>, ids: Ids, desired_bits: impl Fn(&Stat) -> u32) -> Result<Option<File>, Fault> {
    set(place, ids, desired_bits, OFlags::empty())
}

fn set(place: Place<'_>, ids: Ids, desired_bits: impl Fn(&Stat) -> u32, only: OFlags) -> Result<Option<File>, Fault> {
    // Enough to name it to the kernel. Opening a device may do anything, from resetting a line to arming a watchdog.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC | only;
    let named = openat(place.at, place.name, flags, Mode::empty());
    let named = named.map_err(|error| Fault::path("open", place.path, error))?;
    let stat = fstat(&named).map_err(|error| Fault::path("look at", place.path, error))?;
    alone(place.confined, place.path, &stat)?;
    let opened = match kind(&stat) {
        FileType::RegularFile | FileType::Directory => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let same =
                |file: &OwnedFd| fstat(file).is_ok_and(|of| (of.st_dev, of.st_ino) == (stat.st_dev, stat.st_ino));
            openat(place.at, place.name, flags, Mode::empty()).ok().filter(same)
        }
        _ => None,
    };
    // Without the right to read, the name has to do.
    let (fd, readable) = opened.map_or((named, false), |file| (file, true));
    let wanted = desired_bits(&stat);
    let unlike = ids.unlike(&stat);
    if !unlike.is_empty() {
        chownat(&fd, c"", unlike.uid(), unlike.gid(), AtFlags::EMPTY_PATH)
            .map_err(|error| Fault::path("set the owner of", place.path, error))?;
    }
    // A new owner takes the set-uid bit away, so the mode comes second, and again.
    if kind(&stat) != FileType::Symlink && (bits(&stat) != wanted || !unlike.is_empty()) {
        let mode = Mode::from_raw_mode(wanted);
        let set = if readable { fchmod(&fd, mode) } else { chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), mode) };
        set.map_err(|error| Fault::path("set the mode of", place.path, error))?;
    }
    Ok(readable.then(|| fd.into()))
}

/// Copies ACL, SELinux label and user attributes of what stands at `place` to its next version.
pub(super) fn keep_extended(place: Place<'_>, next: &File) -> Result<(), Fault> {
    let fault = |error: Errno| Fault::path("keep the extended attributes of", place.path, error);
    let tolerated =
        |error: &Errno| matches!(*error, Errno::NOTSUP | Errno::PERM | Errno::NODATA | Errno::NOENT | Errno::ACCESS);
    let path = path_of(place);
    let mut names = vec![0; 1024];
    let count = loop {
        match llistxattr(&path, &mut names[..]) {
            Ok(count) => break count,
            // 64 KiB is the kernel's own limit.
            Err(Errno::RANGE) if names.len() < 64 << 10 => names.resize(64 << 10, 0),
            Err(error) if tolerated(&error) => return Ok(()),
            Err(error) => return Err(fault(error)),
        }
    };
    if !names[..count].split(|byte| *byte == 0).any(|name| name == ACL) {
        // The next version is a new file, and may have inherited one from its directory.
        match fremovexattr(next, ACL) {
            Err(error) if !tolerated(&error) => return Err(fault(error)),
            _ => {}
        }
    }
    if count == 0 {
        return Ok(());
    }
    let mut value = vec![0; 64 << 10];
    for name in names[..count].split(|byte| *byte == 0).filter(|name| is_kept(name)) {
        let copied = lgetxattr(&path, name, &mut value[..])
            .and_then(|length| fsetxattr(next, name, &value[..length], rustix::fs::XattrFlags::empty()));
        match copied {
            Ok(()) => {}
            Err(error) if tolerated(&error) => {
                tracing::debug!("{} loses an extended attribute: {error}", place.path.display());
            }
            Err(error) => return Err(fault(error)),
        }
    }
    Ok(())
}

fn is_kept(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == b"security.selinux" || name == ACL
}

/// A path that names the place without its directory being looked up again.
fn path_of(place: Place<'_>) -> std::path::PathBuf {
    if place.name.is_absolute() {
        return place.name.to_path_buf();
    }
    Path::new("/proc/self/fd").join(place.at.as_raw_fd().to_string()).join(place.name)
}

/// Opens a directory to set its attributes and sync it.
pub(super) fn open_directory(path: &Path) -> Result<File, Fault> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = open(path, flags, Mode::empty()).map_err(|error| Fault::path("open", path, error))?;
    Ok(fd.into())
}
