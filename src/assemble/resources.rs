//! The resources of a document: read, judged, built, and told apart.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mgmt_engine::graph::{Graph, Vertex};
use mgmt_engine::id::{Id, Kind};
use mgmt_engine::meta::{Meta, Semaphore};
use mgmt_resources::kind::{Built, Context, Facets, Params, Shape, Value as Typed};
use mgmt_resources::{Host, KindInfo};

use super::edges::Wish;
use super::kinds::Kinds;
use super::meta::{self, Semaphores};
use super::{Options, values};
use crate::diagnostic::{Place, Problem, Problems, nearest};
use crate::document::{Node, Pair, Value};

const NAME_MAX: usize = 1024;

/// Keys that every resource has, whatever its kind.
pub(crate) const COMMON_KEYS: [&str; 6] = ["name", "meta", "hosts", "after", "notify", "sensitive"];

/// A resource as the file declares it.
struct Declared<'d> {
    id: Id,
    info: &'static KindInfo,
    node: Node<'d>,
    first_dialect: bool,
    /// Meant for this host.
    here: bool,
    meta: Meta,
    params: Params,
    /// Edges written inside of it.
    wishes: Vec<Wish>,
    /// Semaphores named inside of it.
    semaphores: Vec<(Semaphore, Place)>,
    /// Unknown keys that were reported as errors: they reject the file, but do not keep the rest from being judged.
    unknown: usize,
}

/// Why a name in the file is no vertex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    /// It is meant for other hosts.
    Elsewhere,
    /// It is wrong, which has been reported.
    Broken,
    /// It is exported, not run here.
    Exported,
}

/// The vertices of a graph, and what is known of them besides.
#[derive(Default)]
pub(super) struct Vertices {
    /// Where each stands, by its number.
    pub(super) places: Vec<Place>,
    /// What each is to the others, by its number.
    pub(super) facets: Vec<Facets>,
    /// Resources that are no vertices.
    pub(super) absent: HashMap<Id, Absence>,
    /// Kinds that a collect item may supply.
    pub(super) collected: HashSet<Kind>,
    /// Edges written inside resources.
    pub(super) wishes: Vec<Wish>,
    /// How many resources are meant for other hosts only.
    pub(super) elsewhere: usize,
}

/// Reads resources, then builds them.
pub(super) struct Resources<'a, 'd> {
    options: &'a Options,
    kinds: Kinds<'a>,
    host: &'a Arc<Host>,
    semaphores: Semaphores,
    declared: Vec<Declared<'d>>,
    vertices: Vertices,
}

impl<'a, 'd> Resources<'a, 'd> {
    pub(super) fn new(options: &'a Options, kinds: Kinds<'a>, host: &'a Arc<Host>) -> Self {
        let semaphores = Semaphores::new(options);
        Self { options, kinds, host, semaphores, declared: Vec::new(), vertices: Vertices::default() }
    }

    /// Reads the map of kinds to lists of resources.
    pub(super) fn read(&mut self, map: Node<'d>, first_dialect: bool, here: bool, problems: &mut Problems) {
        let Value::Map(kinds) = map.value() else {
            let message = format!("resources: expected a map of kinds, found {}", map.noun());
            return problems.push(Problem::error(map.place(), "", message));
        };
        for Pair { key, place, value } in kinds {
            let name = Kinds::canonical(key);
            let info = self.kinds.get(&name);
            if info.is_none() {
                problems.push(self.kinds.unknown(&name, place));
            }
            let items = match value.value() {
                Value::List(items) => items,
                _ if value.is_null() => continue,
                _ => {
                    let message = format!("{name}: expected a list of resources, found {}", value.noun());
                    problems.push(Problem::error(value.place(), "", message));
                    continue;
                }
            };
            let kind = Kind::new(&name);
            for item in items {
                match info {
                    Some(info) => self.item(item, info, &kind, first_dialect, here, problems),
                    None => self.forgive(item, &kind),
                }
            }
        }
    }

