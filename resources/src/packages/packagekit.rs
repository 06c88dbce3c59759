//! PackageKit, the daemon that knows many package managers: for machines whose own tool we do not know, or on request.
//!
//! It names packages by ids of four parts, `NAME;VERSION;ARCHITECTURE;SOURCE`, the last of which is its own affair and is
//! another for one that stands. Where packages are dpkg's, its database says what stands: sooner, and of holds and broken
//! ones too.

mod daemon;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use mgmt_engine::resource::Fault;

use self::daemon::{Call, Daemon, Row};
use super::asked::Asked;
use super::dpkg::{self, Dpkg};
use super::hub::Bell;
use super::transaction::{Change, Member};
use super::trouble::{Trouble, joined};
use super::{Found, Offer, Offers, Wanted, Watched, same_version};
use crate::bus::Bus;

/// How the end of a transaction is spoken of that nobody has heard.
const LOST: &str = "PackageKit has gone in the middle of it";
/// How the daemon marks what is installed, and what can be.
const INSTALLED: u32 = 1;
const AVAILABLE: u32 = 2;
/// Databases that change when packages do, where the daemon's own signals do not tell.
const DATABASES: [&str; 6] = [
    "/var/lib/dpkg/status",
    "/var/lib/rpm/rpmdb.sqlite",
    "/var/lib/rpm/Packages",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/Packages.db",
    "/var/lib/pacman/local",
];
const LISTS: [&str; 3] = ["/var/lib/apt/lists", "/var/cache/dnf", "/var/lib/pacman/sync"];

/// The daemon, and what it has said.
#[derive(Debug)]
pub(super) struct PackageKit {
    daemon: Daemon,
    dpkg: Dpkg,
    bell: Arc<Bell>,
    /// Names that somebody waits to know about.
    curious: Mutex<BTreeSet<String>>,
    known: tokio::sync::Mutex<Known>,
    asked: Asked,
}

/// What was learned since the bell rang for the last time, of those that somebody has asked for.
#[derive(Debug, Default)]
struct Known {
    rings: u64,
    packages: BTreeMap<String, Vec<Package>>,
    updates: Option<Vec<Package>>,
}

/// A package in one version from one source.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Package {
    stands: bool,
    id: String,
    name: String,
    version: String,
    architecture: String,
    source: String,
}

impl Package {
    fn of(row: Row) -> Option<Self> {
        let mut parts = row.id.split(';').map(str::to_owned);
        let (name, version, architecture, source) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        (row.info == INSTALLED || row.info == AVAILABLE).then_some(Self {
            stands: row.info == INSTALLED,
            id: row.id,
            name,
            version,
            architecture,
            source,
        })
    }

    /// Whether this is what somebody calls by a name with or without an architecture.
    fn is(&self, called: &str) -> bool {
        let (name, architecture) = dpkg::split(called);
        self.name == name
            && architecture.is_none_or(|architecture| [architecture, "all"].contains(&&*self.architecture))
    }

    /// The source as it is before the package stands: then it says who wanted it.
    fn bare_source(&self) -> &str {
        let source = self.source.trim_start_matches('+');
        source.strip_prefix("manual:").or_else(|| source.strip_prefix("auto:")).unwrap_or(source)
    }
}

impl PackageKit {
    pub(super) fn new(bus: Arc<Bus>, bell: Arc<Bell>) -> Self {
        Self {
            daemon: Daemon::new(bus),
            dpkg: Dpkg::here(),
            bell,
            curious: Mutex::default(),
            known: tokio::sync::Mutex::default(),
            asked: Asked::default(),
        }
    }

