//! The packages of this machine: what is installed, what could be, and changes of many at once.
//!
//! Shared by all `pkg` resources of the process. Whatever asks for a change at the same time goes into one transaction of
//! the tool that changes packages; one runs at a time, and is never ended half way. Each member is then judged by the
//! database for itself: one that fails takes no other with it. Must not know what a graph is.

mod apt;
mod asked;
mod catalog;
mod dnf;
mod dpkg;
mod hub;
mod kept;
mod packagekit;
mod queue;
mod run;
mod transaction;
mod trouble;
mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use mgmt_engine::resource::{Fault, Signal};

use self::catalog::Catalog;
use self::hub::{Hub, Interest};
use self::queue::Queue;
use crate::bus::{Bus, Which};
use crate::machine::Machine;
use crate::watches::Watches;

/// The package database and the tool that changes it.
#[derive(Debug)]
pub struct Packages {
    /// The bus that PackageKit listens on.
    pub bus: Arc<Bus>,
    providers: [OnceLock<At>; 3],
    queue: Arc<Queue>,
}

/// A provider at work, and who watches what it provides.
#[derive(Debug, Clone)]
struct At {
    catalog: Arc<Catalog>,
    hub: Arc<Hub>,
}

/// What installs and removes packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Provider {
    /// `apt-get` and dpkg.
    Apt,
    /// `dnf` and rpm.
    Dnf,
    /// The daemon, over the system bus.
    PackageKit,
}

/// What is wanted of a package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// It stands, in whatever version.
    Installed,
    /// It does not.
    Uninstalled,
    /// It stands in the newest version that its sources have.
    Newest,
    /// It stands in exactly this version.
    Version(String),
}

/// What stands of a package.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The version that stands; `None`: it is not installed.
    pub version: Option<String>,
    /// The database's word for how it stands, if not well: `half-configured`.
    pub broken: Option<String>,
    /// A unit of systemd that it brought, and that is not there.
    pub gone: Option<PathBuf>,
    /// The machine's administrator wants it to stay as it is.
    pub held: bool,
}

/// Why a package is not as wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// It is not installed.
    Missing,
    /// It is installed, in this version.
    Present(String),
    /// It is installed badly: the database's word.
    Broken(String),
    /// This unit, which it brought, is gone.
    Gone(PathBuf),
    /// It is this version and should be that one.
    Other(String, String),
    /// It is this version, and that one can be had.
    Older(String, String),
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is not installed"),
            Self::Present(version) => write!(f, "is installed: {version}"),
            Self::Broken(how) => write!(f, "is {how}"),
            Self::Gone(unit) => write!(f, "lacks {}, which it brought", unit.display()),
            Self::Other(now, wanted) => write!(f, "is {now}, wanted {wanted}"),
            Self::Older(now, newest) => write!(f, "is {now}, the newest is {newest}"),
        }
    }
}

/// What a transaction has made of a package.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deed {
    /// The version before.
    pub was: Option<String>,
    /// The version after.
    pub now: Option<String>,
    /// With how many others in one transaction.
    pub beside: usize,
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.was, &self.now) {
            (None, Some(now)) => write!(f, "installed {now}")?,
            (Some(was), None) => write!(f, "removed {was}")?,
            (Some(was), Some(now)) if was == now => write!(f, "repaired {now}")?,
            (Some(was), Some(now)) => write!(f, "changed from {was} to {now}")?,
            (None, None) => f.write_str("removed")?,
        }
        match self.beside {
            0 => Ok(()),
            1 => f.write_str(", with one other package"),
            others => write!(f, ", with {others} other packages"),
        }
    }
}

