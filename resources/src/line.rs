//! `line`: one line, or one marked block of lines, in a file of which the rest belongs to others.
//!
//! Promises: all other bytes of the file stay what they are; a new version is written as every file is, whole or not at
//! all. Must not know what any file's lines mean.

mod text;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mgmt_engine::resource::{Applied, Check, Fault, Look, Resource, Signal, Watch, Work};

use self::text::{Part, Position, Text};
use crate::file::edited::{EditedFile, PartDrift};
use crate::host::HostRef;
use crate::kind::{Anchor, Built, Context, Facets, Field, KindInfo, Params, Problem, Shape, normal};

/// The kind's table entry.
pub static INFO: KindInfo = KindInfo {
    name: "line",
    summary: "one line, or a marked block of lines, in a file",
    notes: "\
Keeps a part of a file, and leaves every other byte of it as it is. With line the part is one line: it is there if any line \
is exactly this one. With starts, lines that start like that are other versions of it: the first of them is replaced, and \
any more are removed. With block the part is what stands between two marking lines, which are written with it. Where it is \
missing it is put at the end, or after or before the line that is named; one that stands elsewhere is not moved.

Marks that are damaged (one without the other, twice, in the wrong order) are a failure that names their lines, and nothing \
is written until they are put right. A file with lines that end in CR LF gets such lines.

The new version of the file is written under a temporary name and renamed, with mode, owner, access control list and \
extended attributes of the old one. A symbolic link at the path is never followed: that is a failure. Several resources may \
each manage a part of one file. A file resource that manages the contents of the same file would undo it again and again.

Watches the file. A refresh does nothing.",
    example: "\
resources:
  line:
  - name: no-root-login
    path: /etc/ssh/sshd_config
    starts: 'PermitRootLogin '
    line: PermitRootLogin no
  - name: lab-hosts
    path: /etc/hosts
    block: |
      192.0.2.1 one.lab
      192.0.2.2 two.lab
",
    fields: FIELDS,
    build,
};

static FIELDS: &[Field] = &[
    field("path", Shape::Path, "", "The file."),
    field("line", Shape::Text, "", "The line, without its end."),
    field("starts", Shape::Text, "", "With line: what starts like this is another version of it. Alone with absent."),
    field("block", Shape::Text, "", "Lines to stand between two marks. Instead of line."),
    field("marker", Shape::Text, "# {} mgmt NAME", "The marking lines, with {} for the words BEGIN and END."),
    field(
        "after",
        Shape::Text,
        "the end of the file",
        "Where it is missing, it is put after the first line that is this one.",
    ),
    field("before", Shape::Text, "", "Where it is missing, it is put before the first line that is this one."),
    field("state", Shape::Choice(&["exists", "absent"]), "exists", "Whether it shall be there."),
    field("create", Shape::Bool, "false", "Make the file where there is none."),
];

const fn field(name: &'static str, shape: Shape, default: &'static str, doc: &'static str) -> Field {
    Field { name, shape, default, doc }
}

#[derive(Debug, PartialEq)]
struct Line(EditedFile<Text>);

impl Resource for Line {
    type Drift = PartDrift;

    fn watch(&self, signal: &Signal) -> Result<Watch, Fault> {
        self.0.watch(signal)
    }

    async fn check(&self, look: &Look) -> Result<Check<PartDrift>, Fault> {
        self.0.check(look).await
    }

    async fn apply(&self, drift: PartDrift, work: &Work) -> Result<Applied, Fault> {
        self.0.apply(drift, work).await
    }
}

fn build(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let mut problems = Vec::new();
    let path = path(params, &mut problems);
    let absent = params.text("state").as_deref() == Some("absent");
    let part = part(params, context.name, absent, &mut problems);
    let position = match (one_line(params, "after", &mut problems), one_line(params, "before", &mut problems)) {
        (Some(_), Some(_)) => {
            problems.push(Problem::new("after", "give either after or before"));
            Position::End
        }
        (Some(after), None) => Position::After(after),
        (None, Some(before)) => Position::Before(before),
        (None, None) => Position::End,
    };
    let create = params.bool("create").unwrap_or(false);
    let (Some(path), Some(part), true) = (path, part, problems.is_empty()) else { return Err(problems) };
    let text = Text { part, absent, position, create, sensitive: context.sensitive };
    let wants = vec![Anchor::Path(path.clone()), Anchor::Parent(path.clone()), Anchor::Shipped(path.clone())];
    let line = Line(EditedFile::new(&path, text, HostRef(Arc::clone(context.host))));
    Ok(Built { resource: Arc::new(line), facets: Facets { wants, ..Facets::default() }, warnings: Vec::new() })
}

fn path(params: &mut Params, problems: &mut Vec<Problem>) -> Option<PathBuf> {
    let wrong = match params.filled("path") {
        None => "is missing: it says in which file".to_owned(),
        Some(path) if !path.starts_with('/') || path.contains('\0') => format!("{path} is not absolute"),
        Some(path) if path.ends_with('/') => "ends with a slash, but it is a file".to_owned(),
        Some(path) => return Some(normal(Path::new(&path))),
    };
    problems.push(Problem::new("path", wrong));
    None
}

fn part(params: &mut Params, name: &str, absent: bool, problems: &mut Vec<Problem>) -> Option<Part> {
    let (line, starts) = (one_line(params, "line", problems), one_line(params, "starts", problems));
    let (block, marker) = (params.text("block"), one_line(params, "marker", problems));
    let wrong = match (line, starts, block) {
        (Some(_), _, Some(_)) => Problem::new("block", "give either line or block"),
        (_, Some(_), Some(_)) => Problem::new("starts", "is about line, not about a block"),
        (None, None, None) => Problem::new("line", "is missing: give line or block"),
        (None, Some(_), None) if !absent => Problem::new("line", "is missing: starts alone says only what is removed"),
        (line, starts, None) => {
            if marker.is_some() {
                problems.push(Problem::new("marker", "is about a block, which is not given"));
            }
            return Some(Part::Line { line, starts });
        }
        (None, None, Some(block)) => {
            match Part::block(&block, &marker.unwrap_or_else(|| format!("# {{}} mgmt {name}"))) {
                Ok(part) => return Some(part),
                Err(problem) => problem,
            }
        }
    };
    problems.push(wrong);
    None
}

/// A text without an end of line, except that a literal of the graph file has one behind it.
fn one_line(params: &mut Params, field: &'static str, problems: &mut Vec<Problem>) -> Option<String> {
    let text = params.text(field)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    match line {
        "" => problems.push(Problem::new(field, "is empty")),
        _ if line.contains(['\n', '\r', '\0']) => {
            problems.push(Problem::new(field, "has to be one line; several are a block"))
        }
        _ => return Some(line.to_owned()),
    }
    None
}
