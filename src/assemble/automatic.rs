//! Edges that nobody wrote: from what a resource wants to what provides it.

mod shipped;

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use mgmt_engine::graph::{Edge, Graph};
use mgmt_resources::kind::{Anchor, Facets};

use self::shipped::Shipments;
use super::vertices::Vertices;
use crate::diagnostic::{Problem, Problems};

/// What can be provided. Paths are compared as bytes: taking them apart would cost more than all the rest.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Path(&'a [u8]),
    Unit(&'a str),
    User(&'a str),
    Group(&'a str),
    Leaves(&'a str),
}

impl<'a> Key<'a> {
    fn path(path: &'a Path) -> Self {
        Self::Path(path.as_os_str().as_bytes())
    }

    /// What is looked up for an anchor, if it is one and the same for who wants and who provides.
    fn of(anchor: &'a Anchor) -> Option<Self> {
        Some(match anchor {
            Anchor::Path(path) => Self::path(path),
            Anchor::Unit(name) => Self::Unit(name),
            Anchor::User(name) => Self::User(name),
            Anchor::Group(name) => Self::Group(name),
            Anchor::Leaves(name) => Self::Leaves(name),
            Anchor::Parent(_) | Anchor::In(_) | Anchor::Shipped(_) => return None,
        })
    }
}

/// Numbers of vertices by what they provide.
type Providers<'a> = HashMap<Key<'a>, Vec<usize>>;

/// Finds the edges, in an order that depends on nothing but the vertices'.
pub(super) fn find(graph: &Graph, facets: &[Facets]) -> Vec<Edge> {
    let taking_part: Vec<(usize, &Facets)> =
        facets.iter().enumerate().filter(|(number, _)| graph.vertices()[*number].meta.autoedge).collect();
    let mut providers: Providers<'_> = HashMap::with_capacity(facets.len());
    for (number, facets) in &taking_part {
        for key in facets.provides.iter().filter_map(Key::of) {
            providers.entry(key).or_default().push(*number);
        }
    }
    let inside = inside(&taking_part);
    let shipments = Shipments::of(&taking_part);
    let mut edges = Vec::new();
    let mut packages = Vec::new();
    for (number, facets) in &taking_part {
        for anchor in &facets.wants {
            let found = match anchor {
                Anchor::In(path) => inside.get(path.as_os_str().as_bytes()),
                // The nearest one that is not the vertex itself.
                Anchor::Parent(path) => ancestors(path.as_os_str().as_bytes())
                    .filter_map(|ancestor| providers.get(&Key::Path(ancestor)))
                    .find(|found| found.iter().any(|provider| provider != number)),
                anchor => Key::of(anchor).and_then(|key| providers.get(&key)),
            };
            packages.clear();
            shipments.of_anchor(anchor, &mut packages);
            let found = found.into_iter().flatten().chain(&packages).filter(|provider| *provider != number);
            edges.extend(found.map(|from| Edge { from: *from, to: *number, notify: false, automatic: true }));
        }
    }
    edges
}

/// Those that provide something right inside a directory, by the directory; empty if nobody asks.
fn inside<'a>(taking_part: &[(usize, &'a Facets)]) -> HashMap<&'a [u8], Vec<usize>> {
    let asked = |facets: &Facets| facets.wants.iter().any(|anchor| matches!(anchor, Anchor::In(_)));
    let mut inside: HashMap<&[u8], Vec<usize>> = HashMap::new();
    if !taking_part.iter().any(|(_, facets)| asked(facets)) {
        return inside;
    }
    for (number, facets) in taking_part {
        for anchor in &facets.provides {
            if let Anchor::Path(path) = anchor
                && let Some(directory) = parent(path.as_os_str().as_bytes())
            {
                inside.entry(directory).or_default().push(*number);
            }
        }
    }
    inside
}

/// The directories above a normal path, nearest first. [`Path::ancestors`] would take the path apart each time.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(parent(path), |path| parent(path))
}

fn parent(path: &[u8]) -> Option<&[u8]> {
    match path.iter().rposition(|byte| *byte == b'/')? {
        0 if path.len() == 1 => None,
        0 => Some(b"/"),
        slash => Some(&path[..slash]),
    }
}

/// Reports those that would have closed a circle.
pub(super) fn report(graph: &Graph, vertices: &Vertices, left_out: &[Edge], problems: &mut Problems) {
    // Two wants of one resource may be met by the same other one.
    let left_out: std::collections::BTreeSet<_> = left_out.iter().map(|edge| (edge.from, edge.to)).collect();
    for (from, to) in left_out {
        let id = |number: usize| &graph.vertices()[number].id;
        let message = format!("does not wait for {}, which waits for it already", id(from));
        problems.push(Problem::warning(vertices.places[to], id(to).to_string(), message));
    }
}

#[cfg(test)]
mod tests {
    use super::ancestors;

    #[test]
    fn ancestors_end_at_the_root() {
        let shown = |path: &str| ancestors(path.as_bytes()).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
        assert_eq!(shown("/a/bc/d"), "/a/bc /a /");
        assert_eq!(shown("/a"), "/");
        assert_eq!(shown("/"), "");
    }
}
