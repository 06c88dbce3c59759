//! Declared resources to vertices: built, told apart, and those of other hosts put beside this host's own.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mgmt_engine::graph::{Graph, Vertex};
use mgmt_engine::id::Id;
use mgmt_resources::Host;
use mgmt_resources::kind::{Built, Context, Facets, Params, Problem as Wrong, Shape, Value as Typed};

use super::collect::Item;
use super::collected::Collected;
use super::edges::Wish;
use super::exchanged::{Exchanged, Exported};
use super::meta::Semaphores;
use super::resources::{Declared, Form, Resources, default_path};
use super::{Options, values};
use crate::diagnostic::{Place, Problem, Problems};
use crate::document::{Node, Value};

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
    /// Vertices that were collected, by kind and the name their exporters gave them.
    pub(super) supplied: HashMap<Id, Vec<usize>>,
    /// The items that may supply more.
    pub(super) items: Vec<Item>,
    /// Edges written inside resources.
    pub(super) wishes: Vec<Wish>,
    /// How many resources are meant for other hosts only.
    pub(super) elsewhere: usize,
    /// What the graph has to do with other hosts.
    pub(super) exchanged: Exchanged,
}

/// A resource, and what was built of it.
pub(super) type Kept<'d> = (Declared<'d>, Built);

/// Builds vertices.
pub(super) struct Builder<'a> {
    pub(super) options: &'a Options,
    pub(super) host: &'a Arc<Host>,
}

type Reached<'a> = (&'a Arc<BTreeSet<PathBuf>>, &'a Arc<BTreeSet<PathBuf>>);

