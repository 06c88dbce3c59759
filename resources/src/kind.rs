//! What a kind is to the rest of the program: a name, its parameters in a table, and a way to build one.
//!
//! `explain`, the graph file's reader and its "did you mean" are all made from these tables. Values arrive typed: the
//! reader has turned the file's scalars into the shape the table asks for, and has reported those that do not fit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use mgmt_engine::erased::AnyResource;

use crate::host::Host;

/// One kind of resource.
#[derive(Debug)]
pub struct KindInfo {
    /// Its name in a graph file, lower case.
    pub name: &'static str,
    /// One line about it.
    pub summary: &'static str,
    /// A few paragraphs: what it does, watches, and does on a refresh.
    pub notes: &'static str,
    /// A short graph that uses it.
    pub example: &'static str,
    /// Its parameters, in the order a reader wants them.
    pub fields: &'static [Field],
    /// Builds one from its parameters.
    pub build: fn(&mut Params, &Context<'_>) -> Result<Built, Vec<Problem>>,
}

/// One parameter of a kind.
#[derive(Debug)]
pub struct Field {
    /// Its key in the graph file.
    pub name: &'static str,
    /// What values it takes.
    pub shape: Shape,
    /// What holds without it, for people; empty: nothing.
    pub default: &'static str,
    /// One or two sentences.
    pub doc: &'static str,
}

/// What values a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Any scalar, as its source text.
    Text,
    /// A path; relative ones have been made absolute by the graph file's directory. A trailing slash is kept.
    Path,
    /// A boolean of YAML 1.1.
    Bool,
    /// A whole number ≥ 0.
    Count,
    /// A whole number ≥ 0 of seconds, or a finite fraction of one.
    Seconds,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of texts (a single text is a list of one).
    Texts,
    /// A list of paths, made absolute as [`Shape::Path`].
    Paths,
    /// A map of text to text.
    Map,
    /// Accepted for old files, without effect.
    Ignored,
}

/// A typed value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of [`Shape::Text`], [`Shape::Path`] and [`Shape::Choice`].
    Text(String),
    /// Of [`Shape::Text`] where a resource did not come from a graph file: contents that may be no text.
    Bytes(Vec<u8>),
    /// Of [`Shape::Bool`].
    Bool(bool),
    /// Of [`Shape::Count`].
    Count(u64),
    /// Of [`Shape::Seconds`].
    Seconds(f64),
    /// Of [`Shape::Texts`] and [`Shape::Paths`].
    Texts(Vec<String>),
    /// Of [`Shape::Map`].
    Map(BTreeMap<String, String>),
}

/// The parameters of one resource. Taking one removes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Params(BTreeMap<&'static str, Value>);

impl Params {
    /// Sets a parameter.
    pub fn set(&mut self, field: &'static str, value: Value) {
        self.0.insert(field, value);
    }

    /// All that are given, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().map(|(field, value)| (*field, value))
    }

    /// Whether a parameter was given.
    pub fn has(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    /// Takes a text.
    pub fn text(&mut self, field: &str) -> Option<String> {
        match self.0.remove(field)? {
            Value::Text(text) => Some(text),
            other => unreachable!("the table gives {field} another shape: {other:?}"),
        }
    }

    /// Takes a text or bytes, as bytes.
    pub fn bytes(&mut self, field: &str) -> Option<Vec<u8>> {
        match self.0.remove(field)? {
            Value::Text(text) => Some(text.into_bytes()),
            Value::Bytes(bytes) => Some(bytes),
            other => unreachable!("the table gives {field} another shape: {other:?}"),
        }
    }

    /// Takes a text, and counts an empty one as not given.
    pub fn filled(&mut self, field: &str) -> Option<String> {
        self.text(field).filter(|text| !text.is_empty())
    }

    /// Takes a boolean.
    pub fn bool(&mut self, field: &str) -> Option<bool> {
        match self.0.remove(field)? {
            Value::Bool(value) => Some(value),
            other => unreachable!("the table gives {field} another shape: {other:?}"),
        }
    }

    /// Takes a whole number.
    pub fn count(&mut self, field: &str) -> Option<u64> {
        match self.0.remove(field)? {
            Value::Count(value) => Some(value),
            other => unreachable!("the table gives {field} another shape: {other:?}"),
        }
    }

    /// Takes seconds.
    pub fn seconds(&mut self, field: &str) -> Option<f64> {
        match self.0.remove(field)? {
            Value::Seconds(value) => Some(value),
            other => unreachable!("the table gives {field} another shape: {other:?}"),
        }
    }

    /// Takes a list; empty if not given.
    pub fn texts(&mut self, field: &str) -> Vec<String> {
        match self.0.remove(field) {
            None => Vec::new(),
            Some(Value::Texts(values)) => values,
            Some(other) => unreachable!("the table gives {field} another shape: {other:?}"),
        }
    }

    /// Takes a map; empty if not given.
    pub fn map(&mut self, field: &str) -> BTreeMap<String, String> {
        match self.0.remove(field) {
            None => BTreeMap::new(),
            Some(Value::Map(values)) => values,
            Some(other) => unreachable!("the table gives {field} another shape: {other:?}"),
        }
    }
}

