//! `file`: a regular file, a directory, or a symbolic link, or nothing, at one path.
//!
//! Promises: whole or nothing (the old version or the new one stands, at every instant and after any crash); the last
//! part of a path is never followed if it is a symbolic link; a check writes nothing. Must not know of other resources,
//! except by the paths that a purge has to leave alone.

mod attributes;
mod confined;
mod contents;
mod desired;
mod drift;
pub(crate) mod edited;
mod look;
mod modes;
mod mounts;
mod never;
mod place;
mod remove;
mod repair;
mod steps;
mod strays;
#[cfg(test)]
mod tests;
mod tree;
mod write;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mgmt_engine::resource::{
    Applied, Cause, Check, Fault, Look, Promise, Promises, Purpose, Resource, Signal, Watch, Work,
};

use crate::accounts::editing;
use crate::aside::aside;
use crate::host::{Host, HostRef};
use crate::kind::{Built, Context, Facets, Field, KindInfo, Params, Problem, Shape, Value};
use crate::watches::Guard;

use attributes::Ids;
pub(crate) use contents::{Made, Maker};
use desired::{Contents, Desired, Want};
pub(crate) use drift::Drift;
use look::{Looker, Outlook, Trouble};
use never::Never;
use place::{Place, Way};
pub(crate) use remove::{open_inside, remove as remove_tree};

/// The kind's table entry.
pub static INFO: KindInfo = KindInfo {
    name: "file",
    summary: "a file, a directory or a symbolic link, with its contents, mode and owner",
    notes: "\
Keeps what stands at a path as it is described. A path that ends with a slash is a directory. What is not described is
not managed: without content, contents stay what they are; without mode, an existing file keeps its mode. Without state,
nothing is created; what exists is corrected.

A file is written under a temporary name in its own directory and renamed, with its final owner and mode: whoever reads
sees the old version or the new one, whole. A file that is replaced keeps its access control list and extended attributes.
Unless durable is false, the new version is on stable storage before the resource counts as done.

A symbolic link at the path is never followed: it is replaced where a file with contents is wanted, and refused where
only attributes are managed. Removing, replacing by force and purging stop at mount points, other file systems, and the
paths this program lives by.

With recurse, the members of source are copied into a directory: files, directories and symbolic links. Copies keep the
permission bits of the source when they are new; owner and group, where given, hold for members, too; mode only for the
directory itself. If the directory is purged, a member that another file resource manages is left to that one, and so is
all that is in a directory whose members that one copies.

Watches the path, its source and fragments. A refresh does nothing.",
    example: "\
resources:
  file:
  - name: motd
    path: /etc/motd
    content: |
      welcome
    mode: '0644'
    owner: root
    state: exists
  - name: site
    path: /srv/site/
    source: site/
    state: exists
    recurse: true
    purge: true
",
    fields: FIELDS,
    build,
};

static FIELDS: &[Field] = &[
    field(
        "path",
        Shape::Path,
        "the name, if that is absolute",
        "Where it stands. A slash at the end says: a directory.",
    ),
    field("dirname", Shape::Path, "", "With basename, another way to give path: the directory."),
    field("basename", Shape::Text, "", "With dirname: the name in it. A slash at the end says: a directory."),
    field(
        "state",
        Shape::Choice(&["exists", "absent"]),
        "corrected if it exists, never created",
        "Whether it shall exist. A directory that is not empty is only removed with recurse and force.",
    ),
    field("content", Shape::Text, "contents are not managed", "The contents. Empty text is an empty file."),
    field(
        "source",
        Shape::Path,
        "",
        "A file to copy; for a directory with recurse, a directory whose members to copy; for a symlink, where it points.",
    ),
    field(
        "fragments",
        Shape::Paths,
        "",
        "Files to concatenate, in this order. A directory stands for its regular files, sorted by name.",
    ),
    field(
        "mode",
        Shape::Text,
        "0644 or 0755 for what is new; else kept",
        "Permission bits: octal (0644), or symbolic (u+rwx,go-w), which changes those that stand.",
    ),
    field("owner", Shape::Text, "kept", "A user's name, or a number."),
    field("group", Shape::Text, "kept", "A group's name, or a number."),
    field(
        "recurse",
        Shape::Bool,
        "false",
        "For a directory: make missing ones above it, copy the members of source. With force and state absent: remove \
         all that is in it.",
    ),
    field(
        "force",
        Shape::Bool,
        "false",
        "Replace a directory (with all that is in it) by a file, or a file by a directory.",
    ),
    field(
        "purge",
        Shape::Bool,
        "false",
        "With recurse: remove from a directory what neither source nor the graph has.",
    ),
    field("symlink", Shape::Bool, "false", "It shall be a symbolic link to source."),
    field(
        "durable",
        Shape::Bool,
        "true",
        "Wait until it is on stable storage. Without it, a power loss may take the file, or leave it empty.",
    ),
];

