//! How the processes of one user on one machine find each other: `PREFIX/.local` holds a file for each that lives.
//!
//! A file is kept under `flock` by who wrote it: without a lock it is dead, and whoever sees that clears it away. Names
//! are changed under the lock of the directory itself, for microseconds; so nobody clears away what has just been
//! replaced. Founding takes `FOUND_LOCK`, which is held until the founder is announced: of many that start at once one
//! founds, and the others join it.
//!
//! Promises: what is read is bounded and only believed of files of our own user that nobody else may read or write. Must
//! not know how a mesh is founded or joined.

mod announcement;
mod decide;

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mgmt_consensus::identity::{FILE, Stored, check_host, parse};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

pub use announcement::Announcement;
pub use decide::{Meet, Scene, Sleeper, decide};

/// The folder of a prefix. No host name begins with a dot.
const FOLDER: &str = ".local";
/// Held by who is about to found.
const FOUND_LOCK: &str = "found.lock";
/// Where a file is written before it takes its name. No host name begins with a dot.
const FRESH: &str = ".fresh-";
/// Bytes of a file; the longest host name and a token are a quarter of it.
const FILE_BYTES_MAX: u64 = 4096;
/// Names that are looked at in the folder, and hosts in the prefix.
const NAMES_MAX: usize = 4096;
/// Between two looks while somebody founds, which takes about so long.
const FOUNDING_POLL: Duration = Duration::from_millis(10);
/// Between two looks while a host must be started first. That a lock is let go of makes no event in its directory, so
/// watching it would not do; and a look costs a few system calls.
const WAITING_POLL: Duration = Duration::from_millis(200);
/// Directories and files are opened as what they should be, or not at all.
const NOFOLLOW: i32 = (OFlags::NOFOLLOW.bits() | OFlags::NONBLOCK.bits()) as i32;

/// The folder of a prefix.
#[derive(Debug, Clone)]
pub struct Local {
    prefix: PathBuf,
    folder: PathBuf,
    /// What was said already, so that looking again and again says it once.
    said: Arc<Mutex<BTreeSet<String>>>,
}

/// This process in the folder. Dropped, it is taken out.
#[derive(Debug)]
pub struct Announced {
    local: Local,
    host: String,
    /// Holds the lock; an update replaces it.
    held: File,
}

/// The right to found. Keep it until the founder is announced.
#[derive(Debug)]
pub struct Founding {
    _lock: File,
}

/// What came of meeting the others.
#[derive(Debug)]
pub enum Met {
    /// There is nobody: found, and hold this until it is announced.
    Found(Founding),
    /// Join this one.
    Join(Announcement),
    /// This host is a member already.
    Resume,
    /// Neither founding nor joining would be right, and why.
    Refuse(String),
}

impl Local {
    /// The folder below a prefix, made if need be. The prefix must be there.
    ///
    /// # Errors
    /// It cannot be made, or is not ours alone.
    pub fn open(prefix: &Path) -> io::Result<Self> {
        let folder = prefix.join(FOLDER);
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let local = Self { prefix: prefix.to_owned(), folder, said: Arc::default() };
        local.directory()?;
        Ok(local)
    }