impl Builder<'_> {
    /// Builds all that was read, and adds what is meant for this host to the graph.
    pub(super) fn build(
        &self,
        resources: Resources<'_, '_>,
        items: Vec<Item>,
        graph: &mut Graph,
        problems: &mut Problems,
    ) -> Vertices {
        let mut vertices = Vertices { absent: resources.broken.into_iter().collect(), items, ..Vertices::default() };
        let mut kept = self.own(resources.declared, &mut vertices, problems);
        self.exports(resources.exported, &mut vertices, problems);
        let mut collected = Collected::beside(&kept, self, &vertices);
        collected.gather(&vertices.exchanged.exports);
        let Collected { kept: others, taken, skipped, spared, .. } = collected;
        vertices.exchanged.skipped = skipped;
        let own = kept.len();
        kept.extend(others);
        self.rebuild_reaching(&mut kept, spared, &mut vertices, problems);
        for (Declared { id, place, meta, .. }, built) in kept {
            let added = graph.add(Vertex { id, resource: built.resource, meta });
            added.expect("ids that are there twice have been merged");
            vertices.places.push(place);
            vertices.facets.push(built.facets);
        }
        for (number, taken) in (own..).zip(&taken) {
            let plain = Id { kind: taken.id.kind.clone(), name: taken.name.as_str().into() };
            vertices.supplied.entry(plain).or_default().push(number);
        }
        vertices.exchanged.taken = taken;
        let asks: BTreeSet<_> = vertices.items.iter().map(Item::interest).collect();
        vertices.exchanged.asks = asks.into_iter().collect();
        vertices
    }

    /// Builds what the file declares.
    fn own<'d>(&self, declared: Vec<Declared<'d>>, vertices: &mut Vertices, problems: &mut Problems) -> Vec<Kept<'d>> {
        let mut semaphores = Semaphores::new(self.options);
        let mut kept: Vec<Kept<'d>> = Vec::with_capacity(declared.len());
        let mut numbers: HashMap<Id, usize> = HashMap::with_capacity(declared.len());
        for mut declared in declared {
            let Some(built) = self.told(&mut declared, problems) else {
                vertices.absent.insert(declared.id, Absence::Broken);
                continue;
            };
            if !declared.here {
                vertices.elsewhere += 1;
                vertices.absent.insert(declared.id, Absence::Elsewhere);
                continue;
            }
            vertices.wishes.append(&mut declared.wishes);
            for (semaphore, place) in &declared.semaphores {
                semaphores.check(semaphore, *place, &declared.id, problems);
            }
            if let Some(number) = numbers.get(&declared.id) {
                let (first, known) = &kept[*number];
                if first.meta != declared.meta || !known.resource.same(&*built.resource) {
                    problems.push(twice(&declared, first.place, problems.file()));
                }
            } else {
                numbers.insert(declared.id.clone(), kept.len());
                kept.push((declared, built));
            }
        }
        kept
    }

    /// Judges what the file exports, by building it as if it were to run here.
    fn exports(&self, exported: Vec<Declared<'_>>, vertices: &mut Vertices, problems: &mut Problems) {
        let exports = &mut vertices.exchanged.exports;
        for mut declared in exported {
            let params = declared.params.clone();
            let wrong = unfit(&declared);
            let built = self.told(&mut declared, problems);
            let subject = declared.id.to_string();
            if let Some(message) = &wrong {
                problems.push(Problem::error(declared.place, &subject, message.clone()));
            }
            if built.is_none() || wrong.is_some() {
                vertices.absent.insert(declared.id, Absence::Broken);
                continue;
            }
            if !declared.wishes.is_empty() {
                let message = "edges of an export are dropped: write them where it is collected";
                problems.push(Problem::warning(declared.place, &subject, message));
            }
            if !declared.here {
                vertices.elsewhere += 1;
                vertices.absent.entry(declared.id).or_insert(Absence::Elsewhere);
                continue;
            }
            vertices.absent.insert(declared.id.clone(), Absence::Exported);
            let export =
                Exported { id: declared.id.clone(), params, sensitive: declared.meta.sensitive, place: declared.place };
            match exports.iter().find(|other: &&Exported| other.id == export.id) {
                Some(first) if !first.says_the_same(&export) => {
                    problems.push(twice(&declared, first.place, problems.file()))
                }
                Some(_) => {}
                None => exports.push(export),
            }
        }
    }

    /// Builds those that purge or fill a directory once more, now that it is known what they must leave alone: `spared`,
    /// too, which other hosts export and this one cannot take now.
    fn rebuild_reaching(
        &self,
        kept: &mut [Kept<'_>],
        spared: BTreeSet<PathBuf>,
        vertices: &mut Vertices,
        problems: &Problems,
    ) {
        if kept.iter().all(|(_, built)| reach(built).is_none()) {
            return;
        }
        let mut owned = spared;
        owned.extend(kept.iter().filter_map(|(_, built)| built.facets.owns.clone()));
        let filled: BTreeSet<PathBuf> = kept.iter().filter_map(|(_, built)| built.facets.fills.clone()).collect();
        for (declared, built) in kept {
            let Some(root) = reach(built) else { continue };
            let reached = (&Arc::new(below(&owned, root)), &Arc::new(below(&filled, root)));
            declared.params = self.params_again(declared);
            default_path(declared);
            // What other hosts export there is not known yet: to remove it would be to guess.
            if built.facets.purges.as_ref().is_some_and(|root| self.must_wait(root, &vertices.items)) {
                declared.params.set("purge", Typed::Bool(false));
                vertices.exchanged.waiting.push(declared.id.clone());
            }
            // Its warnings are those of the first time.
            if let (Some(new), _) = self.one(declared, reached) {
                *built = new;
            }
        }
        if !vertices.exchanged.waiting.is_empty() {
            tracing::trace!(file = problems.file(), "a purge waits for a view of the mesh");
        }
    }

    /// Whether a purge of this directory has to wait until it is known what other hosts export into it.
    fn must_wait(&self, root: &Path, items: &[Item]) -> bool {
        let touches = |pattern: &Path| pattern.starts_with(root) || root.starts_with(pattern);
        let unknown = |item: &&Item| !self.options.sight.knows(&item.interest());
        items.iter().filter(unknown).any(|item| item.pattern.as_deref().map_or(item.info.name == "file", touches))
    }

    fn params_again(&self, declared: &Declared<'_>) -> Params {
        let node = match &declared.form {
            Form::Collected(params) => return params.clone(),
            Form::Written(node) => node,
        };
        let mut params = Params::default();
        if let Value::Map(pairs) = node.value() {
            for pair in pairs {
                let field = declared.info.fields.iter().find(|field| field.name == pair.key);
                if let Some(field) = field.filter(|field| field.shape != Shape::Ignored)
                    && let Ok(Some(value)) = values::convert(pair.value, field.shape, &self.options.directory)
                {
                    params.set(field.name, value);
                }
            }
        }
        params
    }

    /// Builds one that the file declares, and reports what is wrong with it.
    fn told(&self, declared: &mut Declared<'_>, problems: &mut Problems) -> Option<Built> {
        let nothing = Arc::new(BTreeSet::new());
        let (built, found) = self.one(declared, (&nothing, &nothing));
        for problem in found {
            let place = place_of(declared, problem.field);
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

    /// Builds one: with warnings, or not at all, and why.
    pub(super) fn one(
        &self,
        declared: &mut Declared<'_>,
        (managed, trees): Reached<'_>,
    ) -> (Option<Built>, Vec<Wrong>) {
        let Declared { id, info, first_dialect, params, meta, beneath, called, .. } = declared;
        let context = Context {
            host: self.host,
            name: &id.name,
            called: called.as_deref().unwrap_or(&id.name),
            first_dialect: *first_dialect,
            sensitive: meta.sensitive,
            grouped: meta.autogroup,
            managed,
            trees,
            beneath: beneath.as_deref(),
        };
        match (info.build)(params, &context) {
            Ok(mut built) => {
                let warnings = std::mem::take(&mut built.warnings);
                (Some(built), warnings)
            }
            Err(errors) => (None, errors),
        }
    }
}

fn twice(declared: &Declared<'_>, first: Place, file: &str) -> Problem {
    let message = "is there twice, with different parameters";
    let also = format!("also at {file}:{first}");
    Problem::error(declared.place, declared.id.to_string(), message).hint(also)
}

/// Why a resource cannot be exported, if it cannot.
fn unfit(declared: &Declared<'_>) -> Option<String> {
    if declared.info.name != "file" {
        return None;
    }
    let given = |field: &str| declared.params.has(field).then(|| format!("a file with {field} cannot be exported"));
    let slash = |field: &str| {
        let mut values = declared.params.iter();
        values.any(|(name, value)| name == field && matches!(value, Typed::Text(text) if text.ends_with('/')))
    };
    let directory = slash("path") || slash("basename") || slash("source");
    given("fragments")
        .or_else(|| given("recurse"))
        .or_else(|| directory.then(|| "a directory cannot be exported".to_owned()))
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

/// Where the value of a parameter stands; the resource's own place if it was not given.
fn place_of(declared: &Declared<'_>, field: &str) -> Place {
    let Form::Written(node) = &declared.form else { return declared.place };
    match Node::value(*node) {
        Value::Map(mut pairs) => pairs.find(|pair| pair.key == field).map_or(node.place(), |pair| pair.value.place()),
        _ => node.place(),
    }
}
