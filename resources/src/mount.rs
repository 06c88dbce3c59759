//! `mount`: a file system that is mounted at a path, now and after a reboot, or is not.
//!
//! Promises: what somebody else has mounted at the path is never taken away; nothing hangs for longer than a time limit.
//! Must not know what is below the path.

mod build;
mod fstab;
mod options;
mod table;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use mgmt_engine::resource::{self, Applied, Change, Check, Fault, Look, Promise, Resource, Signal, Watch, Work};

use self::fstab::Entry;
use self::table::Mounted;
use crate::aside::aside;
use crate::file::edited::{EditedFile, PartDrift};
use crate::host::Host;
use crate::procfs;
use crate::tools::Tool;

pub use self::build::INFO;

/// A server that has not answered by then is taken as dead, and the program that waits for it is killed.
const MOUNT_WITHIN: Duration = Duration::from_secs(60);
/// The kernel wakes whoever waits for a change of its mounts.
const TABLE: &str = "/proc/self/mountinfo";

#[derive(Debug, Clone, PartialEq)]
struct Mount {
    path: PathBuf,
    want: Want,
    /// The line of `/etc/fstab`, if that is managed.
    persisted: Option<EditedFile<Entry>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Want {
    Mounted(What),
    Unmounted,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct What {
    device: String,
    fstype: String,
    options: Vec<String>,
}

/// What is wrong with the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wrong {
    Missing,
    Present,
    /// Mounted with other options than these.
    Options(Vec<String>),
}

/// What is wrong: with the mount, with the line of `/etc/fstab`, or both.
#[derive(Debug)]
struct Drift {
    path: PathBuf,
    mount: Option<Wrong>,
    file: Option<PartDrift>,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mount {
            None => {}
            Some(Wrong::Missing) => f.write_str("not mounted")?,
            Some(Wrong::Present) => f.write_str("mounted, wanted unmounted")?,
            Some(Wrong::Options(missing)) => write!(f, "mounted without {}", missing.join(","))?,
        }
        match (&self.mount, &self.file) {
            (Some(_), Some(file)) => write!(f, ", {file}"),
            (None, Some(file)) => file.fmt(f),
            (_, None) => Ok(()),
        }
    }
}

impl resource::Drift for Drift {
    fn change(&self) -> Option<Change> {
        self.file.as_ref().and_then(PartDrift::change)
    }

    fn promises(&self) -> Vec<(PathBuf, Promise)> {
        let below = self.mount.iter().map(|_| (self.path.clone(), Promise::Anything));
        let file = self.file.as_ref().map(PartDrift::promises).unwrap_or_default();
        below.chain(file).collect()
    }
}

impl Resource for Mount {
    type Drift = Drift;

    fn watch(&self, signal: &Signal) -> Result<Watch, Fault> {
        let task = procfs::follow(TABLE, signal.clone())?;
        Ok(match &self.persisted {
            None => Watch::Task(task),
            Some(file) => Watch::Both(Box::new(file.watch(signal)?), task),
        })
    }

