//! `apt-get`, `apt-cache` and dpkg: what Debian and its kin have.
//!
//! Asks nothing of anybody: no questions, changed configuration files kept. Waits for the lock of dpkg for as long as its
//! holder may need. Never ended half way: by nobody here, nor by the end of this program or of its service.

mod said;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mgmt_engine::resource::Fault;
use tokio::time::{Instant, sleep};

use self::said::Ill;
use super::asked::Asked;
use super::dpkg::{CONFFILES, Dpkg, ENVIRONMENT};
use super::kept::Stamp;
use super::run::{self, ended, shown};
use super::transaction::{Change, Member};
use super::trouble::Trouble;
use super::units::{self, Units};
use super::{Found, Offer, Offers, Wanted, Watched};
use crate::tools::{self, Said, Tool};

/// Somebody else's upgrade of everything takes less.
const LOCK_SECONDS: u32 = 1_800;
/// The lists of sources have a lock without a way to wait for it: looked at so often, for so long.
const LISTS_LOCK_EVERY: Duration = Duration::from_secs(1);
const LISTS_LOCK_MAX: Duration = Duration::from_secs(300);
/// Looking things up takes a second on a slow machine with many sources.
const LOOK_WITHIN: Duration = Duration::from_secs(120);
/// Some hundred bytes a package.
const SAID_BYTES_MAX: usize = 4 << 20;
/// An interrupted dpkg, stale lists, somebody who kills the tool: each of them is met once, and the third time is enough.
const TRIES_MAX: u32 = 4;

const LISTS: &str = "/var/lib/apt/lists";
/// What can be had changes with these.
const SOURCES: [&str; 6] = [
    "/var/lib/dpkg/status",
    LISTS,
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d",
    "/etc/apt/preferences",
    "/etc/apt/preferences.d",
];

/// The tools, and what was learned by them.
#[derive(Debug)]
pub(super) struct Apt {
    dpkg: Dpkg,
    units: Units,
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

impl Apt {
    pub(super) fn new() -> Self {
        Self {
            dpkg: Dpkg::here(),
            units: Units::default(),
            curious: Mutex::default(),
            known: tokio::sync::Mutex::default(),
            asked: Asked::default(),
        }
    }

    pub(super) fn watched(&self, newest: bool) -> Vec<Watched> {
        // Of what can be had, files of the administrator's are read anew when somebody looks for another reason.
        if newest {
            return vec![Watched::Tree(LISTS.into())];
        }
        let units = units::DIRECTORIES
            .into_iter()
            .filter(|directory| !Path::new(directory).starts_with("/lib") || !is_merged());
        units.map(|directory| Watched::Tree(directory.into())).chain([Watched::Path(self.dpkg.status())]).collect()
    }

    pub(super) fn ships(&self, name: &str) -> Vec<Box<Path>> {
        self.dpkg.ships(name)
    }

    pub(super) async fn found(&self, names: &[&str]) -> Result<BTreeMap<String, Found>, Fault> {
        if !tools::has("apt-get") {
            return Err(Fault::new("this machine has no apt-get, so provider apt cannot be used"));
        }
        let database = self.dpkg.read().await?;
        let found = |name: &&str| {
            let mut found = database.get(name);
            found.gone = self.gone(name, &found);
            ((*name).to_owned(), found)
        };
        Ok(names.iter().map(found).collect())
    }

    /// A unit that it brought, and that is not there.
    fn gone(&self, name: &str, found: &Found) -> Option<PathBuf> {
        let version = found.version.as_ref().filter(|_| found.broken.is_none())?;
        self.units.missing(name, version, || self.dpkg.ships(name), |unit| self.dpkg.is_diverted(unit))
    }

