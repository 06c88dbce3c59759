//! What this host has taken in the mesh and is to give back: the end of its part there waits for that, but not for long.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// How long it waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many there are.
#[derive(Debug)]
pub struct Errands(watch::Sender<usize>);

/// One, until it is dropped.
#[derive(Debug)]
pub struct Errand(Arc<Errands>);

impl Default for Errands {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Errands {
    /// One more.
    #[must_use]
    pub fn one(self: &Arc<Self>) -> Errand {
        self.0.send_modify(|count| *count += 1);
        Errand(self.clone())
    }

    /// Waits until there is none. Cancel safe.
    pub async fn settled(&self) {
        let mut count = self.0.subscribe();
        if tokio::time::timeout(PATIENCE, count.wait_for(|count| *count == 0)).await.is_err() {
            tracing::warn!("mesh: what this host holds there was not given back in time, and ends by itself");
        }
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test]
    async fn the_end_waits_for_what_is_given_back() {
        let errands = Arc::new(Errands::default());
        errands.settled().await;
        let (one, other) = (errands.one(), errands.one());
        drop(one);
        let mut settled = pin!(errands.settled());
        let mut context = Context::from_waker(Waker::noop());
        assert!(settled.as_mut().poll(&mut context).is_pending(), "there is another one");
        drop(other);
        assert!(settled.as_mut().poll(&mut context).is_ready());
    }
}
