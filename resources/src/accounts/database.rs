//! One account file, parsed and kept until the file changes. Must not know about `getent`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use mgmt_engine::resource::Fault;

use super::{Shared, User};

/// An account file larger than this is not read: it would be somebody's mistake.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What tells two versions of a file apart.
type Version = Option<(u64, u64, u64, i64, i64)>;

/// One file and what was parsed of it.
#[derive(Debug)]
pub(super) struct Database<T> {
    path: PathBuf,
    kept: Mutex<Option<(Version, Shared<T>)>>,
}

/// Something that a file's text can be parsed into. Lines that make no sense are skipped, as every libc does.
pub(super) trait Parse: Default {
    fn take(&mut self, line: &str);
}

impl<T: Parse> Database<T> {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, kept: Mutex::new(None) }
    }

    /// The present contents; nothing if there is no such file.
    pub(super) fn read(&self) -> Result<Shared<T>, Fault> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = |error| Fault::path("read", &self.path, error);
        let version = match fs::metadata(&self.path) {
            Ok(of) => Some((of.dev(), of.ino(), of.size(), of.mtime(), of.mtime_nsec())),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(fault(error)),
        };
        if let Some((parsed_of, parsed)) = &*kept
            && *parsed_of == version
        {
            return Ok(Shared::clone(parsed));
        }
        let mut text = Vec::new();
        if version.is_some() {
            let file = fs::File::open(&self.path).map_err(fault)?;
            file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(fault)?;
        }
        let mut parsed = T::default();
        String::from_utf8_lossy(&text).lines().for_each(|line| parsed.take(line));
        // Keyed by the version seen before reading: a write in between makes the next caller read again.
        let parsed = Shared::new(parsed);
        *kept = Some((version, Shared::clone(&parsed)));
        Ok(parsed)
    }
}

/// `/etc/passwd`.
#[derive(Debug, Default)]
pub(super) struct Users {
    pub(super) by_name: BTreeMap<String, User>,
    pub(super) name_of: BTreeMap<u32, String>,
}

impl Parse for Users {
    fn take(&mut self, line: &str) {
        if let Some(user) = user(line) {
            // The first of two entries counts, as for every libc.
            self.name_of.entry(user.uid).or_insert_with(|| user.name.clone());
            self.by_name.entry(user.name.clone()).or_insert(user);
        }
    }
}

/// One group of `/etc/group`.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) gid: u32,
    pub(super) members: Vec<String>,
}

/// `/etc/group`.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) by_name: BTreeMap<String, Group>,
    pub(super) name_of: BTreeMap<u32, String>,
}

impl Parse for Groups {
    fn take(&mut self, line: &str) {
        if let Some(group) = group(line) {
            self.name_of.entry(group.gid).or_insert_with(|| group.name.clone());
            self.by_name.entry(group.name.clone()).or_insert(group);
        }
    }
}

/// `name:password:uid:gid:gecos:home:shell`, without the groups.
pub(super) fn user(line: &str) -> Option<User> {
    let mut parts = line.split(':');
    let name = parts.next().filter(|name| !name.is_empty() && !name.starts_with(['#', '+', '-']))?;
    let uid = parts.nth(1)?.parse().ok()?;
    let gid = parts.next()?.parse().ok()?;
    let home = parts.nth(1)?;
    let shell = parts.next().filter(|shell| !shell.is_empty()).unwrap_or("/bin/sh");
    Some(User { name: name.to_owned(), uid, gid, home: home.into(), shell: shell.into(), groups: Vec::new() })
}

/// `name:password:gid:member,member`.
pub(super) fn group(line: &str) -> Option<Group> {
    let mut parts = line.split(':');
    let name = parts.next().filter(|name| !name.is_empty() && !name.starts_with(['#', '+', '-']))?;
    let gid = parts.nth(1)?.parse().ok()?;
    let members = parts.next().unwrap_or_default().split(',').filter(|member| !member.is_empty());
    Some(Group { name: name.to_owned(), gid, members: members.map(str::to_owned).collect() })
}
