//! The names of temporary files, and removal of those that a killed run has left behind.
//!
//! Promises: what another living process writes is left alone; this process creates a temporary file in a directory
//! only after that directory has been cleaned, so it never takes its own for a stray. Must not know what is written.
//!
//! Not for remote file systems: neither locks nor process numbers say anything about a writer on another machine.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, flock, openat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, geteuid, getpid, test_kill_process};

/// How the names of temporary files begin.
const PREFIX: &str = ".mgmt~";
/// Directories that are remembered as clean. Past that, strays in further directories stay until the next start:
/// cleaning one twice could remove what this process is just writing.
const DIRECTORIES_MAX: usize = 65_536;

static COUNTER: AtomicU64 = AtomicU64::new(0);
/// Directories that this process has cleaned, as text: every file asks, and comparing paths part by part takes a while.
/// Held while one is, so that nobody begins to write there meanwhile.
static CLEANED: Mutex<BTreeSet<OsString>> = Mutex::new(BTreeSet::new());

/// A name that no other temporary file of this process has.
pub(super) fn name() -> String {
    // Asked once: the kernel is not quick about it, and it never changes.
    static PID: LazyLock<i32> = LazyLock::new(|| getpid().as_raw_nonzero().get());
    format!("{PREFIX}{}-{}", *PID, COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Whether a name is that of a temporary file, of this or another process.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    writer(name).is_some()
}

/// The process that a temporary file's name speaks of.
fn writer(name: &OsStr) -> Option<Pid> {
    let (pid, counter) = name.to_str()?.strip_prefix(PREFIX)?.split_once('-')?;
    counter.parse::<u64>().ok()?;
    Pid::from_raw(pid.parse().ok().filter(|pid| *pid > 0)?)
}

/// Removes strays from a directory, once in the life of this process. That it could not is no failure of anybody's
/// work: the strays are then still there, and said so. `open` opens the directory, if it is to be cleaned.
pub(super) fn clean<D: AsFd>(directory: &Path, open: impl FnOnce() -> Result<D, Errno>) {
    let mut cleaned = CLEANED.lock().unwrap_or_else(PoisonError::into_inner);
    if cleaned.contains(directory.as_os_str()) || cleaned.len() >= DIRECTORIES_MAX {
        return;
    }
    match open().and_then(|opened| remove_strays(directory, &opened)) {
        // Whatever will stand here has not been used yet.
        Err(Errno::NOENT | Errno::NOTDIR) => {}
        Err(error) => tracing::debug!("cannot look for stray temporary files in {}: {error}", directory.display()),
        Ok(()) => {
            cleaned.insert(directory.as_os_str().to_owned());
        }
    }
}

fn remove_strays(directory: &Path, opened: &impl AsFd) -> Result<(), Errno> {
    for entry in Dir::read_from(opened)? {
        let entry = entry?;
        let name = Path::new(OsStr::from_bytes(entry.file_name().to_bytes()));
        let Some(writer) = writer(name.as_os_str()) else { continue };
        // Held until it is gone: a writer that locks what it has just created finds the lock, or no file.
        let Some(_locked) = stray(opened, name, writer) else { continue };
        match unlinkat(opened, name, AtFlags::empty()) {
            Ok(()) => tracing::info!("removed the stray temporary file {}", directory.join(name).display()),
            Err(error) => tracing::debug!("cannot remove {}: {error}", directory.join(name).display()),
        }
    }
    Ok(())
}

/// Ours by owner, and its writer is dead: a regular file's writer holds a lock on it, a link's has the number in the
/// name. This process has written nothing here yet, so its own number belonged to an earlier one.
///
/// `None` if it is none; else with the lock on it, if it is a file.
fn stray(directory: &impl AsFd, name: &Path, writer: Pid) -> Option<Option<OwnedFd>> {
    let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    if stat.st_uid != geteuid().as_raw() {
        return None;
    }
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => (writer == getpid() || test_kill_process(writer) == Err(Errno::SRCH)).then_some(None),
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = openat(directory, name, flags, Mode::empty()).ok()?;
            flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
            Some(Some(file))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stray_is_locked_for_as_long_as_it_is_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let name = Path::new(".mgmt~1-1");
        let file = std::fs::File::create(directory.path().join(name)).unwrap();
        let at = std::fs::File::open(directory.path()).unwrap();
        let lock = || flock(&file, FlockOperation::NonBlockingLockExclusive);
        let locked = stray(&at, name, getpid()).unwrap();
        assert_eq!(lock(), Err(Errno::WOULDBLOCK), "its writer sees that it is taken");
        drop(locked);
        assert_eq!(lock(), Ok(()));
        assert!(stray(&at, name, getpid()).is_none());
    }
}
