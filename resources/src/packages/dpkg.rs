//! The database of dpkg: which packages stand, in which version and how well. Reads `status` and, over it, what an
//! interrupted dpkg has left in `updates`. Must not know who changes it, or why.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mgmt_engine::resource::Fault;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::Found;
use super::kept::Kept;
use super::run::{self, Run};

/// A database larger than this is not read: that of a desktop with everything has 10 MiB.
const STATUS_BYTES_MAX: u64 = 256 << 20;
/// dpkg itself never leaves more than a few hundred.
const UPDATES_MAX: usize = 10_000;
/// The list of a package's files that is larger than this is not read.
const LIST_BYTES_MAX: u64 = 16 << 20;
const SAID_BYTES_MAX: usize = 1 << 20;

/// Where it is.
const HERE: &str = "/var/lib/dpkg";
/// A file that the administrator has changed stays, and a new one that nobody has changed is taken.
pub(super) const CONFFILES: [&str; 2] = ["--force-confdef", "--force-confold"];
/// For all tools of its kin: no questions, and words that we know.
pub(super) const ENVIRONMENT: [(&str, &str); 3] =
    [("LC_ALL", "C.UTF-8"), ("DEBIAN_FRONTEND", "noninteractive"), ("APT_LISTCHANGES_FRONTEND", "none")];

/// The database below one root.
#[derive(Debug)]
pub(super) struct Dpkg {
    directory: PathBuf,
    kept: Kept<Database>,
}

/// All packages that have an entry, in every architecture.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Database {
    by_name: BTreeMap<Box<str>, Vec<Entry>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    architecture: Box<str>,
    found: Found,
}

impl Dpkg {
    /// The one in this directory, `/var/lib/dpkg`.
    pub(super) fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), kept: Kept::default() }
    }

    /// This machine's.
    pub(super) fn here() -> Self {
        Self::at(HERE)
    }

    /// Whether packages are kept in it.
    pub(super) fn exists(&self) -> bool {
        self.status().exists()
    }

    /// Lets a dpkg that was interrupted before go on.
    pub(super) async fn go_on(&self) {
        tracing::warn!("dpkg was interrupted before: it goes on now (dpkg --configure -a)");
        let run = Run::new("dpkg", SAID_BYTES_MAX).args(&CONFFILES).args(&["--configure", "-a"]);
        match run::ended(run.env(&ENVIRONMENT)).await {
            Ok(said) if said.status.success() => {}
            Ok(said) => {
                let status = run::shown(said.status);
                tracing::warn!("dpkg --configure -a ended with {status}: {}", said.last_words());
            }
            Err(fault) => tracing::warn!("dpkg --configure -a: {fault}"),
        }
    }

    /// What changes whenever a package does.
    pub(super) fn status(&self) -> PathBuf {
        self.directory.join("status")
    }

    /// As it stands. Cancel safe.
    pub(super) async fn read(&self) -> Result<Arc<Database>, Fault> {
        let directory = self.directory.clone();
        let read = || async move {
            let parsed = tokio::task::spawn_blocking(move || Database::of(&directory)).await;
            parsed.map_err(|error| Fault::new(format!("reading the package database broke: {error}")))?
        };
        self.kept.get(&[self.status(), self.directory.join("updates")], read).await
    }

    /// Whether dpkg was stopped half way, and waits for somebody to let it go on.
    pub(super) fn interrupted(&self) -> bool {
        updates(&self.directory).is_ok_and(|left| !left.is_empty())
    }

    /// Who holds the lock that every tool takes before it changes something: `apt-get (process 12)`.
    pub(super) fn holder(&self) -> Option<String> {
        let lock = fs::OpenOptions::new().read(true).write(true).open(self.directory.join("lock-frontend")).ok()?;
        let held = fcntl_getlk(&lock, &Flock::from(FlockType::WriteLock)).ok()??;
        let pid = held.pid?.as_raw_nonzero();
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(format!("{} (process {pid})", if name.is_empty() { "somebody" } else { name.trim() }))
    }

    /// Whether somebody has had dpkg put this file elsewhere.
    pub(super) fn is_diverted(&self, path: &Path) -> bool {
        let diversions = text(&self.directory.join("diversions"), LIST_BYTES_MAX).ok().flatten().unwrap_or_default();
        diversions.lines().any(|line| Path::new(line) == path)
    }

    /// The files and directories that an installed package brought; none if it is not installed.
    pub(super) fn ships(&self, package: &str) -> Vec<Box<Path>> {
        let info = self.directory.join("info");
        let (name, architecture) = split(package);
        // Packages that may stand in several architectures at once have theirs in the name.
        let of = |architecture: &str| info.join(format!("{name}:{architecture}.list"));
        let named = architecture.into_iter().map(of);
        let usual = [info.join(format!("{name}.list")), of(native())];
        let Some(text) = named.chain(usual).find_map(|path| text(&path, LIST_BYTES_MAX).ok().flatten()) else {
            return Vec::new();
        };
        text.lines().filter(|line| line.starts_with('/') && *line != "/.").map(|line| Path::new(line).into()).collect()
    }
}

