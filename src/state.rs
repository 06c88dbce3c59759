//! The state directory of one host name: `PREFIX/HOSTNAME`, 0700, with a lock that is held while its owner lives.
//!
//! Promises that one host name runs once under a prefix. Must not know what is kept in it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::cli::args::Place;
use crate::cli::{Exit, Failure};

/// Longest host name.
const HOSTNAME_MAX: usize = 253;

/// Who we are and where we keep things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// This host's name, valid and in lower case.
    pub hostname: String,
    /// The directory that holds one directory a host name.
    pub prefix: PathBuf,
}

impl Home {
    /// From what was given, or the defaults: the machine's name, and the usual place for state.
    ///
    /// # Errors
    /// The name is not valid, or there is no place for state.
    pub fn of(place: &Place) -> Result<Self, Failure> {
        let hostname = hostname(place.hostname.as_deref())?;
        let prefix = match &place.prefix {
            Some(prefix) => prefix.clone(),
            None => default_prefix().ok_or_else(|| {
                Failure::new(Exit::CannotCreate, "no place for state: give --prefix, or set HOME or XDG_STATE_HOME")
            })?,
        };
        let prefix = std::path::absolute(&prefix)
            .map_err(|e| Failure::new(Exit::CannotCreate, format!("cannot find {}: {e}", prefix.display())))?;
        Ok(Self { hostname, prefix })
    }

    /// The directory of this host name.
    pub fn directory(&self) -> PathBuf {
        self.prefix.join(&self.hostname)
    }
}

/// A valid host name: the one given, or the machine's.
///
/// # Errors
/// It is not `[a-z0-9][a-z0-9.-]{0,252}`, in any case.
pub fn hostname(given: Option<&str>) -> Result<String, Failure> {
    let name = match given {
        Some(name) => name.to_ascii_lowercase(),
        None => rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase(),
    };
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
    let good = name.len() <= HOSTNAME_MAX
        && name.bytes().all(fits)
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if good {
        return Ok(name);
    }
    let hint = if given.is_some() { "" } else { "; give one with --hostname" };
    let message = format!("'{name}' is no host name: letters, digits, '.' and '-' are wanted{hint}");
    Err(Failure::new(Exit::Usage, message))
}

/// Where state is kept unless told otherwise.
pub fn default_prefix() -> Option<PathBuf> {
    // systemd may name several directories, separated by colons: the first is ours.
    let named = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(given) = named("STATE_DIRECTORY") {
        return given.to_string_lossy().split(':').next().map(PathBuf::from);
    }
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/mgmt"));
    }
    named("XDG_STATE_HOME").or_else(|| Some(named("HOME")?.join(".local/state"))).map(|dir| dir.join("mgmt"))
}

/// A state directory that is ours until this is dropped.
#[derive(Debug)]
pub struct State {
    directory: PathBuf,
    /// Holds the lock.
    _lock: File,
    /// A prefix made for this run alone, removed with it.
    temporary: Option<PathBuf>,
}

impl State {
    /// Takes the directory of `home`, or with `part` a directory of its own inside it, making what is missing.
    ///
    /// # Errors
    /// It cannot be made, or somebody else holds it.
    pub fn take(home: &Home, part: Option<&str>) -> Result<Self, Failure> {
        let directory = part.map_or_else(|| home.directory(), |part| home.directory().join(part));
        let cannot = |e: io::Error| cannot_create(&directory, &e);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(cannot)?;
        let path = directory.join("lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(NOFOLLOW);
        let mut lock = options.open(&path).map_err(|e| cannot_create(&path, &e))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(taken(&home.hostname, part, &mut lock)),
            Err(error) => return Err(cannot_create(&path, &error.into())),
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(|e| cannot_create(&path, &e))?;
        Ok(Self { directory, _lock: lock, temporary: None })
    }

    /// Takes a fresh directory that is removed when this is dropped.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn temporary(home: &mut Home) -> Result<Self, Failure> {
        let base = std::env::temp_dir();
        for number in 0..1000 {
            let prefix = base.join(format!("mgmt-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&prefix) {
                Ok(()) => {
                    home.prefix.clone_from(&prefix);
                    let mut state = Self::take(home, None)?;
                    state.temporary = Some(prefix);
                    return Ok(state);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(cannot_create(&prefix, &error)),
            }
        }
        Err(Failure::new(Exit::CannotCreate, format!("cannot find a free name in {}", base.display())))
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(prefix) = &self.temporary
            && let Err(error) = std::fs::remove_dir_all(prefix)
        {
            tracing::warn!("cannot remove {}: {error}", prefix.display());
        }
    }
}

const NOFOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

fn cannot_create(path: &Path, error: &io::Error) -> Failure {
    let exit = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC | Errno::IO | Errno::DQUOT) => Exit::Disk,
        _ => Exit::CannotCreate,
    };
    let hint = if exit == Exit::CannotCreate { "; give another place with --prefix, or --tmp-prefix" } else { "" };
    Failure::new(exit, format!("cannot use {} for state: {error}{hint}", path.display()))
}

fn taken(hostname: &str, part: Option<&str>, lock: &mut File) -> Failure {
    let mut pid = String::new();
    let known = lock.rewind().and_then(|()| lock.take(32).read_to_string(&mut pid)).is_ok();
    let who = if known && !pid.trim().is_empty() { format!(" as process {}", pid.trim()) } else { String::new() };
    let what = part.map_or_else(String::new, |part| format!(" ({part})"));
    Failure::new(
        Exit::TryAgain,
        format!("host name '{hostname}'{what} already runs{who}; give another --hostname, or --tmp-prefix"),
    )
}