impl Wanted {
    /// What of it is missing, as far as the database alone tells. `newest`: the version that the sources have.
    pub(crate) fn lack(&self, found: &Found, newest: Option<&str>) -> Option<Lack> {
        let Some(version) = &found.version else {
            return (*self != Self::Uninstalled).then_some(Lack::Missing);
        };
        if *self == Self::Uninstalled {
            return Some(Lack::Present(version.clone()));
        }
        if let Some(how) = &found.broken {
            return Some(Lack::Broken(how.clone()));
        }
        if let Some(unit) = &found.gone {
            return Some(Lack::Gone(unit.clone()));
        }
        match self {
            Self::Newest => {
                newest.filter(|newest| newest != version).map(|newest| Lack::Older(version.clone(), newest.to_owned()))
            }
            Self::Version(wanted) if !same_version(version, wanted) => {
                Some(Lack::Other(version.clone(), wanted.clone()))
            }
            _ => None,
        }
    }
}

/// Whether a version is the wanted one. That of rpm is `epoch:version-release`, of which the epoch, or the epoch and the
/// release, may be left out; that of dpkg has to be whole, which it is for whoever writes neither.
fn same_version(version: &str, wanted: &str) -> bool {
    let rest = version.split_once(':').filter(|(epoch, _)| *epoch == "0").map(|(_, rest)| rest);
    version == wanted || rest == Some(wanted)
}

impl Provider {
    /// The one for this machine: the distribution's own, or else the daemon that may know it.
    pub fn of(machine: &Machine) -> Self {
        match machine.package_manager {
            Some("apt") => Self::Apt,
            Some("dnf") => Self::Dnf,
            _ => Self::PackageKit,
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Apt => "apt",
            Self::Dnf => "dnf",
            Self::PackageKit => "packagekit",
        })
    }
}

impl Packages {
    /// Nothing is connected or read yet.
    #[must_use]
    pub fn new(bus: Arc<Bus>) -> Self {
        Self { bus, providers: Default::default(), queue: Arc::default() }
    }

    fn at(&self, provider: Provider) -> &At {
        self.providers[provider as usize].get_or_init(|| {
            let bell = Arc::default();
            let catalog = Arc::new(Catalog::of(provider, &self.bus, &bell));
            let hub = Arc::new(Hub::new(provider, Arc::clone(&catalog), Arc::clone(&self.queue), bell));
            At { catalog, hub }
        })
    }

    /// What is missing of what is wanted of a package; `None`: nothing. Cancel safe.
    ///
    /// # Errors
    /// The database cannot be read, or there is none.
    pub async fn lack(&self, provider: Provider, name: &str, wanted: &Wanted) -> Result<Option<Lack>, Fault> {
        let catalog = &self.at(provider).catalog;
        loop {
            let transaction = self.queue.transaction();
            let lack = catalog.lack(name, wanted).await?;
            if lack.is_none() || transaction.is_none() {
                return Ok(lack);
            }
            // What a transaction of our own has taken apart it is about to put together.
            self.queue.ended(transaction).await;
        }
    }

    /// Makes a package what is wanted, together with others that ask at the same time unless it shall be `alone`. `None`:
    /// it was so already. Dropping this leaves a transaction that has begun to itself; one that has not begun does
    /// without.
    ///
    /// # Errors
    /// It could not be done: for this one, whatever became of the others.
    pub async fn change(
        &self,
        provider: Provider,
        name: &str,
        wanted: &Wanted,
        alone: bool,
    ) -> Result<Option<Deed>, Fault> {
        let member = transaction::Member { name: name.to_owned(), wanted: wanted.clone() };
        self.queue.ask(self.at(provider), provider, member, alone).await
    }

    /// Raises the signal whenever this package may have become another, or another version of it can be had. Armed when
    /// it returns; dropping what it returns ends that. Inside the runtime only.
    ///
    /// # Errors
    /// Nothing can be watched.
    pub fn watch(
        &self,
        watches: &Watches,
        provider: Provider,
        name: &str,
        wanted: &Wanted,
        signal: &Signal,
    ) -> Result<Box<dyn Send>, Fault> {
        let interest = match wanted {
            Wanted::Uninstalled => Interest::None,
            Wanted::Installed => Interest::Presence,
            Wanted::Newest | Wanted::Version(_) => Interest::Newest,
        };
        Ok(Box::new(self.at(provider).hub.watch(watches, name, interest, signal)?))
    }

