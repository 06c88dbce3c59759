//! Kinds that do nothing, with enough parameters and facets to assemble graphs of.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use mgmt_engine::resource::{Applied, Check, Drift, Fault, Look, Resource, Work};
use mgmt_resources::kind::{Anchor, Built, Context, Facets, Field, Params, Problem, Shape, Value, normal};
use mgmt_resources::watches::Watches;
use mgmt_resources::{Host, KindInfo, noop};

/// One for all tests: each instance takes one of the few (128) that a user may have, and closes in its own time.
fn watches() -> Watches {
    static WATCHES: OnceLock<Watches> = OnceLock::new();
    WATCHES.get_or_init(|| Watches::start().expect("the tests need an inotify instance")).clone()
}

/// This machine. The one place that knows how a host is made.
pub(super) fn host() -> Arc<Host> {
    Arc::new(Host::with(watches()))
}

pub(super) static KINDS: &[&KindInfo] = &[&noop::INFO, &FILE, &EXEC, &USER];

/// Equal if all it was built from is.
#[derive(Debug, PartialEq)]
struct Fake {
    params: Taken,
    first_dialect: bool,
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

type Taken = BTreeMap<&'static str, Value>;

/// Takes everything, as a kind does.
fn take(params: &mut Params, info: &KindInfo) -> Taken {
    let one = |field: &Field| {
        let name = field.name;
        let value = match field.shape {
            _ if !params.has(name) => return None,
            Shape::Text | Shape::Path | Shape::Choice(_) => Value::Text(params.text(name)?),
            Shape::Bool => Value::Bool(params.bool(name)?),
            Shape::Count => Value::Count(params.count(name)?),
            Shape::Seconds => Value::Seconds(params.seconds(name)?),
            Shape::Texts | Shape::Paths => Value::Texts(params.texts(name)),
            Shape::Map => Value::Map(params.map(name)),
            Shape::Ignored => unreachable!("it is never set"),
        };
        Some((name, value))
    };
    info.fields.iter().filter_map(one).collect()
}

fn text<'a>(params: &'a Taken, name: &str) -> Option<&'a str> {
    match params.get(name)? {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn built(params: Taken, context: &Context<'_>, facets: Facets) -> Built {
    let resource = Arc::new(Fake { params, first_dialect: context.first_dialect, managed: context.managed.clone() });
    Built { resource, facets, warnings: Vec::new() }
}

fn file(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let params = take(params, &FILE);
    let Some(written) = text(&params, "path") else {
        return Err(vec![Problem::new("", "a path is missing")]);
    };
    let illogical = written.ends_with('/') && params.contains_key("content");
    let path = normal(Path::new(written));
    let mut wants = vec![Anchor::Parent(path.clone())];
    if let Some(Value::Texts(fragments)) = params.get("fragments") {
        wants.extend(fragments.iter().map(|text| Anchor::Path(text.into())));
    }
    wants.extend(text(&params, "owner").map(|owner| Anchor::User(owner.to_owned())));
    let purges = (params.get("purge") == Some(&Value::Bool(true))).then(|| path.clone());
    let facets = Facets {
        owns: Some(path.clone()),
        purges,
        fills: None,
        provides: vec![Anchor::Path(path)],
        wants,
        shared: false,
        claims: None,
        ships: None,
    };
    let mut built = built(params, context, facets);
    if illogical {
        built.warnings.push(Problem::new("content", "a directory has none; ignored"));
    }
    Ok(built)
}

fn exec(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let params = take(params, &EXEC);
    let wants = text(&params, "cmd").map(|cmd| Anchor::Path(cmd.into())).into_iter().collect();
    Ok(built(params, context, Facets { wants, ..Facets::default() }))
}

fn user(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let provides = vec![Anchor::User(context.name.to_owned())];
    Ok(built(take(params, &USER), context, Facets { provides, ..Facets::default() }))
}
