//! The index in sled, which is named nowhere else.
//!
//! sled 0.34.7 is fast and not to be trusted: its `flush` does not sync, its `open` can panic, hang, or fail over its own
//! left-overs, and an iterator over a damaged page gives the same error for ever. So: no promise rests on it, left-overs
//! are cleared first, iteration stops at the first error, and `len` is never asked.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Index, Opener};

/// Larger values go to files of their own, which are never synced and never collected.
const VALUE_BYTES_MAX: usize = 16 << 10;
const SEGMENT_BYTES: usize = 2 << 20;
const CACHE_BYTES: u64 = 16 << 20;
/// Keys removed in one batch.
const REMOVALS_MAX: usize = 4096;

/// Opens the tree in a directory.
#[derive(Debug, Clone)]
pub struct Tree(PathBuf);

impl Tree {
    /// The directory need not exist; its parent must.
    #[must_use]
    pub const fn new(directory: PathBuf) -> Self {
        Self(directory)
    }
}

#[derive(Debug)]
struct Entries(sled::Db);

/// Index and chunk, so that an entry's chunks follow each other.
fn key(index: u64, chunk: u16) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&chunk.to_be_bytes());
    key
}

fn parts(key: &[u8]) -> io::Result<(u64, u16)> {
    let (index, chunk) = key.split_at_checked(8).ok_or_else(foreign)?;
    let index = u64::from_be_bytes(index.try_into().map_err(|_| foreign())?);
    Ok((index, u16::from_be_bytes(chunk.try_into().map_err(|_| foreign())?)))
}

fn foreign() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a key that is not ours")
}

impl Index for Entries {
    fn get(&self, index: u64) -> io::Result<Option<Bytes>> {
        let mut whole: Option<Vec<u8>> = None;
        for pair in self.0.range(key(index, 0)..=key(index, u16::MAX)) {
            whole.get_or_insert_default().extend_from_slice(&pair?.1);
        }
        Ok(whole.map(Bytes::from))
    }

    fn put(&self, entries: &[(u64, Bytes)]) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for (index, bytes) in entries {
            for (chunk, value) in (0_u16..).zip(bytes.chunks(VALUE_BYTES_MAX)) {
                batch.insert(&key(*index, chunk), value);
            }
        }
        Ok(self.0.apply_batch(batch)?)
    }

    fn keep(&self, first: u64, end: u64) -> io::Result<()> {
        for range in [key(0, 0)..key(first, 0), key(end, 0)..key(u64::MAX, u16::MAX)] {
            loop {
                let mut batch = sled::Batch::default();
                let mut removed = 0;
                for pair in self.0.range(range.clone()).take(REMOVALS_MAX) {
                    batch.remove(pair?.0);
                    removed += 1;
                }
                if removed == 0 {
                    break;
                }
                self.0.apply_batch(batch)?;
            }
        }
        Ok(())
    }

    fn visit(&self, see: &mut dyn FnMut(u64, Bytes) -> ControlFlow<()>) -> io::Result<()> {
        let mut current: Option<(u64, Vec<u8>)> = None;
        for pair in self.0.iter() {
            let (key, value) = pair?;
            let (index, _) = parts(&key)?;
            if let Some((_, whole)) = current.as_mut().filter(|(of, _)| *of == index) {
                whole.extend_from_slice(&value);
                continue;
            }
            if let Some((of, whole)) = current.replace((index, value.to_vec()))
                && see(of, whole.into()).is_break()
            {
                return Ok(());
            }
        }
        if let Some((of, whole)) = current {
            // It was the last one: whether to go on is no question.
            let _no_more = see(of, whole.into());
        }
        Ok(())
    }
}

/// Removes files of a directory whose names begin and end so.
fn clear(directory: &Path, begins: &str, ends: &str) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(begins) && name.ends_with(ends)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

impl Tree {
    fn try_open(&self) -> sled::Result<sled::Db> {
        sled::Config::new()
            .path(&self.0)
            .mode(sled::Mode::HighThroughput)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .open()
    }
}

impl Opener for Tree {
    fn open(&self, anew: bool) -> io::Result<Box<dyn Index>> {
        if anew && self.0.exists() {
            // One is kept, for people to look at. Whoever still hangs in it keeps what he has open.
            let aside = self.0.with_extension("aside");
            if aside.exists() {
                fs::remove_dir_all(&aside)?;
            }
            fs::rename(&self.0, &aside)?;
        }
        // sled would let everybody look into it.
        match fs::DirBuilder::new().mode(0o700).create(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => clear(&self.0, "snap.", ".generating")?,
        }
        let opened = match self.try_open() {
            // Its snapshot is a summary, and the log it summarises is there.
            Err(sled::Error::Corruption { at: None, .. }) => {
                clear(&self.0, "snap.", "")?;
                self.try_open()
            }
            opened => opened,
        };
        Ok(Box::new(Entries(opened?)))
    }
}
