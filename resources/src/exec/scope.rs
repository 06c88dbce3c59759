//! A scope of systemd's: a place for one command and all that it ever starts, which nothing leaves by changing its group.
//!
//! Promises: a command's first instruction runs inside of its scope; ending a scope reaches everything in it, through
//! systemd, or through the kernel where systemd does not answer. Must not know what runs there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mgmt_engine::resource::{Fault, Stop};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio::time::timeout;

use super::properties::{self, Asked};
use crate::host::Host;
use crate::systemd::{Active, Manager, Property};

/// Where the kernel shows groups of processes.
const CGROUPS: &str = "/sys/fs/cgroup";
/// systemd answers within this, or the kernel is asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// A unit's name may have 255 bytes; what comes after the resource's has at most this.
const NAME_CHARS_MAX: usize = 180;

/// The groups of all scopes that live, for the moment before the process exits without waiting.
static LIVING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// In what commands are to run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Isolation {
    /// Of the scope.
    properties: Vec<(String, Property)>,
    /// Of the process itself.
    pub(super) nice: Option<i32>,
    pub(super) oom_score: Option<i32>,
    said: Said,
}

/// It was said that there is no systemd here. Always equal: it is nothing that is wanted.
#[derive(Debug, Clone, Default)]
struct Said(Arc<AtomicBool>);

impl PartialEq for Said {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Isolation {
    /// From names and values as systemd's files have them; all that is wrong with them.
    pub(super) fn of(unit: &BTreeMap<String, String>) -> Result<Self, Vec<String>> {
        let (mut isolation, mut wrong) = (Self::default(), Vec::new());
        for (name, value) in unit {
            match properties::parse(name, value) {
                Ok(Asked::Scope(name, property)) => isolation.properties.push((name, property)),
                Ok(Asked::Nice(nice)) => isolation.nice = Some(nice),
                Ok(Asked::OomScore(score)) => isolation.oom_score = Some(score),
                Err(why) => wrong.push(why),
            }
        }
        if wrong.is_empty() { Ok(isolation) } else { Err(wrong) }
    }

    /// Who makes scopes here; `None`, said once, where nobody does.
    pub(super) fn manager(&self, host: &Host, id: &str) -> Option<Arc<Manager>> {
        let manager = if geteuid().is_root() { host.systemd.system() } else { host.systemd.session() };
        let Some(missing) = manager.missing() else { return Some(Arc::clone(manager)) };
        if !self.said.0.swap(true, Ordering::Relaxed) {
            let names: Vec<&str> = self.properties.iter().map(|(name, _)| name.as_str()).collect();
            let without = if names.is_empty() { String::new() } else { format!(", without {}", names.join(", ")) };
            tracing::warn!(
                "{id} asks for a scope of its own: {missing}; it runs in a process group of its own instead{without}"
            );
        }
        None
    }
}

/// A scope that lives. Dropped before it was released, all in it is killed.
#[derive(Debug)]
pub(super) struct Scope {
    manager: Arc<Manager>,
    name: String,
    /// Its directory in the kernel's tree, if that is where we look for it.
    group: Option<PathBuf>,
    over: bool,
}

impl Scope {
    /// Makes one around a process that waits until it may go on.
    pub(super) async fn around(
        pid: Pid,
        isolation: &Isolation,
        id: &str,
        manager: Arc<Manager>,
        grace: Duration,
        stop: &Stop,
    ) -> Result<Self, Fault> {
        let name = name(id);
        let mut properties = isolation.properties.clone();
        properties.push(("Description".to_owned(), Property::Text(format!("a command of {id}"))));
        // Once it has failed, nobody wants to look at it.
        properties.push(("CollectMode".to_owned(), Property::Text("inactive-or-failed".to_owned())));
        let micros = u64::try_from(grace.as_micros()).unwrap_or(u64::MAX);
        properties.push(("TimeoutStopUSec".to_owned(), Property::Number(micros)));
        let raw = pid.as_raw_nonzero().get();
        let made = manager.scope(&name, &[raw.cast_unsigned()], &properties, stop).await;
        made.map_err(|fault| Fault::new(format!("cannot isolate it: {fault}")))?;
        let group = group_of(raw).filter(|path| path.ends_with(&name));
        if let Some(group) = &group {
            LIVING.lock().unwrap_or_else(PoisonError::into_inner).insert(group.clone());
        }
        Ok(Self { manager, name, group, over: false })
    }

    /// Sends a signal to everything in it; `false` if nobody could be asked to.
    pub(super) async fn signal(&self, signal: Signal) -> bool {
        let told = timeout(ANSWER_WITHIN, self.manager.kill(&self.name, signal.as_raw())).await;
        let why = match told {
            Ok(Ok(())) => return true,
            Ok(Err(fault)) => fault.to_string(),
            Err(_) => "it does not answer".to_owned(),
        };
        tracing::warn!("systemd did not signal {}: {why}; the kernel is asked instead", self.name);
        self.group.as_ref().inspect(|group| signal_group(group, signal)).is_some()
    }

    /// Whether nothing is left in it.
    pub(super) async fn is_gone(&self) -> bool {
        if let Some(group) = &self.group {
            return is_empty(group);
        }
        match timeout(ANSWER_WITHIN, self.manager.look(&self.name)).await {
            Ok(Ok(unit)) => matches!(unit.active, Active::Inactive | Active::Failed),
            // Who cannot be asked is asked again.
            _ => false,
        }
    }

    /// What is left in it may live on.
    pub(super) fn release(&mut self) {
        self.over = true;
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let Some(group) = &self.group else { return };
        LIVING.lock().unwrap_or_else(PoisonError::into_inner).remove(group);
        if !self.over {
            signal_group(group, Signal::KILL);
        }
    }
}

/// Kills all that is in any scope.
pub(super) fn kill_all() {
    let living = LIVING.lock().unwrap_or_else(PoisonError::into_inner).clone();
    living.iter().for_each(|group| signal_group(group, Signal::KILL));
}

/// `mgmt-exec-reload-4711-3.scope`: of this process and this run alone.
fn name(id: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') { c } else { '-' };
    let of: String = id.chars().map(plain).take(NAME_CHARS_MAX).collect();
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("mgmt-{}-{}-{next}.scope", of.trim_end_matches('-'), std::process::id())
}

/// The group of a process in the kernel's one tree, or the one that systemd has for itself beside others.
fn group_of(pid: i32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let of = |prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix)?.strip_prefix('/'));
    let path = of("0::")?;
    let group = Path::new(CGROUPS).join(path);
    group.join("cgroup.events").exists().then_some(group)
}

/// Whether no process is in a group, or there is none.
fn is_empty(group: &Path) -> bool {
    match fs::read_to_string(group.join("cgroup.events")) {
        Ok(events) => events.lines().any(|line| line == "populated 0"),
        Err(_) => true,
    }
}

/// Sends a signal to all processes of a group; one that forks meanwhile may escape, except from KILL.
fn signal_group(group: &Path, signal: Signal) {
    if signal == Signal::KILL && fs::write(group.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let Ok(list) = fs::read_to_string(group.join("cgroup.procs")) else { return };
    for pid in list.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
        // Gone is what was wanted.
        kill_process(pid, signal).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_have_names_that_systemd_takes() {
        let name = name("exec[say \"hi\" @ home/x]");
        assert!(name.starts_with("mgmt-exec-say--hi----home-x-") && name.ends_with(".scope"), "{name}");
        assert!(super::name(&"ü".repeat(500)).len() < 255);
    }
}
