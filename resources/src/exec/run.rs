//! Runs one command of a resource to its end, and says how it went.

use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use mgmt_engine::resource::{Fault, Stop, Urgency};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::child::Rest;
use super::command::Line;
use super::output::{Level, logged};
use super::setting::{Setting, Stage, ending};

/// Commands and guards that run at the same time; more wait for their turn. Each takes three descriptors and a process,
/// and ten thousand at once would take the machine down with them.
const COMMANDS_MAX: usize = 1000;
static TURNS: Semaphore = Semaphore::const_new(COMMANDS_MAX);

/// A turn to run a command; it ends when this is dropped.
async fn turn() -> SemaphorePermit<'static> {
    TURNS.acquire().await.expect("nobody closes it")
}

/// Runs a guard, and says whether it exited 0. Dropping the future ends the guard.
///
/// # Errors
/// It could not be run, or a signal ended it: then it has not answered.
pub(super) async fn guard(setting: &Setting, stage: &Stage<'_>, name: &str, line: &Line) -> Result<bool, Fault> {
    let _turn = turn().await;
    let mut output = logged(&setting.id, setting.loudness(Level::Debug));
    let mut running = stage.start(line).await.map_err(|fault| Fault::new(format!("{name}: {fault}")))?;
    let ended = running.ended(Rest::Lives, &mut |source, bytes: &[u8]| output.push(source, bytes)).await;
    output.finish();
    let status = waited(ended)?;
    match status.code() {
        Some(code) => Ok(code == 0),
        None => Err(Fault::new(format!("{name}: {}{}", ending(status), output.last_lines()))),
    }
}

/// Runs a command that has to succeed, in at most `limit`, unless it is told to stop.
///
/// # Errors
/// It could not be run, failed, took too long, or was stopped; in all cases nothing of its group is left.
pub(super) async fn command(
    setting: &Setting,
    stage: &Stage<'_>,
    line: &Line,
    limit: Option<Duration>,
    stop: &Stop,
) -> Result<(), Fault> {
    let _turn = tokio::select! {
        biased;
        () = stop.reached(Urgency::Cancel) => return Err(Fault::new("cancelled before it started")),
        turn = turn() => turn,
    };
    let mut output = logged(&setting.id, setting.loudness(Level::Info));
    let mut running = stage.start_apart(line, stop).await?;
    let mut sink = |source, bytes: &[u8]| output.push(source, bytes);
    let late = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let ended = {
        let mut ended = pin!(running.ended(Rest::Lives, &mut sink));
        tokio::select! {
            biased;
            () = stop.reached(Urgency::Cancel) => Err("cancelled".to_owned()),
            status = &mut ended => Ok(waited(status)?),
            () = late => Err(format!("ran longer than {} s", limit.unwrap_or_default().as_secs_f64())),
        }
    };
    if ended.is_err() {
        running.stop(stop.reached(Urgency::Kill), &mut sink).await;
    }
    output.finish();
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Fault::new(format!("{}{}", ending(status), output.last_lines()))),
        Err(why) => Err(Fault::new(format!("{why}{}", output.last_lines()))),
    }
}

fn waited(status: std::io::Result<ExitStatus>) -> Result<ExitStatus, Fault> {
    status.map_err(|error| Fault::new(format!("cannot wait for a child: {error}")))
}
