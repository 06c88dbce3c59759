//! `dnf` and rpm: what Fedora and its kin have.
//!
//! Asks nothing of anybody, waits for dnf's own lock as dnf does, and is never ended half way. Versions are whole, as rpm
//! names them: `1.2-3`, or `1:1.2-3` with an epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mgmt_engine::resource::Fault;
use tokio::sync::OnceCell;

use super::asked::Asked;
use super::dpkg::split;
use super::kept::{Kept, Stamp};
use super::run::{self, Run, ended, shown};
use super::transaction::{Change, Member};
use super::trouble::{Trouble, joined};
use super::{Found, Offer, Offers, Wanted, Watched};
use crate::tools::{self, Said, Tool};

/// Where lists of the sources are kept, in a form that changes only when they do.
const LISTS: &str = "/var/cache/dnf";
/// Databases of rpm's formats, of which a machine has one.
const DATABASES: [&str; 5] = ["rpmdb.sqlite", "rpmdb.sqlite-wal", "Packages.db", "Packages", "Index.db"];
/// With slow mirrors, lists take minutes.
const LOOK_WITHIN: Duration = Duration::from_secs(600);
const SAID_BYTES_MAX: usize = 8 << 20;
/// Name, version and architecture, as both tools print them for us.
const RPM_LINE: &str = "%{NAME}\\t%{EPOCHNUM}:%{VERSION}-%{RELEASE}\\t%{ARCH}\\n";
const DNF_LINE: &str = "%{name}\\t%{epoch}:%{version}-%{release}\\t%{arch}";

/// What has nothing to do with any one package: part of a line, and what to tell besides.
const WHOLE: [(&str, &str); 7] = [
    ("No space left on device", "the disk is full"),
    ("more space needed", "the disk is full"),
    ("Could not resolve host", "no network"),
    ("Couldn't connect to server", "no network"),
    ("superuser privileges", "needs root"),
    ("Read-only file system", "the file system is read-only"),
    ("rpmdb", "the package database is damaged"),
];

/// The tools, and what was learned by them.
#[derive(Debug, Default)]
pub(super) struct Dnf {
    directory: OnceCell<PathBuf>,
    installed: Kept<Packages>,
    /// Names that somebody waits to know about.
    curious: Mutex<BTreeSet<String>>,
    known: tokio::sync::Mutex<Known>,
    asked: Asked,
}

/// What can be had, of those that somebody has asked for.
#[derive(Debug, Default)]
struct Known {
    of: Stamp,
    offers: BTreeMap<String, Option<Offer>>,
}

/// Versions and architectures by name.
type Packages = BTreeMap<String, Vec<(String, String)>>;

impl Dnf {
    /// Where the database of rpm is: another place in each distribution.
    async fn directory(&self) -> Result<&Path, Fault> {
        let ask = || async {
            if !tools::has("dnf") {
                return Err(Fault::new("this machine has no dnf, so provider dnf cannot be used"));
            }
            let said = Tool::new("rpm").args(["--eval", "%{_dbpath}"]).done().await?;
            Ok(PathBuf::from(said.out.trim()))
        };
        self.directory.get_or_try_init(ask).await.map(PathBuf::as_path)
    }

    /// Without asking anybody: nothing may be run here.
    pub(super) fn watched(&self, newest: bool) -> Vec<Watched> {
        if newest {
            return vec![Watched::Tree(LISTS.into())];
        }
        // Where it is has not been asked yet when the first one watches.
        let home = Path::new("/root").join(".rpmdb");
        let usual = ["/var/lib/rpm", "/usr/lib/sysimage/rpm"].map(PathBuf::from).into_iter().chain([home]);
        let known = self.directory.get().cloned().into_iter();
        let places: BTreeSet<_> = known.chain(usual).collect();
        places.iter().flat_map(|place| DATABASES.map(|name| Watched::Path(place.join(name)))).collect()
    }

