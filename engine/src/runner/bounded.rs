//! Futures of actions, bounded: in time, and by what a panic may do.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::core::{Job, Outcome};
use crate::resource::{Applied, Boxed, Fault, Look, Promises, Purpose, Stop, Urgency, Work};
use crate::schedule::{Action, Deed};

/// The future of a job.
pub(super) fn future_of(job: Job) -> Boxed<Outcome> {
    let Job { action, resource, fix, stop, timeout } = job;
    let stop = stop.unwrap_or_else(Stop::never);
    match action.deed {
        Deed::Look => {
            let look = Look {
                cause: action.cause,
                refresh: action.refresh,
                purpose: Purpose::Converge,
                promises: Promises::none(),
            };
            let check = resource.check(look);
            Box::pin(async move { Outcome::Looked(in_time_or_dropped(check, timeout).await) })
        }
        Deed::Apply => {
            let fix = fix.expect("a drift was found, or there would be no repair");
            Box::pin(async move {
                Outcome::Applied(in_time_or_stopped(|work| fix.apply(work), action, stop, timeout).await)
            })
        }
        Deed::Refresh => Box::pin(async move {
            Outcome::Refreshed(in_time_or_stopped(|work| resource.refresh(work), action, stop, timeout).await)
        }),
    }
}

/// A check may be dropped at any await.
async fn in_time_or_dropped<T>(check: Boxed<Result<T, Fault>>, timeout: Option<Duration>) -> Result<T, Fault> {
    match timeout {
        None => check.await,
        Some(timeout) => tokio::time::timeout(timeout, check).await.unwrap_or_else(|_| Err(too_long("check", timeout))),
    }
}

/// An apply is never dropped: when its time is up it is asked to stop, and waited for.
async fn in_time_or_stopped(
    apply: impl FnOnce(Work) -> Boxed<Result<Applied, Fault>>,
    action: Action,
    stop: Stop,
    timeout: Option<Duration>,
) -> Result<Applied, Fault> {
    let Action { cause, fence, .. } = action;
    let Some(timeout) = timeout else { return apply(Work { cause, stop, fence }).await };
    let (sender, own) = Stop::new();
    let mut apply = apply(Work { cause, stop: own, fence });
    let pass_on = async {
        for urgency in [Urgency::Cancel, Urgency::Kill] {
            stop.reached(urgency).await;
            sender.send_replace(stop.urgency());
        }
        std::future::pending::<()>().await;
    };
    tokio::pin!(pass_on);
    let up = tokio::time::sleep(timeout);
    tokio::pin!(up);
    let mut late = false;
    let result = loop {
        tokio::select! {
            biased;
            result = &mut apply => break result,
            () = &mut pass_on => {}
            () = &mut up, if !late => {
                late = true;
                sender.send_if_modified(|u| std::mem::replace(u, (*u).max(Urgency::Cancel)) < Urgency::Cancel);
            }
        }
    };
    if late {
        result.and_then(|_| Err(too_long("apply", timeout))).map_err(|_| too_long("apply", timeout))
    } else {
        result
    }
}

fn too_long(what: &str, timeout: Duration) -> Fault {
    Fault::new(format!("{what} took longer than meta.timeout, {} ms", timeout.as_millis()))
}

pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> Fault {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Fault::new(format!("the kind's own code panicked, which is a bug: {}", text.unwrap_or("no message")))
}

/// A future whose panic is its failure.
pub(super) struct Guarded<T>(pub(super) Boxed<T>);

impl<T> Future for Guarded<T> {
    type Output = Result<T, Fault>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panicked(&*panic))),
        }
    }
}
