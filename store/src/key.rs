//! Where something lies: a key, and the space it lies in.
//!
//! - `k/…` is for anybody's use.
//! - `m/NAMESPACE/HOST` is a map with one entry a host.
//! - `x/HOST` says which exports a host has, `x/HOST/KIND/NAME` is one of them.
//! - `l/NAME` is a lock or a semaphore.
//! - `_/…` is the mesh itself: `_/peers/HOST`, `_/tokens/ID`, `_/allow/PATTERN/PREFIX`, `_/ideal`, `_/feature`.
//!
//! Only `k/` and `m/` hold what callers wrote. What lies in the others is written by commands of its own, in the forms
//! of [`record`](crate::record).

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::host::HostName;
use crate::limits::{KEY_BYTES_MAX, NAME_BYTES_MAX, TOKEN_ID_BYTES_MAX};

/// A key that is well formed for its space. Ordered by its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

/// The part of the store that a key lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    /// `x/`: what hosts export.
    Exports,
    /// `k/`: keys for anybody's use.
    Keys,
    /// `m/`: maps with an entry a host.
    Maps,
    /// `l/`: locks and semaphores.
    Locks,
    /// `_/`: the mesh itself.
    Mesh,
}

/// It is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    /// Longer than [`KEY_BYTES_MAX`].
    #[error("a key of {0} bytes is too long, {KEY_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// In none of the spaces.
    #[error("a key begins with k/, m/, x/, l/ or _/")]
    Space,
    /// Not of the form that its space asks for.
    #[error("this is not how keys in {0:?} are formed")]
    Form(Space),
    /// A character that could be mistaken, or do something to a terminal.
    #[error("a key contains no control characters")]
    Control,
}

impl Space {
    /// How its keys begin.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Exports => "x/",
            Self::Keys => "k/",
            Self::Maps => "m/",
            Self::Locks => "l/",
            Self::Mesh => "_/",
        }
    }

    /// The space of a key, or of a prefix of keys that lie in one space.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        [Self::Exports, Self::Keys, Self::Maps, Self::Locks, Self::Mesh]
            .into_iter()
            .find(|space| text.starts_with(space.prefix()))
    }
}

impl Key {
    /// How the keys of the registry begin.
    pub const PEERS: &str = "_/peers/";
    /// How the keys of tokens begin.
    pub const TOKENS: &str = "_/tokens/";
    /// How the keys of rules begin.
    pub const RULES: &str = "_/allow/";

    /// Checks a key.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, NoKey> {
        if text.len() > KEY_BYTES_MAX {
            return Err(NoKey::TooLong(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(NoKey::Control);
        }
        let space = Space::of(text).ok_or(NoKey::Space)?;
        let rest = &text[space.prefix().len()..];
        let formed = match space {
            Space::Keys | Space::Locks => !rest.is_empty(),
            Space::Maps => rest.split_once('/').is_some_and(|(name, host)| is_name(name) && is_host(host)),
            Space::Exports => match rest.split_once('/') {
                None => is_host(rest),
                Some((host, export)) => {
                    let parts = export.split_once('/');
                    is_host(host) && parts.is_some_and(|(kind, name)| is_name(kind) && !name.is_empty())
                }
            },
            Space::Mesh => is_mesh(rest),
        };
        if formed { Ok(Self(text.into())) } else { Err(NoKey::Form(space)) }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its space.
    #[must_use]
    pub fn space(&self) -> Space {
        Space::of(&self.0).expect("a key was checked")
    }

    /// Whose entry of a map or whose export it is.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        match self.space() {
            Space::Maps => self.0.rsplit('/').next(),
            Space::Exports => self.0.split('/').nth(1),
            Space::Keys | Space::Locks | Space::Mesh => None,
        }
    }

    /// Kind and name, of an export.
    #[must_use]
    pub fn export(&self) -> Option<(&str, &str)> {
        let (_, export) = self.0.strip_prefix("x/")?.split_once('/')?;
        export.split_once('/')
    }

    /// What of the mesh it is, and which one.
    pub(crate) fn mesh(&self) -> (&str, &str) {
        let rest = self.0.strip_prefix(Space::Mesh.prefix()).unwrap_or_default();
        rest.split_once('/').unwrap_or((rest, ""))
    }

    /// Which exports a host has.
    #[must_use]
    pub fn manifest_of(host: &HostName) -> Self {
        Self(format!("x/{host}").into())
    }

    /// One export of a host.
    ///
    /// # Errors
    /// When it is too long, or kind or name are empty or not allowed in a key.
    pub fn export_of(host: &HostName, kind: &str, name: &str) -> Result<Self, NoKey> {
        if kind.contains('/') {
            return Err(NoKey::Form(Space::Exports));
        }
        Self::parse(&format!("x/{host}/{kind}/{name}"))
    }

