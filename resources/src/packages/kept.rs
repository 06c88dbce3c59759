//! Something read from files, kept until one of them is another: a look at what has not changed costs a `stat` of each.

use std::fs;
use std::future::Future;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use mgmt_engine::resource::Fault;

/// What tells two versions of some files apart: device, inode, size, time of the contents. Not the time of change: who only
/// reads a database of SQLite changes the owner of its journal to what it was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Stamp(Vec<Option<Version>>);

type Version = (u64, u64, u64, i64, i64);

impl Stamp {
    /// Of these files as they stand. One that cannot be looked at counts as missing: who reads it says more.
    pub(super) fn of<P: AsRef<Path>>(paths: &[P]) -> Self {
        let one = |path: &P| {
            let of = fs::metadata(path).ok()?;
            Some((of.dev(), of.ino(), of.size(), of.mtime(), of.mtime_nsec()))
        };
        Self(paths.iter().map(one).collect())
    }
}

/// What was read last, and of which version.
#[derive(Debug)]
pub(super) struct Kept<T> {
    kept: Mutex<Option<(Stamp, Arc<T>)>>,
    /// Held while somebody reads, so that many who ask at once read once.
    reading: tokio::sync::Mutex<()>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { kept: Mutex::default(), reading: tokio::sync::Mutex::default() }
    }
}

impl<T> Kept<T> {
    /// The present contents of these files, read by `read` if they are not those read last. Cancel safe.
    pub(super) async fn get<P, F>(&self, paths: &[P], read: impl FnOnce() -> F) -> Result<Arc<T>, Fault>
    where
        P: AsRef<Path>,
        F: Future<Output = Result<T, Fault>>,
    {
        if let Some(fresh) = self.of(&Stamp::of(paths)) {
            return Ok(fresh);
        }
        let _one_at_a_time = self.reading.lock().await;
        let stamp = Stamp::of(paths);
        if let Some(fresh) = self.of(&stamp) {
            return Ok(fresh);
        }
        // Kept under the version seen before reading: a write in between makes the next caller read again.
        let read = Arc::new(read().await?);
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some((stamp, Arc::clone(&read)));
        Ok(read)
    }

    fn of(&self, stamp: &Stamp) -> Option<Arc<T>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|(of, _)| of == stamp).map(|(_, kept)| Arc::clone(kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn what_has_not_changed_is_read_once() {
        let directory = tempfile::tempdir().unwrap();
        let paths = [directory.path().join("a"), directory.path().join("b")];
        let (kept, reads) = (Kept::default(), AtomicU32::new(0));
        let read = || async {
            reads.fetch_add(1, Ordering::SeqCst);
            Ok(fs::read_to_string(&paths[0]).unwrap_or_default())
        };
        assert_eq!(*kept.get(&paths, read).await.unwrap(), "");
        fs::write(&paths[0], "one").unwrap();
        let (a, b) = tokio::join!(kept.get(&paths, read), kept.get(&paths, read));
        assert_eq!((a.unwrap().as_str(), b.unwrap().as_str()), ("one", "one"));
        assert_eq!(reads.load(Ordering::SeqCst), 2);
        fs::write(&paths[1], "another file of the same").unwrap();
        kept.get(&paths, read).await.unwrap();
        assert_eq!(reads.load(Ordering::SeqCst), 3);
    }
}
