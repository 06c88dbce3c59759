//! What packages bring: which of a graph's packages ships a path, a directory above it, or a unit.
//!
//! A package that is installed has a list of its files. Of one that is not, nothing is known but its name, and what
//! packages of a name usually ship: that counts for all of them, so that a graph has these edges on every run.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::ffi::OsStrExt as _;

use mgmt_resources::kind::{Anchor, Facets, Shipped};

use super::ancestors;

/// Directories of the file system hierarchy standard and of systemd, which many packages ship: to be below one of them
/// says nothing. Without `/usr` where there is a directory of the same name beside it. Sorted.
const SHARED: [&str; 50] = [
    "/",
    "/bin",
    "/boot",
    "/etc",
    "/etc/apt",
    "/etc/apt/apt.conf.d",
    "/etc/bash_completion.d",
    "/etc/cron.d",
    "/etc/cron.daily",
    "/etc/default",
    "/etc/init.d",
    "/etc/logrotate.d",
    "/etc/modprobe.d",
    "/etc/pam.d",
    "/etc/profile.d",
    "/etc/security",
    "/etc/skel",
    "/etc/ssl",
    "/etc/sudoers.d",
    "/etc/sysctl.d",
    "/etc/systemd",
    "/etc/systemd/system",
    "/etc/systemd/user",
    "/etc/tmpfiles.d",
    "/etc/udev",
    "/etc/udev/rules.d",
    "/home",
    "/lib",
    "/lib/systemd",
    "/lib/systemd/system",
    "/lib/systemd/user",
    "/lib/tmpfiles.d",
    "/lib64",
    "/mnt",
    "/opt",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/tmp",
    "/usr",
    "/usr/local",
    "/usr/share",
    "/usr/share/doc",
    "/usr/share/man",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/spool",
];

/// What a package called `*` usually ships.
const USUAL: [&str; 20] = [
    "/bin/*",
    "/sbin/*",
    "/lib/systemd/system/*.service",
    "/lib/systemd/system/*@.service",
    "/lib/systemd/system/*.socket",
    "/lib/systemd/system/*.timer",
    "/lib/*",
    "/etc/*",
    "/etc/*.conf",
    "/etc/*.d",
    "/etc/default/*",
    "/etc/init.d/*",
    "/etc/logrotate.d/*",
    "/etc/cron.d/*",
    "/opt/*",
    "/usr/share/*",
    "/var/cache/*",
    "/var/lib/*",
    "/var/log/*",
    "/var/spool/*",
];

/// Which packages ship what somebody wants; what nobody wants is not kept.
pub(super) struct Shipments(HashMap<Vec<u8>, Vec<usize>>);

impl Shipments {
    /// Goes through the lists of all packages, once.
    pub(super) fn of(taking_part: &[(usize, &Facets)]) -> Self {
        let packages = || taking_part.iter().filter_map(|(number, facets)| Some((*number, facets.ships.as_ref()?)));
        let mut wanted: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        if packages().next().is_none() {
            return Self(wanted);
        }
        for anchor in taking_part.iter().flat_map(|(_, facets)| &facets.wants) {
            each_place(anchor, |place| {
                if !wanted.contains_key(place) {
                    wanted.insert(place.to_owned(), Vec::new());
                }
                None::<()>
            });
        }
        for (number, Shipped { name, paths }) in packages() {
            let mut ships = |path: &[u8]| {
                if let Some(found) = wanted.get_mut(beside_usr(path))
                    && found.last() != Some(&number)
                {
                    found.push(number);
                }
            };
            // An architecture is no part of a file's name.
            let plain = name.split(':').next().unwrap_or(name);
            USUAL.iter().for_each(|place| ships(place.replace('*', plain).as_bytes()));
            paths.iter().for_each(|path| ships(path.as_os_str().as_bytes()));
        }
        wanted.retain(|_, found| !found.is_empty());
        Self(wanted)
    }

    /// Adds the packages that ship what an anchor stands for, or the nearest directory above it.
    pub(super) fn of_anchor(&self, anchor: &Anchor, packages: &mut Vec<usize>) {
        if self.0.is_empty() {
            return;
        }
        if let Some(found) = each_place(anchor, |place| self.0.get(place)) {
            packages.extend(found);
        }
    }
}

