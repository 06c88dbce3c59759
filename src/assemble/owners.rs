//! No path has two owners.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;

use mgmt_engine::graph::Graph;

use super::vertices::Vertices;
use crate::diagnostic::{Problem, Problems};

/// Reports every vertex whose path is owned by an earlier one.
pub(super) fn check(graph: &Graph, vertices: &Vertices, problems: &mut Problems) {
    let mut owners: HashMap<&[u8], usize> = HashMap::with_capacity(vertices.facets.len());
    for (number, facets) in vertices.facets.iter().enumerate() {
        let Some(path) = &facets.owns else { continue };
        let first = *owners.entry(path.as_os_str().as_bytes()).or_insert(number);
        if first != number {
            let message = format!("its path {} is that of {} as well", path.display(), graph.vertices()[first].id);
            let also = format!("also at {}:{}", problems.file(), vertices.places[first]);
            let subject = graph.vertices()[number].id.to_string();
            problems.push(Problem::error(vertices.places[number], subject, message).hint(also));
        }
    }
}