    /// A lock.
    ///
    /// # Errors
    /// When it is too long, empty or not allowed in a key.
    pub fn lock(name: &str) -> Result<Self, NoKey> {
        Self::parse(&format!("l/{name}"))
    }

    /// A host in the registry.
    #[must_use]
    pub fn peer(host: &HostName) -> Self {
        Self(format!("_/peers/{host}").into())
    }

    /// A token.
    ///
    /// # Errors
    /// When it is no name of a token.
    pub fn token(id: &str) -> Result<Self, NoKey> {
        Self::parse(&format!("_/tokens/{id}"))
    }

    /// A rule that allows hosts a prefix of `k/`.
    ///
    /// # Errors
    /// When the pattern is no pattern of hosts, or the key is too long.
    pub fn rule(pattern: &str, prefix: &str) -> Result<Self, NoKey> {
        if pattern.contains('/') {
            return Err(NoKey::Form(Space::Mesh));
        }
        Self::parse(&format!("_/allow/{pattern}/{prefix}"))
    }

    /// How many masters there should be.
    #[must_use]
    pub fn ideal_size() -> Self {
        Self("_/ideal".into())
    }

    /// What everybody in the mesh understands.
    #[must_use]
    pub fn feature_level() -> Self {
        Self(FEATURE_LEVEL.into())
    }

    /// Whether it is that.
    #[must_use]
    pub fn is_feature_level(&self) -> bool {
        &*self.0 == FEATURE_LEVEL
    }
}

const FEATURE_LEVEL: &str = "_/feature";

/// A word that fits between two slashes.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains('/') && !name.chars().any(char::is_control)
}

/// A host's name that has its letters lowered already: the same key for the same host.
fn is_host(host: &str) -> bool {
    HostName::parse(host).is_ok_and(|parsed| parsed.as_str() == host)
}

fn is_token(id: &str) -> bool {
    (1..=TOKEN_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn is_mesh(rest: &str) -> bool {
    match rest.split_once('/') {
        None => matches!(rest, "ideal" | "feature"),
        Some(("peers", host)) => is_host(host),
        Some(("tokens", id)) => is_token(id),
        Some(("allow", rule)) => rule.split_once('/').is_some_and(|(pattern, prefix)| {
            let pattern_fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"*.-".contains(&b);
            is_name(pattern) && pattern.bytes().all(pattern_fits) && prefix.len() <= NAME_BYTES_MAX
        }),
        Some(_) => false,
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Key {
    type Err = NoKey;
    fn from_str(text: &str) -> Result<Self, NoKey> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_space_has_its_form() {
        for good in [
            "k/a",
            "k/a/b//c ü",
            "m/ns/web1",
            "x/web1",
            "x/web1/file//etc/motd",
            "l/upgrade",
            "_/peers/web1",
            "_/tokens/abc123",
            "_/allow/web*/app/",
            "_/allow/*/",
            "_/ideal",
            "_/feature",
        ] {
            assert_eq!(Key::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "k",
            "k/",
            "d/1",
            "a/b",
            "m/ns",
            "m/ns/",
            "m//web1",
            "m/ns/Web1",
            "m/ns/a/b",
            "x/",
            "x/WEB",
            "x/web1/",
            "x/web1/file",
            "x/web1/file/",
            "x/web1//a",
            "l/",
            "_/",
            "_/peers/",
            "_/peers/A",
            "_/tokens/A",
            "_/tokens/",
            "_/allow/web",
            "_/allow/WEB/",
            "_/allow//a",
            "_/else",
            "_/else/a",
            "k/a\0",
            "k/\u{1b}[2J",
            "k/\u{85}",
        ] {
            assert!(Key::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Key::parse(&format!("k/{}", "a".repeat(KEY_BYTES_MAX - 2))).is_ok());
        assert_eq!(Key::parse(&format!("k/{}", "a".repeat(KEY_BYTES_MAX - 1))), Err(NoKey::TooLong(KEY_BYTES_MAX + 1)));
    }

    #[test]
    fn parts() {
        let host = HostName::parse("web1").unwrap();
        let export = Key::export_of(&host, "file", "/etc/motd").unwrap();
        assert_eq!((export.as_str(), export.host()), ("x/web1/file//etc/motd", Some("web1")));
        assert_eq!(export.export(), Some(("file", "/etc/motd")));
        assert_eq!(Key::manifest_of(&host).export(), None);
        assert_eq!(Key::parse("m/ns/web1").unwrap().host(), Some("web1"));
        assert!(Key::export_of(&host, "a/b", "c").is_err(), "a kind would swallow a part of the name");
        assert!(Key::rule("a/b", "c").is_err(), "a pattern would swallow a part of the prefix");
    }
}