    async fn installed(&self) -> Result<std::sync::Arc<Packages>, Fault> {
        let directory = self.directory().await?;
        let paths = DATABASES.map(|name| directory.join(name));
        let read = || async {
            let tool = Tool::new("rpm").args(["-qa", "--qf", RPM_LINE]).env("LC_ALL", "C.UTF-8");
            Ok(packages(&tool.within(LOOK_WITHIN).said_bytes_max(64 << 20).done().await?.out))
        };
        self.installed.get(&paths, read).await
    }

    pub(super) async fn found(&self, names: &[&str]) -> Result<BTreeMap<String, Found>, Fault> {
        let installed = self.installed().await?;
        let found = |name: &str| Found { version: version_of(&installed, name), ..Found::default() };
        Ok(names.iter().map(|name| ((*name).to_owned(), found(name))).collect())
    }

    /// Two runs of `dnf repoquery` for all who ask at once: what there is, and what of it is newer than what stands.
    pub(super) async fn offers(&self, names: &[&str]) -> Result<Offers, Fault> {
        let curious = || self.curious.lock().unwrap_or_else(PoisonError::into_inner);
        curious().extend(names.iter().map(|name| (*name).to_owned()));
        let mut known = self.known.lock().await;
        let directory = self.directory().await?;
        let stamp =
            Stamp::of(&DATABASES.map(|name| directory.join(name)).into_iter().chain(lists()).collect::<Vec<_>>());
        if known.of != stamp {
            *known = Known { of: stamp, ..Known::default() };
        }
        if names.iter().any(|name| !known.offers.contains_key(*name)) {
            let mut asked = std::mem::take(&mut *curious());
            asked.extend(names.iter().map(|name| (*name).to_owned()));
            let plain: BTreeSet<_> = asked.iter().map(|name| split(name).0).collect();
            let query = |more: &[&'static str]| {
                let tool = Tool::new("dnf").args(["-q", "repoquery", "--latest-limit=1", "--qf", DNF_LINE]).args(more);
                tool.args(&plain).env("LC_ALL", "C.UTF-8").within(LOOK_WITHIN).said_bytes_max(SAID_BYTES_MAX).done()
            };
            let (there, newer) = (query(&[]).await?, query(&["--upgrades"]).await?);
            let (there, newer, installed) = (packages(&there.out), packages(&newer.out), self.installed().await?);
            known.offers.extend(asked.into_iter().map(|name| {
                let versions = [&newer, &installed, &there].map(|packages| version_of(packages, &name));
                let newest = versions.into_iter().flatten().next();
                (
                    name,
                    newest.map(|newest| Offer { versions: vec![newest.clone()], newest: Some(newest), partial: true }),
                )
            }));
        }
        let offer = |name: &&str| Some(((*name).to_owned(), known.offers.get(*name)?.clone()?));
        Ok(names.iter().filter_map(offer).collect())
    }

    pub(super) async fn ask_sources(&self) -> Option<String> {
        if let Some(trouble) = self.asked.recently() {
            return trouble;
        }
        tracing::info!("asks the sources of packages what they have: dnf makecache");
        let trouble = match ended(Self::tool(&["--refresh", "makecache"])).await {
            Err(fault) => Some(fault.to_string()),
            Ok(said) => unfetched(&said),
        };
        self.asked.now(trouble)
    }

    /// One transaction; those that stand and shall be newer need another word than those that do not.
    pub(super) async fn carry_out(&self, change: Change, members: &[Member]) -> Result<(), Trouble> {
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        let found = self.found(&names).await.map_err(|fault| Trouble::whole(fault.to_string()))?;
        let newer = |member: &&Member| {
            member.wanted == Wanted::Newest && found.get(&member.name).is_some_and(|found| found.version.is_some())
        };
        let (newer, others): (Vec<_>, Vec<_>) = members.iter().partition(newer);
        let word = if change == Change::Remove { "remove" } else { "install" };
        let mut trouble = Trouble::default();
        for (word, members) in [("upgrade", newer), (word, others)] {
            if !members.is_empty()
                && let Err(met) = self.run(word, &members).await
            {
                trouble.whole |= met.whole;
                trouble.about.extend(met.about);
                trouble.words = joined([trouble.words.as_str(), met.words.as_str()]);
            }
        }
        if trouble == Trouble::default() { Ok(()) } else { Err(trouble) }
    }

