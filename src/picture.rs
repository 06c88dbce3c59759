//! Pictures of a graph: for Graphviz, for Mermaid, and as SVG.
//!
//! Pure functions of the graph and how its vertices stand. Equal graphs give equal pictures. Promises that no name can
//! break out of its label. Shows kinds and names only, never a parameter.

mod dot;
mod layout;
mod mermaid;
mod svg;

pub use dot::dot;
pub use mermaid::mermaid;
pub use svg::{TooBig, VERTICES_MAX, svg};

use std::borrow::Cow;

use mgmt_engine::graph::{Edge, Graph};
use mgmt_engine::report::Standing;

/// How a box of this standing is filled.
const fn fill(standing: Standing) -> &'static str {
    match standing {
        Standing::Clean => "#d5f0d5",
        Standing::Changed => "#8fd694",
        Standing::Failed => "#f28b82",
        Standing::Held => "#d0d0d0",
        Standing::Busy => "#fff3a3",
        Standing::Retrying => "#ffe08a",
        Standing::Waiting => "#f7f7f7",
        Standing::WouldChange => "#a8cdf5",
        Standing::Contested => "#ffbe76",
    }
}

/// How the vertex of this number stands, if that is known.
fn standing(standings: Option<&[Standing]>, number: usize) -> Option<Standing> {
    standings.and_then(|standings| standings.get(number).copied())
}

/// Names longer than this are cut: a box has to fit on a page.
const LABEL_MAX: usize = 60;

/// What is written into the box of a vertex: `kind[name]` without anything that moves a cursor.
fn label(graph: &Graph, number: usize) -> String {
    let id = graph.vertices()[number].id.to_string();
    let mut label: String = id.chars().take(LABEL_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if id.chars().nth(LABEL_MAX).is_some() {
        label.push('…');
    }
    label
}

/// Replaces characters that mean something in a picture's syntax.
fn escaped(text: &str, with: impl Fn(char) -> Option<&'static str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut buffer = [0; 4];
    for c in text.chars() {
        out += with(c).unwrap_or_else(|| c.encode_utf8(&mut buffer));
    }
    out
}

/// The graph's name, for titles.
fn title(graph: &Graph) -> Cow<'_, str> {
    if graph.name().is_empty() { Cow::Borrowed("graph") } else { Cow::Borrowed(graph.name()) }
}

/// What is written beside an edge.
const fn remark(edge: &Edge) -> Option<&'static str> {
    if edge.notify { Some("notify") } else { None }
}

#[cfg(test)]
mod tests;
