//! `mgmt status`: how a running agent stands.

use std::io::Write;

use serde_json::Value;

use super::{Exit, Failure, args};
use crate::control::{Question, find};
use crate::diagnostic::{Escaped, Printable};

/// Runs it.
///
/// # Errors
/// There is no agent to ask, or output cannot be written.
pub fn run(args: &args::Status) -> Result<Exit, Failure> {
    let mut status = Value::Null;
    find(&args.place)?.ask(&Question::Status { all: args.all }, |answer: Value| {
        status = answer;
        Ok(false)
    })?;
    let mut out = std::io::stdout().lock();
    let written = if args.json { writeln!(out, "{status:#}") } else { print(&mut out, &status) };
    written.map_err(|e| Failure::output(&e))?;
    Ok(Exit::Done)
}

fn print(out: &mut impl Write, status: &Value) -> std::io::Result<()> {
    let text = |value: &Value| Printable(value.as_str().unwrap_or("-")).to_string();
    let graph = &status["graph"];
    let quiet = match status["quiet_since"].as_str() {
        Some(since) => format!("converged, quiet since {since}"),
        None => "working".to_owned(),
    };
    writeln!(
        out,
        "{} (mgmt {}, process {}): {quiet}",
        text(&status["hostname"]),
        text(&status["version"]),
        status["pid"]
    )?;
    let (vertices, edges) = (&graph["vertices"], &graph["edges"]);
    writeln!(out, "graph {} from {}: {vertices} resources, {edges} edges", text(&graph["name"]), text(&graph["file"]))?;
    if let Some(error) = graph["error"].as_str() {
        writeln!(out, "the graph file does not load any more: {}", Escaped(error))?;
    }
    let counts: Vec<_> =
        status["counts"].as_object().into_iter().flatten().map(|(word, n)| format!("{n} {word}")).collect();
    writeln!(
        out,
        "{}; {} changes and {} failures since {}",
        counts.join(", "),
        status["changes"],
        status["failures"],
        text(&status["started"])
    )?;
    for resource in status["resources"].as_array().into_iter().flatten() {
        write!(out, "  {:<12} {}", text(&resource["standing"]), text(&resource["resource"]))?;
        if let Some(ms) = resource["running_ms"].as_u64() {
            write!(out, " for {:.1} s", std::time::Duration::from_millis(ms).as_secs_f64())?;
        }
        let waits: Vec<_> = resource["waits_for"].as_array().into_iter().flatten().map(text).collect();
        if !waits.is_empty() {
            write!(out, ", after {}", waits.join(", "))?;
        }
        match resource["fault"].as_str() {
            Some(fault) => writeln!(out, ": {}", Escaped(fault))?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}