    /// The folder below a prefix if there is one already.
    ///
    /// # Errors
    /// It is not ours alone.
    pub fn existing(prefix: &Path) -> io::Result<Option<Self>> {
        let local = Self { prefix: prefix.to_owned(), folder: prefix.join(FOLDER), said: Arc::default() };
        match local.directory() {
            Ok(_) => Ok(Some(local)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The folder itself, looked at anew each time: what it has become since is not believed either.
    fn directory(&self) -> io::Result<File> {
        let shown = self.folder.display();
        let flags = NOFOLLOW | OFlags::DIRECTORY.bits() as i32;
        let directory = OpenOptions::new().read(true).custom_flags(flags).open(&self.folder)?;
        let about = directory.metadata()?;
        let wrong = if about.uid() != rustix::process::geteuid().as_raw() {
            format!("{shown} belongs to another user: remove it, or give another --prefix")
        } else if about.mode() & 0o077 != 0 {
            format!("others may use {shown}, which holds tokens: chmod 700 it if you trust what is in it, or remove it")
        } else {
            return Ok(directory);
        };
        Err(io::Error::new(io::ErrorKind::PermissionDenied, wrong))
    }

    /// Nobody else changes names in the folder while this is held. Those who hold it do so for a few system calls.
    fn alone(&self, wait: bool) -> io::Result<Option<File>> {
        let directory = self.directory()?;
        let how = if wait { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
        match flock(&directory, how) {
            Ok(()) => Ok(Some(directory)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Says to the others that this process lives.
    ///
    /// # Errors
    /// The name cannot be one, or the file cannot be written.
    pub fn announce(&self, announcement: &Announcement) -> io::Result<Announced> {
        let host = &announcement.host;
        if check_host(host).is_err() || host == FOUND_LOCK {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("'{host}' cannot be announced here")));
        }
        let held = self.publish(announcement)?;
        Ok(Announced { local: self.clone(), host: host.clone(), held })
    }

    /// Writes a file under a name of its own, locks it and gives it its place: it is whole and alive when it appears.
    fn publish(&self, announcement: &Announcement) -> io::Result<File> {
        let _alone = self.alone(true)?;
        let fresh = self.folder.join(format!("{FRESH}{}", announcement.host));
        // What a crash left; whoever writes it holds the folder.
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(NOFOLLOW).open(&fresh)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        file.write_all(announcement.render().as_bytes())?;
        std::fs::rename(&fresh, self.folder.join(&announcement.host))?;
        Ok(file)
    }

    /// Who lives, by name. The dead are cleared away.
    ///
    /// # Errors
    /// The folder cannot be read, or is not ours alone.
    pub fn live(&self) -> io::Result<Vec<Announcement>> {
        self.directory()?;
        let mut names = self.names(&self.folder)?;
        names.retain(|name| check_host(name).is_ok() && name != FOUND_LOCK);
        let mut live = Vec::new();
        for name in names {
            match self.look(&name) {
                Ok(Some(announcement)) => live.push(announcement),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.say(format!("{} is passed over: {error}", self.folder.join(&name).display())),
            }
        }
        Ok(live)
    }

    /// A file of the folder; none if it is dead.
    fn look(&self, name: &str) -> io::Result<Option<Announcement>> {
        let path = self.folder.join(name);
        let file = OpenOptions::new().read(true).custom_flags(NOFOLLOW).open(&path)?;
        let about = file.metadata()?;
        let bad = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why.to_owned()));
        if !about.is_file() || about.uid() != rustix::process::geteuid().as_raw() || about.mode() & 0o077 != 0 {
            return bad("it is no file that is ours alone");
        }
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                drop(file);
                self.clear(&path)?;
                return Ok(None);
            }
            Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error.into()),
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return bad("it is too long");
        }
        match Announcement::parse(&text) {
            Ok(announcement) if announcement.host == name => Ok(Some(announcement)),
            Ok(_) => bad("it is of another host"),
            Err(why) => bad(&why),
        }
    }