    /// Notes the name of a resource of no known kind, so that edges to it are not reported as well.
    fn forgive(&mut self, item: Node<'d>, kind: &Kind) {
        if let Value::Map(mut pairs) = item.value()
            && let Some(pair) = pairs.find(|pair| pair.key == "name")
            && let Ok(name) = values::text(pair.value)
        {
            self.vertices.absent.insert(Id { kind: kind.clone(), name: name.into() }, Absence::Broken);
        }
    }

    fn item(
        &mut self,
        item: Node<'d>,
        info: &'static KindInfo,
        kind: &Kind,
        first_dialect: bool,
        here: bool,
        problems: &mut Problems,
    ) {
        let Value::Map(pairs) = item.value() else {
            let message = format!("expected a map, found {}", item.noun());
            return problems.push(Problem::error(item.place(), info.name, message));
        };
        let name = match name(item) {
            Ok(name) => name,
            Err(problem) => return problems.push(Problem { subject: info.name.to_owned(), ..problem }),
        };
        let id = Id { kind: kind.clone(), name: name.into() };
        if let Some(plain) = name.strip_prefix("@@") {
            self.vertices.absent.insert(Id { kind: kind.clone(), name: plain.into() }, Absence::Exported);
            let problem = Problem::error(item.place(), id.to_string(), "exporting a resource (@@) is not built yet");
            return problems.push(problem);
        }
        let errors = problems.errors();
        let mut declared = Declared {
            id,
            info,
            node: item,
            first_dialect,
            here,
            meta: meta::defaults(self.options),
            params: Params::default(),
            wishes: Vec::new(),
            semaphores: Vec::new(),
            unknown: 0,
        };
        let mut poll = None;
        for pair in pairs {
            if let Err(problem) = self.pair(pair, &mut declared, &mut poll, problems) {
                problems.push(problem);
            }
        }
        declared.meta.poll = declared.meta.poll.or(poll);
        default_path(&mut declared);
        if problems.errors() > errors + declared.unknown {
            self.vertices.absent.insert(declared.id, Absence::Broken);
        } else {
            self.declared.push(declared);
        }
    }

    /// Reads one key of a resource. Its own problems are pushed, but for the one that ends it.
    fn pair(
        &mut self,
        pair: Pair<'d>,
        declared: &mut Declared<'d>,
        poll: &mut Option<std::time::Duration>,
        problems: &mut Problems,
    ) -> Result<(), Problem> {
        let subject = || declared.id.to_string();
        if let Some(field) = declared.info.fields.iter().find(|field| field.name == pair.key) {
            // Old exec resources have an interval of their own, from before there was meta.poll.
            if pair.key == "pollint" && declared.info.name == "exec" && !pair.value.is_null() {
                let seconds = values::count(pair.value).map_err(|misfit| misfit.of(&subject(), pair.key))?;
                *poll = Some(std::time::Duration::from_secs(seconds)).filter(|poll| !poll.is_zero());
                return Ok(());
            }
            let value = values::convert(pair.value, field.shape, &self.options.directory);
            if let Some(value) = value.map_err(|misfit| misfit.of(&subject(), pair.key))? {
                declared.params.set(field.name, value);
            }
            return Ok(());
        }
        match pair.key {
            "name" => {}
            "meta" => {
                let subject = subject();
                let semaphores = meta::read(pair.value, &mut declared.meta, &subject, self.options, problems);
                declared.semaphores = semaphores;
            }
            "hosts" if pair.value.is_null() => {}
            "hosts" => declared.here &= values::for_host(pair.value, &self.options.hostname, &subject(), problems),
            "sensitive" if pair.value.is_null() => {}
            "sensitive" => {
                declared.meta.sensitive =
                    values::boolean(pair.value).map_err(|misfit| misfit.of(&subject(), pair.key))?;
            }
            "after" | "notify" => {
                for (text, place) in values::texts(pair.value).map_err(|misfit| misfit.of(&subject(), pair.key))? {
                    let other = values::reference(text, place).map_err(|misfit| misfit.of(&subject(), pair.key))?;
                    let wish = Wish::inside(&declared.id, other, pair.key == "notify", place);
                    declared.wishes.push(wish);
                }
            }
            key => {
                let known = COMMON_KEYS.into_iter().chain(declared.info.fields.iter().map(|field| field.name));
                let near = nearest(key, known);
                declared.unknown += usize::from(self.options.strict);
                problems.push(Problem::unknown_key(pair.place, subject(), key, near, self.options.strict));
            }
        }
        Ok(())
    }

