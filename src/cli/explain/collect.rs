//! `collect`: how resources are exported and collected, and the keys of an item.

use serde::Serialize;

use super::FORMAT_VERSION;
use super::topics::{Word, paragraph, table, word};

/// Keys of an item of `collect`.
pub(super) const ITEM: [Word; 7] = [
    word("kind", "", "The kind of the resources to take. The only key that has to be there."),
    word("res", "", "The same, in older files."),
    word("type", "", "The same, in older files."),
    word(
        "pattern",
        "",
        "For files: the directory that stands here for the one that the exporter has named. Nothing that is collected \
         leaves it, by its name or by a link. The directory itself is not made.",
    ),
    word("name", "", "Only resources of such names, with * and ?."),
    word("hosts", "", "Only of these hosts: a list of names, with * and ?. Without it: of all, this one included."),
    word(
        "allow",
        "[]",
        "What files of those hosts may carry besides: a list of parameters, such as owner and group, and setuid for set-uid, set-gid \
         and sticky bits. Needs hosts.",
    ),
];

const RULES: [&str; 5] = [
    "collect: a list of items. Each takes what hosts export: resources whose names start with @@ in their files. Those are \
     not made where they are exported, but wherever they are collected; a host that wants its own collects them as well. A \
     graph that exports or collects forms or joins a mesh by itself.",
    "A resource f that host a exports is here f@a; where two items take it to two directories, the second has #DIRECTORY \
     behind that. An edge that names f goes to all that supply it, one that names f@a to this one. While nobody supplies \
     it, nothing waits for it.",
    "Of other hosts a file carries its path, contents, state and permission bits. Any other parameter is left out, which is said; if \
     the file would be something else without it (symlink, source, fragments), the file is skipped. Kinds other than file, noop and msg, \
     and files without a pattern, are taken only by an item with hosts. Edges and meta parameters of an export are dropped.",
    "Nobody else can make a graph fail. What this host has itself, by name or path, wins; of two hosts the one whose name comes \
     first. What is skipped is said once, with the reason: mgmt exports.",
    "What was collected stays in force while its exporter or the mesh is away, also over restarts. When it is exported no \
     more it is not managed any more, and what it made stays, unless it lies in a directory with purge. Such a purge waits \
     until it is known what others export.",
];

const EXPORTING: &str = "When a file is exported, its source is read and sent along (at most 256 KiB). Directories, fragments and recurse \
    cannot be exported. A host exports at most 1,000 resources, with 8 MiB.";

const EXAMPLE: &str = "  graph: web
  resources:
    file:
    - {name: keys, path: /srv/keys/, state: exists}
    - name: '@@web1.pub'
      path: /etc/keys/web1.pub
      source: /etc/ssh/ssh_host_ed25519_key.pub
      state: exists
  collect:
  - kind: file
    pattern: /srv/keys/
    name: '*.pub'
    hosts: ['web*']
";

/// Exporting and collecting, for people.
pub(super) fn text(width: usize) -> String {
    let [what, names, carried, wins, stays] = RULES.map(|rule| paragraph(rule, width));
    [
        what,
        format!("Keys of an item:\n{}", table(&ITEM, 13, width)),
        names,
        carried,
        wins,
        stays,
        paragraph(EXPORTING, width),
        format!("Example:\n{EXAMPLE}"),
    ]
    .join("\n")
}

/// The keys of an item, as programs read about them.
#[derive(Serialize)]
pub(super) struct Record {
    format_version: u32,
    collect: &'static [Word],
}

pub(super) fn record() -> Record {
    Record { format_version: FORMAT_VERSION, collect: &ITEM }
}
