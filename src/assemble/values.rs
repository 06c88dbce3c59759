//! Scalars of the file to the typed values that a kind's table asks for.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use mgmt_engine::id::Id;
use mgmt_resources::kind::{Shape, Value as Typed};

use super::glob;
use super::kinds::Kinds;
use crate::diagnostic::{Place, Printable, Problem, Problems, nearest};
use crate::document::{Node, Scalar, Value};

/// Why a value does not fit: where, what, and what may help.
pub(super) struct Misfit {
    place: Place,
    message: String,
    hint: Option<String>,
}

impl Misfit {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into(), hint: None }
    }

    fn expected(node: Node<'_>, wanted: &str) -> Self {
        let found = match node.value() {
            Value::Scalar(scalar) if !scalar.is_null() && !scalar.plain => {
                return Self {
                    hint: Some("without quotes".to_owned()),
                    ..Self::new(node.place(), format!("expected {wanted}, found the text '{}'", Printable(scalar.text)))
                };
            }
            Value::Scalar(scalar) if !scalar.is_null() => format!("'{}'", Printable(scalar.text)),
            _ => node.noun().to_owned(),
        };
        Self::new(node.place(), format!("expected {wanted}, found {found}"))
    }

    /// With a hint, if it has none of its own.
    pub(super) fn hint(mut self, hint: &str) -> Self {
        self.hint.get_or_insert_with(|| hint.to_owned());
        self
    }

    /// As a problem with a key of something.
    pub(super) fn of(self, subject: &str, key: impl Display) -> Problem {
        Problem::error(self.place, subject, format!("{key}: {}", self.message)).hint(self.hint)
    }
}

/// Turns a value into the shape a table asks for. `None`: as if not given.
pub(super) fn convert(node: Node<'_>, shape: Shape, directory: &Path) -> Result<Option<Typed>, Misfit> {
    if node.is_null() || shape == Shape::Ignored {
        return Ok(None);
    }
    Ok(Some(match shape {
        Shape::Text => Typed::Text(text(node)?.to_owned()),
        Shape::Path => Typed::Text(absolute(text(node)?, directory)),
        Shape::Bool => Typed::Bool(boolean(node)?),
        Shape::Count => Typed::Count(count(node)?),
        Shape::Seconds => Typed::Seconds(seconds(node)?),
        Shape::Choice(words) => match choice(node, words)? {
            None => return Ok(None),
            Some(word) => Typed::Text(word),
        },
        Shape::Texts => Typed::Texts(texts(node)?.into_iter().map(|(text, _)| text.to_owned()).collect()),
        Shape::Paths => Typed::Texts(texts(node)?.into_iter().map(|(text, _)| absolute(text, directory)).collect()),
        Shape::Map => Typed::Map(map(node)?),
        Shape::Ignored => return Ok(None),
    }))
}

fn scalar<'d>(node: Node<'d>, wanted: &str) -> Result<Scalar<'d>, Misfit> {
    match node.value() {
        Value::Scalar(scalar) => Ok(scalar),
        _ => Err(Misfit::expected(node, wanted)),
    }
}

/// Any scalar, as it stands in the file.
pub(super) fn text(node: Node<'_>) -> Result<&str, Misfit> {
    Ok(scalar(node, "a text")?.text)
}

/// A list of texts; a single one is a list of one, and nothing is an empty list.
pub(super) fn texts(node: Node<'_>) -> Result<Vec<(&str, Place)>, Misfit> {
    match node.value() {
        Value::Scalar(scalar) if scalar.is_null() => Ok(Vec::new()),
        Value::Scalar(scalar) => Ok(vec![(scalar.text, node.place())]),
        Value::List(items) => items
            .map(|item| match item.is_null() {
                true => Err(Misfit::expected(item, "a text")),
                false => Ok((text(item)?, item.place())),
            })
            .collect(),
        Value::Map(_) => Err(Misfit::expected(node, "a list of texts")),
    }
}

