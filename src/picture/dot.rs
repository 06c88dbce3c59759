//! The language of Graphviz.

use mgmt_engine::graph::{Edge, Graph};
use mgmt_engine::report::Standing;

use super::{escaped, fill, label, remark, standing, title};

/// The graph in the language of Graphviz. With standings (by vertex number), boxes are coloured and say them on hover.
pub fn dot(graph: &Graph, standings: Option<&[Standing]>) -> String {
    let mut out = format!("digraph {} {{\n", quoted(&title(graph)));
    out += "\trankdir=LR;\n\tnode [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=\"sans-serif\"];\n";
    out += "\tedge [fontname=\"sans-serif\", fontsize=10];\n";
    for number in 0..graph.vertices().len() {
        let stands = standing(standings, number)
            .map(|standing| format!(", fillcolor={}, tooltip={}", quoted(fill(standing)), quoted(standing.word())));
        let stands = stands.unwrap_or_default();
        out += &format!("\tv{number} [label={}{stands}];\n", quoted(&label(graph, number)));
    }
    for edge in graph.edges() {
        out += &format!("\tv{} -> v{}{};\n", edge.from, edge.to, attributes(edge));
    }
    out + "}\n"
}

fn attributes(edge: &Edge) -> String {
    let mut list = Vec::new();
    if let Some(remark) = remark(edge) {
        list.push(format!("label={}", quoted(remark)));
    }
    match (edge.notify, edge.automatic) {
        (true, _) => list.push("style=bold".to_owned()),
        (false, true) => list.push("style=dashed".to_owned()),
        (false, false) => {}
    }
    if list.is_empty() { String::new() } else { format!(" [{}]", list.join(", ")) }
}

/// A text in quotes. In a label `\n`, `\l`, `\N` and so on mean something, so a backslash is doubled.
fn quoted(text: &str) -> String {
    let escape = |c: char| match c {
        '"' => Some("\\\""),
        '\\' => Some("\\\\"),
        c if c.is_control() => Some(" "),
        _ => None,
    };
    format!("\"{}\"", escaped(text, escape))
}
