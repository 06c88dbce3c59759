//! `mgmt apply`: converges once, prints what changed, exits.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mgmt_engine::Clock;
use mgmt_engine::report::Standing;
use serde_json::json;

use super::graph_source::Age;
use super::{Exit, Failure, args, graph_source, run as batch};
use crate::agent::{self, Ended, Settings};
use crate::diagnostic::Escaped;
use crate::events::Happened;
use crate::observer::Listener;
use crate::progress::Progress;

/// Runs it.
///
/// # Errors
/// It could not start, or its output cannot be written.
pub fn run(args: args::Apply, progress: Progress, clock: Clock) -> Result<Exit, Failure> {
    // A place of its own: an agent may run beside it.
    let (source, home, mut options, state) =
        graph_source::stage(&args.source, &args.place, &args.common, Some("apply"))?;
    let (sight, age) = graph_source::sight(&home, &args.place);
    options.sight = sight;
    let host = graph_source::host(&home, &source, args.common.noop)?;
    batch::become_the_agent()?;
    let happened = Arc::new(Mutex::new(Vec::new()));
    let listener = if args.json { gather(&happened) } else { print(progress.clone()) };
    let settings = Settings {
        state,
        hostname: home.hostname,
        source,
        options,
        converged: Duration::ZERO,
        once: true,
        max_runtime: args.common.max_runtime,
        watch: false,
        serve: false,
        status_file: None,
        mesh_converged: false,
        listener: Some(listener),
        progress,
        mesh: None,
    };
    let ended = agent::run(settings, &host, clock)?;
    batch::draw(&ended, args.common.graphviz.as_deref())?;
    let happened = std::mem::take(&mut *happened.lock().unwrap_or_else(PoisonError::into_inner));
    let age = Age::told(age, &ended.exchanged);
    summary(&ended, &happened, args.json, age).map_err(|e| Failure::output(&e))?;
    Ok(batch::exit(&ended, true, args.common.detailed_exitcode))
}

fn gather(into: &Arc<Mutex<Vec<Happened>>>) -> Listener {
    let into = Arc::clone(into);
    Box::new(move |event| into.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone()))
}

/// One line an event: `+` changed, `>` refreshed, `~` would change, `!` failed.
fn print(progress: Progress) -> Listener {
    Box::new(move |event| {
        let sign = match event.event.as_str() {
            "changed" => '+',
            "refreshed" => '>',
            "would-change" => '~',
            "failed" | "retrying" | "contested" => '!',
            _ => ' ',
        };
        // A closed pipe is noticed, and told, by the summary.
        let text = event.to_string();
        progress.above(|| drop(writeln!(std::io::stdout().lock(), "{sign} {}", Escaped(&text))));
    })
}

fn summary(
    ended: &Ended,
    happened: &[Happened],
    json: bool,
    age: Option<(String, serde_json::Value)>,
) -> std::io::Result<()> {
    let count = |wanted: &[Standing]| ended.snapshot.stands.iter().filter(|s| wanted.contains(&s.standing)).count();
    let (failed, held) = (count(&[Standing::Failed]), count(&[Standing::Held]));
    let contested = count(&[Standing::Contested]);
    let (changed, right) = (count(&[Standing::Changed]), count(&[Standing::Clean]));
    let (would, open) =
        (count(&[Standing::WouldChange]), count(&[Standing::Waiting, Standing::Busy, Standing::Retrying]));
    let millis = ended.took.as_secs_f64() * 1e3;
    let mut out = std::io::stdout().lock();
    if json {
        let mut value = json!({
            "format_version": 1,
            "graph": ended.graph.name(),
            "converged": ended.converged && failed == 0,
            "took_ms": millis,
            "counts": { "changed": changed, "ok": right, "would_change": would, "failed": failed, "held_back": held, "contested": contested, "unfinished": open },
            "events": happened,
            "resources": ended.snapshot.stands.iter().map(|s| json!({
                "resource": s.id.to_string(), "standing": s.standing.word(), "fault": s.fault,
            })).collect::<Vec<_>>(),
        });
        if let Some((_, age)) = age {
            value["collected_as_of"] = age;
        }
        return writeln!(out, "{value:#}");
    }
    if let Some((text, _)) = age {
        writeln!(out, "({text})")?;
    }
    let word = match (ended.converged, ended.late) {
        (_, true) => "gave up after",
        (true, _) => "converged in",
        (false, _) => "ended after",
    };
    let mut parts = Vec::new();
    for (count, what) in [
        (changed, "changed"),
        (would, "would change"),
        (failed, "failed"),
        (held, "held back"),
        (contested, "contested"),
        (open, "not finished"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    parts.push(format!("{right} as wanted"));
    writeln!(out, "{word} {millis:.0} ms: {}", parts.join(", "))
}
