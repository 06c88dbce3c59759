//! A file of which another kind manages a part: what stands is read, changed in memory, and written as a whole new
//! version, in the same way as every file.
//!
//! Promises: between the last reading and the new version lie moments, not the time from a check to its repair; two parts
//! of one file that are managed by this process are never changed at the same time. Must not know what the part is.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::fs::File as Open;
use std::hash::{Hash as _, Hasher as _};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mgmt_engine::resource::{
    self, Applied, Change, Check, Fault, Look, Promise, Purpose, Resource as _, Signal, Watch, Work,
};
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;
use tokio::sync::Mutex;

use super::attributes::kind;
use super::contents::INLINE_BYTES_MAX;
use super::desired::{Contents, Desired, Want};
use super::look::Outlook;
use super::place::Place;
use super::{Drift, File, Unsynced, mounts};
use crate::aside::aside;
use crate::host::HostRef;
use crate::kind::normal;

/// A larger file is nothing that somebody edits by lines.
const BYTES_MAX: u64 = 16 << 20;
/// Of two files that share a turn, one waits for the other; nothing else happens.
const TURNS: usize = 64;

/// Held by whoever changes a part of a file, from reading to the new version.
static TURN: [Mutex<()>; TURNS] = [const { Mutex::const_new(()) }; TURNS];

/// A part of a file, as it shall be.
pub(crate) trait Edit: PartialEq + fmt::Debug + Send + Sync + 'static {
    /// The whole file as it shall be, where it is not; `before` is `None` if there is none.
    ///
    /// # Errors
    /// It cannot be told where the part belongs.
    fn edited(&self, before: Option<&[u8]>) -> Result<Option<Edited>, Fault>;
}

/// A new version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edited {
    pub(crate) after: Vec<u8>,
    /// What is wrong, as a fragment.
    pub(crate) wrong: &'static str,
    /// What has been done then.
    pub(crate) deed: &'static str,
}

/// A file with a managed part. Its mode, owner, ACL and attributes are kept; a new one is 0644.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EditedFile<E> {
    file: File,
    edit: Arc<E>,
}

/// What is wrong with the part, and the new version of the whole.
#[derive(Debug)]
pub(crate) struct PartDrift {
    whole: Drift,
    wrong: Option<&'static str>,
}

impl fmt::Display for PartDrift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.wrong {
            Some(wrong) => f.write_str(wrong),
            None => self.whole.fmt(f),
        }
    }
}

impl resource::Drift for PartDrift {
    fn change(&self) -> Option<Change> {
        self.whole.change()
    }

    fn promises(&self) -> Vec<(PathBuf, Promise)> {
        self.whole.promises()
    }
}

/// What stands before an edit.
enum Before {
    Unknown(String),
    Is(Option<Vec<u8>>),
}

impl<E: Edit> EditedFile<E> {
    pub(crate) fn new(path: &Path, edit: E, host: HostRef) -> Self {
        let path = normal(path);
        let desired = Desired {
            parent: path.parent().unwrap_or(&path).to_path_buf(),
            slow: mounts::any_remote(std::iter::once(path.as_path())),
            path,
            beneath: None,
            want: Want::File(Contents::Unmanaged),
            create: true,
            mode: None,
            owner: None,
            group: None,
            recurse: false,
            force: false,
            purge: false,
            durable: true,
            managed: Arc::default(),
            trees: Arc::default(),
        };
        let file = File { desired: Arc::new(desired), host, unsynced: Unsynced::default() };
        Self { file, edit: Arc::new(edit) }
    }

    pub(crate) fn watch(&self, signal: &Signal) -> Result<Watch, Fault> {
        self.file.watch(signal)
    }

