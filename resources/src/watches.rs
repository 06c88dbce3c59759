//! Watches on paths: one inotify instance for the process, watches on directories, counted and shared.
//!
//! Promises: armed when the call returns, and no event after that is lost. A directory on the way that does not exist
//! yet, appears, moves away, comes back, is mounted over, or is a link that is pointed elsewhere is followed. A full
//! queue means that everything is raised. Where the kernel cannot tell - no watch left, no right to read, a network file
//! system - subscriptions are raised by time, and it is said once.
//!
//! Not seen: a write through another hard link or a bind mount of the file itself, a mapped write before its file is
//! closed, `truncate(2)` by path. Must not know what a resource is, nor the schedule: it holds signals and raises them.

mod kernel;
mod mounts;
mod reader;
mod registry;
mod slab;
mod trie;
mod troubles;

#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use inotify::Inotify;
use mgmt_engine::clock::Clock;
use mgmt_engine::resource::{Fault, Signal};
use rustix::event::EventfdFlags;

pub(crate) use mounts::unescape;
pub use troubles::Counts;

use crate::kind::normal;
use kernel::Kernel;
use mounts::Mounts;
use reader::{Reader, Shared};
use registry::Registry;
use trie::SubId;

/// How often a subscription is raised where the kernel's events are not enough.
const POLL_SECONDS: u64 = 30;

/// Watches paths and raises signals. Cheap to clone; the last clone or guard to go ends the reader thread.
#[derive(Debug, Clone)]
pub struct Watches(Arc<Handle>);

/// Ends the reader when the last holder drops it. The reader itself holds what is inside.
#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A subscription. Dropping it ends the subscription and releases the kernel watches that nobody else needs.
#[derive(Debug)]
pub struct Guard {
    handle: Arc<Handle>,
    id: SubId,
    /// A tree is the directory and the entry where it stands: a file may stand there instead.
    entry: Option<SubId>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let shared = &self.handle.0;
        let mut registry = shared.registry();
        // The signals may be the last to hold their sink: they are dropped after the lock.
        let _signals = (registry.unsubscribe(self.id), self.entry.map(|entry| registry.unsubscribe(entry)));
        let doubtful = registry.doubtful();
        drop(registry);
        if doubtful {
            shared.ring();
        }
    }
}

#[cfg(test)]
impl Watches {
    /// One for all tests that only need some: each instance takes one of the few (128) that a user may have, and closes
    /// in its own time.
    pub(crate) fn shared() -> Self {
        static SHARED: std::sync::OnceLock<Watches> = std::sync::OnceLock::new();
        SHARED.get_or_init(|| Self::start().expect("the tests need an inotify instance")).clone()
    }
}

impl Watches {
    /// Opens the instance and starts its reader thread.
    ///
    /// # Errors
    /// The user has no inotify instance or thread left.
    pub fn start() -> io::Result<Self> {
        Self::start_polling_every(POLL_SECONDS)
    }

    fn start_polling_every(poll_seconds: u64) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        // The mount table is read before the first directory is armed, so that no later mount is missed.
        let mounts = Mounts::open().ok();
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared::new(Registry::new(Kernel::new(&inotify)), bell, poll_seconds));
        let reader = Reader { shared: Arc::clone(&shared), inotify, mounts, clock: Clock::start() };
        thread::Builder::new().name("watches".into()).spawn(|| reader.run())?;
        Ok(Self(Arc::new(Handle(shared))))
    }

    /// Raises `signal` whenever the entry at `path` may have been created, removed, replaced, moved, written and
    /// closed, or had its attributes changed, or any directory on the way to it was. A link at `path` is not followed.
    ///
    /// # Errors
    /// The path is not absolute, or holds a zero byte.
    pub fn path(&self, path: &Path, signal: &Signal) -> Result<Guard, Fault> {
        Ok(self.subscribe(&checked(path)?, false, signal))
    }

    /// The same for `path` and everything below it. Directories made later are included; links below are not followed.
    ///
    /// # Errors
    /// The path is not absolute, or holds a zero byte.
    pub fn tree(&self, path: &Path, signal: &Signal) -> Result<Guard, Fault> {
        Ok(self.subscribe(&checked(path)?, true, signal))
    }

    /// Figures for `status` and tests.
    pub fn counts(&self) -> Counts {
        self.0.0.registry().counts()
    }

    fn subscribe(&self, path: &Path, tree: bool, signal: &Signal) -> Guard {
        // The root is nobody's entry: the empty name stands for a directory itself.
        let name = path.file_name().unwrap_or_else(|| OsStr::new(""));
        let shared = &self.0.0;
        let mut registry = shared.registry();
        let before = registry.polling();
        let id = registry.subscribe(path.parent().unwrap_or(path), Some(name), signal);
        let (id, entry) = if tree { (registry.subscribe(path, None, signal), Some(id)) } else { (id, None) };
        registry.say(shared.poll_seconds);
        let begins = !before && registry.polling();
        drop(registry);
        if begins {
            shared.ring();
        }
        Guard { handle: Arc::clone(&self.0), id, entry }
    }
}

/// The path in its one spelling.
fn checked(path: &Path) -> Result<std::borrow::Cow<'_, Path>, Fault> {
    if !path.is_absolute() {
        return Err(Fault::path("watch", path, "the path is not absolute"));
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(Fault::path("watch", path, "the path holds a zero byte"));
    }
    let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    Ok(if plain { path.into() } else { normal(path).into() })
}
