//! What is mounted where, by the kernel's own table, and who uses it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use mgmt_engine::resource::Fault;

use super::TABLE;
use crate::watches::unescape;

/// How many of the processes that use a mount are named.
const USERS_NAMED: usize = 5;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    pub(super) source: String,
    pub(super) fstype: String,
    /// Of the mount, and of the file system.
    pub(super) options: Vec<String>,
    /// Of the file system alone.
    pub(super) own: Vec<String>,
}

/// What is mounted at a path, if anything is: the topmost of several.
pub(super) fn at(path: &Path) -> Result<Option<Mounted>, Fault> {
    let text = fs::read(TABLE).map_err(|error| Fault::path("read", Path::new(TABLE), error))?;
    // Later mounts at the same point stand on top of earlier ones.
    let mut mounts = text.rsplit(|byte| *byte == b'\n').filter_map(parse);
    Ok(mounts.find(|(point, _)| point == path).map(|(_, mounted)| mounted))
}

/// `36 35 98:0 /root /point rw,noatime shared:1 - ext3 /dev/root rw,errors=continue`.
fn parse(line: &[u8]) -> Option<(PathBuf, Mounted)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let point = PathBuf::from(OsString::from_vec(unescape(fields.nth(4)?)));
    let text = |field: &[u8]| String::from_utf8_lossy(&unescape(field)).into_owned();
    let list = |field: &[u8]| text(field).split(',').map(str::to_owned).collect::<Vec<_>>();
    let mut options = list(fields.next()?);
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    let (fstype, source, own) = (text(rest.next()?), text(rest.next()?), list(rest.next()?));
    // A mount may be read-only while its file system is not, and the other way round: the mount's own word comes first.
    let extra: Vec<String> = own.iter().filter(|option| *option != "rw").cloned().collect();
    options.extend(extra);
    Some((point, Mounted { source, fstype, options, own }))
}

/// Some of the processes that use what lies below a path, for people. What cannot be read is left out.
pub(super) fn users(path: &Path) -> Vec<String> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let numbered = processes.flatten().map(|entry| entry.path());
    let numbered = numbered.filter(|process| {
        process.file_name().is_some_and(|name| name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
    });
    numbered.filter(|process| uses(process, path)).take(USERS_NAMED).map(|process| shown(&process)).collect()
}

fn uses(process: &Path, path: &Path) -> bool {
    let leads = |link: PathBuf| fs::read_link(link).is_ok_and(|target| target.starts_with(path));
    let open = || fs::read_dir(process.join("fd")).into_iter().flatten().flatten().any(|fd| leads(fd.path()));
    ["cwd", "root", "exe"].iter().any(|name| leads(process.join(name))) || open()
}

fn shown(process: &Path) -> String {
    let number = process.file_name().unwrap_or_default().to_string_lossy();
    let command = fs::read_to_string(process.join("comm")).unwrap_or_default();
    format!("process {number} {}", command.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_is_understood() {
        let line = br"36 35 98:0 /r /mnt/a\040b ro,noatime master:1 shared:2 - ext4 /dev/root rw,data=ordered";
        let (point, mounted) = parse(line).unwrap();
        assert_eq!(point, Path::new("/mnt/a b"));
        assert_eq!((mounted.source.as_str(), mounted.fstype.as_str()), ("/dev/root", "ext4"));
        assert_eq!(mounted.options, ["ro", "noatime", "data=ordered"]);
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"36 35 98:0 / /x rw - "), None);
    }

    #[test]
    fn what_is_mounted_here_is_found() {
        assert_eq!(at(Path::new("/proc")).unwrap().unwrap().fstype, "proc");
        assert_eq!(at(Path::new("/proc/1")).unwrap(), None);
    }
}
