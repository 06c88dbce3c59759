//! Mermaid, which many web pages render.

use mgmt_engine::graph::{Edge, Graph};
use mgmt_engine::report::Standing;
use std::collections::BTreeSet;

use super::{escaped, fill, label, remark, standing};

/// The graph as a Mermaid flow chart. With standings (by vertex number), boxes are coloured.
pub fn mermaid(graph: &Graph, standings: Option<&[Standing]>) -> String {
    let mut out = "flowchart LR\n".to_owned();
    let mut seen = BTreeSet::new();
    for number in 0..graph.vertices().len() {
        let stands = standing(standings, number);
        seen.extend(stands);
        let class = stands.map(|standing| format!(":::{}", class(standing))).unwrap_or_default();
        out += &format!("    v{number}[\"{}\"]{class}\n", escape(&label(graph, number)));
    }
    for edge in graph.edges() {
        let remark = remark(edge).map(|remark| format!("|{remark}|")).unwrap_or_default();
        out += &format!("    v{} {}{remark} v{}\n", edge.from, arrow(edge), edge.to);
    }
    for standing in seen {
        out += &format!("    classDef {} fill:{},color:#000\n", class(standing), fill(standing));
    }
    out
}

const fn arrow(edge: &Edge) -> &'static str {
    match (edge.notify, edge.automatic) {
        (true, _) => "==>",
        (false, true) => "-.->",
        (false, false) => "-->",
    }
}

/// The name of a standing's class, which is one word.
fn class(standing: Standing) -> String {
    standing.word().replace(' ', "_")
}

/// Inside quotes, a number sign starts an entity, and the label is HTML.
fn escape(text: &str) -> String {
    escaped(text, |c| match c {
        '"' => Some("#quot;"),
        '#' => Some("#35;"),
        '&' => Some("#amp;"),
        '<' => Some("#lt;"),
        '>' => Some("#gt;"),
        '`' => Some("#96;"),
        '\\' => Some("#92;"),
        _ => None,
    })
}
