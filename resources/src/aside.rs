//! Work that takes its time, on a thread that is there for it.

use mgmt_engine::resource::Fault;

/// Runs it there. Dropped before its end, it goes on alone.
///
/// # Errors
/// The program is ending.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done),
        // The engine makes a panic the failure of its vertex; so it has to go on.
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(Fault::new(format!("the program is ending: {error}"))),
    }
}