/// What a kind may know when it builds a resource.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// This machine.
    pub host: &'a Arc<Host>,
    /// The resource's name.
    pub name: &'a str,
    /// What its author has called it, which is the same unless it comes from another host: there its name has that host
    /// in it. What stands for a parameter that was not given is this one.
    pub called: &'a str,
    /// The file was written in the first dialect (`types:`), where some defaults differ.
    pub first_dialect: bool,
    /// Contents, commands and output must appear nowhere.
    pub sensitive: bool,
    /// It may be changed together with others of its kind, where that saves work (`meta.autogroup`).
    pub grouped: bool,
    /// The normalised paths of the graph's other file resources that lie below what this one purges. Empty on the first
    /// build; a resource whose [`Facets::purges`] is set is built a second time with them.
    pub managed: &'a Arc<BTreeSet<PathBuf>>,
    /// Those among them whose members are managed as well, because they are copied from a source.
    pub trees: &'a Arc<BTreeSet<PathBuf>>,
    /// The resource was named by somebody else, and must stay below this directory, whatever happens to the names on the
    /// way. Normalised; the resource's path begins with it and is written without `..` and `.`. Heeded by `file`.
    pub beneath: Option<&'a Path>,
}

/// Of a resource that has nothing to leave alone.
static NOTHING: LazyLock<Arc<BTreeSet<PathBuf>>> = LazyLock::new(Arc::default);

impl<'a> Context<'a> {
    /// For a resource of this name, with nothing special about it.
    #[must_use]
    pub fn of(host: &'a Arc<Host>, name: &'a str) -> Self {
        Self {
            host,
            name,
            called: name,
            first_dialect: false,
            sensitive: false,
            grouped: true,
            managed: &NOTHING,
            trees: &NOTHING,
            beneath: None,
        }
    }
}

/// A resource, and what others may know of it.
#[derive(Debug)]
pub struct Built {
    /// The resource.
    pub resource: AnyResource,
    /// What it is to other resources of the graph.
    pub facets: Facets,
    /// What was illogical and is ignored: `(field, message)`.
    pub warnings: Vec<Problem>,
}

/// What a resource is to others of the same graph: automatic edges and conflicts are found from these.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facets {
    /// The one path this resource owns, normalised, without a trailing slash: no other resource may own the same.
    pub owns: Option<PathBuf>,
    /// What else, besides a path, no other resource may own: `the unit nginx.service`.
    pub claims: Option<String>,
    /// The directory below which it removes what is not managed.
    pub purges: Option<PathBuf>,
    /// The directory whose members it makes like those of a source.
    pub fills: Option<PathBuf>,
    /// What it provides to those that want it.
    pub provides: Vec<Anchor>,
    /// What it wants to come before it, where something provides it.
    pub wants: Vec<Anchor>,
    /// The package it puts onto the machine.
    pub ships: Option<Shipped>,
    /// It is about what hosts share: a graph with such a resource needs a part in a mesh.
    pub shared: bool,
}

/// Something that one resource provides and another wants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anchor {
    /// Exactly this path.
    Path(PathBuf),
    /// The nearest provided ancestor directory of this path. Only wanted, never provided.
    Parent(PathBuf),
    /// Everything that is provided right inside this directory. Only wanted, never provided.
    In(PathBuf),
    /// The package that ships this path or the nearest directory above it. Only wanted, never provided; whoever wants
    /// [`Anchor::Parent`] of a path wants this as well.
    Shipped(PathBuf),
    /// A unit of systemd, with its suffix: from whoever makes it, or from the package that ships it.
    Unit(String),
    /// A user of this name.
    User(String),
    /// A group of this name.
    Group(String),
    /// The leaving of a user from the group of this name: what removes a group wants it.
    Leaves(String),
}

/// A package, as far as it is known what it brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shipped {
    /// Its name.
    pub name: String,
    /// What its list of files says; empty where it is not installed yet: then only what packages of that name usually
    /// ship is known.
    pub paths: Arc<[Box<Path>]>,
}

/// What is wrong with one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The parameter, or empty for the resource as a whole.
    pub field: &'static str,
    /// What is wrong: a lowercase fragment, with the remedy where there is one.
    pub message: String,
}

impl Problem {
    /// A problem with a parameter.
    pub fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self { field, message: message.into() }
    }
}

/// A path in one spelling: absolute, no `.` or empty parts, `..` folded by text, no trailing slash.
pub fn normal(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::Normal(name) => out.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}
