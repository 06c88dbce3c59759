//! No path, and nothing else of this machine, has two owners.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;

use mgmt_engine::graph::Graph;

use super::vertices::Vertices;
use crate::diagnostic::{Problem, Problems};

/// Reports every vertex whose path, or what else it claims, is owned by an earlier one.
pub(super) fn check(graph: &Graph, vertices: &Vertices, problems: &mut Problems) {
    let mut owners: HashMap<&[u8], usize> = HashMap::with_capacity(vertices.facets.len());
    let mut claims: HashMap<&str, usize> = HashMap::new();
    let mut twice = |number: usize, first: usize, what: String| {
        let message = format!("{what} is that of {} as well", graph.vertices()[first].id);
        let also = format!("also at {}:{}", problems.file(), vertices.places[first]);
        let subject = graph.vertices()[number].id.to_string();
        problems.push(Problem::error(vertices.places[number], subject, message).hint(also));
    };
    for (number, facets) in vertices.facets.iter().enumerate() {
        if let Some(path) = &facets.owns {
            let first = *owners.entry(path.as_os_str().as_bytes()).or_insert(number);
            if first != number {
                twice(number, first, format!("its path {}", path.display()));
            }
        }
        if let Some(claim) = &facets.claims {
            let first = *claims.entry(claim).or_insert(number);
            if first != number {
                twice(number, first, claim.clone());
            }
        }
    }
}
