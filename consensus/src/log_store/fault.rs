//! Why a log has stopped for good.

use std::fmt::Display;
use std::io;
use std::sync::Arc;

/// What went wrong, once and for ever: after it nothing is written and nothing acknowledged on this log.
///
/// Which bytes are on the medium after a failed write or sync, nobody knows, and a second sync may say yes with the
/// pages gone. So there is no second one.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{during} {file}: {source}")]
pub struct Fault {
    /// What was being done: `write`, `sync`, …
    pub during: &'static str,
    /// To which file of the disk.
    pub file: String,
    /// What the disk said.
    #[source]
    pub source: Arc<io::Error>,
}

impl Fault {
    pub(super) fn new(during: &'static str, file: &str, error: &io::Error) -> Self {
        // Errors of the system keep their number, which tells more than their kind.
        let source = match error.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::new(error.kind(), error.to_string()),
        };
        Self { during, file: file.to_owned(), source: Arc::new(source) }
    }

    /// Something that cannot be, and was about to be written.
    pub(super) fn invariant(what: &impl Display) -> Self {
        Self::new("prepare", "the journal", &io::Error::other(what.to_string()))
    }

    pub(super) fn stopped() -> Self {
        Self::new("write", "the journal", &io::Error::other("the log has been stopped"))
    }

    pub(super) fn panicked() -> Self {
        Self::new("write", "the journal", &io::Error::other("its writer has panicked"))
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        Self::new(fault.source.kind(), fault)
    }
}
