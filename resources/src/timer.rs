//! `timer`: ticks. Its direct successors are looked at again on every tick.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mgmt_engine::resource::{Applied, Check, Drift, Fault, Look, Resource, Signal, Watch, Work};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use crate::kind::{Built, Context, Facets, Field, KindInfo, Params, Problem, Shape};

/// The kind's table entry.
pub static INFO: KindInfo = KindInfo {
    name: "timer",
    summary: "makes the resources after it due again and again",
    notes: "\
Always as wanted. Every `interval` seconds it ticks: the resources right after it, over plain and notify edges alike, are \
looked at again. The first tick comes one interval after the start; a machine that slept ticks once. A refresh starts the \
interval anew.",
    example: "\
resources:
  timer:
  - name: hourly
    interval: 3600
  exec:
  - name: mirror
    cmd: rsync -a source::module /srv/mirror
    after: [\"timer[hourly]\"]
",
    fields: &[Field {
        name: "interval",
        shape: Shape::Seconds,
        default: "",
        doc: "Seconds between ticks, more than 0.",
    }],
    build,
};

/// Longer waits are mistakes, and too long for a clock to add.
const INTERVAL_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);

#[derive(Debug, PartialEq)]
struct Timer {
    interval: Duration,
    anew: Anew,
}

/// Says that the interval starts anew. Always equal: it is no parameter.
#[derive(Debug, Clone, Default)]
struct Anew(Arc<Notify>);

impl PartialEq for Anew {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// There is none: a timer is never wrong.
#[derive(Debug)]
struct Never(Infallible);

impl fmt::Display for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {}
    }
}

impl Drift for Never {}

impl Resource for Timer {
    type Drift = Never;

    fn watch(&self, signal: &Signal) -> Result<Watch, Fault> {
        Ok(Watch::Task(Box::pin(tick(self.interval, self.anew.clone(), signal.clone()))))
    }

    async fn check(&self, _: &Look) -> Result<Check<Never>, Fault> {
        Ok(Check::Converged)
    }

    async fn apply(&self, drift: Never, _: &Work) -> Result<Applied, Fault> {
        match drift.0 {}
    }

    async fn refresh(&self, _: &Work) -> Result<Applied, Fault> {
        self.anew.0.notify_one();
        // Nothing of the host has changed, and a plan counts no change either.
        Ok(Applied::Unchanged)
    }
}

async fn tick(every: Duration, anew: Anew, signal: Signal) -> Result<(), Fault> {
    let mut ticks = interval(every);
    // Ticks that were missed are not made up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    loop {
        tokio::select! {
            biased;
            () = anew.0.notified() => ticks.reset(),
            _ = ticks.tick() => signal.tick(),
        }
    }
}

fn build(params: &mut Params, _: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let interval = params.seconds("interval").ok_or_else(|| vec![Problem::new("interval", "is required")])?;
    let interval = Duration::try_from_secs_f64(interval).ok().filter(|interval| !interval.is_zero());
    let interval = interval.filter(|interval| *interval <= INTERVAL_MAX);
    let interval = interval
        .ok_or_else(|| vec![Problem::new("interval", "has to be more than 0 seconds and at most ten years")])?;
    let resource = Arc::new(Timer { interval, anew: Anew::default() });
    Ok(Built { resource, facets: Facets::default(), warnings: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mgmt_engine::resource::{Cause, Sink, Ticket};
    use std::sync::atomic::{AtomicU32, Ordering};

    #[derive(Default)]
    struct Ticks(AtomicU32);

    impl Sink for Ticks {
        fn raised(&self, _: &[Ticket]) {}
        fn ticked(&self, _: Ticket) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_after_each_interval_and_starts_anew_on_a_refresh() {
        let timer = Timer { interval: Duration::from_secs(10), anew: Anew::default() };
        let ticks = Arc::new(Ticks::default());
        let Ok(Watch::Task(task)) = timer.watch(&Signal::elsewhere(ticks.clone(), 0)) else { panic!("no task") };
        let task = tokio::spawn(task);
        let count = async |seconds: u64| {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            ticks.0.load(Ordering::SeqCst)
        };
        assert_eq!(count(9).await, 0);
        assert_eq!(count(2).await, 1);
        assert_eq!(count(10).await, 2);
        timer.refresh(&Work::because(Cause::Refresh)).await.unwrap();
        assert_eq!(count(9).await, 2, "the interval has started anew");
        assert_eq!(count(2).await, 3);
        tokio::time::advance(Duration::from_secs(1_000)).await;
        assert_eq!(count(1).await, 4, "what was missed is not made up for");
        task.abort();
    }

    #[test]
    fn equal_intervals_are_equal_timers() {
        let timer = |seconds| Timer { interval: Duration::from_secs(seconds), anew: Anew::default() };
        assert_eq!(timer(1), timer(1));
        assert_ne!(timer(1), timer(2));
    }
}
