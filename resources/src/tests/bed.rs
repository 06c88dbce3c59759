//! A scratch directory with a host of its own, in which tests build resources from a kind's table and converge them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mgmt_engine::erased::{AnyResource, Fix};
use mgmt_engine::resource::{Applied, Cause, Check, Look, Stop, Work};

use crate::host::Host;
use crate::kind::{Built, Context, KindInfo, Params, Problem, Shape, Value};
use crate::memory::Memory;
use crate::watches::Watches;

/// Builds resources of one kind.
pub(crate) type Build<'a> = dyn Fn(&mut Params, &Context<'_>) -> Result<Built, Vec<Problem>> + 'a;

pub(crate) struct Bed {
    directory: tempfile::TempDir,
    pub(crate) host: Arc<Host>,
    pub(crate) sensitive: bool,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::at(directory.path().join("memory"));
        let host = Arc::new(Host { memory, ..Host::with(Watches::shared()) });
        Self { directory, host, sensitive: false }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path(name)).ok()
    }

    /// What lies in the directory, except for what is remembered; no temporary file may be among it.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "memory");
        names.sort();
        names
    }

    /// Without the path of the directory.
    pub(crate) fn clean(&self, text: impl ToString) -> String {
        text.to_string().replace(&format!("{}/", self.directory.path().display()), "")
    }

    /// Builds one from `key: value` pairs; paths are relative to the directory. What is wrong is on a line each.
    pub(crate) fn built(&self, info: &KindInfo, build: &Build<'_>, pairs: &[(&str, &str)]) -> Result<Built, String> {
        let mut params = Params::default();
        for (name, value) in pairs {
            let field = info.fields.iter().find(|field| field.name == *name).unwrap();
            let path = |text: &str| Path::new(self.directory.path()).join(text).to_str().unwrap().to_owned();
            let map = |text: &str| {
                let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
                pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
            };
            let value = match field.shape {
                Shape::Path => Value::Text(path(value)),
                Shape::Bool => Value::Bool(*value == "true"),
                Shape::Count => Value::Count(value.parse().unwrap()),
                Shape::Seconds => Value::Seconds(value.parse().unwrap()),
                Shape::Map => Value::Map(map(value)),
                _ => Value::Text((*value).to_owned()),
            };
            params.set(field.name, value);
        }
        let context = Context { sensitive: self.sensitive, ..Context::of(&self.host, "it") };
        build(&mut params, &context).map_err(|problems| {
            let lines: Vec<_> = problems.into_iter().map(|p| format!("{}: {}", p.field, p.message)).collect();
            self.clean(lines.join("\n"))
        })
    }
}

/// What a look found.
pub(crate) enum Found {
    Right,
    Wrong(Box<dyn Fix>),
    Unclear(String),
}

/// Looks.
pub(crate) async fn look(resource: &AnyResource, cause: Cause) -> Result<Found, String> {
    let found = Arc::clone(resource).check(Look::because(cause)).await.map_err(|fault| fault.to_string())?;
    Ok(match found {
        Check::Converged => Found::Right,
        Check::Drifted(fix) => Found::Wrong(fix),
        Check::Unknown(why) => Found::Unclear(why),
        Check::Later(what) => Found::Unclear(what.into_owned()),
    })
}

/// What is wrong, for people; `right` if nothing is.
pub(crate) async fn said(resource: &AnyResource) -> Result<String, String> {
    Ok(match look(resource, Cause::First).await? {
        Found::Right => "right".to_owned(),
        Found::Wrong(fix) => fix.to_string(),
        Found::Unclear(why) => format!("unclear: {why}"),
    })
}

/// Looks and, where something is wrong, repairs it: what was done; `right` if nothing had to be.
pub(crate) async fn converge(resource: &AnyResource) -> Result<String, String> {
    converge_until(resource, Stop::never()).await
}

/// The same, until it is told to stop.
pub(crate) async fn converge_until(resource: &AnyResource, stop: Stop) -> Result<String, String> {
    let fix = match look(resource, Cause::First).await? {
        Found::Right => return Ok("right".to_owned()),
        Found::Unclear(why) => return Ok(format!("unclear: {why}")),
        Found::Wrong(fix) => fix,
    };
    let work = Work { stop, ..Work::because(Cause::First) };
    match fix.apply(work).await.map_err(|fault| fault.to_string())? {
        Applied::Unchanged => Ok("unchanged".to_owned()),
        Applied::Changed { deed, .. } => Ok(deed.into_owned()),
    }
}
