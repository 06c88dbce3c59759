//! Units of systemd that a package has brought and that are there no more.
//!
//! Whoever deletes a unit's file takes a service away, and no database of packages says so. The files that a package may
//! leave are many, and most of them nobody misses; of units there are a few, and somebody relies on each.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Where packages put units. The second is the first where `/lib` is a link.
pub(super) const DIRECTORIES: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];

/// What each package has brought, by its name; kept for one version of it.
#[derive(Debug, Default)]
pub(super) struct Units(Mutex<BTreeMap<String, Brought>>);

#[derive(Debug, Clone)]
struct Brought {
    version: String,
    units: Arc<[Box<Path>]>,
}

impl Units {
    /// The first unit of this package that is missing. `ships` lists its files, if they have to be looked up.
    pub(super) fn missing(
        &self,
        name: &str,
        version: &str,
        ships: impl FnOnce() -> Vec<Box<Path>>,
        is_diverted: impl Fn(&Path) -> bool,
    ) -> Option<PathBuf> {
        let known = self.known(name, version);
        let units = known.unwrap_or_else(|| self.learn(name, version, ships()));
        let missing = |unit: &&Path| fs::symlink_metadata(unit).is_err_and(|error| is_absence(&error));
        units.iter().map(|unit| &**unit).find(missing).filter(|unit| !is_diverted(unit)).map(Path::to_path_buf)
    }

    fn known(&self, name: &str, version: &str) -> Option<Arc<[Box<Path>]>> {
        let brought = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        brought.get(name).filter(|brought| brought.version == version).map(|brought| Arc::clone(&brought.units))
    }

    fn learn(&self, name: &str, version: &str, ships: Vec<Box<Path>>) -> Arc<[Box<Path>]> {
        // A package that is about to be installed has no list yet, which says nothing of the one it will have.
        let whole = !ships.is_empty();
        let units: Arc<[Box<Path>]> = ships.into_iter().filter(|path| is_unit(path)).collect();
        if whole {
            let brought = Brought { version: version.to_owned(), units: Arc::clone(&units) };
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), brought);
        }
        units
    }
}

/// A file right inside one of the directories. What is in a directory below is a drop-in or a link, and may be meant.
fn is_unit(path: &Path) -> bool {
    let inside = path.parent().is_some_and(|parent| DIRECTORIES.iter().any(|directory| parent == Path::new(directory)));
    let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
    inside && matches!(suffix, "service" | "socket" | "timer" | "path" | "mount" | "automount" | "target" | "slice")
}

fn is_absence(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_units_themselves_are_missed() {
        for (path, expected) in [
            ("/usr/lib/systemd/system/a.service", true),
            ("/lib/systemd/system/a@.socket", true),
            ("/lib/systemd/system/a.service.d/b.conf", false),
            ("/lib/systemd/system/multi-user.target.wants/a.service", false),
            ("/lib/systemd/system/a.service.d", false),
            ("/etc/systemd/system/a.service", false),
        ] {
            assert_eq!(is_unit(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn what_is_gone_is_named_and_lists_are_read_once_for_a_version() {
        let units = Units::default();
        let gone: Box<Path> = Path::new("/lib/systemd/system/no-such-unit.service").into();
        let ships = || vec![Path::new("/bin").into(), gone.clone()];
        let missing = |version: &str, ships: Vec<Box<Path>>| units.missing("a", version, || ships, |_| false);
        assert_eq!(missing("1", Vec::new()), None, "no list is no knowledge");
        assert_eq!(missing("1", ships()), Some(gone.to_path_buf()));
        assert_eq!(missing("1", Vec::new()), Some(gone.to_path_buf()), "it is remembered");
        assert_eq!(missing("2", vec![Path::new("/bin").into()]), None);
        assert_eq!(units.missing("b", "1", ships, |path| path == &*gone), None, "it was diverted");
    }
}
