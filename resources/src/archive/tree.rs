//! Writes admitted members below an open directory that nobody else writes to.
//!
//! Promises: no name on the way to a member is followed if it is a link; nothing outside of the directory is touched. Must
//! not know where members come from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use mgmt_engine::resource::Fault;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chownat, fchmod, fchown, futimens, linkat,
    mkdirat, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::member::{Member, What, refused};
use crate::file::open_inside;

/// Of directories that the archive does not mention.
const DIRECTORY_MODE: u32 = 0o755;
/// How much is written at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// A directory that is being filled.
pub(super) struct Tree {
    root: OwnedFd,
    owner: (Option<Uid>, Option<Gid>),
    /// Where the last member went: members of one directory follow each other.
    at: Option<(PathBuf, OwnedFd)>,
    /// What directories get once nothing is written into them any more.
    directories: Vec<(PathBuf, u32, Option<i64>)>,
    buffer: Vec<u8>,
    /// How many members were written.
    pub(super) count: u64,
}

impl Tree {
    pub(super) fn new(root: OwnedFd, user: Option<u32>, group: Option<u32>) -> Self {
        Self {
            root,
            owner: (user.map(Uid::from_raw), group.map(Gid::from_raw)),
            at: None,
            directories: vec![(PathBuf::new(), DIRECTORY_MODE, None)],
            buffer: vec![0; CHUNK_BYTES],
            count: 0,
        }
    }

    /// Writes one member.
    pub(super) fn put(&mut self, member: &Member, contents: &mut dyn Read) -> Result<(), Fault> {
        self.count += 1;
        self.write(member, contents)
            .map_err(|why| refused(std::os::unix::ffi::OsStrExt::as_bytes(member.path.as_os_str()), &why))
    }

    fn write(&mut self, member: &Member, contents: &mut dyn Read) -> Result<(), String> {
        if let What::Directory(mode) = member.what {
            self.enter(&member.path)?;
            self.directories.push((member.path.clone(), mode, member.modified));
            return Ok(());
        }
        let (Some(above), Some(name)) = (member.path.parent(), member.path.file_name()) else {
            return Err("it has no name".to_owned());
        };
        let name = Path::new(name);
        match &member.what {
            What::File(mode) => self.file(above, name, *mode, member.modified, contents),
            What::Symlink(target) => {
                let (owner, at) = (self.owner, self.enter(above)?);
                anew(at, name, || symlinkat(target, at, name))?;
                own(owner, |user, group| chownat(at, name, user, group, AtFlags::SYMLINK_NOFOLLOW))?;
                let times = member.modified.map(times);
                times.map_or(Ok(()), |times| utimensat(at, name, &times, AtFlags::SYMLINK_NOFOLLOW)).map_err(said)
            }
            What::Hardlink(target) => self.link(above, name, target),
            What::Directory(_) => Ok(()),
        }
    }

    fn file(
        &mut self,
        above: &Path,
        name: &Path,
        mode: u32,
        modified: Option<i64>,
        contents: &mut dyn Read,
    ) -> Result<(), String> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let (owner, at) = (self.owner, self.enter(above)?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(anew(at, name, || openat(at, name, flags, Mode::RUSR | Mode::WUSR))?);
        loop {
            let count = match contents.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.to_string()),
            };
            file.write_all(&buffer[..count]).map_err(|error| error.to_string())?;
        }
        // The owner comes first, because a new owner takes the set-uid bit away.
        own(owner, |user, group| fchown(&file, user, group))?;
        fchmod(&file, Mode::from_raw_mode(mode)).map_err(said)?;
        modified.map_or(Ok(()), |at| futimens(&file, &times(at))).map_err(said)?;
        self.buffer = buffer;
        Ok(())
    }

    /// Another name of a file that was written before.
    fn link(&mut self, above: &Path, name: &Path, target: &Path) -> Result<(), String> {
        const NOTHING: &str = "it is a link to a file that does not come before it";
        let (Some(from), Some(of)) = (target.parent(), target.file_name()) else { return Err(NOTHING.to_owned()) };
        let from = self.enter(from).map_err(|_| NOTHING)?.try_clone().map_err(|error| error.to_string())?;
        let found = statat(&from, of, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| NOTHING)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(NOTHING.to_owned());
        }
        let at = self.enter(above)?;
        anew(at, name, || linkat(&from, of, at, name, AtFlags::empty()))
    }

    /// Opens a directory of the tree; those on the way that are missing are made.
    fn enter(&mut self, path: &Path) -> Result<&OwnedFd, String> {
        if self.at.as_ref().is_none_or(|(at, _)| at != path) {
            let mut directory = self.root.try_clone().map_err(|error| error.to_string())?;
            let mut way = PathBuf::new();
            for name in path {
                way.push(name);
                directory = match open_inside(&directory, Path::new(name)) {
                    Ok(opened) => opened,
                    Err(Errno::NOENT) => {
                        mkdirat(&directory, name, Mode::RWXU).map_err(said)?;
                        self.directories.push((way.clone(), DIRECTORY_MODE, None));
                        open_inside(&directory, Path::new(name)).map_err(said)?
                    }
                    Err(Errno::NOTDIR | Errno::LOOP) => {
                        return Err(format!("{} is no directory in this archive", way.display()));
                    }
                    Err(error) => return Err(said(error)),
                };
            }
            self.at = Some((path.to_path_buf(), directory));
        }
        let Some((_, directory)) = &self.at else { unreachable!("entered above") };
        Ok(directory)
    }

    /// Gives directories their owners, modes and times, the deepest first, and gives back the topmost.
    pub(super) fn finish(mut self) -> Result<OwnedFd, Fault> {
        self.at = None;
        // Of several times that one was mentioned, the last counts. What lies below a path comes after it.
        let last: BTreeMap<_, _> = self.directories.drain(..).map(|(path, mode, at)| (path, (mode, at))).collect();
        for (path, (mode, modified)) in last.into_iter().rev() {
            let done = self.settle(&path, mode, modified);
            done.map_err(|why| Fault::path("set the mode of the unpacked", &path, why))?;
        }
        Ok(self.root)
    }

    fn settle(&mut self, path: &Path, mode: u32, modified: Option<i64>) -> Result<(), String> {
        let owner = self.owner;
        let directory = self.enter(path)?;
        own(owner, |user, group| fchown(directory, user, group))?;
        fchmod(directory, Mode::from_raw_mode(mode)).map_err(said)?;
        modified.map_or(Ok(()), |at| futimens(directory, &times(at))).map_err(said)
    }
}

/// Makes an entry; what an earlier member has put there makes room, unless it is a directory.
fn anew<T>(at: impl AsFd, name: &Path, make: impl Fn() -> Result<T, Errno>) -> Result<T, String> {
    match make() {
        Err(Errno::EXIST) => {}
        made => return made.map_err(said),
    }
    unlinkat(at, name, AtFlags::empty()).map_err(|_| "a directory of this archive has that name".to_owned())?;
    make().map_err(said)
}

fn own(
    (user, group): (Option<Uid>, Option<Gid>),
    change: impl Fn(Option<Uid>, Option<Gid>) -> Result<(), Errno>,
) -> Result<(), String> {
    if user.is_none() && group.is_none() {
        return Ok(());
    }
    change(user, group).map_err(|error| format!("cannot set its owner: {error}"))
}

fn times(modified: i64) -> Timestamps {
    let at = Timespec { tv_sec: modified, tv_nsec: 0 };
    Timestamps { last_access: at, last_modification: at }
}

fn said(error: Errno) -> String {
    error.to_string()
}
