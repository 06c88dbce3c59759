//! `sysctl`: a parameter of the running kernel, and the file that sets it again after a reboot.
//!
//! Must not know what any parameter does.

use std::fmt;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mgmt_engine::resource::{self, Applied, Change, Check, Fault, Look, Promise, Resource, Signal, Watch, Work};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use tokio::time::{MissedTickBehavior, interval};

use crate::file::edited::{Edit, Edited, EditedFile, PartDrift};
use crate::host::HostRef;
use crate::kind::{Anchor, Built, Context, Facets, Field, KindInfo, Params, Problem, Shape};

/// The kernel raises no event when a parameter changes.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Where the kernel shows its parameters.
const RUNNING: &str = "/proc/sys";
/// Where they are set from at boot.
const PERSISTED: &str = "/etc/sysctl.d";

/// The kind's table entry.
pub static INFO: KindInfo = KindInfo {
    name: "sysctl",
    summary: "a parameter of the kernel, now and after a reboot",
    notes: "\
Sets a parameter of the running kernel through /proc/sys, and, with persist, keeps a file /etc/sysctl.d/60-mgmt-KEY.conf that \
sets it again at boot. Values are compared word by word: how many blanks stand between them makes no difference. A value that \
the kernel changes on its way in is a failure that says what it made of it. Where the parameter does not exist, its module may \
not be loaded yet; in a container /proc/sys is mostly read-only. Both are failures that say so.

The kernel raises no event when a parameter changes: it is looked at every 30 seconds (meta.poll asks for other times). The \
file is watched. A refresh does nothing.",
    example: "\
resources:
  sysctl:
  - name: forward
    key: net.ipv4.ip_forward
    value: 1
  - name: swap-late
    key: vm.swappiness
    value: 10
    persist: false
",
    fields: &[
        Field {
            name: "key",
            shape: Shape::Text,
            default: "the name",
            doc: "The parameter, with dots (net.ipv4.ip_forward) or slashes (net/ipv4/conf/eth0.5/forwarding) between its parts.",
        },
        Field { name: "value", shape: Shape::Text, default: "", doc: "Its value, one line." },
        Field { name: "persist", shape: Shape::Bool, default: "true", doc: "Set it again after a reboot." },
    ],
    build,
};

#[derive(Debug, PartialEq)]
struct Sysctl {
    key: Key,
    value: String,
    /// The file under `/proc/sys`.
    running: PathBuf,
    persisted: Option<EditedFile<Setting>>,
}

/// The parts of a parameter's name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key(Vec<String>);

impl Key {
    /// The first separator says which one it is; the other one is then a part of names, as for `sysctl(8)`.
    fn parse(text: &str) -> Option<Self> {
        let separator = text.chars().find(|c| matches!(c, '.' | '/'))?;
        let parts =
            text.split(separator).map(|part| if separator == '.' { part.replace('/', ".") } else { part.to_owned() });
        let parts: Vec<String> = parts.collect();
        let good = |part: &String| {
            !matches!(part.as_str(), "" | "." | "..")
                && !part.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control())
        };
        parts.iter().all(good).then_some(Self(parts))
    }
}

/// As it is written into a file.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.0.iter().any(|part| part.contains('.')) { "/" } else { "." };
        f.write_str(&self.0.join(separator))
    }
}

/// The whole of a file that sets one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting {
    text: String,
}

impl Edit for Setting {
    fn edited(&self, before: Option<&[u8]>) -> Result<Option<Edited>, Fault> {
        let after = self.text.as_bytes();
        Ok((before != Some(after)).then(|| Edited { after: after.to_vec(), wrong: "not persisted", deed: "persisted" }))
    }
}

/// What is wrong: with the running kernel, with the file, or both.
#[derive(Debug)]
struct Drift {
    running: Option<String>,
    wanted: String,
    file: Option<PartDrift>,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(is) = &self.running {
            write!(f, "value is {is}, wanted {}", self.wanted)?;
        }
        match (&self.file, &self.running) {
            (Some(file), Some(_)) => write!(f, ", {file}"),
            (Some(file), None) => write!(f, "{file}"),
            (None, _) => Ok(()),
        }
    }
}

