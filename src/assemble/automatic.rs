//! Edges that nobody wrote: from what a resource wants to what provides it.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use mgmt_engine::graph::{Edge, Graph};
use mgmt_resources::kind::{Anchor, Facets};

use super::vertices::Vertices;
use crate::diagnostic::{Problem, Problems};

/// What can be provided. Paths are compared as bytes: taking them apart would cost more than all the rest.
#[derive(PartialEq, Eq, Hash)]
enum Key<'a> {
    Path(&'a [u8]),
    User(&'a str),
    Group(&'a str),
}

impl<'a> Key<'a> {
    fn path(path: &'a Path) -> Self {
        Self::Path(path.as_os_str().as_bytes())
    }
}

/// Finds the edges, in an order that depends on nothing but the vertices'.
pub(super) fn find(graph: &Graph, facets: &[Facets]) -> Vec<Edge> {
    let taking_part = || facets.iter().enumerate().filter(|(number, _)| graph.vertices()[*number].meta.autoedge);
    let mut providers: HashMap<Key<'_>, Vec<usize>> = HashMap::with_capacity(facets.len());
    for (number, facets) in taking_part() {
        for anchor in &facets.provides {
            let key = match anchor {
                Anchor::Path(path) => Key::path(path),
                Anchor::User(name) => Key::User(name),
                Anchor::Group(name) => Key::Group(name),
                Anchor::Parent(_) => continue,
            };
            providers.entry(key).or_default().push(number);
        }
    }
    let mut edges = Vec::new();
    for (number, facets) in taking_part() {
        for anchor in &facets.wants {
            let found = match anchor {
                Anchor::Path(path) => providers.get(&Key::path(path)),
                Anchor::User(name) => providers.get(&Key::User(name)),
                Anchor::Group(name) => providers.get(&Key::Group(name)),
                // The nearest one that is not the vertex itself.
                Anchor::Parent(path) => ancestors(path.as_os_str().as_bytes())
                    .filter_map(|ancestor| providers.get(&Key::Path(ancestor)))
                    .find(|found| found.iter().any(|provider| *provider != number)),
            };
            let found = found.into_iter().flatten().filter(|provider| **provider != number);
            edges.extend(found.map(|from| Edge { from: *from, to: number, notify: false, automatic: true }));
        }
    }
    edges
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
