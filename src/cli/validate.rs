//! `mgmt validate`: finds everything that is wrong with graph files.

use std::io::Write as _;
use std::path::Path;

use serde_json::json;

use super::{Exit, Failure, args, graph_source};
use crate::agent::Source;
use crate::assemble;
use crate::diagnostic::Problems;
use crate::kinds::KINDS;
use crate::state::{Home, hostname};

/// Runs it.
///
/// # Errors
/// Output cannot be written.
pub fn run(args: &args::Validate) -> Result<Exit, Failure> {
    let hostname = hostname(args.hostname.as_deref())?;
    // Nothing of the state is read: validating needs no rights and leaves nothing behind. One host serves all files,
    // because a user may have only so many inotify instances.
    let home = Home { hostname: hostname.clone(), prefix: "/var/lib/mgmt".into() };
    let host = graph_source::host(&home, &Source::Empty, true)?;
    let mut reports = Vec::new();
    let mut good = true;
    for file in &args.files {
        let source = Source::File(file.into());
        let mut options = graph_source::options(&source, &hostname)?;
        options.strict = !args.no_strict;
        let assembled = assemble::load(Path::new(file), &options, KINDS, &host);
        good &= assembled.graph.is_some();
        if !args.json {
            say(&assembled.problems);
        }
        let size = assembled.graph.as_ref().map(|g| (g.vertices().len(), g.edges().len()));
        reports.push(json!({
            "file": file,
            "valid": assembled.graph.is_some(),
            "vertices": size.map(|s| s.0),
            "edges": size.map(|s| s.1),
            "elsewhere": assembled.elsewhere,
            "problems": assembled.problems,
        }));
    }
    let mut out = std::io::stdout().lock();
    let written = if args.json {
        writeln!(out, "{:#}", json!({ "format_version": 1, "valid": good, "files": reports }))
    } else {
        reports.iter().filter(|r| r["valid"] == true).try_for_each(|r| {
            let (file, vertices, edges) = (r["file"].as_str().unwrap_or_default(), &r["vertices"], &r["edges"]);
            writeln!(out, "{file}: valid: {vertices} resources, {edges} edges")
        })
    };
    written.map_err(|e| Failure::output(&e))?;
    Ok(if good { Exit::Done } else { Exit::Graph })
}

/// Says on standard error what was found.
#[expect(clippy::print_stderr, reason = "problems of a file are what this is about")]
pub(super) fn say(problems: &Problems) {
    eprint!("{problems}");
}
