//! Syncs of many files at once: those of one file system that wait at the same time share one `syncfs`.
//!
//! Promises: when a sync returns well, the file (if one was given) and its directory entry are on stable storage; an
//! error reaches every request it concerns. Files that wait do not hold descriptors past a small number. Must not know
//! who writes what, or why.
//!
//! One thread, started with the first request, takes all that wait and serves them together; while it does, the next
//! batch gathers. A lone repair is thus served at once, and 5,000 creations cost a handful of `syncfs`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags, fstat, fsync, open, stat, syncfs};
use rustix::io::Errno;
use tokio::sync::{Semaphore, oneshot};

/// Up to this many waiting requests of one file system are synced one by one; more share a `syncfs`, which may also
/// have to write what others have left dirty.
const SINGLY_MAX: usize = 16;
/// Requests that may wait at once; further ones wait for a place. Each is a few words.
const WAITING_MAX: usize = 65_536;

/// Syncs files and directories to stable storage, together where that is cheaper.
#[derive(Debug, Clone)]
pub struct Syncs(Arc<Handle>);

/// Ends the thread when the last one, waiting requests included, is gone.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    places: Semaphore,
}

#[derive(Debug, Default)]
struct Shared {
    /// Protects the queue and what is known of the thread.
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// By device number.
    file_systems: BTreeMap<u64, Batch>,
    running: bool,
    closed: bool,
}

/// What waits on one file system.
#[derive(Debug, Default)]
struct Batch {
    singly: Vec<Item>,
    /// Set once there are too many: any descriptor on the file system, the oldest there was, so that `syncfs` reports
    /// every write that failed since it was opened. The others' have been closed by then.
    together: Option<File>,
    waiting: Vec<oneshot::Sender<Result<(), Errno>>>,
}

#[derive(Debug)]
struct Item {
    file: Option<File>,
    directory: Option<Directory>,
    done: oneshot::Sender<Result<(), Errno>>,
}

/// A directory whose entries are to be durable.
#[derive(Debug)]
pub enum Directory {
    /// The one that stands at this path when its turn comes.
    Named(PathBuf),
    /// This one, wherever it is by then.
    Open(File),
}

/// What a request is about.
enum Extent {
    /// The file and the directory.
    These(Option<File>, Option<Directory>),
    /// Everything on the file system of this file.
    All(File),
}

impl Default for Syncs {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.wake.notify_all();
    }
}

impl Syncs {
    /// Nothing waits yet, and no thread runs.
    pub fn new() -> Self {
        Self(Arc::new(Handle { shared: Arc::default(), places: Semaphore::new(WAITING_MAX) }))
    }

    /// Makes this file (if given) and the entries of its directory durable. Dropping the future gives up waiting.
    pub fn sync(
        &self,
        file: Option<File>,
        directory: Directory,
    ) -> impl Future<Output = io::Result<()>> + Send + use<> {
        self.wait(Extent::These(file, Some(directory)))
    }

    /// Makes the contents and attributes of a file durable, not its directory entry.
    pub fn file(&self, file: File) -> impl Future<Output = io::Result<()>> + Send + use<> {
        self.wait(Extent::These(Some(file), None))
    }

    /// Makes everything on the file system of this file or directory durable.
    pub fn file_system(&self, of: File) -> impl Future<Output = io::Result<()>> + Send + use<> {
        self.wait(Extent::All(of))
    }