impl resource::Drift for Drift {
    fn change(&self) -> Option<Change> {
        self.file.as_ref().and_then(PartDrift::change)
    }

    fn promises(&self) -> Vec<(PathBuf, Promise)> {
        self.file.as_ref().map(PartDrift::promises).unwrap_or_default()
    }
}

impl Resource for Sysctl {
    type Drift = Drift;

    fn watch(&self, signal: &Signal) -> Result<Watch, Fault> {
        let task = look_again(signal.clone());
        Ok(match &self.persisted {
            None => Watch::Task(Box::pin(task)),
            Some(file) => Watch::Both(Box::new(file.watch(signal)?), Box::pin(task)),
        })
    }

    async fn check(&self, look: &Look) -> Result<Check<Drift>, Fault> {
        let is = self.read()?;
        let running = (!same(&is, &self.value)).then_some(is);
        if running.is_some() {
            self.writable()?;
        }
        let file = match &self.persisted {
            None => None,
            Some(file) => match file.check(look).await? {
                Check::Converged => None,
                Check::Drifted(drift) => Some(drift),
                Check::Unknown(why) => return Ok(Check::Unknown(why)),
                Check::Later(why) => return Ok(Check::Later(why)),
            },
        };
        if running.is_none() && file.is_none() {
            return Ok(Check::Converged);
        }
        Ok(Check::Drifted(Drift { running, wanted: self.value.clone(), file }))
    }

    async fn apply(&self, drift: Drift, work: &Work) -> Result<Applied, Fault> {
        let mut deeds = Vec::new();
        if drift.running.is_some() {
            self.write()?;
            deeds.push(format!("set to {}", self.value));
        }
        if let (Some(file), Some(wrong)) = (&self.persisted, drift.file)
            && let Applied::Changed { deed, .. } = file.apply(wrong, work).await?
        {
            deeds.push(deed.into_owned());
        }
        Ok(if deeds.is_empty() { Applied::Unchanged } else { Applied::changed(deeds.join(", ")) })
    }
}

impl Sysctl {
    fn read(&self) -> Result<String, Fault> {
        match fs::read(&self.running) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                let why = format!("this kernel has no parameter {} (is its module loaded?)", self.key);
                Err(Fault::new(why))
            }
            Err(error) => Err(Fault::path("read", &self.running, error)),
        }
    }

    fn writable(&self) -> Result<(), Fault> {
        match accessat(CWD, &self.running, Access::WRITE_OK, AtFlags::EACCESS) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.refused(error)),
        }
    }

    fn refused(&self, error: Errno) -> Fault {
        match error {
            Errno::ROFS => {
                Fault::new(format!("{RUNNING} is read-only here (a container?): {} is set outside of it", self.key))
            }
            Errno::ACCESS | Errno::PERM => Fault::path("write", &self.running, format!("{error} (that takes root)")),
            Errno::INVAL => Fault::new(format!("the kernel does not take {} for {}", self.value, self.key)),
            error => Fault::path("write", &self.running, error),
        }
    }

    /// Writes the value in one piece: each write counts by itself there.
    fn write(&self) -> Result<(), Fault> {
        let fault = |error: std::io::Error| match error.raw_os_error() {
            Some(code) => self.refused(Errno::from_raw_os_error(code)),
            None => Fault::path("write", &self.running, error),
        };
        let mut file = fs::OpenOptions::new().write(true).open(&self.running).map_err(fault)?;
        file.write_all(format!("{}\n", self.value).as_bytes()).map_err(fault)?;
        let made = self.read()?;
        match same(&made, &self.value) {
            true => Ok(()),
            false => Err(Fault::new(format!("the kernel has made {made} of {}", self.value))),
        }
    }
}

