//! `meta:` of a resource.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use mgmt_engine::meta::{Limit, Meta, Semaphore};

use super::Options;
use super::values::{self, Misfit};
use crate::diagnostic::{Place, Problem, Problems, nearest};
use crate::document::{Node, Pair, Value};

const KNOWN: [&str; 10] =
    ["noop", "retry", "delay", "timeout", "poll", "limit", "burst", "sema", "autoedge", "autogroup"];

const UNSUPPORTED: [&str; 8] = ["rewatch", "reset", "realize", "reverse", "hidden", "export", "dollar", "retryreset"];

/// The counts that semaphores have been given, and where.
#[derive(Default)]
pub(super) struct Semaphores(HashMap<String, (NonZeroU32, Option<Place>)>);

impl Semaphores {
    pub(super) fn new(options: &Options) -> Self {
        Self(options.sema.map(|count| (String::new(), (count, None))).into_iter().collect())
    }

    /// Reads `id` or `id:count`.
    fn read(&mut self, text: &str, place: Place) -> Result<Semaphore, Misfit> {
        let (id, count) = match text.rsplit_once(':') {
            None => (text, NonZeroU32::MIN),
            Some((id, count)) => match count.parse() {
                Ok(count) => (id, count),
                Err(_) => return Err(Misfit::new(place, format!("expected id or id:count, found '{text}'"))),
            },
        };
        if id.starts_with("cluster/") {
            return Err(Misfit::new(place, format!("a semaphore of the whole cluster, '{id}', is not built yet")));
        }
        let (first, known_at) = *self.0.entry(id.to_owned()).or_insert((count, Some(place)));
        if first != count {
            let known_at = known_at.map_or("as an option of the program".to_owned(), |place| format!("at {place}"));
            let message = format!("semaphore '{id}' has the count {count} here, and {first} {known_at}");
            return Err(Misfit::new(place, message));
        }
        Ok(Semaphore { id: id.to_owned(), count })
    }
}

/// What every vertex has before its `meta` is read.
pub(super) fn defaults(options: &Options) -> Meta {
    let sema = options.sema.map(|count| Semaphore { id: String::new(), count });
    Meta { noop: options.noop, sema: sema.into_iter().collect(), ..Meta::default() }
}

/// Reads `meta` into `meta`.
pub(super) fn read(
    node: Node<'_>,
    meta: &mut Meta,
    subject: &str,
    options: &Options,
    semaphores: &mut Semaphores,
    problems: &mut Problems,
) {
    if node.is_null() {
        return;
    }
    let Value::Map(pairs) = node.value() else {
        problems.push(Problem::error(node.place(), subject, format!("meta: expected a map, found {}", node.noun())));
        return;
    };
    let mut rate = None;
    let mut burst = None;
    for pair in pairs {
        if UNSUPPORTED.contains(&pair.key) {
            let message = format!("meta.{} is known, but not supported, and", pair.key);
            problems.push(Problem { ignored: true, ..Problem::warning(pair.place, subject, message) });
        } else if !KNOWN.contains(&pair.key) {
            let near = nearest(pair.key, KNOWN);
            let mut problem = Problem::unknown_key(pair.place, subject.to_owned(), pair.key, near, options.strict);
            problem.message.push_str(" in meta");
            problems.push(problem);
        } else if let Err(misfit) = one(pair, meta, &mut rate, &mut burst, semaphores) {
            problems.push(misfit.of(subject, format_args!("meta.{}", pair.key)));
        }
    }
    meta.noop |= options.noop;
    if let Some((rate, place)) = rate {
        match burst.and_then(NonZeroU32::new) {
            Some(burst) => meta.limit = Some(Limit { rate, burst }),
            None => problems.push(
                Problem::error(place, subject, "meta.limit: with a burst of 0 nothing would ever happen")
                    .hint("set meta.burst to 1 or more".to_owned()),
            ),
        }
    }
}

/// Reads one key.
fn one(
    pair: Pair<'_>,
    meta: &mut Meta,
    rate: &mut Option<(f64, Place)>,
    burst: &mut Option<u32>,
    semaphores: &mut Semaphores,
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
        "retry" => meta.retry = Some(small(value)?),
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
        "sema" => {
            for (text, place) in values::texts(value)? {
                meta.sema.push(semaphores.read(text, place)?);
            }
            meta.sema.sort();
            meta.sema.dedup();
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