    /// Rings the bell at what no file shows.
    pub(super) fn follow(&self) -> impl Future<Output = ()> + Send + 'static {
        self.daemon.follow(Arc::clone(&self.bell))
    }

    pub(super) fn watched(&self, newest: bool) -> Vec<Watched> {
        if newest {
            return LISTS
                .iter()
                .filter(|path| Path::new(path).exists())
                .map(|path| Watched::Tree(path.into()))
                .collect();
        }
        DATABASES.iter().filter(|path| Path::new(path).exists()).map(|path| Watched::Path(path.into())).collect()
    }

    pub(super) fn ships(&self, name: &str) -> Vec<Box<Path>> {
        self.dpkg.ships(name)
    }

    pub(super) async fn found(&self, names: &[&str]) -> Result<BTreeMap<String, Found>, Fault> {
        if self.dpkg.exists() {
            let database = self.dpkg.read().await?;
            return Ok(names.iter().map(|name| ((*name).to_owned(), database.get(name))).collect());
        }
        let known = self.known(names, false).await?;
        let found = |name: &str| {
            let version =
                known.get(name)?.0.iter().find(|package| package.stands).map(|package| package.version.clone());
            Some(Found { version, ..Found::default() })
        };
        Ok(names.iter().map(|name| ((*name).to_owned(), found(name).unwrap_or_default())).collect())
    }

    pub(super) async fn offers(&self, names: &[&str]) -> Result<Offers, Fault> {
        let known = self.known(names, true).await?;
        Ok(known.into_iter().filter_map(|(name, (of, update))| Some((name, offer(&of, update.as_ref())?))).collect())
    }

    pub(super) async fn ask_sources(&self) -> Option<String> {
        if let Some(trouble) = self.asked.recently() {
            return trouble;
        }
        tracing::info!("asks the sources of packages what they have, through PackageKit");
        let trouble = self.daemon.transaction(Call::Refresh).await.err().map(|trouble| trouble.words);
        self.bell.ring();
        self.asked.now(trouble)
    }

    /// Everything of these names, with the update there is for it: one question for all who ask at once.
    async fn known(
        &self,
        names: &[&str],
        updates: bool,
    ) -> Result<BTreeMap<String, (Vec<Package>, Option<Package>)>, Fault> {
        let curious = || self.curious.lock().unwrap_or_else(PoisonError::into_inner);
        curious().extend(names.iter().map(|name| (*name).to_owned()));
        let mut known = self.known.lock().await;
        let rings = self.bell.rings();
        if known.rings != rings {
            *known = Known { rings, ..Known::default() };
        }
        if names.iter().any(|name| !known.packages.contains_key(*name)) {
            let mut asked = std::mem::take(&mut *curious());
            asked.extend(names.iter().map(|name| (*name).to_owned()));
            let plain: BTreeSet<_> = asked.iter().map(|name| dpkg::split(name).0.to_owned()).collect();
            let plain: Vec<_> = plain.into_iter().collect();
            let said = self.daemon.transaction(Call::Resolve(&plain)).await.map_err(daemon::fault)?;
            let said: Vec<_> = said.into_iter().filter_map(Package::of).collect();
            known.packages.extend(asked.into_iter().map(|name| {
                let of_it = said.iter().filter(|package| package.is(&name)).cloned().collect();
                (name, of_it)
            }));
        }
        if updates && known.updates.is_none() {
            let said = self.daemon.transaction(Call::Updates).await.map_err(daemon::fault)?;
            // What is new is marked by how urgent it is.
            let said = said.into_iter().filter_map(|row| Package::of(Row { info: AVAILABLE, ..row }));
            known.updates = Some(said.collect());
        }
        let all = known.updates.as_deref().unwrap_or_default();
        let of = |name: &&str| {
            let packages = known.packages.get(*name).cloned().unwrap_or_default();
            ((*name).to_owned(), (packages, all.iter().find(|update| update.is(name)).cloned()))
        };
        Ok(names.iter().map(of).collect())
    }

    /// One transaction for those to install, one for those to update; or one for those to remove.
    pub(super) async fn carry_out(&self, change: Change, members: &[Member]) -> Result<(), Trouble> {
        let mut again = true;
        loop {
            if self.dpkg.exists() && self.dpkg.interrupted() {
                self.dpkg.go_on().await;
            }
            let ended = self.carry_out_once(change, members).await;
            self.bell.ring();
            match ended {
                Err(trouble) if trouble.words.starts_with(LOST) && std::mem::take(&mut again) => {
                    tracing::warn!("{}: tries once more", trouble.words);
                }
                ended => return ended,
            }
        }
    }

    async fn carry_out_once(&self, change: Change, members: &[Member]) -> Result<(), Trouble> {
        let whole = |fault: Fault| Trouble::whole(fault.to_string());
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        let known = self.known(&names, change == Change::Install).await.map_err(whole)?;
        let found = self.found(&names).await.map_err(whole)?;
        if found.values().any(|found| found.broken.is_some()) && change == Change::Install {
            // What only waits to be configured needs nothing else; and if something does, it is told by what follows.
            self.dpkg.go_on().await;
        }
        let exact = self.exact(members, &known).await?;
        let (mut plan, mut about) = (Plan::default(), BTreeMap::new());
        for member in members {
            let (packages, update) = &known[&member.name];
            let exact = exact.iter().filter(|package| package.is(&member.name)).collect::<Vec<_>>();
            if let Err(why) = plan.take(member, packages, update.as_ref(), &exact) {
                about.insert(member.name.clone(), why);
            }
        }
        let mut trouble = Trouble { about, ..Trouble::default() };
        for (call, ids) in plan.calls() {
            if !ids.is_empty()
                && let Err(met) = self.daemon.transaction(call).await
            {
                trouble.whole |= met.whole;
                trouble.about.extend(met.about);
                trouble.words = joined([trouble.words.as_str(), met.words.as_str()]);
            }
        }
        if trouble.words.is_empty() && trouble.about.is_empty() { Ok(()) } else { Err(trouble) }
    }

    /// The packages in exactly the versions that are wanted, as far as the sources of the others have them.
    async fn exact(
        &self,
        members: &[Member],
        known: &BTreeMap<String, (Vec<Package>, Option<Package>)>,
    ) -> Result<Vec<Package>, Trouble> {
        let mut ids = BTreeSet::new();
        for member in members {
            let Wanted::Version(version) = &member.wanted else { continue };
            for package in &known[&member.name].0 {
                let Package { name, architecture, .. } = package;
                ids.insert(format!("{name};{version};{architecture};{}", package.bare_source()));
            }
        }
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = ids.into_iter().collect();
        Ok(self.daemon.transaction(Call::Resolve(&ids)).await?.into_iter().filter_map(Package::of).collect())
    }
}

