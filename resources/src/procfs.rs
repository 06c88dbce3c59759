//! Files of `/proc` that tell when they have changed: the kernel raises no inotify event for them, but wakes whoever
//! waits for urgent data. Must not know what is in them.

use std::fs::File;
use std::path::Path;

use mgmt_engine::resource::{Boxed, Fault, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Armed when this returns: what it returns raises the signal whenever the file has changed, and does not end. Inside the
/// runtime only.
///
/// # Errors
/// The file cannot be opened, or not be waited for.
pub(crate) fn follow(path: &'static str, signal: Signal) -> Result<Boxed<Result<(), Fault>>, Fault> {
    let path = Path::new(path);
    let fault = |error| Fault::path("follow", path, error);
    // The kernel remembers from here on what this descriptor has been told.
    let file = File::open(path).map_err(fault)?;
    // A file keeps the descriptor that it shows, which is all that the new name's caller has to promise.
    #[expect(deprecated, reason = "the new name is unsafe, for types that may show another descriptor")]
    let armed = AsyncFd::with_interest(file, Interest::PRIORITY).map_err(fault)?;
    Ok(Box::pin(async move {
        loop {
            armed.ready(Interest::PRIORITY).await.map_err(fault)?.clear_ready();
            signal.raise();
        }
    }))
}
