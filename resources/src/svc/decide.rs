//! What is wrong with a unit, from how it stands. Pure.

use std::fmt;
use std::path::PathBuf;

use mgmt_engine::resource::{self, Promise};

use crate::systemd::{Active, Load, Unit};

/// How systemd's words end where a name is taken by what is not unloaded yet (`EBUSY`).
const BUSY: &str = "Device or resource busy";

/// Whether it shall run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Running,
    Stopped,
}

/// Whether it shall be enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Startup {
    Enabled,
    Disabled,
}

/// What is wanted; what is not said is not managed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wants {
    pub(super) state: Option<State>,
    pub(super) startup: Option<Startup>,
}

/// What to do about a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    /// Something is on its way already; waited for: ….
    Wait(String),
    Drifted(Drift),
}

/// Why it can never be as wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Impossible {
    #[error("there is no unit {0} on this machine")]
    Missing(String),
    #[error("{0} is masked, so that nothing may {1} it: `systemctl unmask {0}` ends that")]
    Masked(String, &'static str),
    #[error("the file of {0} cannot be used: {1}")]
    Bad(String, String),
    #[error("{0} cannot be disabled, as it is {1}; `systemctl mask {0}` keeps it from being started")]
    NotDisabled(String, &'static str),
    #[error("{0} may not be {1} by hand, only by what it depends on")]
    NotByHand(String, &'static str),
}

/// What is wrong, in the order in which it is repaired.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Drift {
    /// systemd has to read the unit's files again; what comes after is only known then.
    pub(super) reload: bool,
    /// It has to be enabled. It is now: ….
    pub(super) enable: bool,
    /// It has to be disabled; with true, what holds until the next boot only.
    pub(super) disable: Option<bool>,
    pub(super) start: bool,
    pub(super) stop: bool,
    /// How it stands, for people.
    pub(super) file_state: String,
    pub(super) failed: bool,
    /// Its last run.
    pub(super) invocation: String,
}

impl Drift {
    pub(super) fn is_empty(&self) -> bool {
        !(self.reload || self.enable || self.disable.is_some() || self.start || self.stop)
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = Vec::new();
        if self.reload {
            said.push("its unit file has changed on disk".to_owned());
        }
        if self.enable {
            said.push(format!("is {}, wanted enabled", self.file_state));
        }
        if self.disable.is_some() {
            said.push(format!("is {}, wanted disabled", self.file_state));
        }
        if self.start {
            said.push(format!("{}, wanted running", if self.failed { "has failed" } else { "is stopped" }));
        }
        if self.stop {
            said.push("is running, wanted stopped".to_owned());
        }
        f.write_str(&said.join("; "))
    }
}

impl resource::Drift for Drift {
    /// The links of units that are enabled are systemd's, and what a service writes is nobody's guess.
    fn promises(&self) -> Vec<(PathBuf, Promise)> {
        Vec::new()
    }
}

/// What to do about this unit.
pub(super) fn decide(wants: &Wants, unit: &Unit) -> Result<Verdict, Impossible> {
    // A unit that ran while its file was away, and came back, is busy until systemd reads all of them again.
    if unit.needs_reload || (unit.load == Load::Bad && unit.load_error.ends_with(BUSY)) {
        return Ok(Verdict::Drifted(Drift { reload: true, ..Drift::default() }));
    }
    let mut drift = Drift {
        file_state: unit.file_state.clone(),
        failed: unit.active == Active::Failed,
        invocation: unit.invocation.clone(),
        ..Drift::default()
    };
    match wants.startup {
        Some(Startup::Enabled) => drift.enable = is_to_be_enabled(unit)?,
        Some(Startup::Disabled) => drift.disable = is_to_be_disabled(unit)?,
        None => {}
    }
    let wait = match wants.state {
        Some(state) => run(state, unit, &mut drift)?,
        None => None,
    };
    // What is not in the way of the running job is repaired at once.
    Ok(match wait {
        _ if !drift.is_empty() => Verdict::Drifted(drift),
        Some(what) => Verdict::Wait(what.to_owned()),
        None => Verdict::Fine,
    })
}

fn is_to_be_enabled(unit: &Unit) -> Result<bool, Impossible> {
    usable(unit, "enable")?;
    Ok(match unit.file_state.as_str() {
        "enabled" => false,
        // Nothing to enable: said once, and fine, as `systemctl enable` has it.
        "static" | "generated" | "transient" | "alias" => false,
        "masked" | "masked-runtime" => return Err(Impossible::Masked(unit.id.clone(), "enable")),
        // disabled, indirect, linked, enabled until the next boot.
        _ => true,
    })
}

fn is_to_be_disabled(unit: &Unit) -> Result<Option<bool>, Impossible> {
    Ok(match unit.file_state.as_str() {
        "enabled" => Some(false),
        "enabled-runtime" => Some(true),
        "generated" => return Err(Impossible::NotDisabled(unit.id.clone(), "made by a generator")),
        // Nobody's links, or none at all.
        _ => None,
    })
}

/// Notes what is to be done for its state, or says what is waited for.
fn run(state: State, unit: &Unit, drift: &mut Drift) -> Result<Option<&'static str>, Impossible> {
    // systemd will start it again by itself: that is no start that one could wait for.
    let pauses = unit.sub.starts_with("auto-restart") && unit.job.is_none();
    match (state, unit.active) {
        (_, Active::Activating) if !pauses => return Ok(Some("its start to end")),
        (_, Active::Deactivating) => return Ok(Some("its stop to end")),
        _ if unit.job.is_some() => return Ok(Some("its job to end")),
        (State::Running, Active::Active | Active::Reloading) => {}
        (State::Running, Active::Activating) => return Ok(Some("systemd to restart it")),
        (State::Running, Active::Inactive | Active::Failed) => {
            usable(unit, "start")?;
            if !unit.can_start {
                return Err(Impossible::NotByHand(unit.id.clone(), "started"));
            }
            drift.start = true;
        }
        (State::Stopped, Active::Inactive | Active::Failed) => {}
        (State::Stopped, Active::Active | Active::Reloading | Active::Activating) => {
            if !unit.can_stop {
                return Err(Impossible::NotByHand(unit.id.clone(), "stopped"));
            }
            drift.stop = true;
        }
    }
    Ok(None)
}

fn usable(unit: &Unit, what: &'static str) -> Result<(), Impossible> {
    match unit.load {
        Load::Loaded => Ok(()),
        Load::Missing => Err(Impossible::Missing(unit.id.clone())),
        Load::Masked => Err(Impossible::Masked(unit.id.clone(), what)),
        Load::Bad => Err(Impossible::Bad(unit.id.clone(), unit.load_error.clone())),
    }
}
