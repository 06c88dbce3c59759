//! Kinds that do nothing, with enough parameters and facets to assemble graphs of.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mgmt_engine::resource::{Applied, Check, Drift, Fault, Look, Resource, Work};
use mgmt_resources::kind::{Anchor, Built, Context, Facets, Field, Params, Problem, Shape, normal};
use mgmt_resources::{Host, KindInfo, noop};

/// This machine. The one place that knows how a host is made.
pub(super) fn host() -> Arc<Host> {
    Arc::new(Host {
        watches: Default::default(),
        accounts: Default::default(),
        syncs: Default::default(),
        memory: Default::default(),
        protected: Vec::new(),
    })
}

pub(super) static KINDS: &[&KindInfo] = &[&noop::INFO, &FILE, &EXEC, &USER];

/// Equal if all it was built from is.
#[derive(Debug, PartialEq)]
struct Fake {
    params: String,
    managed: Arc<BTreeSet<PathBuf>>,
}

#[derive(Debug)]
struct Never(Infallible);

impl std::fmt::Display for Never {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {}
    }
}

impl Drift for Never {}

impl Resource for Fake {
    type Drift = Never;

    async fn check(&self, _: &Look) -> Result<Check<Never>, Fault> {
        Ok(Check::Converged)
    }

    async fn apply(&self, drift: Never, _: &Work) -> Result<Applied, Fault> {
        match drift.0 {}
    }
}

const fn field(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, default: "", doc: "" }
}

static FILE: KindInfo = KindInfo {
    name: "file",
    summary: "",
    notes: "",
    example: "",
    fields: &[
        field("path", Shape::Path),
        field("dirname", Shape::Path),
        field("content", Shape::Text),
        field("source", Shape::Path),
        field("fragments", Shape::Paths),
        field("state", Shape::Choice(&["exists", "absent"])),
        field("mode", Shape::Text),
        field("owner", Shape::Text),
        field("recurse", Shape::Bool),
        field("purge", Shape::Bool),
    ],
    build: file,
};

static EXEC: KindInfo = KindInfo {
    name: "exec",
    summary: "",
    notes: "",
    example: "",
    fields: &[
        field("cmd", Shape::Text),
        field("args", Shape::Texts),
        field("env", Shape::Map),
        field("timeout", Shape::Seconds),
        field("tries", Shape::Count),
        field("state", Shape::Ignored),
        field("pollint", Shape::Ignored),
    ],
    build: exec,
};

static USER: KindInfo = KindInfo { name: "user", summary: "", notes: "", example: "", fields: &[], build: user };

fn built(params: &Params, context: &Context<'_>, facets: Facets) -> Built {
    let params = format!("{params:?} first={}", context.first_dialect);
    let resource = Arc::new(Fake { params, managed: context.managed.clone() });
    Built { resource, facets, warnings: Vec::new() }
}

fn file(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let mut built = built(params, context, Facets::default());
    let Some(path) = params.filled("path") else {
        return Err(vec![Problem::new("", "a path is missing")]);
    };
    if path.ends_with('/') && params.has("content") {
        built.warnings.push(Problem::new("content", "a directory has none; ignored"));
    }
    let path = normal(Path::new(&path));
    let mut wants = vec![Anchor::Parent(path.clone())];
    wants.extend(params.texts("fragments").into_iter().map(|text| Anchor::Path(text.into())));
    wants.extend(params.text("owner").map(Anchor::User));
    let purges = params.bool("purge").filter(|purge| *purge).map(|_| path.clone());
    built.facets = Facets { owns: Some(path.clone()), purges, provides: vec![Anchor::Path(path)], wants };
    Ok(built)
}

fn exec(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let mut built = built(params, context, Facets::default());
    built.facets.wants.extend(params.text("cmd").map(|cmd| Anchor::Path(cmd.into())));
    Ok(built)
}

fn user(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let provides = vec![Anchor::User(context.name.to_owned())];
    Ok(built(params, context, Facets { provides, ..Facets::default() }))
}
