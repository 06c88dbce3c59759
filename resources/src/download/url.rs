//! A URL as a download takes it: http or https, with what is secret in it kept apart from what may be shown.

use std::fmt::{self, Write as _};

use ureq::http::Uri;

use crate::checksum::{Checksum, Sum};

/// Longer ones are mistakes.
const URL_BYTES_MAX: usize = 8 * 1024;

/// Where something is.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// Without name and password.
    pub(super) uri: Uri,
    /// The value of a header that says who asks.
    pub(super) authorization: Option<String>,
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > URL_BYTES_MAX {
            return Err(format!("has {} bytes; {URL_BYTES_MAX} is the most", text.len()));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err("is no URL: it begins with https:// or http://".to_owned());
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => {}
            "file" => return Err("is a file of this machine: the kind 'file' copies it, with source".to_owned()),
            _ => return Err("is neither http nor https; other ways to fetch a file take an exec".to_owned()),
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
        let (who, bare) = match authority.rsplit_once('@') {
            Some((who, host)) => (Some(who), format!("{host}{}", &rest[authority.len()..])),
            None => (None, rest.to_owned()),
        };
        let uri: Uri = format!("{}://{bare}", scheme.to_ascii_lowercase())
            .parse()
            // What is wrong is told without the text: it may hold a password.
            .map_err(|error| format!("is no URL: {error}"))?;
        if uri.host().is_none_or(str::is_empty) {
            return Err("names no host".to_owned());
        }
        let authorization = who.map(|who| {
            let who = if who.contains(':') { decoded(who) } else { [decoded(who), b":".to_vec()].concat() };
            format!("Basic {}", base64(&who))
        });
        Ok(Self { uri, authorization })
    }

    pub(super) fn is_secure(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Tells URLs apart without giving them away.
    pub(super) fn checksum(&self) -> Checksum {
        let mut sum = Sum::default();
        sum.add(self.uri.to_string().as_bytes());
        sum.done()
    }
}

/// Without what may be secret.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(&self.uri, f)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

fn shown(uri: &Uri, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = authority.rsplit('@').next().unwrap_or_default();
    write!(f, "{}://{host}{}", uri.scheme_str().unwrap_or_default(), uri.path())?;
    if uri.query().is_some() { f.write_str("?…") } else { Ok(()) }
}

/// With `%41` as the byte it stands for.
fn decoded(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let byte = after
            .get(..2)
            .filter(|_| first == b'%')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        out.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    out
}

/// For one short header: not worth a crate.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let at = |nth: usize| u32::from(three.get(nth).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let value = usize::try_from(bits >> (18 - 6 * digit) & 63).unwrap_or_default();
            let c = if digit > three.len() { '=' } else { char::from(DIGITS[value]) };
            // Writing to a text does not fail.
            out.write_char(c).ok();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        let url = Url::parse("HTTPS://user:p%40ss@Host.example:8443/a/b?token=secret#part").unwrap();
        assert_eq!(url.to_string(), "https://Host.example:8443/a/b?…");
        assert_eq!(format!("{url:?}"), "Url(https://Host.example:8443/a/b?…)");
        assert_eq!(url.uri.to_string(), "https://Host.example:8443/a/b?token=secret");
        // printf %s 'user:p@ss' | base64
        assert_eq!(url.authorization.as_deref(), Some("Basic dXNlcjpwQHNz"));
        assert_eq!(Url::parse("http://me@h/").unwrap().authorization.as_deref(), Some("Basic bWU6"));
        assert_eq!(Url::parse("http://h/a@b").unwrap().authorization, None);
    }

    #[test]
    fn what_is_no_url_is_refused_with_a_remedy() {
        for (text, said) in [
            ("example.com/x", "begins with https://"),
            ("file:///srv/x", "'file' copies it"),
            ("ftp://h/x", "take an exec"),
            ("http://", "no URL"),
            ("http:///x", "no URL"),
            ("https://user:geheim@/x", "no URL"),
            ("https://h/a b", "no URL"),
        ] {
            let why = Url::parse(text).unwrap_err();
            assert!(why.contains(said) && !why.contains("geheim"), "{text}: {why}");
        }
        assert!(Url::parse(&format!("http://h/{}", "x".repeat(URL_BYTES_MAX))).unwrap_err().contains("is the most"));
    }

    #[test]
    fn bytes_become_digits() {
        for (bytes, digits) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes.as_bytes()), digits);
        }
        assert_eq!(decoded("a%2Fb%zz%"), b"a/b%zz%");
    }
}
