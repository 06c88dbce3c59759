//! What is wrong with a key, as a sentence.

use std::fmt;
use std::path::PathBuf;

use mgmt_engine::resource::{Change, Drift, Fault, Promise};
use mgmt_store::Value;

/// Characters of a value that a sentence shows.
const SHOWN_CHARS: usize = 60;

/// It is not as wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) there: Option<Value>,
    pub(super) want: Want,
}

/// How a key is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Want {
    Value(Value),
    AtLeast(i64),
    Gone,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.there {
            Some(value) => write!(f, "key is {}, ", shown(value))?,
            None => f.write_str("key is not there, ")?,
        }
        match &self.want {
            Want::Value(value) => write!(f, "wanted {}", shown(value)),
            Want::AtLeast(least) => write!(f, "wanted {least} or more"),
            Want::Gone => f.write_str("wanted none"),
        }
    }
}

impl Drift for Wrong {
    fn change(&self) -> Option<Change> {
        let after = match &self.want {
            Want::Value(value) => Some(value.to_vec()),
            Want::AtLeast(least) => Some(least.to_string().into_bytes()),
            Want::Gone => None,
        };
        Some(Change { before: self.there.as_ref().map(|value| value.to_vec()), after, hidden: false })
    }

    fn promises(&self) -> Vec<(PathBuf, Promise)> {
        Vec::new()
    }
}

/// A value in quotes, or how long it is.
fn shown(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if text.chars().count() <= SHOWN_CHARS => format!("{text:?}"),
        Ok(text) => {
            let start: String = text.chars().take(SHOWN_CHARS).collect();
            format!("{start:?}.. ({} bytes)", value.len())
        }
        Err(_) => format!("{} bytes that are no text", value.len()),
    }
}

/// A value as a whole number.
pub(super) fn number(value: &[u8]) -> Result<i64, Fault> {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| {
        Fault::new(format!(
            "key is {}, which is no whole number: it cannot be compared, and is left alone",
            shown(value)
        ))
    })
}