/// Calls `look` with each place that answers an anchor, the best first, until it finds something.
fn each_place<T>(anchor: &Anchor, mut look: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
    match anchor {
        Anchor::Parent(path) | Anchor::Shipped(path) => {
            let path = path.as_os_str().as_bytes();
            std::iter::once(path).chain(ancestors(path)).map(beside_usr).take_while(|at| !is_shared(at)).find_map(look)
        }
        Anchor::Unit(name) => units(name).iter().find_map(|place| look(place.as_bytes())),
        _ => None,
    }
}

/// Where a package has a unit: its file, the template it is made from, or an old script.
fn units(name: &str) -> BTreeSet<String> {
    let mut places = BTreeSet::from([format!("/lib/systemd/system/{name}")]);
    if let Some((stem, suffix)) = name.rsplit_once('.') {
        places.insert(format!("/etc/init.d/{stem}"));
        if let Some((template, _)) = stem.split_once('@') {
            places.insert(format!("/lib/systemd/system/{template}@.{suffix}"));
        }
    }
    places
}

/// One spelling for paths that are the same file since `/bin`, `/sbin` and `/lib` are links.
fn beside_usr(path: &[u8]) -> &[u8] {
    let Some(rest) = path.strip_prefix(b"/usr") else { return path };
    let merged = |name: &[u8]| rest.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
    if [&b"/bin"[..], b"/sbin", b"/lib", b"/lib64"].into_iter().any(merged) { rest } else { path }
}

fn is_shared(path: &[u8]) -> bool {
    SHARED.binary_search_by(|shared| shared.as_bytes().cmp(path)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn package(name: &str, paths: &[&str]) -> Facets {
        let paths = paths.iter().map(|path| Path::new(path).into()).collect();
        Facets { ships: Some(Shipped { name: name.to_owned(), paths }), ..Facets::default() }
    }

    /// Which packages come before what wants these.
    fn before(packages: &[Facets], anchor: Anchor) -> Vec<usize> {
        let wants = Facets { wants: vec![anchor.clone()], ..Facets::default() };
        let all: Vec<(usize, &Facets)> = packages.iter().chain([&wants]).enumerate().collect();
        let mut found = Vec::new();
        Shipments::of(&all).of_anchor(&anchor, &mut found);
        found
    }

    #[test]
    fn the_table_of_shared_directories_can_be_searched() {
        assert!(SHARED.is_sorted());
        assert!(is_shared(beside_usr(b"/usr/bin")) && is_shared(b"/") && !is_shared(b"/etc/nginx"));
    }

    #[test]
    fn a_file_waits_for_the_package_that_ships_it_or_the_nearest_directory() {
        let list =
            ["/.", "/etc", "/etc/web", "/etc/web/sites", "/usr/lib/web/run", "/lib/systemd/system/httpd.service"];
        let packages = [package("server", &list), package("base", &["/etc", "/etc/web"])];
        let path = |path: &str| Anchor::Parent(path.into());
        assert_eq!(before(&packages, path("/etc/web/sites/a")), [0]);
        assert_eq!(before(&packages, path("/etc/web/a")), [0, 1]);
        assert_eq!(before(&packages, path("/etc/a")), [0; 0]);
        assert_eq!(before(&packages, path("/lib/web/run")), [0]);
        assert_eq!(before(&packages, Anchor::Shipped("/usr/lib/web/run".into())), [0]);
        assert_eq!(before(&packages, Anchor::Unit("httpd.service".into())), [0]);
        assert_eq!(before(&packages, Anchor::Unit("other.service".into())), [0; 0]);
    }

    #[test]
    fn what_is_not_installed_is_known_by_its_name() {
        let packages = [package("web:i386", &[]), package("other", &[])];
        assert_eq!(before(&packages, Anchor::Unit("web.service".into())), [0]);
        assert_eq!(before(&packages, Anchor::Unit("web@one.service".into())), [0]);
        for path in ["/etc/web/web.conf", "/etc/web.conf", "/etc/default/web", "/usr/sbin/web", "/var/lib/web/a/b"] {
            assert_eq!(before(&packages, Anchor::Shipped(path.into())), [0], "{path}");
        }
        assert_eq!(before(&packages, Anchor::Shipped("/etc/webs".into())), [0; 0]);
    }

    #[test]
    fn the_root_and_what_all_share_belong_to_nobody() {
        let packages = [package("all", &["/", "/usr", "/usr/share", "/etc/default"])];
        for path in ["/", "/usr/x", "/usr/share/y", "/etc/default/z"] {
            assert_eq!(before(&packages, Anchor::Parent(path.into())), [0; 0], "{path}");
        }
    }
}
