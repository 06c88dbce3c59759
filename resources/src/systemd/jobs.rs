//! Jobs: what systemd makes of a wish to start or stop a unit. Waited for to their end.

use std::time::Duration;

use mgmt_engine::resource::{Fault, Stop, Urgency};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::manager::Manager;

/// A job whose end has not been heard for so long is asked for. Signals get lost where the bus or systemd is restarted,
/// and that is noticed by itself; this is for what nobody has thought of.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
/// A job that systemd does not know any more has ended; its signal may still be on its way for so long.
const LATE_SIGNAL: Duration = Duration::from_millis(200);
/// A job that was cancelled ends by then, or is left alone.
const CANCELLED_WITHIN: Duration = Duration::from_secs(5);

/// What is asked of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Start it, unless it runs.
    Start,
    /// Stop it.
    Stop,
    /// Stop and start it.
    Restart,
    /// Have it read its configuration again. Fails where it does not know how to.
    Reload,
}

impl Verb {
    /// The method's name.
    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Start => "StartUnit",
            Self::Stop => "StopUnit",
            Self::Restart => "RestartUnit",
            Self::Reload => "ReloadUnit",
        }
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Well.
    Done,
    /// Otherwise, in systemd's word: `failed`, `timeout`, `dependency`, `canceled`, `skipped`, ….
    Otherwise(String),
    /// We were asked to stop, and have cancelled it.
    Stopped,
    /// It has ended, and nobody heard how: the unit itself shows it.
    Unheard,
}

impl Manager {
    /// Asks something of a unit, and waits until the job that comes of it has ended. If `stop` asks for an end before,
    /// the job is cancelled.
    ///
    /// # Errors
    /// systemd refuses, or cannot be reached.
    pub async fn job(&self, verb: Verb, unit: &str, stop: &Stop) -> Result<Ended, Fault> {
        let call = self.registry().call();
        let job = self.make_job(verb.method(), &(unit, "replace")).await?;
        let end = call.made(&job);
        drop(call);
        self.ended(&job, end, stop).await
    }

    /// Waits for the end of a job that somebody else has made.
    ///
    /// # Errors
    /// systemd cannot be reached.
    pub async fn finished(&self, job: u32, stop: &Stop) -> Result<(), Fault> {
        let path = format!("/org/freedesktop/systemd1/job/{job}");
        let mut end = self.registry().wait(&path);
        loop {
            if !self.has_job(&path).await? {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = stop.reached(Urgency::Cancel) => return Ok(()),
                heard = &mut end => {
                    if heard.is_ok() {
                        return Ok(());
                    }
                    self.returned(stop).await?;
                    end = self.registry().wait(&path);
                }
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Waits for the end of one of our own jobs.
    pub(super) async fn ended(
        &self,
        job: &str,
        mut end: oneshot::Receiver<String>,
        stop: &Stop,
    ) -> Result<Ended, Fault> {
        loop {
            let heard = tokio::select! {
                biased;
                heard = &mut end => Some(heard),
                () = stop.reached(Urgency::Cancel) => {
                    self.cancel(job).await?;
                    // Whether it ends now or not: nobody waits for it any more.
                    timeout(CANCELLED_WITHIN, end).await.ok();
                    return Ok(Ended::Stopped);
                }
                () = sleep(LOOK_AGAIN) => None,
            };
            match heard {
                Some(Ok(result)) if result == "done" => return Ok(Ended::Done),
                Some(Ok(result)) => return Ok(Ended::Otherwise(result)),
                Some(Err(_)) => {
                    // Signals may have been lost. Waiting begins before looking, so that none is lost in between.
                    self.returned(stop).await?;
                    end = self.registry().wait(job);
                }
                None => {}
            }
            if !self.has_job(job).await? {
                return Ok(match timeout(LATE_SIGNAL, end).await {
                    Ok(Ok(result)) if result == "done" => Ended::Done,
                    Ok(Ok(result)) => Ended::Otherwise(result),
                    _ => Ended::Unheard,
                });
            }
        }
    }
}
