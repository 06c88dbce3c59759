//! The seam under everything that is stored: the files of one directory, and what a crash leaves of them.
//!
//! Names are relative, of at most one folder (`journal/000003`), and folders come into being with their first file.
//! Nothing here promises more than a POSIX file system does: what was written but not synced may be there after a crash
//! in whole, in part, in any order, or not at all; a file that was created, renamed or removed may be as before until
//! the folder is synced; and after a sync has failed nobody knows what is on the medium.

pub mod files;
#[cfg(feature = "testing")]
pub mod simulated;

use std::fmt::Debug;
use std::future::Future;
use std::io;

/// A directory.
pub trait Disk: Clone + Debug + Send + Sync + 'static {
    /// An open file of it.
    type File: DiskFile;

    /// Makes a file of this many bytes, all zero, with its blocks reserved; its folder too if need be.
    ///
    /// # Errors
    /// `AlreadyExists`, `StorageFull`, and what else a disk says.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Self::File>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, and what else a disk says.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// The names in a folder (without the folder), sorted; none if there is no such folder.
    ///
    /// # Errors
    /// What a disk says.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Renames a file, over another one if there is one.
    ///
    /// # Errors
    /// What a disk says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. One that is not there is removed already.
    ///
    /// # Errors
    /// What a disk says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes what was created, renamed and removed in a folder survive a crash. `""` is the directory itself, whose
    /// folders are its entries.
    fn sync_folder(&self, folder: &str) -> impl Future<Output = io::Result<()>> + Send;

    /// Bytes that may still be used on it.
    ///
    /// # Errors
    /// What a disk says.
    fn free(&self) -> io::Result<u64>;

    /// Bytes it has altogether.
    ///
    /// # Errors
    /// What a disk says.
    fn total(&self) -> io::Result<u64>;
}

/// An open file. All calls take their place: there is no cursor.
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// Fills `buffer` from `offset` on, as far as the file goes: how many bytes.
    ///
    /// # Errors
    /// What a disk says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// What a disk says. How much of it was written is unknown then.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// How long the file is.
    ///
    /// # Errors
    /// What a disk says.
    fn size(&self) -> io::Result<u64>;

    /// Makes what was written survive a crash (contents and length; `fdatasync`).
    ///
    /// On a real disk this blocks the thread that polls it, so it belongs into [`crate::Ground::aside`]. Not cancel
    /// safe: once dropped, whether it happened is unknown, as after an error.
    fn sync(&self) -> impl Future<Output = io::Result<()>> + Send;
}
