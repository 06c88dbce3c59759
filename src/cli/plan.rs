//! `mgmt plan`: says what would change, and touches nothing.

use std::io::Write;

use mgmt_engine::Graph;
use mgmt_engine::resource::Change;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::graph_source::Age;
use super::{Exit, Failure, args, graph_source, validate};
use crate::agent::{self, Source};
use crate::assemble;
use crate::diagnostic::{Escaped, Printable};
use crate::kinds::KINDS;
use crate::plan::{Answer, plan};
use crate::state::Home;

/// Lines of a diff that are shown without `--full-diff`.
const DIFF_LINES_MAX: usize = 200;

/// Runs it.
///
/// # Errors
/// The graph is wrong, or output cannot be written.
pub fn run(args: &args::Plan) -> Result<Exit, Failure> {
    let source = args.source.which()?;
    let home = Home::of(&args.place)?;
    let mut options = graph_source::options(&source, &home.hostname)?;
    options.strict = args.source.strict;
    options.no_autoedge = args.no_autoedges;
    let (sight, age) = graph_source::sight(&home, &args.place);
    options.sight = sight;
    let host = graph_source::host(&home, &source, true)?;
    let assembled = match &source {
        Source::File(path) => assemble::load(path, &options, KINDS, &host),
        Source::Empty => return Err(Failure::new(Exit::Usage, "there is nothing to plan in an empty graph")),
    };
    validate::say(&assembled.problems);
    let age = Age::told(age, &assembled.exchanged);
    let Some(graph) = assembled.graph else { return Ok(Exit::Graph) };
    super::run::become_the_agent()?;
    let runtime = agent::runtime()?;
    let answers = runtime.block_on(async {
        let answers = plan(&graph, !args.no_guards).await;
        mgmt_resources::exec::reaper::settle().await;
        answers
    });
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let printed = if args.json {
        print_json(&mut out, &graph, &answers, age)
    } else {
        print(&mut out, &graph, &answers, args, age)
    };
    printed.and_then(|()| out.flush()).map_err(|e| Failure::output(&e))?;
    let pending = answers.iter().any(|a| matches!(a, Answer::WouldChange { .. } | Answer::Unknown { .. }));
    let failing = answers.iter().any(|a| matches!(a, Answer::WouldFail { .. }));
    Ok(if args.detailed_exitcode { Exit::of(failing, pending, true) } else { Exit::Done })
}

/// How old what is known of other hosts is, in words and as JSON.
type Told = Option<(String, serde_json::Value)>;

fn print(out: &mut impl Write, graph: &Graph, answers: &[Answer], args: &args::Plan, age: Told) -> std::io::Result<()> {
    if let Some((text, _)) = age {
        writeln!(out, "({text})")?;
    }
    let most = if args.full_diff { usize::MAX } else { DIFF_LINES_MAX };
    for number in graph.order() {
        let id = graph.vertices()[number].id.to_string();
        let id = Printable(&id);
        match &answers[number] {
            Answer::Ok => {}
            Answer::WouldChange { drift, change, noop } => {
                let noop = if *noop { " (but may not, because of meta.noop)" } else { "" };
                writeln!(out, "~ {id}: would change: {}{noop}", Escaped(drift))?;
                if let Some(change) = change {
                    write!(out, "{}", indented(&difference(change, most)))?;
                }
            }
            Answer::Unknown { because } => writeln!(out, "? {id}: unknown, because {}", Escaped(because))?,
            Answer::WouldFail { fault } => writeln!(out, "! {id}: would fail: {}", Escaped(fault))?,
        }
    }
    let counts = counts(answers);
    let told: Vec<_> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    writeln!(out, "plan: {}; nothing was touched", told.join(", "))
}

fn counts(answers: &[Answer]) -> Vec<(&'static str, usize)> {
    let words = ["would change", "unknown", "would fail", "ok"];
    let count = |word: &str| answers.iter().filter(|a| a.word() == word).count();
    words.into_iter().map(|word| (word, count(word))).filter(|(word, count)| *count > 0 || *word == "ok").collect()
}

