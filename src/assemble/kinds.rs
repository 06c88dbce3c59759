//! Which kinds there are, and what to say of those there are not.

use std::borrow::Cow;

use mgmt_resources::KindInfo;

use crate::diagnostic::{Place, Printable, Problem, nearest};

/// The table of kinds this program has.
#[derive(Clone, Copy)]
pub(super) struct Kinds<'k>(pub(super) &'k [&'static KindInfo]);

/// Kinds that are coming.
const LATER: &[&str] = &[];

/// Kinds of the original that are left out for good, with what to use instead. `x:` covers every kind that begins so.
const LEFT_OUT: [(&str, &str); 30] = [
    ("augeas", "`file` or `line`"),
    ("aws:", ""),
    ("bmc:", ""),
    ("cloudflare:", ""),
    ("config:", ""),
    ("consul:", ""),
    ("deploy:", ""),
    ("dhcp:", ""),
    ("docker:", ""),
    ("firewalld", "`exec`"),
    ("ftp:", ""),
    ("git:", "`exec`"),
    ("graph", ""),
    ("gzip", "`archive`"),
    ("hetzner:", ""),
    ("http:", ""),
    ("modprobe", "`exec`"),
    ("net", "`file` and `svc`"),
    ("nspawn", "`svc` with systemd-nspawn@NAME"),
    ("panic", ""),
    ("password", ""),
    ("pippet", ""),
    ("print", "`msg`"),
    ("schedule", ""),
    ("tar", "`archive`"),
    ("test", "`noop`"),
    ("tftp:", ""),
    ("value", ""),
    ("virt", ""),
    ("virt:", ""),
];

impl Kinds<'_> {
    /// One spelling for each kind: lower case, aliases resolved.
    pub(super) fn canonical(text: &str) -> Cow<'_, str> {
        let lower = if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(text.to_ascii_lowercase())
        } else {
            Cow::Borrowed(text)
        };
        if lower == "service" { Cow::Borrowed("svc") } else { lower }
    }

    /// The kind of this canonical name.
    pub(super) fn get(&self, kind: &str) -> Option<&'static KindInfo> {
        self.0.iter().find(|info| info.name == kind).copied()
    }

    /// What to say of a kind that is not there.
    pub(super) fn unknown(&self, kind: &str, place: Place) -> Problem {
        let shown = Printable(kind);
        let left_out = LEFT_OUT.iter().find(|(name, _)| {
            *name == kind || (name.ends_with(':') && (kind.starts_with(name) || kind == name.trim_end_matches(':')))
        });
        if let Some((_, instead)) = left_out {
            let hint = (!instead.is_empty()).then(|| format!("use {instead}"));
            return Problem::error(place, "", format!("the kind '{shown}' is left out of this program for good"))
                .hint(hint);
        }
        if LATER.contains(&kind) {
            return Problem::error(place, "", format!("the kind '{shown}' is not built yet"));
        }
        let names = || self.0.iter().map(|info| info.name);
        let mut hint = format!("there are: {}", names().collect::<Vec<_>>().join(", "));
        if let Some(near) = nearest(kind, names().chain(LATER.iter().copied())) {
            hint = format!("did you mean '{near}'? {hint}");
        }
        Problem::error(place, "", format!("unknown kind '{shown}'")).hint(hint)
    }
}