/// Whether two values are the same words.
fn same(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

async fn look_again(signal: Signal) -> Result<(), Fault> {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    loop {
        ticks.tick().await;
        signal.raise();
    }
}

fn build(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let mut problems = Vec::new();
    let text = params.filled("key").unwrap_or_else(|| context.called.to_owned());
    let key = Key::parse(&text);
    if key.is_none() {
        problems.push(Problem::new("key", format!("'{}' is no name of a parameter", text.escape_debug())));
    }
    let value = params.text("value").map(|value| value.trim().to_owned());
    match &value {
        None => problems.push(Problem::new("value", "is missing")),
        Some(value) if value.contains(['\n', '\0']) => problems.push(Problem::new("value", "has to be one line")),
        Some(_) => {}
    }
    let persist = params.bool("persist").unwrap_or(true);
    let (Some(key), Some(value), true) = (key, value, problems.is_empty()) else { return Err(problems) };
    let running = key.0.iter().fold(PathBuf::from(RUNNING), |path, part| path.join(part));
    let path = Path::new(PERSISTED).join(format!("60-mgmt-{}.conf", key.0.join(".")));
    let setting = Setting { text: format!("# kept by mgmt\n{key} = {value}\n") };
    let host = HostRef(Arc::clone(context.host));
    let persisted = persist.then(|| EditedFile::new(&path, setting, host));
    let claims = Some(format!("the parameter {key}"));
    let facets = match persist {
        false => Facets { claims, ..Facets::default() },
        true => Facets {
            wants: vec![Anchor::Parent(path.clone()), Anchor::Shipped(path.clone())],
            provides: vec![Anchor::Path(path.clone())],
            owns: Some(path),
            claims,
            ..Facets::default()
        },
    };
    let resource = Sysctl { key, value, running, persisted };
    Ok(Built { resource: Arc::new(resource), facets, warnings: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mgmt_engine::resource::Cause;

    fn key(text: &str) -> Option<(String, String)> {
        Key::parse(text).map(|key| (key.to_string(), key.0.join(" ")))
    }

    #[test]
    fn the_first_separator_is_the_one() {
        let of = |shown: &str, parts: &str| Some((shown.to_owned(), parts.to_owned()));
        assert_eq!(key("net.ipv4.ip_forward"), of("net.ipv4.ip_forward", "net ipv4 ip_forward"));
        assert_eq!(key("net/ipv4/ip_forward"), of("net.ipv4.ip_forward", "net ipv4 ip_forward"));
        assert_eq!(key("net.conf.eth0/5.x"), of("net/conf/eth0.5/x", "net conf eth0.5 x"));
        assert_eq!(key("net/conf/eth0.5/x"), of("net/conf/eth0.5/x", "net conf eth0.5 x"));
        for bad in ["", "net", "net..x", ".net.x", "net/../x", "a.b c", "../x", "a.//.b"] {
            assert_eq!(key(bad), None, "{bad}");
        }
    }

    #[test]
    fn blanks_make_no_difference() {
        assert!(same("4096\t131072\t6291456", "4096 131072  6291456"));
        assert!(!same("1", "10"));
    }

    #[tokio::test]
    async fn a_parameter_is_read_set_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let running = directory.path().join("swappiness");
        fs::write(&running, "60\n").unwrap();
        let key = Key::parse("vm.swappiness").unwrap();
        let sysctl = Sysctl { key, value: "10".to_owned(), running, persisted: None };
        let look = Look::because(Cause::First);
        let Check::Drifted(drift) = sysctl.check(&look).await.unwrap() else { panic!("it is as wanted") };
        assert_eq!(drift.to_string(), "value is 60, wanted 10");
        let applied = sysctl.apply(drift, &Work::because(Cause::First)).await.unwrap();
        assert_eq!(applied, Applied::changed("set to 10"));
        assert!(matches!(sysctl.check(&look).await, Ok(Check::Converged)));
        let missing = Sysctl { running: directory.path().join("none"), ..sysctl };
        let fault = missing.check(&look).await.unwrap_err().to_string();
        assert_eq!(fault, "this kernel has no parameter vm.swappiness (is its module loaded?)");
    }
}