    async fn run(&self, word: &str, members: &[&Member]) -> Result<(), Trouble> {
        let specs: BTreeMap<String, &str> = members.iter().map(|member| (spec(member), member.name.as_str())).collect();
        let mut run = Self::tool(&[word]);
        if word == "remove" {
            // What it needed is nobody's wish to lose.
            run = run.args(&["--noautoremove"]);
        }
        let run = run.args(&["--"]).args(&specs.keys().collect::<Vec<_>>());
        let mut again = true;
        loop {
            let said = ended(run.clone()).await.map_err(|fault| Trouble::whole(fault.to_string()))?;
            if said.status.success() {
                return Ok(());
            }
            let status = shown(said.status);
            if status.starts_with("signal") && std::mem::take(&mut again) {
                tracing::warn!("dnf was killed ({status}): tries once more");
                continue;
            }
            return Err(trouble(&said, &status, &specs));
        }
    }

    fn tool(arguments: &[&str]) -> Run {
        run::Run::new("dnf", SAID_BYTES_MAX)
            .env(&[("LC_ALL", "C.UTF-8")])
            .args(&["-y", "--color=never"])
            .args(arguments)
    }
}

/// The lists of the sources, as they stand.
fn lists() -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(LISTS).map(|entries| entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>());
    let mut lists = entries.unwrap_or_default();
    lists.retain(|path| path.extension().is_some_and(|extension| extension == "solv"));
    lists.extend(["/etc/yum.repos.d", "/etc/dnf/dnf.conf"].map(PathBuf::from));
    lists.sort();
    lists
}

/// How dnf is told of a package: `NAME-VERSION.ARCHITECTURE`.
fn spec(member: &Member) -> String {
    let (name, architecture) = split(&member.name);
    let version = match &member.wanted {
        Wanted::Version(version) => format!("-{version}"),
        _ => String::new(),
    };
    format!("{name}{version}{}", architecture.map(|architecture| format!(".{architecture}")).unwrap_or_default())
}

