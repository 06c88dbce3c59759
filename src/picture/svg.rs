//! A picture for a browser, with a layout of its own.

use mgmt_engine::graph::{Edge, Graph};
use mgmt_engine::report::Standing;

use super::layout::{self, BOX_HEIGHT, Point};
use super::{escaped, fill, label, remark, standing, title};

/// More vertices are not drawn: nobody could read it, and Graphviz does it better.
pub const VERTICES_MAX: usize = 2_000;

/// Nor are more edges.
const EDGES_MAX: usize = 10_000;

/// About how wide a character of the font is, in pixels. The text is told to fill its box, so that it never sticks out.
const CHARACTER_WIDTH: f64 = 7.5;
const PADDING: f64 = 10.0;

/// The graph is too big to be drawn here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the graph has {vertices} vertices and {edges} edges, too many for a readable picture: \
     draw it as dot and let Graphviz lay it out"
)]
pub struct TooBig {
    /// How many vertices it has.
    pub vertices: usize,
    /// How many edges it has.
    pub edges: usize,
}

/// The graph as SVG. With standings (by vertex number), boxes are coloured and say them on hover.
///
/// # Errors
/// It is too big.
pub fn svg(graph: &Graph, standings: Option<&[Standing]>) -> Result<String, TooBig> {
    let (vertices, edges) = (graph.vertices().len(), graph.edges().len());
    if vertices > VERTICES_MAX || edges > EDGES_MAX {
        return Err(TooBig { vertices, edges });
    }
    let labels: Vec<_> = (0..vertices).map(|number| label(graph, number)).collect();
    let widths: Vec<_> = labels.iter().map(|label| text_width(label) + 2.0 * PADDING).collect();
    let ends: Vec<_> = graph.edges().iter().map(|edge| (edge.from, edge.to)).collect();
    let laid = layout::layout(&widths, &ends);
    let mut out = head(laid.size, &title(graph));
    for (edge, way) in graph.edges().iter().zip(&laid.edges) {
        draw_edge(&mut out, edge, way);
    }
    for (number, label) in labels.iter().enumerate() {
        draw_box(&mut out, label, laid.boxes[number], widths[number], standing(standings, number));
    }
    Ok(out + "</svg>\n")
}

fn text_width(label: &str) -> f64 {
    label.chars().count() as f64 * CHARACTER_WIDTH
}

fn head((width, height): Point, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"monospace\" font-size=\"12\">\n\
         <title>{}</title>\n\
         <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
         markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path d=\"M0 0 8 4 0 8z\" fill=\"#555\"/></marker></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        escape(title)
    )
}

fn draw_edge(out: &mut String, edge: &Edge, way: &[Point]) {
    let [start, .., _] = way else { return };
    let mut path = format!("M{:.1} {:.1}", start.0, start.1);
    for pair in way.windows(2) {
        let ((x, y), (to_x, to_y)) = (pair[0], pair[1]);
        let middle = f64::midpoint(x, to_x);
        path += &format!(" C{middle:.1} {y:.1} {middle:.1} {to_y:.1} {to_x:.1} {to_y:.1}");
    }
    let style = match (edge.notify, edge.automatic) {
        (true, _) => " stroke-width=\"2.5\"",
        (false, true) => " stroke-dasharray=\"5 4\"",
        (false, false) => "",
    };
    *out += &format!("<path d=\"{path}\" fill=\"none\" stroke=\"#555\"{style} marker-end=\"url(#tip)\"/>\n");
    if let Some(remark) = remark(edge) {
        let ((x, y), (to_x, to_y)) = (way[0], way[1]);
        let (x, y) = (f64::midpoint(x, to_x), f64::midpoint(y, to_y) - 4.0);
        *out += &format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" font-size=\"10\" fill=\"#555\">{remark}</text>\n"
        );
    }
}

fn draw_box(out: &mut String, label: &str, (x, y): Point, width: f64, standing: Option<Standing>) {
    let colour = standing.map_or("#fff", fill);
    let hover = standing.map(|standing| format!("<title>{}</title>", standing.word())).unwrap_or_default();
    *out += &format!(
        "<g>{hover}<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{BOX_HEIGHT}\" rx=\"5\" \
         fill=\"{colour}\" stroke=\"#333\"/><text x=\"{:.1}\" y=\"{:.1}\" textLength=\"{:.1}\" \
         lengthAdjust=\"spacingAndGlyphs\">{}</text></g>\n",
        y - BOX_HEIGHT / 2.0,
        x + PADDING,
        y + 4.0,
        text_width(label),
        escape(label),
    );
}

fn escape(text: &str) -> String {
    escaped(text, |c| match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '"' => Some("&quot;"),
        '\'' => Some("&#39;"),
        // XML has no way to write these.
        c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => Some(" "),
        _ => None,
    })
}
