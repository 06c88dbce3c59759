//! The three names: where each is, what it may be, and how its file looks.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use mgmt_engine::resource::Fault;

use super::{INFO_FILE, STATIC};
use crate::file::edited::{Edit, Edited};
use crate::lines::Lines;

/// The longest name that a kernel takes.
const NAME_BYTES_MAX: usize = 64;
/// The longest part between dots.
const PART_BYTES_MAX: usize = 63;
/// The longest name for people.
const PRETTY_BYTES_MAX: usize = 255;
const PRETTY: &str = "PRETTY_HOSTNAME=";

/// One of the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Static,
    Pretty,
    Transient,
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Static => "static hostname",
            Self::Pretty => "pretty hostname",
            Self::Transient => "transient hostname",
        })
    }
}

impl Which {
    /// The file it is in; the transient one is in the kernel.
    pub(super) fn file(self) -> Option<&'static str> {
        match self {
            Self::Static => Some(STATIC),
            Self::Pretty => Some(INFO_FILE),
            Self::Transient => None,
        }
    }

    /// What it is; empty if there is none.
    pub(super) fn now(self) -> Result<String, Fault> {
        let Some(path) = self.file() else {
            return Ok(rustix::system::uname().nodename().to_string_lossy().into_owned());
        };
        match fs::read(path) {
            Ok(bytes) => Ok(self.read(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(Fault::path("read", Path::new(path), error)),
        }
    }

    /// What its file says.
    fn read(self, text: &str) -> String {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        match self {
            Self::Pretty => {
                lines.filter_map(|line| line.strip_prefix(PRETTY)).next_back().map(unquoted).unwrap_or_default()
            }
            _ => lines.next().unwrap_or_default().to_owned(),
        }
    }
}

/// A value as a shell would read it.
fn unquoted(text: &str) -> String {
    if let Some(inner) = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        return inner.to_owned();
    }
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let (mut out, mut escaped) = (String::new(), false);
    for c in inner.chars() {
        escaped = c == '\\' && !escaped;
        if !escaped {
            out.push(c);
        }
    }
    out
}

/// One name that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) which: Which,
    pub(super) is: String,
    pub(super) wanted: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is = if self.is.is_empty() { "not set" } else { &self.is };
        write!(f, "{} is {is}, wanted {}", self.which, self.wanted)
    }
}

/// The file of a name, where nobody else writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) which: Which,
    pub(super) wanted: String,
}

impl Edit for Whole {
    fn edited(&self, before: Option<&[u8]>) -> Result<Option<Edited>, Fault> {
        let text = before.unwrap_or_default();
        if self.which.read(&String::from_utf8_lossy(text)) == self.wanted {
            return Ok(None);
        }
        let after = match self.which {
            Which::Pretty => {
                let escaped: String = self
                    .wanted
                    .chars()
                    .flat_map(|c| matches!(c, '"' | '\\' | '$' | '`').then_some('\\').into_iter().chain([c]))
                    .collect();
                let mut lines = Lines::of(text);
                lines.remove(|_, line| line.trim_ascii_start().starts_with(PRETTY.as_bytes()));
                lines.insert(lines.count(), &[&format!("{PRETTY}\"{escaped}\"")]);
                lines.joined()
            }
            _ => format!("{}\n", self.wanted).into_bytes(),
        };
        Ok(Some(Edited { after, wrong: "another name", deed: "name set" }))
    }
}

/// What is wrong with a name, if anything is.
pub(super) fn wrong(name: &str) -> Option<&'static str> {
    let part = |part: &str| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=PART_BYTES_MAX).contains(&part.len())
            && part.bytes().all(good)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if name.len() > NAME_BYTES_MAX {
        return Some("is longer than 64 bytes");
    }
    (!name.split('.').all(part)).then_some("has to be letters, digits and hyphens, in parts between dots")
}

/// What is wrong with a name for people, if anything is.
pub(super) fn wrong_pretty(name: &str) -> Option<&'static str> {
    match name {
        _ if name.len() > PRETTY_BYTES_MAX => Some("is longer than 255 bytes"),
        _ if name.contains(char::is_control) => Some("has to be one line"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged() {
        for good in ["a", "web-1", "Web1.example.com", "1.2"] {
            assert_eq!(wrong(good), None, "{good}");
        }
        for bad in ["", "-a", "a-", "a..b", "a_b", "a b", "ä", &"a".repeat(64), &"a.".repeat(40)] {
            assert!(wrong(bad).is_some(), "{bad}");
        }
        assert!(wrong_pretty("a\nb").is_some() && wrong_pretty("Änne's \"box\"").is_none());
    }

    #[test]
    fn files_are_read_as_systemd_does() {
        assert_eq!(Which::Static.read("# a comment\n\nweb1\n"), "web1");
        assert_eq!(Which::Static.read(""), "");
        assert_eq!(Which::Pretty.read("ICON_NAME=x\nPRETTY_HOSTNAME=\"a \\\"b\\\" \\\\c\"\n"), "a \"b\" \\c");
        assert_eq!(Which::Pretty.read("PRETTY_HOSTNAME='a b'\n"), "a b");
        assert_eq!(Which::Pretty.read("CHASSIS=vm\n"), "");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let edited = |which, wanted: &str, before: Option<&str>| {
            let whole = Whole { which, wanted: wanted.to_owned() };
            let edited = whole.edited(before.map(str::as_bytes)).unwrap()?;
            assert_eq!(whole.edited(Some(&edited.after)), Ok(None));
            Some(String::from_utf8(edited.after).unwrap())
        };
        assert_eq!(edited(Which::Static, "a", None).unwrap(), "a\n");
        assert_eq!(edited(Which::Static, "a", Some("a\n")), None);
        let quoted = edited(Which::Pretty, "a $\"b\"", Some("X=1\nPRETTY_HOSTNAME=z\nY=2")).unwrap();
        assert_eq!(quoted, "X=1\nY=2\nPRETTY_HOSTNAME=\"a \\$\\\"b\\\"\"\n");
    }
}
