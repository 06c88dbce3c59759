//! `mgmt status`: how a running agent stands.

use std::io::Write;

use serde_json::Value;

use super::{Exit, Failure, args, print};
use crate::control::{Question, find};
use crate::diagnostic::{Escaped, Printable};

/// Runs it.
///
/// # Errors
/// There is no agent to ask, or output cannot be written.
pub fn run(args: &args::Status) -> Result<Exit, Failure> {
    let mut status = Value::Null;
    find(&args.place)?.ask(&Question::Status { all: args.all, local: args.local }, |answer: Value| {
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
    for line in [mesh(&status["mesh"]), exchange(&status["exchange"])].into_iter().flatten() {
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
    write!(out, "{}", peers(&status["peers"]))
}

/// All peers as a table, and below it what is wrong with them; nothing where there is no mesh.
fn peers(peers: &Value) -> String {
    let peers = peers.as_array().map(Vec::as_slice).unwrap_or_default();
    if peers.is_empty() {
        return String::new();
    }
    let word = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => "-".to_owned(),
    };
    let head = ["host", "role", "state", "revision", "graph", "resources", "converged since", "changes", "failures"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut wrong = String::new();
    for peer in peers {
        let answered = peer["answered"] == true;
        let host = word(&peer["host"]);
        let since =
            if answered && peer["converged"] != true { "working".into() } else { word(&peer["converged_since"]) };
        rows.push(vec![
            host.clone(),
            if peer["leads"] == true { "master, leads".to_owned() } else { word(&peer["role"]) },
            if answered || peer["state"] == "down" { word(&peer["state"]) } else { "no answer".to_owned() },
            word(&peer["revision"]),
            word(&peer["graph"]["name"]),
            word(&peer["graph"]["vertices"]),
            since,
            word(&peer["changes"]),
            word(&peer["failures"]),
        ]);
        let host = Printable(&host);
        if let Some(why) = peer["why"].as_str() {
            wrong += &format!("  {host}: {}\n", Escaped(why));
        }
        if let Some(error) = peer["graph"]["error"].as_str() {
            wrong += &format!("  {host}: the graph file does not load any more: {}\n", Escaped(error));
        }
        for resource in peer["resources"].as_array().into_iter().flatten() {
            let (standing, name) = (word(&resource["standing"]), word(&resource["resource"]));
            let fault = resource["fault"].as_str().map(|fault| format!(": {}", Escaped(fault))).unwrap_or_default();
            wrong += &format!("  {host}: {} {}{fault}\n", Printable(&standing), Printable(&name));
        }
        if let Some(more @ 1..) = peer["more_resources"].as_u64() {
            wrong += &format!("  {host}: and {more} more\n");
        }
    }
    format!("\n{}{wrong}", print::table(&rows))
}

/// How the exchange stands, in a line; nothing where the graph has nothing to do with it.
fn exchange(exchange: &Value) -> Option<String> {
    let count = |word: &str| exchange[word].as_u64().unwrap_or_default();
    let mut said = Vec::new();
    let why = exchange["why"].as_str().map(|why| format!(" ({})", Escaped(why))).unwrap_or_default();
    match exchange["publishing"].as_str()? {
        "nothing" => {}
        "published" => said.push(format!("{} exports published", count("exports"))),
        "refused" => said.push(format!("{} exports REFUSED{why}", count("exports"))),
        _ => said.push(format!("{} exports on their way{why}", count("exports"))),
    }
    let (taken, skipped) = (count("collected"), count("skipped"));
    if taken + skipped > 0 {
        let hosts = exchange["hosts"].as_object().map_or(0, serde_json::Map::len);
        let source = if exchange["live"] == true { "" } else { ", as remembered" };
        said.push(format!("{taken} resources collected from {hosts} hosts, {skipped} skipped{source}"));
    }
    let waiting: Vec<_> =
        exchange["purges_waiting"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !waiting.is_empty() {
        let waiting = waiting.join(", ");
        said.push(format!("purges nothing until it is known what others export: {}", Printable(&waiting)));
    }
    let is_empty = said.iter().all(|said| said.starts_with("0 exports published"));
    (!is_empty).then(|| format!("exchange: {}", said.join("; ")))
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

    #[test]
    fn the_exchange_is_a_line() {
        let mut status = json!({"exports": 2, "publishing": "published", "why": null, "published": 5, "collected": 6,
            "hosts": {"a": 2, "b": 4}, "skipped": 1, "live": true, "purges_waiting": []});
        let mut line = |changes: Value| {
            status.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            exchange(&status).unwrap_or_default()
        };
        let lines = [
            line(json!({})),
            line(json!({"publishing": "pending", "why": "no leader", "live": false})),
            line(json!({"publishing": "refused", "collected": 0, "skipped": 0, "purges_waiting": ["file[d]"]})),
            line(json!({"publishing": "nothing", "purges_waiting": []})),
            line(json!({"publishing": "published", "exports": 0})),
        ];
        expect_test::expect![[r#"
            exchange: 2 exports published; 6 resources collected from 2 hosts, 1 skipped
            exchange: 2 exports on their way (no leader); 6 resources collected from 2 hosts, 1 skipped, as remembered
            exchange: 2 exports REFUSED (no leader); purges nothing until it is known what others export: file[d]

        "#]]
        .assert_eq(&(lines.join("\n")));
        assert_eq!(exchange(&Value::Null), None);
    }

    #[test]
    fn peers_are_a_table() {
        let silent = json!({"host": "b", "role": "learner", "state": "suspect", "leads": false, "answered": false,
            "why": "b cannot be reached", "revision": null, "graph": null, "resources": []});
        let mut down = silent.clone();
        (down["host"], down["state"], down["revision"]) = ("c".into(), "down".into(), 7.into());
        let up = json!({"host": "a", "role": "master", "state": "up", "leads": true, "answered": true, "why": null,
            "revision": 9, "graph": {"name": "site", "vertices": 12, "error": null}, "converged": true,
            "converged_since": "2026-07-24T12:00:00.123Z", "changes": 4, "failures": 1, "more_resources": 2,
            "resources": [{"resource": "file[x\u{1b}[2J]", "standing": "failed", "fault": "no such user\nx"}]});
        let table = peers(&json!([up, silent, down]));
        expect_test::expect![[r#"

            HOST  ROLE           STATE      REVISION  GRAPH  RESOURCES  CONVERGED SINCE           CHANGES  FAILURES
            a     master, leads  up         9         site   12         2026-07-24T12:00:00.123Z  4        1
            b     learner        no answer  -         -      -          -                         -        -
            c     learner        down       7         -      -          -                         -        -
              a: failed file[x\u{1b}[2J]: no such user\nx
              a: and 2 more
              b: b cannot be reached
              c: b cannot be reached
        "#]]
        .assert_eq(&table);
        assert_eq!(peers(&json!([])), "");
        assert_eq!(peers(&Value::Null), "", "an agent of an older version says nothing of them");
    }
}
