//! What stands at a path, against what is wanted.
//!
//! Promises: writes nothing; finds whatever would make the repair fail, so that a plan can be believed; a file that is
//! as wanted costs one open, one `fstat` and one read, and allocates nothing.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mgmt_engine::resource::{Check, Fault};
use rustix::fs::{FileType, OFlags, Stat, fstat, readlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::thread::CapabilitySet;

use super::attributes::{self, Ids, kind};
use super::contents::{INLINE_BYTES_MAX, Stream};
use super::desired::{Contents, Desired, Want};
use super::drift::{Drift, Note, Repair};
use super::never::{self, Never, Relation};
use super::place::{self, Place, Way};
use super::remove::{self, holds_mount};
use super::tree::Comparison;
use crate::host::Host;

/// Why a look did not end.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It found that a repair would fail, or could not look.
    Fault(Fault),
    /// It would take too long for a worker thread.
    Slow,
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What a plan knows of a path before it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlook {
    /// What stands will still stand.
    Present,
    /// The directory will have been made anew: nothing will stand there.
    Fresh,
    /// Not even the directory will stand there, but one above it will have been made anew.
    FreshAbove,
}

/// One look.
pub(super) struct Looker<'a> {
    pub(super) desired: &'a Arc<Desired>,
    pub(super) way: Way,
    pub(super) host: &'a Host,
    pub(super) ids: Ids,
    pub(super) outlook: Outlook,
    /// It runs where it may take its time.
    pub(super) patient: bool,
    /// Say what cannot be copied.
    pub(super) warn: bool,
}

type Looked = Result<Check<Drift>, Trouble>;

/// What stands, with the file or why it could not be opened.
type Opened = (Stat, Result<File, Errno>);

