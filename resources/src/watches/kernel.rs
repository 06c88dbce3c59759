//! The one door to the `inotify` crate and to what the kernel says of directories.
//!
//! Turns calls into a handful of answers. Knows neither subscriptions nor the trie.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use inotify::{EventMask, Inotify, WatchMask};
use rustix::io::Errno;

pub(super) use inotify::WatchDescriptor;

/// What every directory on the way is watched for: names that come, go and move, and the directory's own end.
const NARROW: WatchMask = WatchMask::CREATE
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVED_FROM)
    .union(WatchMask::MOVED_TO)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF);

/// What a directory with subscribed entries is watched for. Never OPEN, ACCESS, MODIFY or CLOSE_NOWRITE: a check must
/// not wake itself, and a half-written file is not looked at before its writer has closed it.
const WIDE: WatchMask = NARROW.union(WatchMask::ATTRIB).union(WatchMask::CLOSE_WRITE);

/// File systems that other machines or processes change without this kernel knowing (`statfs(2)`, `linux/magic.h`).
const REMOTE: [(u32, &str); 9] = [
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb"),
    (0x517b, "smb"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "fuse"),
    (0x00c3_6400, "ceph"),
    (0x5346_414f, "afs"),
    (0x6b41_4653, "afs"),
];

/// How a directory is to be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct How {
    /// With what matters for its entries; else only with what matters for the way through it.
    pub(super) wide: bool,
    /// Through a symbolic link, if the path is one.
    pub(super) follow: bool,
}

/// What became of a wish to watch a directory.
#[derive(Debug)]
pub(super) enum Added {
    /// It is watched. The same inode has the same descriptor, whatever path it was reached by.
    Watched(WatchDescriptor),
    /// Nothing is there, or no directory can be reached by this path.
    Absent,
    /// Something else is there: perhaps a symbolic link.
    NotDirectory,
    /// It is there and may not be read.
    Denied,
    /// The kernel has no watch left.
    Limit,
}

/// What happened to a name in a directory; to the directory itself if the name is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Touch {
    /// The name may stand for another inode now, or for none.
    pub(super) rebound: bool,
    /// It may stand for a new directory.
    pub(super) directory: bool,
    /// The kernel has dropped the watch: nothing more will come from it.
    pub(super) ended: bool,
    /// The queue was full: anything may have happened anywhere.
    pub(super) overflow: bool,
}

impl Touch {
    fn of(mask: EventMask) -> Self {
        let rebound = EventMask::CREATE
            | EventMask::DELETE
            | EventMask::MOVED_FROM
            | EventMask::MOVED_TO
            | EventMask::DELETE_SELF
            | EventMask::MOVE_SELF
            | EventMask::UNMOUNT
            | EventMask::IGNORED;
        Self {
            rebound: mask.intersects(rebound),
            directory: mask.contains(EventMask::ISDIR) && mask.intersects(EventMask::CREATE | EventMask::MOVED_TO),
            ended: mask.contains(EventMask::IGNORED),
            overflow: mask.contains(EventMask::Q_OVERFLOW),
        }
    }
}

/// Adds and removes watches of one inotify instance.
#[derive(Debug)]
pub(super) struct Kernel {
    watches: inotify::Watches,
    #[cfg(test)]
    pub(super) pretence: Pretence,
}

/// What tests let the kernel answer, because it cannot be brought to it.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct Pretence {
    /// How many watches there are, and how many there may be.
    pub(super) held: usize,
    pub(super) limit: usize,
    /// A directory that may not be read, and one on a network file system.
    pub(super) denied: Option<std::path::PathBuf>,
    pub(super) remote: Option<std::path::PathBuf>,
    /// The next watch is not added: the program panics instead.
    pub(super) defect: bool,
    /// The instance, for a look at what the kernel says of it.
    pub(super) fd: std::os::fd::RawFd,
}

impl Kernel {
    pub(super) fn new(inotify: &Inotify) -> Self {
        Self {
            watches: inotify.watches(),
            #[cfg(test)]
            pretence: Pretence {
                held: 0,
                limit: usize::MAX,
                denied: None,
                remote: None,
                defect: false,
                fd: std::os::fd::AsRawFd::as_raw_fd(inotify),
            },
        }
    }

    /// Watches the directory at `path`. Only ever adds to what an inode is watched for: another path may need it.
    pub(super) fn add(&mut self, path: &Path, how: How) -> Added {
        self.call(path, how, WatchMask::MASK_ADD)
    }

    /// Watches the directory at `path` for the way through it, and for nothing else.
    pub(super) fn narrow(&mut self, path: &Path) -> Added {
        self.call(path, How { wide: false, follow: true }, WatchMask::empty())
    }

    fn call(&mut self, path: &Path, how: How, flags: WatchMask) -> Added {
        #[cfg(test)]
        assert!(!std::mem::take(&mut self.pretence.defect), "a pretended defect");
        #[cfg(test)]
        match &self.pretence {
            pretence if pretence.held >= pretence.limit => return Added::Limit,
            pretence if pretence.denied.as_deref() == Some(path) => return Added::Denied,
            _ => {}
        }
        let follow = if how.follow { WatchMask::empty() } else { WatchMask::DONT_FOLLOW };
        let mask = if how.wide { WIDE } else { NARROW };
        match self.watches.add(path, mask | flags | follow | WatchMask::ONLYDIR | WatchMask::EXCL_UNLINK) {
            Ok(descriptor) => Added::Watched(descriptor),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOTDIR) => Added::NotDirectory,
                // No errno: the path held a zero byte.
                None | Some(Errno::NOENT | Errno::LOOP | Errno::NAMETOOLONG) => Added::Absent,
                Some(Errno::NOSPC | Errno::NOMEM) => Added::Limit,
                Some(_) => Added::Denied,
            },
        }
    }

    /// Ends a watch. The kernel may have ended it before.
    pub(super) fn remove(&mut self, descriptor: WatchDescriptor) {
        drop(self.watches.remove(descriptor));
    }

    /// The name of the file system at `path` if others may change it behind the kernel's back.
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "tests pretend here"))]
    pub(super) fn remote(&self, path: &Path) -> Option<&'static str> {
        #[cfg(test)]
        if self.pretence.remote.as_deref() == Some(path) {
            return Some("nfs");
        }
        let found = rustix::fs::statfs(path).ok()?;
        // The field's width and sign differ between architectures; magic numbers have 32 bits.
        let magic = found.f_type as u32;
        REMOTE.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
    }
}

/// What the symbolic link at `path` says; `None` if there is none.
pub(super) fn link(path: &Path) -> Option<PathBuf> {
    std::fs::read_link(path).ok()
}

/// Hands out what happened since the last call, as one read finds it: descriptor number, what, name.
pub(super) fn read(
    inotify: &mut Inotify,
    buffer: &mut [u8],
    mut each: impl FnMut(i32, Touch, &OsStr),
) -> io::Result<()> {
    match inotify.read_events(buffer) {
        Ok(events) => {
            for event in events {
                let name = event.name.unwrap_or_else(|| OsStr::new(""));
                each(event.wd.get_watch_descriptor_id(), Touch::of(event.mask), name);
            }
            Ok(())
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(()),
        Err(error) => Err(error),
    }
}
