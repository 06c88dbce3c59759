//! What systemd says of a unit, as values.

use std::collections::BTreeMap;
use std::path::PathBuf;

use zbus::zvariant::Value;

/// Whether systemd has a unit's file, and could read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// It has.
    Loaded,
    /// There is no such file.
    Missing,
    /// It is a link to `/dev/null`: nothing may start it.
    Masked,
    /// There is one that cannot be used; `load_error` says why.
    Bad,
}

/// What a unit is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Active {
    /// It runs, or has run and counts as running (`RemainAfterExit=`).
    Active,
    /// It runs, and is reading its configuration again.
    Reloading,
    /// It does not run.
    Inactive,
    /// It does not run, because it failed.
    Failed,
    /// It is being started.
    Activating,
    /// It is being stopped.
    Deactivating,
}

/// A unit as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its own name, where the one that was asked for is an alias.
    pub id: String,
    /// Whether there is one.
    pub load: Load,
    /// Why it is [`Load::Bad`], in systemd's words.
    pub load_error: String,
    /// What it is doing.
    pub active: Active,
    /// The same, finer, in the words of its type: `running`, `exited`, `auto-restart`.
    pub sub: String,
    /// The file it was read from.
    pub fragment: Option<PathBuf>,
    /// The drop-ins read besides.
    pub drop_ins: Vec<PathBuf>,
    /// What stands on disk is not what systemd has read.
    pub needs_reload: bool,
    /// A job of it that waits or runs.
    pub job: Option<u32>,
    /// It may be started by hand.
    pub can_start: bool,
    /// It may be stopped by hand.
    pub can_stop: bool,
    /// It knows how to read its configuration again.
    pub can_reload: bool,
    /// Names this run of it in the journal: 32 digits, or none.
    pub invocation: String,
    /// Whether it is enabled, as `systemctl is-enabled` says it: `enabled`, `static`, `masked`; empty: no file.
    pub file_state: String,
}

impl Unit {
    /// From the properties of `org.freedesktop.systemd1.Unit`.
    pub(super) fn of(asked: &str, all: &BTreeMap<String, Value<'_>>, file_state: String) -> Self {
        let text = |key: &str| match all.get(key) {
            Some(Value::Str(text)) => text.as_str(),
            _ => "",
        };
        let flag = |key: &str| matches!(all.get(key), Some(Value::Bool(true)));
        let id = Some(text("Id")).filter(|id| !id.is_empty()).unwrap_or(asked);
        Self {
            id: id.to_owned(),
            load: load(text("LoadState")),
            load_error: load_error(all.get("LoadError")),
            active: active(text("ActiveState")),
            sub: text("SubState").to_owned(),
            fragment: Some(text("FragmentPath")).filter(|path| !path.is_empty()).map(PathBuf::from),
            drop_ins: texts(all.get("DropInPaths")).into_iter().map(PathBuf::from).collect(),
            needs_reload: flag("NeedDaemonReload"),
            job: job(all.get("Job")),
            can_start: flag("CanStart"),
            can_stop: flag("CanStop"),
            can_reload: flag("CanReload"),
            invocation: hex(all.get("InvocationID")),
            file_state,
        }
    }
}

/// What a look and a signal can be compared by: whether the one already knew what the other tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digest {
    active: Active,
    sub: String,
    invocation: String,
    pub(super) job: Option<u32>,
}

impl Digest {
    pub(super) fn of(unit: &Unit) -> Self {
        let Unit { active, sub, invocation, job, .. } = unit;
        Self::with(*active, sub.clone(), invocation.clone(), *job)
    }

    /// Of a unit that does not run, systemd may at any time forget what its last run was.
    fn with(active: Active, sub: String, invocation: String, job: Option<u32>) -> Self {
        match active {
            Active::Inactive => Self { active, sub: String::new(), invocation: String::new(), job },
            _ => Self { active, sub, invocation, job },
        }
    }

    /// From the properties that a signal brings; `None`: it does not bring all of them.
    pub(super) fn brought(all: &BTreeMap<&str, Value<'_>>) -> Option<Self> {
        let (Value::Str(state), Value::Str(sub)) = (all.get("ActiveState")?, all.get("SubState")?) else { return None };
        let invocation = hex(Some(all.get("InvocationID")?));
        Some(Self::with(active(state), sub.to_string(), invocation, job(Some(all.get("Job")?))))
    }
}

