//! A host's name, and patterns of them.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use mgmt_consensus::limits::HOST_NAME_BYTES_MAX;

/// A host's name: `[a-z0-9][a-z0-9.-]{0,252}`. What is written in capitals means the same host.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Arc<str>);

/// It is no name of a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host name: 1 to 253 of a-z, 0-9, '.' and '-', beginning with a letter or digit")]
pub struct NoHostName(pub String);

impl HostName {
    /// Checks a name, and lowers its letters.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(name: &str) -> Result<Self, NoHostName> {
        let fits = (1..=HOST_NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
            && name.as_bytes()[0].is_ascii_alphanumeric();
        if fits {
            Ok(Self(name.to_ascii_lowercase().into()))
        } else {
            Err(NoHostName(name.chars().take(HOST_NAME_BYTES_MAX + 1).collect()))
        }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for HostName {
    type Err = NoHostName;
    fn from_str(name: &str) -> Result<Self, NoHostName> {
        Self::parse(name)
    }
}

/// Whether a host matches a pattern in which `*` stands for any run of characters.
#[must_use]
pub fn matches(pattern: &str, host: &str) -> bool {
    let (pattern, host) = (pattern.as_bytes(), host.as_bytes());
    let (mut p, mut h) = (0, 0);
    // The last star, and what it covers so far: the only place worth going back to.
    let mut back = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            back = Some((p, h));
            p += 1;
        } else if h < host.len() && p < pattern.len() && pattern[p] == host[h] {
            (p, h) = (p + 1, h + 1);
        } else if p == pattern.len() && h == host.len() {
            return true;
        } else {
            match back {
                Some((star, covered)) if covered < host.len() => {
                    back = Some((star, covered + 1));
                    (p, h) = (star + 1, covered + 1);
                }
                _ => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "0", "web-1.example.org", "WEB1", &"a".repeat(253)] {
            assert_eq!(HostName::parse(good).unwrap().as_str(), good.to_lowercase());
        }
        for bad in ["", "-a", ".a", "a b", "a/b", "ä", "a_b", "a\0", &"a".repeat(254)] {
            assert!(HostName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns() {
        for (pattern, host, fits) in [
            ("*", "a", true),
            ("web*", "web1", true),
            ("web*", "we", false),
            ("*.lan", "a.lan", true),
            ("*.lan", "a.lan.org", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "acb", false),
            ("web1", "web1", true),
            ("web1", "web10", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, host), fits, "{pattern} {host}");
        }
    }
}
