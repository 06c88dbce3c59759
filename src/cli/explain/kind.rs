//! One kind, from its table.

use mgmt_resources::KindInfo;
use mgmt_resources::kind::{Field, Shape};
use serde::Serialize;

use super::topics::paragraph;
use crate::cli::print;

const COMMON: &str = "Every resource also takes: name, meta, after, notify, hosts, sensitive (mgmt explain graph).";

/// Where texts about parameters start.
pub(super) const COLUMN: usize = 18;

/// Everything about a kind, for people.
pub(super) fn text(info: &KindInfo, width: usize) -> String {
    let mut out = format!("{}: {}\n", info.name, info.summary);
    for notes in info.notes.split("\n\n") {
        out.push('\n');
        out += &paragraph(notes, width);
    }
    if !info.fields.is_empty() {
        out += "\nParameters:\n";
        for field in info.fields {
            out += &parameter(field, width);
        }
    }
    out.push('\n');
    out += &paragraph(COMMON, width);
    if !info.example.is_empty() {
        out += "\nExample:\n";
        for line in info.example.lines() {
            out += format!("  {line}").trim_end();
            out.push('\n');
        }
    }
    out
}

fn parameter(field: &Field, width: usize) -> String {
    let mut text = phrase(field.shape);
    if !field.default.is_empty() {
        text += &format!("; default: {}", field.default);
    }
    text.push('.');
    if !field.doc.is_empty() {
        text.push(' ');
        text += field.doc;
    }
    print::row(field.name, COLUMN, &text, width)
}

/// What values a shape takes, for people.
fn phrase(shape: Shape) -> String {
    match shape {
        Shape::Text => "Text",
        Shape::Path => "Path",
        Shape::Bool => "Boolean",
        Shape::Count => "Whole number",
        Shape::Seconds => "Seconds",
        Shape::Texts => "List of texts",
        Shape::Paths => "List of paths",
        Shape::Map => "Map of texts",
        Shape::Ignored => "Accepted, without effect",
        Shape::Choice(words) => return words.join(" or "),
    }
    .to_owned()
}

/// One word for a shape, for programs.
const fn word(shape: Shape) -> &'static str {
    match shape {
        Shape::Text => "text",
        Shape::Path => "path",
        Shape::Bool => "bool",
        Shape::Count => "count",
        Shape::Seconds => "seconds",
        Shape::Choice(_) => "choice",
        Shape::Texts => "texts",
        Shape::Paths => "paths",
        Shape::Map => "map",
        Shape::Ignored => "ignored",
    }
}

/// A kind as programs read it.
#[derive(Serialize)]
pub(super) struct Record {
    name: &'static str,
    summary: &'static str,
    notes: Vec<String>,
    parameters: Vec<Parameter>,
    example: &'static str,
}

/// A parameter as programs read it. What is empty in the table is null.
#[derive(Serialize)]
struct Parameter {
    name: &'static str,
    shape: &'static str,
    choices: Option<&'static [&'static str]>,
    default: Option<&'static str>,
    doc: &'static str,
}

impl Record {
    pub(super) fn of(info: &KindInfo) -> Self {
        Self {
            name: info.name,
            summary: info.summary,
            notes: info.notes.split("\n\n").map(|paragraph| print::wrap(paragraph, usize::MAX).concat()).collect(),
            parameters: info.fields.iter().map(Parameter::of).collect(),
            example: info.example,
        }
    }
}

impl Parameter {
    fn of(field: &Field) -> Self {
        let choices = match field.shape {
            Shape::Choice(words) => Some(words),
            _ => None,
        };
        let default = Some(field.default).filter(|default| !default.is_empty());
        Self { name: field.name, shape: word(field.shape), choices, default, doc: field.doc }
    }
}
