//! What one life of a `svc` has learnt of its unit, and follows because of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mgmt_engine::resource::{Fault, Signal};

use super::decide::{Startup, Wants};
use super::files::Stamps;
use crate::systemd::{Active, Subscriber, Unit};
use crate::watches::{Guard, Watches};

/// Always equal: it is no parameter.
#[derive(Debug, Default, Clone)]
pub(super) struct Tracks(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// Where to watch, and whom to raise, while the resource is watched.
    armed: Option<(Watches, Signal)>,
    subscriber: Option<Subscriber>,
    /// What is watched because of what the unit was like.
    places: BTreeMap<PathBuf, Guard>,
    /// What its file state was when enabling it changed nothing.
    not_enabled: Option<String>,
    /// The run whose start or stop was given up, and which of the two it was.
    given_up: Option<(String, Active)>,
    /// The run that began before systemd read other files for it.
    outdated: Option<String>,
    /// We have started it, or tried to.
    started: bool,
    /// What stood on disk when systemd had read all of it and still said that it had not.
    never_read: Option<Stamps>,
    /// What has been said of it already.
    said: bool,
}

impl PartialEq for Tracks {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Ends what is watched when the resource's watch ends.
#[derive(Debug)]
pub(super) struct Armed(Tracks);

impl Drop for Armed {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.subscriber = None;
        let gone = (inner.armed.take(), std::mem::take(&mut inner.places));
        drop(inner);
        // Both take locks of their own when they end.
        drop(gone);
    }
}

impl Tracks {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change below is complete in itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, what is followed raises this signal.
    pub(super) fn arm(&self, watches: &Watches, signal: &Signal, subscriber: Subscriber) -> Armed {
        let old = {
            let mut inner = self.lock();
            inner.subscriber = Some(subscriber);
            (inner.armed.replace((watches.clone(), signal.clone())), std::mem::take(&mut inner.places))
        };
        drop(old);
        Armed(self.clone())
    }

    /// Follows these places and no others. Whether one is new: what happened there before was not seen.
    pub(super) fn follow(&self, wanted: BTreeSet<PathBuf>) -> Result<bool, Fault> {
        let mut inner = self.lock();
        let Some((watches, signal)) = inner.armed.clone() else { return Ok(false) };
        let (kept, gone) = std::mem::take(&mut inner.places).into_iter().partition(|(path, _)| wanted.contains(path));
        inner.places = kept;
        let new: Vec<PathBuf> = wanted.into_iter().filter(|path| !inner.places.contains_key(path)).collect();
        let news = !new.is_empty();
        for path in new {
            let guard = watches.path(&path, &signal)?;
            inner.places.insert(path, guard);
        }
        drop(inner);
        drop::<BTreeMap<_, _>>(gone);
        Ok(news)
    }

    /// Who hears of the unit, while it is watched.
    pub(super) fn subscriber(&self) -> Option<Subscriber> {
        self.lock().subscriber
    }

    /// The unit is to be looked at again.
    pub(super) fn raise(&self) {
        let signal = self.lock().armed.as_ref().map(|(_, signal)| signal.clone());
        if let Some(signal) = signal {
            signal.raise();
        }
    }

    /// We are about to start it. Whether we have done so before.
    pub(super) fn starts(&self) -> bool {
        std::mem::replace(&mut self.lock().started, true)
    }

    /// systemd says that it has not read what was on disk, and has just read it.
    pub(super) fn is_never_read(&self, stamps: Stamps) {
        self.lock().never_read = Some(stamps);
    }

    /// Whether that was so of what is on disk now.
    pub(super) fn was_never_read(&self, stamps: impl FnOnce() -> Stamps) -> bool {
        let never = self.lock().never_read.clone();
        never.is_some_and(|never| never == stamps())
    }

    /// Enabling it has changed nothing.
    pub(super) fn was_not_enabled(&self, unit: &Unit) {
        self.lock().not_enabled = Some(unit.file_state.clone());
    }

    pub(super) fn cannot_be_enabled(&self, unit: &Unit) -> bool {
        self.lock().not_enabled.as_ref() == Some(&unit.file_state)
    }

    /// Its start or stop took too long, and nobody waits for it any more.
    pub(super) fn give_up(&self, unit: &Unit) {
        self.lock().given_up = Some((unit.invocation.clone(), unit.active));
    }

    pub(super) fn gave_up_on(&self, unit: &Unit) -> bool {
        self.lock().given_up.as_ref().is_some_and(|(run, active)| *run == unit.invocation && *active == unit.active)
    }

    /// systemd has read other files for it than those that this run of it was started by.
    pub(super) fn outdates(&self, unit: &Unit) {
        if matches!(unit.active, Active::Active | Active::Reloading) {
            self.lock().outdated = Some(unit.invocation.clone());
        }
    }

    pub(super) fn is_outdated(&self, unit: &Unit) -> bool {
        self.lock().outdated.as_ref() == Some(&unit.invocation)
    }

    /// Says, once, what is wanted and cannot be, and is no failure.
    pub(super) fn say_once(&self, name: &str, wants: &Wants, unit: &Unit) {
        if wants.startup != Some(Startup::Enabled) || unit.file_state == "enabled" {
            return;
        }
        if !std::mem::replace(&mut self.lock().said, true) {
            let state = &unit.file_state;
            tracing::warn!(
                "svc: {name} is {state}: it has no install section of its own, so there is nothing to enable"
            );
        }
    }
}
