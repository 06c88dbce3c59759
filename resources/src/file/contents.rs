//! Wanted contents as a stream: compared with a file, or written into one, without loading what is large.
//!
//! Promises: contents given in the graph cost one read to compare and one write to write. Must not know where the file
//! stands that they are compared with or written to.

use std::cell::RefCell;
use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mgmt_engine::resource::{Fault, Stop, Urgency};
use rustix::fs::OFlags;

use super::desired::Contents;

/// Contents longer than this are handled off the worker threads, and never shown as a difference.
pub(super) const INLINE_BYTES_MAX: u64 = 1 << 20;
/// How much is read and compared at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// Files that fragments may name together; more would be a directory chosen by mistake.
const FRAGMENTS_MAX: usize = 65_536;

thread_local! {
    /// One for each side of a comparison, kept by the thread: a re-check of thousands of files allocates nothing.
    static BUFFERS: RefCell<(Vec<u8>, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// Has contents made that stand nowhere on this machine yet: the seam for kinds that get them elsewhere.
pub(crate) trait Maker: Debug + Send + Sync {
    /// Whether an open file, at its start, has these contents. `None`: that would take long, and nobody was `patient`.
    fn holds(&self, file: &File, path: &Path, patient: bool) -> Result<Option<bool>, Fault>;

    /// Makes them, and appends them to a file, which becomes `path`: how many bytes. Called where it may take its time;
    /// has to end soon when told to stop.
    fn make(&self, file: &File, path: &Path, stop: &Stop) -> Result<u64, Fault>;
}

/// Who makes the contents. Always equal: whoever has them made compares what they are made from.
#[derive(Debug, Clone)]
pub(crate) struct Made(pub(crate) Arc<dyn Maker>);

impl PartialEq for Made {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Made {}

/// Contents that have been looked up, with their length.
pub(super) enum Stream<'a> {
    Bytes(&'a [u8]),
    Files {
        parts: Vec<PathBuf>,
        length: u64,
    },
    /// One file that is already open, at its start.
    Open(&'a File),
    /// Yet to be made.
    Made(&'a dyn Maker),
}

impl Contents {
    /// Looks up what the contents are made of; `None` if they are not managed.
    pub(super) fn stream(&self) -> Result<Option<Stream<'_>>, Fault> {
        Ok(Some(match self {
            Self::Unmanaged => return Ok(None),
            Self::Given(bytes) => Stream::Bytes(bytes),
            Self::Copy(source) => Stream::of(vec![source.clone()])?,
            Self::Fragments(fragments) => Stream::of(members(fragments)?)?,
            Self::Made(made) => Stream::Made(&*made.0),
        }))
    }
}

/// The files that fragments name: directories are replaced by their regular files, sorted by name.
fn members(fragments: &[PathBuf]) -> Result<Vec<PathBuf>, Fault> {
    let mut parts = Vec::new();
    for fragment in fragments {
        let fault = |error| Fault::path("read fragment", fragment, error);
        if !fs::metadata(fragment).map_err(fault)?.is_dir() {
            parts.push(fragment.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in fs::read_dir(fragment).map_err(fault)? {
            let path = entry.map_err(fault)?.path();
            // A temporary file of ours is not a fragment, and a link counts as what it points to.
            let temporary = path.file_name().is_some_and(super::strays::is_temporary);
            if !temporary && fs::metadata(&path).is_ok_and(|of| of.is_file()) {
                inside.push(path);
            }
        }
        inside.sort_unstable();
        parts.append(&mut inside);
    }
    if parts.len() > FRAGMENTS_MAX {
        return Err(Fault::new(format!("fragments name {} files; {FRAGMENTS_MAX} is the most", parts.len())));
    }
    Ok(parts)
}

impl Stream<'_> {
    fn of(parts: Vec<PathBuf>) -> Result<Self, Fault> {
        let mut length = 0;
        for part in &parts {
            let of = fs::metadata(part).map_err(|error| Fault::path("read source", part, error))?;
            if !of.is_file() {
                return Err(Fault::path("read source", part, "it is not a regular file"));
            }
            length += of.len();
        }
        Ok(Stream::Files { parts, length })
    }

    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Files { length, .. } => *length,
            Self::Open(file) => file.metadata().map_or(0, |of| of.len()),
            // Unknown, and nothing for a worker thread.
            Self::Made(_) => INLINE_BYTES_MAX + 1,
        }
    }

    /// Fails if a source cannot be read; for checks that would otherwise not read it.
    pub(super) fn readable(&self) -> Result<(), Fault> {
        if let Self::Files { parts, .. } = self {
            parts.iter().try_for_each(|part| source(part).map(drop))?;
        }
        Ok(())
    }

    /// Whether `file`, of the same length, has these contents. `path` is for messages.
    pub(super) fn equals(&self, file: &File, path: &Path) -> Result<bool, Fault> {
        let fault = |error| Fault::path("read", path, error);
        match self {
            Self::Bytes(bytes) => begins_with(file, bytes).map_err(fault),
            Self::Open(wanted) => goes_on_as(file, wanted).map_err(fault),
            Self::Made(maker) => Ok(maker.holds(file, path, true)?.unwrap_or(false)),
            Self::Files { parts, .. } => {
                for part in parts {
                    if !goes_on_as(file, &source(part)?).map_err(fault)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    /// Writes these contents to the end of `file`. Gives up when told to stop.
    pub(super) fn write(&self, mut file: &File, path: &Path, stop: &Stop) -> Result<u64, Fault> {
        match self {
            Self::Bytes(bytes) => {
                file.write_all(bytes).map_err(|error| Fault::path("write", path, error))?;
                Ok(bytes.len() as u64)
            }
            Self::Open(wanted) => append(wanted, file, path, stop),
            Self::Made(maker) => maker.make(file, path, stop),
            Self::Files { parts, .. } => {
                parts.iter().try_fold(0, |written, part| Ok(written + append(&source(part)?, file, path, stop)?))
            }
        }
    }

    /// All of it, if it is not too large to be shown.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => (bytes.len() as u64 <= INLINE_BYTES_MAX).then(|| bytes.to_vec()),
            Self::Files { length, .. } if *length > INLINE_BYTES_MAX => None,
            Self::Open(_) | Self::Made(_) => None,
            Self::Files { parts, .. } => {
                let mut all = Vec::new();
                for part in parts {
                    source(part).ok()?.take(INLINE_BYTES_MAX).read_to_end(&mut all).ok()?;
                }
                Some(all)
            }
        }
    }
}

/// Opens a source. It was a regular file a moment ago; a pipe that has taken its place is not waited for.
fn source(path: &Path) -> Result<File, Fault> {
    let fault = |error| Fault::path("read source", path, error);
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path).map_err(fault)?;
    match file.metadata().map_err(fault)?.is_file() {
        true => Ok(file),
        false => Err(Fault::path("read source", path, "it is not a regular file")),
    }
}

/// Whether the next bytes of `file` are these. For short contents: one read.
fn begins_with(file: &File, bytes: &[u8]) -> io::Result<bool> {
    BUFFERS.with_borrow_mut(|(mine, _)| {
        mine.resize(CHUNK_BYTES, 0);
        for wanted in bytes.chunks(CHUNK_BYTES) {
            let mine = &mut mine[..wanted.len()];
            if fill(file, mine)? < wanted.len() || mine != wanted {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// Whether the next bytes of `file` are all the bytes of `wanted`.
fn goes_on_as(file: &File, wanted: &File) -> io::Result<bool> {
    BUFFERS.with_borrow_mut(|(mine, theirs)| {
        mine.resize(CHUNK_BYTES, 0);
        theirs.resize(CHUNK_BYTES, 0);
        loop {
            let count = fill(wanted, theirs)?;
            if count == 0 {
                return Ok(true);
            }
            if fill(file, &mut mine[..count])? < count || mine[..count] != theirs[..count] {
                return Ok(false);
            }
        }
    })
}

/// Appends all of `from` to `to`, which becomes `path`.
fn append(from: &File, mut to: &File, path: &Path, stop: &Stop) -> Result<u64, Fault> {
    BUFFERS.with_borrow_mut(|(buffer, _)| {
        buffer.resize(CHUNK_BYTES, 0);
        let mut written = 0;
        loop {
            if stop.urgency() != Urgency::None {
                return Err(Fault::path("write", path, "told to stop"));
            }
            let count = fill(from, buffer).map_err(|error| Fault::path("read the source of", path, error))?;
            if count == 0 {
                return Ok(written);
            }
            to.write_all(&buffer[..count]).map_err(|error| Fault::path("write", path, error))?;
            written += count as u64;
        }
    })
}

/// Reads until the buffer is full or the file ends.
fn fill(mut file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