    fn wait(&self, extent: Extent) -> impl Future<Output = io::Result<()>> + Send + use<> {
        let handle = Arc::clone(&self.0);
        async move {
            let _place = handle.places.acquire().await.map_err(io::Error::other)?;
            let done = handle.shared.enqueue(extent)?;
            done.await.map_err(|_| io::Error::other("the thread that syncs files has died"))??;
            Ok(())
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(self: &Arc<Self>, extent: Extent) -> io::Result<oneshot::Receiver<Result<(), Errno>>> {
        let device = match &extent {
            Extent::These(Some(file), _) | Extent::These(None, Some(Directory::Open(file))) | Extent::All(file) => {
                fstat(file)?.st_dev
            }
            Extent::These(None, Some(Directory::Named(directory))) => stat(directory)?.st_dev,
            Extent::These(None, None) => unreachable!("a request names a file or a directory"),
        };
        let (done, receiver) = oneshot::channel();
        let mut queue = self.queue();
        queue.file_systems.entry(device).or_default().add(extent, done)?;
        if !queue.running {
            let shared = Arc::clone(self);
            std::thread::Builder::new().name("mgmt-syncs".to_owned()).spawn(move || shared.serve())?;
            queue.running = true;
        }
        drop(queue);
        self.wake.notify_one();
        Ok(receiver)
    }

    /// The thread: takes all that waits, serves it, and ends when nobody can ask any more.
    fn serve(&self) {
        loop {
            let mut queue = self.queue();
            while queue.file_systems.is_empty() {
                if queue.closed {
                    return;
                }
                queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            let batches = std::mem::take(&mut queue.file_systems);
            drop(queue);
            batches.into_values().for_each(Batch::serve);
        }
    }
}

impl Batch {
    fn add(&mut self, extent: Extent, done: oneshot::Sender<Result<(), Errno>>) -> io::Result<()> {
        let (file, directory) = match extent {
            Extent::These(file, directory) if self.together.is_none() => {
                self.singly.push(Item { file, directory, done });
                if self.singly.len() <= SINGLY_MAX {
                    return Ok(());
                }
                return self.join();
            }
            Extent::These(file, directory) => (file, directory),
            Extent::All(file) => (Some(file), None),
        };
        if self.together.is_none() {
            self.together = file;
            self.join()?;
        }
        drop(directory);
        self.waiting.push(done);
        Ok(())
    }

    /// From now on together: keeps one descriptor and lets go of the others.
    fn join(&mut self) -> io::Result<()> {
        let kept = self.singly.iter_mut().find_map(|item| item.file.take());
        let kept = kept.or_else(|| self.together.take());
        let kept = match (kept, self.singly.first_mut().and_then(|item| item.directory.take())) {
            (Some(file), _) | (None, Some(Directory::Open(file))) => file,
            (None, Some(Directory::Named(directory))) => open_directory(&directory)?,
            (None, None) => unreachable!("a request names a file or a directory"),
        };
        self.together = Some(kept);
        self.waiting.extend(self.singly.drain(..).map(|item| item.done));
        Ok(())
    }

    fn serve(self) {
        if let Some(file) = self.together {
            let outcome = syncfs(file);
            self.waiting.into_iter().for_each(|done| answer(done, outcome));
        }
        // Directories come after the files: an entry must not outlive, over a power loss, what it names.
        let files: Vec<Result<(), Errno>> =
            self.singly.iter().map(|item| item.file.as_ref().map_or(Ok(()), fsync)).collect();
        let mut synced = Synced::default();
        for (item, file) in self.singly.into_iter().zip(files) {
            let directory = item.directory.map_or(Ok(()), |directory| synced.sync(directory));
            answer(item.done, file.and(directory));
        }
    }
}

/// The directories of a batch: each is synced once, and its outcome is that of every file in it.
#[derive(Default)]
struct Synced {
    named: BTreeMap<PathBuf, Result<(), Errno>>,
    /// By device and inode number.
    open: BTreeMap<(u64, u64), Result<(), Errno>>,
}

impl Synced {
    fn sync(&mut self, directory: Directory) -> Result<(), Errno> {
        match directory {
            Directory::Named(path) => {
                let sync = |path: &PathBuf| fsync(open_directory(path)?);
                *self.named.entry(path).or_insert_with_key(sync)
            }
            Directory::Open(directory) => {
                let of = fstat(&directory)?;
                *self.open.entry((of.st_dev, of.st_ino)).or_insert_with(|| fsync(directory))
            }
        }
    }
}

/// A request whose future was dropped has nobody to hear the answer; that is its right.
fn answer(done: oneshot::Sender<Result<(), Errno>>, outcome: Result<(), Errno>) {
    if done.send(outcome).is_err() {
        tracing::trace!("a sync was not waited for");
    }
}

fn open_directory(path: &Path) -> Result<File, Errno> {
    Ok(open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?.into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    #[test]
    fn few_and_many_are_served() {
        let directory = tempfile::tempdir().unwrap();
        let syncs = Syncs::new();
        let here = || Directory::Named(directory.path().to_owned());
        let opened = || Directory::Open(File::open(directory.path()).unwrap());
        for count in [1, SINGLY_MAX, SINGLY_MAX + 1, 500] {
            runtime().block_on(async {
                let mut waiting = Vec::new();
                for number in 0..count {
                    let path = directory.path().join(number.to_string());
                    fs::write(&path, "x").unwrap();
                    waiting.push(tokio::spawn(syncs.sync(Some(File::open(&path).unwrap()), here())));
                }
                for one in waiting {
                    one.await.unwrap().unwrap();
                }
                syncs.sync(None, here()).await.unwrap();
                syncs.sync(None, opened()).await.unwrap();
                syncs.file_system(File::open(directory.path()).unwrap()).await.unwrap();
            });
        }
    }

    #[test]
    fn many_waiting_files_hold_one_descriptor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "x").unwrap();
        let mut batch = Batch::default();
        for _ in 0..SINGLY_MAX + 10 {
            let extent =
                Extent::These(Some(File::open(&path).unwrap()), Some(Directory::Named(directory.path().to_owned())));
            batch.add(extent, oneshot::channel().0).unwrap();
        }
        assert!(batch.singly.is_empty() && batch.together.is_some());
        assert_eq!(batch.waiting.len(), SINGLY_MAX + 10);
    }

    #[test]
    fn an_error_reaches_every_request_of_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let gone = directory.path().join("gone");
        let (first, second, third) = (oneshot::channel(), oneshot::channel(), oneshot::channel());
        let mut batch = Batch::default();
        batch.add(Extent::These(None, Some(Directory::Named(gone.clone()))), first.0).unwrap();
        batch.add(Extent::These(None, Some(Directory::Named(gone))), second.0).unwrap();
        batch.add(Extent::These(None, Some(Directory::Named(directory.path().to_owned()))), third.0).unwrap();
        batch.serve();
        let outcome = |mut receiver: oneshot::Receiver<_>| receiver.try_recv().unwrap();
        assert_eq!(outcome(first.1), Err(Errno::NOENT));
        assert_eq!(outcome(second.1), Err(Errno::NOENT));
        assert_eq!(outcome(third.1), Ok(()));
    }

    #[test]
    fn the_thread_ends_with_the_last_handle() {
        let directory = tempfile::tempdir().unwrap();
        let syncs = Syncs::new();
        let shared = Arc::downgrade(&syncs.0.shared);
        runtime().block_on(syncs.sync(None, Directory::Named(directory.path().to_owned()))).unwrap();
        drop(syncs);
        // The thread holds the only other reference, and lets it go when it ends.
        while shared.upgrade().is_some() {
            std::thread::yield_now();
        }
    }
}
