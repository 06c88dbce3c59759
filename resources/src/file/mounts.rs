//! Which paths lie on file systems that may take long to answer. Reads the table of mounts, never the file systems
//! themselves: asking a dead server is what this is there to avoid.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mgmt_engine::clock::{Clock, Moment};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Types of file systems whose operations cross a network, or wait for a program.
const REMOTE: &[&str] =
    &["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "lustre", "gfs2", "ocfs2", "glusterfs", "autofs"];

/// What was found so recently still holds: a graph of thousands of files asks for each of them, and a mount that is made
/// while a graph is read may be seen or missed either way.
const FRESH: Duration = Duration::from_millis(1);

/// The table of mounts, and the remote ones in it when it was last read.
struct Mounts {
    table: File,
    remote: Vec<PathBuf>,
    clock: Clock,
    /// When the kernel was last asked whether the table has changed.
    asked: Moment,
}

/// Protects the one open table, whose descriptor says when it has to be read again.
static MOUNTS: Mutex<Option<Mounts>> = Mutex::new(None);

/// Whether one of these paths lies below a remote mount. A table that cannot be read says no: the paths are then
/// looked at on the spot, as if they were local.
pub(super) fn any_remote<'a>(paths: impl Iterator<Item = &'a Path>) -> bool {
    let mut mounts = MOUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = refresh(&mut mounts) {
        tracing::debug!("cannot read the table of mounts: {error}");
        return false;
    }
    let Some(mounts) = &*mounts else { return false };
    let mut paths = paths;
    !mounts.remote.is_empty() && paths.any(|path| mounts.remote.iter().any(|mount| path.starts_with(mount)))
}

fn refresh(mounts: &mut Option<Mounts>) -> io::Result<()> {
    if let Some(known) = mounts {
        let now = known.clock.now();
        if now.since(known.asked) < FRESH {
            return Ok(());
        }
        known.asked = now;
        // The kernel flags a change of the table as urgent data, without anybody reading it.
        let mut fds = [PollFd::from_borrowed_fd(known.table.as_fd(), PollFlags::PRI)];
        if poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0 {
            return Ok(());
        }
        known.table.rewind()?;
    }
    // A table that cannot be read to its end is opened anew the next time.
    let (mut table, clock) = match mounts.take() {
        Some(known) => (known.table, known.clock),
        None => (File::open("/proc/self/mountinfo")?, Clock::start()),
    };
    let asked = clock.now();
    let mut text = String::new();
    table.read_to_string(&mut text)?;
    *mounts = Some(Mounts { table, remote: text.lines().filter_map(remote).collect(), clock, asked });
    Ok(())
}

/// The mount point of a line of `mountinfo`, if it is a remote one: `36 35 98:0 /root /point options - type …`.
fn remote(line: &str) -> Option<PathBuf> {
    let (before, after) = line.split_once(" - ")?;
    let kind = after.split(' ').next()?;
    let point = before.split(' ').nth(4)?;
    let remote = REMOTE.contains(&kind) || kind.starts_with("fuse");
    remote.then(|| PathBuf::from(point.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_mounts_are_told_by_their_type() {
        let line = |kind: &str| format!("36 35 0:98 / /srv/with\\040space rw,noatime shared:1 - {kind} server:/x rw");
        assert_eq!(remote(&line("nfs4")), Some(PathBuf::from("/srv/with space")));
        assert_eq!(remote(&line("fuse.sshfs")), Some(PathBuf::from("/srv/with space")));
        assert_eq!(remote(&line("ext4")), None);
        assert!(!any_remote([Path::new("/proc/self")].into_iter()));
    }
}
