//! `mgmt events`: what happened to resources of a running agent.

use std::io::Write as _;

use serde_json::{Value, json};

use super::{Exit, Failure, args, print};
use crate::control::{Line, Question, find};
use crate::diagnostic::{Escaped, Printable};

/// Runs it.
///
/// # Errors
/// There is no agent to ask, or output cannot be written.
pub fn run(args: &args::Events) -> Result<Exit, Failure> {
    let question = Question::Events { last: args.last.unwrap_or(usize::MAX), follow: args.follow, local: args.local };
    let mut out = std::io::stdout().lock();
    find(&args.place)?.ask(&question, |line: Line| {
        let line = if args.json { print::versioned(json(&line)).to_string() } else { text(&line) };
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|e| Failure::output(&e))?;
        Ok(true)
    })?;
    Ok(Exit::Done)
}

fn json(line: &Line) -> Value {
    match line {
        Line::Event(event) | Line::Told(event) => json!(event),
        Line::Missed(missed) => json!({ "missed": missed }),
        Line::Lost { host, missed } => json!({ "host": host, "missed": missed }),
        Line::Note { host, note } => json!({ "host": host, "note": note }),
    }
}

fn text(line: &Line) -> String {
    match line {
        Line::Event(event) => format!("{} {}", Printable(&event.time), Escaped(&event.to_string())),
        Line::Told(event) => {
            let host = event.host.as_deref().unwrap_or("?");
            format!("{} {}: {}", Printable(&event.time), Printable(host), Escaped(&event.to_string()))
        }
        Line::Missed(missed) => format!("({missed} events came too fast to be shown)"),
        Line::Lost { host, missed } => format!("({}: missed {missed} events, which came too fast)", Printable(host)),
        Line::Note { host, note } => format!("({}: {})", Printable(host), Escaped(note)),
    }
}

#[cfg(test)]
mod tests {
    use crate::events::Happened;

    use super::*;

    #[test]
    fn an_event_of_a_mesh_has_its_host_and_one_of_this_host_alone_has_not() {
        let event =
            json!({"host": "a", "time": "2026-07-24T12:00:00.123Z\u{1b}", "resource": "file[x]", "event": "recovered"});
        let event: Happened = serde_json::from_value(event).unwrap();
        let (host, note) = ("b".to_owned(), "has gone\n".to_owned());
        let lines = [
            Line::Event(event.clone()),
            Line::Told(event),
            Line::Missed(3),
            Line::Lost { host: host.clone(), missed: 4 },
            Line::Note { host, note },
        ];
        let all: Vec<_> = lines.iter().flat_map(|line| [text(line), json(line).to_string()]).collect();
        expect_test::expect![[r#"
            2026-07-24T12:00:00.123Z\u{1b} file[x]: as wanted again
            {"event":"recovered","host":"a","resource":"file[x]","time":"2026-07-24T12:00:00.123Z\u001b"}
            2026-07-24T12:00:00.123Z\u{1b} a: file[x]: as wanted again
            {"event":"recovered","host":"a","resource":"file[x]","time":"2026-07-24T12:00:00.123Z\u001b"}
            (3 events came too fast to be shown)
            {"missed":3}
            (b: missed 4 events, which came too fast)
            {"host":"b","missed":4}
            (b: has gone\n)
            {"host":"b","note":"has gone\n"}"#]]
        .assert_eq(&all.join("\n"));
    }
}
