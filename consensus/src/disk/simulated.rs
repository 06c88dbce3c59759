//! A disk in memory that keeps no more than a disk has to: what a simulation stands on.
//!
//! What was written is readable at once and on the medium only after a sync. A crash decides for every 512-byte sector
//! that was written and not synced whether it arrived, for every change of a folder that was not synced whether it
//! happened, and ends the life of all handles. All chance comes from the seed.

mod platter;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use openraft::AsyncRuntime;

use self::platter::Platter;
use super::{Disk, DiskFile};

/// A handle to the disk, in one of its lives.
pub struct SimulatedDisk<R> {
    platter: Arc<Mutex<Platter>>,
    life: u64,
    runtime: PhantomData<fn() -> R>,
}

impl<R> Clone for SimulatedDisk<R> {
    fn clone(&self) -> Self {
        Self { platter: Arc::clone(&self.platter), life: self.life, runtime: PhantomData }
    }
}

impl<R> fmt::Debug for SimulatedDisk<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "simulated disk, life {}", self.life)
    }
}

/// What was on the medium at one moment.
#[derive(Debug, Clone)]
pub struct Image(Platter);

/// The program's side: what only tests do to a disk.
impl<R: AsyncRuntime> SimulatedDisk<R> {
    /// An empty one of this many bytes.
    #[must_use]
    pub fn new(seed: u64, capacity: u64) -> Self {
        Self { platter: Arc::new(Mutex::new(Platter::new(seed, capacity))), life: 0, runtime: PhantomData }
    }

    /// The power fails: what was not synced is there in part, and all handles are dead. [`SimulatedDisk::boot`] gives
    /// one for the next life.
    pub fn crash(&self) {
        self.any().crash();
    }

    /// A handle for the life that is now.
    #[must_use]
    pub fn boot(&self) -> Self {
        Self { life: self.any().life, ..self.clone() }
    }

    /// The `nth` sync from now on fails (0 is the next one), of files and folders alike. Of what was unsynced then,
    /// some can still be read until the next crash, nothing reaches the medium, and later syncs succeed all the same.
    pub fn fail_sync(&self, nth: u64) {
        let mut platter = self.any();
        platter.failing_sync = Some(platter.syncs + nth);
    }

    /// The `nth` write from now on fails (0 is the next one), with a part of it written.
    pub fn fail_write(&self, nth: u64) {
        let mut platter = self.any();
        platter.failing_write = Some(platter.writes + nth);
    }

    /// Changes its size; files that are there stay. What would need more fails with `StorageFull`.
    pub fn set_capacity(&self, bytes: u64) {
        self.any().capacity = bytes;
    }

    /// Every sync takes from `least` to `most` from now on.
    pub fn set_sync_latency(&self, least: Duration, most: Duration) {
        self.any().latency = (least, most.max(least));
    }

    /// Syncs that were asked for, in all lives.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.any().syncs
    }

    /// Flips one bit of a file at rest. Whether there was such a bit.
    pub fn flip(&self, name: &str, offset: u64, bit: u8) -> bool {
        self.any().flip(name, offset, bit)
    }

    /// Flips a bit by chance somewhere in the files of a folder: where.
    pub fn flip_somewhere(&self, folder: &str) -> Option<(String, u64, u8)> {
        self.any().flip_somewhere(folder)
    }

    /// Cuts a file at rest, or makes it longer.
    pub fn resize(&self, name: &str, bytes: u64) -> bool {
        self.any().resize(name, bytes)
    }

    /// Loses a folder with all that is in it, on the medium too; `""` is everything.
    pub fn wipe(&self, folder: &str) {
        self.any().wipe(folder);
    }

    /// What is on the medium now: what a crash would leave if nothing unsynced arrived.
    #[must_use]
    pub fn image(&self) -> Image {
        Image(self.any().medium())
    }

    /// Puts an old image in place of what is there. All handles are dead.
    pub fn restore(&self, image: &Image) {
        self.any().restore(&image.0);
    }

    fn any(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().expect("nothing panics while it holds this lock")
    }

    /// The platter, for a handle of this life.
    fn live(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let platter = self.any();
        if platter.life == self.life { Ok(platter) } else { Err(io::Error::other("a handle of a life that is over")) }
    }

    /// Waits as long as a sync takes; says whether it is to fail.
    async fn sync_begun(&self) -> io::Result<bool> {
        let (latency, fails) = self.live()?.begin_sync();
        if !latency.is_zero() {
            R::sleep(latency).await;
        }
        Ok(fails)
    }
}

impl<R: AsyncRuntime> Disk for SimulatedDisk<R> {
    type File = SimulatedFile<R>;

    fn create(&self, name: &str, bytes: u64) -> io::Result<SimulatedFile<R>> {
        let node = self.live()?.create(name, bytes)?;
        Ok(SimulatedFile { disk: self.clone(), node })
    }

    fn open(&self, name: &str) -> io::Result<SimulatedFile<R>> {
        let node = self.live()?.find(name)?;
        Ok(SimulatedFile { disk: self.clone(), node })
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        Ok(self.live()?.list(folder))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.live()?.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.live()?.remove(name);
        Ok(())
    }

    async fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let fails = self.sync_begun().await?;
        let mut platter = self.live()?;
        if fails {
            return Err(eio());
        }
        platter.sync_folder(folder);
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        let platter = self.live()?;
        Ok(platter.capacity.saturating_sub(platter.used()))
    }

    fn total(&self) -> io::Result<u64> {
        Ok(self.live()?.capacity)
    }
}

/// A file of it, open.
pub struct SimulatedFile<R> {
    disk: SimulatedDisk<R>,
    node: u64,
}

impl<R> fmt::Debug for SimulatedFile<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file {} of {:?}", self.node, self.disk)
    }
}

impl<R: AsyncRuntime> DiskFile for SimulatedFile<R> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.live()?.read(self.node, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.live()?.write(self.node, bytes, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.disk.live()?.size(self.node)
    }

    async fn sync(&self) -> io::Result<()> {
        let fails = self.disk.sync_begun().await?;
        let mut platter = self.disk.live()?;
        platter.sync(self.node, fails)?;
        if fails { Err(eio()) } else { Ok(()) }
    }
}

fn eio() -> io::Error {
    io::Error::from(rustix::io::Errno::IO)
}

#[cfg(test)]
mod tests;
