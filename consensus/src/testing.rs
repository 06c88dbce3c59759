//! Ground for tests: virtual time and chance from a seed, a disk that forgets, a network in memory. One thread.

use std::future::Future;

use openraft_rt_sim::SimRuntime;

use crate::disk::simulated::SimulatedDisk;
use crate::ground::Ground;
use crate::transport::memory::Memory;

/// Everything simulated.
#[derive(Debug)]
pub struct Simulated;

impl Ground for Simulated {
    type Runtime = SimRuntime;
    type Disk = SimulatedDisk<SimRuntime>;
    type Transport = Memory<SimRuntime>;

    fn aside<F>(_: &'static str, work: F) -> impl Future<Output = Option<F::Output>> + Send + 'static
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let running = <SimRuntime as openraft::AsyncRuntime>::spawn(work);
        async move { running.await.ok() }
    }
}
