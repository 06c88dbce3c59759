//! Edges that the file asks for: items of `edges`, and `after` and `notify` inside resources.

use std::collections::HashMap;

use mgmt_engine::graph::{Cycle, Edge, Graph};
use mgmt_engine::id::Id;

use super::kinds::Kinds;
use super::vertices::{Absence, Vertices};
use super::{Options, values};
use crate::diagnostic::{Place, Problem, Problems, SHOWN_MAX, nearest};
use crate::document::{Node, Pair, Value};

/// An edge as the file asks for it.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// What asks, for people.
    pub(super) subject: String,
    /// The key of a resource that names the other end, if it is not an item of `edges`.
    pub(super) key: Option<&'static str>,
    /// Where.
    pub(super) place: Place,
    /// Comes first.
    pub(super) from: Id,
    /// Waits.
    pub(super) to: Id,
    /// A change of `from` refreshes `to`.
    pub(super) notify: bool,
}

impl Wish {
    /// An edge that a resource asks for: from itself by `notify`, to itself by `after`.
    pub(super) fn inside(owner: &Id, other: Id, notify: bool, place: Place) -> Self {
        let subject = owner.to_string();
        if notify {
            return Self { subject, key: Some("notify"), place, from: owner.clone(), to: other, notify };
        }
        Self { subject, key: Some("after"), place, from: other, to: owner.clone(), notify }
    }
}

/// Where the edges of a graph stand in the file, and those that must not keep it from running.
pub(super) struct Edges {
    places: HashMap<(usize, usize), Place>,
    /// To and from what other hosts bring: another host must not close a circle.
    pub(super) weaker: Vec<Edge>,
}

/// What an end of an edge stands for.
enum End {
    /// This vertex, which the file declares.
    Own(usize),
    /// These, which were collected: all that have the name, or none yet.
    Collected(Vec<usize>),
}

impl End {
    fn numbers(&self) -> &[usize] {
        match self {
            Self::Own(number) => std::slice::from_ref(number),
            Self::Collected(numbers) => numbers,
        }
    }
}

/// Puts all edges into the graph.
pub(super) fn connect(
    graph: &mut Graph,
    list: Option<Node<'_>>,
    vertices: &Vertices,
    options: &Options,
    problems: &mut Problems,
) -> Edges {
    let (mut places, mut weaker) = (HashMap::new(), Vec::new());
    let mut wishes = vertices.wishes.clone();
    if let Some(list) = list {
        read(list, options, &mut wishes, problems);
    }
    for wish in &wishes {
        let ends =
            [("from", &wish.from), ("to", &wish.to)].map(|(side, id)| end(graph, vertices, wish, side, id, problems));
        let [Some(from), Some(to)] = &ends else { continue };
        if wish.from == wish.to {
            problems.push(Problem::error(wish.place, &wish.subject, format!("{} would wait for itself", wish.to)));
            continue;
        }
        for (from_number, to_number) in from.numbers().iter().flat_map(|f| to.numbers().iter().map(move |t| (*f, *t))) {
            places.entry((from_number, to_number)).or_insert(wish.place);
            if matches!((from, to), (End::Own(_), End::Own(_))) {
                graph.connect(from_number, to_number, wish.notify);
            } else {
                weaker.push(Edge { from: from_number, to: to_number, notify: wish.notify, automatic: false });
            }
        }
    }
    Edges { places, weaker }
}

/// What stands at an end; `None` if nothing does, which is reported unless it is as it should be.
fn end(graph: &Graph, vertices: &Vertices, wish: &Wish, side: &str, id: &Id, problems: &mut Problems) -> Option<End> {
    let own = graph.vertices().len() - vertices.exchanged.taken.len();
    match graph.number(id) {
        Some(number) if number < own => return Some(End::Own(number)),
        Some(number) => return Some(End::Collected(vec![number])),
        None => {}
    }
    let side = wish.key.unwrap_or(side);
    // Plain, or with the host that supplies it.
    let plain = id.name.rsplit_once('@').map_or(&*id.name, |(plain, _)| plain);
    let supplies = |name: &str| vertices.items.iter().any(|item| item.kind == id.kind && item.supplies(name));
    let message = match vertices.absent.get(id) {
        // A resource of another host is none of this host's business, and what is broken has been reported.
        Some(Absence::Elsewhere | Absence::Broken) => return None,
        _ if supplies(&id.name) || supplies(plain) => {
            return Some(End::Collected(vertices.supplied.get(id).cloned().unwrap_or_default()));
        }
        Some(Absence::Exported) => format!("{side}: {id} is exported, not run here"),
        None => format!("{side}: there is no {id}"),
    };
    // A suggestion costs a look at every vertex, and nobody reads thousands of them.
    let near = (problems.errors() < SHOWN_MAX).then(|| suggestion(graph, id)).flatten();
    problems.push(Problem::error(wish.place, &wish.subject, message).hint(near));
    None
}