    pub(crate) async fn check(&self, look: &Look) -> Result<Check<PartDrift>, Fault> {
        let before = match self.before(look).await? {
            Before::Unknown(why) => return Ok(Check::Unknown(why)),
            Before::Is(before) => before,
        };
        let Some(edited) = self.edit.edited(before.as_deref())? else {
            let unsynced = look.purpose == Purpose::Converge && self.file.unsynced.0.load(Ordering::Relaxed);
            let made_up = || PartDrift { whole: Drift::unsynced(&self.file.desired), wrong: None };
            return Ok(if unsynced { Check::Drifted(made_up()) } else { Check::Converged });
        };
        Ok(match self.with(edited.after).check(look).await? {
            Check::Converged => Check::Converged,
            Check::Drifted(whole) => Check::Drifted(PartDrift { whole, wrong: Some(edited.wrong) }),
            Check::Unknown(why) => Check::Unknown(why),
            Check::Later(why) => Check::Later(why),
        })
    }

    pub(crate) async fn apply(&self, drift: PartDrift, work: &Work) -> Result<Applied, Fault> {
        let _turn = self.turn().lock().await;
        if drift.wrong.is_none() {
            return self.file.apply(drift.whole, work).await;
        }
        // What was found is a while ago: another part may have been changed since.
        let look = Look::because(work.cause);
        let Before::Is(before) = self.before(&look).await? else { return Ok(Applied::Unchanged) };
        let Some(edited) = self.edit.edited(before.as_deref())? else { return Ok(Applied::Unchanged) };
        let whole = self.with(edited.after);
        let Check::Drifted(drift) = whole.check(&look).await? else { return Ok(Applied::Unchanged) };
        Ok(match whole.apply(drift, work).await? {
            Applied::Unchanged => Applied::Unchanged,
            Applied::Changed { .. } => Applied::changed(edited.deed),
        })
    }

    /// The same file with these contents.
    fn with(&self, contents: Vec<u8>) -> File {
        let want = Want::File(Contents::Given(contents.into()));
        File { desired: Arc::new(Desired { want, ..(*self.file.desired).clone() }), ..self.file.clone() }
    }

    fn turn(&self) -> &'static Mutex<()> {
        let mut hasher = DefaultHasher::new();
        self.file.desired.path.hash(&mut hasher);
        let number = hasher.finish() % TURNS as u64;
        &TURN[usize::try_from(number).unwrap_or_default()]
    }

    async fn before(&self, look: &Look) -> Result<Before, Fault> {
        match self.file.outlook(&look.promises) {
            Err(why) => return Ok(Before::Unknown(why)),
            Ok(Outlook::Present) => {}
            Ok(Outlook::Fresh | Outlook::FreshAbove) => return Ok(Before::Is(None)),
        }
        let path = self.file.desired.path.clone();
        if !self.file.desired.slow
            && let Some(read) = read(&path, INLINE_BYTES_MAX)?
        {
            return Ok(Before::Is(read));
        }
        match aside(move || read(&path, BYTES_MAX).map(|read| (read, path))).await?? {
            (Some(read), _) => Ok(Before::Is(read)),
            (None, path) => Err(Fault::path("edit", &path, format!("it is larger than {} MiB", BYTES_MAX >> 20))),
        }
    }
}

/// What stands at a path, which may be nothing. `None`: it is larger than this.
fn read(path: &Path, most: u64) -> Result<Option<Option<Vec<u8>>>, Fault> {
    let fault = |error: Errno| Fault::path("read", path, error);
    let file = match Place::absolute(path).open(OFlags::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Some(None)),
        Err(Errno::LOOP) => {
            let why = "it is a symbolic link, which is never followed; manage what it points to";
            return Err(Fault::path("edit", path, why));
        }
        Err(error) => return Err(fault(error)),
    };
    let stat = fstat(&file).map_err(fault)?;
    if kind(&stat) != FileType::RegularFile {
        return Err(Fault::path("edit", path, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    Open::from(file).take(most + 1).read_to_end(&mut bytes).map_err(|error| Fault::path("read", path, error))?;
    Ok((bytes.len() as u64 <= most).then_some(Some(bytes)))
}