/// Ids by what is done with them.
#[derive(Debug, Default)]
struct Plan {
    install: Vec<String>,
    update: Vec<String>,
    remove: Vec<String>,
}

impl Plan {
    fn calls(&self) -> [(Call<'_>, &[String]); 3] {
        [
            (Call::Remove(&self.remove), &self.remove),
            (Call::Update(&self.update), &self.update),
            (Call::Install(&self.install), &self.install),
        ]
    }

    /// What is done for one member, or why nothing can be.
    fn take(
        &mut self,
        member: &Member,
        packages: &[Package],
        update: Option<&Package>,
        exact: &[&Package],
    ) -> Result<(), String> {
        let standing = packages.iter().find(|package| package.stands);
        let available = packages.iter().rev().find(|package| !package.stands);
        match &member.wanted {
            Wanted::Uninstalled => {
                // One that stands half way is not named as standing.
                let any = standing.or(available).ok_or("PackageKit knows no package of this name")?;
                self.remove.push(any.id.clone());
            }
            Wanted::Version(version) => {
                let right = |package: &&&Package| !package.stands && same_version(&package.version, version);
                let mut all = exact.iter().copied().chain(packages).collect::<Vec<_>>();
                all.dedup();
                let package = all.iter().find(right).ok_or_else(|| {
                    let shown = joined(packages.iter().map(|package| package.version.as_str()));
                    format!("PackageKit offers no version {version} of it, only {shown}")
                })?;
                self.install.push(package.id.clone());
            }
            Wanted::Newest if standing.is_some() && update.is_some() => {
                self.update.extend(update.map(|update| update.id.clone()));
            }
            Wanted::Installed | Wanted::Newest => {
                let package = available.or(standing).ok_or("PackageKit knows no package of this name")?;
                self.install.push(package.id.clone());
            }
        }
        Ok(())
    }
}

/// What can be had, by what the daemon has named; `None` if that is nothing.
fn offer(packages: &[Package], update: Option<&Package>) -> Option<Offer> {
    let standing = packages.iter().find(|package| package.stands);
    // Of those that it names besides one that stands, some are older: only an update is newer for certain.
    let newest = update.or(standing).or_else(|| packages.last())?;
    let versions: BTreeSet<_> = packages.iter().map(|package| package.version.clone()).collect();
    Some(Offer { newest: Some(newest.version.clone()), versions: versions.into_iter().collect(), partial: true })
}

/// What an error of the daemon means, with its own words.
fn told(code: u32, words: &str) -> Trouble {
    let (whole, hint) = match code {
        2 => (true, "no network"),
        10 => (false, "it cannot be fetched"),
        13 => (false, "what it needs cannot be had"),
        18 | 37 => (true, "the sources of packages cannot be read"),
        26 => (true, "somebody else changes packages"),
        46 => (true, "the disk is full"),
        48 => (true, "not allowed"),
        17 | 21 => (true, "it was cancelled"),
        _ => (false, ""),
    };
    let lines: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let full = words.contains("No space left on device");
    let hint = if full && code != 46 { "the disk is full" } else { hint };
    let words = joined(lines);
    let words = match (hint, words.is_empty()) {
        ("", true) => format!("PackageKit has failed with error {code}"),
        ("", false) => words,
        (hint, true) => format!("{hint} (PackageKit's error {code})"),
        (hint, false) => format!("{hint}: {words}"),
    };
    Trouble { whole: whole || full, words, about: BTreeMap::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(info: u32, id: &str) -> Package {
        Package::of(Row { info, id: id.to_owned() }).unwrap()
    }

    fn taken(
        wanted: Wanted,
        packages: &[Package],
        update: Option<&Package>,
        exact: &[&Package],
    ) -> Result<String, String> {
        let mut plan = Plan::default();
        plan.take(&Member { name: "a".to_owned(), wanted }, packages, update, exact)?;
        Ok(format!("+{} ^{} -{}", plan.install.join(" "), plan.update.join(" "), plan.remove.join(" ")))
    }

    #[test]
    fn ids_are_taken_apart() {
        let stands = package(INSTALLED, "a;1.0;all;+manual:lab-lab-");
        assert!(stands.stands && stands.is("a") && stands.is("a:amd64") && !stands.is("b"));
        assert_eq!(stands.bare_source(), "lab-lab-");
        assert!(!package(AVAILABLE, "a;1.0;amd64;x").is("a:i386"));
        assert_eq!(Package::of(Row { info: AVAILABLE, id: "a;1".to_owned() }), None);
        assert_eq!(Package::of(Row { info: 18, id: "a;1;all;x".to_owned() }), None, "finished is no state");
    }

    #[test]
    fn each_wish_finds_its_id() {
        let (one, two) = (package(INSTALLED, "a;1;all;auto:x"), package(AVAILABLE, "a;2;all;x"));
        let zero = package(AVAILABLE, "a;0;all;x");
        assert_eq!(taken(Wanted::Installed, std::slice::from_ref(&two), None, &[]).unwrap(), "+a;2;all;x ^ -");
        assert_eq!(taken(Wanted::Uninstalled, &[one.clone(), two.clone()], None, &[]).unwrap(), "+ ^ -a;1;all;auto:x");
        let both = [one.clone(), two.clone()];
        assert_eq!(taken(Wanted::Newest, &both, Some(&two), &[]).unwrap(), "+ ^a;2;all;x -");
        assert_eq!(taken(Wanted::Version("0".into()), &both, None, &[&zero]).unwrap(), "+a;0;all;x ^ -");
        let told = taken(Wanted::Version("9".into()), &both, None, &[]).unwrap_err();
        assert_eq!(told, "PackageKit offers no version 9 of it, only 1; 2");
        assert!(taken(Wanted::Installed, &[], None, &[]).is_err());
    }

    #[test]
    fn only_an_update_is_newer() {
        let (one, older) = (package(INSTALLED, "a;1;all;x"), package(AVAILABLE, "a;0;all;x"));
        let newest = |packages: &[Package], update| offer(packages, update).and_then(|offer| offer.newest);
        assert_eq!(newest(&[one.clone(), older.clone()], None).as_deref(), Some("1"));
        let update = package(AVAILABLE, "a;2;all;x");
        assert_eq!(newest(&[one, older.clone()], Some(&update)).as_deref(), Some("2"));
        assert_eq!(newest(&[older], None).as_deref(), Some("0"));
        assert_eq!(newest(&[], None), None);
    }

    #[test]
    fn errors_are_told_in_words() {
        assert_eq!(told(26, "").words, "somebody else changes packages (PackageKit's error 26)");
        assert_eq!(told(58, "a\nb\n").words, "a; b");
        assert!(told(58, "x: No space left on device").whole);
        assert_eq!(told(99, "").words, "PackageKit has failed with error 99");
    }
}
