//! `meta:` of a resource.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use mgmt_engine::id::Id;
use mgmt_engine::meta::{Limit, Meta, Semaphore};

use mgmt_store::Key;
use mgmt_store::limits::LOCK_HOLDERS_MAX;

use super::Options;
use super::values::{self, Misfit};
use crate::diagnostic::{Place, Printable, Problem, Problems, nearest};
use crate::document::{Node, Pair, Value};

pub(crate) const KNOWN: [&str; 10] =
    ["noop", "retry", "delay", "timeout", "poll", "limit", "burst", "sema", "autoedge", "autogroup"];

pub(crate) const UNSUPPORTED: [&str; 8] =
    ["rewatch", "reset", "realize", "reverse", "hidden", "export", "dollar", "retryreset"];

/// The counts that the semaphores of a graph have been given, and where.
#[derive(Default)]
pub(super) struct Semaphores(HashMap<String, (NonZeroU32, Option<Place>)>);

impl Semaphores {
    pub(super) fn new(options: &Options) -> Self {
        Self(options.sema.map(|count| (String::new(), (count, None))).into_iter().collect())
    }

    /// A semaphore has one count, whoever names it.
    pub(super) fn check(&mut self, wanted: &Semaphore, place: Place, subject: &Id, problems: &mut Problems) {
        let Semaphore { id, count } = wanted;
        let (first, known_at) = *self.0.entry(id.clone()).or_insert((*count, Some(place)));
        if first != *count {
            let known_at = known_at.map_or("by an option of the program".to_owned(), |place| format!("at {place}"));
            let message = format!("meta.sema: '{}' has the count {count} here, and {first} {known_at}", Printable(id));
            problems.push(Problem::error(place, subject.to_string(), message));
        }
    }
}

/// Reads `id` or `id:count`.
fn semaphore(text: &str, place: Place) -> Result<Semaphore, Misfit> {
    let (id, count) = match text.rsplit_once(':') {
        None => (text, NonZeroU32::MIN),
        Some((id, count)) => match count.parse() {
            Ok(count) => (id, count),
            Err(_) => {
                let message = format!("expected id or id:count, found '{}'", Printable(text));
                return Err(Misfit::new(place, message));
            }
        },
    };
    let semaphore = Semaphore { id: id.to_owned(), count };
    if let Some(lock) = semaphore.of_mesh() {
        if lock.is_empty() {
            return Err(Misfit::new(place, format!("'{}' needs a name behind the slash", Printable(id))));
        }
        Key::lock(lock).map_err(|error| Misfit::new(place, format!("'{}': {error}", Printable(id))))?;
        if semaphore.count.get() > LOCK_HOLDERS_MAX {
            let message = format!("'{}': at most {LOCK_HOLDERS_MAX} may hold what all hosts share", Printable(id));
            return Err(Misfit::new(place, message));
        }
    }
    Ok(semaphore)
}

/// What every vertex has before its `meta` is read.
pub(super) fn defaults(options: &Options) -> Meta {
    let sema = options.sema.map(|count| Semaphore { id: String::new(), count });
    Meta { noop: options.noop, sema: sema.into_iter().collect(), ..Meta::default() }
}

/// Reads `meta` into `meta`. Returns where it names semaphores.
pub(super) fn read(
    node: Node<'_>,
    meta: &mut Meta,
    subject: &str,
    options: &Options,
    problems: &mut Problems,
) -> Vec<(Semaphore, Place)> {
    let mut semaphores = Vec::new();
    if node.is_null() {
        return semaphores;
    }
    let Value::Map(pairs) = node.value() else {
        problems.push(Problem::error(node.place(), subject, format!("meta: expected a map, found {}", node.noun())));
        return semaphores;
    };
    let mut rate = None;
    let mut burst = None;
    for pair in pairs {
        if UNSUPPORTED.contains(&pair.key) {
            let message = format!("meta.{} is not supported and has no effect", pair.key);
            problems.push(Problem::warning(pair.place, subject, message));
        } else if !KNOWN.contains(&pair.key) {
            let near = nearest(pair.key, KNOWN);
            let mut problem = Problem::unknown_key(pair.place, subject.to_owned(), pair.key, near, options.strict);
            problem.message.push_str(" in meta");
            problems.push(problem);
        } else if pair.key == "sema" {
            let texts = values::texts(pair.value).unwrap_or_else(|misfit| {
                problems.push(misfit.of(subject, "meta.sema"));
                Vec::new()
            });
            for (text, place) in texts {
                match semaphore(text, place) {
                    Ok(semaphore) => semaphores.push((semaphore, place)),
                    Err(misfit) => problems.push(misfit.of(subject, "meta.sema")),
                }
            }
        } else if let Err(misfit) = one(pair, meta, &mut rate, &mut burst) {
            problems.push(misfit.of(subject, format_args!("meta.{}", pair.key)));
        }
    }
    meta.noop |= options.noop;
    meta.sema.extend(semaphores.iter().map(|(semaphore, _)| semaphore.clone()));
    meta.sema.sort();
    meta.sema.dedup();
    if let Some((rate, place)) = rate {
        match burst.and_then(NonZeroU32::new) {
            Some(burst) => meta.limit = Some(Limit { rate, burst }),
            None => problems.push(
                Problem::error(place, subject, "meta.limit: with a burst of 0 nothing would ever happen")
                    .hint("set meta.burst to 1 or more".to_owned()),
            ),
        }
    }
    semaphores
}

/// Reads one key.
fn one(
    pair: Pair<'_>,
    meta: &mut Meta,
    rate: &mut Option<(f64, Place)>,
    burst: &mut Option<u32>,
) -> Result<(), Misfit> {
    let value = pair.value;
    if value.is_null() {
        return Ok(());
    }
    match pair.key {
        "noop" => meta.noop = values::boolean(value)?,
        "autoedge" => meta.autoedge = values::boolean(value)?,
        "autogroup" => meta.autogroup = values::boolean(value)?,
        "retry" if is_minus_one(value) => meta.retry = None,
        "retry" => {
            meta.retry = Some(small(value).map_err(|misfit| misfit.hint("-1 stands for \"for ever\""))?);
        }
        "delay" => meta.delay = Duration::from_millis(values::count(value)?),
        "timeout" => meta.timeout = Some(Duration::from_millis(values::count(value)?)).filter(|t| !t.is_zero()),
        "poll" => meta.poll = Some(Duration::from_secs(values::count(value)?)).filter(|t| !t.is_zero()),
        "burst" => *burst = Some(small(value)?),
        "limit" => {
            let wanted = "a number of events a second above 0, or .inf";
            let number = values::float(value, wanted)?;
            if number <= 0.0 || number.is_nan() {
                return Err(Misfit::new(value.place(), format!("expected {wanted}, found {number}")));
            }
            *rate = number.is_finite().then_some((number, value.place()));
        }
        key => unreachable!("{key} is known, and so it is read"),
    }
    Ok(())
}

fn is_minus_one(node: Node<'_>) -> bool {
    matches!(node.value(), Value::Scalar(scalar) if scalar.plain && scalar.text == "-1")
}

fn small(node: Node<'_>) -> Result<u32, Misfit> {
    u32::try_from(values::count(node)?).map_err(|_| Misfit::new(node.place(), "that is too many"))
}