    async fn check(&self, look: &Look) -> Result<Check<Drift>, Fault> {
        let mount = match self.compare()? {
            Some(Wrong::Missing) => match self.possible(look)? {
                Some(why) => return Ok(Check::Unknown(why)),
                None => Some(Wrong::Missing),
            },
            other => other,
        };
        if mount.is_some() && !rustix::process::geteuid().is_root() {
            return Err(Fault::new("only root may mount and unmount"));
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
        if mount.is_none() && file.is_none() {
            return Ok(Check::Converged);
        }
        Ok(Check::Drifted(Drift { path: self.path.clone(), mount, file }))
    }

    async fn apply(&self, drift: Drift, work: &Work) -> Result<Applied, Fault> {
        let mut deeds = Vec::new();
        match (drift.mount, &self.want) {
            (Some(Wrong::Missing), Want::Mounted(what)) => {
                let tool = Tool::new("mount").arg("-t").arg(&what.fstype).arg("-o").arg(what.options_text());
                tool.arg("--").arg(&what.device).arg(&self.path).within(MOUNT_WITHIN).done().await?;
                deeds.push("mounted".to_owned());
            }
            (Some(Wrong::Options(_)), Want::Mounted(what)) => {
                let options = format!("remount,{}", what.options_text());
                let tool = Tool::new("mount").arg("-o").arg(options).arg("--").arg(&self.path);
                tool.within(MOUNT_WITHIN).done().await?;
                if let Some(Wrong::Options(missing)) = self.compare()? {
                    let why = format!("it was mounted again, but is still without {}", missing.join(","));
                    return Err(Fault::new(why));
                }
                deeds.push("mounted again with other options".to_owned());
            }
            (Some(Wrong::Present), _) => {
                self.unmount().await?;
                deeds.push("unmounted".to_owned());
            }
            (None, _) | (Some(_), Want::Unmounted) => {}
        }
        if let (Some(file), Some(wrong)) = (&self.persisted, drift.file)
            && let Applied::Changed { deed, .. } = file.apply(wrong, work).await?
        {
            deeds.push(deed.into_owned());
        }
        Ok(if deeds.is_empty() { Applied::Unchanged } else { Applied::changed(deeds.join(", ")) })
    }
}

impl Mount {
    fn compare(&self) -> Result<Option<Wrong>, Fault> {
        let standing = table::at(&self.path)?;
        match (&self.want, standing) {
            (Want::Unmounted, None) => Ok(None),
            (Want::Unmounted, Some(_)) => Ok(Some(Wrong::Present)),
            (Want::Mounted(_), None) => Ok(Some(Wrong::Missing)),
            (Want::Mounted(what), Some(mounted)) => {
                if let Some(other) = what.unlike(&mounted) {
                    let why = format!("{other} is mounted there, and is not taken away: unmount it by hand");
                    return Err(Fault::new(why));
                }
                let missing = options::missing(&what.options, &mounted);
                Ok((!missing.is_empty()).then_some(Wrong::Options(missing)))
            }
        }
    }

    /// Whether there is a directory to mount on; in a plan, who would change that first.
    fn possible(&self, look: &Look) -> Result<Option<String>, Fault> {
        if let Some((_, promise, who)) = look.promises.of(&self.path) {
            return Ok((promise != Promise::Directory).then(|| format!("{who} would change first")));
        }
        match std::fs::metadata(&self.path) {
            Ok(_) => Ok(None),
            Err(error) => {
                let hint = "a file resource with a slash at the end of its path makes the directory";
                Err(Fault::path("mount on", &self.path, format!("{error}; {hint}")))
            }
        }
    }

    async fn unmount(&self) -> Result<(), Fault> {
        let said = Tool::new("umount").arg("--").arg(&self.path).within(MOUNT_WITHIN).ended().await?;
        if said.status.success() {
            return Ok(());
        }
        let words = said.last_words();
        if !words.contains("busy") {
            return said.good("umount").map(drop);
        }
        let path = self.path.clone();
        let users = aside(move || table::users(&path)).await?;
        let users = if users.is_empty() { "something mounted below it?".to_owned() } else { users.join(", ") };
        Err(Fault::new(format!("{} is busy ({users}); end what uses it, it will be tried again", self.path.display())))
    }
}

impl What {
    fn options_text(&self) -> String {
        if self.options.is_empty() { "defaults".to_owned() } else { self.options.join(",") }
    }

    /// What is mounted instead, for people.
    fn unlike(&self, mounted: &Mounted) -> Option<String> {
        let other = || Some(format!("{} ({})", mounted.source, mounted.fstype));
        let auto = matches!(self.fstype.as_str(), "auto" | "none");
        // `nfs` may become `nfs4`, and `fuse` says what runs behind it.
        if !auto
            && !self.bind()
            && !mounted.fstype.starts_with(&self.fstype)
            && !self.fstype.starts_with(&mounted.fstype)
        {
            return other();
        }
        // What a bind or a loop device shows as its source is not what was asked for.
        let device = std::path::Path::new(&self.device);
        let (Ok(wanted), Ok(is)) = (device.canonicalize(), std::path::Path::new(&mounted.source).canonicalize()) else {
            return None;
        };
        let comparable = !self.bind() && device.is_absolute() && !wanted.is_file() && wanted.starts_with("/dev");
        (comparable && wanted != is).then(other).flatten()
    }

    fn bind(&self) -> bool {
        self.options.iter().any(|option| matches!(option.as_str(), "bind" | "rbind"))
    }
}

/// What the graph may never unmount or mount over.
fn is_protected(path: &std::path::Path, host: &Host) -> bool {
    path.parent().is_none() || host.protected.iter().any(|protected| protected.starts_with(path))
}
