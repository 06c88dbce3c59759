//! `collect:` of a graph file: which exports this host takes, from whom, to where, and what they may carry.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mgmt_engine::id::Kind;
use mgmt_resources::KindInfo;
use mgmt_resources::kind::normal;
use mgmt_store::view;

use super::kinds::Kinds;
use super::trust::SETUID;
use super::{Options, glob, values};
use crate::diagnostic::{Place, Problem, Problems, nearest};
use crate::document::{Node, Pair, Value};

/// Keys of an item; the first three are one.
pub(crate) const KEYS: [&str; 7] = ["kind", "res", "type", "pattern", "name", "hosts", "allow"];

/// One item.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) kind: Kind,
    pub(super) info: &'static KindInfo,
    pub(super) place: Place,
    /// The directory that stands for the one an exporter names, and that nothing leaves. Normalised.
    pub(super) pattern: Option<PathBuf>,
    /// A glob on the resource's name.
    name: Option<String>,
    /// Globs on the exporting host; none: all.
    pub(super) hosts: Vec<String>,
    /// What may be carried besides.
    pub(super) allow: BTreeSet<String>,
}

impl Item {
    /// Whether it takes an export of its kind.
    pub(super) fn takes(&self, name: &str, host: &str) -> bool {
        self.supplies(name) && (self.hosts.is_empty() || self.hosts.iter().any(|pattern| glob::matches(pattern, host)))
    }

    /// Whether it would take an export of this name from somebody.
    pub(super) fn supplies(&self, name: &str) -> bool {
        self.name.as_ref().is_none_or(|pattern| glob::matches(pattern, name))
    }

    /// Whether it trusts whom it takes from no less than the other.
    pub(super) fn trusts_like(&self, other: &Self) -> bool {
        (!self.hosts.is_empty() || other.hosts.is_empty()) && other.allow.is_subset(&self.allow)
    }

    /// Trusts whom both take from no less than the other.
    pub(super) fn trust_like(&mut self, other: &Self) {
        if self.hosts.is_empty() {
            self.hosts.clone_from(&other.hosts);
        }
        self.allow.extend(other.allow.iter().cloned());
    }

    /// What is asked of the store for it. Names and hosts are sifted here: our patterns are richer than the store's.
    pub(super) fn interest(&self) -> view::Collect {
        view::Collect { kind: self.kind.as_str().to_owned(), name: None, hosts: Vec::new() }
    }
}

/// Reads `collect`.
pub(super) fn read(node: Option<Node<'_>>, kinds: Kinds<'_>, options: &Options, problems: &mut Problems) -> Vec<Item> {
    let Some(node) = node else { return Vec::new() };
    let Value::List(items) = node.value() else {
        let message = format!("collect: expected a list, found {}", node.noun());
        problems.push(Problem::error(node.place(), "", message));
        return Vec::new();
    };
    items.filter_map(|item| self::item(item, kinds, options, problems)).collect()
}

fn item(node: Node<'_>, kinds: Kinds<'_>, options: &Options, problems: &mut Problems) -> Option<Item> {
    let Value::Map(pairs) = node.value() else {
        problems.push(Problem::error(node.place(), "collect", format!("expected a map, found {}", node.noun())));
        return None;
    };
    let errors = problems.errors();
    let mut info = None;
    let (mut pattern, mut name, mut hosts, mut allow) = (None, None, Vec::new(), Vec::new());
    for pair in pairs {
        if !KEYS.contains(&pair.key) {
            let near = nearest(pair.key, KEYS);
            problems.push(Problem::unknown_key(pair.place, "collect".to_owned(), pair.key, near, options.strict));
            continue;
        }
        let read = match pair.key {
            _ if pair.value.is_null() => Ok(()),
            "pattern" => text(pair).map(|text| pattern = text.map(|text| (text, pair.value.place()))),
            "name" => text(pair).map(|text| name = text),
            "hosts" => values::texts(pair.value).map(|texts| hosts = texts),
            "allow" => values::texts(pair.value).map(|texts| allow = texts),
            _ => values::text(pair.value).map(|text| {
                let kind = Kinds::canonical(text);
                match kinds.get(&kind) {
                    Some(found) => info = Some((Kind::new(&kind), found)),
                    None => problems.push(kinds.unknown(&kind, pair.value.place())),
                }
            }),
        };
        if let Err(misfit) = read {
            problems.push(misfit.of("collect", pair.key));
        }
    }
    let Some((kind, info)) = info else {
        if problems.errors() == errors {
            problems.push(Problem::error(node.place(), "collect", "the key 'kind' is missing"));
        }
        return None;
    };
    let subject = format!("collect of {kind}");
    let place = node.place();
    if let Some((_, at)) = pattern.as_ref().filter(|_| info.name != "file") {
        problems.push(Problem::warning(*at, &subject, "a pattern is for files only, and has no effect here"));
    }
    if let Some((_, at)) = allow.first().filter(|_| hosts.is_empty()) {
        let message = "allow needs hosts: say whose resources may carry more";
        problems.push(Problem::error(*at, &subject, message));
    }
    for (word, at) in &allow {
        let fields = || info.fields.iter().map(|field| field.name).chain([SETUID]);
        if !fields().any(|field| field == *word) {
            let hint = nearest(word, fields()).map(|near| format!("did you mean '{near}'?"));
            problems.push(Problem::error(*at, &subject, format!("allow: {kind} has no '{word}'")).hint(hint));
        }
    }
    let pattern = pattern.filter(|_| info.name == "file").map(|(text, _)| directory(&text, &options.directory));
    let hosts = hosts.into_iter().map(|(text, _)| text.to_owned()).collect();
    let allow = allow.into_iter().map(|(text, _)| text.to_owned()).collect();
    Some(Item { kind, info, place, pattern, name, hosts, allow })
}

/// A text; an empty one counts as none.
fn text(pair: Pair<'_>) -> Result<Option<String>, values::Misfit> {
    Ok(Some(values::text(pair.value)?.to_owned()).filter(|text| !text.is_empty()))
}

fn directory(text: &str, start: &Path) -> PathBuf {
    normal(&start.join(text))
}
