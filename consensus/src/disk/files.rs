//! A directory of a real file system.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{self, AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{Disk, DiskFile};

/// Only the owner reads and writes what is stored.
const FILE_MODE: Mode = Mode::from_raw_mode(0o600);
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o700);
/// Zeros are written in pieces of this many bytes where the file system cannot reserve blocks.
const ZEROS_BYTES: usize = 1 << 20;

/// Files of one directory, held by its descriptor: it may be moved while it is in use.
#[derive(Debug, Clone)]
pub struct Files(Arc<OwnedFd>);

impl Files {
    /// Opens a directory, which is made if it is not there (not so its parents).
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        match fs::mkdir(path, FOLDER_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(Arc::new(fs::open(path, flags, Mode::empty())?)))
    }

    fn folder(&self, folder: &str) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = if folder.is_empty() { "." } else { folder };
        Ok(fs::openat(&*self.0, name, flags, Mode::empty())?)
    }

    fn file(&self, name: &str, more: OFlags) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
        Ok(File::from(fs::openat(&*self.0, name, flags, FILE_MODE)?))
    }
}

/// Reserves the blocks of a new file; writes zeros where the file system cannot reserve.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    match fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let zeros = vec![0; ZEROS_BYTES];
            let mut at = 0;
            while at < bytes {
                let piece = usize::try_from(bytes - at).unwrap_or(ZEROS_BYTES).min(ZEROS_BYTES);
                DiskFile::write_at(file, &zeros[..piece], at)?;
                at += piece as u64;
            }
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}

impl Disk for Files {
    type File = File;

    fn create(&self, name: &str, bytes: u64) -> io::Result<File> {
        if let Some((folder, _)) = name.split_once('/') {
            match fs::mkdirat(&*self.0, folder, FOLDER_MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let file = self.file(name, OFlags::CREATE | OFlags::EXCL)?;
        if let Err(error) = reserve(&file, bytes) {
            // Half a file is of no use, and its blocks are.
            self.remove(name)?;
            return Err(error);
        }
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        self.file(name, OFlags::empty())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let folder = match self.folder(folder) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if let Some((folder, _)) = to.split_once('/') {
            match fs::mkdirat(&*self.0, folder, FOLDER_MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(fs::renameat(&*self.0, from, &*self.0, to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::unlinkat(&*self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    async fn sync_folder(&self, folder: &str) -> io::Result<()> {
        match self.folder(folder) {
            Ok(open) => Ok(fs::fsync(open)?),
            // Folders come into being with their first file: there is nothing in this one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn free(&self) -> io::Result<u64> {
        let space = fs::fstatvfs(&*self.0)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn total(&self) -> io::Result<u64> {
        let space = fs::fstatvfs(&*self.0)?;
        Ok(space.f_blocks.saturating_mul(space.f_frsize))
    }
}

impl DiskFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match std::os::unix::fs::FileExt::read_at(self, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, bytes, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    async fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn now<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    #[test]
    fn files_are_made_whole_and_private() {
        let scratch = tempfile::tempdir().unwrap();
        let disk = Files::open(&scratch.path().join("raft")).unwrap();
        let file = disk.create("journal/0", 8192).unwrap();
        assert_eq!(file.size().unwrap(), 8192);
        let mode = |name: &str| scratch.path().join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("raft"), mode("raft/journal"), mode("raft/journal/0")), (0o700, 0o700, 0o600));
        assert_eq!(disk.create("journal/0", 1).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        file.write_at(b"abc", 8190).unwrap();
        now(file.sync()).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(DiskFile::read_at(&file, &mut buffer, 8189).unwrap(), 4);
        assert_eq!(&buffer[..4], b"\0abc");
    }

    #[test]
    fn names_are_listed_renamed_and_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let disk = Files::open(scratch.path()).unwrap();
        assert_eq!(disk.list("journal").unwrap(), Vec::<String>::new());
        disk.create("journal/b", 0).unwrap();
        disk.create("journal/a", 0).unwrap();
        disk.rename("journal/b", "aside/c").unwrap();
        disk.remove("journal/b").unwrap();
        assert_eq!(disk.list("journal").unwrap(), ["a"]);
        assert_eq!(disk.list("aside").unwrap(), ["c"]);
        assert_eq!(disk.open("journal/b").unwrap_err().kind(), io::ErrorKind::NotFound);
        now(disk.sync_folder("aside")).unwrap();
        now(disk.sync_folder("")).unwrap();
        assert!(disk.free().unwrap() < disk.total().unwrap());
    }

    #[test]
    fn a_link_is_not_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let disk = Files::open(scratch.path()).unwrap();
        std::fs::write(scratch.path().join("target"), "").unwrap();
        std::os::unix::fs::symlink("target", scratch.path().join("link")).unwrap();
        assert!(disk.open("link").is_err());
    }
}
