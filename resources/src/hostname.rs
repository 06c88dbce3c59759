//! `hostname`: the names of this machine: what the kernel has, what it gets at boot, and one for people.
//!
//! Promises: looks at the kernel and at files, never at a daemon; asks hostnamed to make changes, where there is one, so
//! that whoever follows it hears of them. Must not know who uses the names.

mod hostnamed;
mod names;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mgmt_engine::resource::{self, Applied, Check, Fault, Look, Promise, Resource, Signal, Watch, Work};

use self::names::{Note, Which, Whole};
use crate::file::edited::EditedFile;
use crate::host::HostRef;
use crate::kind::{Anchor, Built, Context, Facets, Field, KindInfo, Params, Problem, Shape};
use crate::procfs;

/// The name that the machine gets at boot.
const STATIC: &str = "/etc/hostname";
/// The one for people.
const INFO_FILE: &str = "/etc/machine-info";
/// The kernel wakes whoever waits for a change of its name.
const KERNEL: &str = "/proc/sys/kernel/hostname";

/// The kind's table entry.
pub static INFO: KindInfo = KindInfo {
    name: "hostname",
    summary: "the names of this machine",
    notes: "\
A machine has a name in the running kernel (transient), one that it gets at boot (static, in /etc/hostname), and one for \
people (pretty, in /etc/machine-info). hostname stands for the first two. What is not given is not managed.

Changes are made by hostnamed over the system bus. Where there is none, the files are written whole and the kernel's name is \
set directly; that is said once. Names are letters, digits and hyphens in parts between dots, 64 bytes at most.

Watches /etc/hostname, /etc/machine-info and the kernel's name. A refresh does nothing.",
    example: "\
resources:
  hostname:
  - name: web1
    hostname: web1.example.com
    pretty_hostname: Web server in rack 4
",
    fields: &[
        Field {
            name: "hostname",
            shape: Shape::Text,
            default: "the name, if nothing else is given",
            doc: "The name, for static_hostname and transient_hostname.",
        },
        Field { name: "pretty_hostname", shape: Shape::Text, default: "kept", doc: "The name for people, any text." },
        Field {
            name: "static_hostname",
            shape: Shape::Text,
            default: "hostname",
            doc: "The name that the machine gets at boot.",
        },
        Field {
            name: "transient_hostname",
            shape: Shape::Text,
            default: "hostname",
            doc: "The name in the running kernel.",
        },
    ],
    build,
};

#[derive(Debug, PartialEq)]
struct Hostname {
    /// What is managed, in the order in which it is set: hostnamed sets the kernel's name with the static one.
    wanted: Vec<(Which, String)>,
    host: HostRef,
}

#[derive(Debug)]
struct Drift(Vec<Note>);

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let notes: Vec<String> = self.0.iter().map(Note::to_string).collect();
        f.write_str(&notes.join(", "))
    }
}

impl resource::Drift for Drift {
    fn promises(&self) -> Vec<(PathBuf, Promise)> {
        self.0.iter().filter_map(|note| note.which.file()).map(|file| (file.into(), Promise::File)).collect()
    }
}

impl Resource for Hostname {
    type Drift = Drift;

    fn watch(&self, signal: &Signal) -> Result<Watch, Fault> {
        let files = self.wanted.iter().filter_map(|(which, _)| which.file());
        let guards =
            files.map(|file| self.host.watches.path(Path::new(file), signal)).collect::<Result<Vec<_>, _>>()?;
        let held = Box::new(guards);
        Ok(match self.wanted.iter().any(|(which, _)| *which == Which::Transient) {
            true => Watch::Both(held, procfs::follow(KERNEL, signal.clone())?),
            false => Watch::Held(held),
        })
    }

    async fn check(&self, _: &Look) -> Result<Check<Drift>, Fault> {
        let mut notes = Vec::new();
        for (which, wanted) in &self.wanted {
            let is = which.now()?;
            if is != *wanted {
                notes.push(Note { which: *which, is, wanted: wanted.clone() });
            }
        }
        if notes.is_empty() {
            return Ok(Check::Converged);
        }
        if !rustix::process::geteuid().is_root() {
            return Err(Fault::new("only root may change the names of a machine"));
        }
        Ok(Check::Drifted(Drift(notes)))
    }

    async fn apply(&self, drift: Drift, work: &Work) -> Result<Applied, Fault> {
        let bus = match hostnamed::there(&self.host.bus).await {
            Ok(bus) => Some(bus),
            Err(why) => {
                tracing::info!("no hostnamed here ({why}): the files and the kernel's name are set by mgmt itself");
                None
            }
        };
        let mut deeds = Vec::new();
        for Note { which, wanted, .. } in drift.0 {
            // The static name may have brought the kernel's with it.
            if which.now()? != wanted {
                match &bus {
                    Some(bus) => hostnamed::set(bus, which, &wanted).await?,
                    None => self.set(which, &wanted, work).await?,
                }
            }
            deeds.push(format!("{which} set to {wanted}"));
        }
        Ok(Applied::changed(deeds.join(", ")))
    }
}

impl Hostname {
    /// Without hostnamed.
    async fn set(&self, which: Which, wanted: &str, work: &Work) -> Result<(), Fault> {
        let Some(path) = which.file() else {
            let set = rustix::system::sethostname(wanted.as_bytes());
            return set.map_err(|error| Fault::new(format!("cannot set the kernel's name: {error}")));
        };
        let file = EditedFile::new(Path::new(path), Whole { which, wanted: wanted.to_owned() }, self.host.clone());
        match file.check(&Look::because(work.cause)).await? {
            Check::Drifted(drift) => file.apply(drift, work).await.map(drop),
            _ => Ok(()),
        }
    }
}

fn build(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let fields = ["hostname", "pretty_hostname", "static_hostname", "transient_hostname"];
    let [mut name, pretty, fixed, transient] = fields.map(|field| params.filled(field));
    if name.is_none() && pretty.is_none() && fixed.is_none() && transient.is_none() {
        name = Some(context.called.to_owned());
    }
    let mut problems = Vec::new();
    let mut check = |field: &'static str, name: &Option<String>, wrong: fn(&str) -> Option<&'static str>| {
        let wrong = name.as_deref().and_then(wrong);
        problems.extend(wrong.map(|why| Problem::new(field, why)));
    };
    check("hostname", &name, names::wrong);
    check("static_hostname", &fixed, names::wrong);
    check("transient_hostname", &transient, names::wrong);
    check("pretty_hostname", &pretty, names::wrong_pretty);
    if !problems.is_empty() {
        return Err(problems);
    }
    let wanted = [
        (Which::Static, fixed.or_else(|| name.clone())),
        (Which::Pretty, pretty),
        (Which::Transient, transient.or(name)),
    ];
    let wanted: Vec<(Which, String)> = wanted.into_iter().filter_map(|(which, name)| Some((which, name?))).collect();
    let fixed = wanted.iter().any(|(which, _)| *which == Which::Static);
    let owns = fixed.then(|| PathBuf::from(STATIC));
    let facets = Facets { provides: owns.iter().cloned().map(Anchor::Path).collect(), owns, ..Facets::default() };
    let resource = Hostname { wanted, host: HostRef(Arc::clone(context.host)) };
    Ok(Built { resource: Arc::new(resource), facets, warnings: Vec::new() })
}