    /// Removes a dead file, unless somebody is at the folder: then the next one who looks does it.
    fn clear(&self, path: &Path) -> io::Result<()> {
        let Some(_alone) = self.alone(false)? else { return Ok(()) };
        // Looked at again: under the name may lie another file by now, and that one lives.
        let file = OpenOptions::new().read(true).custom_flags(NOFOLLOW).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => std::fs::remove_file(path),
            Err(_) => Ok(()),
        }
    }

    /// Hosts of the prefix that are members of something, live or not, by name.
    ///
    /// # Errors
    /// The prefix cannot be read.
    pub fn sleepers(&self) -> io::Result<Vec<Sleeper>> {
        let mut names = self.names(&self.prefix)?;
        names.retain(|name| check_host(name).is_ok());
        let mut sleepers = Vec::new();
        for host in names {
            let path = self.prefix.join(&host).join(FILE);
            let file = match OpenOptions::new().read(true).custom_flags(NOFOLLOW).open(&path) {
                Ok(file) => file,
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(error) => {
                    // It is somebody's, whatever it says.
                    self.say(format!("{}: {error}", path.display()));
                    sleepers.push(Sleeper { host, cluster: None });
                    continue;
                }
            };
            let mut bytes = Vec::new();
            file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
            let cluster = match parse(&bytes) {
                Ok(Stored::Sound(identity)) => Some(identity.cluster),
                _ => None,
            };
            sleepers.push(Sleeper { host, cluster });
        }
        Ok(sleepers)
    }

    /// The right to found; none while somebody else has it. Its file stays: removing it would make two of it.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn found_lock(&self) -> io::Result<Option<Founding>> {
        self.directory()?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(NOFOLLOW);
        let lock = options.open(self.folder.join(FOUND_LOCK))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Founding { _lock: lock })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What there is to decide about for a host.
    ///
    /// # Errors
    /// The folder or the prefix cannot be read.
    pub fn scene(&self, me: &str, new_cluster: bool) -> io::Result<Scene> {
        let live = self.live()?;
        let sleepers = self.sleepers()?;
        Ok(Scene { me: me.to_owned(), live, sleepers, new_cluster })
    }

    /// Meets the others: returns once it is clear what to do, and says what it waits for when that changes.
    /// Dropped, it has taken nothing.
    ///
    /// # Errors
    /// The folder or the prefix cannot be read.
    pub async fn meet(&self, me: &str, new_cluster: bool, mut say: impl FnMut(&str)) -> io::Result<Met> {
        let mut said = String::new();
        loop {
            let mut poll = WAITING_POLL;
            match decide(&self.scene(me, new_cluster)?) {
                Meet::Resume => return Ok(Met::Resume),
                Meet::Join(announcement) => return Ok(Met::Join(announcement)),
                Meet::Refuse(why) => return Ok(Met::Refuse(why)),
                // Whoever is founding has its files already, and is announced in a moment.
                Meet::Wait { .. } if self.found_lock()?.is_none() => poll = FOUNDING_POLL,
                Meet::Wait { why, .. } => {
                    if said != why {
                        say(&why);
                        said = why;
                    }
                }
                Meet::Found => {
                    // Whoever had the lock before us may have founded since we looked.
                    if let Some(founding) = self.found_lock()?
                        && decide(&self.scene(me, new_cluster)?) == Meet::Found
                    {
                        return Ok(Met::Found(founding));
                    }
                    poll = FOUNDING_POLL;
                }
            }
            tokio::time::sleep(poll).await;
        }
    }

    /// The names in a directory, sorted, as many as are looked at.
    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            if names.len() == NAMES_MAX {
                self.say(format!("{} has more than {NAMES_MAX} names: the rest is passed over", directory.display()));
                break;
            }
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    fn say(&self, what: String) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < NAMES_MAX && !said.contains(&what) {
            tracing::warn!("{what}");
            said.insert(what);
        }
    }
}

impl Announced {
    /// Says something else of the same host.
    ///
    /// # Errors
    /// The file cannot be written; the old one stays.
    pub fn update(&mut self, announcement: &Announcement) -> io::Result<()> {
        if announcement.host != self.host {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "another host is announced by another process"));
        }
        self.held = self.local.publish(announcement)?;
        Ok(())
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        let path = self.local.folder.join(&self.host);
        // Without the folder's lock this would race with whoever takes the name next; it is dead in any case then.
        let Ok(Some(_alone)) = self.local.alone(true) else { return };
        let same = |about: std::fs::Metadata| {
            self.held.metadata().is_ok_and(|held| (held.dev(), held.ino()) == (about.dev(), about.ino()))
        };
        if std::fs::symlink_metadata(&path).is_ok_and(same)
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::debug!("cannot remove {}: {error}", path.display());
        }
    }
}

#[cfg(test)]
mod tests;
