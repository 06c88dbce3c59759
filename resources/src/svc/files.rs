//! Where a unit's files may stand, and the links that enable it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::name::template;
use crate::systemd::Unit;

/// Of the machine's units, most important first. A distribution may have `/lib` apart from `/usr/lib`.
const SYSTEM: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// Of every user's units, besides those in the user's own directories.
const USER: [&str; 4] =
    ["/etc/systemd/user", "/run/systemd/user", "/usr/local/lib/systemd/user", "/usr/lib/systemd/user"];
/// Links are made in the first so many directories only: the administrator's, and those until the next boot.
const LINKED: usize = 2;
/// A unit file is read for its install section so far.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Links that are watched, at most: an install section names one or two.
const LINKS_MAX: usize = 32;

/// Drop-ins that are told apart, at most.
const DROP_INS_MAX: usize = 256;

/// Paths that stand, each with what changes when it is replaced or written.
pub(super) type Stamps = BTreeMap<PathBuf, (u64, i64, i64)>;

/// The places by the unit's name alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Files {
    /// Where its file may stand; that of its template as well.
    pub(super) entries: Vec<PathBuf>,
    /// Directories of its drop-ins.
    pub(super) drop_ins: Vec<PathBuf>,
    /// Directories in which links enable units.
    linked: Vec<PathBuf>,
    unit: String,
}

impl Files {
    pub(super) fn of(unit: &str, session: bool) -> Self {
        let variable = |name: &str| std::env::var_os(name);
        Self::below(unit, if session { users(variable) } else { SYSTEM.map(PathBuf::from).to_vec() })
    }

    fn below(unit: &str, directories: Vec<PathBuf>) -> Self {
        let names: Vec<String> = std::iter::once(unit.to_owned()).chain(template(unit)).collect();
        let each = |suffix: &str| {
            let paths =
                directories.iter().flat_map(|at| names.iter().map(move |name| at.join(format!("{name}{suffix}"))));
            paths.collect()
        };
        let linked = directories[..LINKED.min(directories.len())].to_vec();
        Self { entries: each(""), drop_ins: each(".d"), linked, unit: unit.to_owned() }
    }

    /// What stands in these places now, so that it can be told from what will.
    pub(super) fn stamps(&self) -> Stamps {
        use std::os::unix::fs::MetadataExt as _;
        let inside = self.drop_ins.iter().filter_map(|at| std::fs::read_dir(at).ok()).flatten();
        let inside = inside.filter_map(|entry| Some(entry.ok()?.path())).take(DROP_INS_MAX);
        let all = self.entries.iter().chain(&self.drop_ins).cloned().chain(inside);
        let stamp = |path: PathBuf| {
            let found = path.symlink_metadata().ok()?;
            Some((path, (found.ino(), found.mtime(), found.mtime_nsec())))
        };
        all.filter_map(stamp).collect()
    }

    /// What else it is read from, and the links that enable it or would: from its own install section.
    pub(super) fn around(&self, unit: &Unit) -> BTreeSet<PathBuf> {
        let mut around = BTreeSet::new();
        let Some(fragment) = &unit.fragment else { return around };
        if !self.entries.contains(fragment) {
            around.insert(fragment.clone());
        }
        let beside = |path: &&PathBuf| !self.drop_ins.iter().any(|directory| path.starts_with(directory));
        around.extend(unit.drop_ins.iter().filter(beside).cloned());
        around.extend(self.links(&read(fragment)));
        around
    }

    fn links(&self, text: &str) -> Vec<PathBuf> {
        let names = install(text);
        let links = self.linked.iter().flat_map(|at| {
            names.iter().map(move |(how, name)| match how {
                How::Alias => at.join(name),
                How::Wanted => at.join(format!("{name}.wants")).join(&self.unit),
                How::Required => at.join(format!("{name}.requires")).join(&self.unit),
            })
        });
        links.take(LINKS_MAX).collect()
    }
}

/// What cannot be read has no links that we could tell: systemd still tells what it changes itself.
fn read(path: &Path) -> String {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let Ok(file) = std::fs::File::open(path) else { return String::new() };
    if !file.metadata().is_ok_and(|found| found.is_file()) || file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).is_err()
    {
        return String::new();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Alias,
    Wanted,
    Required,
}

/// What the `[Install]` section of a unit file names. Names with specifiers (`%i`) are left out.
fn install(text: &str) -> Vec<(How, &str)> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[Install]";
        } else if let Some((key, value)) = line.split_once('=').filter(|_| inside) {
            let how = match key.trim_end() {
                "Alias" => How::Alias,
                "WantedBy" => How::Wanted,
                "RequiredBy" => How::Required,
                _ => continue,
            };
            let plain = |name: &&str| !name.contains(['%', '/', '\\', '"', '\'']);
            names.extend(value.split_whitespace().filter(plain).map(|name| (how, name)));
        }
    }
    names
}

/// Directories of a user's units, most important first.
fn users(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let path = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = path("HOME");
    let below = |name: &str, otherwise: &str| path(name).or_else(|| home.as_ref().map(|home| home.join(otherwise)));
    let own = [
        below("XDG_CONFIG_HOME", ".config").map(|at| at.join("systemd/user")),
        path("XDG_RUNTIME_DIR").map(|at| at.join("systemd/user")),
        below("XDG_DATA_HOME", ".local/share").map(|at| at.join("systemd/user")),
    ];
    own.into_iter().flatten().chain(USER.map(PathBuf::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_read_from_its_template_as_well() {
        let files = Files::below("a@b.service", vec!["/etc".into(), "/lib".into()]);
        let expected = ["/etc/a@b.service", "/etc/a@.service", "/lib/a@b.service", "/lib/a@.service"];
        assert_eq!(files.entries, expected.map(PathBuf::from));
        assert_eq!(files.drop_ins[0], PathBuf::from("/etc/a@b.service.d"));
    }

    #[test]
    fn the_install_section_names_the_links() {
        let text = "[Unit]\nWantedBy=not.target\n[Install]\nAlias=other.service\n# WantedBy=x\n\
                    WantedBy = multi-user.target  a.target\nRequiredBy=b.target %i.target\nAlso=c.socket\n";
        let files = Files::below("u.service", vec!["/etc".into(), "/run".into(), "/lib".into()]);
        let links = files.links(text);
        let expected = [
            "/etc/other.service",
            "/etc/multi-user.target.wants/u.service",
            "/etc/a.target.wants/u.service",
            "/etc/b.target.requires/u.service",
        ];
        assert_eq!(links[..4], expected.map(PathBuf::from));
        assert_eq!(links.len(), 8, "{links:?}");
    }

    #[test]
    fn a_users_own_directories_come_first() {
        let variable = |name: &str| match name {
            "HOME" => Some("/h".into()),
            "XDG_RUNTIME_DIR" => Some("/run/user/7".into()),
            _ => None,
        };
        let directories = users(variable);
        assert_eq!(directories[0], PathBuf::from("/h/.config/systemd/user"));
        assert_eq!(directories[1], PathBuf::from("/run/user/7/systemd/user"));
        assert_eq!(directories.len(), 7);
    }
}
