//! What is wrong with a path, as a sentence, and the repair that would put it right.
//!
//! Must not know how the repair is carried out.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use mgmt_engine::resource::{Change, Promise};
use rustix::fs::{FileType, OFlags, Stat};
use rustix::thread::CapabilitySet;

use super::attributes::{self, Ids, bits, kind, rewritten_bits, wanted_bits};
use super::contents::INLINE_BYTES_MAX;
use super::desired::{Desired, Want};
use super::place::Way;
use super::tree::Step;

/// How many members of a tree a sentence names.
const MEMBERS_NAMED: usize = 3;

/// What is wrong, and how it would be repaired.
#[derive(Debug)]
pub(crate) struct Drift {
    pub(super) desired: Arc<Desired>,
    pub(super) ids: Ids,
    pub(super) notes: Vec<Note>,
    pub(super) repair: Repair,
    /// What stood there; `None` if nothing did.
    pub(super) standing: Option<Stat>,
    /// What is wrong below a directory.
    pub(super) steps: Vec<Step>,
}

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Note {
    Missing,
    Present,
    Contents,
    Unsynced,
    Type { is: &'static str, wanted: &'static str },
    Target { is: PathBuf, wanted: PathBuf },
    Mode { is: u32, wanted: u32 },
    Owner { is: String, wanted: String },
    Group { is: String, wanted: String },
}

/// What a repair does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repair {
    /// Writes a new version of a file, of about this length; `clear`: removes what stands there first.
    Write { clear: bool, length: u64 },
    /// Makes a symbolic link.
    Link { clear: bool },
    /// Makes a directory, and this many missing ones above it.
    Directory { clear: bool, above: usize },
    /// Sets owner and mode of what stands.
    Attributes,
    /// Nothing to the directory itself; only its members.
    Members,
    /// Removes what stands.
    Remove,
    /// Only makes durable what an earlier repair has done.
    Sync,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "missing"),
            Self::Present => write!(f, "exists, wanted absent"),
            Self::Contents => write!(f, "content differs"),
            Self::Unsynced => write!(f, "not known to be on stable storage"),
            Self::Type { is, wanted } => write!(f, "is {is}, wanted {wanted}"),
            Self::Target { is, wanted } => write!(f, "points to {}, wanted {}", is.display(), wanted.display()),
            Self::Mode { is, wanted } => write!(f, "mode is {is:04o}, wanted {wanted:04o}"),
            Self::Owner { is, wanted } => write!(f, "owner is {is}, wanted {wanted}"),
            Self::Group { is, wanted } => write!(f, "group is {is}, wanted {wanted}"),
        }
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        for note in &self.notes {
            write!(f, "{before}{note}")?;
            before = ", ";
        }
        // Of a directory that is missing, everything is; that goes without saying.
        if self.notes.contains(&Note::Missing) {
            return Ok(());
        }
        for step in self.steps.iter().take(MEMBERS_NAMED) {
            write!(f, "{before}{step}")?;
            before = ", ";
        }
        match self.steps.len().saturating_sub(MEMBERS_NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl Drift {
    /// Nothing is wrong with what stands, but it may not outlive a power loss.
    pub(super) fn unsynced(desired: &Arc<Desired>) -> Self {
        Self {
            desired: Arc::clone(desired),
            ids: Ids::default(),
            notes: vec![Note::Unsynced],
            repair: Repair::Sync,
            standing: None,
            steps: Vec::new(),
        }
    }

    /// Permission bits after the repair.
    pub(super) fn final_bits(&self) -> u32 {
        match &self.standing {
            Some(stat) if kind(stat) == self.wanted_type() => match self.repair {
                Repair::Write { .. } => rewritten_bits(&self.desired, self.ids, stat),
                _ => wanted_bits(&self.desired, self.ids, stat),
            },
            _ => self.desired.new_mode(),
        }
    }

    /// The regular file that a new version replaces.
    pub(super) fn replaces(&self) -> Option<&Stat> {
        self.standing.as_ref().filter(|stat| kind(stat) == FileType::RegularFile)
    }

    /// Whether what lies below the path becomes reachable, or no longer is, in a way that only doing it can tell: a file
    /// where a directory or nothing stood, a link that may lead anywhere, a directory that is closed to us.
    fn opens_or_closes(&self) -> bool {
        match self.repair {
            Repair::Link { .. } => true,
            Repair::Write { .. } => self.replaces().is_none(),
            Repair::Directory { .. } | Repair::Attributes => self.closes(),
            Repair::Members | Repair::Remove | Repair::Sync => false,
        }
    }

    /// Whether it is a directory that the repair closes to us, in part or wholly.
    pub(super) fn closes(&self) -> bool {
        matches!(self.desired.want, Want::Directory(_))
            && self.final_bits() & 0o700 != 0o700
            && !attributes::may(CapabilitySet::DAC_OVERRIDE)
    }

    fn wanted_type(&self) -> FileType {
        match self.desired.want {
            Want::Directory(_) => FileType::Directory,
            Want::Link(_) => FileType::Symlink,
            _ => FileType::RegularFile,
        }
    }

    /// The contents that stand, if they are not too large to be shown.
    fn before(&self) -> Option<Vec<u8>> {
        let size = u64::try_from(self.replaces()?.st_size).ok()?;
        if size > INLINE_BYTES_MAX {
            return None;
        }
        let way = Way::to(&self.desired).ok()?;
        let file: File = way.place(&self.desired).ok()?.open(OFlags::empty()).ok()?.into();
        let mut bytes = Vec::new();
        file.take(INLINE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

impl mgmt_engine::resource::Drift for Drift {
    fn change(&self) -> Option<Change> {
        let was_hidden = self.replaces().is_some_and(|stat| bits(stat) & 0o004 == 0);
        match (&self.desired.want, self.repair) {
            (Want::File(contents), Repair::Write { .. }) => {
                let stream = contents.stream().ok()?;
                let after = stream.map_or_else(|| Some(Vec::new()), |stream| stream.bytes())?;
                let before = match self.replaces() {
                    Some(_) => Some(self.before()?),
                    None => None,
                };
                Some(Change { before, after: Some(after), hidden: was_hidden || self.final_bits() & 0o004 == 0 })
            }
            (Want::Nothing { .. }, Repair::Remove) if self.replaces().is_some() => {
                Some(Change { before: Some(self.before()?), after: None, hidden: was_hidden })
            }
            _ => None,
        }
    }

    fn promises(&self) -> Vec<(PathBuf, Promise)> {
        let path = &self.desired.path;
        let promise = match self.repair {
            _ if !self.steps.is_empty() || self.opens_or_closes() => Promise::Anything,
            Repair::Write { .. } | Repair::Link { .. } | Repair::Attributes | Repair::Members | Repair::Sync => {
                Promise::File
            }
            Repair::Directory { .. } => Promise::Directory,
            Repair::Remove => Promise::Absent,
        };
        let above = match self.repair {
            Repair::Directory { above, .. } => above,
            _ => 0,
        };
        let made = path.ancestors().skip(1).take(above).map(|ancestor| (ancestor.to_path_buf(), Promise::Directory));
        std::iter::once((path.clone(), promise)).chain(made).collect()
    }
}