    /// Notes what `collect` items there are; they are not built yet.
    pub(super) fn read_collect(&mut self, node: Option<Node<'d>>, problems: &mut Problems) {
        let Some(node) = node else { return };
        let Value::List(items) = node.value() else {
            let message = format!("collect: expected a list, found {}", node.noun());
            return problems.push(Problem::error(node.place(), "", message));
        };
        for item in items {
            problems.push(Problem::error(item.place(), "collect", "collecting resources is not built yet"));
            if let Value::Map(mut pairs) = item.value()
                && let Some(pair) = pairs.find(|pair| matches!(pair.key, "kind" | "res" | "type"))
                && let Ok(kind) = values::text(pair.value)
            {
                self.vertices.collected.insert(Kind::new(&Kinds::canonical(kind)));
            }
        }
    }

    /// Builds all that was read, and adds what is meant for this host to the graph.
    pub(super) fn build(mut self, graph: &mut Graph, problems: &mut Problems) -> Vertices {
        let nothing = Arc::new(BTreeSet::new());
        let mut kept: Vec<(Declared<'d>, Built)> = Vec::with_capacity(self.declared.len());
        let mut numbers: HashMap<Id, usize> = HashMap::with_capacity(self.declared.len());
        for mut declared in std::mem::take(&mut self.declared) {
            let Some(built) = build(&mut declared, self.host, (&nothing, &nothing), problems) else {
                self.vertices.absent.insert(declared.id, Absence::Broken);
                continue;
            };
            if !declared.here {
                self.vertices.elsewhere += 1;
                self.vertices.absent.insert(declared.id, Absence::Elsewhere);
                continue;
            }
            self.vertices.wishes.append(&mut declared.wishes);
            for (semaphore, place) in &declared.semaphores {
                self.semaphores.check(semaphore, *place, &declared.id, problems);
            }
            if let Some(number) = numbers.get(&declared.id) {
                let (first, known) = &kept[*number];
                if first.meta != declared.meta || !known.resource.same(&*built.resource) {
                    let message = "is there twice, with different parameters";
                    let also = format!("also at {}:{}", problems.file(), first.node.place());
                    let subject = declared.id.to_string();
                    problems.push(Problem::error(declared.node.place(), subject, message).hint(also));
                }
            } else {
                numbers.insert(declared.id.clone(), kept.len());
                kept.push((declared, built));
            }
        }
        self.rebuild_reaching(&mut kept, problems);
        for (Declared { id, node, meta, .. }, built) in kept {
            let added = graph.add(Vertex { id, resource: built.resource, meta });
            added.expect("ids that are there twice have been merged");
            self.vertices.places.push(node.place());
            self.vertices.facets.push(built.facets);
        }
        self.vertices
    }

    /// Builds those that purge or fill a directory once more, now that it is known what they must leave alone.
    fn rebuild_reaching(&self, kept: &mut [(Declared<'d>, Built)], problems: &mut Problems) {
        if kept.iter().all(|(_, built)| reach(built).is_none()) {
            return;
        }
        let owned: BTreeSet<PathBuf> = kept.iter().filter_map(|(_, built)| built.facets.owns.clone()).collect();
        let filled: BTreeSet<PathBuf> = kept.iter().filter_map(|(_, built)| built.facets.fills.clone()).collect();
        for (declared, built) in kept {
            let Some(root) = reach(built) else { continue };
            let (managed, trees) = (Arc::new(below(&owned, root)), Arc::new(below(&filled, root)));
            declared.params = Params::default();
            if let Value::Map(pairs) = declared.node.value() {
                for pair in pairs {
                    let field = declared.info.fields.iter().find(|field| field.name == pair.key);
                    if let Some(field) = field.filter(|field| field.shape != Shape::Ignored)
                        && let Ok(Some(value)) = values::convert(pair.value, field.shape, &self.options.directory)
                    {
                        declared.params.set(field.name, value);
                    }
                }
            }
            default_path(declared);
            // Its warnings are those of the first time.
            let mut again = Problems::of(problems.file());
            if let Some(new) = build(declared, self.host, (&managed, &trees), &mut again) {
                *built = new;
            }
        }
    }
}

/// The directory below which it writes or removes what other resources may manage.
fn reach(built: &Built) -> Option<&PathBuf> {
    built.facets.purges.as_ref().or(built.facets.fills.as_ref())
}

/// The paths below a directory, itself not included.
fn below(owned: &BTreeSet<PathBuf>, root: &Path) -> BTreeSet<PathBuf> {
    use std::ops::Bound;
    owned
        .range::<Path, _>((Bound::Excluded(root), Bound::Unbounded))
        .take_while(|path| path.starts_with(root))
        .cloned()
        .collect()
}

/// A file that says nothing of its path is named by it, as in the original.
fn default_path(declared: &mut Declared<'_>) {
    let says = |field| declared.params.has(field);
    if declared.info.name == "file"
        && declared.id.name.starts_with('/')
        && !["path", "dirname", "basename"].into_iter().any(says)
    {
        declared.params.set("path", Typed::Text(declared.id.name.to_string()));
    }
}

fn build(
    declared: &mut Declared<'_>,
    host: &Arc<Host>,
    (managed, trees): (&Arc<BTreeSet<PathBuf>>, &Arc<BTreeSet<PathBuf>>),
    problems: &mut Problems,
) -> Option<Built> {
    let Declared { id, info, first_dialect, params, meta, .. } = declared;
    let context = Context {
        host,
        name: &id.name,
        first_dialect: *first_dialect,
        sensitive: meta.sensitive,
        managed,
        trees,
        beneath: None,
    };
    let (built, found) = match (info.build)(params, &context) {
        Ok(mut built) => {
            let warnings = std::mem::take(&mut built.warnings);
            (Some(built), warnings)
        }
        Err(errors) => (None, errors),
    };
    for problem in found {
        let place = place_of(declared.node, problem.field);
        let message = match problem.field {
            "" => problem.message,
            field => format!("{field}: {}", problem.message),
        };
        let id = declared.id.to_string();
        problems.push(match built {
            Some(_) => Problem::warning(place, id, message),
            None => Problem::error(place, id, message),
        });
    }
    built
}

/// Where the value of a parameter stands; the resource's own place if it was not given.
fn place_of(node: Node<'_>, field: &str) -> Place {
    match node.value() {
        Value::Map(mut pairs) => pairs.find(|pair| pair.key == field).map_or(node.place(), |pair| pair.value.place()),
        _ => node.place(),
    }
}

/// The name of a resource.
fn name(item: Node<'_>) -> Result<&str, Problem> {
    let Value::Map(mut pairs) = item.value() else {
        return Ok("");
    };
    let Some(pair) = pairs.find(|pair| pair.key == "name") else {
        return Err(Problem::error(item.place(), "", "the name is missing"));
    };
    let wrong = |message: String| Err(Problem::error(pair.value.place(), "", message));
    match values::text(pair.value) {
        Err(misfit) => Err(misfit.of("", "name")),
        Ok(_) if pair.value.is_null() => wrong("the name is empty".to_owned()),
        Ok("" | "@@") => wrong("the name is empty".to_owned()),
        Ok(name) if name.len() > NAME_MAX => wrong(format!("the name is longer than {NAME_MAX} bytes")),
        Ok(name) if name.chars().any(char::is_control) => wrong("the name has control characters".to_owned()),
        Ok(name) => Ok(name),
    }
}