/// Lines of name, version and architecture.
fn packages(text: &str) -> Packages {
    let mut packages = Packages::new();
    for line in text.lines() {
        let mut parts = line.split('\t');
        let (Some(name), Some(version), Some(architecture)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let version = version.strip_prefix("0:").unwrap_or(version).to_owned();
        packages.entry(name.to_owned()).or_default().push((version, architecture.to_owned()));
    }
    packages
}

/// The version of a package, of this machine's architecture unless it is called with another. Of several that stand side by
/// side, as kernels do, the last installed.
fn version_of(packages: &Packages, called: &str) -> Option<String> {
    let (name, architecture) = split(called);
    let versions = packages.get(name)?;
    let wanted = architecture.unwrap_or(std::env::consts::ARCH);
    let exact = versions.iter().rev().find(|(_, architecture)| architecture == wanted || architecture == "noarch");
    exact.or_else(|| versions.last().filter(|_| architecture.is_none())).map(|(version, _)| version.clone())
}

/// What could not be asked, if anything: dnf ends well without a source that is gone.
fn unfetched(said: &Said) -> Option<String> {
    let words = joined(said.err.lines().filter(|line| line.starts_with("Error: ")).map(bare));
    if words.is_empty() && !said.status.success() {
        Some(said.last_words())
    } else {
        Some(words).filter(|w| !w.is_empty())
    }
}

fn bare(line: &str) -> &str {
    line.trim_start_matches("Error: ").trim().trim_start_matches("- ")
}

/// Why dnf has failed.
fn trouble(said: &Said, status: &str, specs: &BTreeMap<String, &str>) -> Trouble {
    let lines = || said.err.lines().chain(said.out.lines());
    let mut about = BTreeMap::new();
    for line in lines().map(str::trim) {
        let culprit = if let Some(spec) = line.strip_prefix("No match for argument: ") {
            specs.get(spec.trim()).copied()
        } else {
            let after = ["needed by ", "package ", "scriptlet in rpm package "].into_iter();
            let words = after.filter(|_| line.contains("nothing provides") || line.contains("scriptlet"));
            let named = words.filter_map(|word| line.rsplit_once(word)?.1.split([' ', ',']).next());
            named.filter_map(|named| specs.values().find(|name| is_of(named, name)).copied()).next()
        };
        if let Some(culprit) = culprit {
            about.entry(culprit.to_owned()).or_insert_with(|| joined([bare(line)]));
        }
    }
    let hint = WHOLE.iter().find(|(part, _)| lines().any(|line| line.contains(part)));
    let noise = ["(try to add", "Unable to detect release version", "Last metadata expiration"];
    let told = said.err.lines().filter(|line| !noise.iter().any(|noise| line.starts_with(noise)));
    let told = joined(told.map(bare));
    let words = match hint {
        Some((_, hint)) => format!("{hint}: {told}"),
        None if told.is_empty() => format!("dnf ended with {status}"),
        None => told,
    };
    Trouble { whole: hint.is_some() || status.starts_with("signal"), words, about }
}

/// Whether `NAME-VERSION-RELEASE.ARCHITECTURE` is of this package.
fn is_of(named: &str, package: &str) -> bool {
    let name = named.rsplitn(3, '-').nth(2).unwrap_or(named);
    name == split(package).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    #[test]
    fn versions_are_found_by_name_and_architecture() {
        let text =
            "a\t0:1.0-1\tnoarch\nglibc\t0:2.39-1\ti686\nglibc\t0:2.38-1\tx86_64\nvim\t2:9.1-1\taarch64\nbroken\n";
        let all = packages(text);
        assert_eq!(version_of(&all, "a").as_deref(), Some("1.0-1"));
        assert_eq!(version_of(&all, "a:i686").as_deref(), Some("1.0-1"));
        assert_eq!(version_of(&all, "glibc:i686").as_deref(), Some("2.39-1"));
        assert_eq!(version_of(&all, "glibc:aarch64"), None);
        assert_eq!(version_of(&all, "vim").as_deref(), Some("2:9.1-1"), "better than to say that there is none");
        assert_eq!(version_of(&all, "none"), None);
    }

    #[test]
    fn packages_are_called_as_dnf_has_it() {
        let spec = |name: &str, wanted| spec(&Member { name: name.to_owned(), wanted });
        assert_eq!(spec("a", Wanted::Newest), "a");
        assert_eq!(spec("a:i686", Wanted::Version("1.0-1".into())), "a-1.0-1.i686");
    }

    #[test]
    fn troubles_are_told_of_whom_they_are_about() {
        let specs: BTreeMap<String, &str> = [("torn".to_owned(), "torn"), ("nosuch-9".to_owned(), "nosuch")].into();
        let told = |err: &str| {
            let said = Said { status: ExitStatus::from_raw(1 << 8), out: String::new(), err: err.to_owned() };
            trouble(&said, "exit status 1", &specs)
        };
        let text = "Unable to detect release version (use '--releasever' to specify release version)\nError: \n Problem: \
                    conflicting requests\n  - nothing provides nowhere needed by torn-1.0-1.noarch\n(try to add \
                    '--skip-broken' to skip uninstallable packages)\n";
        assert_eq!(told(text).of("torn"), "nothing provides nowhere needed by torn-1.0-1.noarch");
        assert!(!told(text).whole);
        let text = "No match for argument: nosuch-9\nError: Unable to find a match: nosuch-9\n";
        assert_eq!(told(text).of("nosuch"), "No match for argument: nosuch-9");
        assert_eq!(told(text).words, "No match for argument: nosuch-9; Unable to find a match: nosuch-9");
        assert!(told("Error: No space left on device\n").whole);
    }
}
