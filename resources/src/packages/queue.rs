//! Who waits for a change, who goes together, and that one transaction runs at a time.
//!
//! The first who asks starts a task that lives as long as somebody waits. It gathers for a moment, takes those that go
//! together, carries them out, and answers each; whoever asks meanwhile goes with the next. A transaction that has begun
//! runs to its end whether or not anybody still listens.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mgmt_engine::resource::Fault;
use tokio::sync::{Notify, oneshot, watch as latest};
use tokio::time::{Instant, interval_at, timeout, timeout_at};

use super::transaction::{Member, carried_out};
use super::{At, Deed, Provider};

/// Nobody new for so long: whoever was to come has come. Checks of one graph end within a few milliseconds of each other.
const QUIET: Duration = Duration::from_millis(20);
/// But nobody waits longer than this for others.
const GATHER_MAX: Duration = Duration::from_millis(250);
/// The most in one transaction. The command line of the tool has room for ten times as many.
const MEMBERS_MAX: usize = 1_000;
/// One that takes longer is spoken of, every so often.
const LONG: Duration = Duration::from_secs(300);

/// Those who wait.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    asked: Notify,
    /// The number of the transaction that runs.
    running: latest::Sender<Option<u64>>,
}

#[derive(Debug, Default)]
struct Waiting {
    asks: VecDeque<Ask>,
    /// Somebody serves them.
    served: bool,
    transactions: u64,
}

#[derive(Debug)]
struct Ask {
    at: At,
    provider: Provider,
    member: Member,
    alone: bool,
    answer: oneshot::Sender<Answer>,
}

type Answer = Result<Option<Deed>, Fault>;

impl Default for Queue {
    fn default() -> Self {
        Self { waiting: Mutex::default(), asked: Notify::new(), running: latest::Sender::new(None) }
    }
}

/// Whoever serves. Should it break off, the next who asks starts another, and nobody waits in vain.
struct Serving {
    queue: Arc<Queue>,
    broken: bool,
}

impl Drop for Serving {
    fn drop(&mut self) {
        if !self.broken {
            return;
        }
        self.queue.running.send_replace(None);
        let mut waiting = self.queue.waiting();
        waiting.served = false;
        waiting.asks.clear();
    }
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the transaction that runs now.
    pub(super) fn transaction(&self) -> Option<u64> {
        *self.running.borrow()
    }

    /// Waits until that transaction has ended. Cancel safe.
    pub(super) async fn ended(&self, transaction: Option<u64>) {
        let mut running = self.running.subscribe();
        // The sender lives as long as this.
        running.wait_for(|now| *now != transaction).await.ok();
    }

    /// Asks for a change, and waits for what became of it.
    pub(super) async fn ask(self: &Arc<Self>, at: &At, provider: Provider, member: Member, alone: bool) -> Answer {
        let (answer, answered) = oneshot::channel();
        let ask = Ask { at: at.clone(), provider, member, alone, answer };
        let first = {
            let mut waiting = self.waiting();
            waiting.asks.push_back(ask);
            !std::mem::replace(&mut waiting.served, true)
        };
        self.asked.notify_one();
        if first {
            tokio::spawn(serve(Serving { queue: Arc::clone(self), broken: true }));
        }
        answered.await.unwrap_or_else(|_| Err(Fault::new("the transaction broke off inside this program")))
    }

    /// Waits until whoever asks at the same time has asked.
    async fn gather(&self) {
        let end = Instant::now() + GATHER_MAX;
        // Not interested in whether it was the quiet or the end.
        timeout_at(end, async { while timeout(QUIET, self.asked.notified()).await.is_ok() {} }).await.ok();
    }

    /// The first who waits, and all that go with it. Whoever has gone meanwhile is let go. `None`: nobody waits, and
    /// nobody serves from now on.
    fn batch(&self) -> Option<Vec<Ask>> {
        let mut waiting = self.waiting();
        waiting.asks.retain(|ask| !ask.answer.is_closed());
        let Some(first) = waiting.asks.pop_front() else {
            waiting.served = false;
            return None;
        };
        let mut batch = vec![first];
        if !batch[0].alone {
            let mut left = VecDeque::new();
            for ask in std::mem::take(&mut waiting.asks) {
                let first = &batch[0];
                let same = ask.provider == first.provider && ask.member.change() == first.member.change();
                let twice = || batch.iter().any(|other: &Ask| other.member.name == ask.member.name);
                if same && !ask.alone && batch.len() < MEMBERS_MAX && !twice() {
                    batch.push(ask);
                } else {
                    left.push_back(ask);
                }
            }
            waiting.asks = left;
        }
        waiting.transactions += 1;
        self.running.send_replace(Some(waiting.transactions));
        Some(batch)
    }
}

async fn serve(mut serving: Serving) {
    let queue = Arc::clone(&serving.queue);
    loop {
        queue.gather().await;
        let Some(batch) = queue.batch() else { break };
        let at = batch[0].at.clone();
        let (members, answers): (Vec<_>, Vec<_>) = batch.into_iter().map(|ask| (ask.member, ask.answer)).unzip();
        let (ended, seen) = spoken_of(&members, carried_out(&at.catalog, &members)).await;
        at.hub.judged(seen);
        queue.running.send_replace(None);
        for (answer, ended) in answers.into_iter().zip(ended) {
            // Who has gone does not want to know.
            answer.send(ended).ok();
        }
    }
    // Nobody waited, and whoever comes now has started another.
    serving.broken = false;
}

/// Speaks of a transaction that takes long, every so often.
async fn spoken_of<T>(members: &[Member], transaction: impl Future<Output = T>) -> T {
    let mut speak = interval_at(Instant::now() + LONG, LONG);
    let mut transaction = std::pin::pin!(transaction);
    let mut minutes = 0;
    loop {
        tokio::select! {
            biased;
            ended = &mut transaction => return ended,
            _ = speak.tick() => {
                minutes += LONG.as_secs() / 60;
                let others = members.len() - 1;
                tracing::warn!("the transaction of {} and {others} other packages runs for {minutes} min", members[0].name);
            }
        }
    }
}
