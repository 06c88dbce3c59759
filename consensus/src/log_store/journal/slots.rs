//! The files of a journal: made whole before they have their name, so that one with a name is never a part of one.

use std::future::Future;
use std::io;
use std::pin::Pin;

use openraft::AsyncRuntime as _;
use rand::Rng as _;

use super::recover::{Damage, Unrecoverable};
use super::{Fault, give_up_reserve, io_error, segment};
use crate::disk::{Disk, DiskFile};
use crate::ground::Ground;
use crate::identity::Incarnation;

/// Where they lie.
pub(in crate::log_store) const FOLDER: &str = "journal";
/// Space that is given up when there is no other.
pub(super) const RESERVE: &str = "reserve";
/// A slot that is being made.
const NEW: &str = "journal/new";
/// Says that a journal is being put aside: what is left of it is not a journal.
const CONDEMNED: &str = "journal/condemned";
/// Zeros are written in pieces of this many bytes, and each is synced: whoever waits for a sync does not wait for all.
const ZEROS_BYTES: usize = 1 << 20;

/// The slots there are.
pub(super) fn names<D: Disk>(disk: &D) -> Result<Vec<String>, Unrecoverable> {
    let names = disk.list(FOLDER).map_err(io_error(FOLDER))?;
    let names: Vec<_> = names.into_iter().map(|name| format!("{FOLDER}/{name}")).collect();
    if names.iter().any(|name| name == CONDEMNED) {
        let why = "it was being put aside".to_owned();
        return Err(Damage { file: CONDEMNED.to_owned(), offset: 0, why }.into());
    }
    Ok(names.into_iter().filter(|name| name != NEW).collect())
}

/// Puts a damaged journal aside, for people to look at: the name of the folder it is in. Nothing is deleted.
///
/// # Errors
/// What a disk says. What is left of it is refused by every open.
pub(in crate::log_store) async fn quarantine<D: Disk>(disk: &D) -> io::Result<String> {
    match disk.create(CONDEMNED, 0) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    disk.sync_folder(FOLDER).await?;
    disk.sync_folder("").await?;
    let mut free = None;
    for number in 1_u32.. {
        let folder = format!("damaged-{number}");
        if disk.list(&folder)?.is_empty() {
            free = Some(folder);
            break;
        }
    }
    let folder = free.ok_or_else(|| io::Error::other("every name is taken"))?;
    for name in disk.list(FOLDER)?.iter().filter(|name| !CONDEMNED.ends_with(&format!("/{name}"))) {
        disk.rename(&format!("{FOLDER}/{name}"), &format!("{folder}/{name}"))?;
    }
    disk.sync_folder(&folder).await?;
    disk.sync_folder(FOLDER).await?;
    disk.sync_folder("").await?;
    disk.remove(CONDEMNED)?;
    disk.sync_folder(FOLDER).await?;
    Ok(folder)
}

/// Makes the reserve if it is not there. Without space for it there is none.
pub(super) fn create_reserve<D: Disk>(disk: &D, bytes: u64) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    match disk.create(RESERVE, bytes) {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::StorageFull) => Ok(()),
        Err(error) => Err(error),
    }
}

type Making = Pin<Box<dyn Future<Output = Option<io::Result<()>>> + Send>>;

/// Makes slots: a spare one ahead of need, where it holds up nobody.
pub(super) struct Maker<G: Ground> {
    disk: G::Disk,
    incarnation: Incarnation,
    segment_bytes: u64,
    spare: Option<(String, Making)>,
}

impl<G: Ground> Maker<G> {
    pub(super) const fn new(disk: G::Disk, incarnation: Incarnation, segment_bytes: u64) -> Self {
        Self { disk, incarnation, segment_bytes, spare: None }
    }

    pub(super) const fn disk(&self) -> &G::Disk {
        &self.disk
    }

    pub(super) const fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// The header for another use, with a salt of its own.
    pub(super) fn header(&self, number: u32, first: u64) -> segment::Header {
        let salt = G::Runtime::thread_rng().next_u64();
        segment::Header::new(number, self.incarnation, first, self.segment_bytes, salt)
    }

    /// A name that no slot has.
    pub(super) fn next_slot(&self) -> io::Result<String> {
        let taken = self.disk.list(FOLDER)?;
        let free = (0_u32..).map(|number| format!("{number:04}")).find(|name| !taken.contains(name));
        Ok(format!("{FOLDER}/{}", free.expect("there are more numbers than files")))
    }

    /// Makes a slot of this name. With its zeros written the first frames in it cost no more than later ones; that takes
    /// a while.
    pub(super) fn make(
        &self,
        slot: &str,
        number: u32,
        zeros: bool,
    ) -> impl Future<Output = io::Result<()>> + Send + use<G> {
        let (disk, header, slot) = (self.disk.clone(), self.header(number, 0), slot.to_owned());
        async move { make(&disk, &slot, header, zeros).await }
    }

    /// Begins to make a spare one.
    pub(super) fn begin_spare(&mut self) -> Result<(), Fault> {
        if self.spare.is_some() {
            return Ok(());
        }
        let slot = self.next_slot().map_err(|error| Fault::new("list", FOLDER, &error))?;
        let work = self.make(&slot, 0, true);
        self.spare = Some((slot, Box::pin(G::aside("journal-spare", work))));
        Ok(())
    }

    /// Waits until nothing is being made any more.
    pub(super) async fn finish(&mut self) {
        if let Some((slot, making)) = self.spare.take() {
            let made = making.await;
            tracing::debug!(slot, ?made, "the last spare segment");
        }
    }

    /// The spare one; made now if there is none, with the reserve given up if there is no space otherwise.
    pub(super) async fn spare(&mut self) -> Result<String, Fault> {
        if let Some((slot, making)) = self.spare.take() {
            match making.await {
                Some(Ok(())) => return Ok(slot),
                Some(Err(error)) if error.kind() == io::ErrorKind::StorageFull => {
                    tracing::warn!("the disk is too full for a spare segment");
                }
                // A sync that failed is one too many, whatever it was for.
                Some(Err(error)) => return Err(Fault::new("make", &slot, &error)),
                None => return Err(Fault::new("make", &slot, &io::Error::other("it has panicked"))),
            }
        }
        let slot = self.next_slot().map_err(|error| Fault::new("list", FOLDER, &error))?;
        let failed = |error: io::Error| Fault::new("make", &slot, &error);
        match self.make(&slot, 0, false).await {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::warn!("the disk is full: the reserve is given up");
                if !give_up_reserve(&self.disk).map_err(failed)? {
                    return Err(failed(error));
                }
                self.make(&slot, 0, false).await.map_err(failed)?;
            }
            made => made.map_err(failed)?,
        }
        Ok(slot)
    }
}

/// Makes a slot under another name and gives it its own when it is whole and durable.
async fn make<D: Disk>(disk: &D, slot: &str, header: segment::Header, zeros: bool) -> io::Result<()> {
    disk.remove(NEW)?;
    let file = disk.create(NEW, header.bytes)?;
    file.write_at(&header.encode(), 0)?;
    if zeros {
        let piece = vec![0; ZEROS_BYTES];
        let mut at = segment::HEADER_BYTES as u64;
        while at < header.bytes {
            let length = usize::try_from(header.bytes - at).unwrap_or(ZEROS_BYTES).min(ZEROS_BYTES);
            file.write_at(&piece[..length], at)?;
            file.sync().await?;
            at += length as u64;
        }
    }
    file.sync().await?;
    disk.rename(NEW, slot)?;
    disk.sync_folder(FOLDER).await
}