fn map(node: Node<'_>) -> Result<BTreeMap<String, String>, Misfit> {
    let Value::Map(pairs) = node.value() else {
        return Err(Misfit::expected(node, "a map"));
    };
    pairs
        .map(|pair| {
            let value = if pair.value.is_null() { "" } else { text(pair.value)? };
            Ok((pair.key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// A boolean of YAML 1.1.
pub(super) fn boolean(node: Node<'_>) -> Result<bool, Misfit> {
    const WANTED: &str = "yes or no";
    let scalar = scalar(node, WANTED)?;
    match scalar.text {
        _ if !scalar.plain => Err(Misfit::expected(node, WANTED)),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Ok(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Ok(false),
        _ => Err(Misfit::expected(node, WANTED)),
    }
}

/// A whole number ≥ 0 of YAML 1.1: `010` is eight, `0x10` sixteen, `1_000` a thousand.
pub(super) fn count(node: Node<'_>) -> Result<u64, Misfit> {
    const WANTED: &str = "a whole number, not below 0";
    let scalar = scalar(node, WANTED)?;
    Some(scalar.text).filter(|_| scalar.plain).and_then(whole).ok_or_else(|| Misfit::expected(node, WANTED))
}

fn whole(text: &str) -> Option<u64> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let digits = digits.replace('_', "");
    match digits.as_bytes() {
        [b'0', b'x', ..] => u64::from_str_radix(&digits[2..], 16).ok(),
        [b'0', b'b', ..] => u64::from_str_radix(&digits[2..], 2).ok(),
        [b'0', b'o', ..] => u64::from_str_radix(&digits[2..], 8).ok(),
        [b'0', _, ..] => u64::from_str_radix(&digits, 8).ok(),
        _ => digits.parse().ok(),
    }
}

/// A number, `.inf` included.
pub(super) fn float(node: Node<'_>, wanted: &str) -> Result<f64, Misfit> {
    let scalar = scalar(node, wanted)?;
    let number = match scalar.text {
        _ if !scalar.plain => None,
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Some(f64::INFINITY),
        // The standard library also reads words such as `infinity`, which YAML does not.
        text if text.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            whole(text).map(|whole| whole as f64).or_else(|| text.parse().ok())
        }
        _ => None,
    };
    number.ok_or_else(|| Misfit::expected(node, wanted))
}

fn seconds(node: Node<'_>) -> Result<f64, Misfit> {
    const WANTED: &str = "a number of seconds, not below 0";
    Some(float(node, WANTED)?).filter(|number| number.is_finite()).ok_or_else(|| Misfit::expected(node, WANTED))
}

/// One of some words; an empty text, as old exporters write it, is none.
fn choice(node: Node<'_>, words: &[&str]) -> Result<Option<String>, Misfit> {
    let text = text(node)?;
    if text.is_empty() {
        return Ok(None);
    }
    if words.contains(&text) {
        return Ok(Some(text.to_owned()));
    }
    let wanted = words.join(", ");
    let mut misfit = Misfit::new(node.place(), format!("expected one of {wanted}, found '{}'", Printable(text)));
    misfit.hint = nearest(text, words.iter().copied()).map(|near| format!("did you mean '{near}'?"));
    Err(misfit)
}

/// A path as the file means it; its spelling, a trailing slash above all, is kept.
fn absolute(text: &str, directory: &Path) -> String {
    if text.is_empty() || text.starts_with('/') {
        return text.to_owned();
    }
    format!("{}/{text}", directory.display().to_string().trim_end_matches('/'))
}

/// Whether a list of globs is for this host. What is not a list of globs is reported, and is for every host.
pub(super) fn for_host(node: Node<'_>, hostname: &str, subject: &str, problems: &mut Problems) -> bool {
    match texts(node) {
        // An empty list is as good as none, as everywhere in the file.
        Ok(globs) => globs.is_empty() || globs.iter().any(|(glob, _)| glob::matches(glob, hostname)),
        Err(misfit) => {
            problems.push(misfit.of(subject, "hosts"));
            true
        }
    }
}

/// Reads `kind[name]`.
pub(super) fn reference(text: &str, place: Place) -> Result<Id, Misfit> {
    let id = Id::parse(text).ok_or_else(|| {
        Misfit::new(place, format!("expected a resource such as file[motd], found '{}'", Printable(text)))
    })?;
    Ok(match Kinds::canonical(id.kind.as_str()) {
        kind if kind == id.kind.as_str() => id,
        kind => Id::new(&kind, &id.name),
    })
}
