//! The resources of a document, as they are written: read, and judged one by one.

use std::path::PathBuf;

use mgmt_engine::id::{Id, Kind};
use mgmt_engine::meta::{Meta, Semaphore};
use mgmt_resources::KindInfo;
use mgmt_resources::kind::{Params, Value as Typed};

use super::edges::Wish;
use super::kinds::Kinds;
use super::vertices::Absence;
use super::{Options, meta, values};
use crate::diagnostic::{Place, Problem, Problems, nearest};
use crate::document::{Node, Pair, Value};

const NAME_MAX: usize = 1024;

/// Keys that every resource has, whatever its kind.
pub(crate) const COMMON_KEYS: [&str; 6] = ["name", "meta", "hosts", "after", "notify", "sensitive"];

/// A resource as it is declared: by the file, or by a host whose export a `collect` item takes.
pub(super) struct Declared<'d> {
    pub(super) id: Id,
    pub(super) info: &'static KindInfo,
    pub(super) form: Form<'d>,
    /// Where the file asks for it.
    pub(super) place: Place,
    pub(super) first_dialect: bool,
    /// Meant for this host.
    pub(super) here: bool,
    pub(super) meta: Meta,
    pub(super) params: Params,
    /// What another host calls it.
    pub(super) called: Option<String>,
    /// Where it must stay, if somebody else named it.
    pub(super) beneath: Option<PathBuf>,
    /// Edges written inside of it.
    pub(super) wishes: Vec<Wish>,
    /// Semaphores named inside of it.
    pub(super) semaphores: Vec<(Semaphore, Place)>,
    /// Unknown keys that were reported as errors: they reject the file, but do not keep the rest from being judged.
    unknown: usize,
}

/// Where its parameters can be read again.
pub(super) enum Form<'d> {
    /// In the file.
    Written(Node<'d>),
    /// They were taken from an export, and are these.
    Collected(Params),
}

impl<'d> Declared<'d> {
    /// One of which nothing more is known yet.
    pub(super) fn of(id: Id, info: &'static KindInfo, form: Form<'d>, place: Place, meta: Meta) -> Self {
        Self {
            id,
            info,
            form,
            place,
            first_dialect: false,
            here: true,
            meta,
            params: Params::default(),
            called: None,
            beneath: None,
            wishes: Vec::new(),
            semaphores: Vec::new(),
            unknown: 0,
        }
    }
}

/// Reads resources.
pub(super) struct Resources<'a, 'd> {
    options: &'a Options,
    kinds: Kinds<'a>,
    /// Those that run here, in the order of the file.
    pub(super) declared: Vec<Declared<'d>>,
    /// Those that are exported, by their names without the `@@`.
    pub(super) exported: Vec<Declared<'d>>,
    /// Those that are wrong.
    pub(super) broken: Vec<(Id, Absence)>,
}

impl<'a, 'd> Resources<'a, 'd> {
    pub(super) fn new(options: &'a Options, kinds: Kinds<'a>) -> Self {
        Self { options, kinds, declared: Vec::new(), exported: Vec::new(), broken: Vec::new() }
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
            self.broken.push((Id { kind: kind.clone(), name: name.into() }, Absence::Broken));
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
        let plain = name.strip_prefix("@@");
        let id = Id { kind: kind.clone(), name: plain.unwrap_or(name).into() };
        let errors = problems.errors();
        let form = Form::Written(item);
        let mut declared = Declared::of(id, info, form, item.place(), meta::defaults(self.options));
        declared.first_dialect = first_dialect;
        declared.here = here;
        let mut poll = None;
        for pair in pairs {
            if let Err(problem) = self.pair(pair, &mut declared, &mut poll, problems) {
                problems.push(problem);
            }
        }
        declared.meta.poll = declared.meta.poll.or(poll);
        default_path(&mut declared);
        match plain {
            _ if problems.errors() > errors + declared.unknown => self.broken.push((declared.id, Absence::Broken)),
            Some(_) => self.exported.push(declared),
            None => self.declared.push(declared),
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
}

/// A file that says nothing of its path is named by it, as in the original.
pub(super) fn default_path(declared: &mut Declared<'_>) {
    let says = |field| declared.params.has(field);
    if declared.info.name == "file"
        && declared.id.name.starts_with('/')
        && !["path", "dirname", "basename"].into_iter().any(says)
    {
        declared.params.set("path", Typed::Text(declared.id.name.to_string()));
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
