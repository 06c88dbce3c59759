//! What a replica stands on: the three things that differ between the program and a simulation, under one name.

use std::future::Future;

use openraft::AsyncRuntime;

use crate::disk::Disk;
use crate::transport::Transport;

/// A runtime, a disk and a transport that belong together.
///
/// Everything above is generic over this one parameter. Tasks, timers, chance and the time of day come from
/// [`Ground::Runtime`] alone, so that a runtime with a virtual clock and a seed makes the whole group repeatable. For
/// that to hold, code above it uses no `tokio::spawn`, no `tokio::time`, no `tokio::sync::watch` (its wake-ups are not
/// in order), no unbiased `select!`, and no map whose order is chance.
pub trait Ground: Sized + Send + Sync + 'static {
    /// Where tasks run.
    type Runtime: AsyncRuntime;
    /// Where the log lies.
    type Disk: Disk;
    /// How peers are reached.
    type Transport: Transport;

    /// Runs something that blocks on the disk where it disturbs nobody: on a thread of its own in the program, as an
    /// ordinary task in a simulation. It runs to its end also when what is returned here is dropped.
    ///
    /// The result is `None` if it panicked.
    fn aside<F>(name: &'static str, work: F) -> impl Future<Output = Option<F::Output>> + Send + 'static
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static;
}

/// The ground of the program.
#[derive(Debug)]
pub struct Native;

impl Ground for Native {
    type Runtime = openraft::impls::TokioRuntime;
    type Disk = crate::disk::files::Files;
    type Transport = crate::quic::Quic;

    fn aside<F>(name: &'static str, work: F) -> impl Future<Output = Option<F::Output>> + Send + 'static
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        on_thread(name, work)
    }
}

/// Runs a future on a thread of its own, which may block: what [`Ground::aside`] does in the program.
///
/// # Panics
/// When the system has no more threads to give.
pub fn on_thread<F>(name: &'static str, work: F) -> impl Future<Output = Option<F::Output>> + Send + 'static
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (done, result) = tokio::sync::oneshot::channel();
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it needs neither time nor events");
        // Whoever asked may have gone away; the work is done all the same.
        let _nobody_waits = done.send(runtime.block_on(work));
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(body).expect("the system has a thread to give");
    async { result.await.ok() }
}

/// A number by chance, of the program's own ground: names of peers and lives are drawn with it.
#[must_use]
pub fn chance() -> u64 {
    use rand::Rng as _;
    <Native as Ground>::Runtime::thread_rng().next_u64()
}
