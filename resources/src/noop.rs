//! `noop`: always as wanted. An anchor for edges, and the shortest example of a kind.

use std::convert::Infallible;
use std::sync::Arc;

use mgmt_engine::resource::{Applied, Check, Drift, Fault, Look, Resource, Work};

use crate::kind::{Built, Context, Facets, Field, KindInfo, Params, Problem, Shape};

/// The kind's table entry.
pub static INFO: KindInfo = KindInfo {
    name: "noop",
    summary: "does nothing; an anchor for edges",
    notes: "Always as wanted. Nothing is watched; a refresh does nothing.",
    example: "\
resources:
  noop:
  - name: all-users-exist
    comment: edges from every user meet here
",
    fields: &[Field { name: "comment", shape: Shape::Text, default: "", doc: "For the reader of the file." }],
    build,
};

#[derive(Debug, PartialEq, Eq)]
struct Noop;

/// There is none: a noop is never wrong.
#[derive(Debug)]
struct Never(Infallible);

impl std::fmt::Display for Never {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {}
    }
}

impl Drift for Never {}

impl Resource for Noop {
    type Drift = Never;

    async fn check(&self, _: &Look) -> Result<Check<Never>, Fault> {
        Ok(Check::Converged)
    }

    async fn apply(&self, drift: Never, _: &Work) -> Result<Applied, Fault> {
        match drift.0 {}
    }
}

fn build(_: &mut Params, _: &Context<'_>) -> Result<Built, Vec<Problem>> {
    // The comment is not part of the resource: a new comment restarts nothing.
    Ok(Built { resource: Arc::new(Noop), facets: Facets::default(), warnings: Vec::new() })
}
