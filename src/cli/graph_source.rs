//! What `run`, `apply` and `plan` have in common: which graph, read how, on what host.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use mgmt_engine::Clock;
use mgmt_resources::watches::Watches;
use mgmt_resources::{Host, Lent};

use super::args;
use super::{Exit, Failure};
use crate::agent::Source;
use crate::assemble::{Exchanged, Options};
use crate::control::Question;
use crate::events::rfc3339;
use crate::exchange::Sight;
use crate::exchange::remembered::Memory;
use crate::mesh::link::Link;
use crate::state::{Home, State};

impl args::Source {
    /// Which graph is meant: `FILE`, `yaml FILE`, `empty`, `--file FILE`.
    ///
    /// # Errors
    /// None, or more than one.
    pub fn which(&self) -> Result<Source, Failure> {
        let usage = |text: &str| Err(Failure::new(Exit::Usage, text));
        let words: Vec<&str> = self.graph.iter().map(String::as_str).collect();
        match (words.as_slice(), self.file.as_deref()) {
            (["empty"], None) => Ok(Source::Empty),
            (["yaml"], None) => usage("which graph? give a file: mgmt run yaml FILE"),
            (["yaml", file] | [file], None) => Ok(Source::File((*file).into())),
            ([], Some(file)) => Ok(Source::File(file.into())),
            ([], None) => usage("which graph? give a file: mgmt run FILE (mgmt init DIR writes a first one)"),
            _ => usage("one graph at a time, please"),
        }
    }
}

/// How the graph of a source is read.
///
/// # Errors
/// There is no current directory to start relative paths at.
pub fn options(source: &Source, hostname: &str) -> Result<Options, Failure> {
    let path = match source {
        Source::File(path) => path.as_path(),
        Source::Empty => Path::new("empty"),
    };
    let mut options = Options::of(path)
        .map_err(|e| Failure::new(Exit::Unavailable, format!("cannot find the current directory: {e}")))?;
    hostname.clone_into(&mut options.hostname);
    Ok(options)
}

/// Where a run takes place, and how its graph is read. `part`: keep state apart from the agent's.
///
/// # Errors
/// There is no place for state, or somebody else holds it.
pub fn stage(
    source: &args::Source,
    place: &args::Place,
    common: &args::Common,
    part: Option<&str>,
) -> Result<(Source, Home, Options, State), Failure> {
    let which = source.which()?;
    let mut home = Home::of(place)?;
    let mut options = options(&which, &home.hostname)?;
    options.strict = source.strict;
    options.noop = common.noop;
    options.sema = common.sema;
    options.no_autoedge = common.no_autoedges;
    let state = if common.tmp_prefix { State::temporary(&mut home)? } else { State::take(&home, part)? };
    Ok((which, home, options, state))
}

/// What a run without a part of its own in the mesh knows of other hosts' exports: what the agent of this host keeps. And
/// how old that is, for people; nothing, if there is nothing.
pub fn sight(home: &Home, place: &args::Place) -> (Arc<Sight>, Option<Age>) {
    let remembered = Memory::in_directory(&home.directory()).load();
    let Some(at) = remembered.at else { return (Arc::default(), None) };
    // The agent writes it down a moment after each change: while it follows the store, nothing is newer.
    let place = args::Place { hostname: Some(home.hostname.clone()), prefix: place.prefix.clone() };
    let mut live = false;
    let asked = crate::control::find(&place).and_then(|agent| {
        agent.ask(&Question::Status { all: false, local: true }, |status: serde_json::Value| {
            live = status["exchange"]["live"] == true;
            Ok(false)
        })
    });
    if let Err(failure) = asked {
        tracing::debug!("{}", failure.message);
    }
    (Arc::new(remembered.sight()), Some(Age { at, live }))
}

/// How old the view of other hosts' exports is.
#[derive(Debug, Clone, Copy)]
pub struct Age {
    /// When it was written down.
    pub at: SystemTime,
    /// An agent keeps it up to date.
    pub live: bool,
}

impl Age {
    /// What people and programs are told of it, where the graph collects something.
    pub fn told(age: Option<Self>, exchanged: &Exchanged) -> Option<(String, serde_json::Value)> {
        if exchanged.asks.is_empty() {
            return None;
        }
        let Some(Self { at, live }) = age else {
            let text = "nothing is known here of what other hosts export: run this graph as an agent once".to_owned();
            return Some((text, serde_json::json!({"at": null, "live": false})));
        };
        let ago = Clock::wall().duration_since(at).unwrap_or_default();
        let text = match live {
            true => "what other hosts export is as the running agent knows it".to_owned(),
            false => {
                format!("what other hosts export is remembered from {} s ago, and may be another by now", ago.as_secs())
            }
        };
        Some((text, serde_json::json!({"at": rfc3339(at), "live": live})))
    }
}

/// This machine, for a run whose state is at `home`. With `noop`, nothing of it may be changed.
///
/// # Errors
/// The kernel gives us no inotify instance.
pub fn host(home: &Home, source: &Source, noop: bool) -> Result<Arc<Host>, Failure> {
    let watches = Watches::start().map_err(|e| {
        let hint = "; raise fs.inotify.max_user_instances, or end some of the programs that watch files";
        Failure::new(Exit::Unavailable, format!("cannot watch files: {e}{hint}"))
    })?;
    let mut protected: Vec<PathBuf> = vec![home.prefix.clone()];
    if let Source::File(path) = source
        && let Ok(path) = std::path::absolute(path)
    {
        protected.push(mgmt_resources::kind::normal(&path));
    }
    Ok(Arc::new(Host {
        memory: mgmt_resources::memory::Memory::at(home.directory().join("memory")),
        noop,
        protected,
        lent: Lent::default().with(Link::new()),
        ..Host::with(watches)
    }))
}

/// Raises the limit of open files to what is allowed: a thousand commands at once need three thousand descriptors.
pub fn raise_limits() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!("cannot raise the limit of open files: {error}");
    }
}
