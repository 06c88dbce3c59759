//! Members of an archive, judged before anything of them is written: what they may be called, where links may lead, and
//! how much all of them may be together. Pure.
//!
//! Promises: the path of an admitted member is relative, holds only plain names, and is not that of our own mark; a link
//! leads to something below the same directory, whatever else the archive holds. Must not know how archives are coded.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use mgmt_engine::resource::Fault;

use super::MARK;

/// Members of one archive. A large one, a whole distribution, has a quarter of it.
pub(super) const MEMBERS_MAX: u64 = 2_000_000;
/// A path in an archive, and where a link leads.
pub(super) const PATH_BYTES_MAX: usize = 4096;
/// One name, as the kernel has it.
const NAME_BYTES_MAX: usize = 255;
/// How deep directories may be. Removing them again takes a descriptor for each.
const DEPTH_MAX: usize = 150;
/// How much of a name is shown.
const SHOWN_CHARS_MAX: usize = 200;

/// A member as an archive has it: nothing of it can be believed.
#[derive(Debug, Clone, Default)]
pub(super) struct Raw {
    pub(super) name: Vec<u8>,
    pub(super) sort: Sort,
    /// Where a link leads.
    pub(super) target: Vec<u8>,
    pub(super) mode: u32,
    /// Seconds since 1970, where the archive says.
    pub(super) modified: Option<i64>,
}

/// What a member is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    File,
    Directory,
    Symlink,
    /// Another name of a file before it.
    Hardlink,
    /// Something that is never unpacked: its name.
    Never(&'static str),
}

/// A member that may be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// Below the directory that is unpacked to; empty for that directory itself.
    pub(super) path: PathBuf,
    pub(super) what: What,
    pub(super) modified: Option<i64>,
}

/// What is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// With these permission bits.
    File(u32),
    /// With these permission bits.
    Directory(u32),
    /// With this text.
    Symlink(PathBuf),
    /// Of what was written at this path.
    Hardlink(PathBuf),
}

/// Judges members, one after the other.
#[derive(Debug)]
pub(super) struct Judge {
    /// So many names are taken from the beginning of every path.
    pub(super) strip: usize,
    /// Set-user-id and set-group-id bits are wanted.
    pub(super) setuid: bool,
    seen: u64,
}

impl Judge {
    pub(super) const fn new(strip: usize, setuid: bool) -> Self {
        Self { strip, setuid, seen: 0 }
    }

    /// What is to be written of a member; `None` if it is not, because all of its path was taken away.
    ///
    /// # Errors
    /// It must not be: with its name.
    pub(super) fn admit(&mut self, raw: &Raw) -> Result<Option<Member>, Fault> {
        self.seen += 1;
        if self.seen > MEMBERS_MAX {
            return Err(Fault::new(format!("the archive has more than {MEMBERS_MAX} members")));
        }
        self.judge(raw).map_err(|why| refused(&raw.name, &why))
    }

    fn judge(&self, raw: &Raw) -> Result<Option<Member>, String> {
        let whole = plain(&raw.name)?;
        if whole.is_empty() && raw.sort != Sort::Directory {
            return Err("it has no name".to_owned());
        }
        let Some(path) = self.stripped(&whole) else { return Ok(None) };
        // Only a directory can be the top itself.
        if path.as_os_str().is_empty() && raw.sort != Sort::Directory {
            return Ok(None);
        }
        if path == Path::new(MARK) {
            return Err("that name belongs to the mark that says what was unpacked".to_owned());
        }
        let what = match raw.sort {
            Sort::File if raw.mode & 0o6000 != 0 && !self.setuid => {
                return Err(format!("it has the mode {:04o}, and setuid is not set", raw.mode & 0o7777));
            }
            Sort::File => What::File(raw.mode & 0o6777),
            Sort::Directory => What::Directory(raw.mode & 0o777),
            Sort::Symlink => What::Symlink(inside(&path, &raw.target)?),
            Sort::Hardlink => {
                let target = self.stripped(&plain(&raw.target)?);
                let target = target.filter(|target| *target != path && !target.as_os_str().is_empty());
                What::Hardlink(target.ok_or("it is a link to nothing that is unpacked")?)
            }
            Sort::Never(what) => return Err(format!("it is {what}")),
        };
        Ok(Some(Member { path, what, modified: raw.modified }))
    }

    /// The path without its first names; `None` if they are all of it. The archive's own top stays what it is.
    fn stripped(&self, names: &[&OsStr]) -> Option<PathBuf> {
        if self.strip == 0 {
            return Some(names.iter().collect());
        }
        names
            .get(self.strip..)
            .filter(|rest| !rest.is_empty() || names.len() == self.strip)
            .map(|rest| rest.iter().collect())
    }
}

/// The names of a path that goes down only. A dot stands for nothing.
fn plain(path: &[u8]) -> Result<Vec<&OsStr>, String> {
    if path.len() > PATH_BYTES_MAX {
        return Err(format!("its path has more than {PATH_BYTES_MAX} bytes"));
    }
    if path.contains(&0) {
        return Err("its path holds a zero byte".to_owned());
    }
    if path.starts_with(b"/") {
        return Err("its path is absolute".to_owned());
    }
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
    if names.contains(&&b".."[..]) {
        return Err("its path leads out of the directory (..)".to_owned());
    }
    if names.iter().any(|name| name.len() > NAME_BYTES_MAX) {
        return Err(format!("a name in its path has more than {NAME_BYTES_MAX} bytes"));
    }
    if names.len() > DEPTH_MAX {
        return Err(format!("it lies deeper than {DEPTH_MAX} directories"));
    }
    Ok(names.into_iter().map(OsStr::from_bytes).collect())
}

