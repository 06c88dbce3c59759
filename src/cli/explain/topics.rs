//! Meta parameters, and the helpers of topics that are tables of words.

use serde::Serialize;

use super::FORMAT_VERSION;
use crate::cli::print;

/// One word that a graph file may use, with its default and what it means.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Word {
    pub(super) name: &'static str,
    pub(super) default: Option<&'static str>,
    pub(super) doc: &'static str,
}

/// The meta parameters that work.
pub(super) const META: [Word; 10] = [
    word("noop", "false", "Check, never apply; --noop sets it everywhere. Resources after it are checked as well."),
    word(
        "retry",
        "0",
        "Attempts after a failure, of the watch and of check and apply each; -1: for ever. Counted anew after a success.",
    ),
    word("delay", "0", "Milliseconds between attempts."),
    word("timeout", "0", "Milliseconds that one check or apply may take; 0: no limit."),
    word("poll", "0", "Above 0: check every so many seconds, instead of watching."),
    word("limit", ".inf", "Events a second, on average. A finite limit needs a burst of 1 or more."),
    word("burst", "0", "Events that may come at once, with a finite limit."),
    word(
        "sema",
        "[]",
        "Semaphores held while it checks and applies: a list of id or id:count. At most count (1 if not given) \
         resources that name the same id work at once. --sema N adds one to all. Ids that begin with cluster/ \
         are shared by all hosts of the mesh: cluster/reboot:1 lets one host at a time do it, and takes the \
         lock reboot of `mgmt lock`. It waits while there is no mesh or no quorum; a host that has died holds \
         it for ten seconds more. A command gets MGMT_FENCE, a number that is higher for each holder, and is \
         ended when the semaphore was lost.",
    ),
    word("autoedge", "true", "Take part in automatic edges: mgmt explain edges."),
    word(
        "autogroup",
        "true",
        "Be changed together with others of its kind, where that saves work: packages in one transaction.",
    ),
];

pub(super) const fn word(name: &'static str, default: &'static str, doc: &'static str) -> Word {
    let default = if default.is_empty() { None } else { Some(default) };
    Word { name, default, doc }
}

/// A table of words, aligned.
pub(super) fn table(words: &[Word], column: usize, width: usize) -> String {
    let row = |word: &Word| {
        let default = word.default.map(|default| format!(" Default: {default}.")).unwrap_or_default();
        print::row(word.name, column, &format!("{}{default}", word.doc), width)
    };
    words.iter().map(row).collect()
}

/// A paragraph with its newline.
pub(super) fn paragraph(text: &str, width: usize) -> String {
    print::wrap(text, width).join("\n") + "\n"
}

const INTRODUCTION: &str = "meta: how a resource is treated, whatever its kind. Written as a map inside the resource.";

const FAILED: &str = "A resource fails when its retries are used up. It then holds back the resources after it, and \
    nothing else. The exit status is 1. An event of its watch, a change before it, or a reload tries again.";

const CONTESTED: &str = "A resource that was repaired more than 20 times within 10 seconds, and has no limit of its \
    own, is contested: somebody else keeps changing it. It is said once, and repairs back off from 1 second to 5 \
    minutes until it has been quiet for a minute.";

const EXAMPLE: &str = "\
Example:
  resources:
    exec:
    - name: fetch
      cmd: curl -fsSo /srv/data.json https://example.com/data.json
      creates: /srv/data.json
      meta:
        retry: 3
        delay: 2000
        timeout: 30000
";

/// The meta parameters, for people.
pub(super) fn meta(width: usize) -> String {
    let unsupported = crate::assemble::META_UNSUPPORTED.join(", ");
    [
        paragraph(INTRODUCTION, width),
        table(&META, 13, width),
        paragraph(FAILED, width),
        paragraph(CONTESTED, width),
        paragraph(&format!("Known from the original, reported, and without effect: {unsupported}."), width),
        EXAMPLE.to_owned(),
    ]
    .join("\n")
}

/// The meta parameters, as programs read them.
#[derive(Serialize)]
pub(super) struct MetaRecord {
    format_version: u32,
    meta: &'static [Word],
    unsupported: &'static [&'static str],
}

pub(super) fn meta_record() -> MetaRecord {
    MetaRecord { format_version: FORMAT_VERSION, meta: &META, unsupported: &crate::assemble::META_UNSUPPORTED }
}
