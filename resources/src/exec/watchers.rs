//! A command that watches: each line it prints is an event.
//!
//! It is started again with growing pauses when it fails, and left when it exits 0. It says nothing of what happened
//! while it was down, so its user is told in the log that it was.

use std::sync::Arc;
use std::time::Duration;

use mgmt_engine::Clock;
use mgmt_engine::resource::{Fault, Signal};

use super::child::Rest;
use super::command::Line;
use super::output::{Level, Source, logged};
use super::setting::{Setting, ending};

/// Pauses double up to this; a watch that held so long starts with the first pause again.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Watches for as long as the future lives. Dropping it ends the command.
pub(super) async fn watch(setting: Arc<Setting>, line: Line, signal: Signal) -> Result<(), Fault> {
    let mut pause = setting.tuning.pause;
    let mut held = false;
    loop {
        let clock = Clock::start();
        let started = clock.now();
        let failure = match run(&setting, &line, &signal).await {
            Ok(None) => return Ok(()),
            Ok(Some(failure)) => failure,
            // What never started will not start by itself; what did may be in the middle of being replaced.
            Err(fault) if !held => return Err(fault),
            Err(fault) => fault.to_string(),
        };
        held = true;
        if clock.now().since(started) >= PAUSE_MAX {
            pause = setting.tuning.pause;
        }
        let failure = if setting.sensitive { "why is hidden, because it is sensitive" } else { &failure };
        tracing::warn!(target: "exec", id = setting.id, "watchcmd ended: {failure}; started again in {pause:?}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// One life of the command; how it failed, or `None` if it exited 0.
async fn run(setting: &Setting, line: &Line, signal: &Signal) -> Result<Option<String>, Fault> {
    let mut running = setting.stage().await?.start(line).await?;
    let mut output = logged(&setting.id, setting.loudness(Level::Info));
    let mut open = false;
    let mut sink = |source, bytes: &[u8]| match source {
        Source::Out => {
            // Raises merge, so one for all lines of a read is enough.
            if bytes.contains(&b'\n') {
                signal.raise();
            }
            open = bytes.last() != Some(&b'\n');
        }
        Source::Err => output.push(source, bytes),
    };
    let status = running.ended(Rest::Dies, &mut sink).await;
    let status = status.map_err(|error| Fault::new(format!("cannot wait for watchcmd: {error}")))?;
    if open {
        signal.raise();
    }
    output.finish();
    Ok((!status.success()).then(|| format!("{}{}", ending(status), output.last_lines())))
}
