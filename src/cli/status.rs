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
        "{}{}{} changes and {} failures since {}",
        counts.join(", "),
        if counts.is_empty() { "" } else { "; " },
        status["changes"],
        status["failures"],
        text(&status["started"])
    )?;
    if let Some(line) = mesh(&status["mesh"]) {
        writeln!(out, "{line}")?;
    }
    for resource in status["resources"].as_array().into_iter().flatten() {
        write!(out, "  {:<12} {}", text(&resource["standing"]), text(&resource["resource"]))?;
        if let Some(ms) = resource["running_ms"].as_u64() {
            write!(out, " for {:.1} s", std::time::Duration::from_millis(ms).as_secs_f64())?;
        }
        let waits: Vec<_> = resource["waits_for"].as_array().into_iter().flatten().map(text).collect();
        if !waits.is_empty() {
            write!(out, ", after {}", waits.join(", "))?;
        }
        if let Some(what) = resource["awaits"].as_str().filter(|_| resource["standing"] == "waiting") {
            write!(out, ", waits for {}", Escaped(what))?;
        }
        match resource["fault"].as_str() {
            Some(fault) => writeln!(out, ": {}", Escaped(fault))?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}

/// How the mesh stands, in a line; nothing where there is none.
fn mesh(mesh: &Value) -> Option<String> {
    let text = |value: &Value| Printable(value.as_str().unwrap_or("-")).to_string();
    let why = mesh["why"].as_str().map(|why| format!(": {}", Escaped(why))).unwrap_or_default();
    match mesh["stage"].as_str()? {
        "coming" => return Some(format!("mesh: on its way in{why}")),
        "stopped" => return Some(format!("mesh: has no part in it any more{why}")),
        _ => {}
    }
    let masters: Vec<_> = mesh["masters"].as_array().into_iter().flatten().map(text).collect();
    let leader = match mesh["leader"].as_str() {
        Some(_) if mesh["leads"] == true => "leads".to_owned(),
        Some(leader) => format!("follows {}", Printable(leader)),
        None => "knows no leader".to_owned(),
    };
    let quorum = match (mesh["quorum"].as_bool(), mesh["age_ms"].as_u64()) {
        (Some(true), _) => "quorum".to_owned(),
        (_, Some(age)) => {
            format!("NO QUORUM for {:.1} s, writes wait", std::time::Duration::from_millis(age).as_secs_f64())
        }
        (_, None) => "NO QUORUM yet, writes wait".to_owned(),
    };
    Some(format!(
        "mesh: {}, {leader}, {quorum}; revision {}; masters {} of {} wished for: {}; {} learners{why}",
        text(&mesh["role"]),
        mesh["revision"],
        masters.len(),
        mesh["ideal"],
        masters.join(", "),
        mesh["learners"]
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_mesh_is_a_line() {
        let mut status = json!({"stage": "member", "why": null, "role": "master", "leader": "b", "leads": false,
            "quorum": true, "age_ms": 20, "revision": 9, "ideal": 5, "masters": ["a", "b", "c"], "learners": 1});
        let line = mesh(&status).unwrap();
        assert_eq!(line, "mesh: master, follows b, quorum; revision 9; masters 3 of 5 wished for: a, b, c; 1 learners");
        status["quorum"] = false.into();
        status["age_ms"] = 61_000.into();
        status["leader"] = Value::Null;
        let line = mesh(&status).unwrap();
        assert!(line.starts_with("mesh: master, knows no leader, NO QUORUM for 61.0 s, writes wait"), "{line}");
        assert_eq!(mesh(&json!({"stage": "coming", "why": "waits"})).unwrap(), "mesh: on its way in: waits");
        assert_eq!(mesh(&Value::Null), None);
    }
}