/// `libc6:i386` is `libc6` of another architecture.
pub(super) fn split(package: &str) -> (&str, Option<&str>) {
    match package.split_once(':') {
        Some((name, architecture)) => (name, Some(architecture)),
        None => (package, None),
    }
}

/// What dpkg calls the architecture that this program was built for.
fn native() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "i386",
        "aarch64" => "arm64",
        "arm" => "armhf",
        "powerpc64" => "ppc64el",
        other => other,
    }
}

/// A file's text; `None` if there is no such file.
fn text(path: &Path, bytes_max: u64) -> Result<Option<String>, Fault> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fault::path("read", path, error)),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| Fault::path("read", path, error))?;
    if bytes.len() as u64 > bytes_max {
        return Err(Fault::path("read", path, format!("it has more than {bytes_max} bytes")));
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// What dpkg has not written into `status` yet, in order.
fn updates(directory: &Path) -> Result<Vec<PathBuf>, Fault> {
    let directory = directory.join("updates");
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Fault::path("read", &directory, error)),
    };
    // Only those with a number for a name are whole.
    let number =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
    let mut found: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(number).take(UPDATES_MAX).collect();
    found.sort();
    Ok(found)
}

impl Database {
    fn of(directory: &Path) -> Result<Self, Fault> {
        let mut database = Self::default();
        // First: an update that goes meanwhile is in the status read after it.
        let updates =
            updates(directory)?.iter().map(|path| text(path, STATUS_BYTES_MAX)).collect::<Result<Vec<_>, _>>()?;
        database.take(&text(&directory.join("status"), STATUS_BYTES_MAX)?.unwrap_or_default());
        updates.iter().flatten().for_each(|update| database.take(update));
        Ok(database)
    }

    /// Stanzas, later ones over earlier ones. Those that make no sense are skipped.
    fn take(&mut self, text: &str) {
        let mut stanza = Stanza::default();
        for line in text.lines() {
            if line.is_empty() {
                self.put(std::mem::take(&mut stanza));
            } else if let Some((key, value)) = line.split_once(':').filter(|_| !line.starts_with([' ', '\t'])) {
                let value = value.trim();
                match key {
                    "Package" => stanza.package = value,
                    "Status" => stanza.status = value,
                    "Version" => stanza.version = value,
                    "Architecture" => stanza.architecture = value,
                    _ => {}
                }
            }
        }
        self.put(stanza);
    }

    fn put(&mut self, stanza: Stanza<'_>) {
        if stanza.package.is_empty() {
            return;
        }
        let entry = Entry { architecture: stanza.architecture.into(), found: found(stanza.status, stanza.version) };
        match self.by_name.get_mut(stanza.package) {
            None => drop(self.by_name.insert(stanza.package.into(), vec![entry])),
            Some(known) => match known.iter_mut().find(|known| known.architecture == entry.architecture) {
                Some(same) => *same = entry,
                None => known.push(entry),
            },
        }
    }

    /// What stands of one package, named with or without its architecture.
    pub(super) fn get(&self, package: &str) -> Found {
        let (name, architecture) = split(package);
        let entries = self.by_name.get(name).map(Vec::as_slice).unwrap_or_default();
        let wanted = architecture.unwrap_or_else(|| self.native());
        let exact = entries.iter().find(|entry| *entry.architecture == *wanted);
        // One for all architectures is at home in each.
        let all = || entries.iter().find(|entry| &*entry.architecture == "all");
        exact.or_else(all).map(|entry| entry.found.clone()).unwrap_or_default()
    }