fn load(word: &str) -> Load {
    match word {
        "loaded" | "merged" => Load::Loaded,
        "masked" => Load::Masked,
        // `stub` is a name that others refer to and that nobody has looked for yet: whoever looks has it loaded.
        "not-found" | "stub" => Load::Missing,
        _ => Load::Bad,
    }
}

fn active(word: &str) -> Active {
    match word {
        "active" => Active::Active,
        // `refreshing` and `maintenance` are newer words for the same: it runs, and is busy with itself.
        "reloading" | "refreshing" | "maintenance" => Active::Reloading,
        "failed" => Active::Failed,
        "activating" => Active::Activating,
        "deactivating" => Active::Deactivating,
        _ => Active::Inactive,
    }
}

/// A pair of an error's name and words.
fn load_error(value: Option<&Value<'_>>) -> String {
    let Some(Value::Structure(pair)) = value else { return String::new() };
    match pair.fields() {
        [_, Value::Str(words)] => words.trim_end_matches('.').to_owned(),
        _ => String::new(),
    }
}

/// A pair of the job's number, 0 for none, and its path.
fn job(value: Option<&Value<'_>>) -> Option<u32> {
    let Some(Value::Structure(pair)) = value else { return None };
    match pair.fields().first() {
        Some(Value::U32(id)) if *id != 0 => Some(*id),
        _ => None,
    }
}

fn texts(value: Option<&Value<'_>>) -> Vec<String> {
    let Some(Value::Array(list)) = value else { return Vec::new() };
    let text = |value: &Value<'_>| match value {
        Value::Str(text) => Some(text.to_string()),
        _ => None,
    };
    list.iter().filter_map(text).collect()
}

fn hex(value: Option<&Value<'_>>) -> String {
    let Some(Value::Array(bytes)) = value else { return String::new() };
    let byte = |value: &Value<'_>| match value {
        Value::U8(byte) => format!("{byte:02x}"),
        _ => String::new(),
    };
    bytes.iter().map(byte).collect()
}

/// Where the bus has a unit of this name. systemd loads it when it is asked there.
pub(super) fn path(unit: &str) -> String {
    let mut path = String::from("/org/freedesktop/systemd1/unit/");
    for (at, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            path.push(byte.into());
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_path_is_its_escaped_name() {
        assert_eq!(path("dbus.service"), "/org/freedesktop/systemd1/unit/dbus_2eservice");
        assert_eq!(path("9a@b-c.service"), "/org/freedesktop/systemd1/unit/_39a_40b_2dc_2eservice");
    }

    #[test]
    fn properties_become_a_unit() {
        let mut all = BTreeMap::from([
            ("Id".to_owned(), Value::from("a.service")),
            ("LoadState".to_owned(), Value::from("loaded")),
            ("ActiveState".to_owned(), Value::from("failed")),
            ("FragmentPath".to_owned(), Value::from("/etc/systemd/system/a.service")),
            ("DropInPaths".to_owned(), Value::from(vec!["/etc/systemd/system/a.service.d/x.conf"])),
            ("NeedDaemonReload".to_owned(), Value::from(true)),
            ("InvocationID".to_owned(), Value::from(vec![1_u8, 0xab])),
            ("LoadError".to_owned(), Value::from(("name", "Unit is bad."))),
            ("Job".to_owned(), Value::from((7_u32, "/x"))),
        ]);
        let unit = Unit::of("b.service", &all, "enabled".to_owned());
        assert_eq!((unit.id.as_str(), unit.load, unit.active), ("a.service", Load::Loaded, Active::Failed));
        assert_eq!((unit.needs_reload, unit.job, unit.invocation.as_str()), (true, Some(7), "01ab"));
        assert_eq!((unit.drop_ins.len(), unit.load_error.as_str()), (1, "Unit is bad"));
        all.clear();
        let unit = Unit::of("b.service", &all, String::new());
        assert_eq!((unit.id.as_str(), unit.load, unit.job), ("b.service", Load::Bad, None));
    }
}
