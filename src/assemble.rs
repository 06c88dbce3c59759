//! Document to graph: every vertex, every edge, and every problem found, at once and with its place.
//!
//! A pure function of the document, the options (what is known of other hosts' exports among them) and the table of kinds.
//! It promises a graph if and only if nothing is wrong with the file, whatever other hosts export, and the same graph for
//! the same input. Must not know how any kind works, read any file, or ask a store.

mod automatic;
mod collect;
mod collected;
mod edges;
mod exchanged;
mod glob;
mod kinds;
mod meta;
mod owners;
mod resources;
mod trust;
mod values;
mod vertices;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mgmt_engine::graph::{Graph, Vertex};
use mgmt_engine::meta::Semaphore;
use mgmt_resources::{Host, KindInfo};

use crate::diagnostic::{Place, Problem, Problems, nearest};
use crate::document::{self, Document, Node, Value};
use crate::exchange::Sight;
pub use exchanged::{Exchanged, Exported, Skipped, Taken};
use kinds::Kinds;
pub(crate) use meta::UNSUPPORTED as META_UNSUPPORTED;
use resources::Resources;
use vertices::{Builder, Vertices};

/// What a graph depends on besides its file and the kinds.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The file's name, as shown before places.
    pub file: String,
    /// The absolute directory that relative paths start at: the graph file's.
    pub directory: PathBuf,
    /// This host's name, for `hosts`.
    pub hostname: String,
    /// Unknown keys are errors.
    pub strict: bool,
    /// Every vertex only checks.
    pub noop: bool,
    /// At most so many vertices check and apply at once.
    pub sema: Option<NonZeroU32>,
    /// Nobody takes part in automatic edges.
    pub no_autoedge: bool,
    /// What is known of what other hosts export.
    pub sight: Arc<Sight>,
}

impl Options {
    /// For the graph file at this path (`-`: standard input), otherwise as by default.
    ///
    /// # Errors
    /// The path is relative, and there is no current directory.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let (file, directory) = if path.as_os_str() == "-" {
            ("<stdin>".to_owned(), std::path::absolute(".")?)
        } else {
            let absolute = std::path::absolute(path)?;
            (path.display().to_string(), absolute.parent().unwrap_or(Path::new("/")).to_owned())
        };
        Ok(Self { file, directory, ..Self::default() })
    }
}

/// What became of a document.
#[derive(Debug)]
pub struct Assembled {
    /// The graph, sealed; `None` if there are errors.
    pub graph: Option<Graph>,
    /// Everything found, by place.
    pub problems: Problems,
    /// Where each vertex stands in the file, by its number.
    pub places: Vec<Place>,
    /// How many resources are meant for other hosts only.
    pub elsewhere: usize,
    /// What the graph has to do with other hosts.
    pub exchanged: Exchanged,
    /// It shares something with the other hosts of a mesh: exports, what it collects, keys, semaphores.
    pub needs_mesh: bool,
}

impl Assembled {
    /// What becomes of a file that could not be read, or is no document.
    pub fn failed(options: &Options, problem: Problem) -> Self {
        let mut problems = Problems::of(&options.file);
        problems.push(problem);
        Self {
            graph: None,
            problems,
            places: Vec::new(),
            elsewhere: 0,
            exchanged: Exchanged::default(),
            needs_mesh: false,
        }
    }
}