    /// The files that an installed package brought, where the database keeps a list that is cheap to read.
    pub fn ships(&self, provider: Provider, name: &str) -> Vec<Box<Path>> {
        self.at(provider).catalog.ships(name)
    }
}

/// Something to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Watched {
    /// One entry of a directory.
    Path(PathBuf),
    /// All below a directory.
    Tree(PathBuf),
}

impl Default for Packages {
    fn default() -> Self {
        Self::new(Arc::new(Bus::new(Which::System)))
    }
}

/// What can be had of a package.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Offer {
    /// The version that its sources would install now; `None`: there is none.
    newest: Option<String>,
    /// Versions there are.
    versions: Vec<String>,
    /// There may be more: only who asks for one is told.
    partial: bool,
}

/// What can be had of some packages, by name. Who is not in it is unknown.
type Offers = BTreeMap<String, Offer>;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(version: &str) -> Found {
        Found { version: Some(version.to_owned()), ..Found::default() }
    }

    #[test]
    fn what_is_missing_is_told_in_words() {
        let lack = |wanted: Wanted, found: &Found, newest: Option<&str>| {
            wanted.lack(found, newest).map_or_else(|| "nothing".to_owned(), |lack| lack.to_string())
        };
        let (none, one) = (Found::default(), found("1.0"));
        let torn = Found { broken: Some("half-configured".to_owned()), ..found("1.0") };
        assert_eq!(lack(Wanted::Installed, &none, None), "is not installed");
        assert_eq!(lack(Wanted::Installed, &one, Some("2.0")), "nothing");
        assert_eq!(lack(Wanted::Installed, &torn, None), "is half-configured");
        let hollow = Found { gone: Some("/lib/systemd/system/x.service".into()), ..found("1.0") };
        let gone = "lacks /lib/systemd/system/x.service, which it brought";
        assert_eq!(lack(Wanted::Version("1.0".into()), &hollow, None), gone);
        assert_eq!(lack(Wanted::Uninstalled, &hollow, None), "is installed: 1.0");
        assert_eq!(lack(Wanted::Uninstalled, &none, None), "nothing");
        assert_eq!(lack(Wanted::Uninstalled, &torn, None), "is installed: 1.0");
        assert_eq!(lack(Wanted::Newest, &one, Some("2.0")), "is 1.0, the newest is 2.0");
        assert_eq!(lack(Wanted::Newest, &one, Some("1.0")), "nothing");
        assert_eq!(lack(Wanted::Newest, &one, None), "nothing", "what has no source any more is the newest there is");
        assert_eq!(lack(Wanted::Newest, &none, None), "is not installed");
        assert_eq!(lack(Wanted::Version("0.9".into()), &one, None), "is 1.0, wanted 0.9");
        assert_eq!(lack(Wanted::Version("1.0".into()), &one, None), "nothing");
        assert_eq!(lack(Wanted::Version("1.0-2".into()), &found("0:1.0-2"), None), "nothing");
        assert_eq!(lack(Wanted::Version("1.0-2".into()), &found("1:1.0-2"), None), "is 1:1.0-2, wanted 1.0-2");
    }

    #[test]
    fn deeds_say_what_was_and_with_how_many() {
        let deed = |was: Option<&str>, now: Option<&str>, beside| {
            Deed { was: was.map(str::to_owned), now: now.map(str::to_owned), beside }.to_string()
        };
        assert_eq!(deed(None, Some("1"), 0), "installed 1");
        assert_eq!(deed(Some("1"), None, 1), "removed 1, with one other package");
        assert_eq!(deed(Some("1"), Some("2"), 49), "changed from 1 to 2, with 49 other packages");
        assert_eq!(deed(Some("1"), Some("1"), 0), "repaired 1");
    }
}
