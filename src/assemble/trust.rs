//! What an export of another host may bring into this one: the one place where that is decided.
//!
//! Whoever writes the collecting file decides whom it trusts. Without a word from him, files carry a name, contents, a
//! state and plain permission bits into the directory of the item's pattern, messages and anchors carry what they have,
//! and nothing else is taken at all. Never templated, never interpreted.

use mgmt_resources::kind::{Params, Value};

use super::collect::Item;

/// The word that allows set-uid, set-gid and sticky bits.
pub(super) const SETUID: &str = "setuid";

/// Kinds that anybody may put into a graph that collects them: they only say something.
const HARMLESS: [&str; 2] = ["noop", "msg"];
/// What a file always carries.
const PLAIN: [&str; 6] = ["path", "dirname", "basename", "content", "state", "mode"];
/// Fields of a file that it is something else without, so that it is not taken if they are not allowed.
const ESSENTIAL: [&str; 3] = ["symlink", "source", "fragments"];
/// Permission bits that need no word.
const PERMISSIONS: u32 = 0o777;

/// What is taken of an export of another host, and what of it was left out. The item takes it by kind, name and host.
///
/// # Errors
/// Why it is not taken at all.
pub(super) fn carried(item: &Item, params: &Params) -> Result<(Params, Vec<String>), String> {
    let kind = item.info.name;
    if kind != "file" {
        if item.hosts.is_empty() && !HARMLESS.contains(&kind) {
            return Err(format!("{kind} resources of other hosts are taken only by an item that says which hosts"));
        }
        return Ok((params.clone(), Vec::new()));
    }
    if item.pattern.is_none() && item.hosts.is_empty() {
        return Err("files of other hosts are taken without a pattern only by an item that says which hosts".into());
    }
    file(item, params)
}

fn file(item: &Item, params: &Params) -> Result<(Params, Vec<String>), String> {
    let allowed = |field: &str| item.allow.contains(field);
    let (mut taken, mut left) = (Params::default(), Vec::new());
    // The text of a link comes with it. Otherwise source names a file of this host, which is nobody else's business.
    let is_link = params.iter().any(|(field, value)| field == "symlink" && *value == Value::Bool(true));
    for (field, value) in params.iter() {
        match value {
            Value::Text(text) if field == "mode" && !allowed(SETUID) => match mode(text) {
                Mode::Plain => taken.set(field, value.clone()),
                Mode::Masked(bits) => {
                    left.push(format!("mode {text} is taken as {bits:04o}"));
                    taken.set(field, Value::Text(format!("{bits:04o}")));
                }
                Mode::Special => left.push(format!("mode {text} is not allowed")),
            },
            value
                if PLAIN.contains(&field) || allowed(field) || (field == "source" && is_link && allowed("symlink")) =>
            {
                taken.set(field, value.clone());
            }
            // As if it had not been said.
            Value::Bool(false) => {}
            _ if ESSENTIAL.contains(&field) => {
                // What is to be allowed is the link; its text comes with it.
                let field = if is_link && field == "source" { "symlink" } else { field };
                return Err(format!("it has {field}, which this item does not allow"));
            }
            _ => left.push(format!("{field} is not allowed")),
        }
    }
    Ok((taken, left))
}

/// What a mode asks for.
enum Mode {
    /// Permissions.
    Plain,
    /// More: these of it are permissions.
    Masked(u32),
    /// More, in words, or what cannot be told.
    Special,
}

fn mode(text: &str) -> Mode {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        return match u32::from_str_radix(digits, 8) {
            Ok(bits) if bits & !PERMISSIONS == 0 => Mode::Plain,
            Ok(bits) => Mode::Masked(bits & PERMISSIONS),
            Err(_) => Mode::Special,
        };
    }
    if text.contains(['s', 't']) { Mode::Special } else { Mode::Plain }
}