/// Reads a graph file from disk (`-`: standard input) and assembles it.
pub fn load(path: &Path, options: &Options, kinds: &[&'static KindInfo], host: &Arc<Host>) -> Assembled {
    match document::read(path) {
        Ok(bytes) => assemble_bytes(&bytes, options, kinds, host),
        Err(problem) => Assembled::failed(options, problem),
    }
}

/// Parses and assembles.
pub fn assemble_bytes(bytes: &[u8], options: &Options, kinds: &[&'static KindInfo], host: &Arc<Host>) -> Assembled {
    match document::parse(bytes) {
        Ok(document) => assemble(&document, options, kinds, host),
        Err(problem) => Assembled::failed(options, problem),
    }
}

/// Assembles a document.
pub fn assemble(document: &Document, options: &Options, kinds: &[&'static KindInfo], host: &Arc<Host>) -> Assembled {
    let mut problems = Problems::of(&options.file);
    let kinds = Kinds(kinds);
    let top = Top::of(document.root(), options, &mut problems);
    let mut resources = Resources::new(options, kinds);
    for (map, first_dialect) in [(top.types, true), (top.resources, false)] {
        if let Some(map) = map {
            resources.read(map, first_dialect, top.here, &mut problems);
        }
    }
    // A file that is not meant for this host collects nothing here.
    let mut items = collect::read(top.collect, kinds, options, &mut problems);
    items.retain(|_| top.here);
    let mut graph = Graph::new(top.name);
    let built = Builder { options, host }.build(resources, items, &mut graph, &mut problems);
    owners::check(&graph, &built, &mut problems);
    let mut edges = edges::connect(&mut graph, top.edges, &built, options, &mut problems);
    let mut weaker = std::mem::take(&mut edges.weaker);
    if !options.no_autoedge {
        weaker.extend(automatic::find(&graph, &built.facets));
    }
    match graph.seal(&weaker) {
        Ok(left_out) => automatic::report(&graph, &built, &left_out, &mut problems),
        Err(cycle) => edges.report(&cycle, &mut problems),
    }
    problems.sort();
    Assembled {
        needs_mesh: needs_mesh(&graph, &built),
        graph: (problems.errors() == 0).then_some(graph),
        problems,
        places: built.places,
        elsewhere: built.elsewhere,
        exchanged: built.exchanged,
    }
}

fn needs_mesh(graph: &Graph, built: &Vertices) -> bool {
    let exchanges = !built.items.is_empty() || !built.exchanged.exports.is_empty();
    let of_mesh = |vertex: &Vertex| vertex.meta.sema.iter().any(Semaphore::is_of_mesh);
    exchanges || built.facets.iter().any(|facets| facets.shared) || graph.vertices().iter().any(of_mesh)
}

/// What to say of a kind that is not there, and what may help.
pub fn missing_kind(kind: &str, kinds: &[&'static KindInfo]) -> (String, Option<String>) {
    let Problem { message, hint, .. } = Kinds(kinds).unknown(&Kinds::canonical(kind), Place { line: 1, column: 1 });
    (message, hint)
}

/// The keys of the outermost map.
struct Top<'d> {
    name: &'d str,
    /// The file is meant for this host.
    here: bool,
    types: Option<Node<'d>>,
    resources: Option<Node<'d>>,
    collect: Option<Node<'d>>,
    edges: Option<Node<'d>>,
}

pub(crate) const TOP_KEYS: [&str; 9] =
    ["graph", "comment", "types", "resources", "collect", "edges", "hosts", "remote", "hostname"];

impl<'d> Top<'d> {
    fn of(root: Node<'d>, options: &Options, problems: &mut Problems) -> Self {
        let mut top = Self { name: "", here: true, types: None, resources: None, collect: None, edges: None };
        let Value::Map(pairs) = root.value() else {
            let message = format!("a graph file is a map, and this is {}", root.noun());
            problems.push(Problem::error(root.place(), "", message));
            return top;
        };
        let mut named = false;
        for pair in pairs {
            // Nothing but the name is missed when it is empty.
            let value = Some(pair.value).filter(|value| !value.is_null());
            match pair.key {
                "graph" => {
                    named = true;
                    top.name = name(pair.value, problems);
                }
                "types" => top.types = value,
                "resources" => top.resources = value,
                "collect" => top.collect = value,
                "edges" => top.edges = value,
                "hosts" => top.here = value.is_none_or(|v| values::for_host(v, &options.hostname, "", problems)),
                "comment" => {}
                "remote" | "hostname" => {
                    let message = format!("the key '{}' of old files has no effect", pair.key);
                    problems.push(Problem::warning(pair.place, "", message));
                }
                key => {
                    let known = nearest(key, TOP_KEYS);
                    problems.push(Problem::unknown_key(pair.place, String::new(), key, known, options.strict));
                }
            }
        }
        if !named {
            problems.push(Problem::error(root.place(), "", "the key 'graph' is missing: it names the graph"));
        }
        top
    }
}

fn name<'d>(value: Node<'d>, problems: &mut Problems) -> &'d str {
    match value.value() {
        Value::Scalar(scalar) if !scalar.is_null() && !scalar.text.trim().is_empty() => return scalar.text,
        Value::Scalar(_) => problems.push(Problem::error(value.place(), "", "the graph's name is empty")),
        _ => {
            let message = format!("the graph's name must be a text, and this is {}", value.noun());
            problems.push(Problem::error(value.place(), "", message));
        }
    }
    ""
}

#[cfg(test)]
pub(crate) use {collect::KEYS as COLLECT_KEYS, meta::KNOWN as META_KEYS, resources::COMMON_KEYS};

#[cfg(test)]
mod tests;