    /// The architecture that is meant without a word: that of dpkg itself.
    fn native(&self) -> &str {
        let dpkg = self.by_name.get("dpkg").and_then(|entries| entries.first());
        dpkg.map_or(native(), |entry| &*entry.architecture)
    }
}

#[derive(Default)]
struct Stanza<'t> {
    package: &'t str,
    status: &'t str,
    version: &'t str,
    architecture: &'t str,
}

/// What `install ok installed` and a version mean.
fn found(status: &str, version: &str) -> Found {
    let mut words = status.split(' ');
    let (want, flag, state) = (words.next().unwrap_or(""), words.next().unwrap_or(""), words.next().unwrap_or(""));
    let held = want == "hold";
    let broken = match state {
        "config-files" | "not-installed" | "" => return Found { held, ..Found::default() },
        // A trigger of another package's is not its own fault, and whoever raised it is not done yet.
        "installed" | "triggers-awaited" | "triggers-pending" => (flag == "reinstreq").then(|| "half-installed".into()),
        other => Some(other.into()),
    };
    Found { version: Some(version.into()), broken, gone: None, held }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "\
Package: dpkg
Status: install ok installed
Architecture: amd64
Version: 1.21.22
Conffiles:
 /etc/x 89269e1298235f1b12b4c16e4065ad0d
Description: tools
 Package: not a package

Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Version: 2.36-9

Package: libc6
Status: install ok half-configured
Architecture: i386
Version: 2.36-8

Package: tzdata
Status: hold ok installed
Architecture: all
Version: 2024a-0

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1

Package: torn
Status: install reinstreq half-installed
Architecture: all
Version: 3
";

    fn shown(found: &Found) -> String {
        format!("{:?} {:?} {}", found.version.as_deref(), found.broken.as_deref(), found.held)
    }

    #[test]
    fn entries_are_found_by_name_and_architecture() {
        let mut database = Database::default();
        database.take(STATUS);
        let get = |name: &str| shown(&database.get(name));
        assert_eq!(get("libc6"), r#"Some("2.36-9") None false"#);
        assert_eq!(get("libc6:i386"), r#"Some("2.36-8") Some("half-configured") false"#);
        assert_eq!(get("libc6:arm64"), "None None false");
        assert_eq!(get("tzdata"), r#"Some("2024a-0") None true"#);
        assert_eq!(get("tzdata:amd64"), r#"Some("2024a-0") None true"#);
        assert_eq!(get("gone"), "None None false");
        assert_eq!(get("torn"), r#"Some("3") Some("half-installed") false"#);
        assert_eq!(get("not a package"), "None None false");
        let mut broken = Database::default();
        broken.take("Status: install ok installed\n\n:\n\u{0}\nPackage:\nVersion: 1\n\nPackage: a");
        assert_eq!(shown(&broken.get("a:")), "None None false");
    }

    #[tokio::test]
    async fn what_an_interrupted_dpkg_left_counts() {
        let directory = tempfile::tempdir().unwrap();
        let dpkg = Dpkg::at(directory.path());
        assert_eq!(dpkg.read().await.unwrap().get("a"), Found::default());
        fs::create_dir(directory.path().join("updates")).unwrap();
        fs::write(dpkg.status(), STATUS).unwrap();
        assert!(!dpkg.interrupted());
        let update = |number: &str, state: &str| {
            let text = format!("Package: tzdata\nStatus: install ok {state}\nArchitecture: all\nVersion: 2\n");
            fs::write(directory.path().join("updates").join(number), text).unwrap();
        };
        update("0002", "unpacked");
        update("0001", "half-installed");
        update("tmp.i", "installed");
        assert!(dpkg.interrupted());
        assert_eq!(shown(&dpkg.read().await.unwrap().get("tzdata")), r#"Some("2") Some("unpacked") false"#);
    }

    #[test]
    fn files_of_a_package_are_listed() {
        let directory = tempfile::tempdir().unwrap();
        let dpkg = Dpkg::at(directory.path());
        let info = directory.path().join("info");
        fs::create_dir(&info).unwrap();
        fs::write(info.join("a.list"), "/.\n/usr\n/usr/a\n").unwrap();
        fs::write(info.join("b:i386.list"), "/.\n/b\n").unwrap();
        let paths = |name: &str| dpkg.ships(name).iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!(paths("a"), ["/usr", "/usr/a"]);
        assert_eq!(paths("b:i386"), ["/b"]);
        assert!(paths("c").is_empty());
    }
}