const fn field(name: &'static str, shape: Shape, default: &'static str, doc: &'static str) -> Field {
    Field { name, shape, default, doc }
}

/// One path, as it shall be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct File {
    desired: Arc<Desired>,
    host: HostRef,
    unsynced: Unsynced,
}

/// Set while a repair has been seen by readers but is not known to be on stable storage: what stands looks right then,
/// but must not count as clean. Not part of what is wanted, so always equal.
#[derive(Debug, Clone, Default)]
struct Unsynced(Arc<AtomicBool>);

impl PartialEq for Unsynced {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

fn build(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let (desired, warnings) = desired::desired(params, context)?;
    let facets = desired.facets();
    Ok(Built { resource: Arc::new(File::of(desired, context)), facets, warnings })
}

impl File {
    /// A file that always exists, with contents that somebody else makes; for kinds that get them elsewhere. Takes `path`,
    /// `mode`, `owner` and `group`.
    pub(crate) fn made(
        params: &mut Params,
        context: &Context<'_>,
        maker: Arc<dyn Maker>,
    ) -> Result<(Self, Facets), Vec<Problem>> {
        let (mut desired, _) = desired::desired(params, context)?;
        if !matches!(desired.want, Want::File(_)) {
            return Err(vec![Problem::new("path", "ends with a slash, but it is a file")]);
        }
        (desired.want, desired.create) = (Want::File(Contents::Made(Made(maker))), true);
        let facets = desired.facets();
        Ok((Self::of(desired, context), facets))
    }

    /// A file with these contents, or none at this path; for kinds that keep something in files.
    pub(crate) fn written(
        path: &Path,
        contents: Option<Vec<u8>>,
        mode: &str,
        context: &Context<'_>,
    ) -> Result<Self, Vec<Problem>> {
        let mut params = Params::default();
        params.set("path", Value::Text(path.to_string_lossy().into_owned()));
        let state = if contents.is_some() { "exists" } else { "absent" };
        params.set("state", Value::Text(state.to_owned()));
        if let Some(contents) = contents {
            params.set("content", Value::Bytes(contents));
            params.set("mode", Value::Text(mode.to_owned()));
        }
        desired::desired(&mut params, context).map(|(desired, _)| Self::of(desired, context))
    }

    fn of(desired: Desired, context: &Context<'_>) -> Self {
        let host = HostRef(Arc::clone(context.host));
        Self { desired: Arc::new(desired), host, unsynced: Unsynced::default() }
    }
}

impl Resource for File {
    type Drift = Drift;

    fn watch(&self, signal: &Signal) -> Result<Watch, Fault> {
        let desired = &*self.desired;
        // Not in check, which writes nothing; here a repair may follow at any time.
        if !desired.slow && !self.host.noop {
            strays::clean(&desired.parent, || Way::reach(desired)?.directory(desired));
        }
        // By name, also where the path is confined. A link on the way would lead this to events from elsewhere; but an event
        // is only a hint to look, and the look goes the way that cannot be led astray. One that is missed because the
        // way changed meanwhile comes with the change itself: every directory on the way is watched.
        let watch = |path, tree| match tree {
            true => self.host.watches.tree(path, signal),
            false => self.host.watches.path(path, signal),
        };
        let mut guards: Vec<Guard> = vec![watch(&desired.path, desired.is_tree())?];
        for source in desired.want.sources() {
            guards.push(watch(source, desired.is_tree())?);
        }
        Ok(Watch::Held(Box::new(guards)))
    }

    async fn check(&self, look: &Look) -> Result<Check<Drift>, Fault> {
        let outlook = match self.outlook(&look.promises) {
            Ok(outlook) => outlook,
            Err(why) => return Ok(Check::Unknown(why)),
        };
        let found = self.look(look, outlook).await?;
        if matches!(found, Check::Converged)
            && look.purpose == Purpose::Converge
            && self.unsynced.0.load(Ordering::Relaxed)
        {
            return Ok(Check::Drifted(Drift::unsynced(&self.desired)));
        }
        Ok(found)
    }