fn print_json(out: &mut impl Write, graph: &Graph, answers: &[Answer], age: Told) -> std::io::Result<()> {
    let resources: Vec<_> = graph
        .order()
        .into_iter()
        .map(|number| {
            let mut value = json!({
                "resource": graph.vertices()[number].id.to_string(),
                "answer": answers[number].word(),
            });
            match &answers[number] {
                Answer::Ok => {}
                Answer::WouldChange { drift, change, noop } => {
                    value["drift"] = json!(drift);
                    value["noop"] = json!(noop);
                    value["diff"] = json!(change.as_ref().map(|change| difference(change, usize::MAX)));
                }
                Answer::Unknown { because } => value["because"] = json!(because),
                Answer::WouldFail { fault } => value["fault"] = json!(fault),
            }
            value
        })
        .collect();
    let counts: serde_json::Map<_, _> =
        counts(answers).into_iter().map(|(word, count)| (word.replace(' ', "_"), json!(count))).collect();
    let mut value = json!({ "format_version": 1, "graph": graph.name(), "counts": counts, "resources": resources });
    if let Some((_, age)) = age {
        value["collected_as_of"] = age;
    }
    writeln!(out, "{value:#}")
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

/// Contents before and after: unified for text, size and hash for the rest, and nothing for what not everybody may read.
pub fn difference(change: &Change, lines_max: usize) -> String {
    if change.hidden {
        return "(contents hidden: not everybody may read the file)".to_owned();
    }
    let (before, after) = (change.before.as_deref(), change.after.as_deref());
    let text = |bytes: Option<&[u8]>| match bytes {
        None => Some(String::new()),
        Some(bytes) => std::str::from_utf8(bytes).ok().filter(|t| !t.contains('\0')).map(ToOwned::to_owned),
    };
    let (Some(old), Some(new)) = (text(before), text(after)) else {
        return format!("binary: {} → {}", measured(before), measured(after));
    };
    let diff = similar::TextDiff::from_lines(&old, &new);
    let diff = diff.unified_diff().context_radius(3).to_string();
    let lines: Vec<String> = diff.lines().map(|line| Escaped(line).to_string()).collect();
    if lines.len() <= lines_max {
        return lines.join("\n");
    }
    format!("{}\n(… {} more lines; --full-diff shows them)", lines[..lines_max].join("\n"), lines.len() - lines_max)
}

fn measured(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(
        || "nothing".to_owned(),
        |bytes| {
            let hash: String = Sha256::digest(bytes).iter().take(8).map(|b| format!("{b:02x}")).collect();
            format!("{} bytes, sha256 {hash}…", bytes.len())
        },
    )
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn diff(before: Option<&[u8]>, after: Option<&[u8]>, hidden: bool) -> String {
        difference(&Change { before: before.map(Into::into), after: after.map(Into::into), hidden }, 200)
    }

    #[test]
    fn differences() {
        expect![[r"
            @@ -1,2 +1,2 @@
             one
            -two
            +zwei"]]
        .assert_eq(&diff(Some(b"one\ntwo\n"), Some(b"one\nzwei\n"), false));
        expect!["binary: 2 bytes, sha256 06eb7d6a69ee19e5… → nothing"].assert_eq(&diff(Some(b"\0\xff"), None, false));
        expect!["(contents hidden: not everybody may read the file)"].assert_eq(&diff(Some(b"secret"), None, true));
        assert!(diff(None, Some(b"\x1b[2J"), false).contains("\\u{1b}[2J"), "a diff must not move the cursor");
        let wide = "x".repeat(500);
        assert!(diff(None, Some(wide.as_bytes()), false).contains(&wide), "a line of a diff is shown whole");
        let long: String = (0..1000).map(|n| format!("{n}\n")).collect();
        let shown = diff(None, Some(long.as_bytes()), false);
        assert!(shown.lines().count() == 201 && shown.contains("801 more lines"), "{shown}");
    }
}
