//! One of the ways to look at packages and to change them. What they have in common is decided elsewhere; each only looks,
//! and carries out one transaction at a time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mgmt_engine::resource::{Boxed, Fault};

use super::apt::Apt;
use super::dnf::Dnf;
use super::hub::Bell;
use super::packagekit::PackageKit;
use super::transaction::{Change, Member};
use super::trouble::Trouble;
use super::{Found, Lack, Offers, Provider, Wanted, Watched};
use crate::bus::Bus;

/// A provider at work.
#[derive(Debug)]
pub(super) enum Catalog {
    Apt(Apt),
    Dnf(Dnf),
    PackageKit(PackageKit),
    #[cfg(test)]
    Scripted(super::transaction::tests::Scripted),
}

impl Catalog {
    pub(super) fn of(provider: Provider, bus: &Arc<Bus>, bell: &Arc<Bell>) -> Self {
        match provider {
            Provider::Apt => Self::Apt(Apt::new()),
            Provider::Dnf => Self::Dnf(Dnf::default()),
            Provider::PackageKit => Self::PackageKit(PackageKit::new(Arc::clone(bus), Arc::clone(bell))),
        }
    }

    /// What stands of these. Cancel safe.
    pub(super) async fn found(&self, names: &[&str]) -> Result<BTreeMap<String, Found>, Fault> {
        match self {
            Self::Apt(apt) => apt.found(names).await,
            Self::Dnf(dnf) => dnf.found(names).await,
            Self::PackageKit(daemon) => daemon.found(names).await,
            #[cfg(test)]
            Self::Scripted(scripted) => Ok(scripted.found(names)),
        }
    }

    /// What can be had of these, as far as this machine knows without asking its sources. Cancel safe.
    pub(super) async fn offers(&self, names: &[&str]) -> Result<Offers, Fault> {
        match self {
            Self::Apt(apt) => apt.offers(names).await,
            Self::Dnf(dnf) => dnf.offers(names).await,
            Self::PackageKit(daemon) => daemon.offers(names).await,
            #[cfg(test)]
            Self::Scripted(scripted) => Ok(scripted.offers(names)),
        }
    }

    /// Asks the sources what they have, unless that has just been done. What went wrong, for people, if anything.
    pub(super) async fn ask_sources(&self) -> Option<String> {
        match self {
            Self::Apt(apt) => apt.ask_sources().await,
            Self::Dnf(dnf) => dnf.ask_sources().await,
            Self::PackageKit(daemon) => daemon.ask_sources().await,
            #[cfg(test)]
            Self::Scripted(scripted) => scripted.ask_sources(),
        }
    }

    /// Carries out one transaction, to its end.
    pub(super) async fn carry_out(&self, change: Change, members: &[Member]) -> Result<(), Trouble> {
        match self {
            Self::Apt(apt) => apt.carry_out(change, members).await,
            Self::Dnf(dnf) => dnf.carry_out(change, members).await,
            Self::PackageKit(daemon) => daemon.carry_out(change, members).await,
            #[cfg(test)]
            Self::Scripted(scripted) => scripted.carry_out(change, members),
        }
    }

    /// What to do about a package that is held.
    pub(super) fn unhold(&self, name: &str) -> String {
        match self {
            Self::Apt(_) | Self::PackageKit(_) => format!("apt-mark unhold {name}"),
            Self::Dnf(_) => format!("dnf versionlock delete {name}"),
            #[cfg(test)]
            Self::Scripted(_) => format!("unhold {name}"),
        }
    }

    /// What is missing of what is wanted. Cancel safe.
    pub(super) async fn lack(&self, name: &str, wanted: &Wanted) -> Result<Option<Lack>, Fault> {
        let found = self.found(&[name]).await?.remove(name).unwrap_or_default();
        if *wanted != Wanted::Newest || found.version.is_none() {
            return Ok(wanted.lack(&found, None));
        }
        let offer = self.offers(&[name]).await?.remove(name).unwrap_or_default();
        Ok(wanted.lack(&found, offer.newest.as_deref()))
    }

    /// Rings the bell at what no file shows, for as long as it is polled.
    pub(super) fn follow(&self) -> Boxed<()> {
        match self {
            Self::PackageKit(daemon) => Box::pin(daemon.follow()),
            _ => Box::pin(std::future::ready(())),
        }
    }

    /// The files whose changes say that something may have changed of what is installed, or of what can be had.
    pub(super) fn watched(&self, newest: bool) -> Vec<Watched> {
        match self {
            Self::Apt(apt) => apt.watched(newest),
            Self::Dnf(dnf) => dnf.watched(newest),
            Self::PackageKit(daemon) => daemon.watched(newest),
            #[cfg(test)]
            Self::Scripted(_) => Vec::new(),
        }
    }

    pub(super) fn ships(&self, name: &str) -> Vec<Box<Path>> {
        match self {
            Self::Apt(apt) => apt.ships(name),
            // Its database is nothing to read by hand.
            Self::Dnf(_) => Vec::new(),
            Self::PackageKit(daemon) => daemon.ships(name),
            #[cfg(test)]
            Self::Scripted(_) => Vec::new(),
        }
    }
}
