//! What every transport must do, tried on any of them and on any runtime.
//!
//! A case makes new peers for itself, so that none disturbs another. What must happen is waited for, with a patience
//! that only a broken transport exhausts; what must not happen is given a short while to happen.

use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::AsyncRuntime;

use super::{CallError, Incoming, Lane, Reply, Transport};
use crate::identity::PeerId;

mod answers;
mod bounds;
mod faults;

/// What must come has come by then.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a call waits that must time out.
const SHORT: Duration = Duration::from_millis(300);
/// What has not come by then does not come.
const QUIET: Duration = Duration::from_millis(150);

/// Makes the ends of one network, and breaks it if it can.
pub trait Fabric<T: Transport> {
    /// A peer's end, for the first time or after the last one was closed.
    fn join(&self, peer: PeerId) -> impl Future<Output = T>;

    /// Nothing from the one reaches the other any more. `false`: this network cannot be cut; what needs that is skipped.
    fn cut(&self, from: PeerId, to: PeerId) -> bool {
        let _ = (from, to);
        false
    }

    /// Takes back a cut.
    fn mend(&self, from: PeerId, to: PeerId) {
        let _ = (from, to);
    }
}

/// Tries everything. Says what was skipped and why: whoever calls this says it aloud.
///
/// # Panics
/// When the transport does something else.
#[must_use = "what was skipped has not been tried"]
pub async fn test_all<R: AsyncRuntime, T: Transport, F: Fabric<T>>(fabric: &F) -> Vec<String> {
    let bench = Bench::<R, T, F> { fabric, next: Cell::new(1000), skipped: RefCell::default(), types: PhantomData };
    answers::each_call_gets_its_own(&bench).await;
    answers::both_ways_at_once(&bench).await;
    answers::order_within_a_lane(&bench).await;
    answers::lanes_do_not_wait_for_each_other(&bench).await;
    answers::who_sent_it_is_not_in_the_message(&bench).await;
    answers::a_dropped_accept_loses_nothing(&bench).await;
    bounds::too_large(&bench).await;
    bounds::deadlines(&bench).await;
    bounds::a_late_answer_goes_nowhere(&bench).await;
    bounds::a_dropped_call_harms_nobody(&bench).await;
    bounds::calls_in_flight(&bench).await;
    bounds::waiting_to_be_accepted(&bench).await;
    faults::nobody_there(&bench).await;
    faults::a_reply_that_is_dropped(&bench).await;
    faults::closing(&bench).await;
    faults::coming_back(&bench).await;
    faults::a_cut_and_after(&bench).await;
    faults::a_cut_one_way(&bench).await;
    bench.skipped.into_inner()
}

/// What a case has at hand.
struct Bench<'a, R, T, F> {
    fabric: &'a F,
    next: Cell<u128>,
    skipped: RefCell<Vec<String>>,
    types: PhantomData<fn() -> (R, T)>,
}

impl<R: AsyncRuntime, T: Transport, F: Fabric<T>> Bench<'_, R, T, F> {
    /// A peer nobody has seen yet.
    fn stranger(&self) -> PeerId {
        self.next.set(self.next.get() + 1);
        PeerId(self.next.get())
    }

    async fn join(&self) -> T {
        let peer = self.stranger();
        let end = self.fabric.join(peer).await;
        assert_eq!(end.me(), peer, "an end knows whose it is");
        end
    }

    async fn pair(&self) -> (T, T) {
        (self.join().await, self.join().await)
    }

    fn skip(&self, what: &str, why: &str) {
        let mut line = String::new();
        write!(line, "{what}: {why}").expect("a string takes everything");
        self.skipped.borrow_mut().push(line);
    }

    /// Answers everything with what it says, until the end is closed.
    fn echo(&self, end: &T) {
        let end = end.clone();
        let echo = async move {
            while let Some(Incoming { message, reply, .. }) = end.accept().await {
                reply.send(message);
            }
        };
        drop(R::spawn(echo));
    }

    /// A call that goes on by itself.
    fn start(&self, from: &T, to: &T, lane: Lane, message: Bytes, deadline: Duration) -> Started<R> {
        let (from, to) = (from.clone(), to.me());
        R::spawn(async move { from.call(to, lane, message, deadline).await })
    }

    /// What comes within [`PATIENCE`].
    async fn soon<O>(&self, what: &str, future: impl Future<Output = O> + Send) -> O {
        R::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: waited for in vain"))
    }

    /// The next message.
    async fn accept(&self, end: &T) -> Incoming<T::Reply> {
        self.soon("a message", end.accept()).await.expect("the end is open")
    }

    /// All that comes until nothing more does.
    async fn accept_all(&self, end: &T) -> Vec<Incoming<T::Reply>> {
        let mut all = Vec::new();
        while let Ok(incoming) = R::timeout(QUIET, end.accept()).await {
            all.push(incoming.expect("the end is open"));
        }
        all
    }

    /// The result of a call that was started.
    async fn result(&self, started: Started<R>) -> Result<Bytes, CallError> {
        self.soon("the result of a call", started).await.expect("a call does not panic")
    }

    /// A call that must succeed, tried until it does: after a fault a transport may take its time.
    async fn reaches(&self, from: &T, to: &T) {
        let asked = async {
            while from.call(to.me(), Lane::Control, Bytes::from_static(b"there?"), SHORT).await.is_err() {
                R::sleep(QUIET).await;
            }
        };
        self.soon("a way between them", asked).await;
    }
}

type Started<R> = <R as AsyncRuntime>::JoinHandle<Result<Bytes, CallError>>;

/// A message that is a number.
fn numbered(number: usize) -> Bytes {
    Bytes::copy_from_slice(&(number as u64).to_le_bytes())
}

fn number(message: &Bytes) -> usize {
    u64::from_le_bytes(message[..8].try_into().expect("it was written as a number")) as usize
}

/// All of them at once, begun in their order.
async fn together<O>(futures: impl IntoIterator<Item: Future<Output = O> + Send>) -> Vec<O> {
    let mut all: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    poll_fn(move |context| {
        let mut done = true;
        for (future, output) in all.iter_mut().filter(|(_, output)| output.is_none()) {
            match Pin::as_mut(future).poll(context) {
                Poll::Ready(ready) => *output = Some(ready),
                Poll::Pending => done = false,
            }
        }
        if done {
            Poll::Ready(all.drain(..).map(|(_, output)| output.expect("all are done")).collect())
        } else {
            Poll::Pending
        }
    })
    .await
}
