//! `edges`: the order that nobody has to write.

use serde::Serialize;

use super::FORMAT_VERSION;
use super::topics::{Word, paragraph, table, word};

/// What waits for what, by kind.
const AUTOMATIC: [Word; 8] = [
    word(
        "file",
        "",
        "The nearest directory above it; its source and fragments; its owner and group; the package that ships it, or the \
         nearest directory above it that is not one of those all packages use. So do download, archive, line and mount.",
    ),
    word(
        "exec",
        "",
        "The files that are its programs, and the packages that ship them; its user, group and working directory.",
    ),
    word("svc", "", "Its unit file and drop-ins, and the package that ships the unit."),
    word("user", "", "Its groups."),
    word("group", "", "If it is to be absent: the users that leave it."),
    word("archive", "", "The file that it unpacks."),
    word("mount", "", "The directory it is mounted on. What lies below that directory waits for the mount."),
    word("cron", "", "The user it runs as, and what an exec would wait for."),
];

const RULES: [&str; 3] = [
    "edges: an edge from one resource to another says that the other one waits until the first is as wanted. Written in the \
     file (mgmt explain graph), or found: where the names of two resources say that one needs the other. mgmt graph shows \
     those dashed.",
    "What is found only orders, and never notifies. It never closes a circle: such an edge is left out, and reported. \
     autoedge: false in meta takes a resource out, --no-autoedges all of them.",
    "What a package ships is known from the package database. Where it is not installed yet, it is assumed to ship what \
     packages of its name usually do: a service NAME, programs NAME, and what is below /etc/NAME, /etc/default/NAME, \
     /usr/share/NAME, /var/lib/NAME and the like. If it ships something under another name, write the edge.",
];

/// Automatic edges, for people.
pub(super) fn text(width: usize) -> String {
    let [what, only, packages] = RULES.map(|rule| paragraph(rule, width));
    [what, format!("What waits for what:\n{}", table(&AUTOMATIC, 13, width)), packages, only].join("\n")
}

/// Automatic edges, as programs read about them.
#[derive(Serialize)]
pub(super) struct Record {
    format_version: u32,
    edges: &'static [Word],
}

pub(super) fn record() -> Record {
    Record { format_version: FORMAT_VERSION, edges: &AUTOMATIC }
}
