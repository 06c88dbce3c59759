//! What kinds ask of the machine before they choose how to work: its distribution, what runs as the first process, and
//! what installs packages. The one place where that is decided; `mgmt facts` shows the same.
//!
//! Read from files below a root directory. What cannot be found out is absent, and never an error.

use std::fs;
use std::path::{Path, PathBuf};

/// This machine, for kinds that work differently on different ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Machine {
    /// The distribution.
    pub os: Os,
    /// What runs as the first process: `systemd`, `openrc`, or its command's name.
    pub init: Option<String>,
    /// The program that installs packages, guessed by what is there.
    pub package_manager: Option<&'static str>,
}

/// A distribution, from `os-release`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Os {
    /// One word, such as `debian`.
    pub id: Option<String>,
    /// For people.
    pub name: Option<String>,
    /// Such as `13`.
    pub version: Option<String>,
}

/// Package managers by the file that shows them. A distribution's own comes before those that can be added to any.
const PACKAGE_MANAGERS: [(&str, &str); 9] = [
    ("usr/bin/apt-get", "apt"),
    ("usr/bin/dnf", "dnf"),
    ("usr/bin/zypper", "zypper"),
    ("usr/bin/pacman", "pacman"),
    ("sbin/apk", "apk"),
    ("usr/bin/emerge", "portage"),
    ("usr/bin/xbps-install", "xbps"),
    ("usr/bin/yum", "yum"),
    ("nix/store", "nix"),
];

impl Machine {
    /// This one.
    #[must_use]
    pub fn gather() -> Self {
        Self::below(Path::new("/"))
    }

    /// The one whose files are below `root`.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        let reader = Root(root);
        Self { os: reader.os(), init: reader.init(), package_manager: reader.package_manager() }
    }

    /// Whether systemd runs as the first process, by its own test (`sd_booted(3)`).
    #[must_use]
    pub fn has_systemd(&self) -> bool {
        self.init.as_deref() == Some("systemd")
    }

    /// The first process, for people.
    #[must_use]
    pub fn init_shown(&self) -> &str {
        self.init.as_deref().unwrap_or("unknown")
    }
}

/// Files below a directory, which need not be there.
#[derive(Debug, Clone, Copy)]
pub struct Root<'a>(pub &'a Path);

impl Root<'_> {
    /// Where a file is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Whether there is anything of this name.
    #[must_use]
    pub fn exists(&self, name: &str) -> bool {
        // A link to somewhere outside of the root counts: it shows that something has been installed.
        self.path(name).symlink_metadata().is_ok()
    }

    /// A file's text, if it can be read.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        fs::read(self.path(name)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The only line of a file.
    #[must_use]
    pub fn line(&self, name: &str) -> Option<String> {
        self.text(name).map(|text| text.trim().to_owned()).filter(|line| !line.is_empty())
    }

    fn os(&self) -> Os {
        let text = self.text("etc/os-release").or_else(|| self.text("usr/lib/os-release"));
        text.map(|text| os(&text)).unwrap_or_default()
    }

    fn init(&self) -> Option<String> {
        if self.exists("run/systemd/system") {
            return Some("systemd".to_owned());
        }
        if self.exists("run/openrc") {
            return Some("openrc".to_owned());
        }
        self.line("proc/1/comm")
    }

    fn package_manager(&self) -> Option<&'static str> {
        PACKAGE_MANAGERS.iter().find(|(file, _)| self.exists(file)).map(|(_, name)| *name)
    }
}

/// The distribution, from the text of `os-release`.
fn os(text: &str) -> Os {
    let value = |key: &str| {
        let assigned = |line: &str| line.trim().strip_prefix(key)?.strip_prefix('=').map(unquoted);
        // As in a shell, the last one holds.
        text.lines().rev().find_map(assigned).filter(|value| !value.is_empty())
    };
    Os { id: value("ID"), name: value("PRETTY_NAME").or_else(|| value("NAME")), version: value("VERSION_ID") }
}

/// A value of a shell assignment, without its quotes.
fn unquoted(text: &str) -> String {
    let text = text.trim();
    let inner = |quote: char| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    if let Some(text) = inner('\'') {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut escaped = false;
    for c in inner('"').unwrap_or(text).chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            out.push(c);
            escaped = false;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_is_read_as_a_shell_would() {
        let text = "# a comment\nNAME='Arch Linux'\nID=arch\nID_LIKE=x\nBUILD_ID=rolling\n";
        let read = os(text);
        assert_eq!((read.id.as_deref(), read.name.as_deref(), read.version), (Some("arch"), Some("Arch Linux"), None));
        let read = os("ID=a\nID=b\nPRETTY_NAME=\"say \\\"hi\\\"\"\nVERSION_ID=\"\"\n");
        assert_eq!((read.id.as_deref(), read.name.as_deref(), read.version), (Some("b"), Some("say \"hi\""), None));
        assert_eq!(os("\u{0}=\n====\nID"), Os::default());
    }
}