impl Looker<'_> {
    pub(super) fn look(&self) -> Looked {
        match &self.desired.want {
            Want::Nothing { directory } => self.nothing(*directory),
            Want::File(contents) => self.file(contents),
            Want::Directory(source) => self.directory(source.as_deref()),
            Want::Link(target) => self.link(target),
        }
    }

    fn path(&self) -> &Path {
        &self.desired.path
    }

    /// What stands is looked at and opened here.
    fn place(&self) -> Result<Place<'_>, Fault> {
        self.way.place(self.desired)
    }

    fn drifted(&self, notes: Vec<Note>, repair: Repair, standing: Option<Stat>) -> Looked {
        self.unprotected()?;
        let desired = Arc::clone(self.desired);
        Ok(Check::Drifted(Drift { desired, ids: self.ids, notes, repair, standing, steps: Vec::new() }))
    }

    fn slow(&self, length: u64) -> Result<(), Trouble> {
        if length > INLINE_BYTES_MAX && !self.patient { Err(Trouble::Slow) } else { Ok(()) }
    }

    fn standing(&self) -> Result<Option<Stat>, Fault> {
        if self.outlook != Outlook::Present {
            return Ok(None);
        }
        match self.way.entry(self.desired).and_then(Place::stat) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(Fault::path("look at", self.path(), error)),
        }
    }

    /// What stands, opened if it is a regular file that can be.
    fn opened(&self) -> Result<Option<Opened>, Fault> {
        if self.outlook != Outlook::Present {
            return Ok(None);
        }
        match self.way.entry(self.desired).and_then(|place| place.open(OFlags::empty())) {
            Ok(fd) => {
                let stat = fstat(&fd).map_err(|error| Fault::path("look at", self.path(), error))?;
                Ok(Some((stat, Ok(fd.into()))))
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            // A link, a socket, a file that may not be read: its type is known without opening it.
            Err(error) => Ok(self.standing()?.map(|stat| (stat, Err(error)))),
        }
    }

    fn file(&self, contents: &Contents) -> Looked {
        let standing = match contents {
            // It is not read, so it does not matter why it is not open.
            Contents::Unmanaged => self.standing()?.map(|stat| (stat, Err(Errno::BADF))),
            _ => self.opened()?,
        };
        let Some((stat, file)) = standing else { return self.missing_file() };
        let managed = *contents != Contents::Unmanaged;
        match kind(&stat) {
            FileType::RegularFile => {}
            FileType::Symlink if !managed => {
                let why = "it is a symbolic link, which is never followed; manage what it points to";
                return Err(Fault::path("manage", self.path(), why).into());
            }
            // Nothing says what it shall be: only its attributes are managed.
            _ if !managed && !self.desired.create => return self.attributes(stat, Vec::new()),
            _ => return self.wrong_type(&stat, "a file", |clear| Repair::Write { clear, length: 0 }),
        }
        let (mut notes, mut length) = (Vec::new(), 0);
        if let Some(stream) = contents.stream()? {
            let file = file.map_err(|error| Fault::path("read", self.path(), error))?;
            length = stream.length();
            if !self.has(&file, &stat, &stream)? {
                stream.readable()?;
                notes.push(Note::Contents);
            }
        }
        let renewed = managed && attributes::is_shared(self.desired.beneath.is_some(), &stat);
        if notes.is_empty() && !renewed {
            return self.attributes(stat, notes);
        }
        attributes::notes(self.desired, self.ids, &stat, &self.host.accounts, &mut notes);
        if notes.is_empty() {
            return Ok(Check::Converged);
        }
        self.replaceable(&stat)?;
        // The new version is a new file of ours, and gets the old one's owner where that is not managed.
        attributes::may_own(self.path(), self.ids.or(&stat), None)?;
        self.drifted(notes, Repair::Write { clear: false, length }, Some(stat))
    }

    fn has(&self, file: &File, stat: &Stat, stream: &Stream<'_>) -> Result<bool, Trouble> {
        if let Stream::Made(maker) = stream {
            return maker.holds(file, self.path(), self.patient)?.ok_or(Trouble::Slow);
        }
        self.slow(stream.length())?;
        Ok(u64::try_from(stat.st_size) == Ok(stream.length()) && stream.equals(file, self.path())?)
    }

    fn missing_file(&self) -> Looked {
        if !self.desired.create {
            return Ok(Check::Converged);
        }
        self.parent()?;
        let length = self.obtainable()?;
        attributes::may_own(self.path(), self.ids, None)?;
        self.drifted(vec![Note::Missing], Repair::Write { clear: false, length }, None)
    }

    /// Something stands, and only its attributes can be wrong.
    fn attributes(&self, stat: Stat, mut notes: Vec<Note>) -> Looked {
        attributes::notes(self.desired, self.ids, &stat, &self.host.accounts, &mut notes);
        if notes.is_empty() {
            return Ok(Check::Converged);
        }
        attributes::may_repair(self.place()?, self.ids, &stat)?;
        self.drifted(notes, Repair::Attributes, Some(stat))
    }

    fn link(&self, target: &Path) -> Looked {
        let Some(stat) = self.standing()? else {
            if !self.desired.create {
                return Ok(Check::Converged);
            }
            self.parent()?;
            attributes::may_own(self.path(), self.ids, None)?;
            return self.drifted(vec![Note::Missing], Repair::Link { clear: false }, None);
        };
        if kind(&stat) != FileType::Symlink {
            return self.wrong_type(&stat, "a symbolic link", |clear| Repair::Link { clear });
        }
        let place = self.place()?;
        let text =
            readlinkat(place.at, place.name, Vec::new()).map_err(|error| Fault::path("read", self.path(), error))?;
        let is = PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(text.to_bytes()));
        if is == target {
            return self.attributes(stat, Vec::new());
        }
        self.replaceable(&stat)?;
        attributes::may_own(self.path(), self.ids, None)?;
        self.drifted(vec![Note::Target { is, wanted: target.to_path_buf() }], Repair::Link { clear: false }, Some(stat))
    }

    fn directory(&self, source: Option<&Path>) -> Looked {
        let tree = self.desired.is_tree();
        if tree && !self.patient {
            return Err(Trouble::Slow);
        }
        let check = match self.standing()? {
            None if !self.desired.create => return Ok(Check::Converged),
            None => {
                let above = self.parents()?;
                attributes::may_own(self.path(), self.ids, None)?;
                self.drifted(vec![Note::Missing], Repair::Directory { clear: false, above }, None)?
            }
            Some(stat) if kind(&stat) == FileType::Directory => self.attributes(stat, Vec::new())?,
            Some(stat) => self.wrong_type(&stat, "a directory", |_| Repair::Directory { clear: true, above: 0 })?,
        };
        if tree { self.members(check, source) } else { Ok(check) }
    }

    /// Adds what is wrong below a directory.
    fn members(&self, check: Check<Drift>, source: Option<&Path>) -> Looked {
        if let Check::Drifted(drift) = &check
            && drift.closes()
        {
            let why = format!("mode {:04o} would keep us out of it", drift.final_bits());
            return Err(Fault::path("manage the members of", self.path(), why).into());
        }
        let making = matches!(&check, Check::Drifted(Drift { repair: Repair::Directory { .. }, .. }));
        let standing = match making {
            true => None,
            false => Some(self.place()?.open_directory().map_err(|error| Fault::path("read", self.path(), error))?),
        };
        let never = Never::of(&self.host.protected);
        let mut comparison = Comparison {
            root: self.path(),
            resolved: Way::resolved(self.desired),
            confined: self.desired.beneath.is_some(),
            source,
            ids: self.ids,
            force: self.desired.force,
            purge: self.desired.purge,
            managed: &self.desired.managed,
            trees: &self.desired.trees,
            never: &never,
            warn: self.warn,
            steps: Vec::new(),
        };
        comparison.compare(standing.as_ref())?;
        let steps = comparison.steps;
        if steps.is_empty() {
            return Ok(check);
        }
        Ok(match check {
            Check::Drifted(drift) => Check::Drifted(Drift { steps, ..drift }),
            _ => {
                self.unprotected()?;
                let (desired, standing) = (Arc::clone(self.desired), self.standing()?);
                let (notes, repair) = (Vec::new(), Repair::Members);
                Check::Drifted(Drift { desired, ids: self.ids, notes, repair, standing, steps })
            }
        })
    }

    fn nothing(&self, directory: bool) -> Looked {
        let Some(stat) = self.standing()? else { return Ok(Check::Converged) };
        let path = self.path();
        let is_directory = kind(&stat) == FileType::Directory;
        if is_directory != directory && !self.desired.force {
            let why = match is_directory {
                true => "it is a directory: end path with a slash, or set force",
                false => {
                    "it is not a directory, as path says with its slash at the end; set force to remove it all the same"
                }
            };
            return Err(Fault::path("remove", path, why).into());
        }
        self.removable()?;
        if is_directory {
            self.removable_directory()?;
        }
        self.replaceable(&stat)?;
        self.drifted(vec![Note::Present], Repair::Remove, Some(stat))
    }

    fn removable_directory(&self) -> Result<(), Trouble> {
        let path = self.path();
        let fault = |error| Fault::path("read", path, error);
        let directory = self.place()?.open_directory().map_err(fault)?;
        if remove::names(&directory).map_err(fault)?.is_empty() {
            return Ok(());
        }
        if !(self.desired.recurse && self.desired.force) {
            return Err(Fault::path("remove", path, "it is not empty; that takes recurse and force").into());
        }
        self.clear_of_mounts()
    }

    /// A whole subtree would go: nothing may be mounted in it.
    fn clear_of_mounts(&self) -> Result<(), Trouble> {
        if !self.patient {
            return Err(Trouble::Slow);
        }
        // From its directory on: a lookup that must stay beneath refuses an absolute path.
        let parent = self.way.directory(self.desired);
        let parent = parent.map_err(|error| Fault::path("open", &self.desired.parent, error))?;
        match holds_mount(&parent, &self.desired.name(), 0) {
            Ok(false) => Ok(()),
            Ok(true) => Err(Fault::path("remove", self.path(), "something is mounted there or below").into()),
            Err(error) => Err(Fault::path("look below", self.path(), error).into()),
        }
    }

    /// Something of another type stands there. Links and files replace each other; the rest takes `force`.
    fn wrong_type(&self, stat: &Stat, wanted: &'static str, repair: fn(bool) -> Repair) -> Looked {
        let is = match kind(stat) {
            FileType::RegularFile => "a file",
            FileType::Directory => "a directory",
            FileType::Symlink => "a symbolic link",
            FileType::Fifo => "a pipe",
            FileType::Socket => "a socket",
            _ => "a device",
        };
        let light = matches!(kind(stat), FileType::RegularFile | FileType::Symlink) && wanted != "a directory";
        if !light && !self.desired.force {
            let slash = if kind(stat) == FileType::Directory { ", or end path with a slash" } else { "" };
            let why = format!("{is} stands where {wanted} is wanted; set force to replace it{slash}");
            return Err(Fault::path("manage", self.path(), why).into());
        }
        if !light {
            self.removable()?;
        }
        if kind(stat) == FileType::Directory {
            self.clear_of_mounts()?;
        }
        self.replaceable(stat)?;
        attributes::may_own(self.path(), self.ids, None)?;
        let repair = match repair(!light) {
            Repair::Write { clear, .. } => Repair::Write { clear, length: self.obtainable()? },
            other => other,
        };
        self.drifted(vec![Note::Type { is, wanted }], repair, Some(*stat))
    }

    /// The length of the wanted contents, if they could be had.
    fn obtainable(&self) -> Result<u64, Fault> {
        let stream = match &self.desired.want {
            Want::File(contents) => contents.stream()?,
            _ => None,
        };
        match stream {
            None => Ok(0),
            Some(stream) => stream.readable().map(|()| stream.length()),
        }
    }

    /// Whether the entry could be renamed over or removed.
    fn replaceable(&self, standing: &Stat) -> Result<(), Fault> {
        let place = self.place()?;
        attributes::changeable(place, standing)?;
        if never::is_mount(place.at, place.name.as_os_str()).unwrap_or(false) {
            return Err(Fault::path("replace", self.path(), "it is a mount point"));
        }
        let parent = self.parent()?;
        let euid = geteuid().as_raw();
        let sticky = parent.is_some_and(|parent| parent.st_mode & 0o1000 != 0 && parent.st_uid != euid);
        match sticky && standing.st_uid != euid && !attributes::may(CapabilitySet::FOWNER) {
            true => Err(Fault::path("replace", self.path(), "it belongs to another user, and its directory is sticky")),
            false => Ok(()),
        }
    }

    /// Whether entries can be made in the directory of this path.
    fn parent(&self) -> Result<Option<Stat>, Fault> {
        let parent = &self.desired.parent;
        match self.outlook {
            Outlook::Present => {}
            Outlook::Fresh => return Ok(None),
            Outlook::FreshAbove => return Err(self.orphan()),
        }
        match self.way.stat(self.desired) {
            Ok(stat) if kind(&stat) == FileType::Directory => {
                self.way.writable(self.desired)?;
                Ok(Some(stat))
            }
            Ok(_) => Err(place::no_directory(self.desired, parent)),
            Err(Errno::NOENT) => Err(self.orphan()),
            Err(error) => Err(Fault::path("create", self.path(), error)),
        }
    }

    fn orphan(&self) -> Fault {
        place::absent(self.desired, &self.desired.parent)
    }

    /// Whether what stands may be removed.
    fn removable(&self) -> Result<(), Fault> {
        Never::of(&self.host.protected).removable(self.place()?, &Way::resolved(self.desired))
    }

    /// What somebody else has named does not touch what this program lives by, even to change it.
    fn unprotected(&self) -> Result<(), Fault> {
        if self.desired.beneath.is_none() {
            return Ok(());
        }
        let never = Never::of(&self.host.protected);
        match never.relation(&Way::resolved(self.desired)) {
            Relation::Free => Ok(()),
            Relation::Above(protected) | Relation::Inside(protected) => {
                let why = format!("this program lives by {}, and another host has named the path", protected.display());
                Err(Fault::path("change", self.path(), why))
            }
        }
    }

    /// How many directories above this one are missing and would be made.
    fn parents(&self) -> Result<usize, Fault> {
        if !self.desired.recurse {
            self.parent()?;
            return Ok(0);
        }
        if self.outlook != Outlook::Present {
            return Ok(0);
        }
        place::missing_above(self.desired)
    }
}
