//! The graph file: its keys, and what every resource may have.

use serde::Serialize;

use super::FORMAT_VERSION;
use super::topics::{Word, paragraph, table, word};

/// Keys of the outermost map.
pub(super) const TOP: [Word; 9] = [
    word("graph", "", "The graph's name. The only key that has to be there; it must not be empty."),
    word("comment", "", "For the reader of the file."),
    word("resources", "", "A map from kind to a list of resources."),
    word("types", "", "The same, in files of the first dialect."),
    word("edges", "", "A list of edges: name, from, to, notify."),
    word("collect", "", "Resources to take from other hosts: mgmt explain collect."),
    word("hosts", "", "A list of host names, with * and ?: the file is for these hosts only."),
    word("remote", "", "Of old files; reported, without effect."),
    word("hostname", "", "Of old files; reported, without effect."),
];

/// Keys of every resource.
pub(super) const RESOURCE: [Word; 6] = [
    word("name", "", "Its name. Kind and name identify a resource: file[motd]."),
    word("meta", "", "How it is treated: mgmt explain meta."),
    word("after", "", "A list of resources, such as [\"file[motd]\"], that come before this one. Equal to edges."),
    word("notify", "", "The same, for those that come after this one, and are refreshed when it changed something."),
    word("hosts", "", "A list of host names, with * and ?: the resource is for these hosts only."),
    word(
        "sensitive",
        "false",
        "Its contents, commands and diffs appear nowhere. Diffs of files that not everybody may read are hidden \
         without being asked.",
    ),
];

/// Keys of an edge.
const EDGE: [Word; 4] = [
    word("name", "", "For the reader of the file."),
    word("from", "", "What comes first: a map of kind and name."),
    word("to", "", "What waits: a map of kind and name."),
    word("notify", "false", "When from changed something, to is refreshed once. Without it, an edge only orders."),
];

const EXAMPLE: &str = "  graph: example
  resources:
    file:
    - name: config
      path: /tmp/example.conf
      content: |
        answer = 42
      state: exists
    exec:
    - name: reload
      cmd: echo reloading
      refreshonly: true
  edges:
  - name: e1
    from: {kind: file, name: config}
    to: {kind: exec, name: reload}
    notify: true
";

const DIALECTS: &str = "Files of all releases of the original load as they are, as far as this program has their \
    kinds. The first dialect says types: instead \
    of resources:, and type: instead of kind: in an edge; the second says res:. All may be mixed in one file. service \
    is another name of the kind svc.";

const RULES: [&str; 5] = [
    "Relative paths start at the directory of the graph file.",
    "Scalars keep their text where a text is wanted: mode: 0644 is 0644. Booleans are those of YAML 1.1, with yes and \
     on. An empty text in a parameter of exec counts as not given.",
    "Unknown keys are reported with their place and passed over; --strict makes them errors. validate is strict unless \
     --no-strict is given.",
    "Unknown ends of edges, cycles, unequal resources of one name, and two resources for one path are errors. All \
     problems of a file are reported together.",
    "A resource whose name starts with @@ is not made here, but exported: wherever somebody collects it, this host \
     included (mgmt explain collect).",
];

/// The graph file, for people.
pub(super) fn text(width: usize) -> String {
    let rules: Vec<_> = RULES.iter().map(|rule| paragraph(rule, width)).collect();
    [
        "graph: a YAML file of resources and the edges that order them.\n".to_owned(),
        format!("Keys of the file:\n{}", table(&TOP, 13, width)),
        format!("Keys of every resource, besides the parameters of its kind:\n{}", table(&RESOURCE, 13, width)),
        format!("Keys of an edge:\n{}", table(&EDGE, 13, width)),
        paragraph(DIALECTS, width),
        rules.concat(),
        format!("Example:\n{EXAMPLE}"),
    ]
    .join("\n")
}

/// The graph file, as programs read about it.
#[derive(Serialize)]
pub(super) struct Record {
    format_version: u32,
    top: &'static [Word],
    resource: &'static [Word],
    edge: &'static [Word],
}

pub(super) fn record() -> Record {
    Record { format_version: FORMAT_VERSION, top: &TOP, resource: &RESOURCE, edge: &EDGE }
}