    async fn apply(&self, drift: Drift, work: &Work) -> Result<Applied, Fault> {
        // Set before and cleared after: whatever goes wrong in between, the next look makes up for it.
        self.unsynced.0.store(self.desired.durable, Ordering::Relaxed);
        let applied = self.repair(drift, work).await?;
        self.unsynced.0.store(false, Ordering::Relaxed);
        Ok(applied)
    }
}

impl File {
    async fn look(&self, look: &Look, outlook: Outlook) -> Result<Check<Drift>, Fault> {
        let ids = match self.ids().await {
            Ok(ids) => ids,
            // In a plan, whoever is not there yet may be made by then.
            Err(fault) => return editing::failed(look, fault),
        };
        let warn = matches!(look.cause, Cause::First | Cause::Reload);
        if !self.desired.slow {
            match self.looker(ids, outlook, warn, false)?.look() {
                Ok(found) => return Ok(found),
                Err(Trouble::Fault(fault)) => return Err(fault),
                Err(Trouble::Slow) => {}
            }
        }
        let this = self.clone();
        let looked = aside(move || this.looker(ids, outlook, warn, true)?.look()).await?;
        looked.map_err(|trouble| match trouble {
            Trouble::Fault(fault) => fault,
            Trouble::Slow => unreachable!("a patient look takes its time"),
        })
    }

    async fn repair(&self, drift: Drift, work: &Work) -> Result<Applied, Fault> {
        if !repair::is_heavy(&drift) {
            return repair::carry_out(&self.host, &drift, work).await;
        }
        let (this, work) = (self.clone(), work.clone());
        let runtime = tokio::runtime::Handle::current();
        aside(move || runtime.block_on(repair::carry_out(&this.host, &drift, &work))).await?
    }
}

/// Whether the directory at a path could be replaced by another one, or made: for kinds that do.
pub(crate) fn replaceable(host: &Host, path: &Path) -> Result<(), Fault> {
    let parent = path.parent().unwrap_or(path);
    match std::fs::metadata(parent) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(Fault::path("create", path, format!("{} is not a directory", parent.display()))),
        Err(_) => {
            return Err(Fault::path("create", path, format!("its directory {} does not exist", parent.display())));
        }
    }
    Never::of(&host.protected).removable(Place::absolute(path), &never::resolved(path))
}

/// Fails if something is mounted at a path or below it.
pub(crate) fn clear_of_mounts(path: &Path) -> Result<(), Fault> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let opened = std::fs::File::open(parent).map_err(|error| Fault::path("open", parent, error))?;
    match remove::holds_mount(&opened, name, 0) {
        Ok(false) => Ok(()),
        Ok(true) => Err(Fault::path("replace", path, "something is mounted there or below")),
        Err(error) => Err(Fault::path("look below", path, error)),
    }
}

impl File {
    fn looker(&self, ids: Ids, outlook: Outlook, warn: bool, patient: bool) -> Result<Looker<'_>, Fault> {
        let way = match outlook {
            Outlook::Present => Way::to(&self.desired)?,
            Outlook::Fresh | Outlook::FreshAbove => Way::ahead(&self.desired),
        };
        Ok(Looker { desired: &self.desired, way, host: &self.host, ids, outlook, patient, warn })
    }

    /// Owner and group as numbers. Only a name that the account files lack is waited for.
    async fn ids(&self) -> Result<Ids, Fault> {
        let desired = &*self.desired;
        if desired.owner.is_none() && desired.group.is_none() {
            return Ok(Ids::default());
        }
        let accounts = &self.host.accounts;
        let user = desired.owner.as_deref().map(|name| accounts.uid_quickly(name)).transpose()?;
        let group = desired.group.as_deref().map(|name| accounts.gid_quickly(name)).transpose()?;
        if user != Some(None) && group != Some(None) {
            return Ok(Ids { user: user.flatten(), group: group.flatten() });
        }
        let this = self.clone();
        aside(move || {
            let accounts = &this.host.accounts;
            Ok(Ids {
                user: this.desired.owner.as_deref().map(|name| accounts.uid(name)).transpose()?,
                group: this.desired.group.as_deref().map(|name| accounts.gid(name)).transpose()?,
            })
        })
        .await?
    }

    /// What earlier repairs of a plan make of this path, or why that cannot be told.
    fn outlook(&self, promises: &Promises) -> Result<Outlook, String> {
        let (desired, unknown) = (&*self.desired, |who: &str| Err(format!("{who} would change first")));
        for source in desired.want.sources() {
            let below = if desired.is_tree() { promises.below(source) } else { None };
            if let Some((_, _, who)) = promises.of(source).or(below) {
                return unknown(who);
            }
        }
        let below = match desired.want {
            Want::Nothing { .. } => promises.below(&desired.path),
            _ => promises.below(&desired.path).filter(|(_, promise, _)| *promise == Promise::Anything),
        };
        if let Some((_, _, who)) = below {
            return unknown(who);
        }
        match promises.of(&desired.path) {
            None => Ok(Outlook::Present),
            Some((at, Promise::Directory, _)) if at == desired.parent => Ok(Outlook::Fresh),
            Some((at, Promise::Directory, _)) if at != desired.path => Ok(Outlook::FreshAbove),
            Some((_, _, who)) => unknown(who),
        }
    }
}
