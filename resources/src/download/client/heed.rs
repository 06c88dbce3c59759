//! A connection that heeds a stop: it waits for the server in short slices, and asks in between whether it shall go on.
//!
//! Connections are kept and used again, so whom to ask is not theirs to know: it is the business of the thread that
//! fetches, which blocks in exactly one fetch.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use mgmt_engine::Clock;
use mgmt_engine::resource::{Stop, Urgency};
use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport, time};

/// So long a stop may go unheeded.
const SLICE: Duration = Duration::from_millis(100);
/// What is said then.
pub(super) const STOPPED: &str = "told to stop";

thread_local! {
    /// Who tells the fetch of this thread to stop.
    static HEEDED: RefCell<Option<Stop>> = const { RefCell::new(None) };
}

/// While this lives, connections that this thread waits for heed a stop.
pub(super) struct Heeded(());

/// Heeds this one from now on.
pub(super) fn heed(stop: &Stop) -> Heeded {
    HEEDED.set(Some(stop.clone()));
    Heeded(())
}

impl Drop for Heeded {
    fn drop(&mut self) {
        HEEDED.set(None);
    }
}

/// Makes connections heed.
#[derive(Debug)]
pub(super) struct Heeding;

/// One that does.
#[derive(Debug)]
pub(super) struct Heedful<T>(T);

impl<T: Transport> Connector<T> for Heeding {
    type Out = Heedful<T>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<T>) -> Result<Option<Heedful<T>>, Error> {
        Ok(chained.map(Heedful))
    }
}

impl<T: Transport> Transport for Heedful<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let most = timeout.for_read();
        let clock = Clock::start();
        let started = clock.now();
        loop {
            let stopped = HEEDED.with_borrow(|stop| stop.as_ref().is_some_and(|stop| stop.urgency() != Urgency::None));
            if stopped {
                return Err(Error::Io(io::Error::other(STOPPED)));
            }
            let left = match most.after {
                time::Duration::NotHappening => SLICE,
                time::Duration::Exact(all) => all.saturating_sub(clock.now().since(started)),
            };
            if left.is_zero() {
                return Err(Error::Timeout(most.reason));
            }
            let slice = time::Duration::Exact(left.min(SLICE));
            match self.0.await_input(NextTimeout { after: slice, per_read: None, ..timeout }) {
                Err(Error::Timeout(_)) => {}
                other => return other,
            }
        }
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}