fn suggestion(graph: &Graph, id: &Id) -> Option<String> {
    let names = graph.vertices().iter().filter(|vertex| vertex.id.kind == id.kind).map(|vertex| &*vertex.id.name);
    nearest(&id.name, names).map(|name| format!("did you mean {}[{name}]?", id.kind))
}

/// Reads `edges`.
fn read(list: Node<'_>, options: &Options, wishes: &mut Vec<Wish>, problems: &mut Problems) {
    let Value::List(items) = list.value() else {
        let message = format!("edges: expected a list, found {}", list.noun());
        return problems.push(Problem::error(list.place(), "", message));
    };
    for item in items {
        if let Some(wish) = edge(item, options, problems) {
            wishes.push(wish);
        }
    }
}

fn edge(item: Node<'_>, options: &Options, problems: &mut Problems) -> Option<Wish> {
    let Value::Map(pairs) = item.value() else {
        problems.push(Problem::error(item.place(), "edge", format!("expected a map, found {}", item.noun())));
        return None;
    };
    let name = pairs.clone().find(|pair| pair.key == "name" && !pair.value.is_null());
    let subject = match name.map(|pair| values::text(pair.value)) {
        Some(Ok(name)) => format!("edge[{name}]"),
        Some(Err(_)) | None => "edge".to_owned(),
    };
    let errors = problems.errors();
    let (mut from, mut to, mut notify) = (None, None, false);
    for pair in pairs {
        match pair.key {
            "name" => {}
            "from" => from = reference(pair, &subject, options, problems),
            "to" => to = reference(pair, &subject, options, problems),
            "notify" if pair.value.is_null() => {}
            "notify" => match values::boolean(pair.value) {
                Ok(value) => notify = value,
                Err(misfit) => problems.push(misfit.of(&subject, "notify")),
            },
            key => {
                let near = nearest(key, ["name", "from", "to", "notify"]);
                problems.push(Problem::unknown_key(pair.place, subject.clone(), key, near, options.strict));
            }
        }
    }
    match (from, to) {
        (Some(from), Some(to)) => Some(Wish { subject, key: None, place: item.place(), from, to, notify }),
        _ if problems.errors() > errors => None,
        (from, _) => {
            let missing = if from.is_none() { "from" } else { "to" };
            problems.push(Problem::error(item.place(), subject, format!("the key '{missing}' is missing")));
            None
        }
    }
}

/// Reads `{kind: …, name: …}`.
fn reference(end: Pair<'_>, subject: &str, options: &Options, problems: &mut Problems) -> Option<Id> {
    let Value::Map(pairs) = end.value.value() else {
        let message = format!("{}: expected a map of kind and name, found {}", end.key, end.value.noun());
        problems.push(Problem::error(end.value.place(), subject, message));
        return None;
    };
    let (mut kind, mut name) = (None, None);
    for pair in pairs {
        let part = match pair.key {
            "kind" | "res" | "type" => &mut kind,
            "name" => &mut name,
            key => {
                let near = nearest(key, ["kind", "name"]);
                problems.push(Problem::unknown_key(pair.place, subject.to_owned(), key, near, options.strict));
                continue;
            }
        };
        match values::text(pair.value) {
            Ok(text) => *part = Some(text).filter(|text| !text.is_empty()),
            Err(misfit) => problems.push(misfit.of(subject, format_args!("{}.{}", end.key, pair.key))),
        }
    }
    if let (Some(kind), Some(name)) = (kind, name) {
        return Some(Id::new(&Kinds::canonical(kind), name));
    }
    let message = format!("{}: a kind and a name are needed", end.key);
    problems.push(Problem::error(end.value.place(), subject, message));
    None
}

impl Edges {
    /// Reports a cycle, at the first of its edges in the file.
    pub(super) fn report(&self, cycle: &Cycle, problems: &mut Problems) {
        let next = cycle.vertices.iter().skip(1).chain(cycle.vertices.first());
        let place = cycle.vertices.iter().zip(next).filter_map(|(from, to)| self.places.get(&(*from, *to))).min();
        problems.push(Problem::error(place.copied(), "", cycle.to_string()));
    }
}
