//! From a source to a graph that can run.

use std::sync::Arc;

use mgmt_engine::Graph;
use mgmt_resources::Host;

use super::{Settings, Source};
use crate::assemble::{self, Assembled, Exchanged};
use crate::cli::{Exit, Failure};
use crate::diagnostic::Severity;
use crate::document::{self, Document};
use crate::kinds::KINDS;

/// A graph that can run, and what it came from.
pub(super) struct Loaded {
    pub(super) document: Document,
    pub(super) graph: Graph,
    pub(super) exchanged: Exchanged,
    pub(super) needs_mesh: bool,
}

/// The document of the source, and what became of it.
pub(super) fn load(settings: &Settings, host: &Arc<Host>) -> (Document, Assembled) {
    let bytes = match &settings.source {
        Source::File(path) => document::read(path),
        Source::Empty => Ok(b"graph: empty\n".to_vec()),
    };
    match bytes.and_then(|bytes| document::parse(&bytes)) {
        Ok(document) => {
            let assembled = assemble::assemble(&document, &settings.options, KINDS, host);
            (document, assembled)
        }
        Err(problem) => (Document::default(), Assembled::failed(&settings.options, problem)),
    }
}

/// Says what was found, and gives the graph if there is one.
pub(super) fn accept((document, assembled): (Document, Assembled)) -> Result<Loaded, Failure> {
    let Assembled { graph, problems, exchanged, needs_mesh, .. } = assembled;
    for problem in problems.shown() {
        let line = problem.line(problems.file()).to_string();
        match problem.severity {
            Severity::Error => tracing::error!("{line}"),
            Severity::Warning => tracing::warn!("{line}"),
        }
    }
    if problems.more() > 0 {
        tracing::warn!("{}: and {} more", problems.file(), problems.more());
    }
    let Some(graph) = graph else {
        let errors = problems.errors();
        let plural = if errors == 1 { "" } else { "s" };
        let text = format!("{} is not a graph that can run: {errors} error{plural}", problems.file());
        return Err(Failure::new(Exit::Graph, text));
    };
    Ok(Loaded { document, graph, exchanged, needs_mesh })
}