    /// One run of `apt-cache` for all who ask at once.
    pub(super) async fn offers(&self, names: &[&str]) -> Result<Offers, Fault> {
        let curious = || self.curious.lock().unwrap_or_else(PoisonError::into_inner);
        curious().extend(names.iter().map(|name| (*name).to_owned()));
        let mut known = self.known.lock().await;
        let stamp = Stamp::of(&SOURCES);
        if known.of != stamp {
            *known = Known { of: stamp, ..Known::default() };
        }
        if names.iter().any(|name| !known.offers.contains_key(*name)) {
            let mut asked = std::mem::take(&mut *curious());
            asked.extend(names.iter().map(|name| (*name).to_owned()));
            asked.retain(|name| !known.offers.contains_key(name));
            let tool = Tool::new("apt-cache").args(["policy", "--"]).args(&asked).env("LC_ALL", "C.UTF-8");
            let said = tool.within(LOOK_WITHIN).said_bytes_max(SAID_BYTES_MAX).done().await?;
            let mut offers = said::policy(&said.out);
            known.offers.extend(asked.into_iter().map(|name| {
                let offer = offers.remove(&name);
                (name, offer)
            }));
        }
        let offer = |name: &&str| Some(((*name).to_owned(), known.offers.get(*name)?.clone()?));
        Ok(names.iter().filter_map(offer).collect())
    }

    /// `apt-get update`, unless it was a moment ago.
    pub(super) async fn ask_sources(&self) -> Option<String> {
        if let Some(trouble) = self.asked.recently() {
            return trouble;
        }
        tracing::info!("asks the sources of packages what they have: apt-get update");
        let end = Instant::now() + LISTS_LOCK_MAX;
        let trouble = loop {
            let said = match ended(Self::tool("apt-get", &["-q", "update"])).await {
                Err(fault) => break Some(fault.to_string()),
                Ok(said) => said,
            };
            if said::locked(&said) && Instant::now() < end {
                sleep(LISTS_LOCK_EVERY).await;
                continue;
            }
            break said::unfetched(&said);
        };
        self.asked.now(trouble)
    }

    /// One transaction, and what helps against what can be helped: each once.
    pub(super) async fn carry_out(&self, change: Change, members: &[Member]) -> Result<(), Trouble> {
        if let Some(holder) = self.dpkg.holder() {
            tracing::warn!("waits for {holder}, which holds the lock of the package database");
        }
        let mut helped = Vec::new();
        loop {
            let said =
                ended(self.get(change, members).await).await.map_err(|fault| Trouble::whole(fault.to_string()))?;
            if said.status.success() {
                return Ok(());
            }
            let (ill, trouble) = said::trouble(&said, &shown(said.status));
            let Some(ill) = ill.filter(|ill| !helped.contains(ill) && helped.len() < TRIES_MAX as usize) else {
                return Err(trouble);
            };
            helped.push(ill);
            tracing::warn!("apt-get: {}", trouble.words);
            match ill {
                Ill::Killed if !self.dpkg.interrupted() => {}
                Ill::Interrupted | Ill::Killed => self.dpkg.go_on().await,
                Ill::Stale if !self.asked.forget() => return Err(trouble),
                Ill::Stale => drop(self.ask_sources().await),
            }
        }
    }

    async fn get(&self, change: Change, members: &[Member]) -> run::Run {
        let mut tool = Self::tool("apt-get", &["-y", "-q", "-o", "Dpkg::Use-Pty=0"]);
        tool = tool.args(&["-o".to_owned(), format!("DPkg::Lock::Timeout={LOCK_SECONDS}")]);
        for option in CONFFILES {
            tool = tool.args(&["-o".to_owned(), format!("Dpkg::Options::={option}")]);
        }
        let exact = members.iter().any(|member| matches!(member.wanted, Wanted::Version(_)));
        if exact {
            tool = tool.args(&["--allow-downgrades"]);
        }
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        // Of what stands, only what has lost something is unpacked again: the others are missing, or another version.
        if change == Change::Install
            && self.found(&names).await.is_ok_and(|all| all.values().any(|it| it.gone.is_some()))
        {
            tool = tool.args(&["--reinstall"]);
        }
        let word = |member: &Member| match &member.wanted {
            Wanted::Version(version) => format!("{}={version}", member.name),
            _ => member.name.clone(),
        };
        let words: Vec<_> = members.iter().map(word).collect();
        tool.args(&[change.to_string()]).args(&["--"]).args(&words)
    }

    fn tool(name: &'static str, arguments: &[&str]) -> run::Run {
        run::Run::new(name, SAID_BYTES_MAX).args(arguments).env(&ENVIRONMENT)
    }
}

/// Whether `/lib` is `/usr/lib`, so that one watch sees both.
fn is_merged() -> bool {
    Path::new("/lib").is_symlink()
}
