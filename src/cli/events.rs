//! `mgmt events`: what happened to resources of a running agent.

use std::io::Write as _;

use super::{Exit, Failure, args};
use crate::control::{Line, Question, find};
use crate::diagnostic::Escaped;

/// Runs it.
///
/// # Errors
/// There is no agent to ask, or output cannot be written.
pub fn run(args: &args::Events) -> Result<Exit, Failure> {
    let question = Question::Events { last: args.last.unwrap_or(usize::MAX), follow: args.follow };
    let mut out = std::io::stdout().lock();
    find(&args.place)?.ask(&question, |line: Line| {
        let written = match (&line, args.json) {
            (Line::Event(event), true) => {
                let mut value = serde_json::json!(event);
                value["format_version"] = 1.into();
                writeln!(out, "{value}")
            }
            (Line::Missed(count), true) => {
                writeln!(out, "{}", serde_json::json!({ "format_version": 1, "missed": count }))
            }
            (Line::Event(event), false) => writeln!(out, "{} {}", event.time, Escaped(&event.to_string())),
            (Line::Missed(count), false) => writeln!(out, "({count} events came too fast to be shown)"),
        };
        written.and_then(|()| out.flush()).map_err(|e| Failure::output(&e))?;
        Ok(true)
    })?;
    Ok(Exit::Done)
}