/// Where a symbolic link at `path` leads, if that is below the same directory for sure: `..` may only stand at the
/// beginning, where it goes up from real directories. Further on it would go up from wherever another link has led.
fn inside(path: &Path, target: &[u8]) -> Result<PathBuf, String> {
    const OUT: &str = "it is a symbolic link that could lead out of the directory";
    if target.is_empty() || target.len() > PATH_BYTES_MAX || target.contains(&0) {
        return Err("it is a symbolic link to no path".to_owned());
    }
    if target.starts_with(b"/") {
        return Err(OUT.to_owned());
    }
    let parts: Vec<&[u8]> = target.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
    let up = parts.iter().take_while(|part| **part == b"..").count();
    let above = path.components().count().saturating_sub(1);
    if up > above || parts[up..].contains(&&b".."[..]) {
        return Err(OUT.to_owned());
    }
    Ok(OsStr::from_bytes(target).into())
}

/// A failure about one member.
pub(super) fn refused(name: &[u8], why: &dyn std::fmt::Display) -> Fault {
    Fault::new(format!("cannot unpack its member '{}': {why}", shown(name)))
}

/// A name that is safe to print.
fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut out = String::new();
    for c in text.chars().take(SHOWN_CHARS_MAX) {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(name: &str, sort: Sort, target: &str) -> Raw {
        Raw { name: name.into(), sort, target: target.into(), mode: 0o755, modified: None }
    }

    fn admitted(strip: usize, raw: &Raw) -> String {
        match Judge::new(strip, false).admit(raw) {
            Ok(None) => "skipped".to_owned(),
            Ok(Some(Member { path, what, .. })) => match what {
                What::Symlink(to) | What::Hardlink(to) => format!("{} -> {}", path.display(), to.display()),
                What::File(mode) | What::Directory(mode) => format!("{} {mode:o}", path.display()),
            },
            Err(fault) => fault.to_string().split("': ").nth(1).unwrap().to_owned(),
        }
    }

    #[test]
    fn paths_go_down_only() {
        let file = |name: &str| admitted(0, &raw(name, Sort::File, ""));
        assert_eq!(file("./a//b/./c"), "a/b/c 755");
        assert_eq!(file("..a/b.."), "..a/b.. 755");
        for wrong in ["..", "a/../b", "a/..", "./.."] {
            assert_eq!(file(wrong), "its path leads out of the directory (..)", "{wrong}");
        }
        assert_eq!(file("/etc/passwd"), "its path is absolute");
        assert_eq!(file("a\0b"), "its path holds a zero byte");
        assert_eq!(file("./"), "it has no name");
        assert_eq!(file(MARK), "that name belongs to the mark that says what was unpacked");
        assert_eq!(file(&"x/".repeat(DEPTH_MAX + 1)), "it lies deeper than 150 directories");
        assert_eq!(file(&"x".repeat(256)), "a name in its path has more than 255 bytes");
        assert_eq!(file(&"x/".repeat(PATH_BYTES_MAX)), "its path has more than 4096 bytes");
    }

    #[test]
    fn names_are_stripped_from_the_beginning() {
        let file = |strip, name: &str| admitted(strip, &raw(name, Sort::File, ""));
        assert_eq!(file(1, "tool-1.4/bin/tool"), "bin/tool 755");
        assert_eq!(file(2, "tool-1.4/readme"), "skipped");
        assert_eq!(file(3, "tool-1.4/readme"), "skipped");
        assert_eq!(admitted(1, &raw("tool-1.4/", Sort::Directory, "")), " 755");
        assert_eq!(admitted(1, &raw("t/b", Sort::Hardlink, "t/a")), "b -> a");
        assert_eq!(admitted(1, &raw("t/b", Sort::Hardlink, "a")), "it is a link to nothing that is unpacked");
    }

    #[test]
    fn links_stay_inside_whatever_other_links_there_are() {
        let link = |name: &str, target: &str| admitted(0, &raw(name, Sort::Symlink, target));
        for (name, target) in [("a", "b"), ("d/e/a", "../../b"), ("d/a", "./../x/y"), ("a", ".")] {
            assert_eq!(link(name, target), format!("{name} -> {target}"));
        }
        // `l -> d/deep` and then `l/..` is d, not the top: only what goes up first goes up from where it says.
        for (name, target) in
            [("a", "/etc"), ("a", ".."), ("d/a", "../.."), ("d/e/a", "x/../../../.."), ("d/a", "b/../c")]
        {
            assert_eq!(link(name, target), "it is a symbolic link that could lead out of the directory", "{target}");
        }
        assert_eq!(link("a", ""), "it is a symbolic link to no path");
    }

    #[test]
    fn what_could_do_harm_is_refused_by_name() {
        let file = Raw { mode: 0o104_755, ..raw("bin/su\u{1b}", Sort::File, "") };
        let fault = Judge::new(0, false).admit(&file).unwrap_err().to_string();
        let wanted = "cannot unpack its member 'bin/su\\u{1b}': it has the mode 4755, and setuid is not set";
        assert_eq!(fault, wanted);
        let asked = Judge::new(0, true).admit(&file).unwrap().unwrap();
        assert_eq!(asked.what, What::File(0o4755));
        let sticky = Raw { mode: 0o7777, ..raw("d", Sort::Directory, "") };
        assert_eq!(admitted(0, &sticky), "d 777");
        assert_eq!(admitted(0, &raw("null", Sort::Never("a device"), "")), "it is a device");
    }
}
