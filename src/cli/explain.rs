//! `mgmt explain`: what can be written into a graph file, from the same tables that read it.
//!
//! Knows tables only; a kind that is added to the table of kinds is explained without a change here.

mod collect;
mod edges;
mod format;
mod kind;
mod topics;

use std::io::Write;

use mgmt_resources::KindInfo;
use serde::Serialize;

use super::args;
use super::exit::{Exit, Failure};
use super::print;
use crate::assemble;
use crate::diagnostic::{Printable, nearest};

/// The version of what `--json` prints.
const FORMAT_VERSION: u32 = 1;

/// Topics that are no kinds, and a line about each.
const TOPICS: [(&str, &str); 4] = [
    ("meta", "meta parameters: how any resource is treated"),
    ("graph", "the graph file: its keys, edges, and what every resource may have"),
    ("edges", "what waits for what, without being told"),
    ("collect", "resources of other hosts: how to export and to collect them"),
];

/// Explains a kind or another topic, or lists them.
///
/// # Errors
/// There is no such topic, or output cannot be written.
pub fn run(args: &args::Explain, kinds: &[&'static KindInfo], out: &mut dyn Write) -> Result<Exit, Failure> {
    explain(args, kinds, print::width(), out)?;
    Ok(Exit::Done)
}

fn explain(
    args: &args::Explain,
    kinds: &[&'static KindInfo],
    width: usize,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let topic = args.topic.as_deref().map(str::to_lowercase);
    match (topic.as_deref(), args.json) {
        (None, false) => print::text(&list(kinds, width), out),
        (None, true) => print::json(&Kinds::of(kinds), out),
        (Some("meta"), false) => print::text(&topics::meta(width), out),
        (Some("meta"), true) => print::json(&topics::meta_record(), out),
        (Some("graph"), false) => print::text(&format::text(width), out),
        (Some("graph"), true) => print::json(&format::record(), out),
        (Some("edges"), false) => print::text(&edges::text(width), out),
        (Some("edges"), true) => print::json(&edges::record(), out),
        (Some("collect"), false) => print::text(&collect::text(width), out),
        (Some("collect"), true) => print::json(&collect::record(), out),
        (Some(topic), json) => match kinds.iter().find(|info| info.name == topic) {
            None => Err(unknown(topic, kinds)),
            Some(info) if json => print::json(&OneKind::of(info), out),
            Some(info) => print::text(&kind::text(info, width), out),
        },
    }
}

/// What to say of a topic that is not there.
fn unknown(topic: &str, kinds: &[&'static KindInfo]) -> Failure {
    let names = || TOPICS.iter().map(|(name, _)| *name);
    let (message, hint) = match nearest(topic, names()) {
        Some(near) => (format!("unknown topic '{}'", Printable(topic)), Some(format!("did you mean '{near}'?"))),
        None => assemble::missing_kind(topic, kinds),
    };
    let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
    Failure::new(Exit::Usage, format!("{message}{hint}"))
}

/// The list of all topics.
fn list(kinds: &[&'static KindInfo], width: usize) -> String {
    let named = kinds.iter().map(|info| (info.name, info.summary)).chain(TOPICS);
    let column = named.clone().map(|(name, _)| name.len()).max().unwrap_or_default() + 4;
    let rows = |list: &mut dyn Iterator<Item = (&str, &str)>| -> String {
        list.map(|(name, summary)| print::row(name, column, summary, width)).collect()
    };
    format!(
        "Kinds of resource:\n{}\nOther topics:\n{}\nMore about one:  mgmt explain {}\n",
        rows(&mut kinds.iter().map(|info| (info.name, info.summary))),
        rows(&mut TOPICS.into_iter()),
        kinds.iter().map(|info| info.name).find(|name| *name == "file").unwrap_or("noop"),
    )
}

/// All kinds, as programs read them.
#[derive(Serialize)]
struct Kinds {
    format_version: u32,
    kinds: Vec<kind::Record>,
}

impl Kinds {
    fn of(kinds: &[&'static KindInfo]) -> Self {
        Self { format_version: FORMAT_VERSION, kinds: kinds.iter().map(|info| kind::Record::of(info)).collect() }
    }
}

/// One kind, as programs read it.
#[derive(Serialize)]
struct OneKind {
    format_version: u32,
    kind: kind::Record,
}

impl OneKind {
    fn of(info: &'static KindInfo) -> Self {
        Self { format_version: FORMAT_VERSION, kind: kind::Record::of(info) }
    }
}

#[cfg(test)]
mod tests;
